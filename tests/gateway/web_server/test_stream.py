"""Routes that take a body in pieces and answer in pieces, and the rest of the server beside them."""

import asyncio
import contextlib
import logging
import socket
import threading
from collections.abc import Iterator
from datetime import timedelta

import pytest

from gateway.core.errors import Refusal
from gateway.web.server.head import HeadReader, read_head
from gateway.web.server.service import Limits, Response, StreamHandler
from gateway.web.server.stream import Stream
from tests.gateway.web_server.client import LAST, answers, connected, get, read_all, read_one, send, until
from tests.gateway.web_server.serving import Serving, serving
from tests.gateway.web_server.toy import CANARY, Toy, listener

QUICK = Limits(
    stream_idle=timedelta(seconds=0.4),
    closing=timedelta(seconds=0.1),
    settle=timedelta(seconds=0.1),
    stream_body=1_000_000,
)
CHUNKED = "Transfer-Encoding: chunked"
HELLO = b"5\r\nhello\r\n0\r\n\r\n"


async def echo(stream: Stream) -> None:
    """Gives the body back, piece by piece, once the first is there."""
    first = await stream.read()
    await stream.respond(Response(200, media_type="text/plain"), stream.length, first)
    while piece := await stream.read():
        await stream.write(piece)


async def count(stream: Stream) -> None:
    """How many bytes there are."""
    size = 0
    while piece := await stream.read():
        size += len(piece)
    body = str(size).encode()
    await stream.respond(Response(200), len(body), body)


async def ignore(stream: Stream) -> None:
    await stream.respond(Response(200), 2, b"ok")


async def refuse(stream: Stream) -> None:
    raise Refusal("call_denied")


async def fail(stream: Stream) -> None:
    raise ValueError(CANARY)


async def silent(stream: Stream) -> None:
    pass


async def too_short(stream: Stream) -> None:
    await stream.respond(Response(200), 10, b"ok")


async def too_long(stream: Stream) -> None:
    await stream.respond(Response(200), 1, b"ok")


async def fail_late(stream: Stream) -> None:
    await stream.respond(Response(200), None, b"ok")
    raise ValueError(CANARY)


async def bad_header(stream: Stream) -> None:
    await stream.respond(Response(200, headers=(("X", "a\r\nSet-Cookie: b"),)), 0)


async def endless(stream: Stream) -> None:
    await stream.respond(Response(200), None)
    while True:
        await stream.write(bytes(65_536))


async def threaded(stream: Stream) -> None:
    name = await stream.in_thread(lambda: threading.current_thread().name)
    with contextlib.suppress(RuntimeError):
        await stream.in_thread(_exits)
    await stream.respond(Response(200), len(name), name.encode())


def _exits() -> None:
    raise SystemExit(CANARY)


HANDLERS: dict[str, StreamHandler] = {
    f"/s/{each.__name__}": each
    for each in (
        echo, count, ignore, refuse, fail, silent, too_short, too_long, fail_late, bad_header, endless, threaded,
    )
}  # fmt: skip


@contextlib.contextmanager
def streaming(limits: Limits = QUICK) -> Iterator[Serving]:
    with serving(listener(Toy(), streams=HANDLERS), limits=limits) as running:
        yield running


@pytest.fixture
def running() -> Iterator[Serving]:
    with streaming() as found:
        yield found


def post(name: str, *headers: str, body: bytes | None = None) -> bytes:
    return get(f"/s/{name}", *headers, method="POST", body=body)


def test_one_connection_serves_streams_and_all_the_rest(running: Serving) -> None:
    asks = [
        post("echo", body=b"hello"), get("/inline"), post("count", CHUNKED) + HELLO, get("/app"),
        post("count", body=b""), post("count"), post("threaded"), post("refuse"), post("echo", LAST, body=b"bye"),
    ]  # fmt: skip
    found = send(running.address, b"".join(asks))
    assert [each.body for each in found[:-2]] == [b"hello", b"hello", b"5", b"app", b"0", b"0", b"toy-1"]
    assert [each.status for each in found] == [200] * 7 + [403, 200]
    assert found[-1].body == b"bye"
    counters = running.counters
    assert (counters.streams, counters.streamed_in, counters.streamed_out) == (7, 13, 5 + 1 + 1 + 1 + 5 + 3)
    until(lambda: not running.connections())


@pytest.mark.parametrize("cut", range(0, 110, 7))
def test_however_it_arrives(running: Serving, cut: int) -> None:
    data = post("count", CHUNKED, LAST) + HELLO
    with connected(running.address) as sock:
        sock.sendall(data[:cut])
        until(lambda: running.connections())
        sock.sendall(data[cut:])
        (answer,) = answers(read_all(sock))
    assert answer.body == b"5"


