"""Cloud actions by people who never see the key: over REST and the command line, on an AWS that enforces."""

import base64
import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from deploy.demo.cloud import IMAGE, REGION, Cloud, Seeded
from deploy.demo.ec2_document import DocumentAuthority
from deploy.demo.machine import Machine
from deploy.demo.visitor import Answer, Visitor
from gateway.core.servers import Verb
from gateway.wire.messages import UserData, read_user_data, user_data_line
from tests.conftest import Known
from tests.end_to_end.door import ListeningDoor
from tests.end_to_end.own_cloud import cloud_fixture, seeded_fixture  # noqa: F401  # fixtures
from tests.end_to_end.people import person
from tests.end_to_end.world import NO_LIMITS, World
from tests.end_to_end.world import world as make_world
from tests.gateway.adapters.test_secret_detector import SECRETS

FLEET, ALSO_SEEN = "fleet", "eu-west-1"
LAUNCH = {"profile": FLEET, "name": "web"}


@pytest.fixture(scope="module")
def door(cloud: Cloud) -> Iterator[ListeningDoor]:
    """Between the gateway and AWS: what is sent."""
    with ListeningDoor(cloud.endpoint) as made:
        yield made


@pytest.fixture(scope="module")
def world(
    tmp_path_factory: pytest.TempPathFactory,
    cloud: Cloud,
    seeded: Seeded,
    authority: DocumentAuthority,
    known: Known,
    door: ListeningDoor,
) -> Iterator[World]:
    """A gateway of this module's own, with a profile that can be launched, and roles that are bound to places."""
    folder = tmp_path_factory.mktemp("servers")
    tables = f'[servers]\nregions = ["{REGION}", "{ALSO_SEEN}"]\n'
    options: dict[str, Any] = {"endpoint": door.endpoint, "enrollment": NO_LIMITS, "tables": tables}
    with make_world(folder / "gateway", cloud, seeded, authority, **options) as made:
        known.add(made.site.passphrase)
        known.watch(made.site.log)
        made.site.cli("profile", "apply", str(_profile(folder, made)))
        admin = made.operator()
        places: dict[str, dict[str, Any]] = {
            "team-a": {"tags": {"team": "a"}},
            "team-b": {"tags": {"team": "b"}},
            "far": {"regions": [ALSO_SEEN]},
            "near": {"regions": [REGION]},
        }
        for name, place in places.items():
            role = {"permissions": ["operator:server:*"], **place}
            assert admin.call("PUT", f"/v1/roles/{name}", role, headers={"If-None-Match": "*"}).status == 200
        yield made


def _profile(folder: Path, world: World, user_data: str = "#!/bin/sh\\necho booted\\n") -> Path:
    path = folder / f"{FLEET}.toml"
    path.write_text(
        f'name = "{FLEET}"\n[attestation]\nsource_address = false\n'
        f'[launch]\nimage = "{IMAGE}"\nregion = "{REGION}"\ntype = "t3.micro"\nuser_data = "{user_data}"\n'
        f'tags = {{ team = "a" }}\n'
        f'[[grants]]\nname = "reports"\nrole = "{world.seeded.role_arn}"\nregion = "{REGION}"\n'
        f"policy_arns = ['arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess']\n"
    )
    return path


@pytest.fixture
def hired(world: World) -> Callable[..., Visitor]:
    """Somebody with these roles."""
    return lambda *roles: person(world, f"p-{uuid4().hex[:8]}", *roles)


def listed(visitor: Visitor, query: str = "") -> dict[str, dict[str, Any]]:
    """All servers that somebody sees, by instance id, over all pages."""
    found: dict[str, dict[str, Any]] = {}
    after = ""
    while True:
        answer = visitor.call("GET", f"/v1/servers?limit=7{query}{after}")
        assert answer.status == 200, answer.body
        assert answer.body["unseen"] == []
        found |= {each["instance_id"]: each for each in answer.body["servers"]}
        if answer.body["next"] is None:
            return found
        after = f"&after={answer.body['next']}"


def launched(visitor: Visitor, **order: Any) -> dict[str, Any]:
    """One machine."""
    answer = visitor.call("POST", "/v1/servers", LAUNCH | order)
    assert answer.status == 201, answer.body
    (found,) = answer.body["servers"]
    return dict(found)


def user_data_sent(door: ListeningDoor) -> str:
    """What the latest machine was given."""
    return base64.b64decode(door.asked_for("RunInstances")[-1].fields["UserData"]).decode()


