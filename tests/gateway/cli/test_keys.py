"""Commands about upstream keys, against a gateway that answers what a test wants."""

import json
from pathlib import Path
from typing import Any

import pytest

from gateway.cli import keys
from tests.gateway.cli.conftest import FakeGateway, Run
from tests.gateway.cli.test_revoke import receipt

AT = "2026-11-23T05:34:10Z"
STEPS = ("create", "verify", "switch", "drain", "deactivate", "delete")


def rotation(done: int, **change: Any) -> dict[str, Any]:
    """A rotation of which so many steps are done."""
    return {
        "id": "r", "key": "main", "user": "gateway", "old": "AKIAOLD", "new": "AKIANEW" if done else None,
        "next": STEPS[done] if done < len(STEPS) else None, "done": dict.fromkeys(STEPS[:done], AT),
        "last_used": None, "dry_run": False,
    } | change  # fmt: skip


def listed(rotating: dict[str, Any] | None, **change: Any) -> dict[str, Any]:
    row = {
        "name": "main", "account": "111122223333", "access_key_id": "AKIANEW", "purpose": "vend", "state": "active",
        "created_at": AT, "created_by": "alice", "rotation": rotating,
    } | change  # fmt: skip
    return {"keys": [row], "next": None}


def test_keys_are_listed_without_secrets(operator: Path, gateway: FakeGateway, run: Run) -> None:
    gateway.answer = listed(rotation(3), state="disabled")
    said = run("key", "list").succeeds()
    assert all(word in said for word in ("main", "111122223333", "AKIANEW", "vend", "disabled", "next: drain"))
    assert json.loads(run("key", "list", "--json").succeeds())[0]["name"] == "main"


@pytest.mark.parametrize("done", [0, 3, 6])
def test_a_rotation_is_told_step_by_step_to_its_end(
    operator: Path, gateway: FakeGateway, run: Run, monkeypatch: pytest.MonkeyPatch, done: int
) -> None:
    monkeypatch.setattr(keys, "EVERY", 0.001)
    gateway.answers = {"POST /v1/keys/main/rotate": rotation(done), "GET /v1/keys/main/rotations/r": rotation(6)}
    lines = run("key", "rotate", "main").succeeds().splitlines()
    assert [line.split()[0] for line in lines[:-1]] == list(STEPS), "each once"
    assert lines[-1] == "main is rotated: AKIANEW has taken the place of AKIAOLD"
    assert "dry_run=false&end_sessions=false" in gateway.asked[0][1]


def test_a_rotation_that_takes_long_goes_on_by_itself(
    operator: Path, gateway: FakeGateway, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "LONGEST_WAIT", 0)
    gateway.answer = rotation(1)
    said = run("key", "rotate", "main")
    assert (said.status, "(rotation_runs)" in said.err, "goes on by itself" in said.err) == (1, True, True)
    assert json.loads(run("key", "rotate", "main", "--json").succeeds())["next"] == "verify", "scripts look for it"


def test_a_dry_run_says_what_would_be_done(operator: Path, gateway: FakeGateway, run: Run) -> None:
    gateway.answer = rotation(0, dry_run=True, id=None)
    assert "would replace AKIAOLD of user gateway" in run("key", "rotate", "main", "--dry-run").succeeds()
    assert "dry_run=true" in gateway.asked[0][1]


def test_to_end_sessions_is_asked_first(operator: Path, gateway: FakeGateway, run: Run) -> None:
    said = run("key", "rotate", "main", "--end-sessions")
    assert "(confirmation_required)" in said.err
    assert gateway.asked == []


@pytest.mark.parametrize("verb", ["disable", "compromised"])
def test_a_key_is_cut_off_with_a_receipt(operator: Path, gateway: FakeGateway, run: Run, verb: str) -> None:
    facts = {"access_key_id": "AKIAOLD", "state": "deactivated", "replaced_by": "AKIANEW"}
    layer = {"layer": "key", "state": "done", "ms": 7.1, "tries": 1, "facts": facts}
    gateway.answer = receipt(kind="key", name="main", layers=[layer])
    asked = run("key", verb, "main")
    assert "(confirmation_required)" in asked.err
    assert "This ends 1 session(s)" in asked.err
    assert [path for _, path, _ in gateway.asked] == [f"/v1/keys/main/{verb}?dry_run=true"], "nothing is done unasked"
    said = run("key", verb, "main", "--yes").out
    assert "revoked   key main" in said
    assert "key       done after 7 ms: AKIAOLD is deactivated; AKIANEW takes its place" in said
