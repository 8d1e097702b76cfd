"""Revocation: truth first, hints after.

One transaction cuts off all that is meant, and writes down the plan for the rest: a crash leaves everything revoked and
the plan to be resumed. Then each layer is carried, tried again where it fails, and its progress kept for the receipt.
"""

import logging
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as OutOfTime
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from gateway.core import fence
from gateway.core.audit import Event, Kind, Name
from gateway.core.errors import Refusal
from gateway.core.operator_model import PlanState, Revocation
from gateway.core.receipt import (
    DONE,
    GATEWAY,
    TRYING,
    UNSERVED,
    WAITING,
    advanced,
    counted,
    has_layer,
    layer_of,
    opened,
    receipt,
)
from gateway.core.revocation import Plan, Target, plan
from gateway.flows.journal import Call, Journal
from gateway.flows.layers import Layer
from gateway.flows.publish import ISSUER
from gateway.flows.revocation_layers import crl_number
from gateway.flows.revocation_targets import everything, find, find_instance
from gateway.ports import Clock, RandomBytes, Store, Transaction

__all__ = ["Order", "Revoke", "find_instance"]

log = logging.getLogger("trusted_gateway.revoke")

UNSERVED_LAYERS = {
    "ocsp": "this gateway answers no OCSP: who asks the CRL knows as much",
    "ssh": "this gateway issues no SSH certificates",
}
OF_KEYS = "key"
"""The layer that only the revocation of an upstream key has (flows.keys)."""
PATIENCE = timedelta(seconds=3)
"""How long a receipt waits for what is beyond the gateway; then it says that it is being tried."""
LATELY = timedelta(minutes=5)
_PAUSE = 0.02  # seconds between two looks
AT_ONCE = 4  # plans that one worker carries at the same time


@dataclass(frozen=True, slots=True)
class Order:
    """What to revoke. `operators_too` is for everything; `reason` is kept with it. `of_operators` says whether who asks
    may cut operators off: a certificate can be one's, too.
    """

    target: Target
    name: str = ""
    reason: str | None = None
    dry_run: bool = False
    operators_too: bool = False
    of_operators: bool = True


