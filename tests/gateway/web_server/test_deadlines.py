"""Who is slow or silent is cut off in time, costs little, and is in nobody's way."""

import contextlib
import dataclasses
import socket
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from gateway.web.server.service import Limits
from tests.gateway.web_server.client import Address, connected, get, read_all, read_one, send, until
from tests.gateway.web_server.pki import Pki
from tests.gateway.web_server.serving import serving
from tests.gateway.web_server.toy import LARGE, Toy, listener

_SOON = timedelta(seconds=0.4)
_LATE = timedelta(seconds=30)
PATIENT = Limits(
    handshake=_LATE, head_time=_LATE, body_time=_LATE, idle=_LATE, write_time=_LATE, closing=_LATE, settle=timedelta(0)
)
LONGEST = 10  # seconds, for what is cut off after 0.4, kept to a quarter second, on a busy machine


@contextlib.contextmanager
def cut_off_soon() -> Iterator[None]:
    """What is done inside ends at a deadline, and not by itself or by another deadline."""
    began = time.monotonic()
    yield
    assert 0.3 < time.monotonic() - began < LONGEST


@pytest.mark.threat("C14")
@pytest.mark.parametrize("sent", [b"G", b"GET /inline HTTP/1.1\r\nHost: gat", get("/inline")[:-2]])
def test_a_slow_head_is_answered_with_408(toy: Toy, sent: bytes) -> None:
    with serving(listener(toy), limits=dataclasses.replace(PATIENT, head_time=_SOON)) as running, cut_off_soon():
        (answer,) = send(running.address, sent)
        assert (answer.status, answer.problem["code"]) == (408, "request_timeout")
        assert running.counters.timeouts == 1


@pytest.mark.threat("C14")
def test_a_head_that_drips_gets_no_more_time(toy: Toy) -> None:
    with serving(listener(toy), limits=dataclasses.replace(PATIENT, head_time=_SOON)) as running, cut_off_soon():
        with connected(running.address) as sock, contextlib.suppress(OSError):
            for byte in get("/inline", "X: " + "a" * 200):
                sock.sendall(bytes([byte]))
                sock.settimeout(0.05)
                with contextlib.suppress(TimeoutError):
                    if sock.recv(1000):
                        break
        assert toy.seen == []


@pytest.mark.threat("C14")
def test_a_slow_body_is_answered_with_408(toy: Toy) -> None:
    with serving(listener(toy), limits=dataclasses.replace(PATIENT, body_time=_SOON)) as running, cut_off_soon():
        (answer,) = send(running.address, get("/inline", "Content-Length: 9", method="POST") + b"abc")
        assert answer.status == 408


def test_whoever_says_nothing_is_closed_without_a_word(toy: Toy) -> None:
    with serving(listener(toy), limits=dataclasses.replace(PATIENT, head_time=_SOON)) as running, cut_off_soon():
        assert send(running.address, b"") == []
    with serving(listener(toy), limits=dataclasses.replace(PATIENT, idle=_SOON)) as running, cut_off_soon():
        assert [answer.status for answer in send(running.address, get("/inline"))] == [200]


def test_patience_has_no_effect_on_the_quick(toy: Toy) -> None:
    soon = timedelta(seconds=2)
    limits = dataclasses.replace(PATIENT, head_time=soon, body_time=soon)
    with serving(listener(toy), limits=limits) as running, connected(running.address) as sock:
        for _ in range(4):
            time.sleep(0.6)  # idle for longer than any one deadline of a request, all in all
            sock.sendall(get("/inline", method="POST", body=b"abc"))
            assert read_one(sock).status == 200


@pytest.mark.threat("C14")
def test_a_handler_may_take_longer_than_any_deadline(toy: Toy) -> None:
    limits = dataclasses.replace(PATIENT, head_time=_SOON, idle=_SOON, write_time=_SOON, closing=_SOON)
    with serving(listener(toy), limits=limits) as running, connected(running.address) as sock:
        sock.sendall(get("/app/slow?1"))
        assert read_one(sock).status == 200


@pytest.mark.threat("C14")
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_slow_readers_are_cut_off_and_share_what_they_are_sent(toy: Toy, pki: Pki, tls: bool) -> None:
    limits = dataclasses.replace(PATIENT, write_time=timedelta(seconds=1.5))
    contexts = (pki.server_context(), pki.client_context()) if tls else (None, None)
    with serving(listener(toy, tls=contexts[0]), limits=limits) as running, contextlib.ExitStack() as stack:
        read_one(stack.enter_context(_asked(running.address, contexts[1], "/inline")))
        before = _resident()
        readers = [stack.enter_context(_asked(running.address, contexts[1], "/large")) for _ in range(24)]
        until(lambda: running.counters.requests == 25)
        assert [answer.status for answer in send(running.address, get("/last"), contexts[1])] == [200]
        assert _resident() - before < 24 * 1024 * 1024, f"{len(readers)} readers of {len(LARGE)} bytes each"
        until(lambda: running.counters.timeouts == 24)
        assert all(len(read_all(sock)) < len(LARGE) for sock in readers)