def test_what_has_no_length_leaves_in_chunks(running: Serving) -> None:
    with connected(running.address) as sock:
        sock.sendall(post("echo", CHUNKED, LAST) + HELLO)
        raw = read_all(sock)
    assert raw.endswith(b"\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
    assert b"Transfer-Encoding: chunked" in raw
    assert b"Content-Length" not in raw


# What a head may be


@pytest.mark.threat("C04", "C05")
@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (post("echo", CHUNKED, "Content-Length: 5") + HELLO, (400, 501)),
        (post("echo", CHUNKED, CHUNKED) + HELLO, (400, 501)),
        (post("echo", "Transfer-Encoding: gzip, chunked") + HELLO, (501,)),
        (post("echo", "Transfer-Encoding: Chunked") + HELLO, (501,)),
        (post("echo", "Transfer-Encoding: identity") + HELLO, (400, 501)),
        (post("echo", "Transfer-Encoding:\x0bchunked") + HELLO, (400, 501)),
        (post("echo", CHUNKED).replace(b"HTTP/1.1", b"HTTP/1.0") + HELLO, (400, 501)),
        (get("/s/echo", CHUNKED) + HELLO, (400, 501)),
        (get("/s/echo", CHUNKED, method="PUT") + HELLO, (501,)),
        (get("/inline", CHUNKED, method="POST") + HELLO, (501,)),
        (get("/s/echo/", CHUNKED, method="POST") + HELLO, (501,)),
        (post("echo", "Content-Length: 1000001"), (413,)),
        (post("echo", "Content-Encoding: gzip", body=b"x"), (415,)),
        (post("echo", CHUNKED) + b"5;a=b\r\nhello\r\n0\r\n\r\n", (400,)),
        (post("echo", CHUNKED) + b"0\r\nX: y\r\n\r\n", (400,)),
        (post("count", CHUNKED) + b"5\r\nhello\r\nfffff\r\n", (400,)),
    ],
)
def test_what_is_not_plain_is_refused_and_nothing_behind_it_is_answered(
    running: Serving, raw: bytes, status: tuple[int, ...]
) -> None:
    (answer,) = send(running.address, raw + get("/inline"))
    assert answer.status in status
    assert answer.headers["connection"] == "close"


def test_a_head_is_longer_only_where_it_streams(running: Serving) -> None:
    long = "X-Long: " + "a" * 24_000
    assert [each.status for each in send(running.address, post("count", long, LAST))] == [200]
    for raw in (get("/inline", long), get("/s/count", long), post("count", long, "X: " + "a" * 9000)):
        assert [each.status for each in send(running.address, raw)] == [431]


def test_heads_of_streams_are_not_remembered() -> None:
    reader = HeadReader(Limits(), None, ("/s",))
    raw = get("/s", method="POST")
    assert reader.read(raw) is not reader.read(raw)
    assert reader.read(raw).streams
    assert not read_head(raw).streams
    assert not reader.read(get("/s")).streams


# 100 Continue


@pytest.mark.threat("C16")
def test_a_body_is_asked_for_when_it_is_read(running: Serving) -> None:
    with connected(running.address) as sock:
        sock.sendall(post("refuse", "Expect: 100-continue", "Content-Length: 9"))
        assert read_one(sock).status == 403
    with connected(running.address) as sock:
        sock.sendall(post("count", "Expect: 100-continue", "Content-Length: 5", LAST))
        assert sock.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        sock.sendall(b"hello")
        assert answers(read_all(sock))[0].body == b"5"
    with connected(running.address) as sock:  # who does not wait is not asked
        sock.sendall(post("count", "Expect: 100-continue", LAST, body=b"hello"))
        assert [each.status for each in answers(read_all(sock))] == [200]


@pytest.mark.parametrize("name", ["ignore", "refuse", "fail"])
def test_behind_a_body_that_nobody_read_nothing_is_a_request(running: Serving, name: str) -> None:
    with connected(running.address) as sock:
        sock.sendall(post(name, "Content-Length: 100"))
        answer = read_one(sock)
        assert answer.headers["connection"] == "close"
        with contextlib.suppress(OSError):
            sock.sendall(get("/inline") * 5)
        assert read_all(sock) == b""


def test_a_body_that_is_here_is_passed_over(running: Serving) -> None:
    found = send(running.address, post("ignore", body=b"unread") + get("/inline", LAST))
    assert [each.body for each in found] == [b"ok", b"hello"]


# Faults of handlers