class Revoke:
    """POST /v1/revocations/…. Raises Refusal. `layers` are carried in this order; `listening` is for how many seconds a
    receipt waits for agents that hear of it.
    """

    def __init__(
        self,
        store: Store,
        journal: Journal,
        layers: Sequence[Layer],
        clock: Clock,
        random: RandomBytes,
        listening: float = 0.5,
    ) -> None:
        self._listening = listening
        self._store = store
        self._journal = journal
        self._layers = tuple(layers)
        self._clock = clock
        self._random = random
        self._pool = ThreadPoolExecutor(AT_ONCE, "revocation")

    def revoke(self, call: Call, order: Order) -> dict[str, Any]:
        """Cut it off, and give the receipt. Doing it twice does nothing more, and gives the first receipt again."""
        begun = self._clock()
        if order.dry_run:
            return self._planned(call, order, begun)
        row = self._journal.write(call, lambda tx: self._cut(tx, call, order, begun))
        return self.see_through(row)

    def see_through(self, row: Revocation) -> dict[str, Any]:
        """The receipt of a plan that has just been decided: its layers are carried, for as long as patience lasts."""
        row = self._note(row, GATEWAY, DONE, {})
        return receipt(self._carried(row), self._clock())

    def receipts(
        self, call: Call, *, after: str | None, limit: int, state: PlanState | None, kind: str | None
    ) -> list[dict[str, Any]]:
        """A page of receipts, the oldest first."""
        equal = {"state": state, "kind": kind}
        self._journal.allow(call)
        with self._store.read() as tx:
            rows = tx.revocations.find(
                after=after, limit=limit, **{key: value for key, value in equal.items() if value is not None}
            )
        return [receipt(row, self._clock()) for row in rows]

    def receipt(self, call: Call, revocation_id: str) -> dict[str, Any]:
        """One receipt, as it is now."""
        call.object = f"revocation/{revocation_id}"
        with self._store.read() as tx:
            row = tx.revocations.get(id=revocation_id)
        if row is None:
            raise Refusal("target_unknown", "There is no such revocation")
        self._journal.allow(call)
        return receipt(self._looked(row), self._clock())

    def resume(self) -> None:
        """Carry on with every plan that is not done: what a crash left, and what has to be tried again."""
        with self._store.read() as tx:
            rows = tx.revocations.find(state=PlanState.RUNNING)
        for row in rows:
            self.carry(row)

    def carry(self, row: Revocation) -> Revocation:
        """Go once through the layers that are not done. Whatever fails is kept in the row, and for the next time."""
        if layer_of(row, GATEWAY)["state"] != DONE:  # the worker ended right behind the transaction
            row = self._note(row, GATEWAY, DONE, {})
        for layer in self._left(row):
            row = self._carry(row, layer)
        return row

    def told_lately(self) -> frozenset[str]:
        """The ids of instances of which something was revoked within the last minutes: whom to wake, with room for
        clocks that differ.
        """
        since = self._clock() - LATELY
        with self._store.read() as tx:
            return frozenset(tx.instances.revoked_since(since)) | frozenset(tx.leases.revoked_since(since))

    def _left(self, row: Revocation) -> list[Layer]:
        return [
            layer for layer in self._layers if has_layer(row, layer.name) and layer_of(row, layer.name)["state"] != DONE
        ]

    def _carry(self, row: Revocation, layer: Layer) -> Revocation:
        try:
            progress = layer.carry(row)
        except Refusal as refusal:
            log.warning("revocation %s: %s: %s (%s)", row.id, layer.name, refusal, refusal.reason)
            return self._note(row, layer.name, TRYING, {}, refusal.reason)
        except Exception as error:  # whatever it is: it is cut off, and its operator must hear that
            log.warning("revocation %s: %s: %s", row.id, layer.name, type(error).__name__)
            return self._note(row, layer.name, TRYING, {}, type(error).__name__)
        waits = {"waits_for": progress.waits_for} if progress.waits_for else {}
        state = DONE if progress.done else WAITING if waits else TRYING
        return self._note(row, layer.name, state, {**progress.facts, **waits})

    def _looked(self, row: Revocation) -> Revocation:
        for layer in self._left(row):
            if layer.looks:
                row = self._carry(row, layer)
        return row

    def _found(self, tx: Transaction, call: Call, order: Order, now: datetime) -> Plan:
        if order.target is Target.EVERYTHING:
            asking = (call.subject or "").rpartition("/")[2]
            found = everything(tx, now, operators_but=asking if order.operators_too else None)
        else:
            named = order.name
            if order.target is Target.INSTANCE:
                named = find_instance(tx, named, call.sees).id.removeprefix("spiffe://").partition("/")[2]
            found = find(tx, order.target, named, now)
        if not order.of_operators and (found.operators or any(c.kind == "operator" for c in found.certificates)):
            raise Refusal("operator_forbidden", "You may not revoke operators", reason="permission_missing")
        call.object = found.name if order.target is Target.INSTANCE else f"{order.target}/{found.name}"
        return plan(found, call.subject or "", now)

    def _planned(self, call: Call, order: Order, now: datetime) -> dict[str, Any]:
        with self._store.read() as tx:
            made = self._row(tx, call, order, self._found(tx, call, order, now), now, now)
        self._journal.allow(call, dry_run=True, **counted(made.document))
        return receipt(made, now, dry_run=True)

    def _cut(self, tx: Transaction, call: Call, order: Order, begun: datetime) -> Revocation:
        now = self._clock()  # not `begun`: what was given while this transaction waited for its turn is meant, too
        done = self._found(tx, call, order, now)
        if not done.changes and (row := _told_already(tx, order, done)):
            tx.audit.append(call.event(Kind.DECISION, reason="revoked_already", revocation=row.id))
            return row
        row = self._row(tx, call, order, done, now, begun)
        machines = {after.id for _, after in done.instances}
        cuts = fence.cuts(row.id, row.kind, done.given, now, machines)
        if not (_swapped(tx, done) and tx.revocations.add(row) and all(tx.cuts.add(cut) for cut in cuts)):
            raise Refusal("conflict")
        why: dict[str, Any] = {"why": order.reason} if order.reason else {}
        tx.audit.append(call.event(Kind.DECISION, revocation=row.id, **why, **counted(row.document)))
        return row

    def _row(self, tx: Transaction, call: Call, order: Order, done: Plan, now: datetime, begun: datetime) -> Revocation:
        listed = any(after.issuer == ISSUER for _, after in done.certificates)
        facts = {"crl": crl_number(tx), "listed": listed, "reason": order.reason, "begun": begun.isoformat()}
        names = [layer.name for layer in self._layers if layer.name != OF_KEYS]
        document = opened(done, order.target, [*names, *UNSERVED_LAYERS], facts)
        made = Revocation(
            f"r-{now:%Y%m%dt%H%M%S}-{self._random(4).hex()}",
            order.target.value,
            done.name,
            call.subject or "",
            now,
            PlanState.RUNNING,
            document,
        )
        for name, why in UNSERVED_LAYERS.items():
            made = advanced(made, name, UNSERVED, {"why": why}, now)
        return made

    def _carried(self, row: Revocation) -> Revocation:
        """The row when its layers were carried once, or as it is when patience is over."""
        if row.state is PlanState.DONE:
            return row
        try:
            return self._pool.submit(self._followed, row).result(PATIENCE.total_seconds())
        except (OutOfTime, RuntimeError):  # the worker is stopping: another one resumes
            with self._store.read() as tx:
                return tx.revocations.get(id=row.id) or row

    def _followed(self, row: Revocation) -> Revocation:
        """Carried once, and looked at for a moment longer: what listens, hears of it within milliseconds."""
        row, ends = self.carry(row), time.monotonic() + self._listening
        while any(layer.looks for layer in self._left(row)) and time.monotonic() < ends:
            time.sleep(_PAUSE)
            row = self._looked(row)
        return row

    def _note(
        self, row: Revocation, layer: str, state: str, facts: dict[str, Any], problem: str | None = None
    ) -> Revocation:
        """Keep how far a layer is. When the store does not answer, it is noted the next time."""
        now = self._clock()

        def unit(tx: Transaction) -> Revocation:
            before = tx.revocations.get(id=row.id)
            if before is None or layer_of(before, layer)["state"] == DONE:  # another worker was faster
                return before or row
            after = advanced(before, layer, state, facts, now, problem)
            if after is before or not tx.revocations.swap(before, after):
                return before
            if layer_of(before, layer)["state"] != state:
                told = {"revocation": row.id, "layer": layer, "state": state, **facts}
                name = Name.GATEWAY_REVOCATION_CARRY
                tx.audit.append(
                    Event(Kind.FACT, name, True, state, self._random(16).hex(), object=row.name, facts=told)
                )
            return after

        if advanced(row, layer, state, facts, now, problem) is row:
            return row
        try:
            return self._store.write(unit)
        except Refusal as refusal:
            log.warning("revocation %s: not noted: %s (%s)", row.id, refusal, refusal.reason)
            return row


def _told_already(tx: Transaction, order: Order, done: Plan) -> Revocation | None:
    """The latest revocation of the same, if its receipt knows every session: one may have been on its way then."""
    earlier = tx.revocations.find(kind=order.target.value, name=done.name)
    row = max(earlier, key=lambda each: each.at, default=None)
    known = {each["lease"] for each in row.document["cut"]["sessions"]} if row else set()
    return row if all(after.id in known for _, after in done.leases) else None


def _swapped(tx: Transaction, done: Plan) -> bool:
    """Write the plan. False when a row is no longer as it was found."""
    return all(
        (
            tx.instances.swap_all(done.instances),
            tx.certificates.swap_all(done.certificates),
            tx.tickets.swap_all(done.tickets),
            tx.leases.swap_all(done.leases),
            tx.dummy_keys.swap_all(done.keys),
            tx.operators.swap_all(done.operators),
            tx.profiles.swap_all(done.profiles),
            tx.bearer_tokens.remove_all(done.tokens),
        )
    )
