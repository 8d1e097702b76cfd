"""Chapters of the demo: a colleague with a role, an agent as a witness, and a session that AWS itself refuses."""

import time
from pathlib import Path
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from deploy.demo import revoker
from deploy.demo.cloud import client
from deploy.demo.story import demand
from gateway.wire.secret import Secret

if TYPE_CHECKING:
    from deploy.demo.__main__ import Demo

COLLEAGUE, MAY_NOT = "bob", "operator_forbidden"
WITNESS = "witness.json"


def a_colleague(demo: "Demo", fingerprint: str) -> None:
    """Somebody who may enrol and revoke machines, and may not change what they get. Raises StepFailed."""
    site, folder = demo.site, demo.site.folder
    own = ("--operator-dir", str(folder / COLLEAGUE))
    with demo.story.telling(
        f"trusted-gateway operator add {COLLEAGUE} --role operator: for a key that he made"
    ) as notes:
        request, answer = folder / f"{COLLEAGUE}.csr", folder / f"{COLLEAGUE}.json"
        request.write_text(site.cli(*own, "operator", "request", COLLEAGUE))
        added = ("--role", "operator", "--csr", str(request), "--out", str(answer))
        notes.append(site.cli("operator", "add", COLLEAGUE, *added).splitlines()[0])
        site.cli(*own, "operator", "accept", str(answer), "--ca-sha256", fingerprint)
        notes.append(f"he may make a ticket: {site.cli(*own, 'ticket', 'create', '--profile', 'web').splitlines()[1]}")
        said = site.cli(*own, "profile", "apply", str(folder.parent / "web.toml"), status=1)
        demand(MAY_NOT in said, f"he was not refused: {said}")
        notes.append(f"he may not change a profile: {said.splitlines()[0].removeprefix('error: ')}")


def a_revoker(demo: "Demo") -> None:
    """A second key, which can do nothing but deny. Raises StepFailed."""
    with demo.story.telling(
        "trusted-gateway key import --purpose revoke: a key that ends sessions, and no more"
    ) as notes:
        access_key_id, secret = revoker.make(demo.cloud.root("iam"), demo.seeded.account)
        notes.append(demo.site.import_key(access_key_id, secret, "revoker", "--purpose", "revoke").strip())


def a_witness(demo: "Demo") -> None:
    """The signed checkpoint that the agent holds, away from the gateway. Raises StepFailed."""
    with demo.story.telling("the agent is a witness of the gateway's log: it holds a signed checkpoint of it") as notes:
        begun = time.monotonic()
        while (held := demo.machine.agent("witness")).returncode:
            demand(time.monotonic() - begun < 30, f"it holds none: {held.stderr.strip()}")
            time.sleep(0.2)
        _kept(demo).write_text(held.stdout)
        notes.append(f"trusted-gateway-agent witness > {WITNESS}")


def verified_by_the_witness(demo: "Demo") -> str:
    """What `audit verify` says of the log, held against what the agent saw."""
    return demo.site.cli("audit", "verify", "--witness", str(_kept(demo))).splitlines()[-1]


class Stolen:
    """A session that somebody took off the instance: AWS honours it wherever it is used."""

    def __init__(self, demo: "Demo", grant: str) -> None:
        _, found = demo.machine.ask_loopback(grant)
        secrets = Secret(found["SecretAccessKey"]), Secret(found["Token"])
        self._s3 = client(demo.cloud.endpoint, "s3", found["AccessKeyId"], *secrets)
        self._where = {"Bucket": demo.seeded.bucket, "Prefix": demo.seeded.prefixes[0]}

    def used(self) -> str:
        """What AWS says to it: its error code, or `ok`."""
        try:
            self._s3.list_objects_v2(**self._where)
        except ClientError as error:
            return str(error.response["Error"]["Code"])
        return "ok"


def _kept(demo: "Demo") -> Path:
    return demo.folder / WITNESS
