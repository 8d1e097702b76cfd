"""Commands on the gateway's own host: what they refuse they leave as it was; what was broken off can be finished."""

import json
import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from certs import keys
from tests.gateway.cli.conftest import Run, Said
from tests.gateway.cli.terminal import Terminal

CLI = str(Path(sys.executable).with_name("trusted-gateway"))
PHRASE = b"correct horse battery"

CHEAP = 2**10  # scrypt; what it costs in earnest is paid by the tests that start the program

Command = Callable[..., Said]


@pytest.fixture(autouse=True)
def cheap_seal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.adapters.seal_passphrase.COST", CHEAP)


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    """Settings of a gateway that is not made yet."""
    (tmp_path / "aws").mkdir()
    path = tmp_path / "gateway.toml"
    path.write_text(
        f'names = ["::1", "gateway.test"]\nstore = "sqlite:///{tmp_path}/store/gateway.db"\n'
        f'[aws]\nidentity_certificates = "{tmp_path}/aws"\n'
    )
    return path


@pytest.fixture
def unsealing(run: Run, settings: Path) -> Command:
    """Runs a command with a passphrase by descriptor; PHRASE unless a test says otherwise."""

    def said(*arguments: str | Path, phrase: bytes = PHRASE) -> Said:
        readable, writable = os.pipe()
        os.write(writable, phrase)
        os.close(writable)
        return run(*arguments, "--passphrase-fd", str(readable))

    return said


def _store(folder: Path) -> dict[str, Any]:
    """All rows of the store but the audit log's."""
    with sqlite3.connect(f"file:{folder}/store/gateway.db?mode=ro", uri=True) as database:
        tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        rows = {name: database.execute(f"SELECT * FROM {name}").fetchall() for name in tables}
    database.close()
    return {name: found for name, found in rows.items() if not name.startswith("audit_")}


def _files(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()} if directory.exists() else {}


def _belong_together(directory: Path) -> bool:
    certificate = x509.load_pem_x509_certificate((directory / "operator.crt").read_bytes())
    key = keys.load_private_pem((directory / "operator.key").read_bytes())
    return certificate.public_key() == key.public_key()


# init


def test_init_makes_a_gateway_and_its_operator(unsealing: Command, tmp_path: Path) -> None:
    told = unsealing("init", "--operator", "alice").succeeds().splitlines()
    assert [line.split()[0] for line in told] == ["initialised", "operator", "CA"]
    operator = tmp_path / "operator"
    assert sorted(_files(operator)) == ["ca.pem", "gateway", "operator.crt", "operator.key"]
    assert (operator / "gateway").read_text() == "127.0.0.1:8444\n"
    assert _belong_together(operator)
    root = x509.load_pem_x509_certificate((operator / "ca.pem").read_bytes())
    assert told[2] == f"CA fingerprint {keys.fingerprint(root)}"


def test_a_second_init_is_refused_and_changes_nothing(unsealing: Command, tmp_path: Path) -> None:
    made = json.loads(unsealing("init", "--operator", "alice", "--json").succeeds())
    assert made.keys() == {"store", "operator", "directory", "ca_sha256"}
    before, files = _store(tmp_path), _files(tmp_path / "operator")
    unsealing("init", "--operator", "alice").fails("operator_exists")
    elsewhere = tmp_path / "elsewhere"
    text = unsealing("--operator-dir", elsewhere, "init", "--operator", "mallory").fails("conflict")
    assert "operator certify mallory" in text
    assert (_store(tmp_path), _files(tmp_path / "operator"), _files(elsewhere)) == (before, files, {})


@pytest.mark.parametrize(
    ("arguments", "phrase", "code"),
    [
        (["--operator", "Alice"], PHRASE, "name_invalid"),
        (["--operator", ""], b"", "secret_malformed"),
        (["--operator", "a b"], PHRASE, "name_invalid"),
        (["--operator", "alice\n"], PHRASE, "name_invalid"),
        (["--operator", "ａlice"], PHRASE, "name_invalid"),
        (["--operator", "x" * 64], PHRASE, "name_invalid"),
        (["--operator", "alice"], b"too short", "init_refused"),
        (["--operator", "alice"], b"two\nlines", "secret_malformed"),
    ],
)
def test_an_init_that_is_refused_leaves_no_operator(
    unsealing: Command, tmp_path: Path, arguments: list[str], phrase: bytes, code: str
) -> None:
    unsealing("init", *arguments, phrase=phrase).fails(code)
    assert _files(tmp_path / "operator") == {}
    unsealing("init", "--operator", "alice").succeeds()


