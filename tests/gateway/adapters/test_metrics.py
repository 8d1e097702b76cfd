"""Metrics of several workers: the sum of all, also of those that were killed, and nothing that falls."""

import multiprocessing
import os
import signal
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from gateway.adapters.metrics import Places, Tally
from gateway.core.metrics import METRICS, PREFIX, MetricKind


def shown(tally: Tally) -> dict[tuple[str, tuple[str, ...]], float]:
    families = text_string_to_metric_families(tally.text().decode())
    return {(s.name, tuple(s.labels.values())): s.value for family in families for s in family.samples}


def one(tally: Tally, name: str, *labels: str) -> float:
    found = {
        key: value for key, value in shown(tally).items() if key[0] == PREFIX + name and set(key[1]) >= set(labels)
    }
    (value,) = found.values()
    return value


def _worker(places: Places, slot: int, ready: Any) -> None:
    tally = Tally(places, slot)
    tally.count("store_write_failures_total", by=5)
    tally.show()
    tally.count("store_write_failures_total", by=100)  # not shown before it is killed
    ready.set()
    signal.pause()


def test_a_killed_worker_leaves_its_totals_and_its_successor_counts_on() -> None:
    fork = multiprocessing.get_context("fork")
    places, ready = Places(2), fork.Event()
    worker = fork.Process(target=_worker, args=(places, 1, ready))
    worker.start()
    assert ready.wait(10)
    os.kill(worker.pid or 0, signal.SIGKILL)
    worker.join(10)
    here = Tally(places, 0)
    here.count("store_write_failures_total", by=2)
    assert one(here, "store_write_failures_total") == 7
    successor = Tally(places, 1)
    successor.count("store_write_failures_total")
    successor.show()
    assert one(here, "store_write_failures_total") == 8


def test_a_histogram_adds_up() -> None:
    places = Places(2)
    both = [Tally(places, 0), Tally(places, 1)]
    for tally, value in zip(both, (0.002, 7.0), strict=True):
        tally.observe("store_write_seconds", value)
        tally.show()
    found = shown(both[0])
    name = f"{PREFIX}store_write_seconds"
    assert found[f"{name}_bucket", ("0.001",)] == 0
    assert found[f"{name}_bucket", ("0.0025",)] == 1
    assert found[f"{name}_bucket", ("5.0",)] == 1
    assert found[f"{name}_bucket", ("+Inf",)] == 2
    assert (found[f"{name}_count", ()], found[f"{name}_sum", ()]) == (2, 7.002)


def test_a_gauge_is_as_the_latest_saw_it() -> None:
    places = Places(2)
    first, second = Tally(places, 0), Tally(places, 1)
    first.gauge("crl_age_seconds", 9000)
    first.show()
    second.gauge("crl_age_seconds", 5)
    assert one(second, "crl_age_seconds") == 5


def test_a_half_that_was_not_finished_is_not_read() -> None:
    places = Places(1)
    tally = Tally(places, 0)
    tally.count("store_write_failures_total")
    tally.show()
    begin = 1 + (1 - places._memory[0]) * (256 * 1024)
    places._memory[begin : begin + 64] = os.urandom(64)  # as far as a write came before the worker was killed
    assert places.read(0)["store_write_failures_total", ()] == [1]


def test_the_table_follows_prometheus_habits() -> None:
    for name, metric in METRICS.items():
        assert name.endswith("_total") == (metric.kind is MetricKind.COUNTER)
        assert bool(metric.bounds) == (metric.kind is MetricKind.HISTOGRAM)
        assert metric.bounds == tuple(sorted(metric.bounds))
