"""`revoke …` and `revocation …`: cut something off, and read the receipt: at night, by who was just woken."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from types import MappingProxyType
from typing import Any
from urllib.parse import quote, urlencode

import click

from gateway.cli import completion, receipt, show
from gateway.cli.asking import YES, confirm
from gateway.cli.client import Client
from gateway.cli.failure import Failure
from gateway.cli.remote import client_of, instance_path, listed
from gateway.cli.show import JSON, WATCH

EVERY = 0.5  # seconds between two looks of --wait
LONGEST_WAIT = 60.0
WAIT = click.option("--wait", is_flag=True, help="Wait, a minute at most, until no layer is being tried any more.")

Cut = Callable[..., None]


def _options(command: Cut) -> Cut:
    for option in reversed((
        click.option("--reason", metavar="TEXT", help="Why: kept with the revocation."),
        click.option("--dry-run", is_flag=True, help="Say what it would cut off, and change nothing."),
        WAIT,
        YES,
        JSON,
    )):  # fmt: skip
        command = option(command)
    return click.pass_context(command)


@click.group()
def revoke() -> None:
    """Cut something off, now. There is no way back: machines come back by enrolling."""


@revoke.command("instance")
@click.argument("named", metavar="ID", shell_complete=completion.INSTANCES)
@_options
def revoke_instance(context: click.Context, named: str, **how: Any) -> None:
    """Cut a machine off: its certificates, tickets and sessions, and everything that it could still ask for."""
    _cut(context, f"instances/{instance_path(named)}", **how)


@revoke.command("certificate")
@click.argument("serial")
@_options
def revoke_certificate(context: click.Context, serial: str, **how: Any) -> None:
    """Cut off a certificate, of a machine or of an operator, with every other one of the same key, and what a machine
    got with it. The machine stays admitted, and comes in by another key.
    """
    _cut(context, f"certificates/{_word(serial)}", **how)


@revoke.command("lease")
@click.argument("named", metavar="ID", shell_complete=completion.LEASES)
@_options
def revoke_lease(context: click.Context, named: str, **how: Any) -> None:
    """Cut off one session. ID is that of the lease, or the access key id that CloudTrail shows.

    The machine may get another session: its grant stands.
    """
    _cut(context, f"leases/{_word(named)}", **how)


@revoke.command("grant")
@click.argument("named", metavar="PROFILE/GRANT")
@_options
def revoke_grant(context: click.Context, named: str, **how: Any) -> None:
    """Cut off what a grant gave, and stop it, until the profile is applied anew."""
    profile, slash, grant = named.partition("/")
    if not (profile and slash and grant):
        raise click.UsageError(f"{named!r} is not PROFILE/GRANT", context)
    _cut(context, f"grants/{_word(profile)}/{_word(grant)}", **how)


@revoke.command("profile")
@click.argument("name", shell_complete=completion.PROFILES)
@_options
def revoke_profile(context: click.Context, name: str, **how: Any) -> None:
    """Cut off a profile, every machine that is in by it, its tickets and sessions, until it is applied anew."""
    _cut(context, f"profiles/{_word(name)}", ask=True, **how)


@revoke.command("ticket")
@click.argument("named", metavar="ID", shell_complete=completion.TICKETS)
@_options
def revoke_ticket(context: click.Context, named: str, **how: Any) -> None:
    """Take back a ticket that was not used."""
    _cut(context, f"tickets/{_word(named)}", **how)


@revoke.command("operator")
@click.argument("name", shell_complete=completion.OPERATORS)
@_options
def revoke_operator(context: click.Context, name: str, **how: Any) -> None:
    """Cut an operator off, for good. The last administrator cannot be."""
    _cut(context, f"operators/{_word(name)}", **how)


@revoke.command("everything")
@click.option("--operators", is_flag=True, help="Every other operator, too.")
@_options
def revoke_everything(context: click.Context, operators: bool, **how: Any) -> None:
    """Cut off every machine, every open ticket and every session."""
    _cut(context, "everything", ask=True, more={"operators": "true"} if operators else {}, **how)


@click.group()
def revocation() -> None:
    """What was cut off, and how far that is."""


@revocation.command("list")
@click.option("--running", is_flag=True, help="Only those of which something is still to be done.")
@click.option("--kind", metavar="WORD", help="Only those of a kind: instance, lease, profile …")
@WATCH
@JSON
@click.pass_context
def list_(context: click.Context, running: bool, kind: str | None, watch: bool, raw: bool) -> None:
    """List revocations, the latest first."""
    filters, client = {"state": "running" if running else None, "kind": kind}, client_of(context)
    show.listing(
        lambda: listed(client, "/v1/revocations", "revocations", **filters)[::-1],
        ("ID", "AT", "KIND", "WHAT", "BY", "STILL TO DO", "VALID UNTIL"),
        lambda r: (
            r["id"], show.moment(r["revoked_at"]), r["kind"], r["name"], show.who(r["by"]),
            ", ".join(map(receipt.layer_name, receipt.running(r))) or "-",
            show.moment(r["until"]),
        ),
        "nothing was revoked", raw=raw, watch=watch,
    )  # fmt: skip


@revocation.command("show")
@click.argument("named", metavar="ID", shell_complete=completion.REVOCATIONS)
@WAIT
@JSON
@click.pass_context
def show_(context: click.Context, named: str, wait: bool, raw: bool) -> None:
    """Show a receipt as it is now."""
    client = client_of(context)
    found = client.call("GET", f"/v1/revocations/{_word(named)}")
    if wait:
        found = awaited(client, found)
    if raw:
        return show.as_json(found)
    receipt.tell(found)


def _cut(
    context: click.Context,
    path: str,
    *,
    reason: str | None,
    dry_run: bool,
    wait: bool,
    yes: bool,
    raw: bool,
    ask: bool = False,
    more: Mapping[str, str] = MappingProxyType({}),
) -> None:
    def loses(plan: Any) -> Sequence[str]:
        return f"This cuts off {plan['name']}: {receipt.counts(plan)}.", "There is no way back but to enrol again."

    query = {**more, **({"reason": reason} if reason else {})}
    path = f"/v1/revocations/{path}"
    cut_off(context, path, query, loses if ask else None, dry_run=dry_run, wait=wait, yes=yes, raw=raw)


def cut_off(
    context: click.Context,
    path: str,
    query: Mapping[str, str],
    loses: Callable[[Any], Sequence[str]] | None,
    *,
    dry_run: bool,
    wait: bool,
    yes: bool,
    raw: bool,
) -> None:
    """Cut off by POST to `path`, and tell the receipt. `loses` says what a plan will lose; None: nobody is asked."""
    client = client_of(context)
    if dry_run or (loses and not yes):
        plan = client.call("POST", _url(path, {**query, "dry_run": "true"}))
        if dry_run:
            return show.as_json(plan) if raw else receipt.tell(plan)
        if loses:
            confirm(yes, *loses(plan))
    found = client.call("POST", _url(path, query))
    if wait:
        found = awaited(client, found)
    if raw:
        return show.as_json(found)
    receipt.tell(found)


def awaited(client: Client, found: Any) -> Any:
    """The receipt when no layer is being tried any more, or as it is after a minute. A look that fails is no loss."""
    ends = time.monotonic() + LONGEST_WAIT
    while (trying := [receipt.layer_name(each) for each in found["layers"] if each["state"] == "trying"]) and (
        time.monotonic() < ends
    ):
        show.progress(f"still trying: {', '.join(trying)}")
        time.sleep(EVERY)
        with suppress(Failure):
            found = client.call("GET", f"/v1/revocations/{_word(found['id'])}")
    show.progress()
    return found


def _word(text: str) -> str:
    return quote(text, safe=":")  # of the serial number of a trust anchor's certificate


def _url(path: str, query: Mapping[str, str]) -> str:
    return path + (f"?{urlencode(query)}" if query else "")
