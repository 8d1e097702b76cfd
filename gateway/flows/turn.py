"""One at a time, over all workers and nodes: what must not be done twice at once is done under a flight."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from gateway.core.errors import Refusal
from gateway.core.model import Flight
from gateway.ports import Clock, RandomBytes, Store, Transaction

LIFE = timedelta(minutes=2)
"""Who holds a turn for longer counts as dead. What is done in it is a few calls to AWS, each of 5 seconds at most."""
_PAUSE = 0.05  # seconds between two looks


class Turns:
    """Gives turns."""

    def __init__(self, store: Store, clock: Clock, random: RandomBytes) -> None:
        self._store = store
        self._clock = clock
        self._random = random

    @contextmanager
    def of(self, key: str, patience: timedelta = timedelta(0)) -> Iterator[None]:
        """Hold the turn of this key. Raises Refusal `conflict` when another has it for longer than `patience`."""
        holder = self._random(16).hex()
        until = time.monotonic() + patience.total_seconds()
        while not self._store.write(lambda tx: self._take(tx, key, holder)):
            if time.monotonic() >= until:
                raise Refusal("conflict", "Another worker is at it", reason="turn_taken")
            time.sleep(_PAUSE)
        try:
            yield
        finally:
            self._store.write(lambda tx: _give_back(tx, key, holder))

    def _take(self, tx: Transaction, key: str, holder: str) -> bool:
        now = self._clock()
        taken = tx.flights.get(key=key)
        mine = Flight(key, holder, now + LIFE)
        if taken is None:
            return tx.flights.add(mine)
        return taken.ends_at <= now and tx.flights.swap(taken, mine)


def _give_back(tx: Transaction, key: str, holder: str) -> None:
    taken = tx.flights.get(key=key)
    if taken is not None and taken.holder == holder:
        tx.flights.remove(taken)
