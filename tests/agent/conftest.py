"""One machine for each test: a gateway, a metadata service, a state directory, and agents on it."""

import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from agent import ask, identity, settings
from agent.daemon import Daemon
from agent.errors import Fault
from agent.identity import FILE
from agent.serve import rundir
from agent.world import World
from gateway.wire.messages import UserData, user_data_line
from tests.agent.fake_gateway import SECRET_CANARY, SESSION_CANARY, FakeGateway, running
from tests.agent.fake_metadata import FakeMetadata
from tests.agent.pki import Pki
from tests.conftest import Known

ROOT = Path(__file__).parents[2]


WORLD = World(now=lambda: datetime.now(UTC), random=lambda: 0.0, token=lambda: secrets.token_urlsafe(32))
"""The real clock, and the shortest waits that jitter allows."""


@pytest.fixture(autouse=True, scope="session")
def canaries(known: Known) -> None:
    """What the fake gateway vends must not be captured anywhere."""
    known.add(SECRET_CANARY)
    known.add(SESSION_CANARY)


@pytest.fixture(scope="session")
def pki() -> Pki:
    return Pki()


@pytest.fixture
def gateway(pki: Pki) -> Iterator[FakeGateway]:
    with running(FakeGateway(pki)) as gateway:
        yield gateway


class Shifted:
    """A clock that runs beside the real one."""

    def __init__(self, **by: float) -> None:
        self.by = timedelta(**by)

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.by


def world(clock: Callable[[], datetime]) -> World:
    """The world as it is, but for the clock."""
    return replace(WORLD, now=clock)


def full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on no state can be saved, until `monkeypatch.undo()`."""

    def full(*_: Any, **__: Any) -> None:
        raise Fault("write_failed", "No space left on device")

    monkeypatch.setattr(identity, "replace_file", full)


def until(true: Callable[[], Any], within: float = 10.0) -> None:
    """Wait for something to become true."""
    end = time.monotonic() + within
    while not true():
        assert time.monotonic() < end, "it did not become true in time"
        time.sleep(0.005)


class Machine:
    """An instance that was launched with user-data, and the agents that run on it."""

    def __init__(self, path: Path, gateway: FakeGateway, metadata: FakeMetadata) -> None:
        self.gateway, self.metadata = gateway, metadata
        self.state_dir, self.run_dir = path / "state", path / "run"
        self.written = {
            "state_dir": str(self.state_dir),
            "run_dir": str(self.run_dir),
            "metadata": f"http://127.0.0.1:{metadata.port}/",
            "listen": "127.0.0.1:0",
            "imds": "127.0.0.1:0",
        }
        self._closing = ExitStack()
        self.launch_with("ticket-one")

    def launch_with(self, ticket: str | None, **changes: str) -> None:
        """Write the user-data."""
        told = {"gateway": self.gateway.address, "ca_sha256": self.gateway.pki.pin, **changes}
        line = user_data_line(UserData(told["gateway"], told["ca_sha256"], ticket))
        self.metadata.user_data = f"#cloud-config\n{line}\nhostname: web\n".encode()

    def agent(self, *, world: World = WORLD, ready: bool = True, **changes: str) -> Daemon:
        """An agent in this process; it ends with the test, or by `close`."""
        daemon = Daemon(settings.parse({**self.written, **changes}), world)
        self._closing.callback(daemon.close)
        daemon.start()
        if ready:
            until(lambda: daemon.lifecycle._announced)
        return daemon

    def spawn(self, *words: str, environment: dict[str, str] | None = None, **changes: str) -> subprocess.Popen[str]:
        """`trusted-gateway-agent` as a process of its own; it is killed at the end of the test at the latest."""
        process = subprocess.Popen(
            self.command(*words, **changes),
            cwd=ROOT,
            env={**os.environ, "PYTHONWARNINGS": "error", **(environment or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._closing.callback(_end, process)
        return process

    def command(self, *words: str, **changes: str) -> list[str]:
        """The words that start the agent with this machine's settings."""
        flags = [f"--{key.replace('_', '-')}={value}" for key, value in {**self.written, **changes}.items()]
        return [sys.executable, "-m", "agent.main", words[0], *flags, *words[1:]]

    def cli(self, *words: str, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            self.command(*words),
            cwd=ROOT,
            env={**os.environ, **(environment or {})},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def get(self, path: str, *, token: str | None = None, method: str = "GET", **headers: str) -> "Answer":
        """Ask the container endpoint of the agent that runs here; `token` None sends the right one."""
        running = self.running()
        host, port = running["listen"].rsplit(":", 1)
        connection = HTTPConnection(host, int(port), timeout=5)
        file = running["tokens"].get(path.rsplit("/", 1)[-1])
        shown = {"Authorization": Path(file).read_text() if file and token is None else token or "none"}
        began = time.monotonic()
        connection.request(method, path, headers={**shown, **{k.replace("_", "-"): v for k, v in headers.items()}})
        answer = connection.getresponse()
        out = Answer(answer.status, dict(answer.headers), answer.read(), time.monotonic() - began)
        connection.close()
        return out

    def running(self) -> dict[str, Any]:
        """What the agent that runs here says in `agent.json`."""
        plain: dict[str, Any] = json.loads((self.run_dir / rundir.AGENT).read_bytes())
        return plain

    @property
    def socket(self) -> str:
        """The path of the agent's socket."""
        return str(self.run_dir / "agent.sock")

    def kept(self) -> dict[str, Any]:
        """What is in the state file."""
        plain = json.loads((self.state_dir / FILE).read_bytes())
        assert isinstance(plain, dict)
        return plain

    def keep(self, **changes: Any) -> None:
        """Change what is in the state file."""
        (self.state_dir / FILE).write_text(json.dumps(self.kept() | changes))

    def enrolled_before(self) -> dict[str, Any]:
        """An agent was here, enrolled, and is gone; what it kept. The gateway forgets what it saw."""
        self.agent().close()
        self.gateway.seen.clear()
        return self.kept()

    def status(self) -> Any:
        document, code, message = ask.ask(self.socket, "status")
        assert not code, message
        return json.loads(document)

    def files(self) -> bytes:
        """Every byte below the state and run directories."""
        found = [*self.state_dir.rglob("*"), *self.run_dir.rglob("*")]
        return b"".join(file.read_bytes() for file in found if file.is_file())

    def close(self) -> None:
        self._closing.close()


class Answer:
    """What the loopback server said, and after how many seconds."""

    def __init__(self, status: int, headers: dict[str, str], raw: bytes, seconds: float) -> None:
        self.status, self.headers, self.raw, self.seconds = status, headers, raw, seconds

    @property
    def json(self) -> Any:
        return json.loads(self.raw)


def _end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


@pytest.fixture
def metadata() -> Iterator[FakeMetadata]:
    with FakeMetadata().running() as metadata:
        yield metadata


@pytest.fixture
def machine(tmp_path: Path, gateway: FakeGateway, metadata: FakeMetadata) -> Iterator[Machine]:
    machine = Machine(tmp_path, gateway, metadata)
    yield machine
    machine.close()


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory, pki: Pki) -> Iterator[Machine]:
    """A machine with an agent that is ready, for tests that change nothing about it."""
    with running(FakeGateway(pki)) as gateway, FakeMetadata().running() as metadata:
        machine = Machine(tmp_path_factory.mktemp("serving"), gateway, metadata)
        machine.agent()
        yield machine
        machine.close()
