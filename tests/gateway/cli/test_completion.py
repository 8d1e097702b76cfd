"""What a shell completes: commands, options, and names that a gateway tells, if it tells them at once."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.gateway.cli.conftest import FakeGateway, Run

BIN = Path(sys.executable).parent
# What bash itself does when somebody presses Tab behind these words.
TAB = """
eval "$(trusted-gateway completion bash)" || exit 3
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=()
_trusted_gateway_completion trusted-gateway
printf '%s\\n' "${COMPREPLY[@]}"
"""
ID, OTHER = "i-0123456789abcdef0", "i-0fedcba9876543210"


def tab(operator: Path, *words: str) -> list[str]:
    """The completions of the last word. The limit is less than what a command waits for a gateway."""
    environment = {"PATH": f"{BIN}:/usr/bin:/bin", "TRUSTED_GATEWAY_OPERATOR_DIR": str(operator)}
    line = ["bash", "--norc", "-c", TAB, "bash", "trusted-gateway", *words]
    done = subprocess.run(line, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split()


@pytest.fixture
def instances(gateway: FakeGateway) -> FakeGateway:
    gateway.answer = {"instances": [{"instance_id": ID}, {"instance_id": OTHER}], "next": None}
    return gateway


def test_bash_completes_commands_and_options(operator: Path) -> None:
    assert tab(operator, "rev") == ["revoke", "revocation"]
    assert "instance" in tab(operator, "revoke", "")
    assert tab(operator, "revoke", "instance", "--dry") == ["--dry-run"]
    assert tab(operator, "ticket", "list", "--state", "") == ["open", "redeemed", "revoked"]


def test_bash_completes_the_names_that_a_gateway_has(operator: Path, instances: FakeGateway) -> None:
    assert tab(operator, "revoke", "instance", "") == [ID, OTHER]
    assert tab(operator, "revoke", "instance", "i-01") == [ID]
    assert tab(operator, "ticket", "create", "--instance", "i-0f") == [OTHER]
    assert {path.partition("?")[0] for _, path, _ in instances.asked} == {"/v1/instances"}
    address = (operator / "gateway").read_text().strip()
    (operator / "gateway").unlink()
    assert tab(operator, "instance", "show", "") == []
    assert tab(operator, "--gateway", address, "instance", "show", "") == [ID, OTHER]


@pytest.mark.parametrize(
    ("words", "answer", "name"),
    [
        (["profile", "show"], {"profiles": [{"name": "web"}]}, "web"),
        (["key", "rotate"], {"keys": [{"name": "main"}]}, "main"),
        (["operator", "show"], {"operators": [{"name": "bob"}]}, "bob"),
        (["role", "show"], {"roles": [{"name": "auditor"}]}, "auditor"),
        (["server", "stop"], {"servers": [{"instance_id": ID}]}, ID),
        (["revoke", "lease"], {"leases": [{"id": "ab12"}]}, "ab12"),
        (["revoke", "ticket"], {"tickets": [{"id": "t-1"}]}, "t-1"),
        (["revocation", "show"], {"revocations": [{"id": "r-1"}]}, "r-1"),
        (["approval", "give"], {"approvals": [{"id": "ap-1"}]}, "ap-1"),
    ],
)
def test_each_name_comes_from_its_list(
    operator: Path, gateway: FakeGateway, words: list[str], answer: dict[str, object], name: str
) -> None:
    gateway.answer = answer
    assert tab(operator, *words, "") == [name]


@pytest.mark.parametrize("answer", [b"<html>", {"instances": None}, {"instances": [{}]}, {"instances": ["x"]}, {}])
def test_an_answer_that_is_none_completes_nothing(operator: Path, gateway: FakeGateway, answer: object) -> None:
    gateway.answer = answer
    assert tab(operator, "revoke", "instance", "") == []


def test_whoever_may_not_see_them_gets_none(operator: Path, instances: FakeGateway) -> None:
    instances.status = 403
    assert tab(operator, "revoke", "instance", "") == []


def test_a_gateway_that_is_silent_is_not_waited_for(operator: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        (operator / "gateway").write_text(f"127.0.0.1:{silent.getsockname()[1]}\n")
        assert tab(operator, "revoke", "instance", "") == []
    (operator / "operator.crt").unlink()
    assert tab(operator, "revoke", "instance", "") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_its_script(run: Run, shell: str) -> None:
    assert "_TRUSTED_GATEWAY_COMPLETE" in run("completion", shell).succeeds()
    run("completion", "csh").fails("usage", 2)
