"""The matrix of calls: each client does its jobs three ways, and what comes of it has to be the same."""

import json
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from deploy.demo.cloud import ACCOUNT, Cloud, Seeded
from deploy.demo.ec2_document import DocumentAuthority
from tests.clients.calls import account, differences, ways
from tests.clients.calls.account import Callers
from tests.clients.calls.programs.asked import Site
from tests.clients.calls.running import Outcome, Running
from tests.clients.calls.table import CLIENTS, Client
from tests.clients.calls.tap import Exchange, Tap
from tests.clients.calls.ways import MARKS, Way
from tests.end_to_end.world import world as make_world

Jobs = Callable[[Client], Sequence[str]]
ALL: Jobs = lambda client: client.jobs  # noqa: E731  # a choice of jobs
SHORT: Jobs = lambda client: client.short or client.jobs  # noqa: E731  # a choice of jobs


@dataclass
class Results:
    """By client, job and way: what did not hold, in words; and which forms of payload were seen."""

    versions: dict[str, str] = field(default_factory=dict)
    faults: dict[str, dict[str, dict[str, list[str]]]] = field(default_factory=dict)
    modes: dict[str, list[str]] = field(default_factory=dict)
    not_run: dict[str, str] = field(default_factory=dict)


class Heard:
    """What went over the wire before AWS, by request id: several ways share one tap there."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_id: dict[str, differences.Digest] = {}

    def add(self, exchanges: Iterable[Exchange]) -> Mapping[str, differences.Digest]:
        """All that was heard so far."""
        with self._lock:
            self._by_id |= differences.digests(exchanges)
            return self._by_id


@contextmanager
def places(folder: Path, cloud: Cloud, seeded: Seeded, callers: Callers) -> Iterator[dict[str, Way]]:
    """The three ways, ready."""
    with ExitStack() as stack:
        near, far = (stack.enter_context(Tap(cloud.endpoint)) for _ in range(2))
        authority = DocumentAuthority(seeded.region)
        site = stack.enter_context(make_world(folder / "gateway", cloud, seeded, authority, endpoint=far.endpoint))
        found = {"direct": ways.direct(callers, near)}
        for deliver in ("sign", "proxy"):
            found[deliver], _ = stack.enter_context(ways.through(site, callers, far, folder / deliver, deliver))
        yield found


def buckets(cloud: Cloud, clients: Iterable[Client]) -> None:
    """A bucket for each client and way."""
    s3 = cloud.root("s3")
    for client in clients:
        for mark in MARKS.values():
            s3.create_bucket(Bucket=f"calls-{client.slug}-{mark}")


def run(
    folder: Path, cloud: Cloud, found: Mapping[str, Way], jobs: Jobs, clients: Sequence[Client] = CLIENTS
) -> Results:
    """All clients, one after the other, and each by all ways at once."""
    results, heard = Results(), Heard()
    there = []
    for client in clients:
        if version := version_of(client.needs, client.version):
            results.versions[client.name] = version
            there.append(client)
        else:
            results.not_run[client.name] = f"not installed: {client.install}"
    buckets(cloud, there)
    role = f"arn:aws:iam::{ACCOUNT}:role/function"
    for client in there:

        def work(way: Way, client: Client = client) -> dict[str, Outcome]:
            site = Site(way.near.endpoint, f"calls-{client.slug}-{way.mark}", account.FORBIDDEN, way.mark, role)
            with Running(client, way, site, folder / f"{client.slug}-{way.name}") as running:
                return {job: running.do(job) for job in jobs(client)}

        with ThreadPoolExecutor(len(found)) as pool:
            outcomes = dict(zip(found, pool.map(work, found.values()), strict=True))
        for name, way in found.items():
            far = heard.add(way.far.take() if name != "direct" else [])
        results.faults[client.name] = {
            job: {way: list(_faults(job, outcomes, way, far)) for way in found} for job in jobs(client)
        }
        modes = {each.mode for done in outcomes["direct"].values() for each in done.near}
        results.modes[client.name] = sorted(modes)
    return results


def version_of(needs: Path, command: Sequence[str]) -> str | None:
    """What a client says of itself; None when it is not there."""
    if not (needs.exists() and shutil.which(command[0])):
        return None
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return " ".join((done.stdout or done.stderr).split()[:3]) if done.returncode == 0 else None


def _faults(
    job: str, outcomes: Mapping[str, Mapping[str, Outcome]], way: str, far: Mapping[str, differences.Digest]
) -> Iterator[str]:
    """In words, what a job did not show that it should."""
    direct, other = outcomes["direct"][job], outcomes[way][job]
    if other.error:
        yield f"it failed: {other.error}"
    if way == "direct":
        yield from (str(each) for exchange in direct.near for each in differences.unlike_its_hash(exchange))
        return
    if direct.error:
        return
    said, heard = (differences.canonical(json.dumps(each.said, ensure_ascii=False)) for each in (direct, other))
    if said != heard and job not in differences.BY_STATUS_ONLY:
        yield f"the client shows {said} directly, {heard} by the way"
    yield from differences.faults(job, direct.near, other.near)
    yield from differences.corrupted(far, other.near)
