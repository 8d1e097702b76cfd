"""One thread that writes for all: it takes whatever is queued, and one commit makes all of it durable."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, NamedTuple

from gateway.core.errors import Refusal

BATCH = 256
QUEUE = 4096


class Job(NamedTuple):
    """A unit of work and the future that its caller waits for."""

    unit: Callable[[Any], Any]
    answer: "Future[Any]"


class Writer:
    """Runs `commit` on batches of jobs, in order, in a thread that starts with the first job.

    `commit` settles the answer of each job that was not cancelled, and does not raise.
    """

    def __init__(self, commit: Callable[[Sequence[Job]], None]) -> None:
        self._commit = commit
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closed = False

    def submit(self, unit: Callable[[Any], Any]) -> "Future[Any]":
        """Queue a unit. Raises Refusal `store_unavailable` when too many wait already, or after `close`."""
        job = Job(unit, Future())
        with self._lock:
            if self._closed or self._jobs.qsize() >= QUEUE:
                raise Refusal("store_unavailable", reason="store_closed" if self._closed else "store_queue_full")
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
                self._thread.start()
            self._jobs.put(job)
        return job.answer

    def close(self, timeout: float) -> None:
        """Take no more jobs, run those that are queued, and wait for that at most `timeout` seconds."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._jobs.put(None)
        if self._thread:
            self._thread.join(timeout)

    def _run(self) -> None:
        more = True
        while more:
            taken = [self._jobs.get()]
            while len(taken) < BATCH and not self._jobs.empty():
                taken.append(self._jobs.get())
            more = taken[-1] is not None  # `close` puts None, and nothing comes behind it
            if batch := [job for job in taken if job]:
                self._commit(batch)
