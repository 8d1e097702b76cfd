"""Where a secret may come from, and what is none."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.cli import secrets_in
from gateway.cli.failure import Failure
from gateway.wire.secret import Secret
from tests.gateway.cli.terminal import Terminal

PHRASE = "correct horse battery"

GOOD = {"alone": b"%s", "with a line end": b"%s\n", "with CR LF": b"%s\r\n"}
BAD = {
    "empty": b"", "a line end only": b"\n", "two lines": b"%s\n%s\n", "a line too many": b"%s\n\n", "with NUL": b"%s\0",
    "a line before it": b"\n%s", "over 4 KiB": b"x" * 4097,
}  # fmt: skip


def _holding(raw: bytes) -> int:
    readable, writable = os.pipe()
    os.write(writable, raw.replace(b"%s", PHRASE.encode()))
    os.close(writable)
    return readable


def _by_descriptor(raw: bytes, _: Path, __: pytest.MonkeyPatch) -> Secret:
    return secrets_in.passphrase(_holding(raw))


def _by_credential(raw: bytes, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Secret:
    (folder / secrets_in.CREDENTIAL).write_bytes(raw.replace(b"%s", PHRASE.encode()))
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(folder))
    return secrets_in.passphrase(None)


def _by_file(raw: bytes, folder: Path, _: pytest.MonkeyPatch) -> Secret:
    (folder / "secret").write_bytes(raw.replace(b"%s", PHRASE.encode()))
    return secrets_in.secret_key(folder / "secret")


def _by_standard_input(raw: bytes, _: Path, monkeypatch: pytest.MonkeyPatch) -> Secret:
    with os.fdopen(_holding(raw)) as piped:
        monkeypatch.setattr(sys, "stdin", piped)
        return secrets_in.secret_key(Path("-"))


def _by_pipe(raw: bytes, _: Path, monkeypatch: pytest.MonkeyPatch) -> Secret:
    with os.fdopen(_holding(raw)) as piped:
        monkeypatch.setattr(sys, "stdin", piped)
        return secrets_in.secret_key(None)


Way = Callable[[bytes, Path, pytest.MonkeyPatch], Secret]
WAYS = pytest.mark.parametrize("way", [_by_descriptor, _by_credential, _by_file, _by_standard_input, _by_pipe])


@WAYS
@pytest.mark.parametrize("raw", GOOD.values(), ids=GOOD)
def test_one_line_is_a_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: Way, raw: bytes) -> None:
    assert way(raw, tmp_path, monkeypatch) == Secret(PHRASE)


@WAYS
@pytest.mark.parametrize("raw", BAD.values(), ids=BAD)
def test_anything_else_is_none_and_is_not_quoted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: Way, raw: bytes
) -> None:
    with pytest.raises(Failure) as failed:
        way(raw, tmp_path, monkeypatch)
    assert failed.value.code == "secret_malformed"
    assert PHRASE not in f"{failed.value} {failed.value.hint}"


def test_what_cannot_be_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = os.dup(0)
    os.close(closed)
    write_only = os.open(tmp_path / "w", os.O_WRONLY | os.O_CREAT, 0o600)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    (tmp_path / secrets_in.CREDENTIAL).mkdir()
    asks: tuple[Callable[[], Secret], ...] = (
        lambda: secrets_in.passphrase(closed),
        lambda: secrets_in.passphrase(write_only),
        lambda: secrets_in.passphrase(None),
        lambda: secrets_in.secret_key(tmp_path),
        lambda: secrets_in.secret_key(tmp_path / "absent"),
    )
    for ask in asks:
        with pytest.raises(Failure) as failed:
            ask()
        assert failed.value.code == "secret_unreadable"


def test_the_descriptor_wins_over_the_credential(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / secrets_in.CREDENTIAL).write_text("another")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert secrets_in.passphrase(_holding(b"%s\n")) == Secret(PHRASE)
    assert secrets_in.passphrase(None) == Secret("another")


def test_without_a_terminal_nobody_is_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    with os.fdopen(_holding(b"%s\n")) as piped:
        monkeypatch.setattr(sys, "stdin", piped)
        with pytest.raises(Failure) as failed:
            secrets_in.passphrase(None)
    assert failed.value.code == "passphrase_missing"


ASKS = "from gateway.cli import secrets_in; secret = secrets_in.{}; print('got', len(secret._buffer))"


def test_a_person_is_asked_and_what_is_typed_is_not_shown() -> None:
    command = [sys.executable, "-c", ASKS.format("secret_key(None)")]
    with Terminal(command, {}) as person:
        person.reads("Secret access key: ")
        person.types(PHRASE)
        assert person.ends() == 0
        assert f"got {len(PHRASE)}" in person.seen
        assert PHRASE not in person.seen


def test_a_new_passphrase_is_asked_for_twice_until_both_are_the_same() -> None:
    command = [sys.executable, "-c", ASKS.format("passphrase(None, twice=True)")]
    with Terminal(command, {}) as person:
        person.reads("Passphrase of the seal: ")
        person.types(PHRASE)
        person.reads("Repeat for confirmation: ")
        person.seen = ""
        person.types("something else")
        assert "do not match" in person.reads("Passphrase of the seal: ")
        person.types(PHRASE)
        person.reads("Repeat for confirmation: ")
        person.types(PHRASE)
        assert person.ends() == 0
        assert f"got {len(PHRASE)}" in person.seen
        assert PHRASE not in person.seen
