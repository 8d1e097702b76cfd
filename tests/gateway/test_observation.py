"""One worker, as seen from outside: its own counters are looked at by two threads, and nothing is counted twice."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from threading import Barrier, BrokenBarrierError
from types import SimpleNamespace
from typing import Any

from gateway.adapters.metrics import Places, Tally
from gateway.observation import Observation
from gateway.settings import read


@dataclass
class Counters:
    refused: int = 5


class Meeting(dict[tuple[str, str], int]):
    """Both threads have read before one of them writes, if they can be here at the same time."""

    def __init__(self) -> None:
        super().__init__()
        self._both = Barrier(2)

    def get(self, *asked: Any) -> Any:
        found = super().get(*asked)
        with suppress(BrokenBarrierError):
            self._both.wait(0.5)
        return found


def test_two_who_look_at_the_counters_count_each_event_once(monkeypatch: Any, tmp_path: Any) -> None:
    settings = read({"names": ["gateway.internal"], "store": f"sqlite:///{tmp_path}/store.db"}, {})
    aws: Any = SimpleNamespace(shut=0)
    observed = Observation(settings, {}).worker(0, SimpleNamespace(), aws)  # type: ignore[arg-type]
    tally = Tally(Places(1), 0)
    listener: Any = SimpleNamespace(name="instances", counters=Counters())
    nothing: Mapping[str, Any] = {}
    monkeypatch.setattr(observed._health, "checks", lambda: nothing)
    observed._tally, observed._listeners, observed._counted = tally, [listener], Meeting()
    with ThreadPoolExecutor(2) as pool:
        for each in (pool.submit(observed._show), pool.submit(observed.metrics)):
            each.result(10)
    assert tally._totals["server_events_total", ("instances", "refused")] == [5]
