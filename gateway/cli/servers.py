"""Commands about machines: launch, start, stop, restart, end, look. The key that does it is the gateway's."""

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import click

from gateway.cli import completion, show
from gateway.cli.asking import YES, confirm
from gateway.cli.client import Answer, Client
from gateway.cli.failure import Failure
from gateway.cli.remote import client_of
from gateway.cli.show import JSON, WATCH

NAMED = click.argument("named", metavar="ID", shell_complete=completion.SERVERS)
WAIT = click.option("--wait", is_flag=True, help="Wait until it is so, at most ten minutes.")
PATIENCE, PAUSE = 600.0, 2.0  # seconds
COLUMNS = ("SERVER", "NAME", "STATE", "UPTIME", "ENROLMENT", "PROFILE", "TYPE", "REGION", "ADDRESS", "LAUNCHED BY")
PURE_ID = re.compile(r"(aws/[0-9]{12}/[a-z0-9-]+/)?i-[0-9a-f]{8,17}")


@click.group()
def server() -> None:
    """Servers: the machines of the accounts, under the gateway's key."""


@server.command("list")
@click.option("--region", metavar="NAME", help="Only in this region.")
@click.option("--state", help="Only in this state: running, stopped, …")
@click.option("--profile", metavar="NAME", shell_complete=completion.PROFILES, help="Only of this profile.")
@click.option("--enrolment", type=click.Choice(["enrolled", "revoked", "never"]), help="Only those.")
@WATCH
@JSON
@click.pass_context
def list_(
    context: click.Context,
    region: str | None,
    state: str | None,
    profile: str | None,
    enrolment: str | None,
    watch: bool,
    raw: bool,
) -> None:
    """List the machines that you may see, with their uptime and whether they enrolled."""
    client = client_of(context)
    filters = {"region": region, "state": state, "profile": profile, "enrolment": enrolment}
    query = {name: value for name, value in filters.items() if value is not None}
    show.listing(lambda: _all(client, query), COLUMNS, _row, "no machine is there", raw=raw, watch=watch)


@server.command("show")
@NAMED
@JSON
@click.pass_context
def show_(context: click.Context, named: str, raw: bool) -> None:
    """Show one machine as AWS has it now, and what the gateway knows of it."""
    answer = _one(client_of(context), _path(named))
    if raw:
        return show.as_json(answer)
    for key in ("id", "name", "state", "enrolment", "profile", "image", "type", "private_ip", "public_ip"):
        show.line(f"{key.replace('_', ' '):<12} {answer[key] or '-'}")
    show.line(f"{'uptime':<12} {_uptime(answer)}")
    show.line(f"{'last start':<12} {show.moment(answer['launched_at'])}")
    show.line(f"{'launched by':<12} {answer['launched_by'] or '- (not through this gateway)'}")
    for name, value in sorted(answer["tags"].items()):
        show.line(f"{'tag':<12} {name} = {value}")


@server.command()
@click.option(
    "--profile",
    metavar="NAME",
    required=True,
    shell_complete=completion.PROFILES,
    help="What the machine will be; its [launch] table says how it is made.",
)
@click.option("--count", type=click.IntRange(1, 20), default=1, show_default=True, help="How many.")
@click.option("--name", help="Their tag Name; several are numbered.")
@click.option(
    "--user-data",
    type=click.Path(path_type=Path),
    help="A file with what they boot with, instead of the profile's. No secrets.",
)
@click.option("--wait", is_flag=True, help="Wait until they run and have enrolled, at most ten minutes.")
@JSON
@click.pass_context
def launch(
    context: click.Context,
    profile: str,
    count: int,
    name: str | None,
    user_data: Path | None,
    wait: bool,
    raw: bool,
) -> None:
    """Launch machines, each with a ticket of its own in its user-data, and nothing secret beside it."""
    order: dict[str, Any] = {"profile": profile, "count": count}
    if name is not None:
        order["name"] = name
    if user_data is not None:
        order["user_data"] = _read(user_data)
    client = client_of(context)
    answer = client.call("POST", "/v1/servers", order)
    found, ends = answer["servers"], time.monotonic() + PATIENCE
    try:
        for place, each in enumerate(found if wait else ()):
            found[place] = _until(client, each["id"], "has enrolled", _has_enrolled, ends)
    finally:  # they are there and cost money, whatever became of the waiting
        if raw:
            show.as_json(answer)
        for each in () if raw else found:
            show.line(f"launched {each['id']}{' as ' + each['name'] if each['name'] else ''}, {each['state']}")
    if answer["refused"]:
        first = answer["refused"][0]
        text = f"{len(answer['refused'])} of {count} were not launched: {first['detail'] or first['code']}"
        raise Failure(text, "launch_incomplete", "Those above are there. See 'trusted-gateway audit tail'.")


@server.command()
@NAMED
@WAIT
@JSON
@click.pass_context
def start(context: click.Context, named: str, wait: bool, raw: bool) -> None:
    """Start a machine that was stopped."""
    _change(client_of(context), named, "start", "running" if wait else None, raw)


@server.command()
@NAMED
@YES
@WAIT
@JSON
@click.pass_context
def stop(context: click.Context, named: str, yes: bool, wait: bool, raw: bool) -> None:
    """Stop a machine. Its disks stay, and its enrolment."""
    client = client_of(context)
    _ask(
        client,
        named,
        yes,
        "Its programs end; what is in memory and on instance storage is lost, and its public address.",
    )
    _change(client, named, "stop", "stopped" if wait else None, raw)


