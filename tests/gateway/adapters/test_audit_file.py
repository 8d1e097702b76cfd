"""The sink that is a file: rotated under it, torn by a crash, shared by two processes. Nothing is lost or mixed up."""

import errno
import json
import multiprocessing
import os
import shutil
import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gateway.adapters import audit_file
from gateway.adapters.audit_file import AuditFile
from gateway.core.audit_formats import Outgoing
from gateway.core.sinks import SinkFailed

AT = datetime(2030, 1, 1, tzinfo=UTC)
PAD = "x" * 300


def batch(chain: str, first: int, count: int) -> list[Outgoing]:
    return [
        Outgoing(chain, seq, "a:b:c", True, AT, json.dumps([chain, seq, PAD])) for seq in range(first, first + count)
    ]


def read(paths: Sequence[Path], copies: Sequence[Path] = ()) -> set[tuple[str, int]]:
    """What is in them; every line is whole, but the last of a copy that was made while somebody wrote."""
    found = set()
    for path in (*copies, *paths):
        whole, _, rest = path.read_text().rpartition("\n")
        assert path in copies or not rest
        for text in whole.splitlines():
            chain, seq, pad = json.loads(text)
            assert pad == PAD
            found.add((chain, seq))
    return found


@pytest.mark.threat("I07")
@pytest.mark.parametrize("way", ["move", "copytruncate"])
def test_I07_a_file_that_is_rotated_all_the_time_loses_nothing(tmp_path: Path, way: str) -> None:
    path, sink, done = tmp_path / "audit", AuditFile(tmp_path / "audit"), threading.Event()
    rotated: list[Path] = []

    def rotate() -> None:
        while not done.wait(0.01):
            if path.exists() and path.stat().st_size:
                to = tmp_path / f"audit.{len(rotated)}"
                if way == "move":
                    path.rename(to)
                else:  # as logrotate does it: what is written between the two is gone
                    shutil.copyfile(path, to)
                    os.truncate(path, 0)
                rotated.append(to)

    thread = threading.Thread(target=rotate)
    thread.start()
    try:
        for turn in range(300):
            sink.deliver(batch("a", turn * 10, 10))
    finally:
        done.set()
        thread.join()
    sink.deliver(batch("a", 3000, 1))  # the next batch brings back what the last cut took
    assert len(rotated) >= 3
    moved, copied = (rotated, []) if way == "move" else ([], rotated)
    assert read([*moved, path], copied) == {("a", seq) for seq in range(3001)}


def _write(path: Path, chain: str) -> None:
    sink = AuditFile(path)
    for turn in range(50):
        sink.deliver(batch(chain, turn * 20, 20))


@pytest.mark.threat("I07")
def test_I07_two_processes_on_one_file_mix_nothing_up(tmp_path: Path) -> None:
    path = tmp_path / "audit"
    spawn = multiprocessing.get_context("spawn")
    both = [spawn.Process(target=_write, args=(path, chain)) for chain in "ab"]
    for each in both:
        each.start()
    for each in both:
        each.join(60)
        assert each.exitcode == 0
    assert read([path]) == {(chain, seq) for chain in "ab" for seq in range(1000)}


def test_a_line_that_a_crash_tore_spoils_no_other(tmp_path: Path) -> None:
    path = tmp_path / "audit"
    path.write_text('["a",1,"xx')
    AuditFile(path).deliver(batch("a", 1, 1))
    torn, whole = path.read_text().splitlines()
    assert torn == '["a",1,"xx'
    assert json.loads(whole)[:2] == ["a", 1]


def test_only_its_owner_may_read_it(tmp_path: Path) -> None:
    AuditFile(tmp_path / "audit").deliver(batch("a", 1, 1))
    assert (tmp_path / "audit").stat().st_mode & 0o777 == 0o600


@pytest.mark.threat("I07")
@pytest.mark.parametrize("then", ["nothing", "another grows it", "it fails once"])
def test_I07_what_a_cut_took_comes_back_however_late(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, then: str
) -> None:
    """The second batch is behind the copy and before the cut; the third comes when it is no longer recent."""
    now = 0.0
    monkeypatch.setattr("gateway.adapters.audit_file.time.monotonic", lambda: now)
    path, copy = tmp_path / "audit", tmp_path / "audit.1"
    sink, other = AuditFile(path), AuditFile(path)
    sink.deliver(batch("a", 1, 1))
    shutil.copyfile(path, copy)
    now = 9.0
    sink.deliver(batch("a", 2, 1))
    os.truncate(path, 0)
    now = 20.0
    if then == "another grows it":
        other.deliver(batch("b", 1, 9))
    elif then == "it fails once":
        with monkeypatch.context() as patch:
            patch.setattr(audit_file, "_write", fails)
            with pytest.raises(SinkFailed):
                sink.deliver(batch("a", 3, 1))
    sink.deliver(batch("a", 3, 1))
    assert {("a", 2), ("a", 3)} <= read([path])
    assert {("a", 1), ("a", 2), ("a", 3)} <= read([path], [copy])


def fails(fd: int, text: bytes) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_what_is_written_again_does_not_double(tmp_path: Path) -> None:
    path = tmp_path / "audit"
    sink = AuditFile(path)
    for seq in range(1, 21):
        sink.deliver(batch("a", seq, 1))
        os.truncate(path, 0)
    sink.deliver(batch("a", 21, 1))
    assert len(path.read_text().splitlines()) == 21


def test_what_nobody_cut_is_written_once(tmp_path: Path) -> None:
    """The control: another writes between, and a moved file is not a cut one."""
    path = tmp_path / "audit"
    sink, other = AuditFile(path), AuditFile(path)
    for seq in range(1, 4):
        sink.deliver(batch("a", seq, 2))
        other.deliver(batch("b", seq, 2))
    path.rename(tmp_path / "audit.1")
    sink.deliver(batch("a", 9, 1))
    assert len((tmp_path / "audit.1").read_text().splitlines()) == 12
    assert len(path.read_text().splitlines()) == 1


@pytest.mark.threat("I02")
@pytest.mark.parametrize("what", ["fifo", "link", "directory", "missing", "full"])
def test_I02_what_is_no_plain_file_fails_at_once_and_recovers(tmp_path: Path, what: str) -> None:
    folder, path = tmp_path / "folder", tmp_path / "folder" / "audit"
    if what != "missing":
        folder.mkdir()
    if what == "fifo":
        os.mkfifo(path)
    elif what == "link":
        path.symlink_to(tmp_path / "elsewhere")
    elif what == "directory":
        path.mkdir()
    elif what == "full":
        path = Path("/dev/full")
    sink = AuditFile(path)
    with pytest.raises(SinkFailed, match="sink_failed"):
        sink.deliver(batch("a", 1, 1))
    if what == "full":
        return
    if path.is_dir():
        path.rmdir()
    path.unlink(missing_ok=True)
    folder.mkdir(exist_ok=True)
    sink.deliver(batch("a", 1, 1))
    assert read([path]) == {("a", 1)}
