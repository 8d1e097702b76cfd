"""What a host is given: systemd units that hold it to what it needs, and user-data without a key."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from agent.settings import parse
from deploy.demo import REPOSITORY
from gateway import settings
from gateway.cli.secrets_in import CREDENTIAL
from gateway.wire.messages import UserData, read_user_data
from gateway.wire.strict import Malformed

UNITS = REPOSITORY / "deploy" / "systemd"
TEMPLATE = REPOSITORY / "deploy" / "cloud-init" / "user-data.yaml"
GATEWAY, AGENT = "trusted-gateway.service", "trusted-gateway-agent.service"

# Every directive of every unit that keeps something out. An empty value takes everything away.
HARDENED = {
    "NoNewPrivileges": "yes",
    "AmbientCapabilities": "",
    "PrivateTmp": "yes",
    "PrivateDevices": "yes",
    "ProtectSystem": "strict",
    "ProtectHome": "yes",
    "ProtectProc": "invisible",
    "ProtectClock": "yes",
    "ProtectHostname": "yes",
    "ProtectKernelLogs": "yes",
    "ProtectKernelModules": "yes",
    "ProtectKernelTunables": "yes",
    "ProtectControlGroups": "yes",
    "RestrictAddressFamilies": "AF_INET AF_INET6 AF_UNIX",
    "RestrictNamespaces": "yes",
    "RestrictRealtime": "yes",
    "RestrictSUIDSGID": "yes",
    "LockPersonality": "yes",
    "MemoryDenyWriteExecute": "yes",
    "RemoveIPC": "yes",
    "SystemCallArchitectures": "native",
    "LimitCORE": "0",
    "LimitMEMLOCK": "infinity",
    "MemorySwapMax": "0",
    "UMask": "0077",
}
# What only one of them has.
OWN = {
    GATEWAY: {
        "Type": "notify",
        "User": "trusted-gateway",
        "CapabilityBoundingSet": "",
        "SystemCallFilter": "@system-service ~@privileged",
        "LoadCredential": f"{CREDENTIAL}:/etc/trusted-gateway/passphrase",
        "StateDirectory": "trusted-gateway",
        "StateDirectoryMode": "0700",
        "Restart": "always",
        "KillMode": "mixed",
    },
    AGENT: {
        "Type": "notify",
        "StateDirectory": "trusted-gateway-agent",
        "StateDirectoryMode": "0700",
        "RuntimeDirectory": "trusted-gateway-agent",
        "RuntimeDirectoryMode": "0711",
        "CapabilityBoundingSet": "CAP_CHOWN",  # for users' token files
        "SystemCallFilter": "@system-service ~@privileged @chown",
        "Restart": "always",
        "TimeoutStartSec": "infinity",
    },
}


def service(text: str) -> dict[str, str]:
    """The [Service] section, one value a directive."""
    found: dict[str, str] = {}
    section = ""
    for line in text.splitlines():
        if line.startswith("["):
            section = line
        elif section == "[Service]" and line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found[key] = f"{found[key]} {value}" if key in found else value
    return found


def missing(unit: str, text: str) -> set[str]:
    """The directives that this unit does not have as it should."""
    found = service(text)
    return {key for key, value in (HARDENED | OWN[unit]).items() if found.get(key) != value}


@pytest.mark.parametrize("unit", OWN)
def test_a_unit_keeps_out_what_it_can(unit: str) -> None:
    text = (UNITS / unit).read_text()
    assert missing(unit, text) == set()
    for key in HARDENED | OWN[unit]:  # the control: each one is looked at
        assert missing(unit, re.sub(rf"(?m)^{key}=.*\n", "", text)) == {key}


@pytest.mark.parametrize("unit", OWN)
def test_a_unit_runs_a_command_that_there_is(unit: str) -> None:
    program, *arguments = service((UNITS / unit).read_text())["ExecStart"].split()
    installed = Path(sys.executable).with_name(Path(program).name)
    done = subprocess.run([installed, *arguments, "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert subprocess.run([installed, "no-such-command"], capture_output=True, check=False).returncode == 2


def test_the_gateway_may_write_where_its_settings_say_by_default() -> None:
    directory = "/var/lib/" + service((UNITS / GATEWAY).read_text())["StateDirectory"]
    assert settings.read({"names": ["a.example"]}, {}).store.startswith(f"sqlite:///{directory}/")


def test_the_agent_may_write_where_its_settings_say_by_default() -> None:
    unit, default = service((UNITS / AGENT).read_text()), parse({})
    assert str(default.state_dir) == "/var/lib/" + unit["StateDirectory"]
    assert str(default.run_dir) == "/run/" + unit["RuntimeDirectory"]


@pytest.fixture(params=OWN)
def installed_unit(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy whose program exists on this machine."""
    copy = tmp_path / str(request.param)
    copy.write_text(re.sub(r"(?m)^ExecStart=\S+", "ExecStart=/bin/true", (UNITS / copy.name).read_text()))
    return copy


