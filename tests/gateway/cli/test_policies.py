"""`trusted-gateway policy`: lint, explain, test; replay and suggest from a gateway's log and from files."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.core.audit import Event, Head, Kind, Name, append
from tests.documents import DOCS, blocks
from tests.gateway.cli.conftest import FakeGateway, Run
from tests.gateway.core.policy_suite.recorded import INSTANCE, event, need

EVIL = "\x1b[2J\u202e"
POLICY = """\
{"Version": "2012-10-17",
 "Statement": [
  {"Sid": "Read", "Effect": "Allow", "Action": "s3:GetObject",
   "Resource": "arn:aws:s3:::reports/*"},
  {"Effect": "Allow",
   "NotAction": "iam:*",
   "Resource": "arn:aws:s3:::scratch/*",
   "Condition": {"StringEquals": {"aws:username": "alice"}}}
 ]}
"""
PROFILE = """\
name = "web"
[[grants]]
name = "reports"
role = "arn:aws:iam::111122223333:role/reader"
region = "eu-central-1"
policy = '''
{"Version": "2012-10-17", "Statement": [
  {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::reports/${instance.tags.team}/*"},
  {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::reports/${instance.id}/*"}]}
'''
[[grants]]
name = "managed"
role = "arn:aws:iam::111122223333:role/reader"
region = "eu-central-1"
policy_arns = ["arn:aws:iam::aws:policy/ReadOnlyAccess"]
"""
GET, PUT = "s3:GetObject", "s3:PutObject"
OTHER = INSTANCE.replace("i-0abc", "i-0def")
KEY = "arn:aws:s3:::reports/q1"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "p.json"
    path.write_text(POLICY)
    return path


@pytest.fixture
def profile(tmp_path: Path) -> Path:
    path = tmp_path / "web.toml"
    path.write_text(PROFILE)
    return path


# check


def test_a_policy_is_checked_and_what_is_odd_is_told_with_its_line(run: Run, file: Path, profile: Path) -> None:
    why = "in an Allow, it allows all that is not named, and all that there will ever be"
    hint = f"{file}:6: Statement[1].NotAction: {why}"
    assert run("policy", "check", file, profile).succeeds().splitlines() == [
        hint,
        f"{file}: valid; 2 statement(s), 259 letters, 1 hint(s)",
        f"{profile}, grant reports: valid; 2 statement(s), 233 letters, 0 hint(s)",
    ]
    said = run("policy", "check", "--strict", file)
    assert (said.status, said.out.splitlines()[0]) == (1, hint)
    assert "1 hint(s) (policy_doubtful)" in said.err
    told = json.loads(run("policy", "check", "--json", file).succeeds())
    assert told["policies"][0]["hints"] == [hint]
    run("policy", "check", "--strict", profile).succeeds()


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("p.json", POLICY.replace('"s3:GetObject"', '"s3"'), ":3: Statement[0].Action: must be service:Action or *"),
        ("p.json", '{"Version":\n "x",\n}', ":3: not JSON in UTF-8"),
        ("p.json", '{"Version": "a",\n "Version": "b"}', ":1: a key stands twice in one object"),
        ("p.json", "[]", ":1: must be an object"),
        ("p.yaml", "Version: '2012-10-17'\nStatement:\n- Effect: Allow\n  Action: '*'\n  Resource: nothing\n",
         ":5: Statement[0].Resource: must be an ARN or *"),
        ("p.toml", 'Version = "2012-10-17"\n[[Statement]]\nEffect = "Allow"\nAction = "s3"\nResource = "*"\n',
         ":4: Statement[0].Action: must be service:Action or *"),
        ("p.yaml", "a: [", ":1: "),
        ("p.json", "{", ":1: not JSON in UTF-8"),
    ],
)  # fmt: skip
def test_faults_are_told_with_their_lines(run: Run, tmp_path: Path, name: str, text: str, told: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    lines = run("policy", "check", path).names_faults("policy_invalid")
    assert len(lines) == 1
    assert lines[0].startswith(f"{path}{told}")


def test_a_fault_in_a_profile_names_its_grant(run: Run, tmp_path: Path) -> None:
    """What the engine could not decide, although the profile passes."""
    path = tmp_path / "web.toml"
    path.write_text(
        PROFILE.replace("arn:aws:s3:::reports/${instance.id}/*", "arn:aws:s3:::a").replace('"s3:Get', '"Get')
    )
    said = run("policy", "check", path)
    assert said.status == 1
    assert (
        ":7: grants[0].policy: Statement[0].Action" in said.err
        or ":8: grants[0].policy: Statement[0].Action" in said.err
    )


@pytest.mark.parametrize("content", [b"\xff", b"x" * (1024 * 1024 + 1)])
def test_files_that_cannot_be_read(run: Run, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "p.json").write_bytes(content)
    assert run("policy", "check", tmp_path / "p.json").status == 1
    run("policy", "check", tmp_path / "absent.json").fails("usage", 2)
    run("policy", "check", tmp_path).fails("policy_invalid")
    (tmp_path / "p.txt").write_text("x")
    run("policy", "check", tmp_path / "p.txt").fails("policy_invalid")


def test_text_of_others_is_made_harmless(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    path.write_text(json.dumps({"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Action": "s3:*", "Resource": f"arn:aws:s3:::{EVIL}"}], "x" + EVIL: 1}))  # fmt: skip
    assert all(line.isprintable() for line in run("policy", "check", path).err.splitlines())
    path.write_text(json.dumps({"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Action": "s3:*", "Resource": f"arn:aws:s3:::{EVIL}"}]}))  # fmt: skip
    said = run("policy", "explain", "--policy", path, "--action", GET, "--resource", f"arn:aws:s3:::{EVIL}",
               "--context", f"aws:username={EVIL}")  # fmt: skip
    assert said.status == 0
    assert all(line.isprintable() for line in said.out.splitlines())


# explain


def test_a_decision_is_explained(run: Run, file: Path) -> None:
    def explain(*more: str) -> tuple[int, list[str]]:
        said = run("policy", "explain", "--policy", file, *more)
        assert said.err == ""
        return said.status, said.out.splitlines()

    assert explain("--action", GET, "--resource", KEY) == (0, [
        "allowed: p.json, Statement[0] (Read)",
        "  p.json, Statement[0] (Read), Allow: matches",
        "  p.json, Statement[1], Allow: does not match: Resource, Condition.StringEquals.aws:username (is not there)",
    ])  # fmt: skip
    status, lines = explain("--action", PUT, "--resource", KEY)
    assert (status, lines[0]) == (1, "not allowed: no statement allows it")
    scratch = ("--action", PUT, "--resource", "arn:aws:s3:::scratch/a")
    assert explain(*scratch, "--context", "aws:username=bob")[0] == 1
    assert explain(*scratch, "--context", "AWS:UserName=alice")[0] == 0
    assert explain("--action", "unknown", "--resource", "unknown")[0] == 1
    told = json.loads(run("policy", "explain", "--policy", file, *scratch, "--json").out)
    assert (told["decision"], told["statements"][0]["failing"]) == ("not_allowed", ["Action", "Resource"])


def test_a_deny_is_told_from_a_policy_beside(run: Run, file: Path, tmp_path: Path) -> None:
    (tmp_path / "no.yaml").write_text(
        "Version: '2012-10-17'\nStatement: {Effect: Deny, Action: 's3:*', Resource: '*'}\n"
    )
    said = run(
        "policy", "explain", "--policy", file, "--policy", tmp_path / "no.yaml", "--action", GET, "--resource", KEY
    )
    assert (said.status, said.out.splitlines()[0]) == (1, "denied: no.yaml, Statement[0]")


def test_templates_have_the_values_that_are_given(run: Run, profile: Path) -> None:
    asked = ("policy", "explain", "--policy", profile, "--grant", "reports", "--action", GET,
             "--resource", "arn:aws:s3:::reports/blue/a")  # fmt: skip
    said = run(*asked)
    assert said.status == 1
    assert "templates without a value (see --set): instance.id, instance.tags.team" in said.out
    assert run(*asked, "--set", "instance.tags.team=blue").status == 0
    assert run(*asked, "--set", "instance.tags.team=green").status == 1
    run(*asked, "--set", "nothing").fails("usage", 2)
    run(*asked, "--context", "=x").fails("usage", 2)
    unnamed = ("policy", "explain", "--policy", profile, "--action", GET, "--resource", "*")
    assert "reports, managed" in run(*unnamed).fails("grant_unknown")
    run(*unnamed, "--grant", "other").fails("grant_unknown")
    run(*unnamed, "--grant", "managed").fails("policy_invalid")


# test

SUITE = """\
policy: p.json
cases:
  - {action: s3:GetObject, resource: "arn:aws:s3:::reports/a", expect: allowed}
  - {action: s3:PutObject, resource: "arn:aws:s3:::reports/a", expect: not_allowed}
