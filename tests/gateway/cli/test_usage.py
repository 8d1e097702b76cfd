"""What a command line may be; how it fails when it is none; and what it costs to start."""

import ast
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from deploy.demo import REPOSITORY
from gateway.cli import show
from gateway.cli.client import Client
from gateway.cli.main import cli
from gateway.wire.problems import PROBLEMS
from tests.gateway.cli.conftest import ERROR, FakeGateway, Run
from tests.gateway.cli.test_client import RECEIPT

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
    if not isinstance(command, click.Group) and not any(each.nargs < 0 for each in command.params):
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
    # A number, no secret, what to print, a place, and the name of an upstream key.
    assert secret == {"--passphrase-fd", "--access-key-id", "--only-secret", "--token-file", "--key"}


def test_a_broken_off_command_ends_with_130(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("gateway.cli.remote.client_of", interrupted)
    said = run("status")
    assert said.status == 130
    assert said.err.strip().startswith("error: stopped (aborted)\nhint: ")


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
    _, err = listing.communicate(timeout=60)
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
    "authlib",
    "yaml",
    "prometheus_client",
    "opentelemetry",
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


# One look

LEAVES = [(path, command) for path, command in _commands(cli) if not isinstance(command, click.Group)]
VERBS = frozenset({
    "list", "show", "history", "search", "summary", "tail", "status", "output", "findings",
    "create", "add", "apply", "change", "remove", "rollback", "import", "rotate", "disable", "compromised",
    "check", "diff", "explain", "test", "replay", "suggest", "verify", "reconcile", "export", "archive",
    "init", "serve", "login", "logout", "completion", "request", "accept", "certify", "reissue", "renew",
    "give", "refuse", "allow-reenroll", "launch", "start", "stop", "reboot", "terminate",
})  # fmt: skip
# What prints something that is no record: a certificate request, a bundle, a log, a script; or prints nothing.
PLAIN = {"serve", "operator add", "operator reissue", "operator request", "audit export", "completion"}
ASKING = {
    "logout", "key compromised", "key disable", "key rotate", "role remove", "approval give", "server reboot",
    "server stop", "server terminate", "revoke profile", "revoke everything",
}  # fmt: skip
# The same word for another thing: a state, a reason, a place or a time is of what is listed.
OF_THEIR_OWN = {"--state", "--reason", "--source", "--to", "--since", "--user-data", "--kind"}


def _options(command: click.Command) -> set[str]:
    return {name for each in command.params if isinstance(each, click.Option) for name in each.opts}


def test_the_verbs_are_few() -> None:
    assert {path[-1] for path, _ in LEAVES if path[0] != "revoke"} <= VERBS


def test_every_command_prints_json_and_every_list_can_be_watched() -> None:
    assert {" ".join(path) for path, command in LEAVES if "--json" not in _options(command)} == PLAIN
    assert {" ".join(path) for path, command in LEAVES if "--watch" not in _options(command)}.isdisjoint(
        {" ".join(path) for path, _ in LEAVES if path[-1] == "list"}
    )


def test_what_destroys_something_takes_yes() -> None:
    taking = {" ".join(path) for path, command in LEAVES if "--yes" in _options(command)}
    assert taking == ASKING | {" ".join(path) for path, _ in LEAVES if path[0] == "revoke"}


def test_options_of_one_name_are_written_alike() -> None:
    found: dict[str, set[str]] = {}
    for _, command in LEAVES:
        for each in command.params:
            if isinstance(each, click.Option):
                written = "" if each.is_flag else each.make_metavar(click.Context(command))
                for name in each.opts:
                    found.setdefault(name, set()).add(written)
    assert {name for name, written in found.items() if len(written) > 1} - OF_THEIR_OWN == set()


@pytest.mark.parametrize(
    "arguments",
    [
        ["revoke", "instance", "i-0123456789abcdef0"], ["revoke", "certificate", "01"], ["revoke", "lease", "ab"],
        ["revoke", "grant", "web/reports"], ["revoke", "ticket", "t-1"], ["revoke", "operator", "bob"],
    ],
)  # fmt: skip
def test_at_three_in_the_morning_nothing_is_asked(
    run: Run, operator: Path, gateway: FakeGateway, arguments: list[str]
) -> None:
    gateway.answer = RECEIPT
    run(*arguments).succeeds()
    assert [method for method, _, _ in gateway.asked] == ["POST"]


@pytest.mark.parametrize(
    "arguments", [["revoke", "profile", "web"], ["revoke", "everything"], ["key", "disable", "main"]]
)
def test_what_takes_many_down_asks_first_and_says_what_is_lost(
    run: Run, operator: Path, gateway: FakeGateway, arguments: list[str]
) -> None:
    gateway.answer = RECEIPT
    lines = run(*arguments).names_faults("confirmation_required")
    assert any("session(s)" in each for each in lines)
    assert {path.partition("?")[2] for _, path, _ in gateway.asked} == {"dry_run=true"}


# Errors: a line, a hint, a status


@pytest.mark.parametrize("code", PROBLEMS)
def test_every_refusal_is_a_line_and_a_hint(run: Run, operator: Path, gateway: FakeGateway, code: str) -> None:
    problem = PROBLEMS[code]
    gateway.status = problem.status
    gateway.answer = {"title": problem.title, "code": code, "hint": problem.hint, "status": problem.status}
    text = run("key", "list").fails(code)
    assert problem.title in text


def test_every_failure_has_a_hint() -> None:
    hints = 0
    for path in (REPOSITORY / "gateway" / "cli").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("Failure", "_fail"):
                hints += 1
                where = f"{path.name}:{node.lineno}"
                assert len(node.args) >= 3, where
                assert not (isinstance(node.args[2], ast.Constant) and not node.args[2].value), where
    assert hints > 80


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (b"<html>", "gateway_strange"),
        (b"", "gateway_strange"),
        (b"\xff\xfe", "gateway_strange"),
        (b"[" * 100_000, "gateway_strange"),
        ({"keys": [{}], "next": None}, "gateway_strange"),
        ({"keys": [{"created_at": "yesterday", "name": "", "account": "", "access_key_id": "", "purpose": "",
                    "state": "", "rotation": None}], "next": None}, "gateway_strange"),
    ],
)  # fmt: skip
def test_a_gateway_that_answers_garbage(run: Run, operator: Path, gateway: FakeGateway, answer: Any, code: str) -> None:
    gateway.answer = answer
    run("key", "list").fails(code)


