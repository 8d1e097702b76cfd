"""CloudTrail's records as AWS writes them, and files that are cut, packed, or none."""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core import cloudtrail
from gateway.core.cloudtrail import is_log, read, records, slim
from gateway.wire.strict import Malformed

VECTORS = Path(__file__).parents[2] / "vectors" / "cloudtrail"
FILES = sorted(VECTORS.glob("*.json"))


def in_pieces(raw: bytes, size: int) -> Iterator[bytes]:
    return (raw[i : i + size] for i in range(0, len(raw), size))


def of(name: str) -> list[Any]:
    """The records of a vector."""
    return list(json.loads((VECTORS / f"{name}.json").read_text())["Records"])


@pytest.mark.parametrize("size", [2, 3, 17, 65536])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_file_comes_out_as_it_was_written_however_it_comes_in(file: Path, packed: bool, size: int) -> None:
    raw = file.read_bytes()
    found = list(records(in_pieces(gzip.compress(raw) if packed else raw, size)))
    assert found == json.loads(raw)["Records"]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_what_is_left_out_is_not_looked_at(file: Path) -> None:
    for raw in of(file.stem):
        assert read(slim(raw)) == read(raw)
        assert len(json.dumps(slim(raw))) < len(json.dumps(raw))


@given(st.integers(0, 400))
def test_a_file_that_ends_in_the_middle_is_never_taken_for_a_whole_one(cut: int) -> None:
    raw = (VECTORS / "insight.json").read_bytes().rstrip()[:-1].rstrip()[:-1]  # without the end of the list
    for text in (raw[: len(raw) - cut], gzip.compress(raw)[: -1 - cut % 20]):
        with pytest.raises(Malformed):
            list(records(in_pieces(text, 64)))


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"{}", b"[]", b'{"Events": []}', b'{"Records": {}}', b'{"Records": [', b'{"Records": [{"a": 1}',
        b"\x1f\x8bx", b'{"Records": [nonsense]}',
        b'{"Records": []', b'{"Records": []} x', b'{"Records": [], "more": 1}',
        b'{"Records": [\xff]}', b'{"Records": [' + b"[" * 100_000,
    ],
)  # fmt: skip
def test_what_is_no_log_file_is_refused(raw: bytes) -> None:
    with pytest.raises(Malformed):
        list(records(in_pieces(raw, 65536)))


def test_a_record_without_end_is_not_kept_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cloudtrail, "LONGEST_RECORD", 1000)
    taken = 0

    def endless() -> Iterator[bytes]:
        nonlocal taken
        yield b'{"Records": [{"a": "'
        while True:
            taken += 1
            yield b"a" * 100

    with pytest.raises(Malformed, match="too long"):
        list(records(endless()))
    assert taken < 20


def test_the_names_of_log_files_are_told_from_others() -> None:
    folder = "AWSLogs/111122223333/CloudTrail/us-east-1/2030/01/01"
    day = f"{folder}/111122223333_CloudTrail_us-east-1_20300101T1105Z_x.json.gz"
    assert is_log(day)
    assert is_log("one.json")
    assert not is_log(day.replace("/CloudTrail/", "/CloudTrail-Digest/"))
    assert not is_log(day.replace("_CloudTrail_", "_CloudTrail-Digest_"))
    assert not is_log(day.removesuffix(".gz") + ".sig")


@pytest.mark.parametrize(
    "change",
    [
        {"eventVersion": "2.0"}, {"eventVersion": None}, {"eventTime": "yesterday"},
        {"eventTime": "2030-01-01T00:00:00"}, {"eventID": ""}, {"eventID": 7}, {"sourceIPAddress": "x" * 3000},
    ],
)  # fmt: skip
def test_a_record_that_cannot_be_told_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(Malformed):
        read(of("iam_user")[0] | change)


def test_members_that_nobody_knows_and_a_later_minor_version_are_no_fault() -> None:
    raw = of("iam_user")[0]
    assert read(raw | {"eventVersion": "1.99", "new": {"deep": [1]}}) == read(raw)


def test_the_source_is_an_address_or_a_service() -> None:
    user, _ = (read(raw) for raw in of("iam_user"))
    session, service = (read(raw) for raw in of("on_behalf"))
    assert (user.by_service, session.by_service, service.by_service) == (False, True, True)
    assert not read(of("iam_user")[0] | {"sourceIPAddress": ""}).by_service  # what is missing excuses nobody
    assert read(of("assumed_role")[0]).source_identity == "i-0123456789abcdef0"
    assert read(of("assume_role")[0]).id == "9e1f9b4d-0000-4000-8000-000000000003"
