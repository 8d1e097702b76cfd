"""Unmediated use: AWS's own records and inventory, held against what the gateway knows.

Records are judged in batches, each in one transaction with its findings; so a long run stays small, and one that was
broken off has only to be run again: the same findings come of it, and none twice.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import islice
from typing import Any, Protocol

from gateway.core import reconcile
from gateway.core.audit import Event, Kind, Name
from gateway.core.cloudtrail import TrailEvent, read
from gateway.core.errors import Refusal
from gateway.core.operator_model import Finding
from gateway.core.reconcile import Found, Known, Tally
from gateway.core.trail import Bucket, Portion, Stretch
from gateway.flows.journal import Call, Journal
from gateway.flows.reconcile_known import Knowledge
from gateway.flows.servers import Servers
from gateway.flows.vault import UpstreamKeys
from gateway.ports import Clock, Machines, OpenableKey, RandomBytes, Store, Transaction
from gateway.wire.messages import instant
from gateway.wire.strict import Malformed

BATCH = 200  # events that are judged together
MOST_POSTED = 500  # events of one request
MOST_LOOKED_UP = 10  # instances of one batch that EC2 is asked about


class Trail(Protocol):
    """What CloudTrail recorded. Raises Refusal as `ports.Cloud`."""

    def portion(self, key: OpenableKey, stretch: Stretch, after: str | None) -> Portion:
        """The next records of a stretch, behind what the portion before named."""


@dataclass(frozen=True, slots=True)
class Order:
    """A part of a trail that is to be read; `after` is the `next` of the part before."""

    trail: str
    upstream: str
    regions: Sequence[str]
    since: datetime
    until: datetime
    after: str | None = None


@dataclass(frozen=True, slots=True)
class _Plan:
    """An order, understood: its stretches, which of them is next, and where in it."""

    key: OpenableKey
    stretches: tuple[Stretch, ...]
    number: int
    after: str | None


@dataclass(slots=True)
class Report:
    """What one request came to. `unseen` are accounts and regions whose machines AWS did not tell about."""

    tally: Tally = field(default_factory=Tally)
    findings: dict[str, Finding] = field(default_factory=dict)
    new: set[str] = field(default_factory=set)
    unseen: list[Mapping[str, str]] = field(default_factory=list)
    next: str | None = None

    def facts(self) -> dict[str, Any]:
        """For a record."""
        return {**self.tally.document(), "findings": len(self.findings), "new": len(self.new)}


class Reconcile:
    """Raises Refusal."""

    def __init__(
        self,
        store: Store,
        journal: Journal,
        keys: UpstreamKeys,
        trail: Trail,
        machines: Machines,
        servers: Servers,
        clock: Clock,
        random: RandomBytes,
        knowledge: Knowledge,
        regions: Sequence[str],
    ) -> None:
        self._store = store
        self._journal = journal
        self._keys = keys
        self._trail = trail
        self._machines = machines
        self._servers = servers
        self._clock = clock
        self._random = random
        self._knowledge = knowledge
        self._regions = regions

    def given(self, call: Call, records: Sequence[Any]) -> Report:
        """Judge these records."""
        report = Report()
        found = self._judge(report, records)

        def unit(tx: Transaction) -> None:
            self._remember(tx, report, found)
            tx.audit.append(call.event(Kind.DECISION, **report.facts()))

        self._journal.write(call, unit)
        return report

    def inventory(self, call: Call) -> Report:
        """Judge every machine that EC2 knows."""
        call.object = "trail/inventory"
        self._journal.intend(call)
        report = Report()
        self.look(report)
        return self._concluded(call, report)

    def read(self, call: Call, order: Order) -> Report:
        """Judge the next portion of a trail; `next` of the report tells where it goes on."""
        call.object = f"trail/{order.trail}"
        plan = self._planned(order)
        self._journal.intend(call, upstream=order.upstream, since=instant(order.since), until=instant(order.until))
        report = Report()
        report.next = self._carried(report, plan)
        return self._concluded(call, report)

    def _concluded(self, call: Call, report: Report) -> Report:
        self._store.write(lambda tx: tx.audit.append(call.event(Kind.OUTCOME, **report.facts())))
        return report

    def findings(self, call: Call, kind: str | None, *, after: str | None, limit: int) -> Sequence[Finding]:
        """A page of what was found, by id."""
        with self._store.read() as tx:
            rows = tx.findings.find(limit=limit, after=after, **({"kind": kind} if kind else {}))
        self._journal.allow(call)
        return rows

    def portion(self, report: Report, order: Order) -> str | None:
        """Judge some of a trail, stretch by stretch; where it goes on, or None."""
        return self._carried(report, self._planned(order))

    def _planned(self, order: Order) -> _Plan:
        with self._store.read() as tx:
            key, own = self._keys.openable(tx, order.upstream)
            accounts = sorted({row.account for row in tx.upstream_keys.find()})
        bucket = Bucket.of(order.trail)
        stretches = tuple(
            Stretch(bucket, account, region, order.since, order.until)
            for account in (accounts if bucket else [own])
            for region in sorted(set(order.regions or self._regions))
        )
        return _Plan(key, stretches, *_place(order.after, len(stretches)))

    def _carried(self, report: Report, plan: _Plan) -> str | None:
        portion = self._trail.portion(plan.key, plan.stretches[plan.number], plan.after)
        records: Iterator[Any] = portion.records
        while batch := list(islice(records, BATCH)):
            self._keep(report, self._judge(report, batch))
        if portion.after is not None:
            return json.dumps([plan.number, portion.after])
        return json.dumps([plan.number + 1, None]) if plan.number + 1 < len(plan.stretches) else None

    def _judge(self, report: Report, records: Sequence[Any]) -> list[Finding]:
        events: dict[str, TrailEvent] = {}
        for record in records:
            try:
                event = read(record)
                events[event.id] = event
            except Malformed:
                report.tally.unread += 1
        with self._store.read() as tx:
            known = self._knowledge.known(tx, list(events.values()))
        judged = [reconcile.judge(event, known) for event in events.values()]
        if moved := self._moved(known, (found for each in judged for found in each.findings)):
            known = replace(known, homes={**known.homes, **moved})
            judged = [reconcile.judge(event, known) for event in events.values()]
        for each in judged:
            report.tally.count(each)
        report.tally.events += len(events)
        return [found for each in judged for found in each.findings]

    def _moved(self, known: Known, findings: Iterable[Finding]) -> dict[str, list[str]]:
        """The addresses of instances whose sessions seem to be elsewhere, as EC2 has them now as well: a machine that
        was stopped and started has another public one than it enrolled with.
        """
        elsewhere = [each for each in findings if each.kind == Found.SESSION_ELSEWHERE]
        names = sorted({str(each.document["about"]["instance"]) for each in elsewhere})
        keys = {str(each.document["about"]["instance"]): str(each.document["about"]["upstream"]) for each in elsewhere}
        moved: dict[str, list[str]] = {}
        for name in names[:MOST_LOOKED_UP]:
            match = re.fullmatch(r"spiffe://[^/]+/aws/([0-9]{12})/([^/]+)/([^/]+)", name)
            try:
                with self._store.read() as tx:
                    key, _ = self._keys.openable(tx, keys[name])
                machine = self._machines.one(key, match[2], match[3]) if match else None
            except Refusal:  # what was attested counts
                continue
            now = [each for each in (machine.private_ip, machine.public_ip) if each] if machine else []
            if set(now) - set(known.homes.get(name, ())):
                moved[name] = [*known.homes.get(name, ()), *now]
        return moved

    def look(self, report: Report) -> None:
        """Judge the machines of all accounts and regions."""
        for place in self._servers.places(None, None):
            try:
                machines = self._machines.all(place.key, place.region)
            except Refusal as refusal:
                report.unseen.append({"account": place.account, "region": place.region, "code": refusal.code})
                continue
            with self._store.read() as tx:
                ids = {each.id for each in machines if self._knowledge.is_ours(tx, each.id)}
            now = self._clock()
            judged = [reconcile.judge_machine(each, Known(now, now, machines=ids)) for each in machines]
            for each in judged:
                report.tally.count(each)
            report.tally.machines += len(machines)
            self._keep(report, [found for each in judged for found in each.findings])

    def _keep(self, report: Report, found: Sequence[Finding]) -> None:
        if found:
            self._store.write(lambda tx: self._remember(tx, report, found))

    def _remember(self, tx: Transaction, report: Report, found: Iterable[Finding]) -> None:
        """The findings, each merged with what is known of it; a record for each new one."""
        for each in reconcile.together(found).values():
            before = tx.findings.get(id=each.id)
            after = reconcile.merged(before or each, each)
            if after != before and not (tx.findings.swap(before, after) if before else tx.findings.add(after)):
                raise Refusal("conflict")
            report.findings[after.id] = after
            if before is None:
                report.new.add(after.id)
                tx.audit.append(self._found(after))

    def _found(self, finding: Finding) -> Event:
        facts = {
            **finding.document["about"],
            "finding": finding.id,
            "sources": finding.document["sources"],
            "what": finding.document["what"],
            "by": finding.document["by"],
            "first_at": instant(finding.first_at),
        }
        return Event(
            Kind.FACT, Name.GATEWAY_USE_FIND, True, finding.kind, self._id(), object=finding.subject, facts=facts
        )

    def _id(self) -> str:
        return self._random(16).hex()


def _place(after: str | None, stretches: int) -> tuple[int, str | None]:
    """Which stretch, and where in it. Raises Refusal for what was never the `next` of anything."""
    if after is None:
        return 0, None
    try:
        number, place = json.loads(after)
        if type(number) is int and 0 <= number < stretches and isinstance(place, str | None):
            return number, place
    except (ValueError, TypeError, RecursionError):
        pass
    raise Refusal("malformed_request", "after: is not the next of another part")
