"""The look-alike of the metadata service over real sockets (J01, J09), and unmodified boto3 beside it."""

import json
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from agent.serve import listener, peers
from agent.settings import may_be_passed_on
from tests.agent.conftest import Answer, Machine, Shifted, until, world
from tests.agent.fake_gateway import SECRET_CANARY, Refusal
from tests.agent.fake_metadata import DOCUMENT

TOKEN, TTL = "X-aws-ec2-metadata-token", "X-aws-ec2-metadata-token-ttl-seconds"
ROLES = "/latest/meta-data/iam/security-credentials/"
BOTO3 = (
    "import boto3; c = boto3.Session().get_credentials(); f = c.get_frozen_credentials(); "
    "print(c.method, f.access_key, c._expiry_time.isoformat())"
)


def connect(machine: Machine) -> HTTPConnection:
    host, port = machine.running()["imds"].rsplit(":", 1)
    return HTTPConnection(host, int(port), timeout=5)


def ask(machine: Machine, method: str, path: str, headers: dict[str, str] | None = None) -> Answer:
    connection = connect(machine)
    began = time.monotonic()
    connection.request(method, path, headers=headers or {})
    answer = connection.getresponse()
    out = Answer(answer.status, dict(answer.headers), answer.read(), time.monotonic() - began)
    connection.close()
    return out


def token(machine: Machine, ttl: int = 60) -> str:
    answer = ask(machine, "PUT", "/latest/api/token", {TTL: str(ttl)})
    assert answer.status == 200
    return answer.raw.decode()


def get(machine: Machine, path: str, shown: str | None = None, **headers: str) -> Answer:
    return ask(machine, "GET", path, {TOKEN: shown or token(machine), **headers})


# ── J01


@pytest.mark.threat("J01")
def test_j01_a_token_and_then_the_role_in_the_exact_form(serving: Machine) -> None:
    answer = ask(serving, "PUT", "/latest/api/token", {TTL: "21600"})
    assert (answer.status, answer.headers[TTL], answer.headers["Content-Type"]) == (200, "21600", "text/plain")
    shown = answer.raw.decode()
    listed = get(serving, ROLES, shown)
    assert (listed.status, listed.raw, listed.headers["Content-Type"]) == (200, b"app", "text/plain")
    role = get(serving, ROLES + "app", shown)
    assert role.status == 200
    assert list(role.json) == [
        "Code", "LastUpdated", "Type", "AccessKeyId", "SecretAccessKey", "Token", "Expiration",
    ]  # fmt: skip
    assert (role.json["Code"], role.json["Type"]) == ("Success", "AWS-HMAC")
    for name in ("LastUpdated", "Expiration"):
        datetime.strptime(role.json[name], "%Y-%m-%dT%H:%M:%SZ")
    assert role.json["SecretAccessKey"].startswith(SECRET_CANARY)
    assert min(get(serving, ROLES + "app", shown).seconds for _ in range(5)) < 0.25
    info = get(serving, "/latest/meta-data/iam/info", shown)
    assert info.json["Code"] == "Success"
    assert info.json["InstanceProfileArn"] == "arn:aws:iam::123456789012:instance-profile/app"


