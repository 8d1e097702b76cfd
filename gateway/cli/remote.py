"""Commands that speak to the admin API: tickets, instances, leases, status; and what all such commands share."""

import re
from typing import Any
from urllib.parse import urlencode

import click

from gateway.cli import completion, show
from gateway.cli.client import Client
from gateway.cli.failure import Failure
from gateway.cli.renewal import renew_in_time
from gateway.cli.show import JSON, WATCH

EXPECTED = click.option(
    "--expect-version",
    "expected",
    type=click.IntRange(0),
    help="Refuse if another version is in force than this one; 0: if there is any.",
)


def client_of(context: click.Context) -> Client:
    """The connection that the global options name; it is closed when the command is over."""
    directory, address = context.obj["operator_directory"], context.obj["gateway"]
    renew_in_time(directory, address)
    client = Client(directory, address, context.obj["approval"])
    context.call_on_close(client.close)
    return client


def listed(client: Client, path: str, name: str, **filters: str | None) -> list[Any]:
    """Every row of a list, page by page; `filters` that are None are none."""
    rows: list[Any] = []
    query = {"limit": "100"} | {key: value for key, value in filters.items() if value is not None}
    while True:
        page = client.call("GET", f"{path}?{urlencode(query)}")
        rows += page[name]
        if page["next"] is None:
            return rows
        query["after"] = str(page["next"])


def only(rows: list[Any], **wanted: str | None) -> list[Any]:
    """Those rows that are so in each of these: a filter of short lists, which come whole."""
    return [row for row in rows if all(value is None or row[name] == value for name, value in wanted.items())]


@click.group()
def ticket() -> None:
    """Tickets: single use, for a machine at its launch."""


@ticket.command()
@click.option(
    "--profile",
    "profile_name",
    metavar="NAME",
    required=True,
    shell_complete=completion.PROFILES,
    help="What the instance will be.",
)
@click.option(
    "--instance",
    metavar="ID",
    shell_complete=completion.INSTANCES,
    help="Good for this instance only. A revoked instance needs one like this.",
)
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


@ticket.command("list")
@click.option("--state", type=click.Choice(["open", "redeemed", "revoked"]), help="Only those.")
@click.option("--profile", metavar="NAME", shell_complete=completion.PROFILES, help="Only those for this profile.")
@click.option("--instance", metavar="ID", shell_complete=completion.INSTANCES, help="Only those for this instance.")
@WATCH
@JSON
@click.pass_context
def list_tickets(
    context: click.Context, state: str | None, profile: str | None, instance: str | None, watch: bool, raw: bool
) -> None:
    """List the tickets that were made. Their secrets are nowhere."""
    client = client_of(context)
    show.listing(
        lambda: listed(client, "/v1/tickets", "tickets", state=state, profile=profile, instance_id=instance),
        ("TICKET", "STATE", "PROFILE", "INSTANCE", "ENDS", "BY"),
        lambda r: (
            r["id"], r["state"], r["profile"], r["instance_id"] or r["redeemed_by"] or "any",
            show.moment(r["expires_at"]), show.who(r["created_by"]),
        ),
        "no such ticket", raw=raw, watch=watch,
    )  # fmt: skip


@click.group()
def lease() -> None:
    """Leases: what was vended, until it ends."""


@lease.command("list")
@click.option("--instance", metavar="ID", shell_complete=completion.INSTANCES, help="Only those of this instance.")
@click.option("--profile", metavar="NAME", shell_complete=completion.PROFILES, help="Only those of this profile.")
@click.option("--grant", metavar="NAME", help="Only those of this grant.")
@click.option("--all", "all_", is_flag=True, help="Those that are over or revoked, too.")
@WATCH
@JSON
@click.pass_context
def list_leases(
    context: click.Context,
    instance: str | None,
    profile: str | None,
    grant: str | None,
    all_: bool,
    watch: bool,
    raw: bool,
) -> None:
    """List what was vended and is in force."""
    filters = {"instance": instance and instance_path(instance), "profile": profile, "grant": grant}
    client = client_of(context)
    show.listing(
        lambda: listed(client, "/v1/leases", "leases", live=None if all_ else "true", **filters),
        ("LEASE", "INSTANCE", "GRANT", "ACCESS KEY", "ENDS", "REVOKED"),
        lambda r: (
            r["id"], r["instance"].rpartition("/")[2], f"{r['profile']}/{r['grant']}", r["access_key_id"],
            show.moment(r["expires_at"]), show.moment(r["revoked_at"]),
        ),
        "no such lease", raw=raw, watch=watch,
    )  # fmt: skip