@pytest.mark.parametrize("name", ["fail", "silent", "bad_header"])
def test_a_fault_before_the_answer_is_a_problem(running: Serving, name: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        (answer,) = send(running.address, post(name, LAST))
    assert (answer.status, answer.problem["code"]) == (500, "internal_error")
    assert running.counters.failed == 1
    assert CANARY not in caplog.text
    assert "failed" in caplog.text


@pytest.mark.parametrize(("name", "ends"), [("too_short", b"ok"), ("too_long", b""), ("fail_late", b"ok\r\n")])
def test_a_fault_in_the_answer_is_no_clean_end(running: Serving, name: str, ends: bytes) -> None:
    with connected(running.address) as sock:
        sock.sendall(post(name) + get("/inline"))
        raw = read_all(sock)
    assert raw.endswith(ends)
    assert raw.count(b"HTTP/1.1") <= 1
    until(lambda: not running.connections())


# Slow, gone, many


@pytest.mark.threat("C14")
@pytest.mark.parametrize("sent", [post("count", "Content-Length: 9") + b"abc", post("count", CHUNKED) + b"5\r\nhel"])
def test_a_body_that_stops_is_answered_with_408(running: Serving, sent: bytes) -> None:
    (answer,) = send(running.address, sent)
    assert (answer.status, answer.problem["code"]) == (408, "request_timeout")
    assert running.counters.timeouts == 1


def test_a_body_that_goes_on_has_all_the_time_it_needs() -> None:
    with streaming() as running, connected(running.address) as sock:
        sock.sendall(post("count", CHUNKED))
        for _ in range(6):
            sock.settimeout(0.15)
            with pytest.raises(TimeoutError):  # longer than the deadline, all in all
                sock.recv(1)
            sock.sendall(b"1\r\nx\r\n")
        sock.settimeout(10)
        sock.sendall(b"0\r\n\r\n")
        assert read_one(sock).body == b"6"


@pytest.mark.threat("C14")
def test_an_answer_that_nobody_takes_is_cut_off() -> None:
    limits = Limits(write_time=timedelta(seconds=0.4), settle=timedelta(0))
    with streaming(limits) as running, connected(running.address) as sock:
        sock.sendall(post("endless"))
        until(lambda: running.counters.timeouts == 1)
        until(lambda: not running.connections())
        with contextlib.suppress(OSError):
            assert not read_all(sock).endswith(b"0\r\n\r\n")


@pytest.mark.threat("C09")
def test_many_small_chunks_are_no_burden() -> None:
    small = b"1\r\nx\r\n" * 100_000
    with streaming(Limits(settle=timedelta(0))) as running:
        (answer,) = send(running.address, post("count", CHUNKED, LAST) + small + b"0\r\n\r\n")
    assert answer.body == b"100000"


def test_a_client_that_goes_cancels_its_handler(running: Serving) -> None:
    for sent in (post("endless"), post("count", "Content-Length: 9")):
        with connected(running.address) as sock:
            sock.sendall(sent)
            until(lambda: running.server._doors[0].streams)
        until(lambda: not running.server._doors[0].streams)
    until(lambda: not running.connections())
    assert running.counters.failed == 0


def test_a_client_is_missed_even_while_nothing_is_read_from_it(
    running: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = asyncio.Event()

    async def wait(stream: Stream) -> None:
        await waiting.wait()

    monkeypatch.setitem(HANDLERS, "/s/count", wait)
    with connected(running.address) as sock:
        sock.sendall(post("count", "Content-Length: 900000") + bytes(600_000))
        until(lambda: any(each._reading_paused for each in running.server._doors[0].streams))
        sock.shutdown(socket.SHUT_WR)
        until(lambda: not running.server._doors[0].streams, 2)


def test_a_drain_lets_streams_end(running: Serving) -> None:
    with connected(running.address) as sock:
        sock.sendall(post("echo", CHUNKED) + b"2\r\nhe\r\n")
        raw = sock.recv(1000)
        draining = threading.Thread(target=running.drain, args=(5,))
        draining.start()
        until(lambda: running.server._doors[0].draining)
        sock.sendall(b"3\r\nllo\r\n0\r\n\r\n")
        raw += read_all(sock)
        draining.join(10)
    assert raw.endswith(b"3\r\nllo\r\n0\r\n\r\n")


def test_a_drain_that_is_over_breaks_them_off(running: Serving) -> None:
    with connected(running.address) as sock:
        sock.sendall(post("echo", CHUNKED) + b"2\r\nhe\r\n")
        raw = sock.recv(1000)
        running.drain(0.2)
        raw += read_all(sock)
    assert not raw.endswith(b"0\r\n\r\n")
    assert not running.server._doors[0].streams


def test_nothing_is_left_of_a_stream(running: Serving) -> None:
    found = [answer for _ in range(20) for answer in send(running.address, post("echo", LAST, body=b"hello"))]
    assert [each.body for each in found] == [b"hello"] * 20
    until(lambda: not running.connections() and not running.server._doors[0].streams)
    assert running.server._doors[0].last_words == 0
