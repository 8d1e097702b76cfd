"""A client that runs, whatever it is: give it a prefix, and hear what it found or what it says is wrong."""

import json
import os
import re
import select
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.clients.table import Client, Place
from tests.clients.ways import Told, surroundings

DEADLINE = 90.0
"""Seconds for one answer. Nothing may hang; the slowest honest one is a client that tries five times."""


@dataclass(frozen=True, slots=True)
class Said:
    """What came of listing a prefix: `text` is what the client shows when it failed, and empty when it did not."""

    ok: bool
    text: str
    seconds: float


class Running:
    """`with Running(…) as running: running.list("reports/")`. A program that stays is started with its first prefix."""

    def __init__(self, client: Client, told: Told, place: Place, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._client, self._told, self._place, self._folder = client, told, place, folder
        self._environment = surroundings(folder, place, client, told)
        self._process: subprocess.Popen[bytes] | None = None

    def list(self, prefix: str) -> Said:
        """List what lies below a prefix. Never longer than DEADLINE: then it says so."""
        begun = time.monotonic()
        try:
            ok, text = self._once(prefix) if self._client.once else self._line(prefix)
        except TimeoutError:
            ok, text = False, "it hangs"
        return Said(ok, "" if ok else plain(text, self._folder), round(time.monotonic() - begun, 1))

    def _once(self, prefix: str) -> tuple[bool, str]:
        assert self._client.once
        words = [*self._told.before, *self._client.once(self._place, prefix)]
        try:
            done = subprocess.run(words, env=self._environment, cwd=self._folder, capture_output=True, check=False,
                                  stdin=subprocess.DEVNULL, timeout=DEADLINE)  # fmt: skip
        except subprocess.TimeoutExpired:
            raise TimeoutError from None
        out, err = (stream.decode(errors="replace") for stream in (done.stdout, done.stderr))
        return (True, out) if done.returncode == 0 and ".csv" in out else (False, f"{err}\n{out}")

    def _line(self, prefix: str) -> tuple[bool, str]:
        if self._process is None:
            assert self._client.lines
            words = [*self._told.before, *self._client.lines(self._place, prefix)]
            with (self._folder / "stderr").open("wb") as stderr:
                self._process = subprocess.Popen(words, env=self._environment, cwd=self._folder, stderr=stderr,
                                                 stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # fmt: skip
        assert self._process.stdin
        assert self._process.stdout
        try:
            self._process.stdin.write(prefix.encode() + b"\n")
            self._process.stdin.flush()
            line = _read_line(self._process.stdout.fileno())
        except BrokenPipeError:
            line = b""
        if not line:
            return False, (self._folder / "stderr").read_text(errors="replace")
        answer = json.loads(line)
        return ("keys" in answer and len(answer["keys"]) > 0), str(answer.get("error", answer.get("keys")))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process:
            self._process.kill()
            self._process.communicate()


def _read_line(fd: int) -> bytes:
    """Up to a newline, or what there was when the program ended. Raises TimeoutError."""
    line, end = b"", time.monotonic() + DEADLINE
    while not line.endswith(b"\n"):
        if not select.select([fd], [], [], max(0, end - time.monotonic()))[0]:
            raise TimeoutError
        if not (piece := os.read(fd, 65536)):
            return b""
        line += piece
    return line


# What differs from run to run; credentials are not to be shown at all, not even their ids.
_VARYING: Mapping[str, str] = {
    r"/dev/shm/\w+/run": "/run/trusted-gateway-agent",
    r"\bA[KS]IA[0-9A-Z]{12,}": "ASIA…",
    r"\bi-[0-9a-f]{17}\b": "i-…",
    r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b": "…",
    r"\b[0-9a-f]{32,}\b": "…",
    r"(127\.0\.0\.1|localhost):\d+": r"\1:…",
    r"\d{4}[-/]\d\d[-/]\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?Z?)?": "…",
    r"\b[\d.]{6,}s\b": "…",
}


def plain(text: str, folder: Path) -> str:
    """One line without what differs from run to run."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", text).replace(str(folder), "…")
    if "Traceback (most recent call last)" in text:
        text = text.strip().splitlines()[-1]
    for pattern, instead in _VARYING.items():
        text = re.sub(pattern, instead, text)
    text = " ".join(text.split())
    return text if len(text) <= 400 else text[:399] + "…"