@click.group()
def instance() -> None:
    """Instances: the machines that were admitted."""


@instance.command("list")
@click.option("--state", type=click.Choice(["enrolled", "revoked"]), help="Only those.")
@click.option("--profile", metavar="NAME", shell_complete=completion.PROFILES, help="Only those of this profile.")
@click.option("--account", metavar="NUMBER", help="Only those in this account.")
@click.option("--region", metavar="NAME", help="Only those in this region.")
@WATCH
@JSON
@click.pass_context
def list_(
    context: click.Context,
    state: str | None,
    profile: str | None,
    account: str | None,
    region: str | None,
    watch: bool,
    raw: bool,
) -> None:
    """List instances."""
    filters = {"state": state, "profile": profile, "account": account, "region": region}
    client = client_of(context)
    show.listing(
        lambda: listed(client, "/v1/instances", "instances", **filters),
        ("INSTANCE", "STATE", "PROFILE", "ACCOUNT", "REGION", "ENROLLED"),
        lambda r: (
            r["instance_id"],
            r["state"],
            r["profile"],
            r["account"],
            r["region"],
            show.moment(r["enrolled_at"]),
        ),
        "no such instance" if any(filters.values()) else "no instance is enrolled",
        raw=raw,
        watch=watch,
    )


@instance.command("show")
@click.argument("named", metavar="ID", shell_complete=completion.INSTANCES)
@JSON
@click.pass_context
def show_(context: click.Context, named: str, raw: bool) -> None:
    """Show one instance, its certificates and what AWS still honours."""
    answer = client_of(context).call("GET", f"/v1/instances/{instance_path(named)}")
    if raw:
        return show.as_json(answer)
    for key in ("id", "state", "profile"):
        show.line(f"{key:<12} {answer[key]}")
    show.line(f"{'enrolled':<12} {show.moment(answer['enrolled_at'])}")
    if answer["revoked_at"]:
        show.line(f"{'last revoked':<12} {show.moment(answer['revoked_at'])} by {show.who(answer['revoked_by'])}")
    for certificate in answer["certificates"]:
        show.line(
            f"{'certificate':<12} {certificate['serial']}, {certificate['state']}, until "
            f"{show.moment(certificate['not_after'])}"
        )
    for lease in answer["leases"]:
        show.line(f"{'lease':<12} {lease['lease']}, grant {lease['grant']}, until {show.moment(lease['until'])}")


@instance.command("allow-reenroll")
@click.argument("named", metavar="ID", shell_complete=completion.INSTANCES)
@JSON
@click.pass_context
def allow_reenroll(context: click.Context, named: str, raw: bool) -> None:
    """Let an instance whose key is lost come back once, within 15 minutes, with a new key."""
    answer = client_of(context).call("POST", f"/v1/instances/{instance_path(named)}/allow-reenroll")
    if raw:
        return show.as_json(answer)
    show.line(f"{named} may enrol with a new key until {show.moment(answer['until'])}")


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


def instance_path(named: str) -> str:
    """An instance id, or the path of a SPIFFE ID, as it stands in a URL."""
    if named.startswith("spiffe://"):
        named = named.removeprefix("spiffe://").partition("/")[2]
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*", named):
        raise Failure(
            f"{named!r} names no instance", "instance_unknown", "List them with 'trusted-gateway instance list'."
        )
    return named
