"""The store and the journal with spans around what they do. Imported only where traces are on; see `observation`."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from gateway.adapters.sql.store import SqlStore
from gateway.adapters.traces import Traces
from gateway.core.audit import Name
from gateway.flows.journal import Call, Journal
from gateway.ports import Transaction

T = TypeVar("T")


class TracedStore(SqlStore):
    """With a span for each write that somebody waits for."""

    def __init__(self, traces: Traces, *store: Any) -> None:
        super().__init__(*store)
        self._traces = traces

    def write(self, unit: Callable[[Transaction], T]) -> T:
        with self._traces.span("store write"):
            return super().write(unit)


class TracedJournal(Journal):
    """With a span for each decision, which links to the caller's trace once the caller is identified."""

    def __init__(self, traces: Traces, *journal: Any) -> None:
        super().__init__(*journal)
        self._traces = traces

    @contextmanager
    def call(self, name: Name, request_id: str, source: str | None) -> Iterator[Call]:
        attributes = {"gateway.request_id": request_id}
        with self._traces.span(name, **attributes) as span, super().call(name, request_id, source) as call:
            try:
                yield call
            finally:
                if call.subject is not None:
                    self._traces.link(span)
