"""`trusted-gateway profile`: what is shown, what is sent, and what is said of it."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.documents import DOCS, blocks
from tests.gateway.cli.conftest import FakeGateway, Run
from tests.gateway.cli.test_profile_file import TOML, YAML, line_of

POLICY = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}
FILE = """\
name = "web"
[[grants]]
name = "reports"
role = "arn:aws:iam::111122223333:role/reader"
region = "eu-central-1"
policy = '''
{"Version": "2012-10-17", "Statement": [
  {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}
'''
"""
EVIL = "\x1b[2J\u202e"


def document(**change: Any) -> dict[str, Any]:
    grant = {"name": "reports", "role": "arn:aws:iam::111122223333:role/reader", "region": "eu-central-1",
             "policy": json.dumps(POLICY, separators=(",", ":"))}  # fmt: skip
    return {"name": "web", "grants": [grant | change]}


def answer(version: int, content: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return {"name": "web", "version": version, "applied_at": "2026-11-23T08:00:00Z", "applied_by": "alice",
            "document": content or document(), **more}  # fmt: skip


def put(version: int, **more: Any) -> dict[str, Any]:
    return answer(version, **({"changed": True, "previous": version - 1 or None, "dry_run": False} | more))


def problem(status: int, code: str, **more: Any) -> tuple[int, dict[str, Any]]:
    return status, {"code": code, "title": f"Title of {code}", "hint": "Do.", **more}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "web.toml"
    path.write_text(FILE)
    return path


ABSENT = problem(404, "profile_unknown")
ROUTE = "/v1/profiles/web"


def test_a_new_profile(operator: Path, gateway: FakeGateway, run: Run, file: Path) -> None:
    gateway.answers = {f"GET {ROUTE}": ABSENT, f"PUT {ROUTE}": put(1)}
    assert run("profile", "apply", file).succeeds() == "profile web is at version 1; grants: reports\n"
    assert gateway.asked == [("GET", ROUTE, None), ("PUT", ROUTE, document())]
    assert gateway.fields[1]["If-None-Match"] == "*"
    assert "If-Match" not in gateway.fields[1]


def test_what_changes_is_shown(operator: Path, gateway: FakeGateway, run: Run, file: Path) -> None:
    narrower = json.dumps(POLICY).replace("s3:*", "s3:GetObject")
    gateway.answers = {f"GET {ROUTE}": answer(6, document(policy=narrower, duration="2h")), f"PUT {ROUTE}": put(7)}
    said = run("profile", "apply", file).succeeds().splitlines()
    assert said[0] == "--- web, version 6"
    assert said[1] == f"+++ {file}"
    assert [line for line in said[2:] if line[0] in "+-"] == [
        '-      "duration": "2h",',
        '-            "Action": "s3:GetObject",',
        '+            "Action": "s3:*",',
    ]
    assert said[-1] == "profile web is at version 7; grants: reports"
    assert gateway.fields[1]["If-Match"] == '"6"'
    told = json.loads(run("profile", "apply", file, "--json").succeeds())
    assert told["diff"].splitlines() == said[:-1]
    assert {key: told[key] for key in ("version", "changed", "previous")} == {
        "version": 7,
        "changed": True,
        "previous": 6,
    }
    assert told["document"] == document()


def test_nothing_changes(operator: Path, gateway: FakeGateway, run: Run, file: Path) -> None:
    gateway.answers = {f"GET {ROUTE}": answer(6), f"PUT {ROUTE}": put(6, changed=False, previous=6)}
    assert run("profile", "apply", file).succeeds() == "profile web is unchanged at version 6; grants: reports\n"
    told = json.loads(run("profile", "apply", file, "--json").succeeds())
    assert (told["changed"], told["diff"]) == (False, "")


def test_a_dry_run(operator: Path, gateway: FakeGateway, run: Run, file: Path) -> None:
    gateway.answers = {f"GET {ROUTE}": answer(6, document(duration="2h")), f"PUT {ROUTE}": put(7, dry_run=True)}
    said = run("profile", "apply", file, "--dry-run").succeeds()
    assert '-      "duration": "2h",' in said
    assert said.endswith("profile web would be at version 7; grants: reports; nothing was changed\n")
    assert gateway.asked[1] == ("PUT", f"{ROUTE}?dry_run=true", document())


def test_both_forms_are_sent_alike(operator: Path, gateway: FakeGateway, run: Run, tmp_path: Path) -> None:
    gateway.answers = {f"GET {ROUTE}": ABSENT, f"PUT {ROUTE}": put(1)}
    for name, text in (("a.toml", TOML), ("a.yaml", YAML)):
        (tmp_path / name).write_text(text)
        run("profile", "apply", tmp_path / name).succeeds()
    assert gateway.asked[1] == gateway.asked[3]
    assert all(isinstance(grant["policy"], str) for grant in gateway.asked[1][2]["grants"])


@pytest.mark.threat("G18")
def test_another_version_than_expected(operator: Path, gateway: FakeGateway, run: Run, file: Path) -> None:
    gateway.answers = {f"GET {ROUTE}": answer(6), f"PUT {ROUTE}": put(7)}
    for expected in ("5", "7", "0"):
        assert "version 6 of profile web is in force" in run(
            "profile", "apply", file, "--expect-version", expected
        ).fails("precondition_failed")
    assert {method for method, *_ in gateway.asked} == {"GET"}
    run("profile", "apply", file, "--expect-version", "6").succeeds()
    gateway.answers |= {f"PUT {ROUTE}": problem(412, "precondition_failed", detail="Version 7 is in force")}
    assert "Version 7 is in force" in run("profile", "apply", file).fails("precondition_failed")
    gateway.answers = {f"GET {ROUTE}": ABSENT, f"PUT {ROUTE}": put(1)}
    assert "no profile web is applied" in run("profile", "apply", file, "--expect-version", "1").fails(
        "precondition_failed"
    )
    run("profile", "apply", file, "--expect-version", "0").succeeds()


def test_faults_are_told_one_a_line_and_nothing_is_sent(
    operator: Path, gateway: FakeGateway, run: Run, file: Path
) -> None:
    file.write_text(
        FILE.replace("eu-central-1", "eu").replace("s3:*", "s3").replace('name = "web"', 'name = "web"\nodd = 1')
    )
    for command in ("apply", "check"):
        assert run("profile", command, file).names_faults("profile_invalid") == [
            f"{file}:2: odd: is not known here",
            f"{file}:6: grants[0].region: does not have the required form",
            f"{file}:9: grants[0].policy: Statement[0].Action: must be service:Action or *",
        ]
    assert gateway.asked == []


@pytest.mark.parametrize("suffix", ["toml", "yaml"])
def test_what_the_gateway_finds_is_told_with_its_line(
    operator: Path, gateway: FakeGateway, run: Run, tmp_path: Path, suffix: str
) -> None:
    """It may know better than this command, being newer or knowing what is in its vault."""
    text = {"toml": TOML, "yaml": YAML}[suffix]
    path = tmp_path / f"web.{suffix}"
    path.write_text(text)
    faults = ["grants[1].region: is closed", "grants[0].policy: Statement[0].Effect: is odd" + EVIL, "name: is taken"]
    gateway.answers = {
        f"GET {ROUTE}": ABSENT,
        f"PUT {ROUTE}": problem(400, "profile_invalid", detail="x", faults=faults),
    }
    lines = run("profile", "apply", path).names_faults("profile_invalid")
    name = "name = " if suffix == "toml" else "name: web"
    assert lines == [
        f"{path}:{line_of(text, name)}: name: is taken",
        f"{path}:{line_of(text, 'Allow')}: grants[0].policy: Statement[0].Effect: is odd\\x1b[2J\\u202e",
        f"{path}:{line_of(text, 'region', 1)}: grants[1].region: is closed",
    ]
    fault = "upstream: no upstream key is named 'main'"
    gateway.answers |= {f"PUT {ROUTE}": problem(404, "upstream_key_unknown", faults=[fault])}
    assert run("profile", "apply", path).names_faults("upstream_key_unknown") == [
        f"{path}:{1 + (suffix == 'yaml')}: {fault}"
    ]


def test_a_profile_is_checked_without_a_gateway(run: Run, file: Path) -> None:
    assert run("profile", "check", file).succeeds() == f"{file}: profile web is valid; grants: reports\n"
    assert json.loads(run("profile", "check", file, "--json").succeeds()) == {"name": "web", "document": document()}
    assert "is neither" in run("profile", "check", file.with_suffix(".json")).fails("profile_invalid")


def test_what_works_and_costs_something_is_told(run: Run, file: Path) -> None:
    told = "note: grant reports lasts 30m: "
    for duration, notes in (("30m", 1), ("31m", 0)):
        file.write_text(FILE.replace("region =", f'duration = "{duration}"\nregion ='))
        said = run("profile", "check", file)
        assert (said.status, said.err.count(told)) == (0, notes)


def test_looking(operator: Path, gateway: FakeGateway, run: Run) -> None:
    gateway.answers = {
        "/v1/profiles": {"profiles": [answer(6)]},
        ROUTE: answer(6),
        f"{ROUTE}/versions": {"versions": [answer(6), answer(5)]},
    }
    row = run("profile", "list").succeeds().splitlines()[1].split()
    assert row[:3] == ["web", "6", "reports"]
    said = run("profile", "show", "web").succeeds()
    assert said.startswith("version 6, applied 2026-11-23T08:00:00Z")
    assert json.loads(said.partition("\n")[2])["grants"][0]["policy"] == POLICY
    assert json.loads(run("profile", "show", "web", "--version", "5", "--json").succeeds()) == answer(6)
    assert gateway.asked[-1][1] == f"{ROUTE}?version=5"
    assert [line.split()[0] for line in run("profile", "history", "web").succeeds().splitlines()] == [
        "VERSION",
        "6",
        "5",
    ]
    assert json.loads(run("profile", "history", "web", "--json").succeeds()) == [answer(6), answer(5)]
    gateway.answers = {"/v1/profiles": {"profiles": []}}
    assert run("profile", "list").succeeds() == "no profile is applied\n"


def test_the_session_of_the_documentation(
    operator: Path, gateway: FakeGateway, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What docs/profiles.md shows, of the profile that it shows."""
    page = (DOCS / "profiles.md").read_text()
    text, said = blocks(page, "toml")[0], blocks(page, "console")[0]
    monkeypatch.chdir(tmp_path)
    path = Path("web.toml")
    path.write_text(text.replace('duration = "1h"', 'duration = "13h"').replace("s3:GetObject", "s3"))
    assert run("profile", "check", path).err in said
    path.write_text(text)
    before = json.loads(run("profile", "check", path, "--json").succeeds())["document"]
    path.write_text(text.replace("s3:GetObject", "s3:*"))
    after = json.loads(run("profile", "check", path, "--json").succeeds())["document"]
    gateway.answers = {f"GET {ROUTE}": answer(6, before), f"PUT {ROUTE}": put(7, dry_run=True) | {"document": after}}
    assert run("profile", "apply", path, "--dry-run").succeeds() in said


