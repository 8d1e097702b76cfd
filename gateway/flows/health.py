"""Health and readiness that tell the truth: each check tries what requests depend on, and says what it found.

The store is written to, not read: a store that can only be read serves nobody. What can be told from memory is told
anew each time; what costs something is asked again after a few seconds.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import IntEnum
from threading import Lock

from cryptography import x509

from gateway.core import checkpoint
from gateway.core.errors import Refusal
from gateway.core.operator_model import Cursor, PlanState
from gateway.core.reconcile import Found
from gateway.core.sinks import Lag, SinkRules
from gateway.flows.checkpoint import latest
from gateway.flows.publish import EVERY, ISSUER
from gateway.ports import Clock, Metrics, Store, Transaction, Vault
from gateway.wire.messages import instant
from gateway.wire.secret import Secret

log = logging.getLogger("trusted_gateway.health")

AFRESH = timedelta(seconds=3)
"""For how long an answer is given again: whoever asks often shall not write often."""
SERVER_SOON, ISSUER_SOON = timedelta(days=14), timedelta(days=180)
DISK_LOW, DISK_EMPTY = 512 * 1024**2, 32 * 1024**2
SINK_SLOW = timedelta(seconds=60)
_OURS = ("root", "instances", "services")


class State(IntEnum):
    """A degraded gateway serves, and needs somebody to look; a failing one is not ready."""

    GOOD = 0
    DEGRADED = 1
    FAILING = 2


@dataclass(frozen=True, slots=True)
class Check:
    """What one check found. `says` is for people, and holds no secret and no name of anyone's."""

    state: State
    says: str