def test_a_machine_boots_with_address_fingerprint_and_ticket_and_enrols(
    world: World, door: ListeningDoor, tmp_path: Path
) -> None:
    said = world.site.cli("server", "launch", "--profile", FLEET, "--name", "web")
    assert said.startswith(f"launched aws/{world.seeded.account}/{REGION}/i-")
    instance_id = said.split()[1].rpartition("/")[2]
    user_data = user_data_sent(door)
    *mine, line = user_data.splitlines()
    told = read_user_data(user_data.encode())
    assert told is not None
    assert mine == ["#!/bin/sh", "echo booted"]
    assert (told.gateway, told.ca_sha256) == (world.site.instance, world.fingerprint)
    assert line == user_data_line(UserData(told.gateway, told.ca_sha256, told.ticket))
    asked = door.asked_for("RunInstances")[-1].fields
    assert not [name for name in asked if name.startswith(("IamInstanceProfile", "KeyName"))]

    def shown() -> dict[str, Any]:
        found: dict[str, Any] = json.loads(world.site.cli("server", "show", instance_id, "--json"))
        return found

    before = shown()
    assert (before["enrolment"], before["profile"], before["name"]) == ("never", FLEET, "web")
    assert before["launched_by"].endswith("/operator/alice")

    stranger, visitor = world.launch(), world.visitor()
    assert visitor.enroll(stranger.document, told.ticket or "").code == "ticket_invalid"  # it is bound to its machine
    running = world.cloud.instance(instance_id)
    with Machine(tmp_path / "machine", world.cloud, world.authority, instance=running) as machine:
        machine.boot(user_data)
        machine.start_agent()
        machine.wait_ready()
        after = shown()
        assert (after["enrolment"], after["state"]) == ("enrolled", "running")
        assert after["uptime"] >= before["uptime"] >= 0
        assert instance_id in listed(world.operator(), "&enrolment=enrolled")
        assert instance_id in world.site.cli("server", "list", "--profile", FLEET)

        # Its end revokes it, and its agent hears that.
        assert world.site.run("server", "terminate", instance_id).returncode == 1  # nobody is there to be asked
        assert shown()["state"] == "running"
        said = world.site.cli("server", "terminate", instance_id, "--yes", "--wait")
        assert said.splitlines()[0] == f"{after['id']} is terminated"
        assert "it is revoked" in said
        assert shown()["enrolment"] == "revoked"
        assert machine.agent("status").returncode != 0
    (row,) = world.rows("launch", id=after["id"])
    (ticket,) = world.rows("ticket", id=row["ticket"])
    assert (ticket["instance_id"], ticket["state"]) == (instance_id, "redeemed")


@pytest.mark.parametrize("verb", list(Verb))
def test_each_change_leaves_its_decision_and_its_outcome(world: World, verb: Verb) -> None:
    operator = world.operator()
    server = launched(operator)
    answer = operator.call("POST", f"/v1/servers/{server['id']}/{verb}")
    assert answer.status == 200, answer.body
    state = {Verb.STOP: "stopped", Verb.TERMINATE: "terminated"}.get(verb, "running")
    assert (answer.body["state"], answer.body["revocation"]) == (state, None)
    assert listed(operator)[server["instance_id"]]["state"] == state
    records = world.audit(name=f"operator:server:{verb}", object=server["id"])
    assert [each["kind"] for each in records] == ["decision", "intent", "outcome"]
    assert records[-1]["facts"]["aws_request_id"] == answer.body["aws_request_id"] != ""


def test_the_same_order_under_the_same_key_is_one_machine(world: World, door: ListeningDoor) -> None:
    operator, before = world.operator(), len(door.asked_for("RunInstances"))
    fields = {"Idempotency-Key": uuid4().hex}
    first, again = (operator.call("POST", "/v1/servers", LAUNCH, headers=fields) for _ in range(2))
    assert (first.status, again.status) == (201, 201)
    assert first.body == again.body
    assert again.headers["idempotent-replayed"] == "true"
    assert len(door.asked_for("RunInstances")) == before + 1


def test_a_gateway_that_was_killed_behind_aws_finishes_under_the_same_key(world: World, door: ListeningDoor) -> None:
    """AWS has launched it, and the answer is lost. What is sent again is the same to the letter, token and ticket."""
    operator, fields = world.operator(), {"Idempotency-Key": uuid4().hex}

    def lost(asked: Any) -> Any:
        if asked.action == "RunInstances":
            raise ConnectionError
        return None

    with door.answering(lost):
        answer = operator.call("POST", "/v1/servers", LAUNCH, headers=fields)
    assert answer.code == "upstream_unavailable", answer.body
    answer = operator.call("POST", "/v1/servers", LAUNCH, headers=fields)
    assert answer.status == 201, answer.body
    first, second = door.asked_for("RunInstances")[-2:]
    assert first.fields == second.fields


@pytest.mark.threat("G10")
def test_G10_conditions_bind_what_is_seen_and_what_is_done(world: World, hired: Callable[..., Visitor]) -> None:
    server = launched(world.operator())
    for role, sees in (("near", True), ("team-a", True), ("far", False), ("team-b", False)):
        visitor = hired(role)
        assert (server["instance_id"] in listed(visitor)) is sees, role
        path = f"/v1/servers/{server['id']}"
        answers: list[Answer] = [visitor.call("GET", path), visitor.call("POST", f"{path}/reboot")]
        assert [each.status for each in answers] == ([200, 200] if sees else [404, 404]), role
        absent = visitor.call("GET", "/v1/servers/i-0fedcba9876543210")
        assert absent.code == "server_unknown"
        if not sees:
            assert {(each.code, each.body.get("detail")) for each in answers} == {("server_unknown", None)}
        answer = visitor.call("POST", "/v1/servers", LAUNCH)
        assert (answer.status, answer.code) == ((201, None) if sees else (403, "operator_forbidden")), role


