"""Two layers of a revocation: the CRL, and the agents."""

import logging
from collections.abc import Callable, Collection, Mapping
from datetime import datetime, timedelta
from typing import Any

from gateway.core.errors import Refusal
from gateway.core.model import Crl
from gateway.core.operator_model import Cursor, Revocation
from gateway.flows.layers import Progress
from gateway.flows.publish import ISSUER, Publish
from gateway.ports import Clock, Store, Transaction
from gateway.wire.messages import parse_instant

log = logging.getLogger("trusted_gateway.revoke")

STOPS_WITHIN = 5
"""Seconds in which an agent that was told serves nothing of it any more."""
_NAMED = 20  # agents that the receipt names
_KEPT = timedelta(days=2)  # what an agent was told: longer than any session lives, which is 36 hours


class CrlLayer:
    """The certificates are on a list that is published."""

    name = "crl"
    looks = False

    def __init__(self, store: Store, publish: Publish) -> None:
        self._store = store
        self._publish = publish

    def carry(self, revocation: Revocation) -> Progress:
        """Publish, unless a list was made since. Raises Refusal."""
        if not revocation.document["listed"]:
            return Progress(True, {"published": False, "why": "no certificate of a machine is among it"})
        with self._store.read() as tx:
            number = crl_number(tx)
        if number <= revocation.document["crl"]:
            number = self._publish.crl()
        return Progress(True, {"published": True, "number": number})


def crl_number(tx: Transaction) -> int:
    """The number of the list that is out, 0 when there is none. The next one holds what this transaction revokes."""
    crl: Crl | None = tx.crls.get(issuer=ISSUER)
    return crl.number if crl else 0


class AgentsLayer:
    """The agents that hold sessions of it were told to drop them."""

    name = "agents"
    looks = True

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    def carry(self, revocation: Revocation) -> Progress:
        """Look who was told. Where nothing that an agent holds is good any more, nobody has to be."""
        agents, now = revocation.document["agents"], self._clock()
        given: dict[str, dict[str, datetime]] = {agent: {} for agent in agents}
        for each in revocation.document["cut"]["sessions"]:
            if not each["held"]:
                given[each["instance"]][each["lease"]] = parse_instant(each["until"])
        with self._store.read() as tx:
            told = {agent for agent in agents if _was_told(tx, agent, given[agent], now)}
        untold = [agent for agent in agents if agent not in told]
        ends = [end for leases in given.values() for end in leases.values()]
        facts: dict[str, Any] = {
            "agents": len(agents),
            "told": len(told),
            "untold": untold[:_NAMED],
            "stops_within_seconds": STOPS_WITHIN,
        }
        return Progress(not untold or now >= max(ends, default=now), facts)


class Telling:
    """What agents are told, and that they were. That is noted lease by lease: a time would say too much of what is
    revoked between the look at what is to be dropped and the note of it.
    """

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    def to_drop(self, instance: str) -> tuple[str, ...]:
        """The leases of this instance that were revoked, and that AWS may still honour. Raises Refusal."""
        with self._store.read() as tx:
            return tuple(tx.leases.revoked(instance, self._clock()))

    def told(self, instance: str, drop: Collection[str]) -> None:
        """This agent hears that it has to drop these leases. If it cannot be noted, it is told all the same."""
        self._note(instance, lambda _: drop)

    def told_revoked(self, instance: str) -> None:
        """This agent hears that its machine is revoked: it drops all that it has. Else as `told`."""
        self._note(instance, lambda tx: [lease.id for lease in tx.leases.live(instance, self._clock())])

    def _note(self, instance: str, drops: Callable[[Transaction], Collection[str]]) -> None:
        now = self._clock()

        def unit(tx: Transaction) -> None:
            before = tx.cursors.get(name=_cursor(instance))
            known = {lease: at for lease, at in _told(before).items() if datetime.fromisoformat(at) > now - _KEPT}
            after = Cursor(_cursor(instance), {"drop": known | dict.fromkeys(drops(tx), now.isoformat())}, now)
            if not (tx.cursors.swap(before, after) if before else tx.cursors.add(after)):
                raise Refusal("conflict")

        try:
            self._store.write(unit)
        except Refusal as refusal:
            log.warning("%s was told of a revocation; not noted: %s (%s)", instance, refusal, refusal.reason)


def _was_told(tx: Transaction, instance: str, given: Mapping[str, datetime], now: datetime) -> bool:
    """Of each of these leases, but for those that are over: they may have been before it came to hear of them."""
    untold = given.keys() - _told(tx.cursors.get(name=_cursor(instance))).keys()
    return untold != given.keys() and all(given[lease] <= now for lease in untold)


def _told(cursor: Cursor | None) -> Mapping[str, str]:
    """The leases that an agent was told to drop, each with when."""
    found: Mapping[str, str] = cursor.positions.get("drop", {}) if cursor else {}
    return found


def _cursor(instance: str) -> str:
    return f"told/{instance}"
