"""What the demo and the end-to-end tests share. Nothing of it is part of the product.

A process started here never outlives who started it, however that one ends, unless it is told to be kept.
"""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]

# Runs in the child before the program: PR_SET_PDEATHSIG survives exec. A preexec_fn would run Python between fork and
# exec of a parent that has threads. The parent may be gone before prctl is reached, hence the second line.
_TIE = """
import ctypes, os, signal, sys
libc = ctypes.CDLL(None)
hasattr(libc, "prctl") and libc.prctl(1, signal.SIGKILL)
os.getppid() == int(sys.argv[1]) or os._exit(1)
os.execv(sys.argv[2], sys.argv[2:])
"""


def spawn(
    command: Sequence[str | Path],
    *,
    folder: Path,
    environment: Mapping[str, str],
    log: Path,
    inherit: Sequence[int] = (),
    keep: bool = False,
) -> subprocess.Popen[bytes]:
    """Start `command` (its first element a full path) in `folder` with exactly this environment; output goes to `log`.

    Call it from a thread that lives on: the child is killed when its starting thread ends, unless `keep`.
    """
    arguments = [str(part) for part in command]
    tied = [sys.executable, "-I", "-S", "-c", _TIE, str(os.getpid()), *arguments]
    with log.open("ab") as output:
        return subprocess.Popen(
            arguments if keep else tied,
            cwd=folder,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            pass_fds=inherit,
        )


def end(process: subprocess.Popen[bytes], patience: float = 5.0) -> None:
    """Stop a process by SIGTERM, after `patience` seconds by SIGKILL, and wait for it."""
    process.terminate()
    try:
        process.wait(patience)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