def test_a_monitor_may_look_and_nothing_else(world: World, hired: Callable[..., Visitor]) -> None:
    server, monitor = launched(world.operator()), hired("monitor")
    assert listed(monitor)[server["instance_id"]]["uptime"] >= 0
    path = f"/v1/servers/{server['id']}"
    for method, where in [("GET", f"{path}/output"), *(("POST", f"{path}/{verb}") for verb in Verb)]:
        assert monitor.call(method, where).code == "operator_forbidden"
    assert monitor.call("POST", "/v1/servers", LAUNCH).code == "operator_forbidden"
    for role in ("auditor", "revoker"):
        assert hired(role).call("GET", "/v1/servers").code == "operator_forbidden"
    assert listed(world.operator())[server["instance_id"]]["state"] == "running"


@pytest.mark.parametrize("what", ["AWS key id", "AWS secret, not quoted", "PEM key", "GitHub token", "a password"])
def test_user_data_with_a_secret_goes_nowhere(
    world: World, door: ListeningDoor, known: Known, tmp_path: Path, what: str
) -> None:
    canary = f"canary-{uuid4().hex}"
    known.add(canary)
    path, before = tmp_path / "user-data", len(door.asked)
    path.write_text(f"#!/bin/sh\nexport PASSWORD={canary}\n{SECRETS[what]}\n")
    done = world.site.run("server", "launch", "--profile", FLEET, "--user-data", str(path))
    assert done.returncode == 1
    assert "(user_data_refused)" in done.stderr
    assert "user_data, line 2: Secret Keyword" in done.stderr
    assert "user_data, line 3: " in done.stderr
    assert canary not in done.stderr
    assert [asked.action for asked in door.asked[before:]] == []
    world.site.cli("audit", "tail")
    assert canary not in json.dumps(world.audit())
    path.write_text("#!/bin/sh\nexport PASSWORD=$(cat /run/credentials/app)\n")  # the control
    world.site.cli("server", "launch", "--profile", FLEET, "--user-data", str(path))


def test_a_profile_with_a_secret_in_its_user_data_is_not_applied(world: World, tmp_path: Path) -> None:
    done = world.site.run("profile", "apply", str(_profile(tmp_path, world, "#!/bin/sh\\nDB_PASSWORD=correcthorse\\n")))
    assert done.returncode == 1
    assert "launch.user_data: line 2: Secret Keyword" in done.stderr
    assert "correcthorse" not in done.stderr + json.dumps(world.audit())
    world.site.cli("profile", "apply", str(_profile(tmp_path, world)))


def test_what_aws_refuses_is_told_and_recorded(world: World) -> None:
    answer = world.operator().call("GET", f"/v1/servers/{launched(world.operator())['id']}/output")
    assert answer.code == "upstream_refused"  # the local AWS has no such operation
    (decision, outcome) = world.audit(answer.body["instance"])
    assert (decision["allowed"], outcome["allowed"]) == (True, False)
    assert outcome["facts"]["aws_operation"] == "ec2:get_console_output"


def test_the_commands_say_what_they_do(world: World) -> None:
    said = world.site.cli("server", "launch", "--profile", FLEET, "--count", "2", "--name", "pair")
    first, second = said.splitlines()
    assert first.endswith(" as pair-1, running")
    assert second.endswith(" as pair-2, running")
    named = first.split()[1]
    assert world.site.cli("server", "stop", named, "--yes", "--wait") == f"{named} is stopped\n"
    assert world.site.cli("server", "start", named, "--wait") == f"{named} is running\n"
    assert world.site.cli("server", "reboot", named, "--yes") == f"{named} is running\n"
    shown = world.site.cli("server", "show", named)
    assert "tag          team = a" in shown
    assert f"id           {named}" in shown
    rows = json.loads(world.site.cli("server", "list", "--state", "running", "--json"))
    assert {"pair-1", "pair-2"} <= {each["name"] for each in rows}
    done = world.site.run("server", "stop", "web")
    assert "(server_unknown)" in done.stderr


def test_a_secret_is_not_even_shown_to_the_second_person(
    own_world: Callable[..., AbstractContextManager[World]], tmp_path: Path
) -> None:
    tables = '[approvals]\npermissions = ["operator:server:launch"]\n'
    with own_world(tables=tables) as world:
        world.site.cli("profile", "apply", str(_profile(tmp_path, world)))
        operator = world.operator()
        answer = operator.call("POST", "/v1/servers", LAUNCH | {"user_data": "DB_PASSWORD=correcthorse"})
        assert answer.code == "user_data_refused"
        assert world.rows("approval") == []
        answer = operator.call("POST", "/v1/servers", LAUNCH | {"user_data": "#!/bin/sh\n"})  # the control
        assert answer.status == 202, answer.body
        assert len(world.rows("approval")) == 1
        assert "correcthorse" not in str(world.everything_but_the_log()) + str(world.audit())
