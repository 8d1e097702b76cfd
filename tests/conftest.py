"""What holds for every test: no network but loopback, and no known secret in anything that was captured."""

import ipaddress
import os
import socket
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

from gateway.wire.secret import Secret

if TYPE_CHECKING:
    from deploy.demo.cloud import Cloud, Seeded

# How long an example takes says more of the machine than of the code.
settings.register_profile("untimed", settings(), deadline=None)
settings.load_profile("untimed")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI nothing is skipped: what a test needs is installed there, or the build fails."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and os.environ.get("CI") == "true":
        report.outcome = "failed"
        report.longrepr = f"skipped, which is a failure in CI: {report.longrepr}"
    return report


class Known:
    """Secrets that this run knows, and files that must never hold one."""

    def __init__(self) -> None:
        self._secrets: list[Secret] = []
        self._files: dict[Path, int] = {}

    def add(self, secret: Secret | str) -> None:
        """Look for this one from now on."""
        self._secrets.append(secret if isinstance(secret, Secret) else Secret(secret))

    def watch(self, path: Path) -> None:
        """Look into this log, too."""
        self._files[path] = 0

    def leaked(self, text: str) -> bool:
        """Is one of them in this text, or in what the logs have grown by?"""
        raw = text.encode(errors="replace")
        for path, seen in self._files.items():
            if path.exists():
                with path.open("rb") as file:
                    file.seek(max(0, seen - 4096))
                    raw += file.read()
                    self._files[path] = file.tell()
        return any(self._in(secret, raw) for secret in self._secrets)

    @staticmethod
    def _in(secret: Secret, raw: bytes) -> bool:
        with secret as plain:
            return plain in raw


@pytest.fixture(scope="session")
def known() -> Known:
    return _KNOWN


@pytest.fixture(scope="session")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator["Cloud"]:
    """A local AWS that enforces: one for the whole run."""
    from deploy.demo.cloud import Cloud  # with boto3: most tests need neither

    with Cloud(tmp_path_factory.mktemp("cloud")) as running:
        yield running


@pytest.fixture(scope="session")
def seeded(cloud: "Cloud", known: Known) -> "Seeded":
    """Its double-secret key, role and bucket."""
    found = cloud.seed()
    known.add(found.secret)
    return found


_KNOWN = Known()


@pytest.fixture(autouse=True)
def no_secret_is_captured(request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Fails a test that lets a known secret get into a log or onto standard output or error."""
    yield
    capture = request.config.pluginmanager.getplugin("capturemanager")
    out, err = capture.read_global_capture()
    print(out, end="")  # put back, for the report
    if _KNOWN.leaked(out + err + caplog.text):
        pytest.fail("a known secret was captured", pytrace=False)


_connect = socket.socket.connect
_getaddrinfo = socket.getaddrinfo


def _is_local(host: Any) -> bool:
    if host in ("", None, "localhost", b"localhost"):
        return True
    try:
        return ipaddress.ip_address(host.decode() if isinstance(host, bytes) else host).is_loopback
    except ValueError:
        return False


@pytest.fixture(autouse=True, scope="session")
def loopback_only() -> Iterator[None]:
    """Nothing in this process reaches for another machine, by address or by name."""

    def connect(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6) and not _is_local(address[0]):
            raise AssertionError(f"a test reaches for {address[0]}")
        return _connect(self, address)

    def getaddrinfo(host: Any, *rest: Any, **more: Any) -> Any:
        if not _is_local(host):
            raise AssertionError(f"a test looks up {host}")
        return _getaddrinfo(host, *rest, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", connect)
        patch.setattr(socket, "getaddrinfo", getaddrinfo)
        yield
