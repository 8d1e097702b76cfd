"""Instances, tickets and callers, many at once; and a second gateway on the same store."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

from certs import csr
from deploy.demo.cloud import IMAGE, REGION, RunningInstance
from deploy.demo.ec2_document import SignedDocument
from deploy.demo.machine import document_of
from deploy.demo.site import Site
from deploy.demo.visitor import Answer, Visitor, evidence_of
from gateway.adapters import clock
from gateway.wire.messages import EnrollRequest, encode
from tests.end_to_end.world import NO_LIMITS, PROFILE, Launched, World

T = TypeVar("T")


class OwnWorld(Protocol):
    """The fixture `own_world`."""

    def __call__(self, **options: Any) -> AbstractContextManager[World]: ...


def launch(world: World, count: int) -> list[Launched]:
    """RunInstances, once for all of them."""
    ec2 = world.cloud.root("ec2")
    run = ec2.run_instances(ImageId=IMAGE, InstanceType="t3.micro", MinCount=count, MaxCount=count)
    facts = [
        RunningInstance(
            account=run["OwnerId"],
            region=REGION,
            instance_id=instance["InstanceId"],
            image_id=instance["ImageId"],
            private_ip=instance["PrivateIpAddress"],
            launch_time=instance["LaunchTime"],
        )
        for instance in run["Instances"]
    ]
    return [Launched(each, document_of(each, world.authority)) for each in facts]


def order_ticket(operator: Visitor, **more: Any) -> dict[str, Any]:
    """A ticket, as the admin API gives it: `id`, `ticket` (the secret), `expires_at`. Quicker than the command line."""
    answer = operator.call("POST", "/v1/tickets", {"profile": PROFILE, **more})
    assert answer.status == 201, answer.body
    body: dict[str, Any] = answer.body
    return body


def enrollment(visitor: Visitor, document: SignedDocument, ticket: str) -> bytes:
    """The body of POST /v1/enroll, ready to be sent."""
    return encode(EnrollRequest(csr.make(visitor.key), evidence_of(document), ticket=ticket))


def wait_until(moment: datetime) -> None:
    """Return when the clock has passed `moment`."""
    while (left := (moment - clock.now()).total_seconds()) >= 0:
        time.sleep(left + 0.001)


def at_once(calls: Sequence[Callable[[], T]]) -> list[T]:
    """Run all of them, each in a thread, at the same moment."""
    barrier = threading.Barrier(len(calls))

    def run(call: Callable[[], T]) -> T:
        barrier.wait(60)
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))


def all_send(visitors: Sequence[Visitor], path: str, bodies: Sequence[bytes]) -> list[Answer]:
    """Each visitor posts its body, all at the same moment, on connections that are open."""
    for visitor in visitors:
        visitor.connect()
    pairs = zip(visitors, bodies, strict=True)
    return at_once([partial(visitor.call, "POST", path, body) for visitor, body in pairs])


@contextmanager
def second_node(world: World, folder: Path) -> Iterator[Site]:
    """Another gateway on the world's store, with addresses and audit chains of its own."""
    regional = {REGION: world.authority.certificate_pem()}
    with Site(folder, world.cloud.endpoint, regional, region=REGION, enrollment=NO_LIMITS) as site:
        ours, theirs = (f"sqlite:///{each.database}" for each in (site, world.site))
        written = site.settings.read_text()
        assert ours in written
        site.settings.write_text('node = "node-2"\n' + written.replace(ours, theirs))
        site.passphrase = world.site.passphrase
        site.start()
        yield site
