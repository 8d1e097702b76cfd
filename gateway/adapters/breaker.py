"""A breaker for each thing of AWS that can be asked: who throttles us, or does not answer, is asked less and less.

pybreaker was tried: it makes calls one at a time, for it holds its lock while it waits for the answer.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock

from gateway.core.errors import Refusal

TOLERATED = 3
"""Failures in a row that change nothing."""
FIRST, LONGEST = 0.5, 5.0
"""Seconds for which nothing is asked after one failure more, doubled with each further one; half of it is chance."""
PROBE = 6.0
"""Seconds that the one call may take which is let through then: longer than the bulkhead's deadline."""


class Breaker:
    """One such thing. Counts `upstream_unavailable`; any other answer shows that it answers."""

    def __init__(self, now: Callable[[], float], chance: Callable[[], float]) -> None:
        self._now, self._chance = now, chance
        self._failures = 0
        self._shut_until = 0.0
        self._lock = Lock()

    @contextmanager
    def guarding(self) -> Iterator[None]:
        """Around a call. Raises Refusal `upstream_unavailable` when none may be made now."""
        self._demand_leave()
        try:
            yield
        except Refusal as refusal:
            if refusal.reason == "upstream_busy":  # our own wall: nothing was asked
                raise
            if refusal.code == "upstream_unavailable":
                self._failed()
            else:
                self._answered()
            raise
        self._answered()

    @property
    def is_shut(self) -> bool:
        """Whether nothing is asked now."""
        return self._shut_until > self._now()

    def _demand_leave(self) -> None:
        with self._lock:
            left = self._shut_until - self._now()
            if left > 0:
                raise Refusal("upstream_unavailable", reason="upstream_breaker_open", retry_after=1 + int(left))
            if self._failures > TOLERATED:  # half open: this call may try, and the others wait for what comes of it
                self._shut_until = self._now() + PROBE

    def _failed(self) -> None:
        with self._lock:
            self._failures += 1
            over = self._failures - TOLERATED
            if over > 0:
                pause = min(FIRST * 2 ** min(over - 1, 10), LONGEST)
                self._shut_until = self._now() + pause * (1 + self._chance()) / 2

    def _answered(self) -> None:
        with self._lock:
            self._failures, self._shut_until = 0, 0.0


class Breakers:
    """A breaker for each service, region and key."""

    def __init__(self, now: Callable[[], float], chance: Callable[[], float]) -> None:
        self._now, self._chance = now, chance
        self._known: dict[tuple[str, ...], Breaker] = {}
        self._lock = Lock()

    @property
    def shut(self) -> int:
        """How many of them let nothing through now."""
        with self._lock:
            return sum(breaker.is_shut for breaker in self._known.values())

    @contextmanager
    def of(self, *what: str) -> Iterator[None]:
        """Around a call to it. Raises Refusal as `Breaker.guarding` does."""
        with self._lock:
            breaker = self._known.setdefault(what, Breaker(self._now, self._chance))
        with breaker.guarding():
            yield
