"""Reading the audit log: pages as they lie there, searches, summaries. Each leaves one decision."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from gateway.core.audit import Head, Place, Wanted
from gateway.core.audit_search import Filter, Summary, readable
from gateway.flows.journal import Call, Journal
from gateway.flows.revocation_targets import find_instance
from gateway.ports import Store, Transaction

PAGE = 1000
SCAN = 5000
"""Records that one request looks at: what it does not reach, the next page does."""


@dataclass(frozen=True, slots=True)
class Search:
    """What is looked for. `instance` as operators name one; `operator` by name; the rest as `Wanted` and `Filter`."""

    wanted: Wanted
    filter: Filter
    instance: str | None = None
    operator: str | None = None


class ReadAudit:
    """Raises Refusal `instance_unknown` and `instance_ambiguous` for an instance that is looked for."""

    def __init__(self, store: Store, journal: Journal, trust_domain: str) -> None:
        self._store = store
        self._journal = journal
        self._trust_domain = trust_domain

    def lines(self, call: Call, after: Mapping[str, int], limit: int) -> list[tuple[str, int, str, str]]:
        """A page of the log behind the positions `after`: rows (chain, seq, line, hash)."""
        self._journal.allow(call, after=dict(after))
        with self._store.read() as tx:
            return list(tx.audit.lines(after, min(limit, PAGE)))

    def heads(self) -> Sequence[Head]:
        """Where each chain ends."""
        with self._store.read() as tx:
            return tx.audit.heads()

    def search(self, call: Call, search: Search, limit: int) -> tuple[list[Mapping[str, Any]], Place | None]:
        """At most `limit` records, oldest first, and where to go on; None when everything was looked at."""
        rows = self._looked(call, search)
        found = []
        for place, line in rows:
            body = readable(line)
            if body is not None and search.filter.matches(body):
                found.append(body)
                if len(found) == limit:
                    return found, place
        return found, rows[-1][0] if len(rows) == SCAN else None

    def summary(self, call: Call, search: Search) -> tuple[Summary, Place | None]:
        """What is found, counted, and where to go on, when there was too much for one request."""
        rows = self._looked(call, search)
        made = Summary()
        for _, line in rows:
            body = readable(line)
            if body is not None and search.filter.matches(body):
                made.add(body)
        return made, rows[-1][0] if len(rows) == SCAN else None

    def _looked(self, call: Call, search: Search) -> Sequence[tuple[Place, str]]:
        """The records to filter. An instance that there is not is refused: then nothing was allowed."""
        with self._store.read() as tx:
            wanted = self._resolved(tx, search)
        self._journal.allow(call)
        with self._store.read() as tx:
            return tx.audit.search(wanted, SCAN)

    def _resolved(self, tx: Transaction, search: Search) -> Wanted:
        wanted = search.wanted
        if search.instance is not None:
            wanted = replace(wanted, about=find_instance(tx, search.instance).id)
        if search.operator is not None:
            wanted = replace(wanted, subject=f"spiffe://{self._trust_domain}/operator/{search.operator}")
        return wanted


def place_of(key: str) -> Place:
    """The inverse of `key_of`. Raises ValueError."""
    at, chain, seq = key.split(" ")
    return Place(datetime.fromisoformat(at), chain, int(seq))


def key_of(place: Place | None) -> str | None:
    """Where a page ended, as a cursor holds it."""
    return f"{place.at.isoformat()} {place.chain} {place.seq}" if place else None
