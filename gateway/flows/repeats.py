"""A flood of refusals fills no disk: what one source is refused again and again is one record a minute, with a count.

Only what nobody was proved for, and what was refused: a refusal gives nothing away. The first ones of each minute have
records of their own, as everything else has always. What was counted is in memory until its minute is over: a crash
loses the count of that minute, and no more.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from threading import Lock

from gateway.core.audit import Event, Kind, Name
from gateway.core.errors import Refusal
from gateway.ports import Clock, RandomBytes

MINUTE = timedelta(minutes=1)
OVERALL = 10
"""How many times as many refusals of all sources together have records of their own."""
SOURCES = 256
"""How many counters there are at a time; what is beyond is counted without its source."""


@dataclass(frozen=True, slots=True)
class _Key:
    name: Name
    reason: str
    code: str
    source: str | None


@dataclass(slots=True)
class _Count:
    begins: datetime
    seen: int = 0
    counted: int = 0


class Repeats:
    """Of one worker. In a minute, `most` refusals of one source, event and reason have records of their own."""

    def __init__(self, most: int, clock: Clock, random: RandomBytes) -> None:
        self._most = most
        self._clock = clock
        self._random = random
        self._lock = Lock()
        self._counts: dict[_Key, _Count] = {}
        self._begins = clock()
        self._recorded = 0
        self._over: list[Event] = []

    def absorbs(self, name: Name, source: str | None, refusal: Refusal) -> bool:
        """Whether this refusal was only counted. Otherwise it has to be recorded."""
        now = self._clock()
        with self._lock:
            self._turn(now)
            key = _Key(name, refusal.reason, refusal.code, source)
            if key not in self._counts and len(self._counts) >= SOURCES:
                key = _Key(name, refusal.reason, refusal.code, None)
            count = self._counts.setdefault(key, _Count(now))
            count.seen += 1
            if count.seen <= self._most and self._recorded < self._most * OVERALL:
                self._recorded += 1
                return False
            count.counted += 1
            return True

    def over(self, *, all_of_them: bool = False) -> Sequence[Event]:
        """The records of the minutes that are over (or of this one, too). They stay until `recorded` takes them."""
        with self._lock:
            self._turn(self._clock(), force=all_of_them)
            return tuple(self._over)

    def recorded(self, events: Sequence[Event]) -> None:
        """These are on record now."""
        with self._lock:
            self._over = [each for each in self._over if each not in events]

    def _turn(self, now: datetime, *, force: bool = False) -> None:
        if not force and timedelta() <= now - self._begins < MINUTE:
            return
        for key, count in self._counts.items():
            if count.counted:
                facts = {"code": key.code, "count": count.counted, "since": count.begins.isoformat(timespec="seconds")}
                request_id = self._random(16).hex()
                self._over.append(
                    Event(Kind.FACT, key.name, False, key.reason, request_id, source=key.source, facts=facts)
                )
        self._counts, self._begins, self._recorded = {}, now, 0
