"""The last resort: a file on tmpfs that is kept fresh, closed to others, and gone when it should be."""

import configparser
import os
import pwd
import shutil
import stat
import tempfile
from collections import deque
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from agent.serve import credential_file
from agent.serve.credential_file import kind_of_disk
from tests.agent.conftest import Machine, Shifted, until, world
from tests.agent.fake_gateway import SECRET_CANARY, FakeGateway, Refusal
from tests.agent.fake_metadata import FakeMetadata


@pytest.fixture
def in_memory(gateway: FakeGateway, metadata: FakeMetadata) -> Iterator[Machine]:
    """A machine whose run directory is on tmpfs."""
    path = Path(tempfile.mkdtemp(prefix="tg-agent-", dir="/dev/shm"))
    machine = Machine(path, gateway, metadata)
    gateway.doors = {"app": ["file", "container"]}
    yield machine
    machine.close()
    shutil.rmtree(path)


def keys(machine: Machine) -> dict[str, str]:
    """What an SDK reads."""
    parser = configparser.RawConfigParser()
    parser.read(machine.run_dir / "app.credentials")
    return dict(parser["default"])


def test_it_is_a_shared_credentials_file_for_one_user(in_memory: Machine) -> None:
    in_memory.gateway.users = {"app": ["nobody"]} if os.geteuid() == 0 else {}
    in_memory.agent()
    path = in_memory.run_dir / "app.credentials"
    assert keys(in_memory)["aws_secret_access_key"] == f"{SECRET_CANARY}1"
    assert set(keys(in_memory)) == {"aws_access_key_id", "aws_secret_access_key", "aws_session_token"}
    assert path.read_text().startswith("# expires 20")
    assert stat.S_IMODE(path.stat().st_mode) == 0o400
    assert path.stat().st_uid == (pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else os.geteuid())
    (grant,) = in_memory.status()["grants"]
    assert (grant["answers"]["file"] >= 1, grant["file_problem"]) == (True, None)


def test_it_is_kept_fresh_and_gone_when_the_keys_are_over(in_memory: Machine) -> None:
    clock = Shifted()
    daemon = in_memory.agent(world=world(clock))
    supply = daemon.lifecycle.credentials._supplies["app"]
    supply.refresh()
    assert keys(in_memory)["aws_secret_access_key"] == f"{SECRET_CANARY}2"
    in_memory.gateway.refusals["/v1/credentials"] = deque([Refusal("upstream_unavailable")] * 2)
    supply.refresh()
    assert keys(in_memory)["aws_secret_access_key"] == f"{SECRET_CANARY}2", "a failure leaves what lives"
    clock.by = timedelta(minutes=61)
    supply.refresh()
    assert not (in_memory.run_dir / "app.credentials").exists()
    assert in_memory.status()["grants"][0]["file_problem"] == "upstream_unavailable"


@pytest.mark.parametrize("end", ["revoked", "taken away", "another way", "stopped"])
def test_it_goes_with_the_agent_and_with_the_grant(in_memory: Machine, end: str) -> None:
    clock = Shifted()
    daemon = in_memory.agent(world=world(clock))
    path = in_memory.run_dir / "app.credentials"
    assert path.exists()
    if end == "revoked":
        in_memory.gateway.revoke()
    elif end == "stopped":
        daemon.close()
    else:
        in_memory.gateway.grants = ["app"] if end == "another way" else []
        in_memory.gateway.doors = {}
        clock.by = timedelta(minutes=6)
        daemon.lifecycle._nudge()
    until(lambda: not path.exists())


def test_on_a_disk_there_is_none_and_it_is_said(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(credential_file, "IN_MEMORY", frozenset({"nothing"}))
    machine.gateway.doors = {"app": ["file", "process"]}
    daemon = machine.agent()
    daemon.lifecycle.credentials._supplies["app"].refresh()
    assert not (machine.run_dir / "app.credentials").exists()
    assert machine.status()["grants"][0]["file_problem"] == "no_tmpfs"
    assert sum("not on tmpfs" in each.message for each in caplog.records) == 1
    assert "no credential file (no_tmpfs)" in machine.cli("status").stdout


def test_only_where_it_is_asked_for(in_memory: Machine) -> None:
    in_memory.gateway.doors = {}
    in_memory.agent()
    assert not (in_memory.run_dir / "app.credentials").exists()
    assert in_memory.status()["grants"][0]["doors"] == ["container", "imds", "process", "sessions", "vault"]


MOUNTS = """\
22 1 254:0 / / rw,relatime - ext4 /dev/vda rw
25 22 0:23 / /dev/shm rw,nosuid shared:4 master:1 - tmpfs tmpfs rw
26 22 0:24 / /run\\040x rw - ramfs none rw
"""


def test_the_kind_of_a_disk() -> None:
    kinds = [kind_of_disk(MOUNTS, os.makedev(*each)) for each in ((254, 0), (0, 23), (0, 24), (9, 9))]
    assert kinds == ["ext4", "tmpfs", "ramfs", None]
