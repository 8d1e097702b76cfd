"""No instance ever gets what is another's: under aborted requests, pipelining, races for the same session, profiles
that change and instances that are revoked meanwhile. `make stress` is the long form, a million requests.
"""

import asyncio
import json
import os
import ssl
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import uvloop

from certs import keys
from deploy.demo.cloud import Cloud, Seeded
from deploy.demo.ec2_document import DocumentAuthority
from deploy.demo.visitor import Visitor
from tests.end_to_end.crowd import enrollment, launch, order_ticket
from tests.end_to_end.door import ListeningDoor
from tests.end_to_end.mixing import Crowd, Tenant, Wanted
from tests.end_to_end.telling import TellingSts
from tests.end_to_end.world import World
from tests.end_to_end.world import world as make_world

REQUESTS = int(os.environ.get("REQUESTS", "4000"))
TENANTS, CONNECTIONS = 12, 24
SECONDS = (None, 900, 1800)
ROLES = ("reader", "writer")


class Mixed:
    """A gateway before a telling STS, tenants of two profiles that differ in little, and who applies these."""

    def __init__(self, world: World, sts: TellingSts) -> None:
        self.world, self.sts = world, sts
        self.version = 0
        self._operator = world.operator()
        self._lock = threading.Lock()
        self.apply()
        self.tenants = [self._tenant(*pair) for pair in zip(launch(world, TENANTS), _profiles(), strict=False)]

    def apply(self) -> None:
        """Apply every profile under the next version, which its sessions carry as a tag."""
        with self._lock:
            self._operator.close()  # in the long form it has been idle for too long
            for profile in ("mix-a", "mix-b"):
                answer = self._operator.call("PUT", f"/v1/profiles/{profile}", _document(profile, self.version + 1))
                assert answer.status == 200, answer.body
            self.version += 1

    def revoke(self, tenant: Tenant) -> None:
        with self._lock:
            self._operator.close()
            assert self._operator.call("POST", f"/v1/revocations/instances/{tenant.name}").status == 200

    def _tenant(self, launched: Any, profile: str) -> Tenant:
        visitor = self.world.visitor()
        ticket = order_ticket(self._operator, profile=profile)["ticket"]
        answer = visitor.call("POST", "/v1/enroll", enrollment(visitor, launched.document, ticket))
        assert answer.status == 201, answer.body
        visitor.present(answer.body["certificate"] + answer.body["issuer"], visitor.key)
        return Tenant(launched.id, _context(visitor, self.world.root), list(_orders(launched.id, profile)))


def _profiles() -> Iterator[str]:
    while True:
        yield "mix-a"
        yield "mix-b"


def _document(profile: str, version: int) -> dict[str, Any]:
    return {
        "name": profile,
        "grants": [
            {
                "name": f"grant-{i}",
                "role": f"arn:aws:iam::111122223333:role/{ROLES[i % 2]}",
                "region": ("us-east-1", "eu-west-1")[i // 2],
                "policy": _policy(profile, i, "${instance.id}"),
                "tags": {"mix-version": str(version), "grant": "${grant.name}", "profile": "${profile.name}"},
            }
            for i in range(3)
        ],
    }


def _policy(profile: str, grant: int, instance: str, action: str = "s3:*") -> str:
    statement = {"Effect": "Allow", "Action": action, "Resource": f"arn:aws:s3:::{profile}/{grant}/{instance}/*"}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]}, separators=(",", ":"))


def _orders(instance: str, profile: str) -> Iterator[Wanted]:
    narrow = {"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*"}}
    for i in range(3):
        for seconds in SECONDS:
            for narrowed in (False, True):
                order: dict[str, Any] = {"grant": f"grant-{i}"}
                order |= {"duration": seconds} if seconds else {}
                order |= {"policy": json.dumps(narrow)} if narrowed else {}
                yield Wanted(
                    json.dumps(order).encode(),
                    {
                        "RoleArn": f"arn:aws:iam::111122223333:role/{ROLES[i % 2]}",
                        "RoleSessionName": instance,
                        "SourceIdentity": instance,
                        "DurationSeconds": str(seconds or 3600),
                        "Policy": _policy(profile, i, instance, "s3:GetObject" if narrowed else "s3:*"),
                        "region": ("us-east-1", "eu-west-1")[i // 2],
                    },
                    {"gateway:instance": instance, "grant": f"grant-{i}", "profile": profile},
                )


def _context(visitor: Visitor, root: str) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=root)
    fd = os.memfd_create("tenant")
    try:
        os.write(fd, (visitor.certificate or "").encode() + keys.dump_private_pem(visitor.key))
        context.load_cert_chain(f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)
    return context


@pytest.fixture
def mixed(tmp_path: Path, cloud: Cloud, seeded: Seeded, authority: DocumentAuthority) -> Iterator[Mixed]:
    with (
        ListeningDoor(cloud.endpoint) as door,
        make_world(tmp_path / "gateway", cloud, seeded, authority, endpoint=door.endpoint) as world,
    ):
        sts = TellingSts()
        with door.answering(sts):
            yield Mixed(world, sts)


@pytest.mark.timeout(6 * 3600)
@pytest.mark.threat("D01", "D02", "F03")
def test_D02_nobody_gets_what_is_anothers(mixed: Mixed) -> None:
    crowd = Crowd(mixed.world.site.instance, mixed.tenants, REQUESTS, seed=REQUESTS, version=lambda: mixed.version)
    revoked = mixed.tenants[-1]
    begun = time.monotonic()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(uvloop.run, crowd.run(CONNECTIONS))
        for part in range(1, 5):  # the operator's work meanwhile: four new versions, and a revocation
            while crowd.tally.sent < REQUESTS * part // 5 and not running.done():
                time.sleep(0.05)
            print(f"\n{crowd.tally.sent} sent, {crowd.tally.checked} checked, wrong: {crowd.tally.wrong[:5]}", end="")
            mixed.apply()
            if part == 3:
                mixed.revoke(revoked)
                crowd.gone.add(revoked.name)
        tally = running.result()
    elapsed = time.monotonic() - begun
    print(
        f"\n{tally.sent} requests in {elapsed:.0f} s, {tally.checked} answers checked, {mixed.sts.minted} minted; "
        f"{dict(tally.kinds)}; refused: {dict(tally.refused)}"
    )
    assert tally.wrong == []
    assert tally.checked > REQUESTS // 2
    assert set(tally.refused) <= {"403 instance_revoked", "503 overloaded", "503 upstream_unavailable"}
    assert tally.refused["403 instance_revoked"], "the control: who was revoked went on asking"
    assert tally.kinds["_pipelined"]
    assert tally.kinds["_gone_unread"]
    different = sum(len(tenant.orders) for tenant in mixed.tenants) * mixed.version
    assert mixed.sts.minted <= different, "one call for each thing that was asked for, under each version"


@pytest.mark.threat("D14")
def test_D14_five_hundred_who_ask_for_the_same_in_one_second_make_one_call(mixed: Mixed) -> None:
    tenant = mixed.tenants[0]
    alone = Tenant(tenant.name, tenant.context, tenant.orders[:1])
    crowd = Crowd(mixed.world.site.instance, [alone], 500, seed=1, version=lambda: mixed.version)
    before = mixed.sts.minted
    tally = asyncio.run(crowd.run(CONNECTIONS))
    assert tally.wrong == []
    assert tally.checked
    assert mixed.sts.minted - before <= 1
