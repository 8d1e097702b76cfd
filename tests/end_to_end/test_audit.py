"""The audit log: one decision a request, on disk before the answer leaves; and a log that shows what was done to it."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.core.audit import digest
from tests.end_to_end.door import Reply
from tests.end_to_end.rough import Rough, rough_fixture  # noqa: F401  # a fixture
from tests.end_to_end.tour import VEND, Tour, watching_fixture  # noqa: F401  # a fixture
from tests.end_to_end.world import World


def since(world: World, seen: int) -> list[dict[str, Any]]:
    """What was recorded of requests behind the first `seen` records."""
    with world.database() as database:
        lines = database.execute("SELECT line FROM audit_record ORDER BY rowid LIMIT -1 OFFSET ?", (seen,)).fetchall()
    return [body for (line,) in lines if (body := json.loads(line))["kind"] != "fact"]


def count(world: World) -> int:
    with world.database() as database:
        found: int = database.execute("SELECT count(*) FROM audit_record").fetchone()[0]
    return found


# One decision a request


@pytest.mark.threat("I06")
@pytest.mark.usefixtures("watching")  # to begin it: test_unrecorded.py hears the end
def test_I06_each_request_leaves_exactly_one_decision(rough: Rough) -> None:
    for what, ask, status, decision in Tour(rough).stops():
        seen = count(rough.world)
        answer = ask()
        assert answer.status == status, (what, answer)
        records = since(rough.world, seen)
        decisions = [record for record in records if record["kind"] == "decision"]
        if decision is None:
            assert records == [], what
            continue
        (made,) = decisions
        assert made["allowed"] is (decision == "allowed"), what
        assert len({record["request_id"] for record in records}) == 1
        assert made["source"] == "127.0.0.1"
        if decision == "refused":
            assert made["facts"]["code"] == answer.code, what
            assert answer.body["instance"] == f"urn:uuid:{made['request_id']}", what
            assert made["reason"], what
        else:
            assert made["subject"] or what.startswith("enrol"), what


def test_each_mint_has_an_intent_before_it_and_one_outcome_after_it(rough: Rough) -> None:
    world = rough.world
    seen = count(world)
    launched, visitor = rough.enrolled()
    assert visitor.call("POST", "/v1/credentials", VEND).status == 200
    with rough.door.answering(lambda asked: Reply(403, b"<E/>") if asked.action == "AssumeRole" else None):
        assert visitor.call("POST", "/v1/credentials", VEND).status == 200, "the same again: nothing is minted"
        assert visitor.call("POST", "/v1/credentials", replace(VEND, duration=900)).code == "upstream_refused"
    assert visitor.renew().status == 200
    minted: dict[str, list[tuple[str, bool]]] = {}
    for record in since(world, seen):
        minted.setdefault(record["request_id"], []).append((record["kind"], record["allowed"]))
    ticket, *mints = minted.values()
    assert ticket == [("decision", True)]
    done, undone = ([("decision", True), ("intent", True), ("outcome", made)] for made in (True, False))
    assert mints == [done, done, [("decision", True)], undone, done]
    outcomes = [
        record["facts"] for record in since(world, seen) if (record["kind"], record["allowed"]) == ("outcome", True)
    ]
    uri = world.rows("instance", instance_id=launched.id)[0]["id"]
    serials = {row["serial"] for row in world.rows("certificate", subject=uri)}
    assert {facts["serial"] for facts in outcomes if "serial" in facts} == serials
    assert [facts["lease"] for facts in outcomes if "lease" in facts] == [world.rows("lease", instance=uri)[0]["id"]]


# What was done to it shows


@pytest.mark.threat("I04")
def test_I04_a_log_that_was_changed_does_not_verify(rough: Rough, tmp_path: Path) -> None:
    site = rough.world.site
    whole, witness = tmp_path / "whole.log", tmp_path / "witness.json"
    assert "verified" in site.cli("audit", "verify", "--save-witness", str(witness))
    site.cli("audit", "export", str(whole))
    assert "verified" in site.cli("audit", "verify", str(whole), "--witness", str(witness))
    lines = whole.read_text().splitlines(keepends=True)
    worker = [i for i, line in enumerate(lines) if '"chain":"node-1.worker-0"' in line]
    middle = next(i for i in worker[len(worker) // 2 :] if '"127.0.0.1"' in lines[i])
    seq = json.loads(lines[middle].partition(" ")[2])["seq"]
    head, witnessed = json.loads(witness.read_text())["heads"]["node-1.worker-0"]

    def without(*indexes: int) -> list[str]:
        return [line for i, line in enumerate(lines) if i not in indexes]

    def swapped(i: int) -> list[str]:
        return [*lines[:i], lines[i + 1], lines[i], *lines[i + 2 :]]

    def forged(i: int) -> list[str]:
        """Changed, with a hash that fits: only the record behind it knows."""
        line = lines[i].rstrip("\n").partition(" ")[2].replace('"allowed":true', '"allowed":false')
        return [*lines[:i], f"{digest(line)} {line}\n", *lines[i + 1 :]]

    changed = {
        "a byte": [*lines[:middle], lines[middle].replace('"127.0.0.1"', '"127.0.0.2"', 1), *lines[middle + 1 :]],
        "a record with a new hash": forged(next(i for i in worker[5:] if '"allowed":true' in lines[i])),
        "a record removed": without(middle),
        "a record twice": [*lines[: middle + 1], lines[middle], *lines[middle + 1 :]],
        "two records swapped": swapped(middle),
        "the first removed": without(worker[0]),
        "a line of nonsense": [*lines[:middle], "nonsense\n", *lines[middle:]],
        "nothing left": [],
    }
    copy = tmp_path / "copy.log"
    for what, content in changed.items():
        assert content != lines
        copy.write_text("".join(content))
        done = site.run("audit", "verify", str(copy))
        assert done.returncode == 1, what
        assert "(audit_broken)" in done.stderr, what
        if what == "a byte":
            assert done.stdout.startswith(f"node-1.worker-0 #{seq}: was changed")

    assert lines[worker[head - 1]].startswith(witnessed)
    tail = worker[head - 1 :]
    copy.write_text("".join(without(*tail)))
    assert site.run("audit", "verify", str(copy)).returncode == 0, "a chain alone cannot show that its end was cut"
    done = site.run("audit", "verify", str(copy), "--witness", str(witness))
    assert done.returncode == 1, "its witness can"
    assert "are gone" in done.stdout
