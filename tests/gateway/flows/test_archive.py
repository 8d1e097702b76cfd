"""Old records in files, newer ones in the store, and one log: whatever happens in between."""

import gzip
import json
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from itertools import chain
from pathlib import Path

import pytest

from gateway.adapters import clock
from gateway.adapters.archive_files import ArchiveFiles
from gateway.core.checkpoint import starts
from gateway.core.errors import Refusal
from gateway.core.operator_model import Checkpoint
from gateway.core.sinks import TURN, SinkFailed
from gateway.core.verification import Verdict, Witness, verify, witness_of
from gateway.flows.archive import Archive
from gateway.flows.checkpoint import ARCHIVED, pointed
from gateway.flows.export import Pump
from gateway.ports import Store, Transaction
from gateway.wire import checkpoint as wire
from tests.gateway.flows.conftest import Gateway
from tests.gateway.flows.test_checkpoint import checkpoints, happen, log, tamper
from tests.gateway.flows.test_export import RULES, Taking, drain, pump

DAY = timedelta(days=1)


@pytest.fixture
def archives(tmp_path: Path) -> Path:
    """An empty directory."""
    (tmp_path / "archive").mkdir()
    return tmp_path / "archive"


def history(gateway: Gateway, days: int = 4) -> list[Checkpoint]:
    """A checkpoint a day, the last one a day ago."""
    made = []
    for day in range(days):
        happen(gateway, 10 + day)
        row = checkpoints(gateway).make()
        assert row is not None
        made.append(row)
        gateway.time.passes(DAY)
    return made


def whole(gateway: Gateway, place: ArchiveFiles, *witnesses: Witness) -> Verdict:
    """The archive and what the store has behind it, as one."""
    with gateway.store.read() as tx:
        base = pointed(tx, ARCHIVED)
        after = {name: start.tree.size for name, start in starts(base).items()} if base else {}
        manifests = [each for each in place.manifests() if base and each["number"] <= int(base.id)]
        newer = [(line, hash_) for _, _, line, hash_ in tx.audit.lines(after, 100_000)]
    older = (row for each in manifests for file in each["files"] for row in place.rows(file["name"]))
    return verify(chain(older, newer), witnesses)


def of(row: Checkpoint) -> Witness:
    return witness_of(wire.read(row.document["statement"]))


def test_old_records_move_and_the_log_stays_one(gateway: Gateway, tmp_path: Path) -> None:
    rows, place = history(gateway), ArchiveFiles(tmp_path)
    archive = Archive(gateway.store, clock.random_bytes)
    before = log(gateway)
    assert archive.run(place, gateway.time() - 30 * DAY) is None, "nothing is that old"
    done = archive.run(place, gateway.time() - 2 * DAY + timedelta(seconds=1))
    assert done is not None
    assert (done.number, done.records) == (3, rows[2].size)
    assert len(log(gateway)) == len(before) - done.records + 1
    assert whole(gateway, place, *map(of, rows)), "each witness, also those from before"
    assert archive.run(place, gateway.time() - 2 * DAY) is None
    with gateway.store.read() as tx:
        base = pointed(tx, ARCHIVED)
    assert base is not None
    assert verify(log(gateway), [of(rows[3])], starts(base)), "what is in the store verifies by itself"
    assert not verify(log(gateway), [of(rows[3])]), "but not as if it were all"
    (fault,) = verify(log(gateway), [of(rows[0])], starts(base)).faults
    assert "is in an archive" in fault
    happen(gateway, 3)
    late = checkpoints(gateway).make()
    assert late is not None
    gateway.time.passes(DAY)
    assert archive.run(place, gateway.time()) is not None, "another time, behind the first"
    assert whole(gateway, place, *map(of, [*rows, late]))
    (record,) = [r for r in gateway.records() if r["name"] == "gateway:audit:archive"]
    assert record["facts"]["behind"] == 3
    assert all(path.stat().st_mode & 0o077 == 0 for path in tmp_path.iterdir())


