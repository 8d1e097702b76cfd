"""Upstream keys and the fence by the command line, with a gateway that is killed, against an AWS that enforces."""

import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from random import SystemRandom
from typing import Any

import pytest
from botocore.exceptions import ClientError

from deploy.demo import revoker
from deploy.demo.cloud import USER, Cloud, Seeded, client, root_client, seed
from deploy.demo.visitor import Answer
from gateway.wire.messages import CredentialsRequest
from gateway.wire.secret import Secret
from tests.conftest import Known
from tests.end_to_end.crowd import OwnWorld
from tests.end_to_end.host import kill_all
from tests.end_to_end.world import GRANT, World

KILLS = int(os.environ.get("ROTATION_KILLS", "1"))
ACCOUNTS = count(333300000001)
CHANCE = SystemRandom()


def import_revoker(world: World, account: str, known: Known) -> None:
    """A revoker with the policy of docs/keys.md, taken in by the command."""
    iam = root_client(world.cloud.endpoint, "iam", account)
    access_key_id, secret = revoker.make(iam, account)
    known.add(secret)
    arguments = ("key", "import", "revoker", "--purpose", "revoke", "--access-key-id", access_key_id)
    world.site.cli(*arguments, given=secret, unseal=True)


def is_honoured(world: World, vended: Answer) -> bool:
    """Whether AWS itself does what these credentials ask for."""
    body = vended.body
    keys = body["access_key_id"], Secret(body["secret_access_key"]), Secret(body["session_token"])
    try:
        client(world.cloud.endpoint, "s3", *keys).list_objects_v2(
            Bucket=world.seeded.bucket, Prefix=world.seeded.prefixes[0]
        )
    except ClientError as error:
        if error.response["Error"]["Code"] == "AccessDenied":
            return False
        raise
    return True


def test_what_is_revoked_by_command_is_refused_by_aws_itself(own_world: OwnWorld, known: Known) -> None:
    with own_world() as world:
        (launched, mine), (_, theirs) = world.enrolled(), world.enrolled()
        given, other = (who.call("POST", "/v1/credentials", CredentialsRequest(GRANT)) for who in (mine, theirs))
        for each in (given, other):
            known.add(each.body["secret_access_key"])
            known.add(each.body["session_token"])
        assert is_honoured(world, given), "the control"
        said = world.site.cli("revoke", "instance", launched.facts.instance_id)
        assert "a revoker key for 111122223333" in said
        assert "AWS STILL HONOURS 1 session(s)" in said
        assert is_honoured(world, given), "which is what it says"
        import_revoker(world, world.seeded.account, known)
        found = world.site.cli("revoke", "instance", launched.facts.instance_id, "--json")
        (aws,) = [each for each in json.loads(found)["layers"] if each["layer"] == "aws"]
        assert aws["state"] == "done"
        assert not is_honoured(world, given)
        assert is_honoured(world, other)


@pytest.fixture
def elsewhere(cloud: Cloud, known: Known) -> Seeded:
    """An account of its own: what is done to its key concerns nobody else."""
    account = str(next(ACCOUNTS))
    made = seed(cloud.endpoint, account, f"data-{account}")
    known.add(made.secret)
    return made


@pytest.mark.timeout(180 + 240 * KILLS)
def test_a_rotation_goes_on_after_kill_9_at_any_moment(own_world: OwnWorld, elsewhere: Seeded, known: Known) -> None:
    with own_world(seeded=elsewhere) as world, ThreadPoolExecutor(1) as pool:
        import_revoker(world, elsewhere.account, known)
        iam = root_client(world.cloud.endpoint, "iam", elsewhere.account)
        for _ in range(KILLS):
            before = key(world)["access_key_id"]
            rotating = pool.submit(world.site.run, "key", "rotate", "main", "--json")
            time.sleep(CHANCE.uniform(0.3, 2))  # a random moment: the command starts, asks, and AWS is asked
            kill_all(world.site)
            rotating.result()
            world.site.start()
            if key(world)["access_key_id"] == before and key(world)["rotation"] is None:
                world.site.cli("key", "rotate", "main", "--json")  # it was killed before anything was decided
            deadline = time.monotonic() + 200  # whoever was killed may have it in hand, for two minutes
            while key(world)["rotation"] is not None:
                assert time.monotonic() < deadline, key(world)
                time.sleep(0.5)
            (left,) = iam.list_access_keys(UserName=USER)["AccessKeyMetadata"]
            assert left["AccessKeyId"] == key(world)["access_key_id"] != before


def test_a_disabled_key_is_told_by_the_command(own_world: OwnWorld, elsewhere: Seeded, known: Known) -> None:
    with own_world(seeded=elsewhere) as world:
        import_revoker(world, elsewhere.account, known)
        iam = root_client(world.cloud.endpoint, "iam", elsewhere.account)
        assert key(world, "revoker")["purpose"] == "revoke"
        refused = world.site.run("key", "disable", "main")
        assert (refused.returncode, "confirmation_required" in refused.stderr) == (1, True)
        planned = world.site.cli("key", "disable", "main", "--dry-run")
        assert "would cut key main" in planned
        assert key(world)["state"] == "active"
        said = world.site.cli("key", "disable", "main", "--yes")
        assert f"{elsewhere.access_key_id} is deactivated" in said
        assert f"account {elsewhere.account} denies its sessions" in said
        assert key(world)["state"] == "disabled"
        (left,) = iam.list_access_keys(UserName=USER)["AccessKeyMetadata"]
        assert left["Status"] == "Inactive"


def key(world: World, name: str = "main") -> dict[str, Any]:
    (found,) = [each for each in json.loads(world.site.cli("key", "list", "--json")) if each["name"] == name]
    return dict(found)
