"""The long poll: woken by a revocation, also when the store is away at that moment; 204 when nothing happens."""

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import cast

import pytest

from gateway.core.errors import Refusal
from gateway.core.identity import Identity
from gateway.flows.identify import Identify
from gateway.flows.journal import Call, Journal
from gateway.flows.revocation_layers import Telling
from gateway.flows.revoke import Revoke
from gateway.web import watch
from gateway.web.server.service import Peer, Request, Response
from gateway.web.watch import Watch
from tests.gateway.core.rows import CERTIFICATE, ID, INSTANCE
from tests.gateway.flows.conftest import Gateway

REQUEST = Request("GET", b"/v1/watch", "/v1/watch", b"", (), b"", Peer("127.0.0.1", 1, b"der"), "instance", "id")


class World:
    """The store's side of it: who is revoked, how often the store is away, and whether it has moved."""

    def __init__(self) -> None:
        self.revoked, self.away, self.moves = False, 0, False
        self.asked = 0
        self.drop: list[str] = []
        self.heard: list[tuple[str, tuple[str, ...] | None]] = []

    def instance(self, call: Call, _: object) -> Identity:
        call.subject = ID
        if self.revoked:
            raise Refusal("instance_revoked")
        return Identity(INSTANCE, CERTIFICATE)

    def told_lately(self) -> frozenset[str]:
        self.asked += 1
        if self.away:
            self.away -= 1
            raise Refusal("store_unavailable")
        return frozenset({ID}) if self.revoked or self.drop else frozenset()

    def to_drop(self, instance: str) -> tuple[str, ...]:
        return tuple(self.drop)

    def told(self, instance: str, drop: tuple[str, ...]) -> None:
        self.heard.append((instance, drop))

    def told_revoked(self, instance: str) -> None:
        self.heard.append((instance, None))

    def moved(self) -> bool:
        moves, self.moves = self.moves, False
        return moves

    def revoke(self) -> None:
        self.revoked = self.moves = True


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def watching(gateway: Gateway, world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watch]:
    monkeypatch.setattr(watch, "POLL", 0.01)
    made = Watch(Journal(gateway.store), cast(Identify, world), cast(Revoke, world), cast(Telling, world))
    made.start(world.moved)
    yield made
    made.stop()


async def told(watching: Watch, world: World, seconds: float = 5) -> Response:
    """Wait, be revoked, and hear of it."""
    answer = asyncio.ensure_future(watching.answer(REQUEST))
    await asyncio.sleep(0.1)
    assert not answer.done()
    world.revoke()
    return await asyncio.wait_for(answer, seconds)


@pytest.mark.threat("B05")
@pytest.mark.parametrize("away", [0, 3])
def test_B05_who_waits_hears_of_its_revocation_at_once(watching: Watch, world: World, away: int) -> None:
    world.away = away
    with pytest.raises(Refusal, match="The instance is revoked"):
        asyncio.run(told(watching, world))
    assert world.asked == away + 1, "it moves once, and is asked until it answers"
    assert set(world.heard) == {(ID, None)}, "and that is noted"


def test_who_is_not_meant_waits_to_the_end(watching: Watch, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "WAIT", 0.3)

    async def wait() -> Response:
        answer = asyncio.ensure_future(watching.answer(REQUEST))
        await asyncio.sleep(0.1)
        world.moves = True
        return await answer

    assert asyncio.run(wait()).status == 204
    assert world.asked == 1
    assert watching._waiting == {}


def test_nobody_waits_nobody_is_asked_about(watching: Watch, world: World) -> None:
    world.revoke()

    async def later() -> None:
        await asyncio.sleep(0.1)
        with pytest.raises(Refusal):
            await watching.answer(REQUEST)

    asyncio.run(later())
    assert world.asked == 0


# Leases


def asking(query: str) -> Request:
    return replace(REQUEST, query=query.encode())


@pytest.mark.threat("H01")
def test_H01_who_waits_hears_which_leases_to_drop_and_not_twice(watching: Watch, world: World) -> None:
    async def hear() -> tuple[Response, Response]:
        answer = asyncio.ensure_future(watching.answer(asking("after=")))
        await asyncio.sleep(0.1)
        assert not answer.done()
        world.drop, world.moves = ["l1", "l2"], True
        first = await asyncio.wait_for(answer, 5)
        told = json.loads(first.body)
        again = asyncio.ensure_future(watching.answer(asking(f"after={told['after']}")))
        await asyncio.sleep(0.1)
        world.moves = True
        await asyncio.sleep(0.1)
        assert not again.done(), "it is woken, finds nothing new, and waits on"
        world.drop, world.moves = ["l1", "l2", "l3"], True
        return first, await asyncio.wait_for(again, 5)

    first, second = asyncio.run(hear())
    assert (first.status, json.loads(first.body)["drop"]) == (200, ["l1", "l2"])
    assert json.loads(second.body)["drop"] == ["l1", "l2", "l3"]
    assert world.heard == [(ID, ("l1", "l2")), (ID, ("l1", "l2", "l3"))], "noted is what was said"
    assert watching._waiting == {}


def test_what_was_revoked_before_it_asked_is_told_at_once(watching: Watch, world: World) -> None:
    world.drop = ["l1"]
    assert json.loads(asyncio.run(watching.answer(asking("after="))).body)["drop"] == ["l1"]


def test_an_agent_that_knows_nothing_of_leases_is_not_bothered(
    watching: Watch, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "WAIT", 0.2)
    world.drop = ["l1"]
    assert asyncio.run(watching.answer(REQUEST)).status == 204
    assert world.heard == [], "nor does the receipt say that it was told"


@pytest.mark.parametrize("query", ["after", "after=X", "odd=1", "after=1&after=2", "after=" + "0" * 17])
def test_another_query_is_refused(watching: Watch, query: str) -> None:
    with pytest.raises(Refusal) as refused:
        asyncio.run(watching.answer(asking(query)))
    assert refused.value.code == "malformed_request"
