"""A machine with grants that go by `sign`, `proxy` and `token`, a gateway that verifies, and an AWS that verifies."""

import http.client
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest
from botocore.config import Config

from agent.calls.endpoint import Endpoint
from agent.daemon import Daemon
from gateway.wire import sigv4
from gateway.wire.sigv4 import Scope
from tests.agent.conftest import Machine
from tests.agent.fake_aws import FakeAws
from tests.agent.fake_gateway import FakeGateway, running
from tests.agent.fake_metadata import FakeMetadata
from tests.agent.pki import Pki

REGION = "eu-central-1"
GRANTS = ["carried", "mixed", "plain", "signed"]
WAYS = {"signed": ["sign"], "carried": ["proxy"], "mixed": ["sign", "token"]}
KEPT = "UNSIGNED-PAYLOAD"

Headers = Mapping[str, str]


class Told:
    """An answer, with the names of its headers in lower case."""

    def __init__(self, answer: http.client.HTTPResponse) -> None:
        self.status, self.reason = answer.status, answer.reason
        self.headers = {name.lower(): value for name, value in answer.getheaders()}
        self.body = answer.read()


class Site:
    """The machine, and what is around it."""

    def __init__(self, machine: Machine, aws: FakeAws, daemon: Daemon | None = None) -> None:
        self.machine, self.aws, self.gateway, self._daemon = machine, aws, machine.gateway, daemon
        self.calls = machine.gateway.calls

    @property
    def endpoint(self) -> str:
        return f"http://{self.machine.running()['calls']}"

    @property
    def host(self) -> str:
        return urlsplit(self.endpoint).netloc

    @property
    def held(self) -> int:
        """Bytes of bodies that the agent holds."""
        return self._endpoint._spool.held

    @property
    def idle(self) -> int:
        """Connections that are kept to where AWS is now."""
        return len(self._endpoint._relay.pool._idle.get(self.calls.origin, ()))

    @property
    def _endpoint(self) -> Endpoint:
        assert self._daemon
        assert self._daemon.calls._endpoint
        return self._daemon.calls._endpoint

    def key(self, grant: str = "signed") -> tuple[str, str, str]:
        """What a program is lent: access key id, secret, session token."""
        lent = self.machine.get(f"/v1/credentials/{grant}").json
        return lent["AccessKeyId"], lent["SecretAccessKey"], lent["Token"]

    def client(self, service: str = "s3", grant: str = "signed", **config: Any) -> Any:
        """A client of boto3 that never tries again."""
        key, secret, token = self.key(grant)
        return boto3.client(
            service, region_name=REGION, endpoint_url=self.endpoint,
            aws_access_key_id=key, aws_secret_access_key=secret, aws_session_token=token,
            config=Config(**{"retries": {"total_max_attempts": 1}, **config}),
        )  # fmt: skip

    def signed(
        self, method: str, target: str, headers: Headers | None = None, *, payload: str = sha256(b"").hexdigest(),
        grant: str = "signed", service: str = "s3", key: tuple[str, str, str | None] | None = None, **moved: float,
    ) -> dict[str, str]:  # fmt: skip
        """The headers of a request that is signed as an SDK does it, at a moment that may be `moved`."""
        key_id, secret, token = key or self.key(grant)
        stamp = (datetime.now(UTC) + timedelta(**moved)).strftime("%Y%m%dT%H%M%SZ")
        fields = [("host", self.host), *(headers or {}).items()]
        made = sigv4.sign(
            method, target, fields if "host" not in (headers or {}) else fields[1:], payload,
            access_key_id=key_id, secret=secret.encode(), token=token,
            scope=Scope(stamp[:8], REGION, service), stamp=stamp,
        )  # fmt: skip
        return dict(made)

    def send(self, method: str, target: str, headers: Headers, body: bytes = b"") -> Told:
        """Send exactly this; a Content-Length comes to it, if it has a body."""
        connection = http.client.HTTPConnection(self.host, timeout=10)
        try:
            connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
            for name, value in headers.items():
                connection.putheader(name, value.encode("latin-1"))
            if body and "transfer-encoding" not in headers:
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body or None)
            return Told(connection.getresponse())
        finally:
            connection.close()

    def reset(self) -> None:
        """As at the beginning, but for what is stored."""
        self.aws.asked.clear()
        self.calls.asked.clear()
        self.calls.way, self.calls.wants_body, self.calls.decide = (
            lambda _: "sign",
            lambda _: False,
            lambda _: None,
        )
        self.calls.origin = self.aws.origin


@pytest.fixture(scope="package")
def shared(tmp_path_factory: pytest.TempPathFactory, pki: Pki) -> Iterator[Site]:
    """One for all tests that do not change the agent."""
    with FakeAws() as aws, running(FakeGateway(pki)) as gateway, FakeMetadata().running() as metadata:
        machine = with_calls(Machine(tmp_path_factory.mktemp("site"), gateway, metadata), aws)
        yield Site(machine, aws, machine.agent())
        machine.close()


@pytest.fixture
def site(shared: Site) -> Site:
    shared.reset()
    return shared


@pytest.fixture
def aws() -> Iterator[FakeAws]:
    with FakeAws() as aws:
        yield aws


def with_calls(machine: Machine, aws: FakeAws) -> Machine:
    """The machine's profile has grants of every kind."""
    machine.gateway.grants = list(GRANTS)
    machine.gateway.calls.ways = dict(WAYS)
    machine.gateway.calls.origin = aws.origin
    machine.written["calls"] = "127.0.0.1:0"
    return machine
