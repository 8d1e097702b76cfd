"""What the agent does to its own process: no core, no other process reads its memory, no swap where that is allowed."""

import ctypes
import logging
import os
import re
import resource
import socket
import threading
from pathlib import Path

log = logging.getLogger("agent.process")

_PR_SET_DUMPABLE = 4  # prctl(2)
_MCL_CURRENT_FUTURE_ONFAULT = 1 | 2 | 4  # mlockall(2)
_STACK = 512 * 1024  # bytes; eight MiB for each thread is the default


def harden() -> bool:
    """Refuse core dumps and ptrace (prctl(2), PR_SET_DUMPABLE), close the umask, lock memory if the system lets us.

    Returns whether memory is locked. Under a limit it is not tried: once the limit is reached, no thread would start.
    """
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_DUMPABLE)")
    threading.stack_size(_STACK)
    unlimited = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0] == resource.RLIM_INFINITY
    return unlimited and bool(libc.mlockall(_MCL_CURRENT_FUTURE_ONFAULT) == 0)


def may_chown() -> bool:
    """Whether this process may give files away: it has CAP_CHOWN, the lowest bit (capabilities(7))."""
    found = re.search(r"(?m)^CapEff:\s*([0-9a-f]+)$", Path("/proc/self/status").read_text())
    return found is not None and bool(int(found[1], 16) & 1)


def notify(address: str | None, message: str) -> None:
    """Tell systemd (sd_notify(3)) at the address of `$NOTIFY_SOCKET`, when there is one. Never fails."""
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        try:
            sender.sendto(message.encode(), "\0" + address[1:] if address.startswith("@") else address)
        except OSError as error:
            log.warning("systemd was not told: %s", error.strerror)
