"""Gateways for tests that are rough with one: killed, locked out of its store, told lies by its AWS, or hurried."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from deploy.demo.cloud import Cloud, Seeded
from deploy.demo.ec2_document import DocumentAuthority
from deploy.demo.site import Site
from deploy.demo.visitor import Visitor
from tests.conftest import Known
from tests.end_to_end.crowd import order_ticket
from tests.end_to_end.door import ListeningDoor
from tests.end_to_end.world import NO_LIMITS, PROFILE, Launched, World
from tests.end_to_end.world import world as make_world

SIZE = 64 + int(os.environ.get("ROUNDS", "0"))  # MiB of the disk: a long form leaves many records
BRIEF = "5s"


@dataclass(frozen=True, slots=True)
class Rough:
    """A world that listens in on what its gateway asks of AWS. Every test leaves it running and whole.

    The environment of its processes does what an environment can to lead them to `trap` instead.
    """

    world: World
    door: ListeningDoor
    trap: ListeningDoor
    operator: Visitor

    def enrolled(self, profile: str = PROFILE) -> tuple[Launched, Visitor]:
        """As `World.enrolled`, sooner."""
        launched, visitor = self.world.launch(), self.world.visitor()
        answer = visitor.enroll(launched.document, order_ticket(self.operator, profile=profile)["ticket"])
        assert answer.status == 201, answer.body
        return launched, visitor


_ROUGH, _BRIEF = pytest.StashKey[Rough](), pytest.StashKey[Rough]()


@pytest.fixture(name="rough")
def rough_fixture(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    cloud: Cloud,
    seeded: Seeded,
    authority: DocumentAuthority,
    known: Known,
) -> Iterator[Rough]:
    """One for all modules, hence the stash (see `counted`)."""
    if _ROUGH not in request.session.stash:
        folder = tmp_path_factory.mktemp("rough")
        made = request.session.stash[_ROUGH] = _make(request, folder / "gateway", cloud, seeded, authority)
        known.add(made.world.site.passphrase)
        known.watch(made.world.site.log)
    yield from _lent(request.session.stash[_ROUGH])


@pytest.fixture(name="brief")
def brief_fixture(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    cloud: Cloud,
    seeded: Seeded,
    authority: DocumentAuthority,
) -> Iterator[Rough]:
    """A gateway whose certificates live for five seconds."""
    if _BRIEF not in request.session.stash:
        folder, hurry = tmp_path_factory.mktemp("brief"), {"certificate_life": BRIEF, **NO_LIMITS}
        request.session.stash[_BRIEF] = _make(request, folder / "gateway", cloud, seeded, authority, enrollment=hurry)
    yield from _lent(request.session.stash[_BRIEF])


def _make(
    request: pytest.FixtureRequest,
    folder: Path,
    cloud: Cloud,
    seeded: Seeded,
    authority: DocumentAuthority,
    **options: Any,
) -> Rough:
    stack = ExitStack()
    request.session.addfinalizer(stack.close)
    door, trap = (stack.enter_context(ListeningDoor(cloud.endpoint)) for _ in range(2))
    told = dict.fromkeys(("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_STS", "AWS_ENDPOINT_URL_EC2"), trap.endpoint)
    told |= dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "ALL_PROXY"), trap.endpoint)
    told |= {"AWS_PROFILE": "nobody", "AWS_ACCESS_KEY_ID": "AKIAAAAAAAAAAAAAAAAA", "AWS_SECRET_ACCESS_KEY": "x"}
    told |= {"AWS_CA_BUNDLE": "/nowhere", "AWS_REGION": "mars-north-1"}
    environment = Site.environment
    disk = folder / "store"  # of its own, where that is possible: tests fill it
    disk.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}m,mode=0700", "none", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode == 0:
        stack.callback(subprocess.run, ["umount", "-l", str(disk)], check=True)
    with patch.object(Site, "environment", lambda site: environment(site) | told):
        world = stack.enter_context(make_world(folder, cloud, seeded, authority, endpoint=door.endpoint, **options))
        hostile = world.site.environment()
    world.site.environment = lambda: hostile  # type: ignore[method-assign]  # when a test starts it again
    return Rough(world, door, trap, world.operator())


def _lent(made: Rough) -> Iterator[Rough]:
    """For one test, which leaves nobody on the line."""
    yield made
    made.world.hang_up()
    made.operator.close()
