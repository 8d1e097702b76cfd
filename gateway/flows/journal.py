"""Every request leaves exactly one decision in the audit log, and leaves nothing else before that is on disk."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from gateway.core.audit import Event, Kind, Name
from gateway.core.errors import Refusal
from gateway.ports import Store, Transaction

T = TypeVar("T")

# What cannot be recorded, because recording is what failed.
_UNRECORDABLE = frozenset({"store_unavailable", "clock_untrusted"})


@dataclass(slots=True)
class Call:
    """One request: where it came from, who was proved (once `identify` knows), and whether it is decided."""

    name: Name
    request_id: str
    source: str | None
    subject: str | None = None
    object: str | None = None
    decided: bool = False

    def event(self, kind: Kind, *, allowed: bool = True, reason: str = "ok", **facts: Any) -> Event:
        """An event about this call."""
        if kind is Kind.DECISION:
            self.decided = True
        return Event(kind, self.name, allowed, reason, self.request_id, self.subject, self.object, self.source, facts)


class Journal:
    """Opens a `Call` for each request, and records its refusal if one ends it."""

    def __init__(self, store: Store) -> None:
        self._store = store

    @contextmanager
    def call(self, name: Name, request_id: str, source: str | None) -> Iterator[Call]:
        """What leaves the block as an error is recorded first; if that fails, the store's refusal leaves instead."""
        call = Call(name, request_id, source)
        try:
            yield call
        except Refusal as refusal:
            if refusal.code not in _UNRECORDABLE:
                self._refuse(call, refusal)
            raise
        except Exception as error:
            self._refuse(call, Refusal("internal_error", reason=type(error).__name__))
            raise

    def allow(self, call: Call, *, reason: str = "ok", **facts: Any) -> None:
        """Record that the call is allowed, for flows that change nothing else."""
        self._store.write(lambda tx: tx.audit.append(call.event(Kind.DECISION, reason=reason, **facts)))

    def intend(self, call: Call, **facts: Any) -> None:
        """Record the decision and, after it, that a mint is about to happen."""

        def unit(tx: Transaction) -> None:
            tx.audit.append(call.event(Kind.DECISION, **facts))
            tx.audit.append(call.event(Kind.INTENT, reason="asked"))

        self.write(call, unit)

    def write(self, call: Call, unit: Callable[[Transaction], T]) -> T:
        """Like `Store.write`; a unit that raises has decided nothing, since its records are gone with it."""
        before = call.decided
        try:
            return self._store.write(unit)
        except BaseException:
            call.decided = before
            raise

    def _refuse(self, call: Call, refusal: Refusal) -> None:
        kind = Kind.OUTCOME if call.decided else Kind.DECISION
        facts: Mapping[str, Any] = {"code": refusal.code, **refusal.context}
        event = call.event(kind, allowed=False, reason=refusal.reason, **facts)
        self._store.write(lambda tx: tx.audit.append(event))
