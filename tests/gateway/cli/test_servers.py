"""What `server` commands ask of a gateway, what they print, and what they say before something is lost."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gateway.cli import servers
from tests.gateway.cli.conftest import FakeGateway, Run
from tests.gateway.cli.terminal import Terminal

CLI = Path(sys.executable).with_name("trusted-gateway")
ID = "i-0123456789abcdef0"
PATH = f"aws/111122223333/us-east-1/{ID}"
SERVER: dict[str, Any] = {
    "id": PATH, "account": "111122223333", "region": "us-east-1", "instance_id": ID, "name": "web", "state": "running",
    "launched_at": "2030-01-01T00:00:00Z", "uptime": 10800, "image": "ami-1", "type": "t3.micro",
    "private_ip": "10.0.0.1", "public_ip": None, "tags": {"Name": "web"}, "enrolment": "enrolled", "profile": "web",
    "launched_by": "spiffe://td/operator/alice",
}  # fmt: skip
LIST = {"servers": [SERVER], "unseen": [], "next": None}
CHANGED = {"id": PATH, "state": "stopping", "aws_request_id": "r", "revocation": None}


@pytest.fixture(autouse=True)
def fleet(gateway: FakeGateway, operator: Path) -> None:
    gateway.answers = {"GET /v1/servers": LIST, f"GET /v1/servers/{ID}": SERVER, f"GET /v1/servers/{PATH}": SERVER}


def asked(gateway: FakeGateway) -> list[tuple[str, str]]:
    """What was asked, without what every command asks."""
    return [(method, path) for method, path, _ in gateway.asked if "/servers" in path]


def test_a_list_has_uptime_and_enrolment(run: Run, gateway: FakeGateway) -> None:
    out = run("server", "list", "--region", "us-east-1", "--enrolment", "enrolled").succeeds()
    head, row = out.splitlines()
    assert head.split()[:5] == ["SERVER", "NAME", "STATE", "UPTIME", "ENROLMENT"]
    assert row.split() == [
        ID,
        "web",
        "running",
        "3",
        "h",
        "enrolled",
        "web",
        "t3.micro",
        "us-east-1",
        "10.0.0.1",
        "alice",
    ]
    assert asked(gateway) == [("GET", "/v1/servers?region=us-east-1&enrolment=enrolled")]
    assert json.loads(run("server", "list", "--json").succeeds()) == [SERVER]


def test_what_could_not_be_seen_is_told(run: Run, gateway: FakeGateway) -> None:
    place = {"account": "111122223333", "region": "eu-west-1", "code": "upstream_refused\x1b[2J"}
    gateway.answers["GET /v1/servers"] = {"servers": [], "unseen": [place], "next": None}
    said = run("server", "list")
    assert (said.status, said.out) == (0, "no machine is there\n")
    assert said.err == "note: account 111122223333 in eu-west-1 is not in this list: upstream_refused\\x1b[2J\n"


@pytest.mark.threat("C17")
def test_C17_names_and_output_of_machines_do_nothing_to_a_terminal(run: Run, gateway: FakeGateway) -> None:
    evil = "\x1b]0;x\x07\u202e\x9b2J"
    gateway.answers["GET /v1/servers"] = {**LIST, "servers": [{**SERVER, "name": evil, "tags": {evil: evil}}]}
    gateway.answers[f"GET /v1/servers/{ID}"] = {**SERVER, "name": evil, "tags": {evil: evil}}
    gateway.answers[f"GET /v1/servers/{ID}/output"] = {"id": PATH, "output": f"boot{evil}\nlogin:\n", "at": None}
    for command in ("list", ("show", ID), ("output", ID)):
        out = run("server", *((command,) if isinstance(command, str) else command)).succeeds()
        assert out.replace("\n", "").isprintable()
        assert "\u202e" not in out


@pytest.mark.parametrize(
    ("verb", "lost"),
    [("stop", "instance storage is lost"), ("reboot", "starts again"), ("terminate", "are revoked")],
)
def test_what_will_be_lost_is_said_and_nobody_there_is_no_yes(
    run: Run, gateway: FakeGateway, verb: str, lost: str
) -> None:
    said = run("server", verb, ID)
    assert (said.status, said.out) == (1, "")
    first, second, error, _ = said.err.splitlines()
    assert first == f"{PATH} (web): running, up 3 h, enrolled"
    assert lost in second
    assert error.endswith("(confirmation_required)")
    assert {method for method, _ in asked(gateway)} == {"GET"}
    gateway.answers[f"POST /v1/servers/{ID}/{verb}"] = CHANGED
    assert run("server", verb, ID, "--yes").succeeds() == f"{PATH} is stopping\n"


def test_a_person_says_no(run: Run, gateway: FakeGateway, operator: Path) -> None:
    environment = {"TRUSTED_GATEWAY_OPERATOR_DIR": str(operator)}
    with Terminal([str(CLI), "server", "terminate", ID], environment) as person:
        person.reads("Go on?")
        person.presses(b"n\n")
        assert person.ends() == 130
        assert "hint: Nothing was done." in person.seen
    assert {method for method, _ in asked(gateway)} == {"GET"}


def test_a_kept_enrolment_is_asked_for_by_name(run: Run, gateway: FakeGateway) -> None:
    gateway.answers[f"POST /v1/servers/{ID}/terminate"] = {**CHANGED, "revocation": "r-1"}
    assert "'trusted-gateway revocation show r-1'" in run("server", "terminate", ID, "--yes").succeeds()
    run("server", "terminate", ID, "--keep-enrolment", "--yes")
    assert [path.rpartition("/")[2] for _, path in asked(gateway)] == ["terminate", "terminate?keep_enrolment=true"]


def test_a_launch_sends_what_it_is_told(run: Run, gateway: FakeGateway, tmp_path: Path) -> None:
    path = tmp_path / "user-data"
    path.write_text("#!/bin/sh\n")
    gateway.answers["POST /v1/servers"] = (201, {"servers": [SERVER], "refused": []})
    order = ("--profile", "web", "--count", "2", "--name", "web", "--user-data", path)
    assert run("server", "launch", *order).succeeds() == f"launched {PATH} as web, running\n"
    (sent,) = [body for method, _, body in gateway.asked if method == "POST"]
    assert sent == {"profile": "web", "count": 2, "name": "web", "user_data": "#!/bin/sh\n"}
    run("server", "launch", "--profile", "web", "--user-data", tmp_path / "absent").fails("user_data_unreadable")
    path.write_bytes(b"\xff\xfe")
    run("server", "launch", "--profile", "web", "--user-data", path).fails("user_data_unreadable")
    run("server", "launch", "--profile", "web", "--count", "21").fails("usage", 2)


def test_what_was_not_launched_is_a_failure_beside_what_was(run: Run, gateway: FakeGateway) -> None:
    refused = {"code": "upstream_refused", "detail": "AWS answered 'InstanceLimitExceeded'"}
    gateway.answers["POST /v1/servers"] = (201, {"servers": [SERVER], "refused": [refused]})
    said = run("server", "launch", "--profile", "web", "--count", "2")
    assert (said.status, said.out) == (1, f"launched {PATH} as web, running\n")
    assert "1 of 2 were not launched: AWS answered 'InstanceLimitExceeded' (launch_incomplete)" in said.err


def test_waiting_ends_when_it_is_so_or_in_time(run: Run, gateway: FakeGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    gateway.answers[f"POST /v1/servers/{ID}/stop"] = CHANGED
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 3:
            gateway.answers[f"GET /v1/servers/{PATH}"] = {**SERVER, "state": "stopped", "uptime": None}

    monkeypatch.setattr("gateway.cli.servers.time.sleep", sleep)
    assert run("server", "stop", ID, "--yes", "--wait").succeeds() == f"{PATH} is stopped\n"
    assert len(slept) == 3
    gateway.answers[f"GET /v1/servers/{PATH}"] = SERVER
    monkeypatch.setattr(servers, "PATIENCE", -1)
    said = run("server", "stop", ID, "--yes", "--wait")
    assert (said.status, "(server_slow)" in said.err) == (1, True)
    assert said.out == f"{PATH} is {CHANGED['state']}\n", "it was asked for all the same"
    gateway.answers["POST /v1/servers"] = (201, {"servers": [SERVER], "refused": []})
    assert run("server", "launch", "--profile", "web", "--wait").succeeds()  # it runs, and has enrolled
    gateway.answers[f"GET /v1/servers/{PATH}"] = {**SERVER, "enrolment": "never"}
    for raw in ((), ("--json",)):
        said = run("server", "launch", "--profile", "web", "--wait", *raw)
        assert (said.status, "(server_slow)" in said.err) == (1, True)
        assert PATH in said.out, "what was launched is named, though it did not come in time"


@pytest.mark.parametrize(
    "named", ["web", "i-", "../operators", "i-0123456789abcdef0/stop", "aws/1/us-east-1/i-01234567"]
)
def test_a_name_that_is_none_asks_nobody(run: Run, gateway: FakeGateway, named: str) -> None:
    run("server", "show", named).fails("server_unknown")
    assert asked(gateway) == []


@pytest.mark.parametrize("what", ["server", "instance"])
def test_a_list_is_drawn_anew_until_it_is_broken_off(gateway: FakeGateway, operator: Path, what: str) -> None:
    instance = {"instance_id": ID, "state": "enrolled", "profile": "web", "account": "111122223333",
                "region": "us-east-1", "enrolled_at": "2030-01-01T00:00:00Z"}  # fmt: skip
    gateway.answers["GET /v1/instances"] = {"instances": [instance], "next": None}
    environment = {"TRUSTED_GATEWAY_OPERATOR_DIR": str(operator), "TERM": "xterm", "COLUMNS": "200"}
    with Terminal([str(CLI), what, "list", "--watch"], environment) as person:
        person.reads(ID)
        gateway.answers["GET /v1/servers"] = {**LIST, "servers": []}
        gateway.answers["GET /v1/instances"] = {"instances": [], "next": None}
        person.reads("no machine is there" if what == "server" else "no instance is enrolled")
        person.presses(b"\x03")
        assert person.ends() == 0
        assert "Traceback" not in person.seen


@pytest.mark.parametrize("what", ["server", "instance"])
def test_where_no_terminal_is_one_look_follows_the_other(operator: Path, gateway: FakeGateway, what: str) -> None:
    gateway.answers["GET /v1/servers"] = {**LIST, "servers": []}
    gateway.answers["GET /v1/instances"] = {"instances": [], "next": None}
    command = [str(CLI), "--operator-dir", str(operator), what, "list", "--watch", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as watching:
        assert watching.stdout is not None
        assert [watching.stdout.readline(), watching.stdout.readline()] == ["[]\n", "[]\n"]
        watching.stdout.close()  # whoever reads goes away: it ends, and says nothing
        assert watching.stderr is not None
        assert (watching.wait(20), watching.stderr.read()) == (1, "")
