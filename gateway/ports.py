"""The outside world on one page: what flows ask for, and adapters (or the tests' fakes) give."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol, TypeVar

from gateway.core.actions.actions_model import ServiceActions
from gateway.core.actions.service import ServiceModel
from gateway.core.attest.facts import InstanceFacts
from gateway.core.audit import Event, Head
from gateway.core.model import (
    BearerToken,
    Certificate,
    Crl,
    DummyKey,
    Flight,
    Instance,
    Lease,
    Meter,
    Nonce,
    Operator,
    Profile,
    ProfileVersion,
    SealRecord,
    Session,
    SessionRequest,
    Signer,
    Ticket,
    UpstreamKey,
)
from gateway.wire.secret import Secret

T = TypeVar("T")
R = TypeVar("R")


class Clock(Protocol):
    """The time."""

    def __call__(self) -> datetime: ...


class RandomBytes(Protocol):
    """Cryptographically strong random bytes."""

    def __call__(self, count: int, /) -> bytes: ...


class Rows(Protocol[R]):
    """The rows of one kind. Keys are given by field name; every row is a dataclass of `core.model`."""

    def get(self, **key: Any) -> R | None: ...

    def find(self, *, limit: int | None = None, after: str | None = None, **equal: Any) -> Sequence[R]:
        """Rows whose fields equal `equal`, by primary key; at most `limit`, those behind the key `after`."""

    def add(self, row: R) -> bool:
        """Insert; False (and nothing changed) when a row with this key exists."""

    def swap(self, old: R, new: R) -> bool:
        """Replace `old` by `new` if the row still is exactly `old`, else change nothing and return False."""

    def remove(self, row: R) -> bool:
        """Delete the row with this row's key; False when there is none."""


class Leases(Rows[Lease], Protocol):
    def live(self, instance: str, now: datetime) -> Sequence[Lease]:
        """The leases of an instance that AWS still honours at `now`."""

    def count_live(self, instance: str, now: datetime) -> int:
        """How many leases of an instance AWS still honours at `now`."""

    def newest(self, instance: str, plan_sha256: str, now: datetime) -> Lease | None:
        """The lease of this plan that lives longest at `now`, of those that hold their session."""

    def spent(self, now: datetime, limit: int) -> Sequence[Lease]:
        """At most `limit` leases that are over at `now` and still hold a sealed session."""


class Instances(Rows[Instance], Protocol):
    def revoked_since(self, moment: datetime) -> Sequence[str]:
        """The ids of the instances revoked at or after `moment`."""


class AuditLog(Protocol):
    """The audit records. `append` chains the event in the transaction that it is called in."""

    def append(self, event: Event) -> None: ...

    def lines(self, after: Mapping[str, int], limit: int) -> Sequence[tuple[str, int, str, str]]:
        """At most `limit` rows (chain, seq, line, hash) behind the positions of `after`, each chain in order."""

    def heads(self) -> Sequence[Head]: ...


class Transaction(Protocol):
    """One consistent view of the store; in a write, all of it happens or nothing."""

    seals: Rows[SealRecord]
    signers: Rows[Signer]
    upstream_keys: Rows[UpstreamKey]
    profiles: Rows[Profile]
    profile_versions: Rows[ProfileVersion]
    tickets: Rows[Ticket]
    instances: Instances
    certificates: Rows[Certificate]
    nonces: Rows[Nonce]
    leases: Leases
    flights: Rows[Flight]
    bearer_tokens: Rows[BearerToken]
    dummy_keys: Rows[DummyKey]
    meters: Rows[Meter]
    operators: Rows[Operator]
    crls: Rows[Crl]
    audit: AuditLog


class Store(Protocol):
    """The truth. Every failure of the engine is a Refusal `store_unavailable`, within 5 s; nothing is half done.

    `write` runs `unit` in a transaction, maybe together with those of other callers, and returns when it is durable.
    A unit that raises changes nothing, and its error reaches the caller. A clock that stands more than 60 s behind the
    latest audit record refuses every write (`clock_untrusted`).
    """

    def read(self) -> AbstractContextManager[Transaction]: ...

    def write(self, unit: Callable[[Transaction], T]) -> T: ...


class Vault(Protocol):
    """Seals and opens values under the master key (core.envelope).

    A value that does not open raises Refusal `internal_error` with the reason `sealed_value_altered`.
    """

    def seal(self, context: str, plain: Secret) -> bytes: ...

    def open(self, context: str, sealed: bytes) -> Secret: ...


@dataclass(frozen=True, slots=True)
class OpenableKey:
    """An upstream key as the adapters get it: they call `open` for each request that they sign, and keep nothing."""

    name: str
    access_key_id: str
    open: Callable[[], Secret]


class Cloud(Protocol):
    """What AWS says about machines (EC2 DescribeInstances) and about a key (STS GetCallerIdentity).

    Both raise Refusal: `upstream_unavailable` when AWS does not answer within the time limits, `upstream_refused` when
    it says no.
    """

    def instance(self, key: OpenableKey, region: str, instance_id: str) -> InstanceFacts | None: ...

    def account(self, key: OpenableKey) -> str: ...


class Upstream(Protocol):
    """Where sessions come from (STS AssumeRole and GetFederationToken). Raises Refusal as `Cloud` does."""

    def session(self, key: OpenableKey, request: SessionRequest) -> Session: ...


class Models(Protocol):
    """What botocore's models say of AWS's services, for the router."""

    def of(self, signing_name: str) -> Sequence[ServiceModel]:
        """Every service that signs by this name; none for a name that is not AWS's."""


class Catalog(Protocol):
    """Which IAM actions an operation takes, and on what (gateway/catalog)."""

    def of(self, service: str) -> ServiceActions:
        """By botocore's name of the service."""


class Endpoints(Protocol):
    """AWS's own addresses."""

    def hosts(self, service: str, region: str, operation: str | None = None) -> Sequence[str]:
        """The hosts of a service in a region, the usual one first. Without an operation, those of all of them.

        Raises Refusal `call_malformed`.
        """


class Throttle(Protocol):
    """Slows down who only fails. `check` raises Refusal `too_many_requests`."""

    def check(self, source: str) -> None: ...

    def failed(self, source: str) -> None: ...


class Moved(Protocol):
    """Tells whether the store may have changed since the last call: a hint that saves reading, never an authority."""

    def __call__(self) -> bool: ...
