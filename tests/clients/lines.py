"""A program that stays: it is told a line, and answers with one."""

import os
import select
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

DEADLINE = 90.0
"""Seconds for one answer. Nothing may hang; the slowest honest one is a client that tries five times."""


class Program:
    """`with Program(folder, environment) as program`. It is started with its first line, and killed at the end."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._folder, self._environment = folder, environment
        self._process: subprocess.Popen[bytes] | None = None

    def ask(self, words: Sequence[str | Path], line: str) -> bytes:
        """The answer to one line of the program that `words` start; empty when it ended. Raises TimeoutError."""
        if self._process is None:
            with (self._folder / "stderr").open("wb") as stderr:
                self._process = subprocess.Popen(words, env=self._environment, cwd=self._folder, stderr=stderr,
                                                 stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # fmt: skip
        assert self._process.stdin
        assert self._process.stdout
        try:
            self._process.stdin.write(line.encode() + b"\n")
            self._process.stdin.flush()
            return _read_line(self._process.stdout.fileno())
        except BrokenPipeError:
            return b""

    @property
    def complaint(self) -> str:
        """What it wrote beside its answers."""
        return (self._folder / "stderr").read_text(errors="replace")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process:
            self._process.kill()
            self._process.communicate()


def _read_line(fd: int) -> bytes:
    """Up to a newline, or nothing when the program ended. Raises TimeoutError."""
    line, end = b"", time.monotonic() + DEADLINE
    while not line.endswith(b"\n"):
        if not select.select([fd], [], [], max(0, end - time.monotonic()))[0]:
            raise TimeoutError
        if not (piece := os.read(fd, 65536)):
            return b""
        line += piece
    return line
