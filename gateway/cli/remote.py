"""Commands that speak to the admin API: tickets, instances, revocation, status."""

import re
from typing import Any
from urllib.parse import quote

import click

from gateway.cli import show
from gateway.cli.client import Client
from gateway.cli.failure import Failure
from gateway.cli.show import JSON


def client_of(context: click.Context) -> Client:
    """The connection that the global options name; it is closed when the command is over."""
    client = Client(context.obj["operator_directory"], context.obj["gateway"])
    context.call_on_close(client.close)
    return client


@click.group()
def ticket() -> None:
    """Tickets: single use, for a machine at its launch."""


@ticket.command()
@click.option("--profile", "profile_name", required=True, help="What the instance will be.")
@click.option("--instance", metavar="ID", help="Good for this instance only. A revoked instance needs one like this.")
@click.option("--life", default="15m", show_default=True, help="How long it can be used: 900s, 15m, 1h.")
@click.option("--user-data", "only_user_data", is_flag=True, help="Print only the line for the instance's user-data.")
@click.option("--only-secret", is_flag=True, help="Print only the ticket.")
@JSON
@click.pass_context
def create(
    context: click.Context,
    profile_name: str,
    instance: str | None,
    life: str,
    only_user_data: bool,
    only_secret: bool,
    raw: bool,
) -> None:
    """Make a ticket. It is shown once, with the line that holds it in the instance's user-data."""
    from gateway.core.profile_document import parse_duration  # slow to import: it knows what instances must prove

    try:
        seconds = int(parse_duration(life).total_seconds())
    except ValueError as error:
        raise Failure(str(error), "duration_invalid", "For instance --life 15m") from None
    order: dict[str, Any] = {"profile": profile_name, "life": seconds}
    if instance:
        order["instance_id"] = instance
    answer = client_of(context).call("POST", "/v1/tickets", order)
    if raw:
        return show.as_json(answer)
    if only_user_data or only_secret:
        return show.line(answer["user_data" if only_user_data else "ticket"])
    show.line(f"ticket  {answer['ticket']}")
    show.line(f"id      {answer['id']}, for profile {answer['profile']}, instance {answer['instance_id'] or 'any'}")
    show.line(f"ends    {show.moment(answer['expires_at'])}")
    show.line("in user-data of any kind, this line:")
    show.line(answer["user_data"])


@click.group()
def instance() -> None:
    """Instances: the machines that were admitted."""


@instance.command("list")
@JSON
@click.pass_context
def list_(context: click.Context, raw: bool) -> None:
    """List all instances."""
    client, rows, after = client_of(context), [], ""
    while True:
        page = client.call("GET", f"/v1/instances?limit=100{after}")
        rows += page["instances"]
        if page["next"] is None:
            break
        after = "&after=" + quote(page["next"], safe="")
    if raw:
        return show.as_json(rows)
    show.table(
        ("INSTANCE", "STATE", "PROFILE", "ACCOUNT", "REGION", "ENROLLED"),
        [
            (r["instance_id"], r["state"], r["profile"], r["account"], r["region"], show.moment(r["enrolled_at"]))
            for r in rows
        ],
        "no instance is enrolled",
    )


@instance.command("show")
@click.argument("named", metavar="ID")
@JSON
@click.pass_context
def show_(context: click.Context, named: str, raw: bool) -> None:
    """Show one instance, its certificates and what AWS still honours."""
    answer = client_of(context).call("GET", f"/v1/instances/{_path(named)}")
    if raw:
        return show.as_json(answer)
    for key in ("id", "state", "profile"):
        show.line(f"{key:<12} {answer[key]}")
    show.line(f"{'enrolled':<12} {show.moment(answer['enrolled_at'])}")
    if answer["revoked_at"]:
        show.line(f"{'last revoked':<12} {show.moment(answer['revoked_at'])} by {answer['revoked_by']}")
    for certificate in answer["certificates"]:
        show.line(
            f"{'certificate':<12} {certificate['serial']}, {certificate['state']}, until "
            f"{show.moment(certificate['not_after'])}"
        )
    for lease in answer["leases"]:
        show.line(f"{'lease':<12} {lease['lease']}, grant {lease['grant']}, until {show.moment(lease['until'])}")


