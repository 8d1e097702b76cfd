"""The worker class under a real gunicorn: slots, signals, restarts, draining."""

import contextlib
import json
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.gateway.web_server.client import (
    LAST,
    Address,
    Answer,
    answers,
    connected,
    get,
    read_all,
    read_one,
    send,
    until,
)


@dataclass(frozen=True)
class Running:
    """A gunicorn with the toy."""

    process: subprocess.Popen[bytes]
    address: Address
    folder: Path

    def log(self) -> str:
        """What gunicorn and the worker have logged."""
        return (self.folder / "log").read_text()

    def worker(self, slot: int = 0) -> int:
        """The process id of the worker that was the last to start in the slot; 0 when there was none."""
        path = self.folder / f"slot-{slot}"
        return int(path.read_text() or 0) if path.exists() else 0

    def replaced(self, worker: int, slot: int = 0) -> bool:
        """Another worker has the slot now."""
        return self.worker(slot) not in (0, worker)


@contextlib.contextmanager
def running(folder: Path, **options: Any) -> Iterator[Running]:
    with socket.create_server(("127.0.0.1", 0)) as sock, (folder / "log").open("wb") as out:
        options = {"folder": str(folder), "sockets": [sock.fileno()], "workers": 1, "graceful_timeout": 10, **options}
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.gateway.web_server.launch", json.dumps(options)],
            pass_fds=[sock.fileno()],
            stdout=out,
            stderr=subprocess.STDOUT,
            env={"HOME": str(folder), "PATH": os.defpath},
            start_new_session=True,
        )
        address: Address = sock.getsockname()
        until(lambda: _answers(address) or process.poll() is not None, 60)
    try:
        yield Running(process, address, folder)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGQUIT)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(10)


def _answers(address: Address) -> bool:
    try:
        with connected(address, timeout=1) as sock:
            sock.sendall(get("/inline", LAST))
            return bool(read_all(sock))
    except OSError:
        return False


def test_it_serves_and_ends(tmp_path: Path) -> None:
    with running(tmp_path) as toy:
        assert [answer.status for answer in send(toy.address, get("/inline") + get("/app", LAST))] == [200, 200]
        toy.process.send_signal(signal.SIGTERM)
        assert toy.process.wait(10) == 0
    assert "Traceback" not in toy.log()


def test_a_killed_worker_is_replaced_in_its_slot(tmp_path: Path) -> None:
    with running(tmp_path, workers=3) as toy:
        until(lambda: toy.worker(2))
        before = [toy.worker(slot) for slot in range(3)]
        os.kill(before[1], signal.SIGKILL)
        until(lambda: toy.replaced(before[1], slot=1))
        assert [toy.worker(slot) for slot in (0, 2)] == [before[0], before[2]]
        assert not (tmp_path / "slot-3").exists()
        assert [answer.status for answer in send(toy.address, get("/inline", LAST))] == [200]


def test_a_worker_that_is_told_to_end_before_it_listens_to_signals_ends(tmp_path: Path) -> None:
    with running(tmp_path, slow_start=1.5, graceful_timeout=60) as toy:
        before = toy.worker()
        os.kill(before, signal.SIGKILL)
        until(lambda: toy.log().count("slow start of") == 2)
        toy.process.send_signal(signal.SIGTERM)
        assert toy.process.wait(30) == 0


def test_a_stuck_worker_is_replaced(tmp_path: Path) -> None:
    with running(tmp_path, timeout=2) as toy:
        before = toy.worker()
        with connected(toy.address) as sock:
            sock.sendall(get("/stuck"))
            until(lambda: toy.replaced(before))
        assert [answer.status for answer in send(toy.address, get("/inline", LAST))] == [200]
    assert "WORKER TIMEOUT" in toy.log()
    assert "in stuck" in toy.log(), "it says where"


def test_a_worker_ends_with_its_parent(tmp_path: Path) -> None:
    with running(tmp_path) as toy:
        worker = toy.worker()
        toy.process.kill()
        toy.process.wait(10)
        until(lambda: not Path(f"/proc/{worker}/cmdline").exists() or _is_zombie(worker))


