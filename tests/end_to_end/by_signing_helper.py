"""The same by AWS's credential helper, which is a Go program and in no registry that the suite installs from.

Not collected with the suite. With a helper of your own:
`AWS_SIGNING_HELPER=/path/to/aws_signing_helper python -m pytest tests/end_to_end/by_signing_helper.py`
"""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from deploy.demo.cloud import ACCOUNT, REGION, client
from gateway.wire.secret import Secret
from tests.end_to_end.anywhere import Anywhere, anywhere_fixture, holder_of  # noqa: F401  # a fixture
from tests.end_to_end.world import PROFILE
from tests.foreign import Holder, ec_key, parameters, rsa_key

HELPER = os.environ["AWS_SIGNING_HELPER"]


def credential_process(
    anywhere: Anywhere, folder: Path, holder: Holder, anchor: str, *more: str, endpoint: str | None = None
) -> "subprocess.CompletedProcess[str]":
    """`aws_signing_helper credential-process`."""
    world = anywhere.world
    for name, text in (("key", holder.key_pem), ("cert", holder.pem), ("chain", holder.chain_pem)):
        (folder / name).write_bytes(text)
    arns = parameters(anchor, PROFILE, world.seeded.role_arn, region=REGION, account=ACCOUNT)
    command = [HELPER, "credential-process", "--certificate", "cert", "--private-key", "key"]
    command += ["--trust-anchor-arn", arns["trustAnchorArn"], "--profile-arn", arns["profileArn"]]
    command += ["--role-arn", arns["roleArn"], "--endpoint", endpoint or f"https://{world.site.instance}"]
    command += ["--intermediates", "chain"] if holder.chain else []
    environment = {"HOME": str(folder), "AWS_CA_BUNDLE": str(world.site.operator / "ca.pem")}
    return subprocess.run(
        [*command, *more], cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize("kind", ["instance", "RSA", "EC", "P-384 below an intermediate"])
def test_the_helper_gets_credentials_and_aws_takes_them(anywhere: Anywhere, tmp_path: Path, kind: str) -> None:
    world, anchor = anywhere.world, "plant"
    if kind == "instance":
        launched, visitor = world.enrolled()
        holder, anchor, name = holder_of(visitor), "instances", launched.id
    else:
        name = f"go-{kind.split()[0]}"
        ca = anywhere.plant.intermediate() if "below" in kind else anywhere.plant
        key: Any = rsa_key() if kind == "RSA" else ec_key()
        holder = ca.leaf(name, key)
    done = credential_process(anywhere, tmp_path, holder, anchor)
    assert done.returncode == 0, done.stderr
    given = json.loads(done.stdout)
    assert given["Version"] == 1
    keys = given["AccessKeyId"], Secret(given["SecretAccessKey"]), Secret(given["SessionToken"])
    storage = client(world.cloud.endpoint, "s3", *keys)
    found = storage.list_objects_v2(Bucket=world.seeded.bucket, Prefix=world.seeded.prefixes[0])
    assert found["KeyCount"] == 2
    world.site.cli("revoke", "instance", name)
    done = credential_process(anywhere, tmp_path, holder, anchor)
    print(kind, done.returncode, done.stderr.strip())
    assert done.returncode != 0
    assert "AccessDeniedException: The instance is revoked" in done.stderr


def test_the_helper_shows_why_it_was_refused(anywhere: Anywhere, tmp_path: Path) -> None:
    holder = anywhere.plant.leaf("go-refused")
    for more, said in (
        (("--role-session-name", "admin"), "ValidationException: roleSessionName is not accepted"),
        (("--region", "eu-central-1"), "ValidationException: ARNs and signature must be of region us-east-1"),
    ):
        done = credential_process(anywhere, tmp_path, holder, "plant", *more)
        print(done.returncode, done.stderr.strip())
        assert said in done.stderr
    done = credential_process(anywhere, tmp_path, holder, "nobodys")
    print(done.returncode, done.stderr.strip())
    assert "AccessDeniedException: The certificate is not trusted by this trust anchor" in done.stderr
