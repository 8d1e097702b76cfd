"""I02: a sink that the settings demand, and that blocks: refusals in time, no hang, and recovery by itself."""

import json
import os
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from threading import Event as Flag
from threading import Thread

import pytest

from deploy.demo.visitor import Answer, Visitor
from tests.end_to_end.test_observed import health, until
from tests.end_to_end.tour import NOT_THERE, VEND
from tests.end_to_end.world import PROFILE, World
from tests.gateway.web_server.pki import Pki, make

Own = Callable[..., AbstractContextManager[World]]
WITHIN = 30  # seconds; the least that the settings take
PROMISE = 6.5  # seconds; a request that cannot be recorded is refused within 5, and this machine is busy


class Peer:
    """A syslog server that reads, or does not: its system's buffer is as small as can be, and soon full."""

    def __init__(self, pki: Pki) -> None:
        self.reading = Flag()
        self.reading.set()
        self._context = pki.server_context()
        self._context.verify_mode = ssl.CERT_NONE
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen()
        self.ca = pki.folder / "ca.pem"
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self.reading.set()
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                Thread(target=self._read, args=(self._listener.accept()[0],), daemon=True).start()

    def _read(self, plain: socket.socket) -> None:
        with suppress(OSError), self._context.wrap_socket(plain, server_side=True) as line:
            while self.reading.wait() and line.recv(512):
                pass


@pytest.fixture
def peer(tmp_path: Path) -> Iterator[Peer]:
    (tmp_path / "pki").mkdir()
    made = Peer(make(tmp_path / "pki"))
    yield made
    made.close()


@pytest.fixture
def hanging(tmp_path: Path) -> Iterator[Path]:
    """A socket that takes connections and reads nothing, from the first byte on."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(tmp_path / "hang"))
        listener.listen()
        yield tmp_path / "hang"


def ask(caller: Visitor, method: str, path: str, body: object = None) -> Answer:
    """Asked, and answered in time."""
    begun = time.monotonic()
    answer = caller.call(method, path, body)
    assert time.monotonic() - begun < PROMISE, path
    return answer


@pytest.mark.timeout(400)
@pytest.mark.threat("I02")
def test_I02_a_required_sink_that_blocks_refuses_and_hangs_nobody(
    own_world: Own, peer: Peer, hanging: Path, tmp_path: Path
) -> None:
    fifo = tmp_path / "export.log"
    tables = f"""
[audit.sinks.remote]
kind = "syslog"
address = "{peer.address}"
ca = "{peer.ca}"
required = true
within = "{WITHIN}s"
[audit.sinks.local]
kind = "file"
path = "{fifo}"
required = true
within = "{WITHIN}s"
[audit.sinks.free]
kind = "syslog"
path = "{hanging}"
"""
    with own_world(tables=tables) as world:
        instance, operator = world.enrolled()[1], world.operator()
        asks: list[Callable[[], Answer]] = [
            lambda: ask(instance, "GET", "/v1/grants"),
            lambda: ask(instance, "POST", "/v1/credentials", VEND),
            lambda: ask(operator, "POST", "/v1/tickets", {"profile": PROFILE}),
            lambda: ask(operator, "GET", "/v1/instances"),
        ]

        def all_ok() -> bool:
            return all(each().status in (200, 201) for each in asks)

        # The control: one that nobody demands hangs from the first byte on, and disturbs nobody, whatever it is behind.
        until(lambda: "free" in health(world)["checks"]["sinks"]["says"], 120)
        end = time.monotonic() + WITHIN
        while time.monotonic() < end:
            assert all_ok()
            time.sleep(1)

        # Both that are demanded block: a server that stops reading, and a FIFO that nobody reads.
        peer.reading.clear()
        fifo.rename(tmp_path / "rotated")
        os.mkfifo(fifo)
        assert all_ok(), "within what is tolerated"

        def refused() -> bool:
            found = [each() for each in asks]
            assert {answer.status for answer in found} <= {200, 201, 503}
            return all(answer.code == "audit_behind" for answer in found)

        until(lambda: all(refused() for _ in range(5)), 120)  # in each worker
        with ThreadPoolExecutor(16) as pool:  # nor do many at once hang
            callers = [world.visitor() for _ in range(16)]
            for caller in callers:
                caller.present(instance.certificate or "", instance.key)
            answers = list(pool.map(lambda caller: ask(caller, "POST", "/v1/credentials", VEND), callers))
        assert {(answer.status, answer.code) for answer in answers} == {(503, "audit_behind")}
        assert {answer.headers.get("retry-after") for answer in answers} == {"5"}
        assert not any("secret_access_key" in json.dumps(answer.body) for answer in answers)
        until(lambda: health(world)["status"] == "failing")  # what is told there may be some seconds old
        records = world.audit(answers[0].body["instance"])
        assert [(record["kind"], record["reason"]) for record in records] == [("decision", "audit_behind")]
        assert ask(operator, "POST", f"/v1/revocations/instances/{NOT_THERE}").status == 404, "cutting off goes on"

        # One recovers, and the other still blocks; then both do, and nobody has to be told.
        peer.reading.set()
        until(lambda: "remote" not in health(world)["checks"]["sinks"]["says"], 90)
        assert all(refused() for _ in range(5))
        fifo.unlink()
        until(lambda: all(all_ok() for _ in range(5)), 90)
        seen = {record["hash"] for record in world.rows("audit_record")}

        def written() -> str:
            return (tmp_path / "rotated").read_text() + (fifo.read_text() if fifo.exists() else "")

        until(lambda: seen <= {line[:64] for line in written().splitlines()})
        until(lambda: health(world)["checks"]["sinks"]["state"] == "degraded")  # for the one that still hangs
