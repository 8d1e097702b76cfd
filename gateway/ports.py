"""The outside world on one page: what flows ask for, and adapters (or the tests' fakes) give."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol, TypeVar

from gateway.core import model, operator_model
from gateway.core.actions.actions_model import ServiceActions
from gateway.core.actions.service import ServiceModel
from gateway.core.attest.facts import InstanceFacts
from gateway.core.audit import Event, Head, Place, Wanted
from gateway.core.audit_formats import Outgoing
from gateway.core.servers import Done, Machine, MachineOrder, Output, Suspicion, Verb
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

    def count(self, **equal: Any) -> int:
        """How many rows `find` would find."""

    def add(self, row: R) -> bool:
        """Insert; False (and nothing changed) when a row with this key exists."""

    def swap(self, old: R, new: R) -> bool:
        """Replace `old` by `new` if the row still is exactly `old`, else change nothing and return False."""

    def swap_all(self, pairs: Sequence[tuple[R, R]]) -> bool:
        """`swap` each; False when one of them was not as it was found: then some may have been replaced."""

    def remove(self, row: R) -> bool:
        """Delete the row with this row's key; False when there is none."""

    def remove_all(self, rows: Sequence[R]) -> bool:
        """`remove` each; False when one of them was not there: then some may have been deleted."""


class Leases(Rows[model.Lease], Protocol):
    def live(self, instance: str, now: datetime) -> Sequence[model.Lease]:
        """The leases of an instance that AWS still honours at `now`."""

    def find_live(
        self,
        now: datetime,
        *,
        revoked_too: bool = False,
        limit: int | None = None,
        after: str | None = None,
        **equal: Any,
    ) -> Sequence[model.Lease]:
        """As `find`, of those that AWS still honours at `now` and that were not revoked, or of these, too."""

    def count_live(self, instance: str, now: datetime) -> int:
        """How many leases of an instance AWS still honours at `now`."""

    def newest(self, instance: str, plan_sha256: str, now: datetime) -> model.Lease | None:
        """The lease of this plan that lives longest at `now`, of those that hold their session."""

    def revoked_since(self, moment: datetime) -> Sequence[str]:
        """The ids of the instances of which a lease was revoked at or after `moment`."""

    def revoked(self, instance: str, now: datetime) -> Sequence[str]:
        """The ids of the leases of an instance that were revoked, and would live at `now`."""

    def spent(self, now: datetime, limit: int) -> Sequence[model.Lease]:
        """At most `limit` leases that are over at `now` and still hold a sealed session."""


class Certificates(Rows[model.Certificate], Protocol):
    def count_in_force(self, kind: str, now: datetime) -> int:
        """How many active certificates of this kind have not run out at `now`."""


class Instances(Rows[model.Instance], Protocol):
    def revoked_since(self, moment: datetime) -> Sequence[str]:
        """The ids of the instances revoked at or after `moment`."""


class AuditLog(Protocol):
    """The audit records. `append` chains the event in the transaction that it is called in."""

    def append(self, event: Event) -> None: ...

    def lines(self, after: Mapping[str, int], limit: int) -> Sequence[tuple[str, int, str, str]]:
        """At most `limit` rows (chain, seq, line, hash) behind the positions of `after`, each chain in order."""

    def heads(self) -> Sequence[Head]: ...

    def rows(self, chain: str, after: int, limit: int) -> Sequence[tuple[int, str, str]]:
        """At most `limit` rows (seq, line, hash) of one chain behind `after`, in order."""

    def hashes(self, chain: str, after: int, limit: int) -> Sequence[tuple[int, str]]:
        """At most `limit` pairs (seq, hash) of a chain behind `after`, in order."""

    def search(self, wanted: Wanted, limit: int) -> Sequence[tuple[Place, str]]:
        """At most `limit` lines, oldest first, with where each is."""

    def forget(self, chain: str, through: int, limit: int) -> int:
        """Delete at most `limit` of the oldest records of a chain, none behind `through`; how many there were."""


class Transaction(Protocol):
    """One consistent view of the store; in a write, all of it happens or nothing."""

    seals: Rows[model.SealRecord]
    signers: Rows[model.Signer]
    upstream_keys: Rows[model.UpstreamKey]
    profiles: Rows[model.Profile]
    profile_versions: Rows[model.ProfileVersion]
    tickets: Rows[model.Ticket]
    instances: Instances
    certificates: Certificates
    nonces: Rows[model.Nonce]
    leases: Leases
    flights: Rows[model.Flight]
    bearer_tokens: Rows[model.BearerToken]
    dummy_keys: Rows[model.DummyKey]
    meters: Rows[model.Meter]
    operators: Rows[operator_model.Operator]
    roles: Rows[operator_model.Role]
    approvals: Rows[operator_model.Approval]
    answers: Rows[operator_model.KeptAnswer]
    revocations: Rows[operator_model.Revocation]
    cuts: Rows[operator_model.Cut]
    fences: Rows[operator_model.Fence]
    rotations: Rows[operator_model.Rotation]
    launches: Rows[operator_model.Launch]
    checkpoints: Rows[operator_model.Checkpoint]
    findings: Rows[operator_model.Finding]
    cursors: Rows[operator_model.Cursor]
    crls: Rows[model.Crl]
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

    def session(self, key: OpenableKey, request: model.SessionRequest) -> model.Session: ...


