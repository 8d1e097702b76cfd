"""The connection by itself, on a transport that only remembers: whatever arrives, and however it is cut up."""

import asyncio
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.web.server.connection import Connection
from gateway.web.server.door import Door
from gateway.web.server.service import Limits
from tests.gateway.web_server.client import Answer, answers, get
from tests.gateway.web_server.malformed import MALFORMED, PLAIN, Row
from tests.gateway.web_server.toy import Toy, listener

_JOIN = b"".join
ARRANGED = settings(max_examples=600)


class Remembering(asyncio.Transport):
    """A transport whose client takes everything at once."""

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()
        self.closed = False

    def write(self, data: Any) -> None:
        assert not self.closed, "written after the close"
        self.written += data

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.closed = True

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return False  # as a transport that lingers

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    made = asyncio.new_event_loop()
    yield made
    made.close()


def converse(loop: asyncio.AbstractEventLoop, pieces: list[bytes]) -> tuple[list[Answer], Toy, Door, bool]:
    """All answers to the pieces, what was seen, and whether the connection was closed."""
    toy = Toy()
    with socket.socket() as sock:
        door = Door(loop, listener(toy), Limits(head=512, body=1024), sock, 10)
        # A WSGI application is another story, and another thread: here the pool is always full.
        door.pool.submit = lambda call: False  # type: ignore[method-assign]  # a stand-in for this test
        connection, transport = Connection(door, ("192.0.2.1", 1)), Remembering()
        connection.connection_made(transport)
        for piece in pieces:
            connection.data_received(piece)
        connection.connection_lost(None)
        assert len(door) == 0
    final = [answer for answer in answers(bytes(transport.written)) if answer.status != 100]
    return final, toy, door, transport.closed


def check(loop: asyncio.AbstractEventLoop, pieces: list[bytes]) -> list[int]:
    """What holds for any bytes: one answer for each request, and none after a refusal."""
    final, toy, door, closed = converse(loop, pieces)
    statuses = [answer.status for answer in final]
    counters = door.counters
    assert len(final) == counters.requests + counters.refused
    assert len(toy.seen) == counters.requests - counters.overloaded
    assert counters.refused <= 1
    assert counters.failed == 0
    asks = b"".join(pieces)
    assert counters.requests <= asks.count(b"HTTP/1.")
    assert closed == (bool(final) and final[-1].headers.get("connection") == "close")
    assert all("connection" not in answer.headers for answer in final[:-1])
    return statuses


raw = st.one_of(
    st.binary(max_size=700),
    st.lists(st.sampled_from([row.raw for row in MALFORMED + PLAIN if len(row.raw) < 700]), max_size=3).map(_JOIN),
    st.lists(st.sampled_from([get("/inline"), get("/app"), get("/inline", method="POST", body=b"x" * 40)])).map(_JOIN),
)
_TOKENS = [
    b"\r\n", b"\n", b"\r", b"\r\n\r\n", b" ", b"\t", b":", b"\x00", b"%2e", b"/../", b"GET ", b"HTTP/1.1",
    b"Host: x\r\n", b"Content-Length: 4\r\n", b"Transfer-Encoding: chunked\r\n", b"0\r\n\r\n",
    b"Expect: 100-continue\r\n",
]  # fmt: skip


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """Nearly a request: tokens put in, bytes taken out or changed."""
    data = bytearray(draw(raw))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(data)))
        match draw(st.integers(0, 2)):
            case 0:
                data[at:at] = draw(st.sampled_from(_TOKENS))
            case 1:
                del data[at : at + draw(st.integers(1, 8))]
            case _:
                data[at : at + 1] = draw(st.binary(min_size=1, max_size=1))
    return bytes(data)


@pytest.mark.threat("C04", "C05", "C09")
@ARRANGED
@given(data=mutated())
def test_any_bytes_get_at_most_one_answer_a_request(loop: asyncio.AbstractEventLoop, data: bytes) -> None:
    check(loop, [data])


@pytest.mark.threat("C04")
@ARRANGED
@given(data=mutated(), cuts=st.lists(st.integers(0, 700), max_size=6))
def test_how_bytes_are_cut_up_changes_nothing(loop: asyncio.AbstractEventLoop, data: bytes, cuts: list[int]) -> None:
    ends = sorted({min(cut, len(data)) for cut in cuts})
    pieces = [data[a:b] for a, b in zip([0, *ends], [*ends, len(data)], strict=True)]
    assert check(loop, [piece for piece in pieces if piece]) == check(loop, [data] if data else [])


@pytest.mark.parametrize("row", [row for row in PLAIN if len(row.raw) < 1000], ids=lambda row: row.oddity)
def test_byte_by_byte(loop: asyncio.AbstractEventLoop, row: Row) -> None:
    expected = 503 if row.status == 404 else row.status  # 404 is the application's, whose pool is full here
    assert check(loop, [row.raw[n : n + 1] for n in range(len(row.raw))]) == [expected]


def test_many_pipelined_requests_are_answered_in_order(loop: asyncio.AbstractEventLoop) -> None:
    bodies = [b"%d" % n for n in range(200)]
    final, toy, _, closed = converse(loop, [b"".join(get("/inline", method="POST", body=body) for body in bodies)])
    assert [answer.body for answer in final] == bodies
    assert [request.body for request in toy.seen] == bodies
    assert len({request.request_id for request in toy.seen}) == len(bodies)
    assert not closed


def test_nothing_is_answered_after_the_last_answer(loop: asyncio.AbstractEventLoop) -> None:
    assert check(loop, [get("/inline", "Connection: close") + get("/inline"), get("/inline")]) == [200]
    assert check(loop, [get("/last") + get("/inline")]) == [200]
    assert check(loop, [get("/revoked") + get("/inline")]) == [403]
    assert check(loop, [get("/refuse") + get("/inline")]) == [403, 200]


def test_a_head_at_its_limit(loop: asyncio.AbstractEventLoop) -> None:
    short = get("/inline", "X: ")
    fits, too_long = (get("/inline", "X: " + "a" * (512 - len(short) + more)) for more in (0, 1))
    assert check(loop, [fits]) == [200]
    assert check(loop, [too_long]) == [431]
    assert check(loop, [too_long[:-4]]) == []
    assert check(loop, [too_long[:-1]]) == [431]
