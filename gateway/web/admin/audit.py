"""The audit trail: as it lies there, searched, summed up, and what proves it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from gateway.core.audit import Name as Event
from gateway.core.audit import Wanted
from gateway.core.audit_search import KINDS, Filter
from gateway.core.errors import Refusal
from gateway.flows.checkpoint import Checkpoints
from gateway.flows.journal import Journal
from gateway.flows.read_audit import ReadAudit, Search, key_of, place_of
from gateway.web.admin.desk import AdminRoute, Asked
from gateway.web.admin.pages import Page
from gateway.web.checkpoint_api import NUMBER
from gateway.wire.checkpoint import HEX, MOST, ChainHashes, CheckpointAnswer
from gateway.wire.messages import NAME
from gateway.wire.strict import integer, text

MOMENT = r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?Z"


@dataclass(frozen=True, slots=True)
class AuditPage:
    """The query of GET /v1/audit. `after` is the last record that the reader has of each chain: `CHAIN:7,CHAIN:12`."""

    after: str = text(pattern=r"([a-z0-9.-]+:[0-9]{1,18}(,[a-z0-9.-]+:[0-9]{1,18})*)?", longest=4096, default="")
    limit: str = text(pattern=r"1000|[1-9][0-9]{0,2}", default="1000")

    @property
    def positions(self) -> dict[str, int]:
        """Chain → sequence number. Raises Refusal when a chain is named twice."""
        pairs = [item.rpartition(":") for item in self.after.split(",") if item]
        found = {chain: int(seq) for chain, _, seq in pairs}
        if len(found) != len(pairs):
            raise Refusal("malformed_request", "after: a chain stands twice")
        return found


@dataclass(frozen=True, slots=True)
class AuditSearch(Page):
    """The query of GET /v1/audit/search. `until` is not included. `presented` is a kind of secret and the SHA-256 of
    one: `ticket:…`. `event` may end with `*`.
    """

    since: str | None = text(pattern=MOMENT, default=None)
    until: str | None = text(pattern=MOMENT, default=None)
    instance: str | None = text(longest=512, default=None)
    operator: str | None = text(pattern=NAME, default=None)
    key: str | None = text(pattern=NAME, default=None)
    subject: str | None = text(longest=512, default=None)
    object: str | None = text(longest=512, default=None)
    request_id: str | None = text(longest=64, default=None)
    event: str | None = text(pattern=r"[a-z:]{1,64}\*?", default=None)
    reason: str | None = text(longest=64, default=None)
    source: str | None = text(longest=64, default=None)
    kind: str | None = text(pattern="decision|intent|outcome|fact", default=None)
    outcome: str | None = text(pattern="allowed|refused", default=None)
    presented: str | None = text(pattern=rf"({'|'.join(KINDS)}):[0-9a-f]{{64}}", default=None)


@dataclass(frozen=True, slots=True)
class AuditSpan(Page):
    """The query of a summary: of which time."""

    since: str | None = text(pattern=MOMENT, default=None)
    until: str | None = text(pattern=MOMENT, default=None)


@dataclass(frozen=True, slots=True)
class Newest:
    """The query of GET /v1/audit/checkpoint. `after`: the number of the checkpoint that the reader has."""

    after: str | None = text(pattern=NUMBER, default=None)


@dataclass(frozen=True, slots=True)
class AuditBegin:
    """Where the store's records begin, when older ones are in an archive: that checkpoint, and the edges of its trees
    (RFC 9162), from which the trees go on.
    """

    checkpoint: CheckpointAnswer
    edges: tuple[ChainHashes, ...]


@dataclass(frozen=True, slots=True)
class AuditHead:
    """Where a chain ends: its last record's number and hash."""

    chain: str = text(longest=255)
    seq: int = integer(low=1, high=MOST)
    hash: str = text(pattern=HEX)


@dataclass(frozen=True, slots=True)
class AuditCheckpoint:
    """Where each chain ends, the latest checkpoint, and where the records begin."""

    heads: tuple[AuditHead, ...]
    checkpoint: CheckpointAnswer | None
    begin: AuditBegin | None


