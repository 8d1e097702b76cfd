"""Commands about operators: who may use the gateway, and how somebody comes in."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from cryptography import x509
from cryptography.exceptions import InvalidSignature

from certs import csr, keys
from gateway.cli import completion, files, show
from gateway.cli.client import KEY, ROOT, Answer, OperatorDirectory
from gateway.cli.failure import Failure
from gateway.cli.host import certify
from gateway.cli.own_key import install, key_in, text, written_fingerprint
from gateway.cli.remote import client_of, listed, only
from gateway.cli.show import JSON, WATCH
from gateway.cli.sign_in import renew
from gateway.wire import strict
from gateway.wire.messages import NAME, PEM, loads
from gateway.wire.strict import Malformed

NAMED = click.argument("name", metavar="NAME", shell_complete=completion.OPERATORS)
CSR = click.option(
    "--csr",
    "request",
    type=click.Path(path_type=Path),
    required=True,
    help="What 'operator request' printed on the other machine: a file, or - for standard input.",
)
OUT = click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Write the answer for 'operator accept' into this file.  [default: print it]",
)
ROLES = click.option(
    "--role",
    "roles",
    metavar="ROLE",
    multiple=True,
    shell_complete=completion.ROLES,
    help="A role; may stand several times.",
)
SOURCES = click.option("--source", "sources", metavar="NETWORK", multiple=True, help="Only from there: 10.1.0.0/16.")
HOURS = click.option("--hours", metavar="WINDOW", multiple=True, help="Only then: 'mon-fri 08:00-18:00 Europe/Berlin'.")


@dataclass(frozen=True, slots=True)
class Bundle:
    """What an administrator's `operator add` prints, and `operator accept` reads. All of it is public."""

    operator: str = strict.text(pattern=NAME)
    certificate: str = strict.text(pattern=PEM, longest=8192)
    issuer: str = strict.text(pattern=PEM, longest=8192)
    root: str = strict.text(pattern=PEM, longest=8192)
    gateway: str = strict.text(pattern=r"[A-Za-z0-9._:\[\]-]{1,300}", longest=300)
    not_after: str = strict.text()


@click.group()
def operator() -> None:
    """Operators: the people who may use this gateway, and what each of them may do."""


operator.add_command(certify)
operator.add_command(renew)


@operator.command()
@NAMED
@click.pass_context
def request(context: click.Context, name: str) -> None:
    """Make a key on this machine, and print the request that an administrator certifies for NAME.

    The key stays in the operator's directory. The same key is used when there is one.
    """
    _path(name)
    directory: OperatorDirectory = context.obj["operator_directory"]
    with key_in(directory) as key:
        made = csr.make(key)
    click.echo(made, nl=False)


@operator.command()
@click.argument("source", metavar="FILE", type=click.Path(path_type=Path))
@click.option("--ca-sha256", metavar="HEX", help="The CA's fingerprint, as 'init' printed it: refuse any other.")
@JSON
@click.pass_context
def accept(context: click.Context, source: Path, ca_sha256: str | None, raw: bool) -> None:
    """Install the answer to a request, from FILE (- for standard input): certificate, CA and address."""
    directory: OperatorDirectory = context.obj["operator_directory"]
    hint = "It is what 'trusted-gateway operator add' printed, all of it."
    if not (directory.path / KEY).exists():
        raise Failure(f"no key is in {directory.path}", "operator_missing", "Run 'operator request' here first.")
    try:
        bundle = strict.decode(Bundle, loads(text(source, 64 * 1024).encode()))
        fingerprint = _fingerprint(bundle)
    except Malformed as malformed:
        raise Failure(f"{source} is no answer: {malformed.faults[0]}", "bundle_invalid", hint) from None
    except (ValueError, TypeError, InvalidSignature):
        raise Failure("its certificates do not belong together", "bundle_invalid", hint) from None
    if ca_sha256 is not None and written_fingerprint(ca_sha256) != fingerprint:
        raise Failure(f"the CA's fingerprint is {fingerprint}", "gateway_untrusted", "Ask who sent you this file.")
    known = directory.path / ROOT
    if ca_sha256 is None and known.exists() and known.read_text(errors="replace").split() != bundle.root.split():
        raise Failure(
            f"{directory.path} is for another gateway",
            "gateway_untrusted",
            "Name another --operator-dir, or the CA's fingerprint by --ca-sha256.",
        )
    install(directory, bundle.gateway, bundle.root, bundle.certificate + bundle.issuer)
    if raw:
        return show.as_json({"operator": bundle.operator, "gateway": bundle.gateway, "ca_sha256": fingerprint,
                             "not_after": bundle.not_after})  # fmt: skip
    show.line(f"operator       {bundle.operator}, until {show.moment(bundle.not_after)}")
    show.line(f"gateway        {bundle.gateway}")
    show.line(f"CA fingerprint {fingerprint}")


@operator.command()
@NAMED
@ROLES
@SOURCES
@HOURS
@CSR
@OUT
@click.pass_context
def add(
    context: click.Context,
    name: str,
    roles: tuple[str, ...],
    sources: tuple[str, ...],
    hours: tuple[str, ...],
    request: Path,
    out: Path | None,
) -> None:
    """Let somebody in as NAME, by the key of a request that they made. Nobody but them has the key."""
    _path(name)
    order = {"name": name, "csr": _request(request), "roles": list(roles), **_conditions(sources, hours)}
    _hand_out(client_of(context).call("POST", "/v1/operators", order), out)


