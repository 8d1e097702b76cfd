"""The long poll: woken by a revocation, also when the store is away at that moment; 204 when nothing happens."""

import asyncio
from collections.abc import Iterator
from typing import cast

import pytest

from gateway.core.errors import Refusal
from gateway.core.identity import Identity
from gateway.flows.identify import Identify
from gateway.flows.journal import Journal
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

    def instance(self, *_: object) -> Identity:
        if self.revoked:
            raise Refusal("instance_revoked")
        return Identity(INSTANCE, CERTIFICATE)

    def revoked_lately(self) -> frozenset[str]:
        self.asked += 1
        if self.away:
            self.away -= 1
            raise Refusal("store_unavailable")
        return frozenset({ID}) if self.revoked else frozenset()

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
    made = Watch(Journal(gateway.store), cast(Identify, world), cast(Revoke, world))
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
