"""The agent as a process: its commands, its manners, and what it keeps from its neighbours (J07, J11)."""

import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.main import main
from tests.agent.conftest import ROOT, Machine, until
from tests.agent.fake_gateway import SECRET_CANARY, FakeGateway, Refusal
from tests.agent.fake_metadata import FakeMetadata

NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
BOTO3 = (
    "import boto3; c = boto3.Session().get_credentials(); f = c.get_frozen_credentials(); "
    "print(c.method, f.access_key, f.secret_key, f.token)"
)


def ready(process: subprocess.Popen[str]) -> list[str]:
    """The log up to the line `ready`."""
    assert process.stderr is not None
    lines = []
    for line in process.stderr:
        lines.append(line)
        if line.endswith(" ready\n"):
            return lines
    raise AssertionError("".join(lines))


def end(process: subprocess.Popen[str]) -> str:
    """SIGTERM; the rest of the log. The exit status must be 0."""
    process.send_signal(signal.SIGTERM)
    _, log = process.communicate(timeout=60)
    assert process.returncode == 0, log
    return log


# ── run


def test_run_says_ready_and_ends_cleanly(machine: Machine) -> None:
    process = machine.spawn("run")
    log = ready(process)
    assert machine.get("/v1/credentials/app").status == 200
    assert any("listening address=127.0.0.1:" in line for line in log)
    end(process)
    assert list(machine.run_dir.iterdir()) == []
    assert (machine.state_dir / "state.json").exists()


