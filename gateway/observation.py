"""What tells the outside how the gateway is: exports of the audit log, metrics, health, traces. Beside `bootstrap`, the
other module that names concrete adapters; bootstrap makes one `Observation`, and of it an `Observed` in each worker.
"""

import logging
import os
import shutil
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from threading import Event as Flag
from threading import Lock, Thread
from typing import TYPE_CHECKING, Any

from flask import Flask

from gateway.adapters import clock
from gateway.adapters.audit_file import AuditFile
from gateway.adapters.audit_s3 import AuditS3, Bucket
from gateway.adapters.audit_syslog import AuditSyslog
from gateway.adapters.aws import Aws
from gateway.adapters.metrics import Places, Tally
from gateway.adapters.seal_passphrase import MasterKey
from gateway.adapters.sql.sqlite_file import sqlite_path
from gateway.adapters.sql.store import SqlStore
from gateway.core.audit import Event, Name
from gateway.core.sinks import SinkKind, SinkRules
from gateway.flows.export import Export, Pump
from gateway.flows.health import Check, Health, State, Surroundings
from gateway.flows.journal import Hide, Journal
from gateway.flows.repeats import Repeats
from gateway.flows.vault import UpstreamKeys
from gateway.ports import Sink
from gateway.settings import Settings
from gateway.web.measure import Measure
from gateway.web.server.service import Listener

if TYPE_CHECKING:
    from gateway.adapters.traces import Traces

log = logging.getLogger("trusted_gateway.observation")

SHOW, LOOK = 1.0, 10  # seconds between two shows of the totals; shows between two looks at the health


class Observation:
    """Made in the master, before the fork."""

    def __init__(self, settings: Settings, hardening: Mapping[str, str]) -> None:
        self._settings = settings
        self._hardening = hardening
        self._slots = 2 * settings.workers  # a reload has old and new ones side by side
        self._places = Places(self._slots)

    def worker(self, slot: int, vault: MasterKey, aws: Aws) -> "Observed":
        """In the worker of this slot, after the fork."""
        tally = Tally(self._places, slot % self._slots)
        return Observed(self._settings, self._hardening, tally, slot, vault, aws)


