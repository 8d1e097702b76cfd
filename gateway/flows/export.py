"""The audit log on its way out: one pump for each sink, and in one worker at a time. At least once, never less.

The log in the store stays the truth. A pump reads on from where the sink's cursor stands, delivers, and only then moves
the cursor: killed in between, it delivers again, and the record's hash tells that it is the same one. A sink that hangs
or is gone holds up nothing but its own pump; how far it is behind is told, and where the settings demand it, nothing is
given to anyone until it has caught up, but what it takes to cut off (`core.sinks`).
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import groupby
from threading import Event as Flag
from threading import Thread

from gateway.core.audit import Event, Kind, Name
from gateway.core.audit_formats import moment, outgoing
from gateway.core.errors import Refusal
from gateway.core.operator_model import Cursor
from gateway.core.sinks import TURN, Lag, Position, SinkFailed, SinkKind, SinkRules, demand_export
from gateway.ports import Clock, RandomBytes, Sink, Store, Transaction

log = logging.getLogger("trusted_gateway.export")

Row = tuple[str, int, str, str]
SINK = "sink/"
"""What the names of the sinks' cursors begin with."""
BATCH = 1000  # records
REST = 1.0  # seconds between two looks at a log in which nothing is new
PAUSE = 5.0  # seconds after a failure


class Pump:
    """One sink. `worker` names this process, and its successor after a crash: it takes over the turn at once."""

    def __init__(
        self, rules: SinkRules, sink: Sink, store: Store, clock: Clock, random: RandomBytes, worker: str
    ) -> None:
        self.rules = rules
        self.lag = Lag()
        self._sink = sink
        self._store = store
        self._clock = clock
        self._random = random
        self._worker = worker
        self._heard = clock()  # when `lag` was last known

    def step(self) -> bool:
        """Deliver a batch, if there is one and it is this worker's turn. True: look again at once.

        Raises SinkFailed when the sink did not take it, and Refusal.
        """
        cursor, rows, waiting, since = self._look()
        now = self._clock()
        position = Position.of(cursor.positions) if cursor else Position({})
        self.lag = Lag(waiting, since, position.fault)
        self._heard = now
        if not rows or not position.is_free(self._worker, now):
            return False
        mine = position
        if position.owner != self._worker or position.until is None or now + TURN / 2 > position.until:
            mine = replace(position, owner=self._worker, until=now + TURN)
            if not (cursor := self._move(cursor, mine)):
                return False
        for part in self._parts(rows):
            try:
                self._sink.deliver([outgoing(row, self.rules.form) for row in part])
            except SinkFailed as failed:
                self.lag = replace(self.lag, fault=failed.reason)
                self._say(cursor, replace(mine, fault=failed.reason), failed.reason)
                raise
            delivered = {**mine.delivered, **{chain: seq for chain, seq, _, _ in part}}
            done = Position(delivered, self._worker, self._clock() + TURN)
            cursor = self._say(cursor, done, None) if mine.fault else self._move(cursor, done)
            waiting = max(waiting - len(part), 0)
            self.lag = Lag(waiting, since if waiting else None)
            if cursor is None:  # it is another's turn by now
                break
            mine = done
        return True

    def demand(self, event: str) -> None:
        """Raises Refusal `audit_behind`. A pump that has not heard from the store for as long is behind, too."""
        now = self._clock()
        known = self.lag if self.lag.since else replace(self.lag, since=self._heard)
        demand_export(self.rules, known, now, event)

    def _parts(self, rows: Sequence[Row]) -> Sequence[Sequence[Row]]:
        """What goes to the sink at once. A bucket takes an object for each chain, one after the other, and all of them
        together may take longer than a turn.
        """
        if self.rules.kind is not SinkKind.S3:
            return [rows]
        return [list(part) for _, part in groupby(rows, key=lambda row: row[0])]

    @property
    def _name(self) -> str:
        return SINK + self.rules.name

    def _look(self) -> tuple[Cursor | None, Sequence[Row], int, datetime | None]:
        """The cursor, what to deliver next, how many records wait, and since when the oldest does."""
        with self._store.read() as tx:
            cursor = tx.cursors.get(name=self._name)
            delivered = Position.of(cursor.positions).delivered if cursor else {}
            heads = {head.chain: head.seq for head in tx.audit.heads()}
            behind = {chain: seq - delivered.get(chain, 0) for chain, seq in heads.items()}
            waiting = sum(behind.values())
            if waiting <= 0:
                return cursor, (), 0, None
            rows = tx.audit.lines(delivered, BATCH)
            if not rows:  # what the heads count was archived before this sink was there
                return cursor, (), 0, None
            firsts = [tx.audit.rows(chain, delivered.get(chain, 0), 1) for chain, count in behind.items() if count > 0]
        ages = [moment(line) for first in firsts for _, line, _ in first]
        return cursor, rows, waiting, min(ages, default=None)

    def _move(self, old: Cursor | None, position: Position, event: Event | None = None) -> Cursor | None:
        """Compare and swap: None when another worker was quicker, who will deliver the same again at worst."""
        new = Cursor(self._name, position.written(), self._clock())

        def unit(tx: Transaction) -> bool:
            moved = tx.cursors.swap(old, new) if old else tx.cursors.add(new)
            if moved and event:
                tx.audit.append(event)
            return moved

        return new if self._store.write(unit) else None

    def _say(self, old: Cursor | None, position: Position, fault: str | None) -> Cursor | None:
        """Move, and put on record that the sink began to fail, or ceased to: not each failure: that adds to it."""
        if old and Position.of(old.positions).fault == fault:
            return old
        facts = {"sink": self.rules.name, "behind": self.lag.records}
        request_id = self._random(16).hex()
        event = Event(
            Kind.FACT, Name.GATEWAY_AUDIT_EXPORT, fault is None, fault or "recovered", request_id, facts=facts
        )
        return self._move(old, position, event)


class Export:
    """All pumps of a worker, a thread each."""

    def __init__(self, pumps: Sequence[Pump]) -> None:
        self._pumps = pumps
        self._stopping = Flag()

    def start(self) -> None:
        """In the worker, after the fork."""
        for pump in self._pumps:
            name = f"export-{pump.rules.name}"
            Thread(target=self._run, args=(pump,), name=name, daemon=True).start()

    def stop(self) -> None:
        """No batch begins after this."""
        self._stopping.set()

    def lags(self) -> Mapping[str, tuple[SinkRules, Lag]]:
        """How far each sink is behind, as this worker knows it."""
        return {pump.rules.name: (pump.rules, pump.lag) for pump in self._pumps}

    def demand(self, event: str) -> None:
        """Raises Refusal `audit_behind` when a sink that is required is too far behind."""
        for pump in self._pumps:
            pump.demand(event)

    def _run(self, pump: Pump) -> None:
        failing = False
        while not self._stopping.is_set():
            pause = REST
            try:
                if pump.step():
                    pause = 0.0
                failing = False
            except SinkFailed as failed:
                if not failing:
                    log.warning("sink %s: %s", pump.rules.name, failed)
                failing, pause = True, PAUSE
            except Refusal as refusal:
                log.warning("sink %s: %s (%s)", pump.rules.name, refusal, refusal.reason)
                pause = PAUSE
            except Exception as error:  # its thread must not end: nobody would start another
                log.exception("sink %s: %s", pump.rules.name, type(error).__name__)
                pause = PAUSE
            if pause:
                self._stopping.wait(pause)
