"""What a command line may be; how it fails when it is none; and what it costs to start."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from gateway.cli.main import cli
from tests.gateway.cli.conftest import Run

CLI = Path(sys.executable).with_name("trusted-gateway")


def _commands(group: click.Group, *path: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command there is, and every group."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from _commands(command, *path, name)


ALL = [pytest.param(path, command, id=" ".join(path)) for path, command in _commands(cli)]


def test_the_commands_of_the_first_slice_are_here() -> None:
    told = {" ".join(path) for path, command in _commands(cli) if not isinstance(command, click.Group)}
    assert told >= {
        "init", "serve", "key import", "profile apply", "ticket create", "instance list", "instance show",
        "instance allow-reenroll", "revoke instance", "audit tail", "audit verify", "status", "operator certify",
    }  # fmt: skip


@pytest.mark.parametrize(("path", "command"), ALL)
def test_every_command_explains_itself(run: Run, path: tuple[str, ...], command: click.Command) -> None:
    text = run(*path, "--help").succeeds()
    assert text.startswith(f"Usage: trusted-gateway {' '.join(path)}")
    for option in command.params:
        assert not isinstance(option, click.Option) or option.help, option.name


@pytest.mark.parametrize(("path", "command"), ALL)
def test_a_wrong_command_line_is_told_in_one_line(run: Run, path: tuple[str, ...], command: click.Command) -> None:
    said = run(*path, "--odd\x1b[2J\u202e")
    assert f"trusted-gateway {' '.join(path)} --help" in said.fails("usage", 2)
    if isinstance(command, click.Group):
        run(*path, "odd").fails("usage", 2)
    elif any(isinstance(each, click.Argument) and each.required for each in command.params):
        run(*path).fails("usage", 2)
    if not isinstance(command, click.Group):
        run(*path, "one", "two", "three").fails("usage", 2)


@pytest.mark.parametrize(
    "arguments",
    [
        ["odd"],
        ["ticket", "create"],
        ["ticket", "create", "--profile"],
        ["key", "import", "main"],
        ["init", "--passphrase-fd", "three"],
        ["init", "--passphrase-fd", "-1"],
        ["init", "--passphrase-fd", "３x"],
        ["audit", "tail", "-n", "0"],
        ["audit", "tail", "-n", "-1"],
        ["audit", "tail", "-n", "1.5"],
        ["--settings"],
        ["--gateway"],
    ],
)
def test_wrong_options(run: Run, arguments: list[str]) -> None:
    run(*arguments).fails("usage", 2)


def test_without_a_command_the_help_is_shown_and_the_status_says_that_nothing_was_done(run: Run) -> None:
    said = run()
    assert said.status == 2
    assert said.err.startswith("Usage: trusted-gateway")
    assert run("--version").succeeds().startswith("trusted-gateway")


@pytest.mark.threat("G17")
def test_no_option_takes_a_secret() -> None:
    names = {option for _, command in _commands(cli) for each in command.params for option in each.opts}
    secret = {name for name in names if any(word in name for word in ("secret", "pass", "key", "token"))}
    assert secret == {"--passphrase-fd", "--access-key-id", "--only-secret"}  # a number, no secret, and what to print


def test_a_broken_off_command_ends_with_130(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("gateway.cli.remote.client_of", interrupted)
    said = run("status")
    assert said.status == 130
    assert said.err.strip() == "error: stopped (aborted)"


@pytest.mark.threat("G17", "C19")
def test_a_fault_of_ours_is_told_by_its_place_and_quotes_nothing(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("canary-secret")

    monkeypatch.setattr("gateway.cli.remote.client_of", broken)
    text = run("status").fails("internal_error")
    assert "RuntimeError at test_usage.py:" in text
    assert "canary" not in text


def test_a_reader_that_goes_away_is_no_fault(operator: Path) -> None:
    listing = subprocess.Popen([CLI, "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert listing.stdout is not None
    listing.stdout.close()
    _, err = listing.communicate(timeout=20)
    assert "Traceback" not in err


# What asks a gateway from an operator's machine needs none of these.
HEAVY = (
    "sqlalchemy",
    "flask",
    "boto3",
    "gunicorn",
    "OpenSSL",
    "cryptography",
    "asn1crypto",
    "rich",
    "alembic",
    "certs",
)
_LOADED = """
import sys
sys.argv = ["trusted-gateway", *sys.argv[1:]]
from gateway.cli.main import main
try:
    main()
except SystemExit:
    pass
print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""


def _loaded(*arguments: str) -> set[str]:
    done = subprocess.run([sys.executable, "-c", _LOADED, *arguments], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_remote_commands_load_only_what_they_need(tmp_path: Path) -> None:
    absent = ("--operator-dir", str(tmp_path))
    assert _loaded(*absent, "status").isdisjoint(HEAVY)
    assert _loaded(*absent, "revoke", "instance", "i-0123456789abcdef0").isdisjoint(HEAVY)
    assert _loaded(*absent, "init", "--help") >= {"cryptography", "certs"}