@pytest.mark.threat("I04")
@pytest.mark.parametrize("what", ["a byte", "a record", "a file", "a manifest"])
def test_I04_an_archive_that_was_changed_is_found(gateway: Gateway, tmp_path: Path, what: str) -> None:
    rows, place = history(gateway), ArchiveFiles(tmp_path)
    assert Archive(gateway.store, clock.random_bytes).run(place, gateway.time()) is not None
    assert whole(gateway, place, of(rows[0]))
    (file,) = tmp_path.glob("*.gz")
    lines = gzip.decompress(file.read_bytes()).splitlines(keepends=True)
    if what == "a byte":
        file.write_bytes(gzip.compress(b"".join([*lines[:4], lines[4].replace(b'"ok"', b'"no"'), *lines[5:]])))
    elif what == "a record":
        file.write_bytes(gzip.compress(b"".join([*lines[:4], *lines[5:]])))
    elif what == "a file":
        file.write_bytes(gzip.compress(b""))
    else:
        next(tmp_path.glob("checkpoint-*.json")).unlink()
    assert not whole(gateway, place, of(rows[0]))


@dataclass
class Dying:
    """A place, or a store, that is gone after so many steps: what `kill -9` leaves behind."""

    inner: ArchiveFiles
    steps: int
    done: int = field(default=0)

    def write(self, name: str, rows: Iterator[tuple[str, str]]) -> None:
        self._step()
        self.inner.write(name, rows)

    def conclude(self, number: int, manifest: dict[str, object]) -> None:
        self._step()
        self.inner.conclude(number, manifest)

    def held(self) -> AbstractContextManager[None]:
        return self.inner.held()

    def withdraw(self, number: int) -> None:
        self.inner.withdraw(number)

    def manifests(self) -> object:
        return self.inner.manifests()

    def rows(self, name: str) -> Iterator[tuple[str, str]]:
        self._step()
        return self.inner.rows(name)

    def _step(self) -> None:
        self.done += 1
        if self.done > self.steps:
            raise KeyboardInterrupt


class DyingStore:
    """The store, gone after so many writes."""

    def __init__(self, store: Store, writes: int) -> None:
        self._store, self._left = store, writes
        self.read = store.read

    def write(self, unit: object) -> object:
        if self._left == 0:
            raise KeyboardInterrupt
        self._left -= 1
        return self._store.write(unit)  # type: ignore[arg-type]


@pytest.mark.parametrize("later", [False, True])
@pytest.mark.parametrize("steps", range(4))
def test_a_crash_before_the_store_knows_loses_nothing(
    gateway: Gateway, tmp_path: Path, steps: int, later: bool
) -> None:
    rows, place = history(gateway), ArchiveFiles(tmp_path)
    before = log(gateway)
    with pytest.raises(KeyboardInterrupt):
        Archive(DyingStore(gateway.store, 0), clock.random_bytes).run(Dying(place, steps), gateway.time())  # type: ignore[arg-type]
    assert log(gateway) == before
    assert whole(gateway, place, *map(of, rows))
    if later:
        happen(gateway, 5)
        rows.append(checkpoints(gateway).make() or rows[0])
        gateway.time.passes(DAY)
    assert Archive(gateway.store, clock.random_bytes).run(place, gateway.time()) is not None
    assert whole(gateway, place, *map(of, rows))


