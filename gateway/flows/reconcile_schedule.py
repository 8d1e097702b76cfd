"""The scheduled run of a reconciliation: one worker at a time, from where the run before ended."""

import logging
from datetime import datetime, timedelta
from typing import Any

from gateway.core.audit import Event, Kind, Name
from gateway.core.errors import Refusal
from gateway.core.operator_model import Cursor
from gateway.core.reconcile_document import Schedule
from gateway.flows.pruning import Pruning
from gateway.flows.reconcile import Order, Reconcile, Report
from gateway.flows.turn import Turns
from gateway.ports import Clock, RandomBytes, Store, Transaction

log = logging.getLogger("trusted_gateway.reconcile")

LATE = timedelta(minutes=30)
"""How far back each run looks again: AWS delivers within about 5 minutes, on average."""
SETTLES = timedelta(minutes=1)
"""What is younger is left to the next run: files of the same second may still be on their way."""
FIRST = timedelta(hours=1)
"""How far back the first run looks."""
BUDGET = 40  # portions of one run, which goes on at the next tick
LONGEST = timedelta(minutes=1)
_CURSOR = "reconcile"


class ReconcileSchedule:
    """A chore of housekeeping. Leases that ended more than `keep` ago are forgotten."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        random: RandomBytes,
        reconcile: Reconcile,
        schedule: Schedule | None,
        keep: timedelta,
    ) -> None:
        self._store = store
        self._clock = clock
        self._random = random
        self._reconcile = reconcile
        self._schedule = schedule
        # Leases whose events nobody will see any more.
        self._leases = Pruning(lambda tx: tx.leases, "id", lambda row, now: row.expires_at < now - keep)
        self._turns = Turns(store, clock, random)

    def tick(self) -> None:
        """The scheduled run, when it is due and nobody else is at it; and leases that nobody needs any more."""
        schedule, now = self._schedule, self._clock()
        self._leases.tick(self._store, now)
        if schedule is None:
            return
        if self._due(schedule, now) is None:
            return
        try:
            with self._turns.of("reconcile"):
                if due := self._due(schedule, now):  # or somebody was faster
                    self._run(schedule, *due, now)
        except Refusal as refusal:
            if refusal.reason != "turn_taken":
                raise

    def _due(self, schedule: Schedule, now: datetime) -> tuple[Cursor | None, dict[str, Any]] | None:
        """Where it stands, and what to read, if there is anything to do."""
        with self._store.read() as tx:
            cursor = tx.cursors.get(name=_CURSOR)
        at = dict(cursor.positions) if cursor else {}
        if at.get("after"):
            return cursor, at
        if cursor and now < cursor.at + schedule.every:
            return None
        before = datetime.fromisoformat(at["until"]) - LATE if at else now - FIRST
        return cursor, {"since": before.isoformat(), "until": (now - SETTLES).isoformat(), "after": None}

    def _run(self, schedule: Schedule, cursor: Cursor | None, at: dict[str, Any], now: datetime) -> None:
        report = Report()
        for _ in range(BUDGET):
            since, until = (datetime.fromisoformat(at[name]) for name in ("since", "until"))
            order = Order(schedule.trail, schedule.upstream, (), since, until, at["after"])
            at["after"] = self._reconcile.portion(report, order)
            if at["after"] is None or self._clock() > now + LONGEST:
                break
        if at["after"] is None:
            self._reconcile.look(report)
        about, facts = f"trail/{schedule.trail}", report.facts()
        request_id = self._random(16).hex()
        said = Event(Kind.FACT, Name.GATEWAY_USE_FIND, True, "reconciled", request_id, object=about, facts=facts)
        after = Cursor(_CURSOR, at, now)

        def unit(tx: Transaction) -> None:
            if not (tx.cursors.swap(cursor, after) if cursor else tx.cursors.add(after)):
                raise Refusal("conflict")
            tx.audit.append(said)

        self._store.write(unit)
        if not report.tally.events:
            log.warning("reconcile: %s had no event at all in it", schedule.trail)
