"""Who may have which grant: root, the agent's own user, and the users that the profile names; by every way.

A web user that was taken over (`nobody`) gets its own grant and not the batch job's. Real users, real processes.
"""

import json
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from agent.serve import doors, peers, rundir
from tests.agent.conftest import ROOT, Machine, Shifted, until, world
from tests.agent.fake_gateway import SECRET_CANARY, FakeGateway, running
from tests.agent.fake_metadata import FakeMetadata
from tests.agent.pki import Pki
from tests.agent.test_cli import end, ready

WEB, BATCH = "nobody", "daemon"
ALL = ["container", "imds", "process", "file"]
SHM = Path("/dev/shm")
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")

Done = subprocess.CompletedProcess[str]


class Host:
    """A machine whose directories others may pass through, on tmpfs, and users on it."""

    def __init__(self, path: Path, machine: Machine) -> None:
        self.path, self.machine = path, machine

    def as_user(self, user: str, *words: str, cwd: Path = ROOT) -> Done:
        """Do one thing as this user."""
        command = [sys.executable, "-m", "tests.agent.as_user", str(pwd.getpwnam(user).pw_uid), *words]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "HOME": str(self.path / "home")}
        return subprocess.run(
            command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=30, check=False
        )

    def agent(self, user: str, word: str, *words: str) -> Done:
        """A command of the agent, as this user."""
        return self.as_user(user, "agent", word, f"--run-dir={self.machine.run_dir}", *words)

    def where(self, grant: str) -> SimpleNamespace:
        """The addresses and files of a grant."""
        told = self.machine.running()
        return SimpleNamespace(
            uri=f"http://{told['listen']}/v1/credentials/{grant}",
            token=str(self.machine.run_dir / f"{grant}.token"),
            imds=f"http://{told['imds']}/latest",
            file=str(self.machine.run_dir / f"{grant}.credentials"),
        )


def made(path: Path, gateway: FakeGateway, metadata: FakeMetadata) -> Host:
    path.chmod(0o755)
    host = Host(path, Machine(path, gateway, metadata))
    gateway.grants = ["web", "batch"]
    gateway.users = {"web": [WEB], "batch": [BATCH, "no-such-user"]}
    gateway.doors = dict.fromkeys(gateway.grants, ALL)
    return host


@pytest.fixture
def folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="tg-agent-", dir=SHM))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def host(folder: Path, gateway: FakeGateway, metadata: FakeMetadata) -> Iterator[Host]:
    there = made(folder, gateway, metadata)
    yield there
    there.machine.close()


@pytest.fixture(scope="module")
def serving(pki: Pki) -> Iterator[Host]:
    """An agent that is ready, for tests that change nothing about it."""
    path = Path(tempfile.mkdtemp(prefix="tg-agent-", dir=SHM))
    with running(FakeGateway(pki)) as gateway, FakeMetadata().running() as metadata:
        host = made(path, gateway, metadata)
        host.machine.agent()
        yield host
        host.machine.close()
    shutil.rmtree(path)


def by_socket(host: Host, user: str, grant: str) -> Done:
    return host.agent(user, "credential-process", "--grant", grant)


def by_container(host: Host, user: str, grant: str) -> Done:
    shown = host.as_user(user, "cat", host.where(grant).token)
    return host.as_user(user, "http", "GET", host.where(grant).uri, f"Authorization={shown.stdout.strip() or 'x'}")


def by_imds(host: Host, user: str, grant: str) -> Done:
    there = host.where(grant).imds
    token = host.as_user(user, "http", "PUT", f"{there}/api/token", "X-aws-ec2-metadata-token-ttl-seconds=60")
    path = f"{there}/meta-data/iam/security-credentials/{grant}"
    return host.as_user(user, "http", "GET", path, f"X-aws-ec2-metadata-token={token.stdout.strip()}")


def by_file(host: Host, user: str, grant: str) -> Done:
    return host.as_user(user, "cat", host.where(grant).file)


def by_env(host: Host, user: str, grant: str) -> Done:
    return host.agent(user, "env", "--grant", grant)


