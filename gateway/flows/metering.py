"""The limits of a grant, kept in the store: all workers and nodes count together, and a restart forgets nothing."""

import math
from collections import Counter
from datetime import datetime

from gateway.core.errors import Refusal
from gateway.core.model import Meter
from gateway.core.rate import Rate
from gateway.flows.calls import Decided
from gateway.ports import Transaction

_BATCHES = frozenset({"DeleteObjects"})  # calls that do the same many times, and take an action for each


def charge(tx: Transaction, decided: Decided, size: int, now: datetime) -> None:
    """Take the call off what the grant's limits leave. Raises Refusal `too_many_requests`."""
    for name, rate, cost in _charges(decided, size):
        key = _key(decided, name)
        known = tx.meters.get(id=key)
        until, wait = rate.take(known.until if known else None, now, cost)
        if wait:
            why = f"The grant's limit on {name} is reached"
            seconds = math.ceil(wait.total_seconds())
            raise Refusal("too_many_requests", why, reason="limit_reached", limit=name, retry_after=seconds)
        _remember(tx, known, Meter(key, until))


def owe(tx: Transaction, decided: Decided, size: int, now: datetime) -> None:
    """Take bytes that have been had already off what the grant's limit leaves."""
    limits = decided.grant.limits
    if limits is not None and limits.bytes is not None and size:
        key = _key(decided, "bytes")
        known = tx.meters.get(id=key)
        _remember(tx, known, Meter(key, limits.bytes.owe(known.until if known else None, now, size)))


def _key(decided: Decided, limit: str) -> str:
    return f"{decided.asked.identity.instance.id}|{decided.grant.name}|{limit}"


def _remember(tx: Transaction, known: Meter | None, meter: Meter) -> None:
    if not (tx.meters.swap(known, meter) if known else tx.meters.add(meter)):
        raise Refusal("conflict")


def _charges(decided: Decided, size: int) -> list[tuple[str, Rate, int]]:
    limits = decided.grant.limits
    if limits is None:
        return []
    found = [("requests", limits.requests, 1), ("bytes", limits.bytes, size)]
    counts = Counter(need.action for need in decided.understood.needs)
    for name, pattern, rate in limits.actions:
        fitting = [count for action, count in counts.items() if action is None or pattern.fullmatch(action)]
        if fitting:
            found.append((name, rate, max(fitting) if decided.understood.routed.operation in _BATCHES else 1))
    return [(name, rate, cost) for name, rate, cost in found if rate is not None]
