"""What must happen without being asked. Every worker ticks; the store's compare-and-swap lets one of them win."""

import logging
from collections.abc import Callable
from dataclasses import replace

from gateway.core.errors import Refusal
from gateway.flows.approve import KEPT
from gateway.flows.dummy_keys import REMEMBERED
from gateway.flows.pruning import Pruning
from gateway.flows.publish import Publish
from gateway.ports import Clock, Store

log = logging.getLogger("trusted_gateway.housekeeping")

BATCH = 500  # leases at a time


class Housekeeping:
    """One `tick` does all that is due, `chores` after the rest. A failure is logged and tried again at the next."""

    def __init__(self, publish: Publish, store: Store, clock: Clock, *chores: Callable[[], object]) -> None:
        self._publish = publish
        self._store = store
        self._clock = clock
        self._chores = chores
        self._prunings = (
            Pruning(lambda tx: tx.bearer_tokens, "sha256", lambda row, now: row.expires_at <= now),
            # Who shows one that is over is noticed, so these are known for longer.
            Pruning(lambda tx: tx.dummy_keys, "access_key_id", lambda row, now: row.expires_at + REMEMBERED <= now),
            Pruning(lambda tx: tx.meters, "id", lambda row, now: row.until <= now),
            Pruning(lambda tx: tx.answers, "id", lambda row, now: row.expires_at <= now),
            # Who asks what became of a request is told for some time.
            Pruning(lambda tx: tx.approvals, "id", lambda row, now: row.expires_at + KEPT <= now),
            Pruning(lambda tx: tx.nonces, "sha256", lambda row, now: row.expires_at <= now),
        )

    def tick(self) -> None:
        for chore in (self._keep_house, *self._chores):
            try:
                chore()
            except Refusal as refusal:
                log.warning("housekeeping: %s (%s)", refusal, refusal.reason)
            except Exception as error:  # its thread must not end: nobody would start another
                log.exception("housekeeping: %s", type(error).__name__)

    def _keep_house(self) -> None:
        if self._publish.due():
            self._publish.crl(only_if_due=True)
        self._empty_spent_leases()
        for each in self._prunings:
            each.tick(self._store, self._clock())

    def _empty_spent_leases(self) -> None:
        """What can no longer be given again need not be kept, not even sealed."""
        with self._store.read() as tx:
            spent = tx.leases.spent(self._clock(), BATCH)
        if spent:
            emptied = [(lease, replace(lease, sealed_session=None)) for lease in spent]
            self._store.write(lambda tx: [tx.leases.swap(*change) for change in emptied])