def test_a_reader_that_takes_its_time_gets_all(toy: Toy) -> None:
    with serving(listener(toy), limits=PATIENT) as running, connected(running.address) as sock:
        sock.sendall(get("/large") + get("/last"))
        time.sleep(0.3)
        raw = read_all(sock)
    assert len(raw) > len(LARGE)
    assert raw.endswith(b"bye")


@pytest.mark.threat("B19", "C14")
def test_silent_connections_are_in_nobodys_way(toy: Toy, pki: Pki) -> None:
    limits = dataclasses.replace(PATIENT, handshake=timedelta(seconds=4))
    context = pki.client_context()
    with serving(listener(toy, tls=pki.server_context()), limits=limits) as running, contextlib.ExitStack() as stack:
        silent = [stack.enter_context(connected(running.address)) for _ in range(200)]
        for sock in silent[100:]:
            sock.sendall(b"\x16\x03\x01\x02\x00\x01")  # six bytes of a hello
        for path in ("/inline", "/app", "/soon"):
            with _asked(running.address, context, path) as sock:
                assert read_one(sock).status == 200
        assert running.counters.handshake_failures == 0, "nobody waited for them"
        until(lambda: running.counters.handshake_failures == 200)
        assert {len(read_all(sock)) for sock in silent} == {0}


@pytest.mark.threat("C15")
def test_who_has_been_idle_longest_makes_room(toy: Toy, pki: Pki) -> None:
    context = pki.client_context()
    limits = dataclasses.replace(PATIENT, connections=10)
    with serving(listener(toy, tls=pki.server_context()), limits=limits) as running, contextlib.ExitStack() as stack:
        busy = stack.enter_context(_asked(running.address, context, "/app/held"))
        idle = []
        for _ in range(15):
            sock = stack.enter_context(_asked(running.address, context, "/inline"))
            assert read_one(sock).status == 200
            idle.append(sock)
        assert running.counters.evicted == 6
        assert {len(read_all(sock)) for sock in idle[:6]} == {0}, "the first ones are closed"
        idle[6].sendall(get("/inline"))
        assert read_one(idle[6]).status == 200
        toy.release.set()
        assert read_one(busy).status == 200, "who waits for an answer keeps its place"


@pytest.mark.threat("B19", "C15")
def test_a_crowd_that_is_silent_makes_room(toy: Toy, pki: Pki) -> None:
    limits = dataclasses.replace(PATIENT, connections=10)
    with serving(listener(toy, tls=pki.server_context()), limits=limits) as running, contextlib.ExitStack() as stack:
        for _ in range(50):
            stack.enter_context(connected(running.address))
        with _asked(running.address, pki.client_context(), "/inline") as sock:
            assert read_one(sock).status == 200


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_who_is_refused_can_send_on_and_then_read_why(toy: Toy, pki: Pki, tls: bool) -> None:
    contexts = (pki.server_context(), pki.client_context()) if tls else (None, None)
    with serving(listener(toy, tls=contexts[0]), limits=PATIENT) as running:
        with connected(running.address, contexts[1]) as sock:
            sock.sendall(get("/inline", "Content-Length: 50000000", method="POST"))
            until(lambda: running.counters.refused == 1)
            for _ in range(20):
                sock.sendall(bytes(100_000))
            assert read_one(sock).status == 413
        until(lambda: not running.connections())


def test_who_is_refused_and_sends_for_ever_is_cut_off(toy: Toy) -> None:
    limits = dataclasses.replace(PATIENT, closing=_SOON)
    with serving(listener(toy), limits=limits) as running, connected(running.address) as sock, cut_off_soon():
        sock.sendall(get("/inline", "Content-Length: 50000000", method="POST"))
        with contextlib.suppress(ConnectionError):
            while True:
                sock.sendall(bytes(10_000))
                time.sleep(0.01)


@contextlib.contextmanager
def _asked(address: Address, context: object, path: str) -> Iterator[socket.socket]:
    with connected(address, context) as sock:  # type: ignore[arg-type]  # a plain context will do
        sock.sendall(get(path))
        yield sock


def _resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096
