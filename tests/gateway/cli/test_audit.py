"""`audit tail`, `export` and `verify`, with a log that a gateway sends and with files."""

import json
import os
import stat
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from gateway.cli.audit_pages import AGAIN
from gateway.core.audit import Event, Head, Kind, Name, append
from tests.gateway.cli.conftest import FakeGateway, Run

START = datetime(2026, 11, 22, tzinfo=UTC)


def _log(count: int) -> list[dict[str, Any]]:
    rows, head = [], None
    for seq in range(count):
        event = Event(Kind.DECISION, Name.OPERATOR_GATEWAY_STATUS, True, "ok", f"request-{seq}")
        record = append(head, "node-1.worker-0", event, START)
        head = Head(record.chain, record.seq, record.hash, record.at)
        rows.append({"chain": record.chain, "seq": record.seq, "line": record.line, "hash": record.hash})
    return rows


def _state(rows: list[dict[str, Any]]) -> dict[str, Any]:
    last = rows[-1]
    heads = [{"chain": last["chain"], "seq": last["seq"], "hash": last["hash"]}]
    return {"heads": heads, "checkpoint": None, "begin": None}


def _exported(rows: list[dict[str, Any]]) -> dict[str, Any]:
    texts = [{**{key: row[key] for key in ("chain", "seq")}, "text": f"{row['hash']} {row['line']}"} for row in rows]
    return {"records": texts, "heads": _state(rows)["heads"]}


@pytest.fixture
def log(gateway: FakeGateway) -> list[dict[str, Any]]:
    """What the gateway has, and sends."""
    rows = _log(5)
    gateway.answers = {
        "/v1/audit/checkpoint": _state(rows),
        "/v1/audit": {"records": rows},
        "/v1/audit/export": _exported(rows),
    }
    return rows


@pytest.mark.threat("I04")
def test_a_log_is_verified_and_a_changed_one_is_not(
    operator: Path, gateway: FakeGateway, run: Run, log: list[dict[str, Any]]
) -> None:
    text = run("audit", "verify").succeeds()
    assert text.splitlines()[-1] == "verified 5 records in 1 chain(s)"
    assert json.loads(run("audit", "verify", "--json").succeeds())["verified"] is True
    log[2]["line"] = log[2]["line"].replace("request-2", "request-9")
    said = run("audit", "verify")
    assert (said.status, said.out) == (1, "node-1.worker-0 #3: was changed (its hash does not match)\n")
    assert "(audit_broken)" in said.err
    said = run("audit", "verify", "--json")
    assert said.status == 1
    assert json.loads(said.out)["verified"] is False
    assert len(json.loads(said.out)["faults"]) == 1


@pytest.mark.threat("I04")
def test_a_log_that_was_cut_is_found_by_a_witness(
    operator: Path, gateway: FakeGateway, run: Run, log: list[dict[str, Any]], tmp_path: Path
) -> None:
    witness = tmp_path / "witness"
    run("audit", "verify", "--save-witness", witness).succeeds()
    run("audit", "verify", "--witness", witness).succeeds()
    assert stat.S_IMODE(witness.stat().st_mode) == 0o600
    del log[3:]
    gateway.answers["GET /v1/audit?after=node-1.worker-0:3"] = {"records": []}
    assert "#4 to #5: are gone; the gateway has seen them" in run("audit", "verify").out
    gateway.answers["/v1/audit/checkpoint"] = _state(log)
    run("audit", "verify").succeeds()
    before = witness.read_text()
    assert run("audit", "verify", "--witness", witness, "--save-witness", witness).status == 1
    assert witness.read_text() == before


@pytest.mark.threat("G17")
def test_an_export_is_private_and_verifies_until_a_byte_is_changed(
    operator: Path, run: Run, log: list[dict[str, Any]], tmp_path: Path
) -> None:
    copy = tmp_path / "copy.log"
    before = os.umask(0)
    said = run("audit", "export", copy)
    os.umask(before)
    said.succeeds()
    assert run("audit", "export", "-").succeeds() == copy.read_text()
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    run("audit", "verify", copy).succeeds()
    raw = copy.read_bytes()
    for changed in (
        raw.replace(b"request-3", b"request-4"),
        raw[:-2],
        raw.replace(b"\n", b"", 1),
        b"",
        b"\xff\n",
        b"\n\n",
    ):
        copy.write_bytes(changed)
        assert run("audit", "verify", copy).status == 1


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{", b'{"a": 1}', b'{"a": [1]}', b'{"a": ["x", "y"]}', b"\xff", b"null"]
)
def test_a_witness_that_is_none(
    operator: Path, run: Run, log: list[dict[str, Any]], tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "witness").write_bytes(content)
    run("audit", "verify", "--witness", tmp_path / "witness").fails("witness_invalid")


