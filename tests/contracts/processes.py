"""Processes of a test: forked, so that they start in a moment, and seen to their end."""

import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import FileIO

Tell = Callable[[str], None]


class Child:
    """A forked process. `lines` gives each line that its body told."""

    def __init__(self, pid: int, lines: FileIO) -> None:
        self.pid = pid
        self.lines = lines
        self._code: int | None = None

    def kill(self) -> None:
        if self._code is None:
            os.kill(self.pid, signal.SIGKILL)

    def wait(self) -> int:
        """Its exit code; minus the signal that ended it."""
        if self._code is None:
            self._code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self._code


@contextmanager
def child(body: Callable[[Tell], None]) -> Iterator[Child]:
    """Run `body(tell)` in a fork. It ends with 0, or with 1 and a traceback on stderr when `body` raises."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            body(lambda line: (os.write(writing, line.encode() + b"\n"), None)[1])
            os._exit(0)
        except BaseException:
            traceback.print_exc(file=sys.__stderr__)
            os._exit(1)
    os.close(writing)
    with FileIO(reading) as lines:
        started = Child(pid, lines)
        try:
            yield started
        finally:
            started.kill()
            started.wait()