@server.command()
@NAMED
@YES
@JSON
@click.pass_context
def reboot(context: click.Context, named: str, yes: bool, raw: bool) -> None:
    """Restart a machine."""
    client = client_of(context)
    _ask(client, named, yes, "Its programs end, and what is in memory is lost; then it starts again.")
    _change(client, named, "reboot", None, raw)  # AWS has it `running` all the while: there is nothing to wait for


@server.command()
@NAMED
@click.option("--keep-enrolment", is_flag=True, help="Do not revoke it.")
@YES
@WAIT
@JSON
@click.pass_context
def terminate(context: click.Context, named: str, keep_enrolment: bool, yes: bool, wait: bool, raw: bool) -> None:
    """End a machine for good. It is revoked first."""
    client = client_of(context)
    revoked = "" if keep_enrolment else " Its certificates, tickets and sessions are revoked."
    _ask(client, named, yes, f"It is gone for good, with every disk that goes with it.{revoked}")
    query = "?keep_enrolment=true" if keep_enrolment else ""
    _change(client, named, f"terminate{query}", "terminated" if wait else None, raw)


@server.command()
@NAMED
@JSON
@click.pass_context
def output(context: click.Context, named: str, raw: bool) -> None:
    """Show the end of what a machine wrote to its console, as AWS has it: some minutes old."""
    answer = client_of(context).call("GET", f"{_path(named)}/output")
    if raw:
        return show.as_json(answer)
    if not answer["output"]:
        return show.line("AWS has no output of it yet")
    for line in answer["output"].splitlines():
        show.line(line.expandtabs())


def _all(client: Client, query: dict[str, str]) -> list[Answer]:
    rows: list[Answer] = []
    unseen: dict[str, str] = {}
    after: str | None = None
    while True:
        page = client.call("GET", "/v1/servers?" + urlencode({**query, **({"after": after} if after else {})}))
        rows += page["servers"]
        unseen |= {f"{each['account']} in {each['region']}": each["code"] for each in page["unseen"]}
        after = page["next"]
        if after is None:
            break
    for place, code in unseen.items():
        click.echo(show.harmless(f"note: account {place} is not in this list: {code}"), err=True)
    return rows


def _row(each: Answer) -> tuple[str, ...]:
    address = each["public_ip"] or each["private_ip"] or "-"
    by = show.who(each["launched_by"] or "-")
    return (
        each["instance_id"], each["name"] or "-", each["state"], _uptime(each), each["enrolment"],
        each["profile"] or "-", each["type"], each["region"], address, by,
    )  # fmt: skip


def _uptime(each: Answer) -> str:
    return show.span(each["uptime"]) if each["uptime"] is not None else "-"


def _one(client: Client, path: str) -> Answer:
    return client.call("GET", path)


def _ask(client: Client, named: str, yes: bool, lost: str) -> None:
    """Which machine it is, by the name that people know, and what will be lost."""
    path = _path(named)
    if not yes:
        found = _one(client, path)
        called = f" ({found['name']})" if found["name"] else ""
        confirm(yes, f"{found['id']}{called}: {found['state']}, up {_uptime(found)}, {found['enrolment']}", lost)


def _change(client: Client, named: str, verb: str, until: str | None, raw: bool) -> None:
    answer, ends = client.call("POST", f"{_path(named)}/{verb}"), time.monotonic() + PATIENCE
    try:
        if until is not None:
            found = _until(client, answer["id"], f"is {until}", lambda found: found["state"] == until, ends)
            answer["state"] = found["state"]
    finally:  # it was asked for, whatever became of the waiting
        _tell(answer, raw)


def _tell(answer: Answer, raw: bool) -> None:
    if raw:
        return show.as_json(answer)
    show.line(f"{answer['id']} is {answer['state']}")
    if answer["revocation"]:
        show.line(f"it is revoked: 'trusted-gateway revocation show {answer['revocation']}' has the receipt")


def _has_enrolled(found: Answer) -> bool:
    return bool(found["state"] == "running" and found["enrolment"] == "enrolled")


def _until(client: Client, named: str, what: str, is_so: Callable[[Answer], bool], ends: float) -> Answer:
    """Ask until it is so. On a terminal it is told how it is meanwhile. Raises Failure when it is not by `ends`."""
    while not is_so(found := _one(client, _path(named))):
        left = ends - time.monotonic()
        if left < 0:
            text = f"{named} is {found['state']}, {found['enrolment']}, after {show.span(PATIENCE)}"
            raise Failure(text, "server_slow", "It may still come. 'trusted-gateway server output' shows its console.")
        how = f"{found['state']}, {found['enrolment']}, {PATIENCE - left:.0f} s"
        show.progress(f"waiting until {found['instance_id']} {what}: {how}")
        time.sleep(PAUSE)
    show.progress()
    return found


def _path(named: str) -> str:
    named = named.removeprefix("spiffe://").partition("/")[2] if named.startswith("spiffe://") else named
    if not PURE_ID.fullmatch(named):
        text = f"{named!r} names no machine"
        raise Failure(
            text, "server_unknown", "Name it like i-0123456789abcdef0; 'trusted-gateway server list' has them."
        )
    return f"/v1/servers/{quote(named)}"


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        raise Failure(f"{path} cannot be read as text", "user_data_unreadable", "Name a file with text.") from None
