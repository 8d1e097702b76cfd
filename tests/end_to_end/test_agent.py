"""The agent on a machine, and unmodified clients beside it: from boot to revocation, and back by a new ticket."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from deploy.demo import sdk
from deploy.demo.machine import Machine
from deploy.demo.site import BIN
from gateway.adapters import clock
from gateway.wire.messages import UserData, parse_instant, user_data_line
from tests.end_to_end.crowd import order_ticket
from tests.end_to_end.rough import Rough, brief_fixture, rough_fixture  # noqa: F401  # a fixture
from tests.end_to_end.world import GRANT, World

REVOKED_WITHIN = 5.0


@contextmanager
def machine(rough: Rough, folder: Path, *, ticket: str | None = None, started: bool = True) -> Iterator[Machine]:
    """A machine whose user-data holds a ticket."""
    with Machine(folder, rough.world.cloud, rough.world.authority) as made:
        made.boot(rough.world.user_data(ticket or order_ticket(rough.operator)["ticket"]))
        if started:
            made.start_agent()
            made.wait_ready()
        yield made


def kept(made: Machine) -> dict[str, Any]:
    """What is in the agent's state directory."""
    found: dict[str, Any] = json.loads((made.state / "state.json").read_text())
    return found


def uri_of(rough: Rough, made: Machine) -> str:
    found: str = rough.world.rows("instance", instance_id=made.instance.instance_id)[0]["id"]
    return found


def enrollments(world: World, uri: str) -> list[str]:
    """How it came in, each time."""
    return [each["reason"] for each in world.audit(name="instance:certificate:enroll", object=uri, kind="outcome")]


def wait(until: Callable[[], Any], seconds: float) -> float:
    """How long it took. Fails after `seconds`."""
    begun = time.monotonic()
    while not until():
        assert time.monotonic() - begun < seconds, "it did not happen"
        time.sleep(0.05)
    return time.monotonic() - begun


def serves(made: Machine) -> bool:
    return made.ask_loopback(GRANT)[0] == 200


def on(made: Machine, rough: Rough, *command: str, told: bool = True) -> "subprocess.CompletedProcess[str]":
    """Run an unmodified client there, told where credentials are, and nothing else."""
    environment = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(made.folder),
        "AWS_ENDPOINT_URL": rough.world.cloud.endpoint,
        "AWS_REGION": rough.world.seeded.region,
        "AWS_EC2_METADATA_DISABLED": "true",
        **(made.sdk_environment(GRANT) if told else {}),
    }
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_unmodified_clients_get_what_the_grant_allows_and_are_refused_the_rest(rough: Rough, tmp_path: Path) -> None:
    bucket, (reports, payroll) = rough.world.seeded.bucket, rough.world.seeded.prefixes
    boto3 = [sys.executable, str(Path(sdk.__file__)), bucket]
    cli = [str(BIN / "aws"), "s3api", "list-objects-v2", "--bucket", bucket, "--prefix"]
    with machine(rough, tmp_path / "machine") as made:
        done = on(made, rough, *boto3, reports)
        assert (done.returncode, done.stdout.split()) == (0, [f"{reports}2026-10.csv", f"{reports}2026-11.csv"])
        done = on(made, rough, *boto3, payroll)
        assert (done.returncode, done.stdout.strip()) == (3, "AccessDenied")
        done = on(made, rough, *cli, reports)
        assert [each["Key"] for each in json.loads(done.stdout)["Contents"]] == [
            f"{reports}2026-10.csv",
            f"{reports}2026-11.csv",
        ]
        done = on(made, rough, *cli, payroll)
        assert done.returncode != 0
        assert "AccessDenied" in done.stderr
        done = on(made, rough, *boto3, reports, told=False)
        assert done.returncode not in (0, 3), "the control: without the agent there are no credentials"
        assert "NoCredentials" in done.stderr
        done = made.agent("exec", "--", sys.executable, "-c", "import os; print(*sorted(os.environ))")
        assert done.returncode == 0
        assert {"AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"} <= {
            *done.stdout.split()
        }
        assert made.agent("exec", "--grant", "payroll", "--", "true").returncode != 0

        status = made.status()
        assert status is not None
        assert (status["state"], status["healthy"], status["profile"]) == ("enrolled", True, "web")
        assert status["instance"].endswith(made.instance.instance_id)
        assert 3000 < status["grants"][0]["remaining_seconds"] <= 3600
        assert made.agent("status").returncode == 0
        assert (made.state / "state.json").stat().st_mode & 0o777 == 0o600
        assert made.state.stat().st_mode & 0o777 == 0o700


