"""The gateway's processes, as the operating system sees them."""

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

from deploy.demo.site import Site


def workers(site: Site) -> list[int]:
    """The worker processes that live."""
    children = Path(f"/proc/{site.pid}/task/{site.pid}/children").read_text().split()
    return [int(pid) for pid in children if _lives(int(pid))]


def processes(site: Site) -> list[int]:
    """Master and workers."""
    return [site.pid, *workers(site)]


def kill_workers(site: Site) -> None:
    """SIGKILL to every worker, at once."""
    for pid in workers(site):
        _kill(pid)


def kill_all(site: Site) -> None:
    """SIGKILL to master and workers; returns when all of them are gone, with whatever they held."""
    pids = workers(site)
    site.kill()
    for pid in pids:
        _kill(pid)
    deadline = time.monotonic() + 5
    while any(map(_lives, pids)):
        assert time.monotonic() < deadline, "a killed process lives"
        time.sleep(0.01)


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
