"""The audit log from outside: what it says, and whether it is whole. Verification runs on the operator's machine."""

import hashlib
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import click

from gateway.cli import audit_pages, show
from gateway.cli.audit_export import export
from gateway.cli.audit_times import SINCE, moment
from gateway.cli.audit_verify import verify
from gateway.cli.client import Client
from gateway.cli.failure import Failure
from gateway.cli.reconcile import findings, reconcile
from gateway.cli.remote import client_of
from gateway.cli.show import JSON

AGAIN = 2.0  # seconds between two looks of `tail -f`
PASSING = frozenset({"gateway_unreachable", "store_unavailable", "overloaded", "draining", "too_many_requests"})
READING = "operator:audit:read"
UNTIL = click.option("--until", metavar="TIME", help="Before this time.")


@click.group()
def audit() -> None:
    """The audit log, which cannot be changed unnoticed."""


audit.add_command(verify)
audit.add_command(export)
audit.add_command(reconcile)
audit.add_command(findings)


@audit.command()
@click.option("-n", "count", type=click.IntRange(min=1), default=20, show_default=True, help="How many records.")
@click.option("-f", "--follow", is_flag=True, help="Go on showing what is recorded, until interrupted.")
@click.option("--all", "everything", is_flag=True, help="With -f: also that somebody reads the log.")
@click.option("--json", "raw", is_flag=True, help="Print the records as they are stored, one a line.")
@click.pass_context
def tail(context: click.Context, count: int, follow: bool, everything: bool, raw: bool) -> None:
    """Show the latest records."""
    client = client_of(context)
    heads = audit_pages.heads_of(audit_pages.state(client))
    after = {chain: max(0, seq - count) for chain, seq in heads.items()}
    rows = sorted(audit_pages.records(client, heads, after), key=lambda row: audit_pages.body(row[0])["at"])[-count:]
    if not follow:
        return _show(rows, raw)
    for line, _ in rows:
        _show_one(line, raw)
    for line in _following(client, heads):
        if everything or audit_pages.body(line)["name"] != READING:
            _show_one(line, raw)


@audit.command()
@SINCE
@UNTIL
@click.option("--instance", metavar="ID", help="Of or about this instance.")
@click.option("--operator", metavar="NAME", help="By this operator.")
@click.option("--key", metavar="NAME", help="Of this upstream key.")
@click.option("--event", metavar="NAME", help="Such as instance:credentials:vend; may end with *.")
@click.option("--reason", metavar="WORD", help="Such as ticket_unknown.")
@click.option("--request-id", metavar="ID", help="All records of one request; a problem's 'instance' names it.")
@click.option("--source", metavar="ADDRESS", help="From this address.")
@click.option("--refused", is_flag=True, help="Only what was refused.")
@click.option(
    "--ticket-file", type=click.Path(path_type=Path), help="Where this ticket was made or used (- for stdin)."
)
@click.option("--token-file", type=click.Path(path_type=Path), help="The same for a token.")
@click.option("--limit", type=click.IntRange(min=1), default=1000, show_default=True, help="At most so many records.")
@click.option("--json", "raw", is_flag=True, help="Print the records as JSON, one a line.")
@click.pass_context
def search(context: click.Context, /, limit: int, raw: bool, **given: Any) -> None:
    """Find records, the oldest first."""
    wanted: dict[str, str] = {}
    for name in ("since", "until"):
        if given[name]:
            wanted[name] = moment(given[name])
    for name in ("instance", "operator", "key", "event", "reason", "source", "request_id"):
        if given[name]:
            wanted[name] = given[name].removeprefix("urn:uuid:")
    if given["refused"]:
        wanted["outcome"] = "refused"
    for kind in ("ticket", "token"):
        if path := given[f"{kind}_file"]:
            # Only its hash leaves this machine; the gateway makes of that what stands in the records.
            wanted["presented"] = f"{kind}:{hashlib.sha256(_secret(path)).hexdigest()}"
    found = _pages(client_of(context), "/v1/audit/search", wanted, limit)
    _show([(json.dumps(body, sort_keys=True), "") for body in found], raw, "nothing was found")


