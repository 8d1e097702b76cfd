"""`configure`: one profile in somebody's configuration file, and not a byte of the rest."""

import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from agent import configure
from agent.configure import MARK, Profile
from agent.errors import Fault
from tests.agent.conftest import ROOT, Machine
from tests.agent.fake_gateway import SECRET_CANARY

APP = Profile("app", "/usr/bin/python3 -I -S /opt/ask.py /run/agent.sock app", "eu-central-1")
SECTION = "".join(APP.lines)
OTHERS = "# mine\r\n[default]\nregion=us-east-1\n\n; old\n[profile other]\naws_access_key_id = x\n s3 =\n   a = b\n"


def test_the_section() -> None:
    assert (
        f"[profile app]\n{MARK}\n"
        "credential_process = /usr/bin/python3 -I -S /opt/ask.py /run/agent.sock app\nregion = eu-central-1\n"
    ) == SECTION
    assert Profile("default", "x").lines[0] == "[default]\n"


@pytest.mark.parametrize("before", ["", OTHERS, OTHERS + "\n", "\n", "[profile app2]\n"])
def test_written_and_removed_the_rest_is_as_it_was(before: str) -> None:
    after = configure.written(before, APP)
    assert after.startswith(before)
    assert after.endswith(SECTION)
    assert configure.written(after, APP) == after, "once is enough"
    assert configure.removed(after, "app") == before
    assert configure.removed(before, "app") == before


def test_in_the_middle_of_a_file_it_is_changed_in_its_place() -> None:
    text = OTHERS + "\n" + SECTION + "output = json\n\n# next\n[profile last]\nregion = x\n"
    changed = configure.written(text, Profile("app", "other"))
    assert changed == text.replace(SECTION, "".join(Profile("app", "other").lines))
    left = configure.removed(text, "app")
    assert left == text.replace(SECTION, "[profile app]\n"), "what somebody added stays"


def test_a_file_without_a_last_line_end_gets_one() -> None:
    assert configure.written("[default]\nregion = x", APP) == "[default]\nregion = x\n\n" + SECTION


@pytest.mark.parametrize("head", ["[profile app]", '[profile "app"]', "[ profile  app ]", "[profile app] # x"])
def test_a_profile_of_somebody_elses_is_not_touched(head: str) -> None:
    text = f"[default]\n{head}\naws_access_key_id = x\n\n# of the next\n[profile last]\n"
    with pytest.raises(Fault, match="profile_exists"):
        configure.written(text, APP)
    with pytest.raises(Fault, match="profile_exists"):
        configure.removed(text, "app")
    assert configure.written(text, APP, replace=True) == f"[default]\n{SECTION}\n# of the next\n[profile last]\n"


def test_a_profile_that_is_there_twice_is_for_its_owner_to_mend() -> None:
    with pytest.raises(Fault, match="profile_exists"):
        configure.written(SECTION + SECTION, APP, replace=True)


@pytest.mark.parametrize(
    ("name", "region"), [("a]\n[b", None), ("", None), ("a b", None), ("é", None), ("app", "x\ny"), ("app", "x=y")]
)
def test_names_that_would_break_the_file(name: str, region: str | None) -> None:
    with pytest.raises(Fault, match="profile_refused"):
        Profile(name, "x", region)


@pytest.mark.parametrize("path", ["/a\n/b", "/a #b", "/a;b", '/a"b', "/a\\b", "/a\x1bb"])
def test_paths_that_no_configuration_file_can_hold(path: str) -> None:
    with pytest.raises(Fault, match="profile_refused"):
        configure.command("/python", path, "/socket", "app")


def test_mode_is_kept_and_a_new_file_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "aws" / "config"
    configure.change(path, "one")
    assert (stat.S_IMODE(path.stat().st_mode), stat.S_IMODE(path.parent.stat().st_mode)) == (0o600, 0o700)
    path.chmod(0o644)
    configure.change(path, "two")
    assert (stat.S_IMODE(path.stat().st_mode), path.read_text()) == (0o644, "two")
    assert [*path.parent.iterdir()] == [path]


def test_a_link_of_ones_own_is_followed(tmp_path: Path) -> None:
    path, link = tmp_path / "dotfiles", tmp_path / "config"
    path.write_text("one")
    link.symlink_to(path)
    configure.change(link, "two")
    assert link.is_symlink()
    assert path.read_text() == "two"
    assert configure.read(link) == "two"


