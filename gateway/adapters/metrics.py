"""Metrics of many workers, by prometheus_client: each counts for itself, and whoever is asked shows the sum of all.

A worker counts in its own memory, and once a second puts the totals where every worker can read them: into a place of
its slot, in memory that the master made before the fork. A worker that is killed leaves its totals there, and its
successor counts on from them; so nothing ever falls, and no file is left behind. (prometheus_client's own way for
several processes is a file a process, which costs a system-wide lock and some microseconds with each request.)
"""

import json
import mmap
import zlib
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from threading import Lock
from time import monotonic

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric as Family

from gateway.core.metrics import METRICS, PREFIX, Metric, MetricKind

_HALF = 256 * 1024
_HEAD = 8  # length and checksum

Labels = tuple[str, ...]
Totals = dict[tuple[str, Labels], list[float]]
"""Of a counter the value; of a gauge the value and when it was set; of a histogram the count in each bucket, one more
for what is above, and the sum.
"""


class Places:
    """Shared memory: for each slot two halves, of which one is whole at any moment. Made before the fork."""

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._memory = mmap.mmap(-1, slots * (1 + 2 * _HALF))

    def write(self, slot: int, totals: Totals) -> None:
        """Only the worker of this slot writes here. What does not fit is not shown."""
        text = zlib.compress(json.dumps([[*key, value] for key, value in totals.items()]).encode(), 1)
        if len(text) > _HALF - _HEAD:
            return
        begin = slot * (1 + 2 * _HALF)
        other = 1 - self._memory[begin]
        place = begin + 1 + other * _HALF
        head = len(text).to_bytes(4, "big") + zlib.crc32(text).to_bytes(4, "big")
        self._memory[place : place + _HEAD + len(text)] = head + text
        self._memory[begin] = other  # the last thing: who is killed before it leaves the half that was whole

    def read(self, slot: int) -> Totals:
        """What the worker of this slot wrote last; nothing if it never did."""
        begin = slot * (1 + 2 * _HALF)
        for _ in range(3):  # a half is written over again only after a second
            place = begin + 1 + self._memory[begin] * _HALF
            length = int.from_bytes(self._memory[place : place + 4], "big")
            text = self._memory[place + _HEAD : place + _HEAD + length]
            if length and zlib.crc32(text) == int.from_bytes(self._memory[place + 4 : place + _HEAD], "big"):
                return {(name, tuple(labels)): value for name, labels, value in json.loads(zlib.decompress(text))}
        return {}

    def all(self) -> list[Totals]:
        """What each slot holds."""
        return [self.read(slot) for slot in range(self._slots)]


class Tally:
    """`ports.Metrics` of one worker."""

    def __init__(self, places: Places, slot: int) -> None:
        self._places = places
        self._slot = slot
        self._lock = Lock()
        kept = places.read(slot)
        self._totals: Totals = {key: v for key, v in kept.items() if METRICS[key[0]].kind is not MetricKind.GAUGE}

    def count(self, name: str, *labels: str, by: float = 1) -> None:
        key = (name, labels)
        with self._lock:
            try:
                self._totals[key][0] += by
            except KeyError:
                self._totals[key] = [by]

    def gauge(self, name: str, value: float, *labels: str) -> None:
        with self._lock:
            self._totals[name, labels] = [value, monotonic()]  # of the whole host: later is later in any process

    def observe(self, name: str, value: float, *labels: str) -> None:
        key, bounds = (name, labels), METRICS[name].bounds
        with self._lock:
            try:
                buckets = self._totals[key]
            except KeyError:
                buckets = self._totals[key] = [0.0] * (len(bounds) + 2)
            buckets[bisect_left(bounds, value)] += 1
            buckets[-1] += value

    def show(self) -> None:
        """Put the totals where everybody can read them. Once a second, by one thread at a time."""
        resident, files = _process()
        self.gauge("worker_resident_bytes", resident, str(self._slot))
        self.gauge("worker_open_files", files, str(self._slot))
        with self._lock:
            totals = {key: list(value) for key, value in self._totals.items()}
        self._places.write(self._slot, totals)

    def text(self) -> bytes:
        """All workers' totals in Prometheus's text format, version 0.0.4."""
        self.show()
        registry = CollectorRegistry()
        registry.register(_Shown(self._places.all()))
        return generate_latest(registry)


class _Shown:
    """A collector, as prometheus_client asks for it."""

    def __init__(self, all_totals: Sequence[Totals]) -> None:
        self._all = all_totals

    def collect(self) -> Iterator[Family]:
        sums: dict[str, Totals] = {}
        for totals in self._all:
            for (name, labels), value in totals.items():
                if (metric := METRICS.get(name)) is None:
                    continue
                merged = sums.setdefault(name, {})
                key = (name, labels)
                merged[key] = _merged(metric, merged[key], value) if key in merged else value
        for name, metric in METRICS.items():
            yield _family(metric, ((labels, value) for (_, labels), value in sorted(sums.get(name, {}).items())))


def _merged(metric: Metric, one: Sequence[float], other: Sequence[float]) -> list[float]:
    if metric.kind is MetricKind.GAUGE:
        return list(one if one[1] >= other[1] else other)
    return [a + b for a, b in zip(one, other, strict=True)]


def _family(metric: Metric, samples: Iterable[tuple[Labels, Sequence[float]]]) -> Family:
    name = PREFIX + metric.name
    if metric.kind is MetricKind.HISTOGRAM:
        histogram = HistogramMetricFamily(name, metric.says, labels=metric.labels)
        for labels, value in samples:
            below, buckets = 0.0, []
            for bound, count in zip((*map(str, metric.bounds), "+Inf"), value[:-1], strict=True):
                below += count
                buckets.append((bound, below))
            histogram.add_metric(labels, buckets, value[-1])
        return histogram
    kind = CounterMetricFamily if metric.kind is MetricKind.COUNTER else GaugeMetricFamily
    family: CounterMetricFamily | GaugeMetricFamily = kind(name, metric.says, labels=metric.labels)
    for labels, value in samples:
        family.add_metric(labels, value[0])
    return family


def _process() -> tuple[float, float]:
    """Resident bytes, and open files, of this process; 0 where /proc is not readable."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return float(pages * mmap.PAGESIZE), float(sum(1 for _ in Path("/proc/self/fd").iterdir()))
    except OSError:
        return 0.0, 0.0