@pytest.mark.parametrize("name", ["Web", "../status", "web/versions", "", "a b", EVIL])
def test_a_name_is_a_name(operator: Path, gateway: FakeGateway, run: Run, name: str) -> None:
    for command in (("show", name), ("history", name), ("diff", name, "1", "2"), ("rollback", name)):
        run("profile", *command).fails("profile_unknown")
    assert gateway.asked == []


def test_the_difference_of_two_versions(operator: Path, gateway: FakeGateway, run: Run) -> None:
    gateway.answers = {ROUTE: answer(6)}
    assert run("profile", "diff", "web", "5", "6").succeeds() == "versions 5 and 6 are the same\n"
    assert [path for _, path, _ in gateway.asked] == [f"{ROUTE}?version=5", f"{ROUTE}?version=6"]
    assert json.loads(run("profile", "diff", "web", "5", "6", "--json").succeeds()) == {
        "name": "web", "versions": [5, 6], "diff": "",
    }  # fmt: skip


def test_going_back(operator: Path, gateway: FakeGateway, run: Run) -> None:
    back = f"POST {ROUTE}/rollback"
    gateway.answers = {ROUTE: answer(6, document(duration="2h")), back: put(7)}
    said = run("profile", "rollback", "web").succeeds()
    assert said.startswith("--- web, version 6\n+++ web, version 5\n")
    assert '-      "duration": "2h",' in said
    assert said.endswith("profile web is at version 7; grants: reports\n")
    assert gateway.asked[-1] == ("POST", f"{ROUTE}/rollback", {"version": 5})
    assert gateway.fields[-1]["If-Match"] == '"6"'
    run("profile", "rollback", "web", "--to", "2").succeeds()
    assert gateway.asked[-1][2] == {"version": 2}
    run("profile", "rollback", "web", "--expect-version", "5").fails("precondition_failed")
    gateway.answers |= {back: problem(400, "profile_invalid", detail="x", faults=["grants[0].role: is odd"])}
    assert run("profile", "rollback", "web").names_faults("profile_invalid") == ["grants[0].role: is odd"]
    gateway.answers = {ROUTE: answer(1)}
    assert "before the first" in run("profile", "rollback", "web").fails("profile_unknown")
    gateway.answers = {ROUTE: ABSENT}
    assert "no profile web" in run("profile", "rollback", "web").fails("profile_unknown")


@pytest.mark.parametrize("command", [("list",), ("show", "web"), ("history", "web"), ("rollback", "web")])
def test_a_gateway_that_answers_nonsense(
    operator: Path, gateway: FakeGateway, run: Run, command: tuple[str, ...]
) -> None:
    for gateway.answer in ({}, b"", b"[]", {"profiles": [{}]}, {"versions": [{}]}, {"version": 2}):
        run("profile", *command).fails("gateway_strange")
