"""Every request leaves exactly one decision in the audit log, and leaves nothing else before that is on disk."""

import hashlib
import logging
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, TypeVar

from gateway.core.audit import Event, Kind, Name
from gateway.core.current import REQUEST_ID
from gateway.core.errors import Refusal
from gateway.core.model import Instance
from gateway.flows.repeats import Repeats
from gateway.ports import Store, Transaction

log = logging.getLogger("trusted_gateway.audit")

T = TypeVar("T")
Hide = Callable[[str, str], str]

# What cannot be recorded, because recording is what failed.
_UNRECORDABLE = frozenset({"store_unavailable", "clock_untrusted"})


# What somebody wrote where a name is asked for, and what can be none: it may be a secret, pasted in the wrong place.
_NO_NAME = re.compile(r"(profile|operator|role|upstream_key|grant|revocation)/(?![a-z0-9./-]{1,128}\Z)")


def all_of_them(instance: Instance) -> bool:
    """Nothing is hidden."""
    return True


@dataclass(slots=True)
class Call:
    """One request: where it came from, who was proved (once `identify` knows), and whether it is decided.

    `demand_standing` is run in the transaction that decides it, before the rest: who asks may still do so, or it raises
    Refusal. `alongside` is run there behind the rest. `sees` says which instances the caller may do this to: to the
    others, it is as if they were not there.
    """

    name: Name
    request_id: str
    source: str | None
    subject: str | None = None
    object: str | None = None
    decided: bool = False
    demand_standing: Callable[[Transaction], None] | None = None
    alongside: Callable[[Transaction], None] | None = None
    sees: Callable[[Instance], bool] = all_of_them
    hide: Hide | None = None
    presented: dict[str, str] = field(default_factory=dict)

    def present(self, kind: str, secret: bytes) -> None:
        """Let the records of this call name the secret that was presented (or made): hidden, so that whoever has it
        can look for it.
        """
        if self.hide is not None:
            self.presented[kind] = self.hide(kind, hashlib.sha256(secret).hexdigest())

    def event(self, kind: Kind, *, allowed: bool = True, reason: str = "ok", **facts: Any) -> Event:
        """An event about this call."""
        if kind is Kind.DECISION:
            self.decided = True
        if self.presented:
            facts["presented"] = dict(self.presented)
        return Event(kind, self.name, allowed, reason, self.request_id, self.subject, self.object, self.source, facts)


class Journal:
    """Opens a `Call` for each request, and records its refusal if one ends it.

    `hide` makes what stands in records for a secret (core.audit_search); `repeats` counts what would flood the log;
    `gate` raises Refusal for events that may not be decided now.
    """

    def __init__(
        self,
        store: Store,
        hide: Hide | None = None,
        repeats: Repeats | None = None,
        gate: Callable[[Name], None] | None = None,
    ) -> None:
        self._store = store
        self._gate = gate
        self._hide = hide
        self._repeats = repeats
        self._settling = Lock()  # of two who settle at once, each would record the same

    @contextmanager
    def call(self, name: Name, request_id: str, source: str | None) -> Iterator[Call]:
        """What leaves the block as an error is recorded first; if that fails, the store's refusal leaves instead."""
        call = Call(name, request_id, source, hide=self._hide)
        REQUEST_ID.set(request_id)
        try:
            if self._gate:
                self._gate(name)
            yield call
        except Refusal as refusal:
            if refusal.code in _UNRECORDABLE:
                error = refusal.context.get("error", "")
                log.warning("%s is refused, and not on record: %s (%s %s)", name, refusal.code, refusal.reason, error)
            else:
                self._refuse(call, refusal)
            raise
        except Exception as error:
            self._refuse(call, Refusal("internal_error", reason=type(error).__name__))
            raise
        finally:
            REQUEST_ID.set(None)

    def allow(self, call: Call, *, reason: str = "ok", **facts: Any) -> None:
        """Record that the call is allowed, for flows that change nothing else."""
        self.write(call, lambda tx: tx.audit.append(call.event(Kind.DECISION, reason=reason, **facts)))

    def intend(self, call: Call, **facts: Any) -> None:
        """Record the decision and, after it, that a mint is about to happen."""

        def unit(tx: Transaction) -> None:
            tx.audit.append(call.event(Kind.DECISION, **facts))
            tx.audit.append(call.event(Kind.INTENT, reason="asked"))

        self.write(call, unit)

    def write(self, call: Call, unit: Callable[[Transaction], T]) -> T:
        """Like `Store.write`; a unit that raises has decided nothing, since its records are gone with it."""
        before = call.decided

        def whole(tx: Transaction) -> T:
            if call.demand_standing and not before:
                call.demand_standing(tx)
            done = unit(tx)
            if call.alongside and call.decided and not before:
                call.alongside(tx)
            return done

        try:
            return self._store.write(whole)
        except BaseException:
            call.decided = before
            raise

    def settle(self, *, all_of_them: bool = False) -> None:
        """Record the refusals that were only counted, of the minutes that are over; or of this one, too."""
        with self._settling:
            if self._repeats and (events := self._repeats.over(all_of_them=all_of_them)):

                def unit(tx: Transaction) -> None:
                    for event in events:
                        tx.audit.append(event)

                self._store.write(unit)
                self._repeats.recorded(events)

    def _refuse(self, call: Call, refusal: Refusal) -> None:
        kind = Kind.OUTCOME if call.decided else Kind.DECISION
        counts = self._repeats if call.subject is None and not call.decided else None
        if counts and counts.absorbs(call.name, call.source, refusal):
            return
        facts: Mapping[str, Any] = {"code": refusal.code, **refusal.context}
        if call.object and (found := _NO_NAME.match(call.object)):
            call.object = found[1]
        event = call.event(kind, allowed=False, reason=refusal.reason, **facts)
        self._store.write(lambda tx: tx.audit.append(event))