def test_a_restart_keeps_key_and_certificate(rough: Rough, tmp_path: Path) -> None:
    with machine(rough, tmp_path / "machine") as made:
        before, uri = kept(made), uri_of(rough, made)
        requests = len(rough.world.audit(name="instance:certificate:enroll"))
        made.kill_agent()
        made.start_agent()
        wait(lambda: made.agent("status").returncode == 0, 60)
        assert serves(made)
        assert kept(made) == before
        assert enrollments(rough.world, uri) == ["enrolled"]
        assert len(rough.world.audit(name="instance:certificate:enroll")) == requests
        assert len(rough.world.rows("certificate", subject=uri)) == 1


@pytest.mark.threat("J04")
def test_it_renews_at_half_life_and_comes_back_by_its_key_when_its_certificate_ran_out(
    brief: Rough, tmp_path: Path
) -> None:
    world = brief.world
    with machine(brief, tmp_path / "machine") as made:
        uri, key = uri_of(brief, made), kept(made)["key"]
        begun = time.monotonic()
        while len(renewed := world.audit(subject=uri, reason="renewed")) < 2:
            assert serves(made), "served all the time"
            assert time.monotonic() - begun < 15
            time.sleep(0.1)
        assert all(each["allowed"] for each in renewed)
        assert enrollments(world, uri) == ["enrolled"]
        states = [row["state"] for row in world.rows("certificate", subject=uri)]
        assert states.count("active") == 1
        assert len(states) >= 3
        assert set(states) == {"active", "superseded"}
        assert world.audit(subject=uri, allowed=False) == [], "nothing was refused on the way"

        made.kill_agent()
        wait(lambda: _ended(kept(made)["not_after"]), 10)
        made.start_agent()
        wait(lambda: made.agent("status").returncode == 0, 60)
        assert serves(made)
        assert enrollments(world, uri) == ["enrolled", "enrolled_again"]
        assert kept(made)["key"] == key
        (ticket,) = world.rows("ticket", redeemed_by=uri)
        proof = world.audit(name="instance:certificate:enroll", object=uri, kind="outcome")[-1]
        assert proof["facts"]["ticket"] is None, "by its key: the ticket was used up at the start"
        assert ticket["state"] == "redeemed"


@pytest.mark.threat("J08", "B05")
def test_J08_a_revoked_agent_stops_at_once_and_comes_back_by_a_ticket_in_its_name_only(
    rough: Rough, tmp_path: Path
) -> None:
    world = rough.world
    with machine(rough, tmp_path / "machine") as made:
        uri, key = uri_of(rough, made), kept(made)["key"]
        assert serves(made)
        world.site.cli("revoke", "instance", made.instance.instance_id)
        took = wait(lambda: not serves(made), REVOKED_WITHIN)
        assert took < REVOKED_WITHIN
        status = made.status()
        assert status is not None
        assert (status["state"], status["healthy"]) == ("revoked", False)
        wait(lambda: kept(made)["state"] == "revoked", 5)
        for path in (*made.state.rglob("*"), *made.run.rglob("*")):
            assert not path.is_file() or key not in path.read_text(), "the key is gone"

        requests = len(world.audit(name="instance:certificate:enroll"))
        made.kill_agent()
        made.start_agent()
        wait(lambda: (made.status() or {}).get("state") == "revoked", 60)
        assert made.agent("exec", "--", "true").returncode != 0
        assert len(world.audit(name="instance:certificate:enroll")) == requests, "it does not even ask"

        named = order_ticket(rough.operator, instance_id=made.instance.instance_id)["ticket"]
        made.stop()
        made.boot(world.user_data(named))
        made.start_agent()
        made.wait_ready()
        wait(lambda: made.agent("status").returncode == 0, 60)
        assert serves(made)
        assert enrollments(world, uri) == ["enrolled", "enrolled_again"]
        assert kept(made)["key"] != key, "with a new key"


@pytest.mark.threat("J05")
def test_J05_a_gateway_with_another_fingerprint_gets_no_ticket(rough: Rough, tmp_path: Path) -> None:
    world = rough.world
    ticket = order_ticket(rough.operator)["ticket"]
    with Machine(tmp_path / "machine", world.cloud, world.authority) as made:
        made.boot(user_data_line(UserData(world.site.instance, "0" * 64, ticket)))
        seen = len(world.audit())
        made.start_agent()
        wait(lambda: "pin_mismatch" in made.log.read_text(), 60)
        asked = [each["name"] for each in world.audit()[seen:] if each["name"].startswith("instance:")]
        assert asked == [], "neither ticket nor evidence was sent"
        assert not (made.run / "agent.json").exists() or made.agent("status").returncode != 0
        made.stop()
        made.boot(world.user_data(ticket))
        made.start_agent()
        made.wait_ready()
        assert serves(made), "the control: the same ticket, unused, with the right fingerprint"
    assert ticket not in made.log.read_text()


def _ended(not_after: str) -> bool:
    return clock.now() > parse_instant(not_after)