def by_exec(via: str) -> Callable[[Host, str, str], Done]:
    command = {
        "keys": 'echo "$AWS_SECRET_ACCESS_KEY"',
        "container": 'curl -sf -H "Authorization: $(cat $AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE)" '
        '"$AWS_CONTAINER_CREDENTIALS_FULL_URI"',
        "imds": 'E="$AWS_EC2_METADATA_SERVICE_ENDPOINT"latest; T=$(curl -sf -X PUT $E/api/token '
        '-H "X-aws-ec2-metadata-token-ttl-seconds: 60") && '
        'G=$(curl -sf -H "X-aws-ec2-metadata-token: $T" $E/meta-data/iam/security-credentials/) && '
        'curl -sf -H "X-aws-ec2-metadata-token: $T" $E/meta-data/iam/security-credentials/$G',
    }[via]
    return lambda host, user, grant: host.agent(user, "exec", "--grant", grant, "--via", via, "--", "sh", "-c", command)


WAYS = {
    "socket": by_socket,
    "container": by_container,
    "imds": by_imds,
    "file": by_file,
    "env": by_env,
    "exec keys": by_exec("keys"),
    "exec container": by_exec("container"),
    "exec imds": by_exec("imds"),
}


@pytest.mark.threat("J07")
@pytest.mark.parametrize("way", WAYS)
def test_j07_a_foreign_user_gets_nothing_and_its_own_gets_it(serving: Host, way: str) -> None:
    refused, given = WAYS[way](serving, WEB, "batch"), WAYS[way](serving, BATCH, "batch")
    assert refused.returncode != 0
    assert SECRET_CANARY not in refused.stdout + refused.stderr
    assert "Traceback" not in refused.stderr
    assert given.returncode == 0, given.stderr
    assert SECRET_CANARY in given.stdout
    own = WAYS[way](serving, WEB, "web")
    assert SECRET_CANARY in own.stdout, "the control: it has its own"


def test_root_has_all_of_them(serving: Host) -> None:
    for grant in ("web", "batch"):
        assert serving.machine.get(f"/v1/credentials/{grant}").status == 200
        assert SECRET_CANARY in by_socket(serving, "root", grant).stdout
        assert SECRET_CANARY in by_imds(serving, "root", grant).stdout


def test_the_only_grant_of_a_user_needs_no_name(serving: Host) -> None:
    assert SECRET_CANARY in serving.agent(BATCH, "credential-process").stdout
    several = serving.agent("root", "credential-process")
    assert several.stderr.splitlines()[0].endswith("name one: batch, web (grant_unknown)")
    nothing = serving.agent("bin", "credential-process")
    assert nothing.stderr.splitlines()[0].endswith("(grant_unknown)")


def test_a_user_that_there_is_not_and_a_grant_that_there_is_not_look_alike(serving: Host) -> None:
    foreign, none = by_socket(serving, WEB, "batch"), by_socket(serving, WEB, "none")
    assert foreign.stderr == none.stderr
    assert "(access_denied)" in foreign.stderr


def test_status_is_for_users_too_and_shows_them_their_own(serving: Host) -> None:
    told = json.loads(serving.agent(WEB, "status", "--json").stdout)
    assert (told["state"], [grant["name"] for grant in told["grants"]]) == ("enrolled", ["web"])
    assert len(serving.machine.status()["grants"]) == 2
    assert "web" in serving.agent(WEB, "status").stdout


