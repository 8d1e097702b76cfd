import json
import re
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.audit import Event, Head, Kind, Name, append, digest
from gateway.core.verification import verify, witness_of_heads

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


def chain_of(count: int, name: str = "node-1.worker-0") -> list[tuple[str, str]]:
    head, rows = None, []
    for i in range(count):
        event = Event(Kind.DECISION, Name.INSTANCE_GRANT_LIST, True, "ok", f"r{i}", facts={"i": i})
        record = append(head, name, event, NOW)
        head = Head(name, record.seq, record.hash, NOW)
        rows.append((record.line, record.hash))
    return rows


def test_a_whole_log_verifies() -> None:
    verdict = verify(chain_of(5) + chain_of(3, "node-1.worker-1"))
    assert verdict
    assert verdict.records == 8
    assert {chain: seq for chain, (seq, _) in verdict.heads.items()} == {"node-1.worker-0": 5, "node-1.worker-1": 3}


def test_an_empty_log_never_verifies() -> None:
    assert not verify([])


@pytest.mark.threat("I04")
@given(st.integers(0, 9), st.data())
def test_I04_any_changed_byte_is_found(index: int, data: st.DataObject) -> None:
    rows = chain_of(10)
    line, hash_ = rows[index]
    at = data.draw(st.integers(0, len(line) - 1))
    other = data.draw(st.characters(codec="ascii").filter(lambda c: c != line[at]))
    rows[index] = (line[:at] + other + line[at + 1 :], hash_)
    assert not verify(rows)


@pytest.mark.threat("I04")
@pytest.mark.parametrize("index", range(9))
def test_I04_removed_swapped_and_doubled_records_are_found_and_named(index: int) -> None:
    rows = chain_of(10)
    for changed in (
        rows[:index] + rows[index + 1 :],
        [*rows[:index], rows[index + 1], rows[index], *rows[index + 2 :]],
        [*rows[: index + 1], rows[index], *rows[index + 1 :]],
    ):
        verdict = verify(changed)
        assert not verdict
        assert verdict.faults[0].startswith("node-1.worker-0 #")


@pytest.mark.threat("I04")
def test_I04_a_cut_tail_and_a_rewritten_chain_are_found_by_a_witness() -> None:
    rows = chain_of(10)
    witness = [witness_of_heads(verify(rows).heads)]
    assert verify(rows, witness)
    assert verify(rows[:-1]), "without a witness a cut tail looks whole"
    assert not verify(rows[:-1], witness)
    rewritten = [(line.replace('"i":3', '"i":4'), "") for line, _ in rows]
    head, again = None, []
    for line, _ in rewritten:
        body = json.loads(line) | {"prev": head or "0" * 64}
        line = json.dumps(body, sort_keys=True, separators=(",", ":"))
        head = digest(line)
        again.append((line, head))
    assert verify(again), "a chain rewritten to its end verifies by itself"
    assert not verify(again, witness)


def test_a_record_spliced_in_from_another_chain_is_found() -> None:
    rows, others = chain_of(4), chain_of(4, "node-2.worker-0")
    foreign = (others[2][0].replace("node-2", "node-1"), others[2][1])
    assert not verify([*rows[:2], foreign, *rows[3:]])


@pytest.mark.threat("C17")
@given(st.text())
def test_C17_one_record_is_one_line_of_ascii_and_reads_back_exactly(nasty: str) -> None:
    event = Event(Kind.DECISION, Name.INSTANCE_REQUEST_REFUSE, False, "x", "r", source=nasty, facts={"agent": nasty})
    line = append(None, "c", event, NOW).line
    assert re.fullmatch(r"[\x20-\x7e]*", line)
    assert json.loads(line)["facts"]["agent"] == nasty


def test_intents_without_outcome_are_counted() -> None:
    head, rows = None, []
    for kind, request in ((Kind.INTENT, "a"), (Kind.INTENT, "b"), (Kind.OUTCOME, "a")):
        event = Event(kind, Name.INSTANCE_CREDENTIALS_VEND, True, "ok", request)
        record = append(head, "c", event, NOW)
        head = Head("c", record.seq, record.hash, NOW)
        rows.append((record.line, record.hash))
    assert verify(rows).open_intents == 1


@given(st.lists(st.tuples(st.text(), st.text())))
def test_verify_survives_any_rows(rows: list[tuple[str, str]]) -> None:
    assert not verify(rows)


def test_names_follow_the_grammar() -> None:
    assert all(re.fullmatch(r"(instance|operator|gateway):[a-z]+:[a-z]+", name) for name in Name)