@pytest.mark.parametrize("writes", range(4))
def test_a_crash_while_rows_are_deleted_is_made_good(
    gateway: Gateway, tmp_path: Path, writes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.flows.archive.DELETED", 7)
    rows, place = history(gateway), ArchiveFiles(tmp_path)
    dying: Store = DyingStore(gateway.store, writes)  # type: ignore[assignment]
    with pytest.raises(KeyboardInterrupt):
        Archive(dying, clock.random_bytes).run(place, gateway.time())
    if writes:
        assert whole(gateway, place, *map(of, rows)), "also while old rows are still there"
    Archive(gateway.store, clock.random_bytes).run(place, gateway.time())
    assert whole(gateway, place, *map(of, rows))
    with gateway.store.read() as tx:
        base = pointed(tx, ARCHIVED)
        assert base is not None
        assert tx.audit.lines({}, 1)[0][1] == base.size + 1


@pytest.mark.threat("I04")
def test_I04_a_log_that_is_broken_is_not_archived(gateway: Gateway, tmp_path: Path) -> None:
    history(gateway)
    tamper(gateway, "UPDATE audit_record SET line = replace(line, '\"r4\"', '\"rX\"') WHERE seq < 12")
    before = log(gateway)
    with pytest.raises(Refusal) as refused:
        Archive(gateway.store, clock.random_bytes).run(ArchiveFiles(tmp_path), gateway.time())
    assert refused.value.code == "archive_broken"
    assert log(gateway) == before


def test_a_place_that_cannot_be_used(gateway: Gateway, tmp_path: Path) -> None:
    history(gateway)
    before = log(gateway)
    archive = Archive(gateway.store, clock.random_bytes)
    with pytest.raises(Refusal) as refused:
        archive.run(ArchiveFiles(tmp_path / "absent"), gateway.time())
    assert refused.value.code == "archive_unusable"
    assert log(gateway) == before
    (tmp_path / "x.gz").write_bytes(b"no gzip")
    for name in ("x.gz", "../x.gz", "absent.gz"):
        with pytest.raises(Refusal):
            list(ArchiveFiles(tmp_path).rows(name))


def test_the_archive_of_another_gateway_is_left_alone(gateway: Gateway, archives: Path) -> None:
    """Chains have the same names on most gateways, and what is behind our last checkpoint would be withdrawn."""
    history(gateway)
    place, archive = ArchiveFiles(archives), Archive(gateway.store, clock.random_bytes)
    assert archive.run(place, gateway.time() - 2 * DAY) is not None
    manifest = next(archives.glob("checkpoint-*.json"))
    written = json.loads(manifest.read_text())
    before = log(gateway)
    for damage in (
        {"number": 9999},
        {"checkpoint": {"statement": "another"}},
        {"checkpoint": None},
        {"number": "3"},
    ):
        manifest.write_text(json.dumps(written | damage))
        files = {path.name: path.read_bytes() for path in archives.iterdir()}
        with pytest.raises(Refusal, match="another log") as refused:
            archive.run(place, gateway.time())
        assert refused.value.code == "archive_unusable"
        assert {path.name: path.read_bytes() for path in archives.iterdir()} == files
        assert log(gateway) == before
    manifest.write_text(json.dumps(written))
    assert archive.run(place, gateway.time()) is not None


def test_a_second_run_at_the_same_time_is_refused(gateway: Gateway, archives: Path) -> None:
    """It would read a log from which the first one deletes, and write over what that has archived."""
    rows = history(gateway)
    place, archive = ArchiveFiles(archives), Archive(gateway.store, clock.random_bytes)
    with place.held(), pytest.raises(Refusal, match="at work"):
        archive.run(ArchiveFiles(archives), gateway.time())
    assert list(archives.iterdir()) == []
    assert archive.run(place, gateway.time()) is not None
    assert whole(gateway, place, *map(of, rows))


def test_what_a_sink_has_not_delivered_is_not_archived(gateway: Gateway, archives: Path) -> None:
    rows, place = history(gateway), ArchiveFiles(archives)
    before, sink = log(gateway), Taking()

    def archive(*sinks: str, without: tuple[str, ...] = ()) -> bool:
        flow = Archive(gateway.store, clock.random_bytes, sinks, without)
        return flow.run(place, gateway.time() - 2 * DAY + timedelta(seconds=1)) is not None

    def refused(*sinks: str) -> None:
        with pytest.raises(Refusal) as refusal:
            archive(*sinks)
        assert refusal.value.code == "archive_undelivered"
        assert refusal.value.detail is not None
        assert "'siem' has not delivered" in refusal.value.detail
        assert list(archives.iterdir()) == []

    refused("siem")  # of the settings, and has never delivered
    each = pump(gateway, sink)
    sink.fails = SinkFailed("sink_slow")
    with pytest.raises(SinkFailed):
        each.step()
    refused()  # on record, also when the settings of this host do not name it
    assert log(gateway)[: len(before)] == before
    sink.fails = None
    gateway.time.passes(TURN)
    drain(each)
    assert archive("siem")
    assert len(sink.taken) >= rows[2].size
    happen(gateway, 3)
    assert checkpoints(gateway).make() is not None
    gateway.time.passes(3 * DAY)
    with pytest.raises(Refusal):
        archive("siem")
    assert archive("siem", without=("siem",)), "one that is no more"
    fresh = Taking()
    drain(Pump(replace(RULES, name="new"), fresh, gateway.store, gateway.time, clock.random_bytes, "worker-0"))
    assert fresh.taken, "a sink that is new begins with what the store has"
    assert archive("new", "siem", without=("siem",)) is False


def test_forgetting_is_part_of_its_transaction(gateway: Gateway) -> None:
    """A unit that fails takes back what it deleted, and a read deletes nothing."""
    before = log(gateway)

    def fails(tx: Transaction) -> None:
        assert tx.audit.forget("test", 2, 10) == 2
        raise KeyError

    with pytest.raises(KeyError):
        gateway.store.write(fails)
    assert log(gateway) == before
    with gateway.store.read() as tx, pytest.raises(TypeError):
        tx.audit.forget("test", 2, 10)