@instance.command("allow-reenroll")
@click.argument("named", metavar="ID")
@JSON
@click.pass_context
def allow_reenroll(context: click.Context, named: str, raw: bool) -> None:
    """Let an instance whose key is lost come back once, within 15 minutes, with a new key."""
    answer = client_of(context).call("POST", f"/v1/instances/{_path(named)}/allow-reenroll")
    if raw:
        return show.as_json(answer)
    show.line(f"{named} may enrol with a new key until {show.moment(answer['until'])}")


@click.group()
def revoke() -> None:
    """Cut something off, now. There is no way back but a new ticket."""


@revoke.command("instance")
@click.argument("named", metavar="ID")
@JSON
@click.pass_context
def revoke_instance(context: click.Context, named: str, raw: bool) -> None:
    """Revoke an instance: certificates, tickets, everything that it could still ask for."""
    receipt = client_of(context).call("POST", f"/v1/instances/{_path(named)}/revoke")
    if raw:
        return show.as_json(receipt)
    gateway, aws = receipt["gateway"], receipt["aws"]
    crl = receipt["crl"]
    show.line(f"revoked   {receipt['instance']} at {receipt['revoked_at']}")
    show.line(f"gateway   refuses {gateway['refuses']}")
    show.line(f"          {len(gateway['certificates'])} certificate(s), {len(gateway['tickets'])} open ticket(s)")
    show.line(f"CRL       number {crl['number']} is published" if crl["published"] else "CRL       still trying")
    show.line(f"agent     stops serving within {receipt['agent']['stops_within_seconds']} s")
    if aws["forgotten"]:
        show.line(
            f"calls     {len(aws['forgotten'])} session(s) that signed them are forgotten; a signature is good for"
        )
        show.line("          some minutes more, a presigned URL until it ends, and neither longer than its session")
    if not aws["still_honours"]:
        return show.line("AWS       honours no session that this instance was given")
    show.line(f"AWS       STILL HONOURS {len(aws['still_honours'])} session(s), until {show.moment(aws['until'])}:")
    for session in aws["still_honours"]:
        show.line(
            f"          {session['access_key_id']} of grant {session['grant']} ({session['role']}, "
            f"session {session['session_name']}) until {session['until']}"
        )


@click.command()
@JSON
@click.pass_context
def status(context: click.Context, raw: bool) -> None:
    """Tell whether the gateway is well, and how much is in it."""
    answer = client_of(context).call("GET", "/v1/status")
    if raw:
        return show.as_json(answer)
    counts = answer["instances"]
    show.line(f"instances   {counts['enrolled']} enrolled, {counts['revoked']} revoked")
    show.line(f"certs       {answer['certificates_active']} in force")
    for key in answer["upstream_keys"]:
        show.line(f"key         {key['name']}: {key['access_key_id']} of account {key['account']}")
    crl = answer["crl"]
    show.line(
        f"CRL         number {crl['number']}, next {show.moment(crl['next_update'])}" if crl else "CRL         none yet"
    )
    for chain, head in sorted(answer["audit"].items()):
        show.line(f"audit       {chain}: {head['records']} records, {head['hash'][:16]}…")


def _path(named: str) -> str:
    """An instance id, or the path of a SPIFFE ID, as it stands in a URL."""
    if named.startswith("spiffe://"):
        named = named.removeprefix("spiffe://").partition("/")[2]
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*", named):
        raise Failure(
            f"{named!r} names no instance", "instance_unknown", "List them with 'trusted-gateway instance list'."
        )
    return named