@operator.command()
@NAMED
@CSR
@OUT
@click.pass_context
def reissue(context: click.Context, name: str, request: Path, out: Path | None) -> None:
    """Certify a request of NAME, whose certificate ran out or whose key is lost. Older certificates end."""
    order = {"csr": _request(request)}
    _hand_out(client_of(context).call("POST", f"{_path(name)}/certificates", order), out)


@operator.command("list")
@click.option("--state", type=click.Choice(["active", "revoked"]), help="Only those.")
@WATCH
@JSON
@click.pass_context
def list_(context: click.Context, state: str | None, watch: bool, raw: bool) -> None:
    """List all operators."""
    client = client_of(context)
    show.listing(
        lambda: only(listed(client, "/v1/operators", "operators"), state=state),
        ("OPERATOR", "STATE", "ROLES", "ONLY", "ADDED"),
        lambda r: (
            r["name"], r["state"], ", ".join(r["roles"]), "; ".join([*r["source_addresses"], *r["hours"]]) or "-",
            show.moment(r["created_at"]),
        ),
        "there is no operator", raw=raw, watch=watch,
    )  # fmt: skip


@operator.command("show")
@NAMED
@JSON
@click.pass_context
def show_(context: click.Context, name: str, raw: bool) -> None:
    """Show one operator."""
    path = _path(name)
    _tell(client_of(context).call("GET", path), raw)


@operator.command()
@NAMED
@ROLES
@click.option("--no-role", is_flag=True, help="None at all: the operator can do nothing for now.")
@SOURCES
@click.option("--any-source", is_flag=True, help="From anywhere.")
@HOURS
@click.option("--any-hours", is_flag=True, help="At any time.")
@JSON
@click.pass_context
def change(
    context: click.Context,
    name: str,
    roles: tuple[str, ...],
    no_role: bool,
    sources: tuple[str, ...],
    any_source: bool,
    hours: tuple[str, ...],
    any_hours: bool,
    raw: bool,
) -> None:
    """Give NAME other roles, or other conditions: what is named replaces what there was, the rest stays.

    If somebody else changes the operator at the same moment, nothing happens.
    """
    named = {"roles": (roles, no_role), "source_addresses": (sources, any_source), "hours": (hours, any_hours)}
    change = {key: list(values) for key, (values, none) in named.items() if values or none}
    if not change or any(values and none for values, none in named.values()):
        raise click.UsageError("Say what becomes of it: --role, --source, --hours, or that there is none.")
    client = client_of(context)
    before = client.call("GET", _path(name))
    after = {key: before[key] for key in named} | change
    _tell(client.call("PUT", _path(name), after, {"If-Match": f'"{before["version"]}"'}), raw)


def _tell(row: Answer, raw: bool) -> None:
    if raw:
        return show.as_json(row)
    show.line(f"{'operator':<10} {row['name']}, {row['state']}, version {row['version']}")
    show.line(f"{'roles':<10} {', '.join(row['roles']) or 'none'}")
    for what, values in (("only from", row["source_addresses"]), ("only at", row["hours"])):
        for value in values:
            show.line(f"{what:<10} {value}")
    if row["identity"]:
        show.line(f"{'signs in':<10} at {row['identity']['issuer']} as {row['identity']['subject']}")
    show.line(f"{'added':<10} {show.moment(row['created_at'])} by {show.who(row['created_by'] or 'the host')}")
    if row["certified_until"]:
        show.line(f"{'certified':<10} until {show.moment(row['certified_until'])}")
    if row["revoked_at"]:
        show.line(f"{'revoked':<10} {show.moment(row['revoked_at'])} by {show.who(row['revoked_by'])}")


def _hand_out(bundle: Answer, out: Path | None) -> None:
    if out is None:
        return show.as_json(bundle)
    files.write(out, json.dumps(bundle, indent=2) + "\n")
    show.line(f"operator {bundle['operator']} is certified until {show.moment(bundle['not_after'])}")
    show.line(f"{out} is for their machine: trusted-gateway operator accept {out.name}")


def _conditions(sources: tuple[str, ...], hours: tuple[str, ...]) -> dict[str, Any]:
    return {"source_addresses": list(sources), "hours": list(hours)}


def _request(source: Path) -> str:
    return text(source, 8192)


def _fingerprint(bundle: Bundle) -> str:
    """Of the root, from which the chain must lead down to the certificate. Raises ValueError, TypeError,
    InvalidSignature.
    """
    certificate, issuer, root = (
        x509.load_pem_x509_certificate(each.encode()) for each in (bundle.certificate, bundle.issuer, bundle.root)
    )
    for inner, outer in ((certificate, issuer), (issuer, root), (root, root)):
        inner.verify_directly_issued_by(outer)
    return keys.fingerprint(root)


def _path(name: str) -> str:
    if not re.fullmatch(NAME, name):
        raise Failure(
            f"{name!r} cannot be the name of an operator", "name_invalid", "Use small letters, digits, dashes."
        )
    return f"/v1/operators/{name}"
