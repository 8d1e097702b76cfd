"""Unmodified boto3 and AWS CLI on a machine, by every local way, against the gateway and a local AWS that enforces."""

import json
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from deploy.demo import sdk
from deploy.demo.cloud import prefix_policy
from deploy.demo.machine import Machine
from deploy.demo.site import BIN
from tests.end_to_end.world import World

PROFILE = "doors"
WEB, BATCH = "nobody", "daemon"  # the local users whose grants these are
WEB_GRANT, BATCH_GRANT, QUIET = "pages", "nightly", "quiet"
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files that are for others")


@pytest.fixture(scope="module")
def profile(world: World, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A profile with two grants for two users by every way, and one that goes by the container endpoint alone."""
    path = tmp_path_factory.mktemp("profile") / "doors.toml"
    every = '["container", "imds", "process", "file"]'
    rows: tuple[tuple[str, int, list[str], str], ...] = (
        (WEB_GRANT, 0, [WEB], every),
        (BATCH_GRANT, 1, [BATCH], every),
        (QUIET, 0, [], '["container"]'),
    )
    seeded = world.seeded
    path.write_text(f'name = "{PROFILE}"\n' + "".join(
        f'[[grants]]\nname = "{name}"\nrole = "{seeded.role_arn}"\nregion = "{seeded.region}"\n'
        f"users = {json.dumps(users)}\ndoors = {doors}\n"
        f"policy = '''{prefix_policy(seeded.bucket, seeded.prefixes[which])}'''\n"
        for name, which, users, doors in rows
    ))  # fmt: skip
    world.site.cli("profile", "apply", str(path))
    return PROFILE


@pytest.fixture(scope="module")
def made(world: World, profile: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """One machine for all tests here, its run directory on tmpfs and open to passers-by."""
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="tg-doors-", dir="/dev/shm"))
        stack.callback(shutil.rmtree, folder)
        folder.chmod(0o755)
        machine = Machine(tmp_path_factory.mktemp("machine"), world.cloud, world.authority, run=folder / "run")
        stack.enter_context(machine)
        machine.boot(world.user_data(world.ticket(profile)))
        machine.start_agent()
        machine.wait_ready()
        yield machine


def environment(made: Machine, world: World, **told: str) -> dict[str, str]:
    """What a program there has: no credentials, and no metadata service but one that it is told of."""
    return {
        **made.environment(),
        "AWS_ENDPOINT_URL": world.cloud.endpoint,
        "AWS_REGION": world.seeded.region,
        "AWS_EC2_METADATA_SERVICE_ENDPOINT": "http://127.0.0.1:1/",
        "AWS_CONFIG_FILE": str(made.folder / "config"),
        **told,
    }


def run(command: list[str], told: Mapping[str, str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command, env=told, capture_output=True, text=True, timeout=60, check=False)


def boto3(bucket: str, prefix: str) -> list[str]:
    return [sys.executable, str(Path(sdk.__file__)), bucket, prefix]


def aws_cli(bucket: str, prefix: str) -> list[str]:
    return [str(BIN / "aws"), "s3", "ls", f"s3://{bucket}/{prefix}"]


Way = Callable[[Machine, World, list[str], str], "subprocess.CompletedProcess[str]"]


def by_variables(made: Machine, world: World, command: list[str], grant: str) -> "subprocess.CompletedProcess[str]":
    """The container endpoint, as a unit file names it."""
    return run(command, environment(made, world, **made.sdk_environment(grant)))


def by_exec(via: str) -> Way:
    def way(made: Machine, world: World, command: list[str], grant: str) -> "subprocess.CompletedProcess[str]":
        agent = [*made.agent_command, "exec", "--grant", grant, "--via", via, "--", *command]
        return run(agent, environment(made, world))

    return way


def by_profile(made: Machine, world: World, command: list[str], grant: str) -> "subprocess.CompletedProcess[str]":
    """`configure`, and from then on credential_process."""
    told = environment(made, world, AWS_PROFILE=f"as-{grant}")
    configured = run([*made.agent_command, "configure", "--grant", grant, "--profile", f"as-{grant}"], told)
    assert configured.returncode == 0, configured.stderr
    return run(command, told)


def by_env(made: Machine, world: World, command: list[str], grant: str) -> "subprocess.CompletedProcess[str]":
    script = f'eval "$(trusted-gateway-agent env --grant {grant})" && exec "$@"'
    return run(["/bin/sh", "-c", script, "sh", *command], environment(made, world))


def by_file(made: Machine, world: World, command: list[str], grant: str) -> "subprocess.CompletedProcess[str]":
    told = environment(made, world, AWS_SHARED_CREDENTIALS_FILE=str(made.run / f"{grant}.credentials"))
    return run(command, told)


WAYS: dict[str, Way] = {
    "container": by_variables,
    "exec": by_exec("container"),
    "exec keys": by_exec("keys"),
    "configure": by_profile,
    "env": by_env,
    "file": by_file,
}


@pytest.mark.parametrize("client", [boto3, aws_cli], ids=["boto3", "cli"])
@pytest.mark.parametrize("way", WAYS)
def test_a_client_gets_what_its_grant_allows_and_not_the_rest(
    made: Machine, world: World, way: str, client: Callable[[str, str], list[str]]
) -> None:
    bucket, (reports, payroll) = world.seeded.bucket, world.seeded.prefixes
    done = WAYS[way](made, world, client(bucket, reports), WEB_GRANT)
    assert done.returncode == 0, done.stderr
    assert "2026-10.csv" in done.stdout
    done = WAYS[way](made, world, client(bucket, payroll), WEB_GRANT)
    assert done.returncode != 0
    assert "AccessDenied" in done.stdout + done.stderr
    if client is boto3:  # the quicker of them is enough for the controls
        done = WAYS[way](made, world, boto3(bucket, payroll), BATCH_GRANT)
        assert done.returncode == 0, "another grant may"


@pytest.mark.parametrize("client", [boto3, aws_cli], ids=["boto3", "cli"])
def test_without_the_agent_there_are_no_credentials(
    made: Machine, world: World, client: Callable[[str, str], list[str]]
) -> None:
    """The control."""
    done = run(client(world.seeded.bucket, world.seeded.prefixes[0]), environment(made, world))
    assert done.returncode not in (0, 3)
    assert "credentials" in done.stderr.lower()


@contextmanager
def another(world: World, profile: str, folder: Path, grant: str) -> Iterator[Machine]:
    """A machine whose metadata look-alike gives this grant to root."""

    class OneGrant(Machine):
        def environment(self) -> dict[str, str]:
            return {
                **super().environment(),
                "TRUSTED_GATEWAY_AGENT_IMDS_GRANT": grant,
                "TRUSTED_GATEWAY_AGENT_IMDS_PASSTHROUGH": "meta-data/placement/",
            }

    with OneGrant(folder, world.cloud, world.authority) as machine:
        machine.boot(world.user_data(world.ticket(profile)))
        machine.start_agent()
        machine.wait_ready()
        yield machine


def imds_of(made: Machine) -> str:
    address = json.loads((made.run / "agent.json").read_text())["imds"]
    return f"http://{address}/"


REGION_OF_BOTO3 = """
import botocore.session
from botocore.utils import IMDSRegionProvider
print(IMDSRegionProvider(botocore.session.get_session()).provide())
"""


def test_clients_take_the_look_alike_for_the_metadata_service(world: World, profile: str, tmp_path: Path) -> None:
    bucket, (reports, payroll) = world.seeded.bucket, world.seeded.prefixes
    with another(world, profile, tmp_path / "machine", WEB_GRANT) as made:
        told = environment(made, world, AWS_EC2_METADATA_SERVICE_ENDPOINT=imds_of(made))
        for client in (boto3, aws_cli):
            done = run(client(bucket, reports), told)
            assert done.returncode == 0, done.stderr
            assert "2026-10.csv" in done.stdout
            done = run(client(bucket, payroll), told)
            assert "AccessDenied" in done.stdout + done.stderr
            done = by_exec("imds")(made, world, client(bucket, reports), WEB_GRANT)
            assert done.returncode == 0, done.stderr
        assert by_exec("imds")(made, world, ["true"], BATCH_GRANT).returncode == 1, "root has another one there"
        done = run([sys.executable, "-c", REGION_OF_BOTO3], told)
        assert done.stdout.strip() == world.seeded.region, "which is passed on from the real one"


def test_several_grants_and_no_setting_are_no_credentials(made: Machine, world: World) -> None:
    """The control."""
    told = environment(made, world, AWS_EC2_METADATA_SERVICE_ENDPOINT=imds_of(made))
    done = run(boto3(world.seeded.bucket, world.seeded.prefixes[0]), told)
    assert done.returncode not in (0, 3)
    assert "NoCredentials" in done.stderr


def test_a_way_that_the_profile_does_not_open_is_closed(made: Machine, world: World) -> None:
    command = boto3(world.seeded.bucket, world.seeded.prefixes[0])
    assert by_variables(made, world, command, QUIET).returncode == 0
    for way in ("exec keys", "env", "file"):
        assert WAYS[way](made, world, command, QUIET).returncode not in (0, 3), way
    assert not (made.run / f"{QUIET}.credentials").exists()
    status: Any = made.status()
    assert {grant["name"]: grant["doors"] for grant in status["grants"]}[QUIET] == ["container"]


def test_files_are_for_the_users_of_the_profile(made: Machine) -> None:
    for grant, user in ((WEB_GRANT, WEB), (BATCH_GRANT, BATCH), (QUIET, "root")):
        owner = (made.run / f"{grant}.token").stat()
        assert (pwd.getpwuid(owner.st_uid).pw_name, owner.st_mode & 0o777) == (user, 0o400)
    assert made.run.stat().st_mode & 0o777 == 0o711


CALLS = """
import boto3, sys
session = boto3.Session()
for _ in range(20):
    session.client("s3").list_objects_v2(Bucket=sys.argv[1], Prefix=sys.argv[2])
"""


@pytest.mark.parametrize(("way", "counted"), [("container", "container"), ("configure", "process")])
def test_twenty_calls_ask_the_agent_once(made: Machine, world: World, way: str, counted: str) -> None:
    def answers() -> int:
        status: Any = made.status()
        (found,) = (grant["answers"] for grant in status["grants"] if grant["name"] == WEB_GRANT)
        return int(found.get(counted, 0))

    before = answers()
    command = [sys.executable, "-c", CALLS, world.seeded.bucket, world.seeded.prefixes[0]]
    assert WAYS[way](made, world, command, WEB_GRANT).returncode == 0
    assert answers() == before + 1
