"""What housekeeping forgets, to the second; and what came back to life before it was removed."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from gateway.core.model import DummyKey, Meter
from gateway.flows import pruning
from gateway.flows.dummy_keys import REMEMBERED
from gateway.flows.housekeeping import Housekeeping
from gateway.flows.pruning import Pruning
from gateway.ports import Transaction
from tests.gateway.flows.conftest import START, Gateway

SECOND = timedelta(seconds=1)


def dummy_key(name: str, ends: datetime) -> DummyKey:
    return DummyKey(name, "spiffe://x", "ab" * 32, "data", b"sealed", START, ends)


@pytest.mark.parametrize(
    ("rows", "made", "known_for"), [("meters", Meter, timedelta()), ("dummy_keys", dummy_key, REMEMBERED)]
)
def test_what_is_over_is_forgotten_and_nothing_else(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, rows: str, made: Any, known_for: timedelta
) -> None:
    monkeypatch.setattr(pruning, "BATCH", 2)
    ends = {f"row-{i}": START + timedelta(minutes=i % 2) for i in range(6)}
    assert gateway.store.write(lambda tx: all(getattr(tx, rows).add(made(*each)) for each in ends.items()))
    keeping = Housekeeping(gateway.publish, gateway.store, gateway.time)

    def left() -> int:
        for _ in range(5):  # two at a time, and round again
            keeping.tick()
        with gateway.store.read() as tx:
            return len(getattr(tx, rows).find())

    gateway.time.now = START + known_for - SECOND
    assert left() == 6
    gateway.time.passes(SECOND)
    assert left() == 3
    gateway.time.passes(timedelta(minutes=1))
    assert left() == 0


def test_a_limit_that_is_used_meanwhile_is_not_forgotten(gateway: Gateway) -> None:
    """Else whoever calls at that moment has all of it anew."""
    over, used = Meter("i/data/requests", START), Meter("i/data/requests", START + timedelta(minutes=1))
    assert gateway.store.write(lambda tx: tx.meters.add(over))
    judged: list[Meter] = []

    def is_over(row: Meter, now: datetime) -> bool:
        if not judged:
            assert gateway.store.write(lambda tx: tx.meters.swap(over, used))
        judged.append(row)
        return row.until <= now

    def meters(tx: Transaction) -> Any:
        return tx.meters

    Pruning(meters, "id", is_over).tick(gateway.store, START)
    with gateway.store.read() as tx:
        assert tx.meters.find() == [used]
    assert judged == [over, used]