@audit.command()
@click.argument("what", type=click.Choice(["instance", "key"]))
@click.argument("name")
@SINCE
@UNTIL
@JSON
@click.pass_context
def summary(context: click.Context, what: str, name: str, since: str | None, until: str | None, raw: bool) -> None:
    """Count what the log says of an instance or of an upstream key."""
    span = {key: moment(given) for key, given in (("since", since), ("until", until)) if given}
    client, path = client_of(context), f"/v1/audit/summary/{what}s/{quote(name, safe='/:')}"
    total: dict[str, Any] = {"records": 0, "first": None, "last": None, "sent": 0, "received": 0}
    counts = {key: Counter[str]() for key in ("allowed", "refused", "reasons")}
    after: dict[str, str] = {}
    while True:
        page = audit_pages.asked(client, f"{path}?{urlencode(span | after)}")
        for key in ("records", "sent", "received"):
            total[key] += page[key]
        total["first"], total["last"] = total["first"] or page["first"], page["last"] or total["last"]
        for key, counter in counts.items():
            counter.update(page[key])
        if page["next"] is None:
            break
        after = {"after": page["next"]}
    if raw:
        return show.as_json(total | {key: dict(counter) for key, counter in counts.items()})
    if not total["records"]:
        return show.line("the log says nothing of it")
    show.line(f"records   {total['records']}")
    show.line(f"first     {show.moment(total['first'][:19] + 'Z')}")
    show.line(f"last      {show.moment(total['last'][:19] + 'Z')}")
    show.line(f"bytes     {total['sent']} sent, {total['received']} received")
    for key in ("allowed", "refused", "reasons"):
        for word, count in counts[key].most_common():
            show.line(f"{key:<9} {count} {word}")


@audit.command()
@click.option("--to", type=click.Path(path_type=Path, file_okay=False), required=True, help="An existing directory.")
@click.option("--without-sink", metavar="NAME", multiple=True, help="Do not wait for this sink: it is no more.")
@JSON
@click.pass_context
def archive(context: click.Context, to: Path, without_sink: Sequence[str], raw: bool) -> None:
    """On the gateway's host: move records older than the setting audit.keep into files, which 'audit verify' reads."""
    from gateway import ceremonies
    from gateway.cli.host import settings_of

    done = ceremonies.archive(settings_of(context), to, without_sink)
    if raw:
        return show.as_json({"records": done.records if done else 0, "checkpoint": done.number if done else None})
    if done is None:
        return show.line("nothing is old enough")
    show.line(f"archived {done.records} records, up to checkpoint {done.number} of {done.at:%Y-%m-%dT%H:%M:%SZ}")


def _following(client: Client, heads: Mapping[str, int]) -> Iterator[str]:
    """What is recorded from now on. A gateway that restarts is waited for, and nothing is left out."""
    after = dict(heads)
    while True:
        try:
            rows = audit_pages.page(client, after)
        except Failure as failure:
            if failure.code not in PASSING:
                raise
            client.close()
            rows = []
        for row in sorted(rows, key=lambda row: str(audit_pages.body(row["line"])["at"])):
            after[row["chain"]] = max(after.get(row["chain"], 0), row["seq"])
            yield row["line"]
        if len(rows) < 1000:
            time.sleep(AGAIN)


def _pages(client: Client, path: str, wanted: Mapping[str, str], limit: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    after: dict[str, str] = {}
    while len(found) < limit:
        size = str(min(limit - len(found), 500))
        page = audit_pages.asked(client, f"{path}?{urlencode({**wanted, **after, 'limit': size})}")
        found += page["records"]
        if page["next"] is None:
            break
        after = {"after": page["next"]}
    return found


def _show(rows: list[tuple[str, str]], raw: bool, empty: str = "the log is empty") -> None:
    if raw:
        for line, _ in rows:
            show.line(line)
        return
    bodies = [audit_pages.body(line) for line, _ in rows]
    table = [(show.moment(body["at"] and body["at"][:23].rstrip("Z") + "Z"), *_cells(body)[1:]) for body in bodies]
    show.table(("AT", "KIND", "EVENT", "", "REASON", "BY", "ON"), table, empty)


def _show_one(line: str, raw: bool) -> None:
    show.line(line if raw else "  ".join(_cells(audit_pages.body(line))))
    sys.stdout.flush()


def _cells(body: Mapping[str, Any]) -> tuple[str, ...]:
    times = f" ({body['facts']['count']} times)" if "count" in body["facts"] else ""
    return (
        body["at"] and body["at"][:23].rstrip("Z") + "Z",
        body["kind"],
        body["name"],
        "allowed" if body["allowed"] else "refused",
        body["reason"] + times,
        (body["subject"] or body["source"] or "-").rpartition("/")[2],
        (body["object"] or "-").rpartition("/")[2],
    )


def _secret(path: Path) -> bytes:
    try:
        return (sys.stdin.buffer.read(4096) if str(path) == "-" else path.read_bytes()).strip()
    except OSError as error:
        raise Failure(f"{path}: {error.strerror}", "file_missing", "Name a file that holds it, or -.") from None