@pytest.mark.threat("J01")
@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("PUT", "/latest/api/token", {}, 400),
        ("PUT", "/latest/api/token", {TTL: ""}, 400),
        ("PUT", "/latest/api/token", {TTL: "0"}, 400),
        ("PUT", "/latest/api/token", {TTL: "21601"}, 400),
        ("PUT", "/latest/api/token", {TTL: "-1"}, 400),
        ("PUT", "/latest/api/token", {TTL: "6 0"}, 400),
        ("PUT", "/latest/api/token", {TTL: "９"}, 400),
        ("PUT", "/latest/api/token", {TTL: "1e3"}, 400),
        ("PUT", "/latest/api/token", {TTL: "60", "X-Forwarded-For": "10.0.0.1"}, 403),
        ("PUT", "/latest/api/token", {TTL: "60", "Forwarded": "for=10.0.0.1"}, 403),
        ("PUT", "/latest/api/token", {TTL: "60", "Via": "1.1 proxy"}, 403),
        ("PUT", "/latest/api/token", {TTL: "60", "Origin": "http://evil.example"}, 403),
        ("PUT", "/latest/api/token", {TTL: "60", "Host": "evil.example"}, 403),
        ("PUT", "/latest/api/token", {TTL: "60", "Content-Length": "4"}, 400),
        ("PUT", "/2021-03-23/api/token", {TTL: "60"}, 403),
        ("PUT", ROLES, {TTL: "60"}, 405),
        ("POST", "/latest/api/token", {TTL: "60"}, 405),
        ("DELETE", ROLES, {}, 405),
        ("GET", "/latest/api/token", {TTL: "60"}, 405),
        ("GET", ROLES, {}, 401),
        ("HEAD", ROLES, {}, 401),
        ("GET", ROLES + "app", {}, 401),
        ("GET", "/latest/meta-data/no-such-thing", {}, 401),
        ("GET", ROLES, {TOKEN: ""}, 401),
        ("GET", ROLES, {TOKEN: "wrong"}, 401),
        ("GET", ROLES, {TOKEN: "A" * 54 + "=="}, 401),
        ("GET", ROLES, {TOKEN: "ÿ" * 56}, 401),
        ("GET", ROLES, {TOKEN: "right", "X-Forwarded-For": "10.0.0.1"}, 403),
        ("GET", ROLES, {TOKEN: "right", "Host": "127.0.0.1"}, 403),
        ("GET", ROLES + "other", {TOKEN: "right"}, 404),
        ("GET", ROLES + "app/x", {TOKEN: "right"}, 404),
        ("GET", ROLES + "%61pp", {TOKEN: "right"}, 404),
        ("GET", "/latest/user-data", {TOKEN: "right"}, 404),
        ("GET", "/latest/meta-data/", {TOKEN: "right"}, 404),
        ("GET", "/latest/", {TOKEN: "right"}, 404),
        ("GET", "/", {TOKEN: "right"}, 404),
        ("GET", "/1.0/meta-data/iam/info", {TOKEN: "right"}, 404),
        ("GET", "/latest/meta-data/../meta-data/iam/info", {TOKEN: "right"}, 404),
        ("GET", "/status", {TOKEN: "right"}, 404),
    ],
)
def test_j01_whatever_a_client_of_imdsv2_does_not_send_is_refused(
    serving: Machine, method: str, path: str, headers: dict[str, str], status: int
) -> None:
    if headers.get(TOKEN) == "right":
        headers = {**headers, TOKEN: token(serving)}
    sent = {name: value.encode("utf-8") for name, value in headers.items()}
    answer = ask(serving, method, path, sent)  # type: ignore[arg-type]  # bytes pass, too
    assert answer.status == status
    assert SECRET_CANARY.encode() not in answer.raw
    assert get(serving, ROLES + "app").status == 200


def test_spellings_that_clients_have(serving: Machine) -> None:
    shown = token(serving)
    for path in (ROLES.rstrip("/"), "/" + ROLES, "/2021-03-23" + ROLES.removeprefix("/latest")):
        assert get(serving, path, shown).raw == b"app", path
    assert get(serving, "/" + ROLES + "app/", shown).json["Code"] == "Success"
    for host in ("169.254.169.254", "169.254.169.254:80", "LOCALHOST:" + serving.running()["imds"].split(":")[1]):
        assert get(serving, ROLES, shown, Host=host).status == 200
    head = ask(serving, "HEAD", ROLES, {TOKEN: shown})
    assert (head.status, head.raw, head.headers["Content-Length"]) == (200, b"", "3")


@pytest.mark.threat("J01")
def test_j01_a_token_ends_and_is_of_this_run(machine: Machine) -> None:
    clock = Shifted()
    daemon = machine.agent(world=world(clock))
    shown = token(machine, 60)
    assert get(machine, ROLES, shown).status == 200
    clock.by = timedelta(seconds=61)
    assert get(machine, ROLES, shown).status == 401
    clock.by = timedelta(0)
    assert get(machine, ROLES, shown).status == 200, "the control"
    clock.by = timedelta(hours=-7)
    assert get(machine, ROLES, shown).status == 401, "no clock makes it live longer than six hours"
    clock.by = timedelta(0)
    daemon.close()
    machine.agent()
    assert get(machine, ROLES, shown).status == 401


