"""`audit reconcile` and `audit findings`: what AWS saw and the gateway did not mediate."""

import json
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from gateway.cli import show
from gateway.cli.audit_times import SINCE, moment
from gateway.cli.client import Answer, Client
from gateway.cli.failure import Failure
from gateway.cli.remote import client_of, listed
from gateway.cli.show import JSON
from gateway.core.cloudtrail import is_log, read, records, slim
from gateway.wire.strict import Malformed

FOUND = 3
"""The exit status when there are findings."""
PAGE, LONGEST = 200, 56 * 1024  # events, and letters, of one request: a body may have 64 KiB
_PIECE = 64 * 1024
_AGAIN = 2.0  # seconds, when the gateway asks for patience
_UNVERIFIABLE: Mapping[str, str] = {
    "addresses_unknown": "the setting reconcile.addresses names no address of the gateway's own",
    "address_not_attested": "no address of this sort is known of the instance, which may be behind NAT",
    "may_still_enrol": "the machine is younger than an hour",
    "mint_without_lease": "the gateway asked for the session, and has no lease of it",
    "older_than_leases": "leases of that time are not kept any more",
    "presigned": "a URL that the gateway signed: whoever has it may use it",
    "too_fresh": "younger than five minutes",
}


@dataclass(slots=True)
class _Sum:
    """The answers to all requests of a run, as one."""

    counts: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    unverifiable: Counter[str] = field(default_factory=Counter)
    findings: dict[str, Any] = field(default_factory=dict)
    new: set[str] = field(default_factory=set)
    unseen: list[Any] = field(default_factory=list)

    def add(self, answer: Answer) -> None:
        for name in ("events", "machines", "unread"):
            self.counts[name] += answer[name]
        self.outcomes.update(answer["outcomes"])
        self.unverifiable.update(answer["unverifiable"])
        self.findings |= {each["id"]: each for each in answer["findings"]}
        self.new |= {*answer["new"]}
        self.unseen += answer["unseen"]

    def document(self) -> dict[str, Any]:
        return {
            **{name: self.counts[name] for name in ("events", "machines", "unread")},
            "outcomes": dict(self.outcomes),
            "unverifiable": dict(self.unverifiable),
            "findings": list(self.findings.values()),
            "new": sorted(self.new),
            "unseen": self.unseen,
        }


@click.command()
@click.argument("files", type=click.Path(path_type=Path), nargs=-1)
@click.option("--s3", "bucket", metavar="URL", help="The gateway reads this bucket of a trail, s3://BUCKET/PREFIX.")
@click.option("--lookup", is_flag=True, help="The gateway asks CloudTrail's LookupEvents: management events, 90 days.")
@click.option("--upstream", metavar="NAME", help="The upstream key to read with, for --s3 and --lookup.")
@click.option("--region", "regions", multiple=True, metavar="NAME", help="Only this region; may be given many times.")
@click.option("--inventory/--no-inventory", default=True, show_default=True, help="Look at EC2's machines, too.")
@SINCE
@JSON
@click.pass_context
def reconcile(context: click.Context, /, files: tuple[Path, ...], since: str | None, raw: bool, **given: Any) -> None:
    """Hold what AWS recorded against what the gateway knows, and report what went past it.

    FILES are CloudTrail's log files, or directories of them; they are read here. Exit status: 0 nothing was found, 3
    something was, 1 it failed, also when there was no event to look at.
    """
    trail = given["bucket"] or ("lookup" if given["lookup"] else None)
    if bool(files) + bool(given["bucket"]) + given["lookup"] != 1:
        raise click.UsageError("name FILES, or --s3 URL, or --lookup")
    if trail and not given["upstream"]:
        raise click.UsageError("name the upstream key to read with: --upstream NAME")
    client, total = client_of(context), _Sum()
    begin = moment(since) if since else None
    if trail:
        _by_gateway(client, total, trail, given["upstream"], given["regions"], begin)
    else:
        for page in _pages(_events(files, begin, total)):
            total.add(_asked(client, {"events": page}))
    if not total.counts["events"]:
        why = f"{total.counts['unread']} record(s) could not be read" if total.counts["unread"] else "no event in it"
        raise Failure(why, "trail_empty", "Is it the trail of the gateway's accounts, and of this time?")
    if given["inventory"]:
        total.add(_asked(client, {"inventory": True}))
    if raw:
        show.as_json(total.document())
    else:
        _show(total)
    context.exit(FOUND if total.findings else 0)


