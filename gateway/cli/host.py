"""Commands on the gateway's own host, which open the store and the seal: init, serve, key import, operator certify.

They import the bootstrap when they run: with Flask, boto3 and SQLAlchemy it takes longer than any command elsewhere.
"""

import getpass
import os
import re
import tomllib
from pathlib import Path

import click
from cryptography.x509 import load_der_x509_certificate

from certs import csr, keys
from gateway.cli import secrets_in, show
from gateway.cli.client import CERTIFICATE, OperatorDirectory
from gateway.cli.failure import Failure
from gateway.cli.own_key import install, key_in, pem
from gateway.cli.show import JSON
from gateway.core.errors import Refusal
from gateway.settings import Settings, read
from gateway.wire.messages import NAME, instant

PASSPHRASE = click.option(
    "--passphrase-fd", type=click.IntRange(min=0), metavar="N", help="Read the seal's passphrase from this descriptor."
)


def settings_of(context: click.Context) -> Settings:
    """The settings that the global options name. Raises Failure and SettingsError."""
    path: Path = context.obj["settings"]
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise Failure(
            f"{path}: {error.strerror}", "settings_missing", "Write one (docs/settings.md), or name it with --settings."
        ) from None
    except ValueError as error:  # no TOML, or no UTF-8
        raise Failure(f"{path}: {error}", "settings_invalid", "Mend the file.") from None
    return read(document, os.environ)  # variables are settings, too


@click.command()
@click.option("--operator", "name", metavar="NAME", help="The first operator's name.  [default: your login]")
@PASSPHRASE
@JSON
@click.pass_context
def init(context: click.Context, name: str | None, passphrase_fd: int | None, raw: bool) -> None:
    """Make the CA, the sealed vault and the first operator's certificate."""
    settings, name = settings_of(context), _named(name or _login(), "an operator")
    directory: OperatorDirectory = context.obj["operator_directory"]
    if (directory.path / CERTIFICATE).exists():
        raise Failure(
            f"{directory.path} has an operator's certificate in it",
            "operator_exists",
            "Name another with --operator-dir.",
        )
    passphrase = secrets_in.passphrase(passphrase_fd, twice=True)
    from gateway import ceremonies

    try:
        with key_in(directory) as key:
            made = ceremonies.initialize(settings, passphrase, name, csr.make(key))
    except Refusal as refusal:
        if refusal.code != "conflict":
            raise
        hint = f"If its init was broken off: 'trusted-gateway operator certify {name}' finishes it."
        raise Failure(str(refusal), "conflict", hint) from None
    except ValueError as error:  # a passphrase that is too short, or a trust domain that is none
        raise Failure(str(error), "init_refused", "Nothing was made; mend it, and run it again.") from None
    try:
        install(directory, settings.admin_address, pem(made.root), pem(made.operator) + pem(made.issuer))
    except Failure as failure:
        hint = f"The store is made. Mend this, and finish with 'trusted-gateway operator certify {name}'."
        raise Failure(str(failure), failure.code, hint) from None
    fingerprint = keys.fingerprint(load_der_x509_certificate(made.root))
    if raw:
        return show.as_json(
            {"store": settings.store, "operator": name, "directory": str(directory.path), "ca_sha256": fingerprint}
        )
    show.line("initialised    " + settings.store)
    show.line("operator       " + f"{name}, in {directory.path}")
    show.line("CA fingerprint " + fingerprint)


@click.command()
@click.argument("name")
@click.option(
    "--as-administrator",
    is_flag=True,
    help="Make NAME an administrator without conditions, new or not: the way back in.",
)
@PASSPHRASE
@JSON
@click.pass_context
def certify(context: click.Context, name: str, as_administrator: bool, passphrase_fd: int | None, raw: bool) -> None:
    """Give operator NAME a new 12-hour certificate for the key in the operator's directory, on the gateway's host."""
    settings, name = settings_of(context), _named(name, "an operator")
    directory: OperatorDirectory = context.obj["operator_directory"]
    passphrase = secrets_in.passphrase(passphrase_fd)
    from gateway import ceremonies

    with key_in(directory) as key:
        made = ceremonies.certify_operator(settings, passphrase, name, csr.make(key), administrator=as_administrator)
    install(directory, settings.admin_address, pem(made.root), pem(made.operator) + pem(made.issuer))
    ends = instant(load_der_x509_certificate(made.operator).not_valid_after_utc)
    if raw:
        return show.as_json({"operator": name, "not_after": ends, "directory": str(directory.path)})
    show.line(f"operator {name} is certified until {show.moment(ends)}")


@click.command("import")
@click.argument("name")
@click.option("--access-key-id", required=True, help="The key's id; it is not secret.")
@click.option(
    "--from", "source", type=click.Path(path_type=Path), help="A file with the secret, or - for standard input."
)
@click.option(
    "--purpose",
    type=click.Choice(["vend", "revoke"]),
    default="vend",
    show_default=True,
    help="What for: to make sessions with, or to cut them off and rotate keys.",
)
@PASSPHRASE
@JSON
@click.pass_context
def import_(
    context: click.Context,
    name: str,
    access_key_id: str,
    source: Path | None,
    purpose: str,
    passphrase_fd: int | None,
    raw: bool,
) -> None:
    """Seal an AWS key into the vault as NAME ('main' is what profiles use unless they say otherwise).

    The secret comes from a prompt, standard input or a file, never from the command line.
    """
    name = _named(name, "a key")
    if not re.fullmatch(r"[A-Z0-9]{16,128}", access_key_id):
        raise Failure("that is no access key id", "name_invalid", "It has at least 16 capitals and digits: AKIA…")
    settings = settings_of(context)
    secret = secrets_in.secret_key(source)
    phrase = secrets_in.passphrase(passphrase_fd)
    from gateway import ceremonies

    account = ceremonies.import_key(settings, phrase, name, access_key_id, secret, _login(), purpose)
    if raw:
        return show.as_json({"name": name, "access_key_id": access_key_id, "account": account, "purpose": purpose})
    show.line(f"sealed {access_key_id} of account {account} as {name!r}; nobody can read it out again")


@click.command()
@PASSPHRASE
@click.pass_context
def serve(context: click.Context, passphrase_fd: int | None) -> None:
    """Unseal, and serve until told to stop."""
    settings, passphrase = settings_of(context), secrets_in.passphrase(passphrase_fd)
    from gateway import bootstrap

    bootstrap.serve(settings, passphrase)


def _login() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # KeyError: before Python 3.13
        raise Failure("nobody knows your login", "login_unknown", "Set LOGNAME; for 'init', name --operator.") from None


def _named(name: str, what: str) -> str:
    if not re.fullmatch(NAME, name):
        raise Failure(f"{name!r} cannot be the name of {what}", "name_invalid", "Use small letters, digits and dashes.")
    return name