groups:
  - policy: web.toml#reports
    cases:
      - {action: s3:GetObject, resource: "arn:aws:s3:::reports/blue/a", expect: allowed}
"""


def test_expectations_are_held_against_policies(run: Run, file: Path, profile: Path, tmp_path: Path) -> None:
    suite = tmp_path / "suite.yaml"
    suite.write_text(SUITE)
    holds = run("policy", "test", suite, "--set", "instance.tags.team=blue").succeeds()
    assert holds.endswith("3 expectation(s) hold\n")
    said = run("policy", "test", suite)
    assert said.status == 1
    assert [line.split()[:2] for line in said.out.splitlines()[1:]] == [["ok", "3"], ["ok", "4"], ["FAILS", "8"]]
    assert "1 of 3 expectation(s) fail (expectation_failed)" in said.err
    told = json.loads(run("policy", "test", suite, "--json").out)
    assert [(each["line"], each["decision"], each["holds"]) for each in told] == [
        (3, "allowed", True), (4, "not_allowed", True), (8, "not_allowed", False),
    ]  # fmt: skip


def test_expectations_in_toml(run: Run, file: Path, tmp_path: Path) -> None:
    suite = tmp_path / "suite.toml"
    suite.write_text(f'policy = "p.json"\n[[cases]]\naction = "{GET}"\nresource = "{KEY}"\nexpect = "allowed"\n')
    run("policy", "test", suite).succeeds()
    suite.write_text(suite.read_text().replace("allowed", "alowed"))
    (line,) = run("policy", "test", suite).names_faults("policy_invalid")
    assert line.startswith(f"{suite}:5: cases[0].expect: must be one of")


def test_a_suite_that_is_none(run: Run, file: Path, tmp_path: Path) -> None:
    suite = tmp_path / "suite.yaml"
    suite.write_text("cases: []\n")
    assert run("policy", "test", suite).names_faults("policy_invalid") == [f"{suite}:1: cases: there is none"]
    suite.write_text(SUITE)
    file.unlink()
    assert "p.json: No such file" in run("policy", "test", suite).err
    run("policy", "test", file).fails("policy_invalid")


# replay and suggest


def log(*events: Event, ago: timedelta = timedelta(minutes=5)) -> list[dict[str, Any]]:
    """As a gateway has it, with a record of something else in it."""
    rows, head = [], None
    noise = Event(Kind.DECISION, Name.OPERATOR_GATEWAY_STATUS, True, "ok", "other")
    for made in (noise, *events):
        record = append(head, "node-1.worker-0", made, datetime.now(UTC) - ago)
        head = Head(record.chain, record.seq, record.hash, record.at)
        rows.append({"chain": record.chain, "seq": record.seq, "line": record.line, "hash": record.hash})
    return rows


EVENTS = (
    event(need(GET, KEY)),
    event(need(PUT, KEY)),
    event(need(PUT, KEY)),
    event(need(PUT, KEY), instance=OTHER),
    event(need(GET, "arn:aws:s3:::secrets/x", "not_allowed")),
    event(need("sqs:SendMessage", "arn:aws:sqs:eu-central-1:111122223333:q"), profile="db"),
)


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    path = tmp_path / "audit.log"
    path.write_text("".join(f"{row['hash']} {row['line']}\n" for row in log(*EVENTS)))
    return path


def serve(gateway: FakeGateway, *events: Event) -> None:
    rows = log(*events)
    gateway.answers = {
        "/v1/audit/checkpoint": {
            "heads": [{"chain": "node-1.worker-0", "seq": len(rows), "hash": rows[-1]["hash"]}],
            "checkpoint": None,
            "begin": None,
        },
        "/v1/audit": {"records": rows},
    }


def test_a_candidate_is_held_against_what_was_done(operator: Path, gateway: FakeGateway, run: Run, file: Path) -> None:
    serve(gateway, *EVENTS)
    said = run("policy", "replay", file, "--profile", "web")
    assert said.status == 1
    lines = said.out.splitlines()
    assert lines[0] == "would refuse 3 calls of 2 instances"
    assert [line.split()[:5] for line in lines[2:4]] == [
        ["i-0abc", "reports", PUT, KEY, "2"], ["i-0def", "reports", PUT, KEY, "1"],
    ]  # fmt: skip
    assert lines[-1] == f"held 5 call(s) of profile web against {file}"
    assert said.err.startswith("error: would refuse 3 calls of 2 instances (replay_refuses)\n")
    told = json.loads(run("policy", "replay", file, "--profile", "web", "--json").out)
    assert (told["judged"], told["refused"]["calls"], told["refused"]["changes"][0]["count"]) == (5, 3, 2)


def test_a_candidate_that_refuses_nothing_passes_and_what_it_allows_is_told(
    run: Run, exported: Path, tmp_path: Path
) -> None:
    """The control."""
    wide = tmp_path / "wide.json"
    wide.write_text(POLICY.replace('"s3:GetObject"', '"s3:*"'))
    said = run("policy", "replay", wide, "--profile", "web", "--audit", exported).succeeds()
    assert said == f"held 5 call(s) of profile web against {wide}\n"
    wide.write_text(wide.read_text().replace("reports/*", "*"))
    said = run("policy", "replay", wide, "--profile", "web", "--audit", exported).succeeds()
    assert said.startswith("would allow 1 call of 1 instance that was refused\n")
    assert "arn:aws:s3:::secrets/x" in said


def test_a_profile_is_held_against_calls_by_each_grant(run: Run, profile: Path, tmp_path: Path) -> None:
    events = (
        event(need(GET, "arn:aws:s3:::reports/i-0abc/x")),
        event(need(GET, "arn:aws:s3:::reports/blue/x", "not_allowed")),
        event(need(GET, KEY), grant="managed"),
        event(need(GET, KEY), grant="gone", needs_total=30),
    )
    path = tmp_path / "audit.jsonl"
    path.write_text("".join(row["line"] + "\n" for row in log(*events)))
    said = run("policy", "replay", profile, "--audit", path)
    assert said.status == 1
    assert "there is no grant gone" in said.out
    assert said.out.splitlines()[-4:] == [
        f"held 3 call(s) of profile web against {profile}",
        "1 of them needed more than is on record",
        "1 call(s) depend on managed policies, which AWS alone has",
        "templates whose values are not on record count as denied: instance.tags.team",
    ]
    assert run("policy", "replay", profile, "--audit", path, "--grant", "reports").status == 0
    other = tmp_path / "p.json"
    other.write_text(POLICY)
    assert "gone, managed, reports" in run("policy", "replay", other, "--profile", "web", "--audit", path).fails(
        "grant_unknown"
    )


def test_nothing_is_proved_by_nothing(run: Run, file: Path, exported: Path, tmp_path: Path) -> None:
    asked = ("policy", "replay", file, "--audit", exported, "--profile")
    run(*asked, "none").fails("traffic_missing")
    run(*asked, "web", "--grant", "other").fails("traffic_missing")
    old = tmp_path / "old.log"
    old.write_text("".join(row["line"] + "\n" for row in log(*EVENTS, ago=timedelta(hours=30))))
    run("policy", "suggest", "--profile", "web", "--audit", old).fails("traffic_missing")
    assert run("policy", "suggest", "--profile", "web", "--audit", old, "--since", "2d").status == 0
    run("policy", "suggest", "--profile", "web", "--audit", old, "--since", "soon").fails("duration_invalid")
    run("policy", "replay", file, "--audit", "-", "--profile", "web").fails("traffic_missing")  # from standard input
    run("policy", "replay", file, "--audit", exported).fails("usage", 2)


@pytest.mark.parametrize("content", ["{", "x", "[]", "0 []", '{"kind": 1, "name": []}', "null"])
def test_a_log_that_is_none(run: Run, file: Path, tmp_path: Path, content: str) -> None:
    path = tmp_path / "audit.log"
    path.write_text(content + "\n")
    said = run("policy", "replay", file, "--profile", "web", "--audit", path)
    assert said.status == 1
    assert "(record_malformed)" in said.err or "(traffic_missing)" in said.err
    run("policy", "replay", file, "--profile", "web", "--audit", tmp_path / "absent").fails("file_missing")


def test_the_least_privilege_is_printed(operator: Path, gateway: FakeGateway, run: Run) -> None:
    serve(gateway, *EVENTS)
    said = run("policy", "suggest", "--profile", "web")
    assert said.status == 0
    assert json.loads(said.out) == {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Action": [GET, PUT], "Resource": KEY}],
    }
    assert said.err.splitlines() == [
        "note: 4 call(s) of profile web are covered",
        "note: calls made with vended credentials leave no record here",
    ]
    told = json.loads(run("policy", "suggest", "--profile", "web", "--json").succeeds())
    assert told["policy"] == json.loads(said.out)


def test_what_it_could_not_see_is_said(run: Run, tmp_path: Path) -> None:
    events = [event(need(GET, f"arn:aws:s3:::data/{'x' * 60}/{i}")) for i in range(40)]
    events += [event(need(None, KEY)), event(need(PUT, None), needs_total=30), event(need(GET, "odd" + EVIL))]
    path = tmp_path / "audit.jsonl"
    path.write_text("".join(row["line"] + "\n" for row in log(*events)))
    asked = ("policy", "suggest", "--profile", "web", "--audit", path)
    said = run(*asked)
    notes = said.err.splitlines()
    assert all(line.startswith("note: ") and line.isprintable() for line in notes)
    for part in ("1 call(s) needed an action that nobody knows", f"could be known: {PUT}", "may be more",
                 "no policy can name these, left out: odd", "AWS takes 2048: try --generalise"):  # fmt: skip
        assert any(part in line for line in notes), part
    assert not any("try --generalise" in line for line in run(*asked, "--generalise", "10").err.splitlines())
    (tmp_path / "none.jsonl").write_text("".join(row["line"] + "\n" for row in log(event(need(GET, KEY, "denied")))))
    run(*asked[:-1], tmp_path / "none.jsonl").fails("traffic_missing")


def test_the_suggestion_passes_the_replay(run: Run, exported: Path, tmp_path: Path) -> None:
    said = run("policy", "suggest", "--profile", "web", "--audit", exported)
    (tmp_path / "least.json").write_text(said.out)
    run("policy", "replay", tmp_path / "least.json", "--profile", "web", "--audit", exported).succeeds()


# The documentation


def test_the_session_of_the_documentation(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What docs/policy.md shows, of the files that it shows."""
    page = (DOCS / "policy.md").read_text()
    monkeypatch.chdir(tmp_path)
    Path("reports.json").write_text(blocks(page, "json")[0])
    Path("expectations.yaml").write_text(blocks(page, "yaml")[0])
    for block in blocks(page, "console")[:3]:
        command, _, shown = block.removeprefix("$ trusted-gateway ").partition("\n")
        said = run(*command.split())
        assert [line.rstrip() for line in said.out.splitlines()] == [line.rstrip() for line in shown.splitlines()]


def test_names_that_aws_does_not_have_are_hinted_at(run: Run, tmp_path: Path) -> None:
    statement = {"Effect": "Allow", "Action": ["s3:GetObjct", "s3:List*", "nosuch:Do"], "Resource": "arn:aws:s3:::a/*"}
    path = tmp_path / "typo.json"
    path.write_text(json.dumps({"Version": "2012-10-17", "Statement": [statement]}))
    said = run("policy", "check", path)
    assert said.status == 0
    assert "s3 has no action getobjct" in said.out
    assert "there is no service nosuch" in said.out
    assert "no action list" not in said.out