def test_nobody_else_may_list_or_read_the_run_directory(serving: Host) -> None:
    assert serving.as_user(WEB, "cat", str(serving.machine.run_dir / rundir.AGENT)).returncode == 4
    listed = subprocess.run(
        ["setpriv", "--reuid", WEB, "--clear-groups", "ls", serving.machine.run_dir],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert listed.returncode != 0
    assert serving.as_user(WEB, "cat", serving.where("web").token).returncode == 0, "the control"


@pytest.mark.threat("J07")
def test_j07_each_user_of_a_grant_has_a_token_of_its_own(host: Host) -> None:
    machine = host.machine
    machine.gateway.grants, machine.gateway.users = ["app"], {"app": [WEB, BATCH]}
    clock = Shifted()
    daemon = machine.agent(world=world(clock))
    first, second = machine.run_dir / "app.token", machine.run_dir / f"app.{BATCH}.token"
    assert [file.stat().st_uid for file in (first, second)] == [pwd.getpwnam(user).pw_uid for user in (WEB, BATCH)]
    assert [file.stat().st_mode & 0o777 for file in (first, second)] == [0o400, 0o400]
    tokens = first.read_text(), second.read_text()
    assert len(set(tokens)) == 2
    assert [machine.get("/v1/credentials/app", token=token).status for token in tokens] == [200, 200]
    assert f"app.{BATCH}.token" in host.agent(BATCH, "env", "--endpoint").stdout

    machine.gateway.users = {"app": [BATCH]}  # the first is a user no more
    clock.by += timedelta(minutes=6)
    daemon.lifecycle._nudge()
    until(lambda: not second.exists())
    assert first.stat().st_uid == pwd.getpwnam(BATCH).pw_uid
    assert [machine.get("/v1/credentials/app", token=token).status for token in tokens] == [401, 401]
    assert machine.get("/v1/credentials/app").status == 200


def test_a_user_that_is_not_known_allows_nobody_and_is_told_once(host: Host, caplog: pytest.LogCaptureFixture) -> None:
    host.machine.gateway.users = {"web": ["no-such-user"]}
    daemon = host.machine.agent()
    daemon.lifecycle._read_grants()
    assert [each.message for each in caplog.records if "no-such-user" in each.message] == [
        "user no-such-user is not known on this machine: it allows nobody"
    ]
    assert (host.machine.run_dir / "web.token").stat().st_uid == 0
    assert by_socket(host, WEB, "web").returncode != 0


def test_without_the_right_to_chown_the_socket_still_serves(
    host: Host, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(rundir, "may_chown", lambda: False)
    host.machine.agent()
    assert sum("may not chown" in each.message for each in caplog.records) == 1
    assert (host.machine.run_dir / "web.token").stat().st_uid == 0
    assert by_container(host, WEB, "web").returncode == 3
    assert "no token file" in host.agent(WEB, "exec", "--", "true").stderr
    assert SECRET_CANARY in by_socket(host, WEB, "web").stdout


@pytest.mark.parametrize(("kept", "owner"), [("-all,+chown", WEB), ("-all", "root")])
def test_root_without_its_privileges_but_one_is_enough(host: Host, kept: str, owner: str) -> None:
    """As the systemd unit has it; the control is root without any."""
    words = host.machine.command("run")
    process = subprocess.Popen(
        ["setpriv", f"--bounding-set={kept}", "--no-new-privs", *words],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        ready(process)
        assert pwd.getpwuid((host.machine.run_dir / "web.token").stat().st_uid).pw_name == owner
        assert (by_container(host, WEB, "web").returncode == 0) == (owner == WEB)
        assert SECRET_CANARY in by_socket(host, WEB, "web").stdout
        end(process)
        assert list(host.machine.run_dir.iterdir()) == []
    finally:
        process.kill()
        process.communicate()


def test_a_way_that_is_not_delivered_is_closed_to_root_too(host: Host) -> None:
    host.machine.gateway.doors = {"web": ["container"], "batch": ["imds"]}
    host.machine.agent()
    for grant, closed in (
        ("web", (by_socket, by_imds, by_file, by_env)),
        ("batch", (by_socket, by_container, by_file)),
    ):
        for way in closed:
            done = way(host, "root", grant)
            assert SECRET_CANARY not in done.stdout, (grant, way)
    assert not (host.machine.run_dir / "batch.token").exists()
    assert "web is not delivered by process, but by container (access_denied)" in by_socket(host, "root", "web").stderr
    assert host.machine.get("/v1/credentials/batch").status == 403
    assert host.machine.get("/v1/credentials/web").status == 200
    assert SECRET_CANARY in by_imds(host, "root", "batch").stdout


def test_a_peer_that_cannot_be_told_is_refused(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "TABLES", ())
    host.machine.agent()
    done = by_imds(host, "root", "web")
    assert done.returncode == 3
    assert "403" in done.stderr


def test_a_name_service_that_knows_nobody() -> None:
    assert doors._uid_of("no-such-user") is None
    assert doors._uid_of("root") == 0
