"""A client that does jobs, whatever it is: a program that stays, or a command for each step."""

import json
import subprocess
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from deploy.demo.cloud import REGION
from tests.clients.calls import commands
from tests.clients.calls.commands import Step
from tests.clients.calls.jobs import SMALL, long, packed, sha256
from tests.clients.calls.programs.asked import Site
from tests.clients.calls.table import Client
from tests.clients.calls.tap import Exchange
from tests.clients.calls.ways import Way
from tests.clients.lines import DEADLINE, Program

FILES = {
    "small": SMALL,
    "long": long(),
    "code.zip": packed(),
    commands.CONFIG: b"[default]\ns3 =\n  signature_version = s3v4\n",
}
"""What lies in a client's folder."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a job: what the client showed, or its error; and what went over the wire."""

    said: Any
    error: str
    near: list[Exchange]
    seconds: float


class JobFailed(Exception):
    """The client could not do it. The text is what it said."""


class Running(Program):
    """`with Running(client, way, …) as running: running.do("put")`."""

    def __init__(self, row: Client, way: Way, site: Site, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in FILES.items():
            (folder / name).write_bytes(content)
        environment = {
            "PATH": "/usr/bin:/bin",
            "HOME": str(folder),
            "LANG": "C.UTF-8",
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ENDPOINT_URL": site.endpoint,
            "AWS_EC2_METADATA_DISABLED": "true",
            **row.environment,
            **way.keys,
        }
        super().__init__(folder, environment)
        self._row, self._way, self._site = row, way, site

    def do(self, job: str) -> Outcome:
        """Do one job. Never longer than DEADLINE."""
        self._way.near.take()
        begun = time.monotonic()
        said, error = None, ""
        try:
            said = self._line(job) if self._row.program else self._steps(job)
        except JobFailed as failure:
            error = str(failure)
        return Outcome(said, error, self._way.near.take(), round(time.monotonic() - begun, 2))

    def _steps(self, job: str) -> list[Any]:
        assert self._row.steps
        return [self._step(step) for step in self._row.steps(self._site, job)]

    def _step(self, step: Step) -> Any:
        words = [*self._way.before, *step.words]
        try:
            done = subprocess.run(words, env=self._environment, cwd=self._folder, capture_output=True, check=False,
                                  stdin=subprocess.DEVNULL, timeout=DEADLINE)  # fmt: skip
        except subprocess.TimeoutExpired:
            raise JobFailed(f"it hangs: {' '.join(map(str, step.words))}") from None
        out, err = (stream.decode(errors="replace") for stream in (done.stdout, done.stderr))
        if (done.returncode != 0) != step.fails:
            raise JobFailed(f"{' '.join(map(str, step.words))}: status {done.returncode}: {err[-500:]}{out[-500:]}")
        if step.file:
            return sha256((self._folder / step.file).read_bytes())
        return None if step.quiet else (err if step.fails else out)

    def _line(self, job: str) -> Any:
        assert self._row.program
        try:
            line = self.ask([*self._way.before, *self._row.program(json.dumps(asdict(self._site)))], job)
        except TimeoutError:
            raise JobFailed("it hangs") from None
        if not line:
            raise JobFailed(self.complaint[-1000:])
        answer = json.loads(line)
        if "error" in answer:
            raise JobFailed(f"{answer['error']}: {answer['text']}")
        return answer["said"]