def _is_zombie(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


def test_draining_answers_what_has_begun_and_lets_go_of_who_waits(tmp_path: Path) -> None:
    with running(tmp_path) as toy, contextlib.ExitStack() as stack:
        idle, slow, waiting, held = (stack.enter_context(connected(toy.address)) for _ in range(4))
        idle.sendall(get("/inline"))
        read_one(idle)
        slow.sendall(get("/app/slow?8"))
        waiting.sendall(get("/wait"))
        held.sendall(get("/inline", "Content-Length: 3", method="POST"))  # and its body is on the way
        time.sleep(0.5)
        toy.process.send_signal(signal.SIGTERM)
        time.sleep(0.1)
        held.sendall(b"abc")
        (answer,) = _until_closed(held)
        assert (answer.status, answer.body, answer.headers["connection"]) == (200, b"abc", "close")
        (answer,) = _until_closed(waiting)
        assert (answer.status, answer.problem["code"], answer.headers["connection"]) == (503, "draining", "close")
        assert read_all(idle) == b""
        assert not select.select([slow], [], [], 0)[0], "nobody waited for the slow one"
        (answer,) = _until_closed(slow)
        assert (answer.status, answer.body, answer.headers["connection"]) == (200, b"app", "close")
        assert toy.process.wait(10) == 0
    with pytest.raises(ConnectionRefusedError):
        send(toy.address, get("/inline"))


def _until_closed(sock: socket.socket) -> list[Answer]:
    return answers(read_all(sock))


def test_draining_ends_in_time_without_what_hangs(tmp_path: Path) -> None:
    with running(tmp_path, graceful_timeout=2) as toy, connected(toy.address) as sock:
        sock.sendall(get("/app/held"))
        time.sleep(0.5)
        toy.process.send_signal(signal.SIGTERM)
        assert toy.process.wait(20) == 0  # what it serves would never end
        assert read_all(sock) == b""
    assert "SIGKILL" not in toy.log()


def test_quitting_waits_for_nothing(tmp_path: Path) -> None:
    with running(tmp_path) as toy, connected(toy.address) as sock:
        sock.sendall(get("/app/slow?20"))
        time.sleep(0.5)
        toy.process.send_signal(signal.SIGTERM)  # a drain that would take twenty seconds
        time.sleep(0.5)
        toy.process.send_signal(signal.SIGQUIT)
        assert toy.process.wait(10) == 0


def test_draining_under_load_loses_no_answer(tmp_path: Path) -> None:
    with running(tmp_path) as toy:  # one worker, so that all are its clients; they wait while it is replaced
        outcomes = Counter({"200": 0, "let go": 0})  # both are there: a thread that adds a key may lose another's count
        over = threading.Event()
        clients = [threading.Thread(target=_keep_asking, args=(toy.address, path, outcomes, over)) for path in _PATHS]
        for client in clients:
            client.start()
        for _ in range(3):
            answered, worker = outcomes["200"], toy.worker()
            until(lambda answered=answered: outcomes["200"] > answered + 100)  # type: ignore[misc]  # mypy cannot infer a lambda with a default
            os.kill(worker, signal.SIGTERM)
            until(partial(toy.replaced, worker))
        over.set()
        for client in clients:
            client.join(10)
    assert outcomes.keys() <= {"200", "let go"}
    assert outcomes["let go"] >= 2 * len(_PATHS)  # of three drains; one may come while a client connects


_PATHS = ["/inline", "/inline", "/soon", "/soon", "/app", "/app", "/app/slow?0.02", "/app/slow?0.02"]


def _keep_asking(address: Address, path: str, outcomes: "Counter[str]", over: threading.Event) -> None:
    """Ask over kept-alive connections; a request without an answer counts as lost."""
    while not over.is_set():
        with connected(address) as sock:
            last = False
            while not last and not over.is_set():
                try:
                    sock.sendall(get(path))
                    answer = read_one(sock)
                except (OSError, AssertionError) as error:
                    outcomes[f"lost: {error!r}"] += 1
                    break
                outcomes[str(answer.status)] += 1
                last = answer.headers.get("connection") == "close"
            outcomes["let go"] += last


@pytest.mark.threat("C15")
def test_without_file_descriptors_it_waits_and_recovers(tmp_path: Path) -> None:
    with running(tmp_path) as toy, contextlib.ExitStack() as stack:
        worker = toy.worker()
        used = len(os.listdir(f"/proc/{worker}/fd"))
        _, hard = resource.prlimit(worker, resource.RLIMIT_NOFILE)
        resource.prlimit(worker, resource.RLIMIT_NOFILE, (used + 20, hard))
        crowd = [stack.enter_context(connected(toy.address)) for _ in range(10)]
        for sock in crowd:
            sock.sendall(b"GET /inline HTTP/1.1\r\n")  # begun, so that it cannot be closed to make room
        crowd += [stack.enter_context(connected(toy.address)) for _ in range(90)]
        until(lambda: "cannot accept" in toy.log())
        before = _cpu(worker)
        time.sleep(1)
        assert _cpu(worker) - before < 0.3, "it does not spin"
        crowd[0].sendall(b"Host: gateway.test\r\n\r\n")
        assert read_one(crowd[0]).status == 200, "who is in is served"
        for sock in crowd:
            sock.close()
        began = time.monotonic()
        assert [answer.status for answer in send(toy.address, get("/inline", LAST))] == [200]
        assert time.monotonic() - began < 5
        assert toy.worker() == worker, "the worker lives on"


@pytest.mark.threat("C15")
def test_it_accepts_again_when_descriptors_come_back_from_elsewhere(tmp_path: Path) -> None:
    with running(tmp_path) as toy:
        worker = toy.worker()
        limit = resource.prlimit(worker, resource.RLIMIT_NOFILE)
        resource.prlimit(worker, resource.RLIMIT_NOFILE, (3, limit[1]))
        with connected(toy.address) as sock:
            until(lambda: "cannot accept" in toy.log())
            resource.prlimit(worker, resource.RLIMIT_NOFILE, limit)
            sock.sendall(get("/inline"))
            assert read_one(sock).status == 200


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_settings_that_it_cannot_honour_stop_gunicorn(tmp_path: Path) -> None:
    with running(tmp_path, preload_app=False) as toy:
        assert toy.process.wait(10) != 0
    assert "preload_app" in toy.log()
