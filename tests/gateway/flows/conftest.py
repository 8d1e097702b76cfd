"""A gateway without its edges: the flows on a real store, with a clock that a test sets and an AWS that it plays."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from certs import csr, keys
from certs.names import InstanceName, ServerNames
from certs.profiles import INSTANCE
from deploy.demo.cloud import prefix_policy
from gateway.adapters import clock
from gateway.adapters.seal_passphrase import MasterKey
from gateway.adapters.sql.migrate import migrate
from gateway.adapters.sql.store import SqlStore
from gateway.core.attest.facts import InstanceFacts
from gateway.core.audit import Name
from gateway.core.identity import Identity
from gateway.core.model import Certificate, Instance, InstanceState, Profile, SealRecord, Session, SessionRequest
from gateway.core.revocation import Target
from gateway.flows.initialize import Initialize
from gateway.flows.issue import Issue
from gateway.flows.journal import Call, Journal
from gateway.flows.layers import Layer
from gateway.flows.publish import Publish
from gateway.flows.revocation_layers import AgentsLayer, CrlLayer
from gateway.flows.revoke import Order, Revoke
from gateway.flows.server_identity import ServerIdentities
from gateway.flows.vault import SealedSessions, UpstreamKeys
from gateway.flows.vend import Vend
from gateway.ports import OpenableKey
from gateway.wire.secret import Secret

START = datetime(2030, 1, 1, 12, 0, 0, 250_000, tzinfo=UTC)
ACCOUNT, REGION = "111122223333", "us-east-1"
PROFILE: dict[str, Any] = {
    "name": "web",
    "grants": [
        {
            "name": "reports",
            "role": f"arn:aws:iam::{ACCOUNT}:role/reader",
            "region": REGION,
            "policy": prefix_policy("data", "reports/"),
        }
    ],
}


@dataclass
class Time:
    """`ports.Clock`."""

    now: datetime = START

    def __call__(self) -> datetime:
        return self.now

    def passes(self, time: timedelta) -> None:
        self.now += time


@dataclass
class Aws:
    """`ports.Cloud` and `ports.Upstream`: `ends` says when a session ends; `meanwhile` is done while it is made."""

    time: Time
    ends: Callable[[SessionRequest], datetime]
    meanwhile: Callable[[], object] = lambda: None
    asked: list[SessionRequest] = field(default_factory=list)

    def instance(self, key: OpenableKey, region: str, instance_id: str) -> InstanceFacts | None:
        return None

    def account(self, key: OpenableKey) -> str:
        return ACCOUNT

    def session(self, key: OpenableKey, request: SessionRequest) -> Session:
        self.asked.append(request)
        self.meanwhile()
        ends = self.ends(request).replace(microsecond=0)
        return Session(f"ASIA{len(self.asked)}", "a secret", "a token", ends, "arn:aws:sts::1:x", "AROA:x")


@dataclass
class Gateway:
    """The parts, and an instance to try them with."""

    store: SqlStore
    time: Time
    vault: MasterKey
    issue: Issue
    journal: Journal
    publish: Publish
    aws: Aws
    url: str

    def call(self, name: Name = Name.INSTANCE_CREDENTIALS_VEND) -> Call:
        return Call(name, clock.request_id(), "127.0.0.1")

    def enrolled(self, instance_id: str = "i-0123456789abcdef0", life: timedelta = timedelta(hours=24)) -> Identity:
        """An instance with a certificate, as enrolment leaves them."""
        made = self.certified(instance_id, life)
        row = Instance(
            made.subject, ACCOUNT, REGION, instance_id, "web", InstanceState.ENROLLED, made.key_sha256, self.time(), {}
        )
        assert self.store.write(lambda tx: tx.instances.add(row) and tx.certificates.add(made))
        return Identity(row, made)

    def certified(self, instance_id: str, life: timedelta = timedelta(hours=24)) -> Certificate:
        """A certificate for an instance of this id, with a key of its own, on no record yet."""
        name, key = InstanceName("td", ACCOUNT, REGION, instance_id), keys.generate()
        return self.issue.certificate("instances", INSTANCE, name, key.public_key(), self.time(), life)

    def vend(self) -> Vend:
        keys = UpstreamKeys(self.journal, self.vault, self.aws, self.time)
        sealed = SealedSessions(self.vault)
        return Vend(self.store, self.journal, keys, sealed, self.aws, self.time, clock.random_bytes)

    def revoking(self, publish: Publish | None = None, *more: Layer) -> Revoke:
        """The flow, with the layers that need nothing outside, and `more`."""
        layers: tuple[Layer, ...] = (
            CrlLayer(self.store, publish or self.publish),
            AgentsLayer(self.store, self.time),
            *more,
        )
        return Revoke(self.store, self.journal, layers, self.time, clock.random_bytes, 0)

    def revoke(self, name: str, target: Target = Target.INSTANCE, **how: Any) -> dict[str, Any]:
        """Revoke, as alice does."""
        with self.journal.call(Name(f"operator:{target}:revoke"), clock.request_id(), "127.0.0.1") as call:
            call.subject = "spiffe://td/operator/alice"
            return self.revoking().revoke(call, Order(target, name, **how))

    def identities(self, *names: str) -> ServerIdentities:
        return ServerIdentities(
            self.store, self.vault, self.issue, self.time, clock.random_bytes, ServerNames.parse(*names), "node-1"
        )

    def certificate(self, serial: str) -> Certificate | None:
        with self.store.read() as tx:
            return tx.certificates.get(serial=serial)

    def records(self) -> list[dict[str, Any]]:
        with self.store.read() as tx:
            return [json.loads(line) for _, _, line, _ in tx.audit.lines({}, 1000)]


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    url = f"sqlite:///{tmp_path / 'store' / 'gateway.db'}"
    migrate(url)
    time = Time()
    store = SqlStore(url, "test", time)
    vault = MasterKey(Secret(clock.random_bytes(32)), clock.random_bytes)
    journal = Journal(store)
    issue = Issue(store, vault, clock.random_bytes, "http://gateway.example/crl/instances.crl")
    aws = Aws(time, lambda request: time() + request.duration)
    made = Gateway(store, time, vault, issue, journal, Publish(store, issue, time, clock.random_bytes), aws, url)
    seal = SealRecord("master", "passphrase", {}, b"")
    Initialize(journal, vault, time, clock.random_bytes).run(
        made.call(Name.OPERATOR_GATEWAY_INITIALIZE), seal, "td", "alice", csr.make(keys.generate())
    )
    UpstreamKeys(journal, vault, aws, time).take_in(
        made.call(Name.OPERATOR_KEY_IMPORT), "main", "AKIAIOSFODNN7EXAMPLE", Secret("double-secret"), "alice"
    )
    assert store.write(lambda tx: tx.profiles.add(Profile("web", 1, PROFILE, time(), "alice")))
    yield made
    store.close()
