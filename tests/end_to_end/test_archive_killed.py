"""`audit archive` is killed at any moment: archive and store are one log all the same, and nothing is missing."""

import os
import shutil
import sqlite3
import subprocess
import time
from contextlib import closing, suppress
from datetime import timedelta
from itertools import chain
from pathlib import Path
from random import SystemRandom

import pytest

from deploy.demo.cloud import REGION
from deploy.demo.site import Site
from gateway.adapters import clock
from gateway.adapters.archive_files import ArchiveFiles
from gateway.adapters.sql.store import SqlStore
from gateway.ceremonies import unseal
from gateway.core.audit import Event, Kind, Name
from gateway.core.checkpoint import starts, statement
from gateway.core.verification import verify, witness_of
from gateway.flows.checkpoint import ARCHIVED, Checkpoints, pointed
from gateway.flows.issue import Issue

KILLS = int(os.environ.get("ARCHIVE_KILLS", "5"))  # `make long` has 100
RECORDS, CHECKPOINTS = 3000, 4
CHANCE = SystemRandom()


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A store with a history in it, in which all but the last checkpoint is old enough to go. No gateway runs."""
    made = Site(tmp_path / "site", "http://127.0.0.1:9", {}, region=REGION, top={"audit.keep": "1d"})
    made.init()
    store = opened(made)
    issue = Issue(store, vault := unseal(store, made.passphrase), clock.random_bytes, None)
    flow = Checkpoints(store, vault, issue, clock.now, clock.random_bytes, "td", timedelta(seconds=1))
    for _ in range(CHECKPOINTS):
        for n in range(0, RECORDS, 100):
            events = [Event(Kind.DECISION, Name.INSTANCE_GRANT_LIST, True, "ok", f"r{n + each}") for each in range(100)]
            store.write(lambda tx, events=events: [tx.audit.append(event) for event in events])  # type: ignore[misc]
        assert flow.make() is not None
    store.close()
    with opened_raw(made) as database:
        database.execute("UPDATE checkpoint SET at = at - 200000000000 WHERE id < ?", (f"{CHECKPOINTS:012d}",))
        database.commit()
    return made


def opened(site: Site) -> SqlStore:
    return SqlStore(f"sqlite:///{site.database}", "node-1.worker-0", clock.now)


def opened_raw(site: Site) -> "closing[sqlite3.Connection]":
    return closing(sqlite3.connect(site.database))


def archiving(site: Site, archive: Path) -> "subprocess.Popen[bytes]":
    command = [*site.command, "audit", "archive", "--to", str(archive)]
    return subprocess.Popen(command, env=site.environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def all_of(site: Site, archive: Path) -> set[str]:
    """The hash of every record there is, in the archive or in the store; and they verify as one log."""
    place, store = ArchiveFiles(archive), opened(site)
    with store.read() as tx:
        base = pointed(tx, ARCHIVED)
        after = {name: each.tree.size for name, each in starts(base).items()} if base else {}
        witnesses = [witness_of(statement(row)) for row in tx.checkpoints.find()]
        newer = [(line, hash_) for _, _, line, hash_ in tx.audit.lines(after, 1_000_000)]
    store.close()
    manifests = [each for each in place.manifests() if base and each["number"] <= int(base.id)]
    older = (row for each in manifests for file in each["files"] for row in place.rows(file["name"]))
    rows = list(chain(older, newer))
    verdict = verify(rows, witnesses)
    assert verdict, verdict.faults[:3]
    assert len(rows) == len({hash_ for _, hash_ in rows}), "none is twice"
    return {hash_ for _, hash_ in rows}


@pytest.mark.timeout(120 + 20 * KILLS)
@pytest.mark.threat("I04")
def test_I04_an_archive_that_is_killed_at_any_moment_loses_nothing(site: Site, tmp_path: Path) -> None:
    whole, archive = tmp_path / "whole", tmp_path / "archive"
    archive.mkdir()
    before = all_of(site, archive)
    shutil.copytree(site.database.parent, whole)

    def anew() -> None:
        for place, source in ((site.database.parent, whole), (archive, None)):
            shutil.rmtree(place)
            shutil.copytree(source, place) if source else place.mkdir()

    # How long it takes until it touches anything, and until it is done.
    begun, running, first = time.monotonic(), archiving(site, archive), 0.0
    while running.poll() is None:
        first = first or (time.monotonic() - begun if any(archive.iterdir()) else 0.0)
        time.sleep(0.002)
    took = time.monotonic() - begun
    assert running.returncode == 0, running.communicate()[1]
    running.communicate()
    after = all_of(site, archive)
    assert before < after, "and the record of it"

    stages = []
    for _ in range(KILLS):
        anew()
        running = archiving(site, archive)
        with suppress(subprocess.TimeoutExpired):
            running.wait(CHANCE.uniform(0.95 * first, took))
        running.kill()
        running.communicate()
        stages.append(stage(site, archive))
        assert before <= all_of(site, archive), stages
        done = archiving(site, archive)
        said = done.communicate()[1]
        assert done.returncode == 0, said
        assert before < all_of(site, archive), stages
        assert stage(site, archive) == "done"
    print({each: stages.count(each) for each in sorted(set(stages))})


def stage(site: Site, archive: Path) -> str:
    """How far it came."""
    names = [path.name for path in archive.iterdir()]
    with opened_raw(site) as database:
        known = database.execute("SELECT count(*) FROM cursor WHERE name = ?", (ARCHIVED,)).fetchone()[0]
        (least,) = database.execute("SELECT min(seq) FROM audit_record WHERE chain = 'node-1.worker-0'").fetchone()
    if known:
        return "done" if least > (CHECKPOINTS - 1) * RECORDS else "deleting"
    manifest = any(name.endswith(".json") for name in names)
    return "concluded" if manifest else "writing" if names else "nothing yet"
