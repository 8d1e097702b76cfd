"""A gateway in a folder of its own, set up and run as an operator does it: by its command line and by nothing else."""

import os
import random
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from deploy.demo import REPOSITORY, end, spawn
from gateway.wire.secret import Secret

BIN = Path(sys.executable).parent
START_SECONDS = 60


class CommandFailed(RuntimeError):
    """A command of ours ended with another status than expected. The text is what it said on standard error."""


class Site:
    """Settings, store and operator in `folder`. `init`, `import_key`, `start`; then `cli` for what an operator does."""

    def __init__(
        self,
        folder: Path,
        endpoint: str,
        regional: Mapping[str, bytes],
        *,
        region: str,
        keep: bool = False,
        workers: int = 2,
        enrollment: Mapping[str, Any] | None = None,
        top: Mapping[str, Any] | None = None,
        tables: str = "",
    ) -> None:
        self.folder = folder
        self._keep = keep
        self.passphrase = Secret(os.urandom(18).hex())
        self._process: subprocess.Popen[bytes] | None = None
        self.instance, self.admin, self.public, self.local = (f"127.0.0.1:{port}" for port in _free_ports(4))
        folder.mkdir(parents=True, exist_ok=True)
        certificates = folder / "aws-certificates"
        certificates.mkdir()
        for name, pem in regional.items():
            (certificates / f"{name}.pem").write_bytes(pem)
        lines = [
            'environment = "development"',
            'names = ["127.0.0.1", "localhost"]',
            f'store = "sqlite:///{folder / "store" / "gateway.db"}"',
            f"workers = {workers}",
            *_as_toml(top),
            "[listen]",
            f'instance = "{self.instance}"',
            f'admin = "{self.admin}"',
            f'public = "{self.public}"',
            f'local = "{self.local}"',
            "[aws]",
            f'endpoint = "{endpoint}"',
            f'region = "{region}"',
            f'identity_certificates = "{certificates}"',
            f'cache = "{REPOSITORY / ".aws-models"}"',  # compiled once for all sites
            "[enrollment]",
            *_as_toml(enrollment),
            tables,  # more of them, in TOML
        ]
        self.settings.write_text("\n".join(lines) + "\n")

    @property
    def settings(self) -> Path:
        """The settings file."""
        return self.folder / "gateway.toml"

    @property
    def database(self) -> Path:
        """The SQLite store."""
        return self.folder / "store" / "gateway.db"

    @property
    def operator(self) -> Path:
        """The first operator's directory."""
        return self.folder / "operator"

    @property
    def log(self) -> Path:
        """What the gateway says."""
        return self.folder / "gateway.log"

    @property
    def command(self) -> list[str]:
        """How the command line is called for this site."""
        program = str(BIN / "trusted-gateway")
        return [program, "--settings", str(self.settings), "--operator-dir", str(self.operator)]

    def cli(self, *arguments: str, given: Secret | None = None, unseal: bool = False, status: int = 0) -> str:
        """Run a command to its end; what it printed. `given` goes to its standard input, the passphrase by descriptor.

        Raises CommandFailed unless it ends with `status`.
        """
        done = self.run(*arguments, given=given, unseal=unseal)
        if done.returncode != status:
            raise CommandFailed(done.stderr.strip() or f"status {done.returncode}")
        return done.stdout if status == 0 else done.stderr

    def run(
        self, *arguments: str, given: Secret | None = None, unseal: bool = False
    ) -> "subprocess.CompletedProcess[str]":
        """As `cli`, whatever the status."""
        with self._passphrase_fd() as fd, given or Secret(b"") as plain:
            extra = ["--passphrase-fd", str(fd)] if unseal else []
            return subprocess.run(
                [*self.command, *arguments, *extra],
                cwd=self.folder,
                env=self.environment(),
                input=plain.decode(),
                capture_output=True,
                text=True,
                timeout=60,
                pass_fds=[fd],
                check=False,
            )

    def init(self, operator: str = "alice") -> str:
        """`trusted-gateway init`; the CA's fingerprint."""
        said = self.cli("init", "--operator", operator, unseal=True)
        return next(line.split()[-1] for line in said.splitlines() if line.startswith("CA fingerprint"))

    def import_key(self, access_key_id: str, secret: Secret, name: str = "main", *options: str) -> str:
        """`trusted-gateway key import`, the secret on standard input."""
        return self.cli("key", "import", name, "--access-key-id", access_key_id, *options, given=secret, unseal=True)

    def start(self) -> None:
        """`trusted-gateway serve`, and wait until it is ready."""
        with self._passphrase_fd() as fd:
            self._process = spawn(
                [*self.command, "serve", "--passphrase-fd", str(fd)],
                folder=self.folder,
                environment=self.environment(),
                log=self.log,
                inherit=[fd],
                keep=self._keep,
            )
        self.wait_ready()

    def wait_ready(self, seconds: float = START_SECONDS) -> None:
        """Until the local listener says that it is ready. Raises CommandFailed."""
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        deadline = time.monotonic() + seconds
        while True:
            try:
                direct.open(f"http://{self.local}/readyz", timeout=2).close()
                return
            except (OSError, urllib.error.HTTPError) as error:
                ended = self._process is not None and self._process.poll() is not None
                if ended or time.monotonic() > deadline:
                    tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-5:])
                    raise CommandFailed(f"the gateway is not ready ({error})\n{tail}") from None
                time.sleep(0.05)

    @property
    def pid(self) -> int:
        """The process id of gunicorn's master."""
        if self._process is None:
            raise CommandFailed("the gateway was not started")
        return self._process.pid

    def stop(self) -> None:
        """SIGTERM, and wait."""
        if self._process:
            end(self._process, 40)
            self._process = None

    def kill(self) -> None:
        """SIGKILL to the master; its workers end when they see that it is gone."""
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None

    def context(self) -> ssl.SSLContext:
        """A client context that trusts this site's root, without a certificate of its own."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(self.operator / "ca.pem")
        return context

    def environment(self) -> dict[str, str]:
        """What the site's processes get: nothing of ours."""
        return {"PATH": f"{BIN}:/usr/bin:/bin", "HOME": str(self.folder), "LANG": "C.UTF-8"}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._keep:
            self.stop()

    def _passphrase_fd(self) -> "_Pipe":
        return _Pipe(self.passphrase)


class _Pipe:
    """A descriptor from which a secret can be read once."""

    def __init__(self, secret: Secret) -> None:
        self._secret = secret

    def __enter__(self) -> int:
        self._readable, writable = os.pipe()
        with self._secret as plain, os.fdopen(writable, "wb") as file:
            file.write(plain + b"\n")
        return self._readable

    def __exit__(self, *_: object) -> None:
        os.close(self._readable)


def _as_toml(settings: Mapping[str, Any] | None) -> list[str]:
    return [f"{key} = {value!r}".replace("'", '"') for key, value in (settings or {}).items()]


def _free_ports(count: int) -> Sequence[int]:
    """Below those that Linux gives to who connects, or asks for any: nobody gets one before the gateway does."""
    found: list[int] = []
    while len(found) < count:
        port = random.randrange(10_000, 32_768)  # noqa: S311  # no secret: so that two sites at once take others
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            found += [port] if port not in found else []
    return found
