"""What leaves the gateway about itself, for those who ask: the audit log in other formats, and metrics."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gateway.core.audit import Name
from gateway.core.audit_formats import Format, written
from gateway.flows.journal import Journal
from gateway.flows.read_audit import ReadAudit
from gateway.web.admin.audit import AuditHead, AuditPage
from gateway.web.admin.desk import AdminRoute, Asked
from gateway.web.public import METRICS_TYPE
from gateway.wire.checkpoint import MOST
from gateway.wire.strict import integer, text


@dataclass(frozen=True, slots=True)
class ExportPage(AuditPage):
    """The query of GET /v1/audit/export: as that of GET /v1/audit, and the format."""

    format: str = text(pattern="|".join(Format), default=Format.RAW.value)


@dataclass(frozen=True, slots=True)
class ExportedRecord:
    """One record as it is written outside: `text` is one line."""

    chain: str = text(longest=255)
    seq: int = integer(low=1, high=MOST)
    text: str = text(longest=1_000_000)


@dataclass(frozen=True, slots=True)
class AuditExport:
    """A page of the log, and where each chain ends now: for a reader who wants an end, since reading is recorded."""

    records: tuple[ExportedRecord, ...]
    heads: tuple[AuditHead, ...]


@dataclass(frozen=True, slots=True)
class MetricsText:
    """All workers' metrics in Prometheus's text format."""

    media_type: str = text(longest=128)
    text: str = text(longest=4_000_000)


def routes(journal: Journal, read: ReadAudit, metrics: Callable[[], bytes]) -> Sequence[AdminRoute]:
    """Both are recorded, as all that operators do."""

    def export(asked: Asked) -> AuditExport:
        form = Format(asked.query.format)
        rows = read.lines(asked.call, asked.query.positions, int(asked.query.limit))
        records = tuple(ExportedRecord(c, s, written(line, hash_, form)) for c, s, line, hash_ in rows)
        return AuditExport(records, tuple(AuditHead(head.chain, head.seq, head.hash) for head in read.heads()))

    def shown(asked: Asked) -> MetricsText:
        journal.allow(asked.call)
        return MetricsText(METRICS_TYPE, metrics().decode())

    may = Name.OPERATOR_AUDIT_EXPORT
    return (
        AdminRoute(
            "GET", "/v1/audit/export", "A page of the audit log in a format of others", may, export,
            query=ExportPage, answers=AuditExport,
        ),
        AdminRoute(
            "GET", "/v1/metrics", "The metrics of all workers", Name.OPERATOR_GATEWAY_METRICS, shown,
            answers=MetricsText,
        ),
    )  # fmt: skip