def routes(
    journal: Journal, read: ReadAudit, checkpoints: Checkpoints, hide: Callable[[str, str], str]
) -> Sequence[AdminRoute]:
    """Reading is recorded, too. `hide` makes of a kind and a SHA-256 what records have of such a secret."""

    def audit(asked: Asked) -> Mapping[str, Any]:
        rows = read.lines(asked.call, asked.query.positions, int(asked.query.limit))
        return {"records": [{"chain": c, "seq": s, "line": line, "hash": h} for c, s, line, h in rows]}

    def search(asked: Asked) -> Mapping[str, Any]:
        found, place = read.search(asked.call, _search(asked.query, hide), int(asked.query.limit))
        return {"records": found, "next": key_of(place)}

    def summary(asked: Asked, wanted: Search) -> Mapping[str, Any]:
        made, place = read.summary(asked.call, wanted)
        return {
            "records": made.records,
            "first": made.first,
            "last": made.last,
            "allowed": dict(made.allowed),
            "refused": dict(made.refused),
            "reasons": dict(made.reasons),
            "sent": made.sent,
            "received": made.received,
            "next": key_of(place),
        }

    def of_instance(asked: Asked) -> Mapping[str, Any]:
        return summary(asked, Search(_span(asked.query), Filter(), instance=asked.path["named"]))

    def of_key(asked: Asked) -> Mapping[str, Any]:
        return summary(asked, Search(_span(asked.query), Filter(key=asked.path["name"])))

    def checkpoint(asked: Asked) -> AuditCheckpoint:
        after = asked.query.after
        # In this order: the log grows meanwhile, and each of these has to reach at least as far as the one before.
        begin = checkpoints.begin()
        latest = checkpoints.show(int(after) if after else None) if after or checkpoints.exist() else None
        heads = tuple(AuditHead(head.chain, head.seq, head.hash) for head in read.heads())
        journal.allow(asked.call)
        if begin is None:
            return AuditCheckpoint(heads, latest, None)
        row, answer = begin
        edges = tuple(ChainHashes(name, tuple(hashes)) for name, hashes in sorted(row.document["edges"].items()))
        return AuditCheckpoint(heads, latest, AuditBegin(answer, edges))

    may = Event.OPERATOR_AUDIT_READ
    named = ("instance_unknown", "instance_ambiguous")
    return (
        AdminRoute("GET", "/v1/audit", "A page of the audit log", may, audit, query=AuditPage),
        AdminRoute("GET", "/v1/audit/search", "Records of the audit log", may, search, query=AuditSearch, codes=named),
        AdminRoute("GET", "/v1/audit/checkpoint", "The latest checkpoint of the audit log", may, checkpoint,
                   query=Newest, answers=AuditCheckpoint, codes=("checkpoint_unknown",)),
        AdminRoute("GET", "/v1/audit/summary/instances/<path:named>", "What the log says of an instance, counted", may,
                   of_instance, query=AuditSpan, codes=named),
        AdminRoute("GET", "/v1/audit/summary/keys/<name>", "What the log says of an upstream key, counted", may,
                   of_key, query=AuditSpan),
    )  # fmt: skip


def _search(query: AuditSearch, hide: Callable[[str, str], str]) -> Search:
    kind, _, sha256 = (query.presented or "").partition(":")
    narrowed = Filter(
        event=query.event,
        reason=query.reason,
        source=query.source,
        kind=query.kind,
        allowed=None if query.outcome is None else query.outcome == "allowed",
        key=query.key,
        presented=hide(kind, sha256) if kind else None,
    )
    return Search(_span(query), narrowed, query.instance, query.operator)


def _span(query: AuditSearch | AuditSpan) -> Wanted:
    place = place_of(query.after) if query.after else None
    wanted = Wanted(since=_moment("since", query.since), until=_moment("until", query.until), after=place)
    if isinstance(query, AuditSpan):
        return wanted
    return replace(wanted, subject=query.subject, object=query.object, request_id=query.request_id)


def _moment(name: str, written: str | None) -> datetime | None:
    try:
        return datetime.fromisoformat(written) if written else None
    except ValueError:
        raise Refusal("malformed_request", f"{name}: there is no such time") from None