class Machines(Protocol):
    """The machines of an account, in a region (EC2). Raises Refusal as `Cloud` does."""

    def all(self, key: OpenableKey, region: str) -> Sequence[Machine]:
        """Every one that AWS knows, in no order."""

    def one(self, key: OpenableKey, region: str, instance_id: str) -> Machine | None: ...

    def run(self, key: OpenableKey, order: MachineOrder) -> tuple[Machine, str]:
        """The machine that was launched for this order, now or before, and AWS's number of the request."""

    def change(self, key: OpenableKey, region: str, instance_id: str, verb: Verb) -> Done: ...

    def output(self, key: OpenableKey, region: str, instance_id: str) -> Output:
        """What it wrote to its console, as AWS has it."""


class SecretDetector(Protocol):
    """Finds what looks like a secret in a text, by line and kind."""

    def __call__(self, text: str) -> Sequence[Suspicion]: ...


class Policies(Protocol):
    """A customer managed policy at IAM, and to whom it is attached. `caller` is who asks. Raises Refusal as `Cloud`."""

    def document(self, caller: OpenableKey, arn: str) -> str | None:
        """The text of the version that is in force; None when there is no such policy."""

    def put(self, caller: OpenableKey, arn: str, document: str) -> None:
        """Have this version in force: a new policy, or a version for which the oldest makes room."""

    def attached(self, caller: OpenableKey, arn: str) -> frozenset[str]:
        """To whom: `role/<name>`, `user/<name>`."""

    def attach(self, caller: OpenableKey, arn: str, to: str) -> bool:
        """False when there is no such role or user (any more)."""

    def detach(self, caller: OpenableKey, arn: str, of: str) -> None: ...


class AccessKeys(Protocol):
    """The access keys of an IAM user. Raises Refusal as `Cloud`."""

    def user(self, caller: OpenableKey, access_key_id: str) -> str:
        """The name of the user whose key this is."""

    def last_used(self, caller: OpenableKey, access_key_id: str) -> datetime | None:
        """As AWS has noticed so far, which may be minutes ago."""

    def ids(self, caller: OpenableKey, user: str) -> Sequence[str]:
        """Every access key of the user."""

    def create(self, caller: OpenableKey, user: str) -> tuple[str, Secret]:
        """A second key: its id, and its secret, which AWS tells this once."""

    def deactivate(self, caller: OpenableKey, user: str, access_key_id: str) -> None:
        """One that is gone already is no error."""

    def delete(self, caller: OpenableKey, user: str, access_key_id: str) -> None:
        """One that is gone already is no error."""


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


class Sink(Protocol):
    """Somewhere outside, to which the audit log is sent too. It bounds how long it waits."""

    def deliver(self, batch: Sequence[Outgoing]) -> None:
        """Hand over, and return when that is as sure as it can be. Raises `core.sinks.SinkFailed`."""

    def close(self) -> None:
        """Let go; the next delivery opens it again."""


class Metrics(Protocol):
    """What is counted, by the names of `core.metrics`, each with the values of its labels. From any thread."""

    def count(self, name: str, *labels: str, by: float = 1) -> None: ...

    def observe(self, name: str, value: float, *labels: str) -> None: ...

    def gauge(self, name: str, value: float, *labels: str) -> None: ...


class ArchivePlace(Protocol):
    """Where records of the audit log go that the store no longer keeps. Raises Refusal `archive_unusable`."""

    def held(self) -> AbstractContextManager[None]:
        """Have the place to oneself. Refused while another process has it."""

    def write(self, name: str, rows: Iterable[tuple[str, str]]) -> None:
        """A file of rows (line, hash); it is whole and durable when this returns, or not there."""

    def conclude(self, number: int, manifest: Mapping[str, Any]) -> None:
        """The manifest of a checkpoint, which makes its files count."""

    def withdraw(self, number: int) -> None:
        """Remove the manifests behind this checkpoint: what they announced did not come about."""

    def manifests(self) -> Sequence[Mapping[str, Any]]:
        """All of them, the oldest first."""

    def rows(self, name: str) -> Iterator[tuple[str, str]]:
        """What is in a file."""


class Throttle(Protocol):
    """Slows down who only fails. `check` raises Refusal `too_many_requests`."""

    def check(self, source: str) -> None: ...

    def failed(self, source: str) -> None: ...


class Attempts(Protocol):
    """Slows down who only fails, at a door that stays open for everyone else. `failed` counts, and raises Refusal
    `too_many_requests` when this source, this account, or all together failed too often.
    """

    def failed(self, source: str | None, account: str | None = None) -> None: ...


class Tokens(Protocol):
    """The tokens of the OpenID provider."""

    def verify(self, token: str) -> Mapping[str, Any]:
        """The claims of a token that the provider signed, for us, and whose time it is.

        Raises Refusal: `sign_in_refused`, or `provider_unavailable` when its keys cannot be had.
        """


class Pace(Protocol):
    """Slows down who asks too often. `take` raises Refusal `too_many_requests`."""

    def take(self, who: str) -> None: ...


class Moved(Protocol):
    """Tells whether the store may have changed since the last call: a hint that saves reading, never an authority."""

    def __call__(self) -> bool: ...