def test_run_tells_systemd(machine: Machine, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(60)
        process = machine.spawn("run", environment={"NOTIFY_SOCKET": str(tmp_path / "notify")})
        assert listener.recv(100) == b"READY=1\nSTATUS=enrolled"
        ready(process)
        end(process)
        assert listener.recv(100) == b"STOPPING=1"


def test_j07_the_ticket_is_in_no_log_argv_environment_or_file(machine: Machine) -> None:
    process = machine.spawn("run")
    log = ready(process)
    seen = machine.files()
    for name in ("cmdline", "environ"):
        seen += Path(f"/proc/{process.pid}/{name}").read_bytes()
    text = "".join(log) + end(process)
    assert any(b"ticket-one" in request.body for request in machine.gateway.seen)
    assert b"ticket-one" not in seen
    assert "ticket-one" not in text
    assert SECRET_CANARY not in text
    assert "canarySessionToken" not in text
    assert "PRIVATE" not in text


@pytest.mark.parametrize(
    ("setting", "code"),
    [({"listen": "0.0.0.0:1"}, "settings_invalid"), ({"state_dir": "/dev/null"}, "directory_refused")],
)
def test_what_cannot_start_says_why_in_two_lines(machine: Machine, setting: dict[str, str], code: str) -> None:
    process = machine.spawn("run", environment=None, **setting)
    _, log = process.communicate(timeout=60)
    assert process.returncode == 1
    error, hint = log.splitlines()
    assert error.startswith("error: ")
    assert error.endswith(f"({code})")
    assert hint.startswith("hint: ")


def test_two_agents_do_not_share_a_state_directory(machine: Machine) -> None:
    ready(machine.spawn("run"))
    second = machine.spawn("run", run_dir=f"{machine.run_dir}2")
    assert "state_dir_in_use" in second.communicate(timeout=60)[1]
    assert second.returncode == 1


def test_killed_in_the_middle_of_everything_it_comes_back(machine: Machine) -> None:
    for pause in (0.15, 0.3, 0.5):
        process = machine.spawn("run")
        time.sleep(pause)
        process.kill()
        process.wait()
    ready(machine.spawn("run"))
    assert machine.get("/v1/credentials/app").status == 200
    keys = {seen.body for seen in machine.gateway.seen if b"ticket" in seen.body}
    assert keys
    assert machine.gateway.tickets["ticket-one"] == machine.gateway.key_sha256, "one ticket, one key"


def test_a_mistake_of_ours_ends_the_agent_in_one_line(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    daemon = machine.agent()
    daemon.lifecycle.step = lambda: 1 / 0  # type: ignore[method-assign]  # a stand-in for this test
    daemon.lifecycle._nudge()
    assert daemon.ended.wait(10)
    assert daemon.failed
    assert "Traceback" not in capsys.readouterr().err


# ── memory, start


def resident(pid: int) -> float:
    """MB."""
    (line,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS")]
    return int(line.split()[1]) / 1024


def test_under_forty_megabytes_with_cryptography_and_less_without(machine: Machine) -> None:
    first = machine.spawn("run")
    ready(first)
    enrolling = resident(first.pid)
    assert "_rust" in Path(f"/proc/{first.pid}/maps").read_text()
    end(first)
    began = time.monotonic()
    second = machine.spawn("run")
    ready(second)
    took = time.monotonic() - began
    assert "_rust" not in Path(f"/proc/{second.pid}/maps").read_text(), "a good certificate needs no cryptography"
    restarted = resident(second.pid)
    print(f"resident {enrolling:.1f} MB enrolled, {restarted:.1f} MB restarted; ready after {took * 1000:.0f} ms")
    assert restarted < enrolling < 40


def test_the_base_install_is_enough() -> None:
    """Neither Flask nor boto3 nor any part of the gateway but its wire."""
    words = [sys.executable, "-X", "importtime", "-c", "import agent.main, agent.daemon, certs.csr, certs.keys"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = {line.rsplit("|", 1)[1].strip() for line in done.stderr.splitlines() if "|" in line}
    assert "agent.lifecycle" in loaded
    ours = {name for name in loaded if name.startswith(("gateway.", "certs."))}
    assert {name for name in ours if not name.startswith(("gateway.wire", "certs."))} == set()
    assert not loaded & {"flask", "boto3", "botocore", "OpenSSL", "asn1crypto", "certs.chain", "sqlalchemy"}


# ── J11: core and memory


def test_j11_no_core_whatever_happens(machine: Machine) -> None:
    process = machine.spawn("run")
    ready(process)
    limits = Path(f"/proc/{process.pid}/limits").read_text()
    assert [line.split()[4:6] for line in limits.splitlines() if "core file" in line] == [["0", "0"]]
    process.send_signal(signal.SIGABRT)
    _, status = os.waitpid(process.pid, 0)
    process.returncode = 0
    assert os.WIFSIGNALED(status)
    assert not os.WCOREDUMP(status)


@pytest.fixture
def public(metadata: FakeMetadata, gateway: FakeGateway) -> Iterator[Machine]:
    """A machine whose directories belong to nobody."""
    path = Path(tempfile.mkdtemp(prefix="tg-agent-"))
    os.chown(path, NOBODY, NOBODY)
    there = Machine(path, gateway, metadata)
    yield there
    there.close()
    shutil.rmtree(path)


@as_root
def test_j11_the_same_user_cannot_read_its_memory(public: Machine) -> None:
    words = public.command("run")
    run = subprocess.Popen(
        [words[0], "-m", "tests.agent.as_nobody", *words[3:]], cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    control = subprocess.Popen([words[0], "-m", "tests.agent.as_nobody"], cwd=ROOT, stderr=subprocess.PIPE, text=True)
    try:
        assert control.stderr is not None
        assert control.stderr.readline() == "ready\n"
        ready(run)
        assert [opens(control.pid, name) for name in ("environ", "maps")] == [True, True]
        assert [opens(run.pid, name) for name in ("environ", "maps", "mem")] == [False, False, False]
        assert (public.state_dir / "state.json").stat().st_uid == NOBODY
        end(run)
    finally:
        for process in (run, control):
            process.kill()
            process.communicate()


def opens(pid: int, name: str) -> bool:
    """Whether nobody can open a file of the process in /proc."""
    words = ["dd", f"if=/proc/{pid}/{name}", "of=/dev/null", "count=0"]
    done = subprocess.run(words, user=NOBODY, group=NOBODY, extra_groups=[], cwd="/", capture_output=True, check=False)
    return done.returncode == 0


def test_j11_whether_memory_is_locked_is_reported(machine: Machine) -> None:
    process = machine.spawn("run")
    log = "".join(ready(process))
    locked = machine.status()["memory_locked"]
    assert f"memory_locked={locked}" in log
    allowed = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0] == resource.RLIM_INFINITY
    assert locked is False or allowed


# ── status


def test_status_is_zero_only_when_healthy(machine: Machine) -> None:
    assert machine.cli("status").returncode == 1
    daemon = machine.agent()
    healthy = machine.cli("status")
    assert healthy.returncode == 0
    assert "enrolled" in healthy.stdout
    assert "grant app" in healthy.stdout
    plain = json.loads(machine.cli("status", "--json").stdout)
    assert (plain["state"], plain["healthy"], plain["grants"][0]["name"]) == ("enrolled", True, "app")
    machine.gateway.revoke()
    until(lambda: daemon.lifecycle.state == "revoked")
    revoked = machine.cli("status")
    assert revoked.returncode == 1
    assert "revoked" in revoked.stdout


def test_status_while_starting(machine: Machine) -> None:
    machine.gateway.sticky["/v1/enroll"] = Refusal("upstream_unavailable")
    daemon = machine.agent(ready=False)
    until(lambda: daemon.lifecycle.problem)
    told = machine.cli("status")
    assert told.returncode == 1
    assert "starting" in told.stdout
    assert "upstream_unavailable" in told.stdout


def test_status_of_nobody_and_of_one_that_was_killed(machine: Machine) -> None:
    told = machine.cli("status")
    assert told.returncode == 1
    assert told.stderr.splitlines()[0].endswith("(agent_not_running)")
    process = machine.spawn("run")
    ready(process)
    process.kill()
    process.wait()
    assert (machine.run_dir / "agent.json").exists()
    for words in (("status",), ("exec", "--", "true")):
        told = machine.cli(*words)
        assert told.stderr.splitlines()[0].endswith("(agent_not_running)"), words
        assert "Traceback" not in told.stderr


@pytest.mark.parametrize("words", [[], ["dance"], ["run", "--ticket", "x"], ["status", "more"]])
def test_usage(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    error, hint = capsys.readouterr().err.splitlines()
    assert error.startswith("error: ")
    assert error.endswith("(usage)")
    assert hint.startswith("hint: ")


# ── exec


def test_exec_hands_over_the_environment_and_removes_what_would_win(machine: Machine) -> None:
    machine.agent()
    winners = [
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AWS_PROFILE",
        "AWS_DEFAULT_PROFILE",
        "AWS_ROLE_ARN",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN",
    ]
    inherited = dict.fromkeys(winners, "canary") | {"AWS_REGION": "eu-central-1"}
    code = "import os, json; print(json.dumps(dict(os.environ)))"
    done = machine.cli("exec", "--", sys.executable, "-c", code, environment=inherited)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["AWS_REGION"] == "eu-central-1"
    assert not set(winners) & set(found)
    assert found["AWS_CONTAINER_CREDENTIALS_FULL_URI"].endswith("/v1/credentials/app")
    assert Path(found["AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"]).read_text()


def test_exec_takes_the_credentials_file_out_of_sight(machine: Machine, tmp_path: Path) -> None:
    machine.agent()
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "credentials").write_text("[default]\naws_access_key_id = other\naws_secret_access_key = x\n")
    home = {"HOME": str(tmp_path)}
    done = machine.cli("exec", "--", sys.executable, "-c", BOTO3, environment=home)
    assert done.stdout.split()[:2] == ["container-role", "ASIA0000000000000001"], done.stderr
    control = machine.cli("exec", "--keep-files", "--", sys.executable, "-c", BOTO3, environment=home)
    assert control.stdout.split()[:2] == ["shared-credentials-file", "other"]


def test_exec_via_keys(machine: Machine) -> None:
    machine.agent()
    code = "import os, json; print(json.dumps(dict(os.environ)))"
    done = machine.cli("exec", "--via", "keys", "--", sys.executable, "-c", code)
    found = json.loads(done.stdout)
    assert found["AWS_ACCESS_KEY_ID"] == "ASIA0000000000000001"
    assert found["AWS_SECRET_ACCESS_KEY"] == f"{SECRET_CANARY}1"
    assert found["AWS_CREDENTIAL_EXPIRATION"].endswith("Z")
    assert "AWS_CONTAINER_CREDENTIALS_FULL_URI" not in found
    assert machine.cli("exec", "--via", "pigeon", "--", "true").returncode == 2


def test_env_is_for_a_shell(machine: Machine) -> None:
    machine.agent()
    shown = 'eval "$LINES"; echo "$AWS_ACCESS_KEY_ID $AWS_SECRET_ACCESS_KEY $AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"'
    for words, expected in (
        (("env",), f"ASIA0000000000000001 {SECRET_CANARY}1 \n"),
        (("env", "--endpoint"), f"  {machine.run_dir}/app.token\n"),
    ):
        lines = machine.cli(*words).stdout
        assert all(line.startswith("export AWS_") for line in lines.splitlines())
        done = subprocess.run(["sh", "-c", shown], env={"LINES": lines}, capture_output=True, text=True, check=True)
        assert done.stdout == expected


def test_what_is_not_there_yet(machine: Machine) -> None:
    machine.gateway.grants = []
    machine.agent()
    for words in (("exec", "--", "true"), ("env",), ("credential-process",), ("configure",)):
        done = machine.cli(*words)
        assert done.returncode == 1
        assert done.stderr.splitlines()[0].endswith("(not_ready)"), words


def test_the_answers_are_counted_by_way(machine: Machine) -> None:
    machine.agent()
    for _ in range(3):
        machine.get("/v1/credentials/app")
    machine.get("/v1/credentials/app", token="wrong")
    machine.cli("env")
    (grant,) = machine.status()["grants"]
    assert grant["answers"] == {"container": 3, "process": 1}
    assert "answers: container 3, process 1" in machine.cli("status").stdout


def test_exec_is_the_command_and_returns_its_status(machine: Machine) -> None:
    machine.agent()
    assert machine.cli("exec", "--", "sh", "-c", "exit 7").returncode == 7
    missing = machine.cli("exec", "--", "no-such-command")
    assert missing.returncode == 1
    assert missing.stderr.splitlines()[0].endswith("(command_failed)")
    assert "Traceback" not in missing.stderr
    assert machine.cli("exec", "--").stderr.splitlines()[0].endswith("(usage)")


def test_exec_passes_the_commands_own_flags_through(machine: Machine) -> None:
    machine.agent()
    done = machine.cli("exec", "--grant", "app", "--", "echo", "--grant", "x", "--", "--json")
    assert done.stdout == "--grant x -- --json\n"


def test_unmodified_boto3_takes_its_credentials_from_the_agent(machine: Machine, tmp_path: Path) -> None:
    machine.agent()
    clean = {"HOME": str(tmp_path), "AWS_ACCESS_KEY_ID": "other", "AWS_SECRET_ACCESS_KEY": "other"}
    done = machine.cli("exec", "--", sys.executable, "-c", BOTO3, environment=clean)
    assert done.stdout.split()[:3] == ["container-role", "ASIA0000000000000001", f"{SECRET_CANARY}1"], done.stderr
    control = subprocess.run(
        [sys.executable, "-c", BOTO3], env={**os.environ, **clean}, capture_output=True, text=True, check=True
    )
    assert control.stdout.split()[:2] == ["env", "other"]


def test_boto3_is_told_of_the_revocation(machine: Machine, tmp_path: Path) -> None:
    daemon = machine.agent()
    machine.gateway.revoke()
    until(lambda: daemon.lifecycle.state == "revoked")
    hasty = "import botocore.utils; botocore.utils.ContainerMetadataFetcher.SLEEP_TIME = 0; " + BOTO3
    done = machine.cli("exec", "--", sys.executable, "-c", hasty, environment={"HOME": str(tmp_path)})
    assert done.returncode != 0
    assert "instance is revoked" in done.stderr
