"""A gibibyte up, and one down: every byte arrives, and the memory that it takes does not grow with it."""

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gateway.flows.passage import Ended
from tests.gateway.web.carrying import ask, call, head_of, read_answer
from tests.gateway.web.conftest import Aws, Carry
from tests.gateway.web.rude import Line
from tests.gateway.web_server.client import until
from tests.gateway.web_server.pki import Pki

SIZE, PIECE = 1024**3, bytes(range(256)) * 4096
BOUND = 64 * 1024 * 1024


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@contextmanager
def growth() -> Iterator[list[int]]:
    """By how many bytes this process (client, gateway and AWS in one) has grown at most: [0]."""
    before, most, over = _resident(), [0], threading.Event()

    def watch() -> None:
        while not over.wait(0.02):
            most[0] = max(most[0], _resident() - before)

    watching = threading.Thread(target=watch)
    watching.start()
    yield most
    over.set()
    watching.join()


def _whole() -> str:
    digest = hashlib.sha256()
    for _ in range(SIZE // len(PIECE)):
        digest.update(PIECE)
    return digest.hexdigest()


@pytest.mark.threat("F05")
@pytest.mark.timeout(180)
def test_a_gibibyte_up(pki: Pki, aws: Aws, gateway: Carry) -> None:
    found = []

    def script(line: Line) -> None:
        line.head()
        digest, missing = hashlib.sha256(line.received), SIZE - len(line.received)
        while missing:
            piece = line.sock.recv(262_144)
            digest.update(piece)
            missing -= len(piece)
        found.append(digest.hexdigest())
        line.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    with gateway(aws(script).origin) as carrying, carrying.connect(pki.client_context("client")) as sock:
        with growth() as most:
            sock.sendall(ask(call("PUT"), f"Content-Length: {SIZE}"))
            for _ in range(SIZE // len(PIECE)):
                sock.sendall(PIECE)
            assert head_of(read_answer(sock)).status == 200
        assert found == [_whole()]
        assert most[0] < BOUND
        until(lambda: carrying.deciding.ended)
        assert carrying.deciding.ended == [Ended(200, SIZE, 0, None, None)]


@pytest.mark.threat("F05")
@pytest.mark.timeout(180)
def test_a_gibibyte_down(pki: Pki, aws: Aws, gateway: Carry) -> None:
    def script(line: Line) -> None:
        line.head()
        line.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % SIZE)
        for _ in range(SIZE // len(PIECE)):
            line.send(PIECE)
        line.ended()

    with gateway(aws(script).origin) as carrying, carrying.connect(pki.client_context("client")) as sock:
        with growth() as most:
            sock.sendall(ask(call()))
            received = b""
            while b"\r\n\r\n" not in received:
                received += sock.recv(4096)
            received = received.partition(b"\r\n\r\n")[2]
            digest, missing = hashlib.sha256(received), SIZE - len(received)
            while missing:
                piece = sock.recv(262_144)
                assert piece
                digest.update(piece)
                missing -= len(piece)
        assert digest.hexdigest() == _whole()
        assert most[0] < BOUND
        until(lambda: carrying.deciding.ended)
        assert carrying.deciding.ended == [Ended(200, 0, SIZE, None, None)]
