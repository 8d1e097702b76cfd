"""A client that runs, whatever it is: give it a prefix, and hear what it found or what it says is wrong."""

import json
import re
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.clients.lines import DEADLINE, Program
from tests.clients.table import Client, Place
from tests.clients.ways import Told, surroundings


@dataclass(frozen=True, slots=True)
class Said:
    """What came of listing a prefix: `text` is what the client shows when it failed, and empty when it did not."""

    ok: bool
    text: str
    seconds: float


class Running(Program):
    """`with Running(…) as running: running.list("reports/")`. A program that stays is started with its first prefix."""

    def __init__(self, client: Client, told: Told, place: Place, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        super().__init__(folder, surroundings(folder, place, client, told))
        self._client, self._told, self._place = client, told, place

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
        assert self._client.lines
        line = self.ask([*self._told.before, *self._client.lines(self._place, prefix)], prefix)
        if not line:
            return False, self.complaint
        answer = json.loads(line)
        return ("keys" in answer and len(answer["keys"]) > 0), str(answer.get("error", answer.get("keys")))


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
