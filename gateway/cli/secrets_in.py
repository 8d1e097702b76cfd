"""How secrets come in: a file descriptor, a systemd credential, a file, standard input or the terminal. Never argv."""

import os
import sys
from pathlib import Path

import click

from gateway.cli.failure import Failure
from gateway.wire.secret import Secret

CREDENTIAL = "trusted-gateway-passphrase"
LARGEST = 4096


def passphrase(fd: int | None, *, twice: bool = False) -> Secret:
    """The seal's passphrase. With `twice` a person at the terminal is asked to repeat it. Raises Failure."""
    directory = os.environ.get("CREDENTIALS_DIRECTORY")  # systemd.exec(5): where LoadCredential= puts it
    credential = Path(directory) / CREDENTIAL if directory else None
    if fd is not None:
        place = f"file descriptor {fd}"
        return _line(_read(fd, place, "Open it: --passphrase-fd 3 3<FILE"), place)
    if credential is not None and credential.exists():
        place = f"the systemd credential {CREDENTIAL}"
        return _line(_read(credential, place, "See LoadCredential= in systemd.exec(5)."), place)
    if not sys.stdin.isatty():
        raise Failure(
            "the passphrase is missing",
            "passphrase_missing",
            f"Give it by --passphrase-fd, by the systemd credential {CREDENTIAL}, or at a terminal.",
        )
    return Secret(click.prompt("Passphrase of the seal", hide_input=True, confirmation_prompt=twice, err=True))


def secret_key(source: Path | None) -> Secret:
    """An upstream key's secret: a file's, standard input's (`-` or a pipe), or the terminal's. Raises Failure."""
    if source is None and sys.stdin.isatty():
        return Secret(click.prompt("Secret access key", hide_input=True, err=True))
    if source is None or str(source) == "-":
        return _line(sys.stdin.buffer.read(LARGEST + 1), "standard input")
    return _line(_read(source, str(source), "Name a file that can be read."), str(source))


def _read(source: int | Path, place: str, hint: str) -> bytes:
    """What is in a file or descriptor, which is closed then."""
    try:
        with open(source, "rb") as file:
            return file.read(LARGEST + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not open for reading"
        raise Failure(f"{place}: {reason}", "secret_unreadable", hint) from None


def _line(raw: bytes, place: str) -> Secret:
    """The one line in `raw`."""
    line = raw.removesuffix(b"\n").removesuffix(b"\r")
    if not line or len(raw) > LARGEST or b"\n" in line or b"\0" in line:
        raise Failure(
            f"{place} does not hold exactly one line",
            "secret_malformed",
            f"Put the secret there, alone: 1 to {LARGEST} bytes.",
        )
    return Secret(line)
