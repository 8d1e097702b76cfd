"""A person at a terminal: a command with a pseudo-terminal of its own, what it writes there, and what is typed."""

import os
import pty
import select
import subprocess
import sys
import termios
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

# getpass asks the controlling terminal, not standard input. And where tests run in the background, Control-C is ignored
# by all that they start, unless a login undoes that.
_LOGIN = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.login_tty(int(sys.argv[1]))
os.execv(sys.argv[2], sys.argv[2:])
"""


class Terminal:
    """`with Terminal([...], {...}) as person: person.reads("Secret"); person.types("...")`."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self._master, slave = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-c", _LOGIN, str(slave), *command], pass_fds=[slave], env=dict(environment)
        )
        os.close(slave)
        self.seen = ""

    def reads(self, text: str, seconds: float = 20) -> str:
        """Wait until `text` is on the screen; all that is. Raises AssertionError."""
        end = time.monotonic() + seconds
        while text not in self.seen:
            ready, _, _ = select.select([self._master], [], [], max(0, end - time.monotonic()))
            assert ready, self.seen
            piece = self._piece()
            assert piece, self.seen
            self.seen += piece
        return self.seen

    def types(self, line: str) -> None:
        """Type a line. At a prompt for a secret nothing of it may be echoed."""
        assert not termios.tcgetattr(self._master)[3] & termios.ECHO
        os.write(self._master, line.encode() + b"\n")

    def presses(self, key: bytes) -> None:
        """One key: b"\\x03" is Control-C."""
        os.write(self._master, key)

    def ends(self, seconds: float = 30) -> int:
        """Wait for the end; the exit status."""
        while piece := self._piece():
            self.seen += piece
        return self.process.wait(seconds)

    def _piece(self) -> str:
        try:
            return os.read(self._master, 4096).decode()
        except OSError:  # the other side is closed
            return ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._master)
