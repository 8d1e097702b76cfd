"""Bodies that are read beforehand: how much of them is held at one time, where, and that nothing of it stays."""

import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from agent.calls.body import IN_MEMORY, Kept, Spool, Streamed
from agent.calls.line import Gone
from agent.errors import Fault

PIECE = bytes(range(256)) * 1024


def body(pieces: int, length: int | None = None) -> Streamed:
    return Streamed([PIECE] * pieces, length)


def file_of(kept: Kept) -> IO[bytes]:
    return kept._file


@pytest.mark.parametrize("pieces", [0, 1, 4, 5])
def test_a_body_is_read_as_it_is_and_as_often_as_it_is_wanted(tmp_path: Path, pieces: int) -> None:
    kept = Spool(tmp_path).keep(body(pieces))
    whole = PIECE * pieces
    assert (kept.length, kept.sha256) == (len(whole), hashlib.sha256(whole).hexdigest())
    assert [b"".join(kept.pieces()), kept.whole(), b"".join(kept.pieces())] == [whole] * 3
    kept.close()


def test_a_long_one_is_in_a_file_that_nobody_else_can_open(tmp_path: Path) -> None:
    kept = Spool(tmp_path).keep(body(IN_MEMORY // len(PIECE) + 1))
    found = os.fstat(file_of(kept).fileno())
    assert (stat.S_IMODE(found.st_mode), found.st_nlink, list(tmp_path.iterdir())) == (0o600, 0, [])
    kept.close()
    with pytest.raises(ValueError, match="closed"):
        kept.whole()


@pytest.mark.threat("F05")
def test_all_together_are_no_more_than_there_is_room_for(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 3 * len(PIECE))
    first, second = spool.keep(body(1)), spool.keep(body(2))
    with pytest.raises(Fault) as refused:
        spool.keep(Streamed([b"x"], 1))
    assert (refused.value.code, refused.value.retry_after, spool.held) == ("overloaded", 1.0, 3 * len(PIECE))
    second.close()
    third = spool.keep(body(2))
    for kept in (first, third):
        kept.close()
    assert spool.held == 0


@pytest.mark.parametrize("length", [None, 2 * len(PIECE)])
def test_one_that_is_too_long_is_not_held(tmp_path: Path, length: int | None) -> None:
    spool = Spool(tmp_path)
    longer = body(2, length)
    with pytest.raises(Fault, match="body_too_large"):
        spool.keep(longer, 2 * len(PIECE) - 1)
    assert (spool.held, longer.begun) == (0, length is None)
    spool.keep(body(2, length), 2 * len(PIECE)).close()


@pytest.mark.parametrize("pieces", [1, 6])
def test_one_that_breaks_off_is_not_held(tmp_path: Path, pieces: int) -> None:
    def breaks() -> Iterator[bytes]:
        yield from [PIECE] * pieces
        raise Gone("the client has gone")

    spool = Spool(tmp_path)
    with pytest.raises(Gone):
        spool.keep(Streamed(breaks(), None))
    assert spool.held == 0


@pytest.mark.parametrize("fails", ["open", "write"])
def test_a_disk_that_is_full_is_told(tmp_path: Path, fails: str, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = Spool(tmp_path / "missing" if fails == "open" else tmp_path)
    if fails == "write":
        monkeypatch.setattr(spool, "_file", lambda: os.fdopen(os.open("/dev/full", os.O_WRONLY), "wb", 0))
    with pytest.raises(Fault) as told:
        spool.keep(body(6))
    assert told.value.code == "write_failed"
    assert os.strerror(errno.ENOENT if fails == "open" else errno.ENOSPC) in told.value.detail
    assert spool.held == 0