def systemd_analyze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    if shutil.which("systemd-analyze") is None:
        pytest.skip(
            "systemd-analyze is not installed here (Debian: apt-get install systemd); the directives are checked"
        )
    return subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True, timeout=30, check=False)


def test_systemd_understands_all_of_it(installed_unit: Path) -> None:
    assert installed_unit.name not in systemd_analyze("verify", "--man=no", installed_unit).stderr
    installed_unit.write_text(installed_unit.read_text().replace("ProtectHome=yes", "ProtectHome=jes"))
    assert installed_unit.name in systemd_analyze("verify", "--man=no", installed_unit).stderr


def test_systemd_finds_little_exposed(installed_unit: Path) -> None:
    """On its scale from 0 to 10, of which `--threshold` has tenths. Its versions count differently."""
    assert systemd_analyze("security", "--offline=true", "--threshold=25", installed_unit).returncode == 0
    installed_unit.write_text("[Service]\nExecStart=/bin/true\n")
    assert systemd_analyze("security", "--offline=true", "--threshold=25", installed_unit).returncode != 0


FILLED = {"GATEWAY": "gateway.example.internal:8443", "CA_SHA256": "4" * 64, "TICKET": "a-ticket"}


@pytest.fixture
def user_data() -> str:
    """The template, filled in as its own comments say."""
    text = TEMPLATE.read_text()
    first, line, rest = text.split("\n", 2)
    for name, value in FILLED.items():
        assert line.count(f"@{name}@") == 1
        line = line.replace(f"@{name}@", value)
    return "\n".join((first, line, rest))


def test_an_agent_reads_the_template_once_it_is_filled_in(user_data: str) -> None:
    read = read_user_data(user_data.encode())
    assert isinstance(read, UserData)
    assert (read.gateway, read.ca_sha256, read.ticket) == tuple(FILLED.values())
    with pytest.raises(Malformed):
        read_user_data(TEMPLATE.read_bytes())


def test_user_data_is_small_and_holds_no_key(user_data: str) -> None:
    """EC2 takes 16 KB, before base64."""
    assert len(user_data.encode()) < 16 * 1024
    assert not _looks_like_a_key(user_data)
    assert _looks_like_a_key(user_data + "AKIAIOSFODNN7EXAMPLE")


def _looks_like_a_key(text: str) -> bool:
    return re.search(r"A[KS]IA[A-Z0-9]{16}|PRIVATE KEY|aws_secret|(?i:secret_access_key)", text) is not None


def test_cloud_init_accepts_it(user_data: str, tmp_path: Path) -> None:
    if shutil.which("cloud-init") is None:
        pytest.skip("cloud-init is not installed here (Debian: apt-get install cloud-init)")
    path = tmp_path / "user-data.yaml"

    def schema(text: str) -> int:
        path.write_text(text)
        command = ["cloud-init", "schema", "--config-file", str(path)]
        return subprocess.run(command, capture_output=True, timeout=60, check=False).returncode

    assert schema(user_data) == 0
    assert schema(user_data.replace("- [systemctl", "- {a: 1} #")) != 0
