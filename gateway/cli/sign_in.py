"""login, logout and operator renew: how an operator's certificate comes, goes, and is kept alive."""

import hashlib
import ssl
from datetime import timedelta
from pathlib import Path

import click
from cryptography.x509 import Certificate, load_pem_x509_certificate

from certs import csr
from gateway.cli import device, files, own_key, show
from gateway.cli.asking import YES, confirm
from gateway.cli.client import ADDRESS, CERTIFICATE, KEY, ROOT, Answer, Client, OperatorDirectory
from gateway.cli.failure import Failure
from gateway.cli.renewal import renewed
from gateway.cli.show import JSON

BRIEF = timedelta(hours=1, minutes=5)  # the longest that a sign-in gives
LARGEST = 16384
NO_MORE = ("operator_certificate_expired", "certificate_expired", "certificate_revoked", "certificate_unknown")


@click.command()
@click.option(
    "--token-file",
    "source",
    type=click.Path(path_type=Path),
    help="A file with a token of the provider, or - for standard input: for machines. It is good once.",
)
@click.option(
    "--ca-sha256", metavar="HEX", help="The gateway's CA fingerprint (init told it), for the first time from here."
)
@JSON
@click.pass_context
def login(context: click.Context, source: Path | None, ca_sha256: str | None, raw: bool) -> None:
    """Sign in at the gateway's OpenID provider; the certificate lives an hour at most."""
    directory: OperatorDirectory = context.obj["operator_directory"]
    address: str = context.obj["gateway"] or directory.address()
    files.private(directory.path)
    _demand_nothing_lost(directory)
    if ca_sha256 is not None:
        _first_contact(directory, address, ca_sha256)
    provider = _ask(directory, address, "GET")
    if source is not None:
        token = own_key.text(source, LARGEST).strip()
    elif provider["client_id"] is None:
        hint = "Get a token of it by other means: --token-file."
        raise Failure("the gateway names no client at its provider", "provider_strange", hint)
    else:
        token = device.token(str(provider["issuer"]), str(provider["client_id"]), str(provider["scopes"]))
    with own_key.key_in(directory) as key:
        made = _ask(directory, address, "POST", {"token": token, "csr": csr.make(key)})
        own_key.install(directory, address, str(made["root"]), f"{made['certificate']}{made['issuer']}")
    _say(raw, made, directory)


@click.command()
@YES
@JSON
@click.pass_context
def logout(context: click.Context, yes: bool, raw: bool) -> None:
    """Revoke your certificate at the gateway, and forget it and its key."""
    directory: OperatorDirectory = context.obj["operator_directory"]
    found = _certificate(directory)
    if found is not None and not _is_brief(found):
        confirm(
            yes, f"The key and the certificate in {directory.path} will be gone; nobody can bring them back.",
            "Another administrator, or 'operator certify' on the gateway's host, has to let you in again.",
        )  # fmt: skip
    client, failure = Client(directory, context.obj["gateway"]), None
    context.call_on_close(client.close)
    try:
        client.call("POST", "/v1/logout")
    except Failure as error:
        failure = None if error.code in NO_MORE else error
    for name in (CERTIFICATE, KEY):
        (directory.path / name).unlink(missing_ok=True)
    if failure is not None:
        hint = "It is good for nothing without its key, which is gone; an administrator can revoke it."
        raise Failure(f"the certificate is not revoked: {failure}", failure.code, hint)
    if raw:
        return show.as_json({"directory": str(directory.path)})
    show.line(f"signed out; key and certificate are gone from {directory.path}")


@click.command()
@JSON
@click.pass_context
def renew(context: click.Context, raw: bool) -> None:
    """Renew your certificate, for the same key. Every command does so by itself when it is time."""
    directory: OperatorDirectory = context.obj["operator_directory"]
    client = Client(directory, context.obj["gateway"])
    context.call_on_close(client.close)
    _say(raw, renewed(client, directory), directory)


def _say(raw: bool, made: Answer, directory: OperatorDirectory) -> None:
    if raw:
        document = {name: made[name] for name in ("operator", "not_after")}
        return show.as_json({**document, "directory": str(directory.path)})
    show.line(f"operator {made['operator']} is certified until {show.moment(made['not_after'])}")


def _ask(directory: OperatorDirectory, address: str, method: str, body: object = None) -> Answer:
    """On a connection of its own, without a certificate: between two of them a person may take their time."""
    try:
        context = directory.context(anonymous=True)
    except Failure:
        hint = "For the first time: --gateway HOST:PORT login --ca-sha256 FINGERPRINT"
        raise Failure(f"no CA of a gateway in {directory.path}", "gateway_untrusted", hint) from None
    client = Client(directory, address, context=context)
    try:
        return client.call(method, "/v1/login", body)
    finally:
        client.close()


def _first_contact(directory: OperatorDirectory, address: str, sha256: str) -> None:
    """Take the root certificate from whoever answers, and keep it if it is the one that was named."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    client = Client(directory, address, context=context)
    try:
        root = str(client.call("GET", "/v1/login")["root"])
        found = hashlib.sha256(ssl.PEM_cert_to_DER_cert(root)).hexdigest()
    except ValueError:
        found = ""
    finally:
        client.close()
    if found != own_key.written_fingerprint(sha256):
        text = f"{address} does not show the CA that was named"
        raise Failure(text, "gateway_untrusted", "Check the fingerprint and the address; someone may be in between.")
    files.write(directory.path / ROOT, root)
    files.write(directory.path / ADDRESS, address + "\n")


def _demand_nothing_lost(directory: OperatorDirectory) -> None:
    """A certificate that no token can replace is not overwritten."""
    found = _certificate(directory)
    if found is not None and not _is_brief(found) and not directory.expired():
        raise Failure(
            f"{directory.path} has an operator's certificate in it that was not given by a sign-in",
            "operator_exists",
            "Name another with --operator-dir, or 'trusted-gateway logout' to give that one up.",
        )


def _certificate(directory: OperatorDirectory) -> Certificate | None:
    try:
        return load_pem_x509_certificate((directory.path / CERTIFICATE).read_bytes())
    except (OSError, ValueError):
        return None


def _is_brief(certificate: Certificate) -> bool:
    return certificate.not_valid_after_utc - certificate.not_valid_before_utc <= BRIEF
