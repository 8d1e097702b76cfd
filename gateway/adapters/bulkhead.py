"""A wall between our threads and somebody else's service: a deadline for each call, and room left for other work."""

import queue
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import TypeVar

from gateway.core.errors import Refusal

T = TypeVar("T")


class Bulkhead:
    """Runs calls in threads of their own, at most `width` at once.

    A caller gets its answer within `deadline`, or Refusal `upstream_unavailable`; what it called may go on for as long
    as the other side drips, and keeps its place until then. For a place a caller waits at most `patience`; not at all
    while the oldest call has gone on for longer than that, for then the other side stalls and waiting only spreads it.
    """

    def __init__(self, width: int, deadline: timedelta, patience: timedelta) -> None:
        self._places = threading.BoundedSemaphore(width)
        self._deadline = deadline.total_seconds()
        self._patience = patience.total_seconds()
        self._begun: dict[int, float] = {}
        self._lock = threading.Lock()

    def run(self, call: Callable[[], T]) -> T:
        """The call's value. Raises what it raises, or Refusal."""
        if not self._places.acquire(timeout=0 if self._stalls() else self._patience):
            raise Refusal("upstream_unavailable", reason="upstream_busy", retry_after=1)
        answers: queue.SimpleQueue[tuple[T, None] | tuple[None, BaseException]] = queue.SimpleQueue()
        # A daemon, so that a call which never ends does not hold up the end of the process.
        threading.Thread(target=self._work, args=(call, answers), name="upstream", daemon=True).start()
        try:
            value, error = answers.get(timeout=self._deadline)
        except queue.Empty:
            raise Refusal("upstream_unavailable", reason="upstream_slow", retry_after=5) from None
        if error is not None:
            raise error
        return value  # type: ignore[return-value]  # without an error it is the value

    def _work(
        self, call: Callable[[], T], answers: "queue.SimpleQueue[tuple[T, None] | tuple[None, BaseException]]"
    ) -> None:
        me = threading.get_ident()
        with self._lock:
            self._begun[me] = time.monotonic()
        try:
            answers.put((call(), None))
        except BaseException as error:
            answers.put((None, error))
        finally:
            with self._lock:
                del self._begun[me]
            self._places.release()

    def _stalls(self) -> bool:
        with self._lock:
            oldest = min(self._begun.values(), default=None)
        return oldest is not None and time.monotonic() - oldest > self._patience
