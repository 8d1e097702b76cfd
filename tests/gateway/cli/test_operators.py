"""`trusted-gateway operator|role|approval`: what is sent, what is asked, what is shown and not obeyed."""

from pathlib import Path
from typing import Any

import pytest

from certs import csr, keys
from tests.gateway.cli.conftest import FakeGateway, Run

EVIL = "\x1b[2J\u202e"
ID = "ap-0123456789abcdef"


def row(**change: Any) -> dict[str, Any]:
    return {
        "name": "bob", "version": 7, "state": "active", "roles": ["monitor"], "source_addresses": ["10.0.0.0/8"],
        "hours": [], "identity": None, "created_at": "2026-11-23T08:00:00Z", "created_by": "alice",
        "revoked_at": None, "revoked_by": None, "certified_until": "2026-11-23T20:00:00Z", **change,
    }  # fmt: skip


def waiting(**change: Any) -> dict[str, Any]:
    asked = {"method": "POST", "path": "/v1/keys/main/rotate", "query": "", "body": {"odd": EVIL}}
    return {
        "id": ID, "permission": "operator:key:rotate", "request": asked, "asked_by": "alice", "given": 1, "needed": 2,
        "asked_at": "2026-11-23T08:00:00Z", "expires_at": "2026-11-23T09:00:00Z", "state": "open", "given_by": [],
        **change,
    }  # fmt: skip


# A key that is made here


def test_a_request_is_made_with_a_key_that_stays(run: Run, tmp_path: Path) -> None:
    first = run("operator", "request", "bob").succeeds()
    verified = csr.read(first)
    key = tmp_path / "operator" / "operator.key"
    assert key.stat().st_mode & 0o777 == 0o600
    assert verified.key_sha256 == keys.public_sha256(keys.load_private_pem(key.read_bytes()).public_key())
    assert csr.read(run("operator", "request", "bob").succeeds()).key_sha256 == verified.key_sha256


@pytest.mark.threat("G17")
def test_G17_no_key_is_written_through_a_link(run: Run, tmp_path: Path) -> None:
    (tmp_path / "operator").mkdir(mode=0o700)
    (tmp_path / "operator" / "operator.key").symlink_to(tmp_path / "elsewhere")
    run("operator", "request", "bob").fails("file_unsafe")
    assert not (tmp_path / "elsewhere").exists()


def test_what_is_no_answer_is_not_installed(run: Run, tmp_path: Path) -> None:
    answer = tmp_path / "answer.json"
    run("operator", "accept", answer).fails("operator_missing")
    run("operator", "request", "bob").succeeds()
    run("operator", "accept", answer).fails("file_unreadable")
    for content in ("", "[]", "{}", '{"operator": "bob"}', "\x00", "[" * 10_000):
        answer.write_text(content)
        run("operator", "accept", answer).fails("bundle_invalid")
    assert [path.name for path in (tmp_path / "operator").iterdir()] == ["operator.key"]


# Operators


def test_a_change_keeps_what_it_does_not_name_and_is_of_the_version_that_was_seen(
    operator: Path, gateway: FakeGateway, run: Run
) -> None:
    gateway.answers = {"/v1/operators/bob": row()}
    run("operator", "change", "bob", "--role", "auditor", "--hours", "mon 08:00-09:00 UTC").succeeds()
    assert gateway.asked[-1][2] == {
        "roles": ["auditor"],
        "source_addresses": ["10.0.0.0/8"],
        "hours": ["mon 08:00-09:00 UTC"],
    }
    assert gateway.fields[-1]["If-Match"] == '"7"'
    run("operator", "change", "bob", "--no-role", "--any-source").succeeds()
    assert gateway.asked[-1][2] == {"roles": [], "source_addresses": [], "hours": []}


@pytest.mark.parametrize(
    "options", [[], ["--role", "monitor", "--no-role"], ["--source", "10.0.0.0/8", "--any-source"]]
)
def test_a_change_that_says_nothing_or_two_things(
    operator: Path, gateway: FakeGateway, run: Run, options: list[str]
) -> None:
    run("operator", "change", "bob", *options).fails("usage", 2)
    assert gateway.asked == []


def test_operators_are_shown_and_not_obeyed(operator: Path, gateway: FakeGateway, run: Run) -> None:
    evil = row(created_by=EVIL, hours=[EVIL], identity={"issuer": EVIL, "subject": EVIL}, revoked_at=None)
    gateway.answers = {"/v1/operators/bob": evil, "/v1/operators": {"operators": [evil], "next": None}}
    for command in (["show", "bob"], ["list"]):
        said = run("operator", *command).succeeds()
        assert "\x1b" not in said
        assert "\u202e" not in said
        assert "monitor" in said


