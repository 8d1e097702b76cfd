"""Slots: which place a worker has. Its successor gets the same one, and with it whatever is kept by slot."""

from typing import Any


def pre_fork(arbiter: Any, worker: Any) -> None:
    """gunicorn's hook: give the new worker the smallest slot, from 0, that no living worker has.

    gunicorn takes a worker out of `WORKERS` when its process has ended, so a slot never has two holders. There are more
    slots than workers only while a reload (SIGHUP) runs old and new workers side by side.
    """
    taken = {each.slot for each in arbiter.WORKERS.values()}
    worker.slot = next(slot for slot in range(len(taken) + 1) if slot not in taken)