def test_files_that_cannot_be_used(operator: Path, run: Run, log: list[dict[str, Any]], tmp_path: Path) -> None:
    run("audit", "verify", tmp_path / "absent").fails("file_missing")
    run("audit", "verify", tmp_path).fails("file_missing")
    run("audit", "verify", "--witness", tmp_path / "absent").fails("witness_invalid")
    assert run("audit", "verify", "--save-witness", tmp_path / "no" / "x").status == 1
    run("audit", "export", tmp_path).fails("file_unwritable")
    run("audit", "export", tmp_path / "absent" / "x").fails("file_unwritable")


def test_an_export_that_is_broken_off_leaves_no_file_that_would_verify(
    operator: Path, gateway: FakeGateway, run: Run, log: list[dict[str, Any]], tmp_path: Path
) -> None:
    gateway.answers["/v1/audit/export"]["records"][4] = {}
    run("audit", "export", tmp_path / "copy.log").fails("gateway_strange")
    assert not [path for path in tmp_path.iterdir() if "copy" in path.name]


def test_tail_shows_the_latest(operator: Path, run: Run, log: list[dict[str, Any]]) -> None:
    assert len(run("audit", "tail").succeeds().splitlines()) == 6
    assert len(run("audit", "tail", "-n", "2").succeeds().splitlines()) == 3
    lines = run("audit", "tail", "-n", "2", "--json").succeeds().splitlines()
    assert [json.loads(line)["request_id"] for line in lines] == ["request-3", "request-4"]


def test_tail_asks_for_no_more_than_it_shows_and_verify_for_all(
    operator: Path, gateway: FakeGateway, run: Run, log: list[dict[str, Any]]
) -> None:
    run("audit", "tail", "-n", "2").succeeds()
    run("audit", "verify").succeeds()
    asked = [path for _, path, _ in gateway.asked if path.startswith("/v1/audit?")]
    assert asked == ["/v1/audit?after=node-1.worker-0:3", "/v1/audit?after="]


ODD = (
    "nonsense \x1b[2J",
    "[]",
    "{}",
    '{"at": 1}',
    '{"at": "yesterday", "facts": {}}',
    '{"at": "2026-11-22T00:00:00.000000+00:00", "facts": 1, "name": ["x"], "subject": {}, "reason": "\\u001b[31m"}',
)


@pytest.mark.parametrize("line", ODD)
def test_what_is_no_record_is_shown_and_harms_nobody(
    operator: Path, gateway: FakeGateway, run: Run, log: list[dict[str, Any]], line: str
) -> None:
    log[3]["line"] = line
    for options in ((), ("--json",), ("-n", "2")):
        said = run("audit", "tail", *options).succeeds()
        assert "\x1b" not in said
        assert "request-4" in said or "operator:gateway:status" in said, "the others are there"
    assert "audit_broken" in run("audit", "tail").out or '"reason"' in line
    assert "(audit_broken)" in run("audit", "verify").err


def test_a_log_of_many_pages_waits_for_its_turn(
    operator: Path, gateway: FakeGateway, run: Run, log: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """1,000 records a page, and 600 requests a minute: whoever has a million of them is told to wait on the way."""
    slept: list[float] = []
    page = gateway.answers["/v1/audit"]

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        gateway.answers["/v1/audit"] = page

    monkeypatch.setattr("gateway.cli.audit_pages.time.sleep", sleep)
    gateway.answers["/v1/audit"] = (429, {"code": "too_many_requests", "title": "Too many"})
    assert "verified 5 records" in run("audit", "verify").succeeds()
    assert slept == [AGAIN]
    gateway.answers["/v1/audit"] = (403, {"code": "operator_forbidden", "title": "No", "hint": "Ask"})
    run("audit", "verify").fails("operator_forbidden")


def test_an_archive_that_came_in_between_is_no_broken_log(
    operator: Path, gateway: FakeGateway, run: Run, log: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    del log[:2]
    assert "follows #0" in run("audit", "verify").out, "the control"
    states = [_state(log), {**_state(log), "begin": {"checkpoint": {}}}]
    monkeypatch.setattr("gateway.cli.audit_pages.state", lambda client: states.pop(0))
    run("audit", "verify").fails("audit_moved")