@pytest.mark.threat("G17")
def test_files_are_private_under_umask_000(settings: Path, tmp_path: Path) -> None:
    script = 'umask 000; exec "$0" --settings "$1" --operator-dir "$2" init --operator alice --passphrase-fd 0'
    command = ["sh", "-c", script, CLI, str(settings), str(tmp_path / "deep" / "operator")]
    subprocess.run(command, input=PHRASE, check=True, capture_output=True)
    made = [path for path in (*tmp_path.glob("deep/**/*"), *tmp_path.glob("store/**/*")) if path.is_file()]
    assert len(made) >= 5
    assert {oct(stat.S_IMODE(path.stat().st_mode)) for path in made} == {"0o600"}
    folders = {path.parent for path in made} | {tmp_path / "deep"}
    assert {oct(stat.S_IMODE(path.stat().st_mode)) for path in folders} == {"0o700"}


@pytest.mark.threat("G17")
@pytest.mark.parametrize("name", ["operator.key", "operator.crt", "ca.pem", "gateway"])
def test_a_link_that_lies_ready_is_not_followed(unsealing: Command, tmp_path: Path, name: str) -> None:
    (tmp_path / "operator").mkdir(mode=0o700)
    (tmp_path / "operator" / name).symlink_to(tmp_path / "victim")
    unsealing("init", "--operator", "alice").fails("file_unsafe")
    assert not (tmp_path / "victim").exists()


@pytest.mark.threat("G17")
def test_a_directory_that_others_can_write_to_is_refused(unsealing: Command, tmp_path: Path) -> None:
    (tmp_path / "operator").mkdir()
    (tmp_path / "operator").chmod(0o777)
    unsealing("init", "--operator", "alice").fails("file_unsafe")
    assert _files(tmp_path / "operator") == {}


# An init that is broken off

_KILLED = """
import os, sys
from gateway import ceremonies
from gateway.adapters import seal_passphrase
from gateway.cli.main import main

seal_passphrase.COST = {cost}
true = ceremonies.initialize
def initialize(*arguments):
    if {after}:
        true(*arguments)
    os.kill(os.getpid(), 9)
ceremonies.initialize = initialize
sys.argv = ["trusted-gateway", *sys.argv[1:]]
main()
"""


def _killed(settings: Path, operator: Path, *, after: bool) -> None:
    """`init` is killed before, or right after, the store has committed it."""
    arguments = ["--settings", str(settings), "--operator-dir", str(operator), "init", "--operator", "alice"]
    command = [sys.executable, "-c", _KILLED.format(after=after, cost=CHEAP), *arguments, "--passphrase-fd", "0"]
    done = subprocess.run(command, input=PHRASE, capture_output=True, check=False)
    assert done.returncode == -9, done.stderr
    assert list(_files(operator)) == ["operator.key"]


def test_an_init_that_is_killed_before_the_store_has_it_can_be_run_again(
    unsealing: Command, settings: Path, tmp_path: Path
) -> None:
    operator = tmp_path / "operator"
    _killed(settings, operator, after=False)
    key = (operator / "operator.key").read_bytes()
    unsealing("init", "--operator", "alice").succeeds()
    assert (operator / "operator.key").read_bytes() == key
    assert _belong_together(operator)


def test_an_init_that_is_killed_after_the_store_has_it_is_finished_by_certify(
    unsealing: Command, settings: Path, tmp_path: Path
) -> None:
    operator = tmp_path / "operator"
    _killed(settings, operator, after=True)
    assert "operator certify alice" in unsealing("init", "--operator", "alice").fails("conflict")
    assert list(_files(operator)) == ["operator.key"]
    unsealing("operator", "certify", "alice").succeeds()
    assert _belong_together(operator)


def test_an_init_that_cannot_write_its_files_says_how_to_finish(unsealing: Command, tmp_path: Path) -> None:
    operator = tmp_path / "operator"
    (operator / "ca.pem").mkdir(parents=True)
    operator.chmod(0o700)
    assert "operator certify alice" in unsealing("init", "--operator", "alice").fails("file_unwritable")
    (operator / "ca.pem").rmdir()
    unsealing("operator", "certify", "alice").succeeds()
    assert _belong_together(operator)


# The passphrase