@click.command()
@click.option("--kind", metavar="KIND", help="Only those, such as key_elsewhere.")
@JSON
@click.pass_context
def findings(context: click.Context, kind: str | None, raw: bool) -> None:
    """List what was found to go past the gateway. Exit status: 0 nothing, 3 something."""
    rows = listed(client_of(context), "/v1/findings", "findings", kind=kind)
    if raw:
        show.as_json(rows)
    else:
        _table(rows)
    context.exit(FOUND if rows else 0)


def _by_gateway(
    client: Client, total: _Sum, trail: str, upstream: str, regions: tuple[str, ...], since: str | None
) -> None:
    order: dict[str, Any] = {"trail": trail, "upstream": upstream, "regions": list(regions)}
    if since:
        order["since"] = since[:19] + "Z"
    while True:
        answer = _asked(client, order)
        total.add(answer)
        if answer["next"] is None:
            return
        order |= {"after": answer["next"], "until": answer["until"]}


def _asked(client: Client, order: Mapping[str, Any]) -> Answer:
    while True:
        try:
            return client.call("POST", "/v1/reconciliations", order)
        except Failure as failure:
            if failure.code != "too_many_requests":
                raise
            time.sleep(_AGAIN)


def _events(files: tuple[Path, ...], since: str | None, total: _Sum) -> Iterator[Any]:
    """The records of all files, without what nobody looks at. Raises Failure."""
    begin = datetime.fromisoformat(since) if since else None
    for file in _named(files):
        try:
            with file.open("rb") as stream:
                for record in records(iter(lambda: stream.read(_PIECE), b"")):
                    try:
                        event, slimmed = read(record), slim(record)
                    except Malformed:
                        total.counts["unread"] += 1
                        continue
                    if len(json.dumps(slimmed)) > LONGEST - 2:
                        total.counts["unread"] += 1
                    elif begin is None or event.at >= begin:
                        yield slimmed
        except OSError as error:
            raise Failure(f"{file}: {error.strerror}", "file_missing", "Name log files of CloudTrail.") from None
        except Malformed as malformed:
            text = f"{file}: {malformed}"
            raise Failure(text, "trail_malformed", "Name log files as CloudTrail writes them.") from None


def _named(files: tuple[Path, ...]) -> Iterator[Path]:
    for each in files:
        if each.is_dir():
            yield from sorted(path for path in each.rglob("*") if is_log(path.as_posix()) and path.is_file())
        else:
            yield each


def _pages(events: Iterable[Any]) -> Iterator[list[Any]]:
    page: list[Any] = []
    size = 0
    for event in events:
        length = len(json.dumps(event)) + 2
        if page and (len(page) == PAGE or size + length > LONGEST):
            yield page
            page, size = [], 0
        page.append(event)
        size += length
    if page:
        yield page


def _show(total: _Sum) -> None:
    counts, outcomes = total.counts, total.outcomes
    show.line(f"looked at  {counts['events']} events, {counts['machines']} machines")
    show.line(f"ours       {outcomes['matched']}, and {outcomes['by_service']} by AWS's services on behalf of ours")
    show.line(f"others     {outcomes['unrelated']} that are about nothing of the gateway's")
    for why, count in sorted(total.unverifiable.items()):
        show.line(f"undecided  {count}: {_UNVERIFIABLE.get(why, why)}")
    if counts["unread"]:
        show.line(f"unread     {counts['unread']} records that are none of CloudTrail's version 1")
    for place in total.unseen:
        show.line(f"unseen     machines in {place['account']}/{place['region']}: {place['code']}")
    if not outcomes["matched"] and not total.findings:
        show.line("nothing in it was of this gateway: is it the trail of its accounts?")
    show.line(f"found      {len(total.findings)}, {len(total.new)} of them new")
    if total.findings:
        _table(list(total.findings.values()))
        for advice in sorted({f"{each['kind']}: {each['advice']}" for each in total.findings.values()}):
            show.line(advice)


def _table(rows: list[Any]) -> None:
    show.table(
        ("KIND", "WHAT", "BY", "DID", "TIMES", "FIRST", "LAST"),
        [
            (r["kind"], r["subject"], r["about"].get("instance", ", ".join(r["by"])).rpartition("/")[2] or "-",
             ", ".join(r["what"][:3]) or "-", f"{r['count']}{'+' if r['more'] else ''}",
             show.moment(r["first_at"]), show.moment(r["last_at"]))
            for r in rows
        ],
        "nothing was found",
    )  # fmt: skip
