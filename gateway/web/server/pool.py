"""A bounded pool of threads. Its threads are daemons: a call that hangs cannot keep a worker alive."""

import threading
from collections.abc import Callable
from queue import SimpleQueue


class Pool:
    """Runs calls in at most `threads` threads, with at most `queue` more calls waiting.

    `submit`, `force` and `finished` belong to one thread, the event loop's: every accepted call is finished by one
    `finished`.
    """

    def __init__(self, name: str, threads: int, queue: int) -> None:
        self._name = name
        self._threads = threads
        self._capacity = threads + queue
        self._calls: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._started = 0
        self._pending = 0

    def submit(self, call: Callable[[], None]) -> bool:
        """Take the call, which must not raise; False when the pool is full."""
        if self._pending >= self._capacity:
            return False
        self.force(call)
        return True

    def force(self, call: Callable[[], None]) -> None:
        """Take the call, which must not raise, even when the pool is full."""
        self._pending += 1
        if self._started < min(self._pending, self._threads):
            self._started += 1
            threading.Thread(target=self._work, name=f"{self._name}-{self._started}", daemon=True).start()
        self._calls.put(call)

    def finished(self) -> None:
        """One call is over."""
        self._pending -= 1

    def _work(self) -> None:
        while True:
            self._calls.get()()
