"""Every metric: its name, kind and labels. No label holds an id, an ARN or a secret, nor has countless values. Pure."""

from dataclasses import dataclass
from enum import StrEnum

PREFIX = "trusted_gateway_"
TIMES = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
SIZES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0)


class MetricKind(StrEnum):
    """A GAUGE that several workers know is as the latest of them saw it; what each has of its own has its label."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric; `name` without the prefix. `bounds` are the upper ones of a histogram's buckets."""

    name: str
    kind: MetricKind
    says: str
    labels: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()


def _counter(name: str, says: str, *labels: str) -> Metric:
    return Metric(name, MetricKind.COUNTER, says, labels)


def _gauge(name: str, says: str, *labels: str) -> Metric:
    return Metric(name, MetricKind.GAUGE, says, labels)


def _histogram(name: str, says: str, bounds: tuple[float, ...], *labels: str) -> Metric:
    return Metric(name, MetricKind.HISTOGRAM, says, labels, bounds)


METRICS = {
    each.name: each
    for each in (
        _counter("requests_total", "Requests that were answered.", "listener", "route", "method", "status"),
        _counter("refusals_total", "Problems that were answered, by code.", "listener", "code"),
        _histogram("request_seconds", "From a complete request to its answer.", TIMES, "listener", "route"),
        _counter("server_events_total", "What the server counts beside requests.", "listener", "what"),
        _counter("audit_records_total", "Audit records that are durable.", "event", "kind", "allowed"),
        _histogram("store_write_seconds", "One commit of the store.", TIMES),
        _histogram("store_batch_units", "Units of work in one commit.", SIZES),
        _counter("store_write_failures_total", "Commits that failed."),
        _counter("aws_calls_total", "Calls of AWS by the gateway itself.", "service", "operation", "outcome"),
        _histogram("aws_call_seconds", "Until AWS answered, or did not.", TIMES, "service", "operation"),
        _gauge("aws_breakers_open", "Things of AWS that are not asked at this moment.", "worker"),
        _gauge("audit_sink_behind_records", "Records that a sink has not taken yet.", "sink"),
        _gauge("audit_sink_behind_seconds", "How long the oldest of them has waited.", "sink"),
        _gauge("audit_sink_failing", "1 while a sink does not take records.", "sink"),
        _gauge("crl_age_seconds", "Since the latest CRL was made."),
        _gauge("crl_next_update_seconds", "Until the latest CRL is over; negative behind it."),
        _gauge("certificate_ends_seconds", "Until our own certificates end.", "certificate"),
        _gauge("revocations_running", "Revocations of which a layer is still trying."),
        _gauge("cuts_live", "Sessions, or groups of them, that are denied at AWS until they end."),
        _gauge("findings", "What was found to go past the gateway, by kind.", "kind"),
        _gauge("disk_free_bytes", "Room on the disk of the store."),
        _gauge("health", "Of each check: 0 good, 1 degraded, 2 failing.", "check"),
        _gauge("worker_resident_bytes", "Memory of a worker.", "worker"),
        _gauge("worker_open_files", "File descriptors of a worker.", "worker"),
    )
}