def test_a_gateway_that_hangs(run: Run, operator: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Client.__init__
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr(Client, "__init__", lambda *given: made(*given, timeout=0.2))
        (operator / "gateway").write_text(f"127.0.0.1:{silent.getsockname()[1]}\n")
        assert "timed out" in run("status").fails("gateway_unreachable")


def test_without_a_home(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(self: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", nobody)
    run("status").fails("home_missing")


def test_settings_that_cannot_be_read(run: Run, tmp_path: Path) -> None:
    (tmp_path / "gateway.toml").mkdir()
    run("serve").fails("settings_missing")


@pytest.mark.parametrize("command", ["--help", "key list"])
def test_a_full_disk_is_told_and_is_no_success(operator: Path, gateway: FakeGateway, command: str) -> None:
    gateway.answer = {"keys": [], "next": None}
    line = [str(CLI), "--operator-dir", str(operator), *command.split()]
    with open("/dev/full", "w") as full:
        done = subprocess.run(line, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert ERROR.fullmatch(done.stderr), done.stderr
    assert "(system_error)" in done.stderr


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", ">&- 2>&- <&-"])
def test_closed_descriptors_end_in_no_traceback(tmp_path: Path, closed: str) -> None:
    line = f"'{CLI}' --operator-dir '{tmp_path}' status {closed}"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr


# Tables


ROWS = [[f"i-{number:017x}", "enrolled", "web", "111122223333", "eu-central-1", "2026-11-22T02:31:10Z (58 min ago)"]
        for number in range(3)]  # fmt: skip
COLUMNS = ("INSTANCE", "STATE", "PROFILE", "ACCOUNT", "REGION", "ENROLLED")


@pytest.mark.parametrize("width", [200, 80, 60, 40])
def test_a_table_fits_and_loses_nothing(width: int) -> None:
    lines = [click.unstyle(each) for each in show.laid_out(COLUMNS, ROWS, width)]
    assert max(map(len, lines)) <= width
    assert " ".join(" ".join(lines).split()) == " ".join([*COLUMNS, *(cell for row in ROWS for cell in row)])
    assert len(lines) % 4 == 0
    assert len(lines) == 4 or all(line.startswith("  ") or line.startswith(("INST", "i-")) for line in lines)


def test_a_table_in_a_file_is_as_wide_as_it_is() -> None:
    assert len(show.laid_out(COLUMNS, ROWS, None)) == 4


def test_a_cell_that_is_too_long_alone_is_continued_below() -> None:
    permissions = ", ".join(f"operator:thing-{number}:list" for number in range(20))
    lines = show.laid_out(("ROLE", "PERMISSIONS"), [("own", permissions)], 80)
    assert max(len(click.unstyle(each)) for each in lines) <= 80
    assert "operator:thing-19:list" in lines[-1]


def test_wide_characters_keep_the_columns_apart() -> None:
    lines = show.laid_out(("NAME", "STATE"), [("漢字", "a"), ("e\u0301t", "b")], None)
    assert lines[1:] == ["漢字  a", "e\u0301t    b"]


def test_short_lists_are_filtered_here(run: Run, operator: Path, gateway: FakeGateway) -> None:
    rows = [{"name": "one", "purpose": "vend"}, {"name": "two", "purpose": "revoke"}]
    gateway.answer = {"keys": rows, "next": None}
    assert json.loads(run("key", "list", "--json").succeeds()) == rows
    assert json.loads(run("key", "list", "--purpose", "revoke", "--json").succeeds()) == rows[1:]