@pytest.mark.parametrize("name", ["Bob", "", "../bob", "bob/x", "bób"])
def test_a_name_that_nobody_can_have_is_not_sent(operator: Path, gateway: FakeGateway, run: Run, name: str) -> None:
    run("operator", "show", name).fails("name_invalid")
    run("role", "show", name).fails("name_invalid")
    run("operator", "request", name).fails("name_invalid")
    run("approval", "give", name, "--yes").fails("approval_unknown")
    assert gateway.asked == []


# Roles


def test_a_role_is_checked_before_it_is_sent(operator: Path, gateway: FakeGateway, run: Run, tmp_path: Path) -> None:
    file = tmp_path / "watch.toml"
    file.write_text('name = "watch"\npermissions = ["operator:key:read"]\nhours = ["never"]\n')
    faults = run("role", "apply", file).names_faults("role_invalid")
    assert len(faults) == 2
    for content in ("x", "permissions = []", 'name = 7\npermissions = ["operator:server:list"]'):
        file.write_text(content)
        run("role", "apply", file).fails("role_invalid")
    run("role", "apply", tmp_path / "watch.yaml").fails("role_invalid")
    assert gateway.asked == []
    file.write_text('name = "watch"\npermissions = ["operator:server:list"]\n')
    gateway.answer = {"name": "watch", "version": 2}
    assert run("role", "apply", file, "--expect-version", "1").succeeds() == "role watch is at version 2\n"
    assert gateway.asked[-1] == ("PUT", "/v1/roles/watch", {"permissions": ["operator:server:list"]})
    assert gateway.fields[-1]["If-Match"] == '"1"'
    run("role", "apply", file, "--expect-version", "0").succeeds()
    assert gateway.fields[-1]["If-None-Match"] == "*"


def test_a_role_is_removed_after_a_question(operator: Path, gateway: FakeGateway, run: Run) -> None:
    gateway.answer = {"name": "watch", "version": 2}
    assert "confirmation_required" in run("role", "remove", "watch").err
    assert gateway.asked == []
    assert run("role", "remove", "watch", "--yes").succeeds() == "role watch is gone; it was at version 2\n"
    assert gateway.asked[-1][:2] == ("DELETE", "/v1/roles/watch")


def test_a_role_is_shown(operator: Path, gateway: FakeGateway, run: Run) -> None:
    document = {"permissions": ["operator:server:*"], "tags": {"team": EVIL}}
    shown = {"name": "fleet", "built_in": False, "version": 1, "changed_at": "2026-11-23T08:00:00Z",
             "changed_by": "alice", "document": document}  # fmt: skip
    gateway.answers = {"/v1/roles/fleet": shown, "/v1/roles": {"roles": [shown]}}
    said = run("role", "show", "fleet").succeeds()
    assert "operator:server:*" in said
    assert "team = \\x1b" in said
    assert "operator:server:*" in run("role", "list").succeeds()


# Approvals


def test_a_command_that_needs_two_says_how_it_goes_on(operator: Path, gateway: FakeGateway, run: Run) -> None:
    gateway.status = 202
    gateway.answer = {"approval": ID, "expires_at": "2026-11-23T09:00:00Z", "given": 1, "needed": 2}
    said = run("ticket", "create", "--profile", "web").fails("approval_needed")
    assert f"approval give {ID}" in said
    assert f"--approval {ID}" in said
    run("--approval", ID, "ticket", "create", "--profile", "web").fails("approval_needed")
    assert gateway.fields[-1]["Approval"] == ID
    assert "Approval" not in gateway.fields[0]


def test_nobody_agrees_without_having_seen(operator: Path, gateway: FakeGateway, run: Run) -> None:
    gateway.answers = {
        "/v1/approvals": {"approvals": [waiting()], "next": None},
        f"/v1/approvals/{ID}/give": waiting(state="given", given=2),
    }
    said = run("approval", "give", ID)
    assert "alice wants to: POST /v1/keys/main/rotate" in said.err
    assert "\x1b" not in said.err
    assert "confirmation_required" in said.err
    assert [asked[0] for asked in gateway.asked] == ["GET"]
    assert f"--approval {ID}" in run("approval", "give", ID, "--yes").succeeds()
    assert "alice" in run("approval", "list").succeeds()


def test_an_approval_that_is_not_there_cannot_be_given_unseen(operator: Path, gateway: FakeGateway, run: Run) -> None:
    gateway.answers = {"/v1/approvals": {"approvals": [], "next": None}}
    run("approval", "give", ID).fails("approval_unknown")
    assert [asked[0] for asked in gateway.asked] == ["GET"]
