"""`policy replay` and `policy suggest`: candidates against what instances did, as the audit log has it."""

import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from gateway.cli import show
from gateway.cli.failure import Failure
from gateway.cli.remote import client_of
from gateway.cli.show import JSON

if TYPE_CHECKING:
    from gateway.cli.policy_file import Entry, PolicyFile
    from gateway.core.policy.judge import Ask
    from gateway.core.policy.replay import Decide, Side, Verdict
    from gateway.core.policy.traffic import Call

Command = TypeVar("Command", bound=Callable[..., Any])
UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def _traffic(command: Command) -> Command:
    """The options that say whose calls, and from where."""
    for option in (
        click.option("--audit", "source", metavar="FILE", help="An exported log, or - for standard input; else ask."),
        click.option("--since", default="24h", show_default=True, help="How far to look back: 90m, 24h, 7d."),
        click.option("--grant", metavar="NAME", help="Calls by this grant only."),
    ):
        command = option(command)
    return command


@click.command("replay")
@click.argument("candidate", type=click.Path(path_type=Path))
@click.option("--profile", "profile_name", metavar="NAME", help="Whose calls; the candidate's own, if it is a profile.")
@_traffic
@JSON
@click.pass_context
def replay_command(
    context: click.Context,
    candidate: Path,
    profile_name: str | None,
    grant: str | None,
    since: str,
    source: str | None,
    raw: bool,
) -> None:
    """Hold a CANDIDATE, a policy or a profile, against recorded calls.

    Exit status 1 if something that was allowed would be refused.
    """
    from gateway.cli import policy_file
    from gateway.core.policy.replay import replay

    found = policy_file.valid(candidate)
    profile_name = profile_name or found.profile
    if profile_name is None:
        raise click.UsageError("Missing option '--profile': a policy does not say whose it is.", ctx=context)
    calls = _calls(context, profile_name, grant, since, source)
    if found.profile is None:
        _one_grant(calls)
    missing: set[str] = set()
    report = replay(calls, _decide(found, missing))
    if raw:
        show.as_json({**asdict(report), "templates_without_value": sorted(missing)})
    else:
        if report.refused.calls:
            _table(f"would refuse {_counted(report.refused)}", report.refused)
        if report.allowed.calls:
            _table(f"would allow {_counted(report.allowed)} that {_verb(report.allowed)} refused", report.allowed)
        show.line(f"held {report.judged} call(s) of profile {profile_name} against {candidate}")
        if report.partial:
            show.line(f"{report.partial} of them needed more than is on record")
        if report.undecided:
            show.line(f"{report.undecided} call(s) depend on managed policies, which AWS alone has")
        if missing:
            show.line(f"templates whose values are not on record count as denied: {', '.join(sorted(missing))}")
    if report.refused.calls:
        raise Failure(f"would refuse {_counted(report.refused)}", "replay_refuses",
                      "'trusted-gateway policy explain' tells why.")  # fmt: skip


@click.command("suggest")
@click.option("--profile", "profile_name", metavar="NAME", required=True, help="Whose calls.")
@click.option("--generalise", type=click.IntRange(1), metavar="N",
              help="More than N resources under a common prefix become prefix*.")  # fmt: skip
@_traffic
@JSON
@click.pass_context
def suggest_command(
    context: click.Context,
    profile_name: str,
    generalise: int | None,
    grant: str | None,
    since: str,
    source: str | None,
    raw: bool,
) -> None:
    """Print the least privilege that would have covered what a profile did."""
    from gateway.core.policy.document import LONGEST
    from gateway.core.policy.suggest import suggest

    calls = _calls(context, profile_name, grant, since, source)
    _one_grant(calls)
    found = suggest(calls, generalise)
    notes = ["calls made with vended credentials leave no record here"]
    if found.unknown_actions:
        notes.append(f"{found.unknown_actions} call(s) needed an action that nobody knows: left out")
    if found.unknown_resources:
        notes.append(f"resource * stands where none could be known: {', '.join(found.unknown_resources)}")
    if found.partial:
        notes.append(f"{found.partial} call(s) needed more than is on record: there may be more")
    if found.unwritable:
        notes.append(f"no policy can name these, left out: {', '.join(found.unwritable)}")
    if found.size > LONGEST:
        notes.append(f"{found.size} letters, and AWS takes {LONGEST}: try --generalise")
    if found.policy is None:
        raise Failure("nothing that was allowed can be written down", "traffic_missing", "See 'audit tail'.")
    if raw:
        show.as_json({"policy": found.policy, "calls": found.calls, "letters": found.size, "notes": notes})
        return
    show.as_json(found.policy)
    for note in [f"{found.calls} call(s) of profile {profile_name} are covered", *notes]:
        click.echo(f"note: {show.harmless(note)}", err=True)