def test_a_person_at_a_terminal_makes_and_opens_a_gateway(settings: Path, tmp_path: Path) -> None:
    command = [CLI, "--settings", str(settings), "--operator-dir", str(tmp_path / "operator")]
    phrase = PHRASE.decode()
    with Terminal([*command, "init", "--operator", "alice"], {}) as person:
        person.reads("Passphrase of the seal: ")
        person.types(phrase)
        person.reads("Repeat for confirmation: ")
        person.types(phrase)
        assert person.ends() == 0
        assert "CA fingerprint" in person.seen
        assert phrase not in person.seen
    for typed, status, told in ((phrase, 0, "is certified until"), ("something else", 1, "(seal_closed)")):
        with Terminal([*command, "operator", "certify", "alice"], {}) as person:
            person.reads("Passphrase of the seal: ")
            person.types(typed)
            assert person.ends() == status
            assert told in person.seen
            assert "Traceback" not in person.seen


@pytest.mark.parametrize("key", [b"\x03", b"\x04"], ids=["Control-C", "Control-D"])
def test_a_person_who_breaks_off_changes_nothing(settings: Path, tmp_path: Path, key: bytes) -> None:
    command = [CLI, "--settings", str(settings), "--operator-dir", str(tmp_path / "operator"), "init"]
    with Terminal(command, {"LOGNAME": "alice"}) as person:
        person.reads("Passphrase of the seal: ")
        person.presses(key)
        assert person.ends() == 130
        assert "error: stopped (aborted)" in person.seen
    assert not (tmp_path / "operator").exists()
    assert not (tmp_path / "store").exists()


def test_systemd_gives_the_passphrase(
    run: Run, settings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(credentials))
    run("init", "--operator", "alice").fails("passphrase_missing")
    (credentials / "trusted-gateway-passphrase").write_bytes(PHRASE + b"\n")
    run("init", "--operator", "alice").succeeds()
    (credentials / "trusted-gateway-passphrase").write_bytes(b"something else")
    run("operator", "certify", "alice").fails("seal_closed")


@pytest.mark.threat("K03")
def test_nothing_opens_with_a_wrong_passphrase(unsealing: Command, tmp_path: Path) -> None:
    unsealing("init", "--operator", "alice").succeeds()
    before = _store(tmp_path)
    elsewhere = tmp_path / "elsewhere"
    for command in (
        ["operator", "certify", "alice"],
        ["--operator-dir", elsewhere, "operator", "certify", "alice"],
        ["key", "import", "main", "--access-key-id", "AKIA0123456789ABCDEF", "--from", _secret(tmp_path)],
    ):
        unsealing(*command, phrase=b"something else").fails("seal_closed")
    assert (_store(tmp_path), _files(elsewhere)) == (before, {})


def _secret(folder: Path) -> Path:
    (folder / "secret").write_text("made-up-secret")
    return folder / "secret"


# operator certify


def test_certify_keeps_the_key_and_replaces_the_certificate(unsealing: Command, tmp_path: Path) -> None:
    unsealing("init", "--operator", "alice").succeeds()
    before = _files(tmp_path / "operator")
    said = json.loads(unsealing("operator", "certify", "alice", "--json").succeeds())
    assert said.keys() == {"operator", "not_after", "directory"}
    after = _files(tmp_path / "operator")
    assert after["operator.key"] == before["operator.key"]
    assert after["operator.crt"] != before["operator.crt"]
    assert _belong_together(tmp_path / "operator")


@pytest.mark.parametrize("name", ["bob", "Alice", "", "a/b", "alice\n", "../alice"])
def test_certify_refuses_who_is_no_operator(unsealing: Command, tmp_path: Path, name: str) -> None:
    unsealing("init", "--operator", "alice").succeeds()
    before, files = _store(tmp_path), _files(tmp_path / "operator")
    unsealing("operator", "certify", name).fails("operator_unknown" if name == "bob" else "name_invalid")
    assert (_store(tmp_path), _files(tmp_path / "operator")) == (before, files)


def test_certify_does_not_replace_a_key_that_it_cannot_read(unsealing: Command, tmp_path: Path) -> None:
    unsealing("init", "--operator", "alice").succeeds()
    (tmp_path / "operator" / "operator.key").write_text("no key")
    unsealing("operator", "certify", "alice").fails("key_unreadable")
    assert (tmp_path / "operator" / "operator.key").read_text() == "no key"


# Settings, and a store that is not there

