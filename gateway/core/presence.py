"""From where, and when, an operator or a role counts: source addresses and hours. Pure.

Hours are those of a wall clock somewhere, since people work by it: `mon-fri 08:00-18:00 Europe/Berlin`.
"""

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

from gateway.core.conditions import DAYS, Network, within

_CLOCK = r"(?:[01][0-9]|2[0-3]):[0-5][0-9]"
_ZONE = r"[A-Za-z][A-Za-z0-9_+-]*(?:/[A-Za-z0-9_+-]+){0,2}"
_HOURS = re.compile(rf"([a-z]{{3}}(?:[,-][a-z]{{3}}){{0,6}}|daily) ({_CLOCK})-({_CLOCK}|24:00) ({_ZONE})")


@dataclass(frozen=True, slots=True)
class Hours:
    """A window on some days (0 is Monday), in minutes of the day; one that does not end after it starts ends on the
    next day.
    """

    days: frozenset[int]
    start: int
    end: int
    zone: ZoneInfo

    def open_at(self, now: datetime) -> bool:
        """Whether the wall clock stands inside. An hour that is there twice, in autumn, is inside twice."""
        local = now.astimezone(self.zone)
        day, minute = local.weekday(), local.hour * 60 + local.minute
        if self.start < self.end:
            return day in self.days and self.start <= minute < self.end
        return (day in self.days and minute >= self.start) or ((day - 1) % 7 in self.days and minute < self.end)


@dataclass(frozen=True, slots=True)
class Presence:
    """Both must hold; what is empty asks for nothing. Of several hours one must be open."""

    source_addresses: tuple[Network, ...] = ()
    hours: tuple[Hours, ...] = ()

    def missed(self, source: str | None, now: datetime) -> str | None:
        """Why it does not hold, as a reason for the log: `source_address` or `outside_hours`; None when it does."""
        if self.source_addresses and not within(source, self.source_addresses):
            return "source_address"
        if self.hours and not any(each.open_at(now) for each in self.hours):
            return "outside_hours"
        return None

    def within(self, other: "Presence") -> bool:
        """Whether this asks at least for what `other` asks for, as far as that is seen without thinking."""
        same_hours = not other.hours or self.hours == other.hours
        nets = other.source_addresses
        same_place = not nets or (
            bool(self.source_addresses) and all(any(_inside(a, b) for b in nets) for a in self.source_addresses)
        )
        return same_hours and same_place


ALWAYS = Presence()


def read(source_addresses: Sequence[str], hours: Sequence[str], faults: list[str]) -> Presence:
    """From text; what is wrong is added to `faults`, as `path: what is wrong`."""
    networks = [_network(each, f"source_addresses[{i}]", faults) for i, each in enumerate(source_addresses)]
    windows = [_hours(each, f"hours[{i}]", faults) for i, each in enumerate(hours)]
    return Presence(tuple(each for each in networks if each), tuple(each for each in windows if each))


def _network(written: str, path: str, faults: list[str]) -> Network | None:
    try:
        return ipaddress.ip_network(written)
    except ValueError:
        faults.append(f"{path}: must be an address or a network like 10.1.0.0/16, without host bits")
        return None


def _hours(written: str, path: str, faults: list[str]) -> Hours | None:
    match = _HOURS.fullmatch(written)
    if match is None:
        faults.append(f"{path}: must be written like 'mon-fri 08:00-18:00 Europe/Berlin'")
        return None
    days = _days(match[1])
    if days is None:
        faults.append(f"{path}: days are {', '.join(DAYS)}, as mon-fri or mon,wed, or daily")
    try:
        zone = ZoneInfo(match[4])
    except (KeyError, ValueError, OSError):  # ZoneInfoNotFoundError is a KeyError
        faults.append(f"{path}: that time zone is not known")
        return None
    start, end = _minutes(match[2]), _minutes(match[3])
    return Hours(days, start, end, zone) if days else None


def _days(written: str) -> frozenset[int] | None:
    if written == "daily":
        return frozenset(range(7))
    found: set[int] = set()
    for part in written.split(","):
        ends = part.split("-")
        if len(ends) > 2 or any(each not in DAYS for each in ends):
            return None
        first, last = DAYS.index(ends[0]), DAYS.index(ends[-1])
        found |= {(first + i) % 7 for i in range((last - first) % 7 + 1)}
    return frozenset(found)


def _minutes(written: str) -> int:
    hour, minute = map(int, written.split(":"))
    return hour * 60 + minute


def _inside(inner: Network, outer: Network) -> bool:
    return inner.version == outer.version and inner.subnet_of(outer)  # type: ignore[arg-type]
