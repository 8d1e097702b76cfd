"""Unmediated use: what AWS recorded is posted or read, and what was found is listed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from gateway.core.attest.ec2 import REGION
from gateway.core.audit import Name
from gateway.core.errors import Refusal
from gateway.core.operator_model import Finding
from gateway.core.reconcile import ADVICE, Found
from gateway.core.trail import TRAIL
from gateway.flows.reconcile import MOST_POSTED, Order, Reconcile, Report
from gateway.ports import Clock
from gateway.web.admin.desk import AdminRoute, Asked
from gateway.web.admin.pages import Page, page
from gateway.web.admin.shown import INSTANT, Unseen
from gateway.wire.messages import NAME, instant, parse_instant
from gateway.wire.strict import integer, nested, text

SINCE = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """POST /v1/reconciliations: either `events`, as CloudTrail writes them, or `inventory`, or a `trail` that is
    read by the key `upstream`; then `after` is the `next` of the answer before, and `until` that answer's.
    """

    events: tuple[Mapping[str, Any], ...] | None = text(default=None)
    inventory: bool = False
    trail: str | None = text(pattern=TRAIL, longest=600, default=None)
    upstream: str | None = text(pattern=NAME, default=None)
    regions: tuple[str, ...] = text(pattern=REGION, default=())
    since: str | None = text(pattern=INSTANT, default=None)
    until: str | None = text(pattern=INSTANT, default=None)
    after: str | None = text(longest=8192, default=None)


@dataclass(frozen=True, slots=True)
class FindingShown:
    """Something that AWS saw and the gateway did not mediate. `count` events are known of it, and maybe `more`;
    `outcomes` are AWS's error codes, or ok.
    """

    id: str = text()
    kind: str = text(pattern="|".join(Found))
    subject: str = text(longest=4096)
    first_at: str = text(pattern=INSTANT)
    last_at: str = text(pattern=INSTANT)
    count: int = integer(low=0, high=256)
    more: bool = nested()
    about: Mapping[str, str] = text(longest=4096)
    sources: tuple[str, ...] = text(longest=4096)
    what: tuple[str, ...] = text(longest=8192)
    outcomes: tuple[str, ...] = text(longest=4096)
    keys: tuple[str, ...] = text(longest=4096)
    by: tuple[str, ...] = text(longest=4096)
    events: tuple[str, ...] = text(longest=4096)
    advice: str = text(longest=1024)


@dataclass(frozen=True, slots=True)
class ReconciliationAnswer:
    """What was looked at and what came of it: one outcome for each event and machine. `new` are the ids of findings
    that were not known before. A trail has more while `next` is not null.
    """

    verdict: str = text(pattern="found|nothing_read|undecided|clear")
    events: int = integer(low=0, high=2**53)
    machines: int = integer(low=0, high=2**53)
    unread: int = integer(low=0, high=2**53)
    outcomes: Mapping[str, int] = nested()
    unverifiable: Mapping[str, int] = nested()
    findings: tuple[FindingShown, ...] = nested()
    new: tuple[str, ...] = text()
    unseen: tuple[Unseen, ...] = nested()
    until: str | None = text(pattern=INSTANT)
    next: str | None = text(longest=8192)


@dataclass(frozen=True, slots=True)
class FindingQuery(Page):
    """The query of GET /v1/findings."""

    kind: str | None = text(pattern="|".join(Found), default=None)


@dataclass(frozen=True, slots=True)
class FindingsAnswer:
    """A page of findings, and where the next one begins."""

    findings: tuple[FindingShown, ...]
    next: str | None = text(longest=1024)


def shown(finding: Finding) -> FindingShown:
    """As answers have it."""
    document = finding.document
    return FindingShown(
        id=finding.id,
        kind=finding.kind,
        subject=finding.subject,
        first_at=instant(finding.first_at),
        last_at=instant(finding.last_at),
        count=len(document["events"]),
        more=document["more"],
        about={name: str(value) for name, value in document["about"].items()},
        sources=tuple(document["sources"]),
        what=tuple(document["what"]),
        outcomes=tuple(document["outcomes"]),
        keys=tuple(document["keys"]),
        by=tuple(document["by"]),
        events=tuple(document["events"]),
        advice=ADVICE[Found(finding.kind)],
    )


def routes(reconcile: Reconcile, clock: Clock) -> Sequence[AdminRoute]:
    """One POST is one part: whoever has much of it comes again."""

    def run(asked: Asked) -> ReconciliationAnswer:
        body: Reconciliation = asked.body
        if (body.events is not None) + body.inventory + (body.trail is not None) != 1:
            raise Refusal("malformed_request", "body: name exactly one of events, inventory and trail")
        if body.events is not None:
            if len(body.events) > MOST_POSTED:
                raise Refusal("malformed_request", f"events: at most {MOST_POSTED} at a time")
            return _answer(reconcile.given(asked.call, body.events))
        if body.inventory:
            return _answer(reconcile.inventory(asked.call))
        order = _order(body, clock())
        return _answer(reconcile.read(asked.call, order), order.until)

    def findings(asked: Asked) -> Mapping[str, Any]:
        query, limit = asked.query, int(asked.query.limit)
        rows = reconcile.findings(asked.call, query.kind, after=query.after, limit=limit)
        return page("findings", rows, limit, lambda row: row.id, shown)

    return (
        AdminRoute("POST", "/v1/reconciliations", "Hold what AWS recorded against what the gateway knows",
                   Name.OPERATOR_AUDIT_RECONCILE, run, asks=Reconciliation, answers=ReconciliationAnswer,
                   codes=("upstream_key_unknown", "upstream_key_disabled", "upstream_refused", "upstream_unavailable")),
        AdminRoute("GET", "/v1/findings", "What was found to go past the gateway", Name.OPERATOR_AUDIT_READ, findings,
                   query=FindingQuery, answers=FindingsAnswer),
    )  # fmt: skip


def _order(body: Reconciliation, now: datetime) -> Order:
    if body.trail is None or body.upstream is None:
        raise Refusal("malformed_request", "upstream: name the upstream key to read the trail with")
    until = _moment("until", body.until) or now.replace(microsecond=0)
    since = _moment("since", body.since) or until - SINCE
    if not since < until <= now:
        raise Refusal("malformed_request", "since: must be before until, and that not in the future")
    return Order(body.trail, body.upstream, body.regions, since, until, body.after)


def _moment(name: str, written: str | None) -> datetime | None:
    try:
        return parse_instant(written) if written else None
    except ValueError:
        raise Refusal("malformed_request", f"{name}: there is no such time") from None


def _answer(report: Report, until: datetime | None = None) -> ReconciliationAnswer:
    tally = report.tally
    return ReconciliationAnswer(
        verdict=tally.verdict(len(report.findings)),
        events=tally.events,
        machines=tally.machines,
        unread=tally.unread,
        outcomes=tally.document()["outcomes"],
        unverifiable=tally.document()["unverifiable"],
        findings=tuple(shown(each) for each in report.findings.values()),
        new=tuple(sorted(report.new)),
        unseen=tuple(Unseen(**each) for each in report.unseen),
        until=instant(until) if until else None,
        next=report.next,
    )