GOOD = Check(State.GOOD, "ok")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What health asks of the world outside the store."""

    disk_free: Callable[[], int]
    sinks: Callable[[], Mapping[str, tuple[SinkRules, Lag]]]
    aws_shut: Callable[[], int]


class Health:
    """Of one worker of a node."""

    def __init__(
        self,
        store: Store,
        vault: Vault,
        clock: Clock,
        metrics: Metrics,
        around: Surroundings,
        node: str,
        worker: str,
        checkpoint_every: timedelta,
    ) -> None:
        self._store = store
        self._vault = vault
        self._clock = clock
        self._metrics = metrics
        self._around = around
        self._worker = worker
        self._cursor = f"health/{node}.{worker}"
        node_signer = f"server.{node}"
        self._signers = (*_OURS, node_signer)
        self._checkpoint_every = checkpoint_every
        self._due_behind: tuple[str | None, datetime] | None = None  # the latest checkpoint, and since when one is due
        self._lock = Lock()
        self._at: datetime | None = None
        self._found: Mapping[str, Check] = {}

    def checks(self) -> Mapping[str, Check]:
        """What each check found, at most some seconds ago. Sets the metrics that tell the same."""
        with self._lock:
            now = self._clock()
            if self._at is None or not timedelta(0) <= now - self._at < AFRESH:
                self._found, self._at = self._look(now), now
            return self._found

    def _look(self, now: datetime) -> Mapping[str, Check]:
        found = {"store": self._written(now), "seal": self._sealed()}
        found["clock"] = GOOD
        if found["store"].says == "clock_untrusted":
            found["clock"] = Check(State.FAILING, "more than 60 s behind the audit log")
        try:
            with self._store.read() as tx:
                found |= {"crl": self._crl(tx, now), "certificates": self._certificates(tx, now)}
                found["checkpoints"] = self._checkpoints(tx, now)
                self._count(tx, now)
        except Refusal as refusal:
            found |= dict.fromkeys(
                ("crl", "certificates", "checkpoints"), Check(State.DEGRADED, f"unknown: {refusal.code}")
            )
        found |= {"disk": self._disk(), "sinks": self._sinks(now), "aws": self._aws()}
        for name, check in found.items():
            self._metrics.gauge("health", check.state, name)
        return found

    def _written(self, now: datetime) -> Check:
        def unit(tx: Transaction) -> None:
            before = tx.cursors.get(name=self._cursor)
            after = Cursor(self._cursor, {}, now)
            tx.cursors.swap(before, after) if before else tx.cursors.add(after)

        try:
            self._store.write(unit)
        except Refusal as refusal:
            return Check(State.FAILING, refusal.code)
        return GOOD

    def _sealed(self) -> Check:
        """Whether what this process seals, it can open again: the master key is in memory, and whole."""
        try:
            with self._vault.open("health", self._vault.seal("health", Secret(b"health"))) as plain:
                return GOOD if plain == b"health" else Check(State.FAILING, "a sealed value opens as another")
        except Refusal as refusal:
            return Check(State.FAILING, refusal.code)

    def _crl(self, tx: Transaction, now: datetime) -> Check:
        """Degraded when two lists in a row were not made, which is long before the latest is over."""
        crl = tx.crls.get(issuer=ISSUER)
        if crl is None:
            return Check(State.FAILING, "none was ever made")
        age, left = now - crl.this_update, crl.next_update - now
        self._metrics.gauge("crl_age_seconds", age.total_seconds())
        self._metrics.gauge("crl_next_update_seconds", left.total_seconds())
        if left <= timedelta(0):
            return Check(State.FAILING, f"over since {instant(crl.next_update)}")
        if age >= 2 * EVERY:
            return Check(State.DEGRADED, f"due for {int(age / EVERY)} h, good until {instant(crl.next_update)}")
        return GOOD

    def _certificates(self, tx: Transaction, now: datetime) -> Check:
        found = GOOD
        for name in self._signers:
            signer = tx.signers.get(name=name)
            label = name.partition(".")[0]
            if signer is None:
                found = Check(State.FAILING, f"{label} is missing")
                continue
            ends = x509.load_der_x509_certificate(signer.certificate).not_valid_after_utc
            self._metrics.gauge("certificate_ends_seconds", (ends - now).total_seconds(), label)
            soon = ISSUER_SOON if name in _OURS else SERVER_SOON
            state = State.FAILING if ends <= now else State.DEGRADED if ends - now < soon else State.GOOD
            if state > found.state:
                found = Check(state, f"{label} ends {instant(ends.replace(microsecond=0))}")
        return found

    def _checkpoints(self, tx: Transaction, now: datetime) -> Check:
        """Degraded when one is due for as long as lies between two: none can be made, or the log is broken."""
        last = latest(tx)
        if not checkpoint.due(last, sum(head.seq for head in tx.audit.heads()), now, self._checkpoint_every):
            self._due_behind = None
            return GOOD
        behind = last.id if last else None
        if self._due_behind is None or self._due_behind[0] != behind:
            self._due_behind = behind, now
        if now - self._due_behind[1] < self._checkpoint_every:
            return GOOD
        return Check(State.DEGRADED, f"none since {instant(last.at) if last else 'the beginning'}")

    def _count(self, tx: Transaction, now: datetime) -> None:
        running = len(tx.revocations.find(state=PlanState.RUNNING))
        self._metrics.gauge("revocations_running", running)
        for kind in Found:
            self._metrics.gauge("findings", tx.findings.count(kind=kind), kind)
        self._metrics.gauge("cuts_live", sum(cut.until > now for cut in tx.cuts.find()))

    def _disk(self) -> Check:
        try:
            free = self._around.disk_free()
        except OSError as error:
            return Check(State.DEGRADED, f"unknown: {error.strerror}")
        self._metrics.gauge("disk_free_bytes", free)
        if free >= DISK_LOW:
            return GOOD
        return Check(State.FAILING if free < DISK_EMPTY else State.DEGRADED, f"{free // 1024**2} MiB are free")

    def _sinks(self, now: datetime) -> Check:
        found = GOOD
        for name, (rules, lag) in self._around.sinks().items():
            age = lag.age(now)
            self._metrics.gauge("audit_sink_behind_records", lag.records, name)
            self._metrics.gauge("audit_sink_behind_seconds", age.total_seconds(), name)
            self._metrics.gauge("audit_sink_failing", lag.fault is not None, name)
            slow = age > min(SINK_SLOW, rules.within)
            state = State.FAILING if rules.required and age > rules.within else State.DEGRADED
            if (slow or lag.fault) and state > found.state:
                why = lag.fault or "slow"
                found = Check(state, f"{name}: {why}, {lag.records} records behind, {int(age.total_seconds())} s")
        return found

    def _aws(self) -> Check:
        """For information: what was vended goes on, and who asks is told."""
        shut = self._around.aws_shut()
        self._metrics.gauge("aws_breakers_open", shut, self._worker)
        return Check(State.DEGRADED, f"{shut} endpoint(s) do not answer") if shut else GOOD
