"""A gateway whose calls to AWS are counted, and the oracles that hold for whatever it refuses."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest

from deploy.demo.cloud import Cloud, Seeded
from deploy.demo.ec2_document import DocumentAuthority
from deploy.demo.visitor import Answer, Visitor
from tests.conftest import Known
from tests.end_to_end.crowd import order_ticket
from tests.end_to_end.http_door import Door
from tests.end_to_end.world import World
from tests.end_to_end.world import world as make_world


@dataclass(frozen=True, slots=True)
class Counted:
    """A world behind a counting door, its operator, and a client of it that is well."""

    world: World
    door: Door
    operator: Visitor
    healthy: Visitor

    def ticket(self, **order: Any) -> str:
        """The secret of a new ticket: sooner than the command line has it."""
        secret: str = order_ticket(self.operator, **order)["ticket"]
        return secret

    def refuses(
        self, ask: Callable[[], Answer], status: int, code: str, reason: str | None = None, *, aws: int = 0
    ) -> dict[str, Any]:
        """`ask` must be refused like this, after so many calls to AWS, and must change nothing. Returns its record.

        There must be exactly one record of it, and a client that is well must be served afterwards.
        """
        rows, calls = self.world.everything_but_the_log(), self.door.calls
        answer = ask()
        assert (answer.status, answer.code) == (status, code), answer.body
        assert answer.headers["content-type"] == "application/problem+json"
        assert self.door.calls - calls == aws
        after = self.world.everything_but_the_log()
        assert set(after.pop("nonce")) <= set(rows.pop("nonce")), "one that is over may be gone"
        assert after == rows
        (record,) = self.world.audit(answer.body["instance"])
        assert (record["kind"], record["allowed"], record["facts"]["code"]) == ("decision", False, code)
        assert record["reason"] == (reason or code)
        assert record["source"] == "127.0.0.1"
        assert self.healthy.call("GET", "/v1/grants").status == 200
        return record

    def hang_up(self) -> None:
        """Close all connections; the operator's and the healthy client's open again when they are used."""
        self.world.hang_up()
        self.operator.close()
        self.healthy.close()


_MADE = pytest.StashKey[Counted]()


@pytest.fixture(name="counted")
def counted_fixture(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    cloud: Cloud,
    seeded: Seeded,
    authority: DocumentAuthority,
    known: Known,
) -> Iterator[Counted]:
    """One gateway for all modules: to pytest, a fixture that is imported is another one in each, hence the stash."""
    session = request.session
    if _MADE not in session.stash:
        stack = ExitStack()
        session.addfinalizer(stack.close)
        door = stack.enter_context(Door(cloud.endpoint))
        folder = tmp_path_factory.mktemp("counted") / "gateway"
        world = stack.enter_context(make_world(folder, cloud, seeded, authority, endpoint=door.endpoint))
        known.add(world.site.passphrase)
        known.watch(world.site.log)
        session.stash[_MADE] = Counted(world, door, world.operator(), world.enrolled()[1])
        stack.callback(session.stash[_MADE].hang_up)
    yield session.stash[_MADE]
    session.stash[_MADE].hang_up()  # callers of one test do not stay on the line during the next