class Observed:
    """One worker, as seen from outside."""

    def __init__(
        self,
        settings: Settings,
        hardening: Mapping[str, str],
        tally: Tally,
        slot: int,
        vault: MasterKey,
        aws: Aws,
    ) -> None:
        self._hardening = hardening
        self._tally = tally
        self._stopping = Flag()
        self._listeners: Sequence[Listener] = ()
        self._counted: dict[tuple[str, str], int] = {}
        self._showing = Lock()  # a thread shows once a second, and so does who is asked for the metrics
        self._calls: Callable[[], Mapping[str, Any]] = dict
        worker = f"worker-{slot}"
        chain = f"{settings.node}.{worker}"
        self._traces: Traces | None = None
        if settings.traces.endpoint:
            from gateway import traced  # with OpenTelemetry, which is not loaded for nothing
            from gateway.adapters import traces as otlp

            self._traces = traces = otlp.Traces(settings.traces.endpoint, chain)
            self.store: SqlStore = traced.TracedStore(traces, settings.store, chain, clock.now)
        else:
            self.store = SqlStore(settings.store, chain, clock.now)
        store = self.store
        keys = UpstreamKeys(Journal(store), vault, aws, clock.now)
        self.export = Export(
            [
                Pump(
                    rules,
                    _sink(rules, settings, store, keys, aws),
                    store,
                    clock.now,
                    clock.random_bytes,
                    chain,
                )
                for rules in settings.sinks
            ]
        )
        around = Surroundings(_free(settings.store), self.export.lags, lambda: aws.shut)
        self._health = Health(store, vault, clock.now, tally, around, settings.node, worker, settings.checkpoint_every)
        store.observe = self._committed
        aws.observe = self._asked

    def journal(self, hide: Hide, repeats: Repeats) -> Journal:
        """A journal on the store, which refuses what `gate` refuses."""
        if self._traces is None:
            return Journal(self.store, hide, repeats, self.gate)
        from gateway import traced

        return traced.TracedJournal(self._traces, self.store, hide, repeats, self.gate)

    def gate(self, name: Name) -> None:
        """Raises Refusal `audit_behind`."""
        self.export.demand(name)

    def start(
        self, listeners: Sequence[Listener], apps: Mapping[str, Flask], calls: Callable[[], Mapping[str, Any]]
    ) -> tuple[Listener, ...]:
        """Begin; return the listeners, measured."""
        measured = []
        for each in listeners:
            rules = [rule.rule for rule in apps[each.name].url_map.iter_rules()]
            rules += [*each.streams, *(path for _, path in each.inline)]
            measure = Measure(self._tally, each.name, rules)
            wsgi = self._traces.wsgi(each.wsgi, each.name, measure.route) if self._traces else each.wsgi
            measured.append(replace(each, measured=measure, wsgi=wsgi))
        self._listeners, self._calls = measured, calls
        self.export.start()
        Thread(target=self._run, name="observation", daemon=True).start()
        return tuple(measured)

    def stop(self) -> None:
        """In the worker, when the last answer has left, before the store closes."""
        self._stopping.set()
        self.export.stop()
        self._show()
        if self._traces:
            self._traces.stop()

    def health(self) -> Mapping[str, Any]:
        """For GET /readyz and /healthz."""
        checks = self._health.checks()
        worst = max((check.state for name, check in checks.items() if name != "aws"), default=State.GOOD)
        return {
            "ready": worst is not State.FAILING,
            "status": worst.name.lower(),
            "checks": {name: _shown(check) for name, check in checks.items()},
            "process": self._hardening,
            "listeners": {each.name: asdict(each.counters) for each in self._listeners},
            "calls": self._calls(),
        }

    def metrics(self) -> bytes:
        """All workers' metrics, in Prometheus's text format."""
        self._health.checks()
        with self._showing:
            self._count_events()
            return self._tally.text()

    def _run(self) -> None:
        turns = 0
        while not self._stopping.wait(SHOW):
            try:
                if turns % LOOK == 0:
                    self._health.checks()
                self._show()
            except Exception as error:  # its thread must not end: nobody would start another
                log.exception("observation: %s", type(error).__name__)
            turns += 1

    def _show(self) -> None:
        with self._showing:
            self._count_events()
            self._tally.show()

    def _count_events(self) -> None:
        """The server's own counters, by what they have grown since we looked."""
        for listener in self._listeners:
            for what, value in asdict(listener.counters).items():
                grown = value - self._counted.get((listener.name, what), 0)
                self._counted[listener.name, what] = value
                if grown and what != "requests":
                    self._tally.count("server_events_total", listener.name, what, by=grown)

    def _committed(self, units: int, seconds: float, events: Sequence[Event] | None) -> None:
        tally = self._tally
        tally.observe("store_write_seconds", seconds)
        tally.observe("store_batch_units", units)
        if events is None:
            tally.count("store_write_failures_total")
        for event in events or ():
            tally.count("audit_records_total", event.name, event.kind, "true" if event.allowed else "false")

    def _asked(self, service: str, operation: str, outcome: str, seconds: float) -> None:
        self._tally.count("aws_calls_total", service, operation, outcome)
        self._tally.observe("aws_call_seconds", seconds, service, operation)
        if self._traces:
            self._traces.past(f"aws {service} {operation}", seconds, **{"gateway.outcome": outcome})


def _shown(check: Check) -> Mapping[str, str]:
    return {"state": check.state.name.lower(), "says": check.says}


def _free(store: str) -> Callable[[], int]:
    path = sqlite_path(store)
    return lambda: shutil.disk_usage(path.parent if path else os.sep).free


def _sink(rules: SinkRules, settings: Settings, store: SqlStore, keys: UpstreamKeys, aws: Aws) -> Sink:
    options = rules.options
    if rules.kind is SinkKind.FILE:
        return AuditFile(Path(options["path"]))
    if rules.kind is SinkKind.SYSLOG:
        context = None if options["path"] else _context(options["ca"], options["certificate"])
        return AuditSyslog(options["path"] or options["address"], settings.node, context)
    lock = None if options["lock"] == "none" else options["lock"].upper()
    bucket = Bucket(options["bucket"], options["prefix"], lock, options["retention"])

    def put(arguments: Mapping[str, Any]) -> None:
        with store.read() as tx:
            key, _ = keys.openable(tx, options["key"])
        aws.call(key, "s3", options["region"], "put_object", dict(arguments))

    return AuditS3(bucket, put, clock.now)


def _context(ca: str | None, certificate: str | None) -> ssl.SSLContext:
    """TLS to a syslog server (RFC 5425): its certificate is verified against `ca`, or the host's CAs."""
    context = ssl.create_default_context(cafile=ca)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if certificate:
        context.load_cert_chain(certificate)
    return context