@pytest.mark.threat("J01")
def test_j01_a_token_is_of_its_user(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    uid = 0
    monkeypatch.setattr(peers, "uid_of", lambda peer, local: uid)
    machine.agent()
    shown = token(machine)
    assert get(machine, ROLES, shown).status == 200
    uid = 12345
    assert get(machine, ROLES, shown).status == 401


@pytest.mark.threat("J01")
def test_j01_the_answers_reach_no_other_machine(machine: Machine) -> None:
    daemon = machine.agent()
    door = daemon.doors.doors["imds"].socket
    assert door.getsockopt(socket.IPPROTO_IP, socket.IP_TTL) == 1
    assert door.getsockname()[0] == "127.0.0.1"
    assert daemon.doors.doors["container"].socket.getsockopt(socket.IPPROTO_IP, socket.IP_TTL) != 1, "the control"
    accepted: list[int] = []
    talk = daemon.doors.doors["imds"]._talk

    def noting(connection: socket.socket) -> None:
        accepted.append(connection.getsockopt(socket.IPPROTO_IP, socket.IP_TTL))
        talk(connection)

    daemon.doors.doors["imds"]._talk = noting
    token(machine)
    assert accepted == [1]


def test_off_is_off(machine: Machine) -> None:
    machine.agent(imds="off")
    assert machine.running()["imds"] is None
    refused = machine.cli("exec", "--via", "imds", "--", "true")
    assert "is off" in refused.stderr
    assert machine.cli("exec", "--", "true").returncode == 0


# ── J09


@pytest.mark.threat("J09")
def test_j09_three_hundred_tokens_of_one_process_push_out_nobody_elses(serving: Machine) -> None:
    first = token(serving)
    with ThreadPoolExecutor(8) as pool:
        tokens = [*pool.map(lambda ttl: token(serving, ttl), range(1000, 1300))]
    assert len(tokens) == 300
    for each in (first, tokens[0], tokens[-1]):
        assert get(serving, ROLES, each).status == 200


@pytest.mark.threat("J09")
def test_j09_who_crowds_one_door_leaves_the_others_open(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "MOST", 4)
    door = machine.agent().doors.doors["imds"]
    host, port = machine.running()["imds"].rsplit(":", 1)
    with ExitStack() as stack:
        for _ in range(4):
            stack.enter_context(socket.create_connection((host, int(port)), timeout=2))
        until(lambda: door.inside == 4)
        assert machine.get("/v1/credentials/app").status == 200
        assert machine.status()["healthy"]
    until(lambda: door.inside == 0)
    assert get(machine, ROLES).status == 200


# ── which grant


def test_several_grants_are_told_apart_by_name_or_by_setting(machine: Machine) -> None:
    machine.gateway.grants = ["app", "backup", "quiet"]
    machine.gateway.doors = {"quiet": ["container"]}
    daemon = machine.agent()
    several = get(machine, ROLES)
    assert several.status == 404
    assert several.json["Message"] == "There is more than one grant by imds, name one: app, backup"
    assert get(machine, ROLES + "backup").json["Code"] == "Success"
    closed = get(machine, ROLES + "quiet")
    assert (closed.status, closed.json["Code"]) == (200, "AssumeRoleUnauthorizedAccess")
    assert "not delivered by imds" in closed.json["Message"]
    daemon.close()
    machine.agent(imds_grant="backup")
    assert get(machine, ROLES).raw == b"backup"
    refused = machine.cli("exec", "--via", "imds", "--grant", "app", "--", "true")
    assert "gives backup" in refused.stderr
    assert machine.cli("exec", "--via", "imds", "--grant", "backup", "--", "true").returncode == 0


# ── when there is nothing


def test_cold_is_503_within_half_a_second(machine: Machine) -> None:
    machine.gateway.delay["/v1/credentials"] = 3.0
    daemon = machine.agent(ready=False)
    until(lambda: daemon.lifecycle.state == "enrolled")
    answer = get(machine, ROLES + "app")
    assert (answer.status, int(answer.headers["Retry-After"]) >= 1) == (503, True)
    assert answer.seconds < 1, "botocore and the JavaScript SDK wait no longer"


def test_before_enrolment_it_is_503(machine: Machine) -> None:
    machine.gateway.sticky["/v1/enroll"] = Refusal("store_unavailable")
    machine.agent(ready=False)
    assert get(machine, ROLES).status == 503


def test_a_refusal_that_lasts_is_a_role_without_credentials(machine: Machine) -> None:
    machine.gateway.sticky["/v1/credentials"] = Refusal("upstream_refused")
    machine.agent()
    answer = get(machine, ROLES + "app")
    assert (answer.status, answer.json["Code"]) == (200, "AssumeRoleUnauthorizedAccess")
    assert "upstream_refused" in answer.json["Message"]
    assert "AccessKeyId" not in answer.json


def test_a_revoked_agent_says_so(machine: Machine) -> None:
    daemon = machine.agent()
    machine.gateway.revoke()
    until(lambda: daemon.lifecycle.state == "revoked")
    answer = get(machine, ROLES + "app")
    assert answer.json["Code"] == "AssumeRoleUnauthorizedAccess"
    assert "instance_revoked" in answer.json["Message"]


# ── passing through


def test_nothing_is_passed_on_unless_it_is_asked_for(machine: Machine) -> None:
    real = machine.metadata.resources
    real["/latest/meta-data/placement/region"] = b"eu-central-1"
    real["/latest/meta-data/instance-id"] = b"i-0123456789abcdef0"
    real["/latest/meta-data/identity-credentials/ec2/security-credentials/ec2-instance"] = b"{}"
    daemon = machine.agent()
    assert get(machine, "/latest/meta-data/placement/region").status == 404
    daemon.close()
    machine.agent(imds_passthrough="meta-data/placement/,dynamic/instance-identity/")
    assert get(machine, "/latest/meta-data/placement/region").raw == b"eu-central-1"
    assert get(machine, "//2021-03-23/meta-data/placement/region").raw == b"eu-central-1"
    assert get(machine, "/latest/dynamic/instance-identity/document").raw == DOCUMENT
    for path in (
        "meta-data/instance-id", "user-data", "dynamic/instance-identity/../../user-data", "meta-data/placement/%2e",
        "meta-data/placement/../iam/", "meta-data/placement/none", "dynamic/instance-identity//document",
    ):  # fmt: skip
        assert get(machine, f"/latest/{path}").status == 404, path
    assert ask(machine, "GET", "/latest/meta-data/placement/region").status == 401


def test_all_of_meta_data_is_not_all(machine: Machine) -> None:
    machine.metadata.resources["/latest/meta-data/iam/security-credentials/real-role"] = b"real"
    machine.metadata.resources["/latest/meta-data/identity-credentials/ec2/info"] = b"real"
    machine.metadata.resources["/latest/meta-data/instance-id"] = b"real"
    machine.agent(imds_passthrough="meta-data/")
    assert get(machine, "/latest/meta-data/instance-id").raw == b"real"
    assert get(machine, "/latest/meta-data/iam/security-credentials/real-role").status == 404
    assert get(machine, "/latest/meta-data/identity-credentials/ec2/info").status == 404
    assert get(machine, ROLES).raw == b"app", "the agent's own"
    machine.metadata.overrides["/latest/meta-data/instance-id"] = 500
    assert get(machine, "/latest/meta-data/instance-id").status == 503


@pytest.mark.parametrize(
    "path", ["user-data", "meta-data", "meta-data/iam/", "meta-data/IAM/x", "meta-data/identity-credentials/ec2/",
             "dynamic/", "dynamic/other/", "", "/", "meta-data/./iam/", "meta-data//iam", "latest/meta-data/"]
)  # fmt: skip
def test_what_can_never_be_passed_on(path: str) -> None:
    assert not may_be_passed_on(path)
    assert may_be_passed_on("meta-data/placement/") is True


# ── boto3


def boto3_by_imds(machine: Machine, home: Path) -> list[str]:
    told = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(home),
        "AWS_EC2_METADATA_SERVICE_ENDPOINT": f"http://{machine.running()['imds']}/",
        "AWS_EC2_METADATA_V1_DISABLED": "true",
    }
    done = subprocess.run([sys.executable, "-c", BOTO3], env=told, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.parametrize("minutes", [60, 15])
def test_boto3_believes_what_is_stated(machine: Machine, tmp_path: Path, minutes: int) -> None:
    """Without a fraction of a second it would take 15 minutes for 17 to 25."""
    machine.gateway.credentials_life = timedelta(minutes=minutes)
    daemon = machine.agent()
    method, key, expires = boto3_by_imds(machine, tmp_path)
    assert (method, key) == ("iam-role", "ASIA0000000000000001")
    held: Any = daemon.lifecycle.credentials._supplies["app"]._expires
    assert datetime.fromisoformat(expires) == held
    assert held - datetime.now(UTC) <= timedelta(minutes=minutes)
    stated = get(machine, ROLES + "app").json["Expiration"]
    assert ("." in stated) == (minutes < 30)


def test_exec_via_imds(machine: Machine, tmp_path: Path) -> None:
    machine.agent()
    inherited = {
        "HOME": str(tmp_path),
        "AWS_ACCESS_KEY_ID": "other",
        "AWS_SECRET_ACCESS_KEY": "other",
        "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE": "IPv6",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://127.0.0.1:1/",
    }
    done = machine.cli("exec", "--via", "imds", "--", sys.executable, "-c", BOTO3, environment=inherited)
    assert done.stdout.split()[:2] == ["iam-role", "ASIA0000000000000001"], done.stderr
    code = "import os, json; print(json.dumps(dict(os.environ)))"
    found = json.loads(
        machine.cli("exec", "--via", "imds", "--", sys.executable, "-c", code, environment=inherited).stdout
    )
    assert found["AWS_EC2_METADATA_SERVICE_ENDPOINT"].endswith("/")
    assert found["AWS_EC2_METADATA_V1_DISABLED"] == "true"
    assert not {*inherited} - {"HOME"} & {*found} - {"HOME"}
