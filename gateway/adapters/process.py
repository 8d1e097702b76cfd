"""What a process that holds keys does to itself: no core dump, no debugger, memory that is not swapped out."""

import ctypes
import os
import resource

_PR_SET_DUMPABLE = 4
_MCL_CURRENT, _MCL_FUTURE, _MCL_ONFAULT = 1, 2, 4


def harden() -> dict[str, str]:
    """Attempt all of it; return what came of each: `done`, or the reason why not. For health, not for decisions."""
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    libc = ctypes.CDLL(None, use_errno=True)
    undumpable = libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) == 0
    return {
        "no_core_dumps": "done",
        "not_dumpable": "done" if undumpable else os.strerror(ctypes.get_errno()),
        "memory_locked": lock_memory(),
    }


def lock_memory() -> str:
    """mlockall, of each page when it is first used: the stacks of threads are reserved large and used little.

    With a finite limit later allocations could fail, so it is attempted only where there is none.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    soft, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if soft != resource.RLIM_INFINITY:
        return "not attempted: RLIMIT_MEMLOCK is finite"
    if libc.mlockall(_MCL_CURRENT | _MCL_FUTURE | _MCL_ONFAULT) != 0:
        return f"refused: {os.strerror(ctypes.get_errno())}"
    return "done"