@pytest.mark.threat("J07")
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a file somebody else's")
@pytest.mark.parametrize("of_others", ["link", "file"])
def test_j07_what_is_somebody_elses_is_refused(tmp_path: Path, of_others: str) -> None:
    path, link = tmp_path / "precious", tmp_path / "config"
    path.write_text("one")
    link.symlink_to(path)
    os.chown(link if of_others == "link" else path, 65534, 65534, follow_symlinks=False)
    for do in (lambda: configure.change(link, "two"), lambda: configure.read(link)):
        with pytest.raises(Fault, match="file_refused"):
            do()
    assert path.read_text() == "one"


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Fault, match="file_refused"):
        configure.read(tmp_path)
    (tmp_path / "bytes").write_bytes(b"\xff")
    with pytest.raises(Fault, match="file_refused"):
        configure.read(tmp_path / "bytes")


# ── the command, and who reads what it wrote


BOTO3 = "import boto3; c = boto3.Session().get_credentials(); print(c.method, c.get_frozen_credentials().secret_key)"


@pytest.mark.parametrize("folder", ["plain", "with a space", "it's $HOME & more"])
def test_boto3_and_a_shell_run_what_was_written(machine: Machine, tmp_path: Path, folder: str) -> None:
    machine.run_dir = tmp_path / folder
    machine.written["run_dir"] = str(machine.run_dir)
    machine.agent()
    told = {"AWS_CONFIG_FILE": str(tmp_path / "config"), "HOME": str(tmp_path)}
    done = machine.cli("configure", "--profile", "work", "--region", "eu-central-1", environment=told)
    assert done.returncode == 0, done.stderr
    environment = {"PATH": "/usr/bin:/bin", "AWS_PROFILE": "work", **told}
    boto3 = [sys.executable, "-c", BOTO3]
    done = subprocess.run(boto3, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.split()[:2] == ["custom-process", f"{SECRET_CANARY}1"], done.stderr
    (command,) = [
        line.partition(" = ")[2]
        for line in (tmp_path / "config").read_text().splitlines()
        if line.startswith("credential_process")
    ]
    done = subprocess.run(["/bin/sh", "-c", command], env={}, capture_output=True, text=True, check=False)
    assert json.loads(done.stdout)["Version"] == 1, done.stderr


def test_the_program_itself_may_lie_where_a_space_is(machine: Machine, tmp_path: Path) -> None:
    """An SDK starts it from anywhere, and without site-packages."""
    machine.agent()
    copy = tmp_path / "in a folder" / "agent"
    shutil.copytree(ROOT / "agent", copy)
    command = configure.command(sys.executable, str(copy / "ask.py"), machine.socket, "app")
    done = subprocess.run(["/bin/sh", "-c", command], cwd="/", env={}, capture_output=True, text=True, check=False)
    assert json.loads(done.stdout)["Version"] == 1, done.stderr


def test_print_and_remove_and_refusals(machine: Machine, tmp_path: Path) -> None:
    path = tmp_path / "config"
    told = {"AWS_CONFIG_FILE": str(path)}
    assert machine.cli("configure", environment=told).stderr.splitlines()[0].endswith("(agent_not_running)")
    machine.agent()
    printed = machine.cli("configure", "--print", environment=told).stdout
    assert printed.startswith(f"[profile app]\n{MARK}\ncredential_process = ")
    assert not path.exists()
    assert machine.cli("configure", "--remove", environment=told).stderr.splitlines()[0].endswith("(usage)")
    path.write_text("[profile app]\nregion = x\n")
    refused = machine.cli("configure", environment=told)
    assert (refused.returncode, refused.stderr.splitlines()[0].endswith("(profile_exists)")) == (1, True)
    assert machine.cli("configure", "--replace", environment=told).returncode == 0
    assert path.read_text() == printed
    assert machine.cli("configure", "--remove", "--profile", "app", environment=told).returncode == 0
    assert path.read_text() == ""


def test_a_grant_that_does_not_go_by_process_has_no_profile(machine: Machine, tmp_path: Path) -> None:
    machine.gateway.doors = {"app": ["container"]}
    machine.agent()
    done = machine.cli("configure", environment={"AWS_CONFIG_FILE": str(tmp_path / "config")})
    assert "not delivered by process" in done.stderr
    assert not (tmp_path / "config").exists()
