"""The receipt, as a person reads it at night."""

import json
from pathlib import Path
from typing import Any

import pytest

from gateway.cli import revoke
from tests.gateway.cli.conftest import FakeGateway, Run

AT = "2026-11-23T05:34:10Z"
SESSION: dict[str, Any] = {
    "lease": "l1", "instance": "i", "grant": "reports", "role": "arn:aws:iam::1:role/r", "session_name": "i-1",
    "access_key_id": "ASIA1", "until": "2026-11-23T06:34:05Z", "held": False,
}  # fmt: skip


def receipt(**change: Any) -> dict[str, Any]:
    def layer(name: str, state: str, **facts: Any) -> dict[str, Any]:
        return {"layer": name, "state": state, "ms": 12.4 if state == "done" else None, "tries": 1, "facts": facts}

    return {
        "id": "r-1", "kind": "instance", "name": "spiffe://td/aws/1/r/i-1", "by": "spiffe://td/operator/alice",
        "revoked_at": AT, "at": AT, "reason": None, "dry_run": False, "state": "running",
        "cut": {"instances": ["i"], "certificates": ["1f"], "tickets": [], "operators": [], "sessions": [SESSION]},
        "layers": [
            layer("gateway", "done", refuses="every request begun after this answer"),
            layer("crl", "done", published=True, number=7),
            layer("aws", "waiting", waits_for="a revoker key for account 1"),
            layer("agents", "trying", agents=1, told=0, untold=["spiffe://td/aws/1/r/i-1"], stops_within_seconds=5),
            layer("ocsp", "not_served", why="nobody asks"),
        ],
        "remains": [SESSION | {"where": "AWS", "what": "session", "why": "w"}], "until": SESSION["until"],
    } | change  # fmt: skip


def lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.splitlines()]


def test_each_layer_is_named_with_its_time_and_what_remains_is_said(
    operator: Path, gateway: FakeGateway, run: Run
) -> None:
    gateway.answer = receipt()
    said = run("revoke", "instance", "i-1").succeeds()
    shown = lines(said)
    assert shown[0] == "revoked   instance spiffe://td/aws/1/r/i-1"
    assert "cut off   1 instance(s), 1 certificate(s), 1 session(s)" in shown
    assert "gateway   done after 12 ms: refuses every request begun after this answer" in shown
    assert "CRL       done after 12 ms: number 7 is published" in shown
    assert "AWS       WAITS FOR AN OPERATOR: a revoker key for account 1" in shown
    assert "agents    STILL TRYING: 0 of 1 told; each drops it within 5 s of that; not yet: i-1" in shown
    assert "OCSP      not served here: nobody asks" in shown
    assert "valid     AWS STILL HONOURS 1 session(s), until 2026-11-23T06:34:05Z" in said
    assert "revocation show r-1" in said


def test_when_nothing_remains_that_is_said_too(operator: Path, gateway: FakeGateway, run: Run) -> None:
    done = [each | {"state": "done", "ms": 1} for each in receipt()["layers"][:2]]
    gateway.answer = receipt(remains=[], layers=done, until=None, state="done")
    said = run("revoke", "instance", "i-1").succeeds()
    assert "valid     AWS honours no session that was given away of it" in said
    assert "goes on" not in said


@pytest.mark.parametrize(
    ("arguments", "path"),
    [
        (["instance", "i-1"], "instances/i-1"),
        (["certificate", "1F:2a"], "certificates/1F:2a"),
        (["lease", "l/1"], "leases/l%2F1"),
        (["grant", "web/reports"], "grants/web/reports"),
        (["profile", "web", "--yes"], "profiles/web"),
        (["ticket", "t-1"], "tickets/t-1"),
        (["operator", "bob"], "operators/bob"),
        (["everything", "--yes"], "everything"),
        (["everything", "--yes", "--operators"], "everything?operators=true"),
        (["instance", "i-1", "--reason", "it is 3 a.m."], "instances/i-1?reason=it+is+3+a.m."),
        (["lease", "l", "--dry-run"], "leases/l?dry_run=true"),
        (["profile", "web", "--dry-run"], "profiles/web?dry_run=true"),
    ],
)
def test_what_is_asked(operator: Path, gateway: FakeGateway, run: Run, arguments: list[str], path: str) -> None:
    gateway.answer = receipt(dry_run="--dry-run" in arguments)
    said = run("revoke", *arguments).succeeds()
    assert [(each[0], each[1]) for each in gateway.asked] == [("POST", f"/v1/revocations/{path}")]
    assert ("nothing was changed" in said) is ("--dry-run" in arguments)


@pytest.mark.parametrize("what", [["profile", "web"], ["everything"]])
def test_what_takes_much_along_is_asked_first(operator: Path, gateway: FakeGateway, run: Run, what: list[str]) -> None:
    gateway.answer = receipt(dry_run=True)
    (lost, *_) = run("revoke", *what).names_faults("confirmation_required")
    assert "1 instance(s), 1 certificate(s), 1 session(s)" in lost
    assert ["dry_run=true" in each[1] for each in gateway.asked] == [True], "only a dry run"


def test_a_grant_is_named_with_its_profile(operator: Path, gateway: FakeGateway, run: Run) -> None:
    for named in ("reports", "/reports", "web/"):
        assert run("revoke", "grant", named).status == 2
    assert gateway.asked == []


def test_waiting_ends_when_nothing_is_tried_any_more(
    operator: Path, gateway: FakeGateway, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(revoke, "LONGEST_WAIT", 0.2)
    monkeypatch.setattr(revoke, "EVERY", 0.05)
    gateway.answer = receipt()
    run("revoke", "instance", "i-1", "--wait").succeeds()
    assert len(gateway.asked) > 1, "the agents are being told"
    before = len(gateway.asked)
    gateway.answer = receipt(layers=[each for each in receipt()["layers"] if each["state"] != "trying"])
    said = run("revoke", "instance", "i-1", "--wait", "--json").succeeds()
    assert len(gateway.asked) == before + 1, "nobody waits for an operator"
    assert json.loads(said)["id"] == "r-1"
    gateway.answers["GET /v1/revocations/r-1"] = (503, {"code": "unavailable"})
    gateway.answers["POST /v1/revocations/instances/i-1"] = receipt()
    assert "r-1" in run("revoke", "instance", "i-1", "--wait").succeeds(), "a look that fails loses no receipt"