FAULTS = {
    "names": "names = []",
    "store": 'store = "postgresql://x"',
    "environment": 'environment = "prod"',
    "node": 'node = "Node 1"',
    "workers": "workers = 0",
    "odd": "odd = 1",
    "listen.local": '[listen]\nlocal = "0.0.0.0:1"',
    "listen.odd": "odd = 1",
    "aws.region": '[aws]\nregion = "mars"',
}


def test_all_faults_of_the_settings_are_told_at_once(run: Run, settings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.write_text("\n".join(FAULTS.values()))
    monkeypatch.setenv("TRUSTED_GATEWAY_ODD\x1b[2J", "1")
    monkeypatch.setenv("TRUSTED_GATEWAY_WORKERS", "two")
    for command in (["init", "--operator", "alice"], ["serve"], ["operator", "certify", "alice"]):
        said = run(*command)
        *faults, error, hint = said.err.splitlines()
        told = {fault.strip().partition(":")[0] for fault in faults}
        # What the form is right of is looked at further only when all of the form is right.
        assert told >= {"environment", "node", "workers", "odd", "listen.odd", "aws.region"}
        assert r"TRUSTED_GATEWAY_ODD\x1b[2J" in told
        assert error == f"error: the settings have {len(faults)} fault(s) (settings_invalid)"
        assert hint == "hint: See docs/settings.md."
        assert (said.status, said.out) == (1, "")
    settings.write_text("\n".join(FAULTS[name] for name in ("names", "store", "listen.local")))
    monkeypatch.delenv("TRUSTED_GATEWAY_ODD\x1b[2J")
    monkeypatch.delenv("TRUSTED_GATEWAY_WORKERS")
    told = {line.strip().partition(":")[0] for line in run("serve").err.splitlines()[:-2]}
    assert told == {"names", "store", "listen.local"}


@pytest.mark.parametrize("raw", [b"names = ", b"\xff", b'names = "\x1b[2J"', b"a = 1\na = 2", b"x = " + b"9" * 5000])
def test_settings_that_are_no_toml(run: Run, settings: Path, raw: bytes) -> None:
    settings.write_bytes(raw)
    assert "gateway.toml: " in run("serve").fails("settings_invalid")


def test_settings_that_are_not_there(run: Run, tmp_path: Path) -> None:
    run("--settings", tmp_path / "absent", "serve").fails("settings_missing")
    run("--settings", tmp_path, "init").fails("settings_missing")


def test_a_store_in_which_nothing_was_made(unsealing: Command, tmp_path: Path) -> None:
    for command in (
        ["operator", "certify", "alice"],
        ["key", "import", "main", "--access-key-id", "AKIA0123456789ABCDEF", "--from", _secret(tmp_path)],
    ):
        unsealing(*command).fails("store_unavailable")
    assert _files(tmp_path / "operator") == {}


def test_a_place_where_no_store_can_be(unsealing: Command, settings: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    settings.write_text(f'names = ["a"]\nstore = "sqlite:///{tmp_path}/file/gateway.db"\n')
    said = unsealing("init", "--operator", "alice")
    assert said.status == 1
    assert "Traceback" not in said.err
    assert "internal_error" not in said.err, said.err
    assert _files(tmp_path / "operator") == {}


def test_serve_without_aws_certificates_is_refused_before_anything_listens(settings: Path) -> None:
    command = [CLI, "--settings", str(settings), "--operator-dir", str(settings.parent / "operator")]
    made = subprocess.run([*command, "init", "--operator", "alice", "--passphrase-fd", "0"], input=PHRASE, check=True)
    assert made.returncode == 0
    done = subprocess.run([*command, "serve", "--passphrase-fd", "0"], input=PHRASE, capture_output=True, check=False)
    assert done.returncode == 1
    assert b"aws.identity_certificates: " in done.stderr
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("name", "key_id"),
    [("Main", "AKIA0123456789ABCDEF"), ("", "AKIA0123456789ABCDEF"), ("main", "akia0123456789abcdef"), ("main", "AKIA"),
     ("main", "AKIA０123456789ABCDEF"), ("main", "AKIA0123456789ABCDEF\n"), ("main", "A" * 129)],
)  # fmt: skip
def test_a_key_that_cannot_be_one_is_refused_before_its_secret_is_read(
    run: Run, tmp_path: Path, name: str, key_id: str
) -> None:
    run("key", "import", name, "--access-key-id", key_id, "--from", tmp_path / "absent").fails("name_invalid")
