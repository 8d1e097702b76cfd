"""The command line in this process, an operator's directory, and an admin listener that answers what a test wants."""

import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, NamedTuple

import pytest

from gateway.cli.main import main
from tests.gateway.web_server.pki import Pki, make

ERROR = re.compile(r"error: [^\n]+ \(([a-z0-9_]+)\)\nhint: [^\n]+\n")


class Said(NamedTuple):
    """What a command came to."""

    status: int
    out: str
    err: str

    def fails(self, code: str, status: int = 1) -> str:
        """Assert that it failed as commands fail: one line, a hint, nothing else; return that."""
        match = ERROR.fullmatch(self.err)
        assert match is not None, self
        assert (self.status, match[1], self.out) == (status, code, ""), self
        assert self.err.isprintable() or self.err.replace("\n", "").isprintable()
        return self.err

    def names_faults(self, code: str) -> list[str]:
        """Assert that it failed so, behind at least one line for a fault; return these lines."""
        *faults, error, hint = self.err.splitlines(keepends=True)
        assert faults, self
        Said(self.status, self.out, error + hint).fails(code)
        assert all(fault[:-1].isprintable() for fault in faults)
        return [fault[:-1] for fault in faults]

    def succeeds(self) -> str:
        """Assert that it did; return what it printed."""
        assert (self.status, self.err) == (0, ""), self
        return self.out


Run = Callable[..., Said]


class FakeGateway:
    """Answers every request with `status` and `answer` (bytes, or what JSON has).

    `answers` has others by path, by method and path, or by these with the query; a pair is a status and an answer.
    """

    def __init__(self, pki: Pki) -> None:
        fake = self

        class Listener(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                fake.asked.append((self.command, self.path, json.loads(body) if body else None))
                fake.fields.append(dict(self.headers))
                path = self.path.partition("?")[0]
                places = (f"{self.command} {self.path}", f"{self.command} {path}", path)
                found = next((fake.answers[each] for each in places if each in fake.answers), fake.answer)
                status, found = found if isinstance(found, tuple) else (fake.status, found)
                raw = found if isinstance(found, bytes) else json.dumps(found).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)

            do_GET = do_POST = do_PUT = do_DELETE = answer

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            def handle_error(self, *_: object) -> None:
                pass  # a handshake that failed is the client's news

        self.status = 200
        self.answer: Any = {}
        self.answers: dict[str, Any] = {}
        self.asked: list[tuple[str, str, Any]] = []
        self.fields: list[dict[str, str]] = []  # the header fields of each
        self._server = Server(("127.0.0.1", 0), Listener)
        self._server.socket = pki.server_context().wrap_socket(
            self._server.socket, server_side=True, do_handshake_on_connect=False
        )
        self.address = f"127.0.0.1:{self._server.server_address[1]}"
        self._thread = Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return make(tmp_path_factory.mktemp("pki"))


@pytest.fixture
def gateway(pki: Pki) -> Iterator[FakeGateway]:
    fake = FakeGateway(pki)
    yield fake
    fake.stop()


@pytest.fixture
def operator(tmp_path: Path, pki: Pki, gateway: FakeGateway) -> Path:
    """An operator's directory: key, certificate, root, and the fake gateway's address."""
    directory = tmp_path / "operator"
    directory.mkdir(mode=0o700)
    shutil.copy(pki.folder / "ca.pem", directory / "ca.pem")
    for name in ("operator.key", "operator.crt"):
        shutil.copy(pki.folder / "client.pem", directory / name)
    (directory / "gateway").write_text(gateway.address + "\n")
    return directory


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """`run("status", "--json")`: with the operator's directory and the settings of this test, and no terminal."""
    for name in [name for name in os.environ if name.startswith(("TRUSTED_GATEWAY_", "CREDENTIALS_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TRUSTED_GATEWAY_OPERATOR_DIR", str(tmp_path / "operator"))
    monkeypatch.setenv("TRUSTED_GATEWAY_SETTINGS", str(tmp_path / "gateway.toml"))
    before = os.umask(0)
    os.umask(before)

    def said(*arguments: str | Path) -> Said:
        capfd.readouterr()
        monkeypatch.setattr(sys, "argv", ["trusted-gateway", *map(str, arguments)])
        with open(os.devnull) as nothing:
            monkeypatch.setattr(sys, "stdin", nothing)
            with pytest.raises(SystemExit) as ended:
                main()
        out, err = capfd.readouterr()
        return Said(ended.value.code if isinstance(ended.value.code, int) else 0, out, err)

    yield said
    os.umask(before)
