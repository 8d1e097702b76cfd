import threading
import time
from collections.abc import Iterator
from datetime import timedelta

import pytest

from gateway.adapters.bulkhead import Bulkhead
from gateway.core.errors import Refusal

DEADLINE, PATIENCE = timedelta(seconds=0.3), timedelta(seconds=0.1)


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """What hangs, hangs until it opens."""
    event = threading.Event()
    yield event
    event.set()


def reason(bulkhead: Bulkhead, gate: threading.Event) -> str:
    with pytest.raises(Refusal) as caught:
        bulkhead.run(gate.wait)
    assert caught.value.code == "upstream_unavailable"
    assert caught.value.retry_after
    return caught.value.reason


def test_a_value_and_an_error_come_through() -> None:
    bulkhead = Bulkhead(1, DEADLINE, PATIENCE)
    for _ in range(3):
        assert bulkhead.run(lambda: 42) == 42
        with pytest.raises(ZeroDivisionError):
            bulkhead.run(lambda: 1 // 0)


@pytest.mark.threat("A26")
def test_A26_a_call_that_drips_for_ever_frees_its_caller_at_the_deadline(gate: threading.Event) -> None:
    assert reason(Bulkhead(1, DEADLINE, PATIENCE), gate) == "upstream_slow"


@pytest.mark.threat("A26")
def test_A26_while_all_places_hang_others_are_refused_at_once_and_served_again_afterwards(
    gate: threading.Event,
) -> None:
    bulkhead = Bulkhead(2, DEADLINE, PATIENCE)
    assert {reason(bulkhead, gate) for _ in range(2)} == {"upstream_slow"}
    begun = time.monotonic()
    assert {reason(bulkhead, gate) for _ in range(50)} == {"upstream_busy"}
    assert time.monotonic() - begun < 50 * PATIENCE.total_seconds(), "nobody waited"
    gate.set()
    deadline = time.monotonic() + 5
    while True:
        try:
            assert bulkhead.run(lambda: "well") == "well"
            return
        except Refusal:
            assert time.monotonic() < deadline


def test_a_short_queue_is_waited_for() -> None:
    bulkhead = Bulkhead(1, timedelta(seconds=5), timedelta(seconds=5))
    values: list[int] = []
    threads = [threading.Thread(target=lambda i=i: values.append(bulkhead.run(lambda: i))) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(values) == list(range(8))