def _calls(
    context: click.Context, profile_name: str, grant: str | None, since: str, source: str | None
) -> "list[Call]":
    """The recorded calls. Raises Failure, also when there is none: nothing would be proved."""
    from gateway.core.policy.traffic import read

    match = re.fullmatch(r"([1-9][0-9]{0,5})([smhd])", since)
    if not match:
        raise Failure("--since is no duration", "duration_invalid", "It is written like 90m, 24h or 7d.")
    first = datetime.now(UTC) - timedelta(**{UNITS[match[2]]: int(match[1])})
    found = []
    for i, line in enumerate(_lines(context, source), 1):
        try:
            call = read(json.loads(line))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise Failure(f"record {i} is none of this log", "record_malformed",
                          "Name what 'audit export' or 'audit tail --json' wrote.") from None  # fmt: skip
        if call and call.profile == profile_name and grant in (None, call.grant) and call.at >= first:
            found.append(call)
    if not found:
        whose = f"profile {profile_name}" + (f", grant {grant}," if grant else "")
        raise Failure(f"no call of {whose} is on record since {since}", "traffic_missing",
                      "Only calls that the gateway signs or carries are; look further back with --since.")  # fmt: skip
    return found


def _lines(context: click.Context, source: str | None) -> Iterator[str]:
    """Records, as they are stored."""
    if source is None:
        from gateway.cli.audit_pages import everything

        yield from (line for line, _ in everything(client_of(context)))
    elif source == "-":
        yield from _bare(sys.stdin)
    else:
        try:
            with Path(source).open(encoding="utf-8", errors="replace") as file:
                yield from _bare(file)
        except OSError as error:
            raise Failure(f"{source}: {error.strerror}", "file_missing", "Name an exported log.") from None


def _bare(rows: Iterable[str]) -> Iterator[str]:
    """An export has a hash before each record."""
    for row in rows:
        if row.strip():
            yield row if row.startswith("{") else row.partition(" ")[2]


def _one_grant(calls: "list[Call]") -> None:
    grants = sorted({call.grant for call in calls})
    if len(grants) > 1:
        text = f"the calls were made by {len(grants)} grants, and a policy is of one"
        raise Failure(text, "grant_unknown", f"Name one of them with --grant: {', '.join(grants)}.")


def _decide(found: "PolicyFile", missing: set[str]) -> "Decide":
    """What the file says to a need. `missing` gets the templates that had no value."""
    from gateway.core.policy.judge import Judge, Named, supposing

    judge = Judge()
    entries: Mapping[str | None, Entry] = {entry.grant: entry for entry in found.entries}
    filled: dict[tuple[str | None, tuple[tuple[str, str], ...]], Named] = {}

    def decide(call: "Call", ask: "Ask") -> "Verdict | None":
        entry = entries.get(call.grant if found.profile else None)
        if entry is None:
            return "not_allowed", (f"there is no grant {call.grant}",)
        if entry.document is None:
            return None
        key = (entry.grant, tuple(sorted(call.values().items())))
        if key not in filled:
            filled[key], without = supposing(found.named(entry), call.values())
            missing.update(without)
        decision = judge([filled[key]], ask)
        if entry.managed and decision.kind == "not_allowed":
            return None
        return decision.kind, tuple(decision.statements)

    return decide


def _table(title: str, side: "Side") -> None:
    show.line(title)
    show.table(
        ("INSTANCE", "GRANT", "ACTION", "RESOURCE", "CALLS", "DECIDED BY"),
        [
            (each.instance.rpartition("/")[2], each.grant, each.action or "unknown", each.resource or "unknown",
             str(each.count), ", ".join(each.why) or "no statement allows it")
            for each in side.changes
        ],
        "nothing",
    )  # fmt: skip


def _counted(side: "Side") -> str:
    calls = f"{side.calls} call{'s' if side.calls > 1 else ''}"
    return f"{calls} of {side.instances} instance{'s' if side.instances > 1 else ''}"


def _verb(side: "Side") -> str:
    return "were" if side.calls > 1 else "was"
