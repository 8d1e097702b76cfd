"""When a grant may be had: from where, at what time, by an instance with which tags, attested how. Pure."""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, time, timedelta

from gateway.core.errors import Refusal
from gateway.core.model import Instance

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

# What the gateway may have checked of an instance at its enrolment; `Instance.claims["checks"]` holds what it did.
CHECKS = {
    "identity_document": "AWS signed the document, and DescribeInstances agrees with it",
    "source_address": "it came from an address of the instance",
    "root_volume": "the root volume is the one of the launch",
    "instance_ticket": "its ticket was made for this instance by name",
    "trust_anchor": "it has a certificate of a configured trust anchor, and was not attested by us",
}


@dataclass(frozen=True, slots=True)
class Hours:
    """A daily window in UTC on some days; one that does not end after it starts ends on the next day."""

    days: tuple[str, ...]
    start: time
    end: time

    def end_of_window(self, now: datetime) -> datetime | None:
        """When the window that is open at `now` closes; None when none is. Windows that touch are one, up to a week."""
        end = self._closes(now)
        while end is not None and end - now < timedelta(days=7) and (later := self._closes(end)) is not None:
            end = later
        return end

    def _closes(self, now: datetime) -> datetime | None:
        for back in (0, 1):
            day = (now - timedelta(days=back)).replace(hour=0, minute=0, second=0, microsecond=0)
            opens = day + timedelta(hours=self.start.hour, minutes=self.start.minute)
            closes = day + timedelta(hours=self.end.hour, minutes=self.end.minute)
            if closes <= opens:
                closes += timedelta(days=1)
            if DAYS[day.weekday()] in self.days and opens <= now < closes:
                return closes
        return None


@dataclass(frozen=True, slots=True)
class Conditions:
    """All must hold; what is empty or None asks for nothing."""

    source_addresses: tuple[Network, ...] = ()
    hours: Hours | None = None
    not_before: datetime | None = None
    not_after: datetime | None = None
    instance_tags: Mapping[str, str] | None = None
    attestation: tuple[str, ...] = ()
    attested_within: timedelta | None = None


def check(conditions: Conditions, instance: Instance, source: str | None, now: datetime) -> datetime | None:
    """When the time in which the grant may be had ends (None: it does not). `source` is the peer's address.

    Raises Refusal `grant_refused`, with a `reason` of its own for each condition.
    """
    claims = instance.claims
    tags, checks = claims.get("tags", {}), claims.get("checks", ())
    closes = conditions.hours.end_of_window(now) if conditions.hours else None
    for reason, holds in (
        ("condition_source_address", not conditions.source_addresses or within(source, conditions.source_addresses)),
        ("condition_hours", conditions.hours is None or closes is not None),
        ("condition_not_before", conditions.not_before is None or now >= conditions.not_before),
        ("condition_not_after", conditions.not_after is None or now < conditions.not_after),
        ("condition_instance_tags", all(tags.get(k) == v for k, v in (conditions.instance_tags or {}).items())),
        ("condition_attestation", set(conditions.attestation) <= set(checks)),
        (
            "condition_attested_within",
            conditions.attested_within is None or now - instance.enrolled_at <= conditions.attested_within,
        ),
    ):
        if not holds:
            raise Refusal("grant_refused", "A condition of the grant does not hold", reason=reason)
    return min((end for end in (closes, conditions.not_after) if end is not None), default=None)


def within(source: str | None, networks: tuple[Network, ...]) -> bool:
    """Whether the peer's address is in one of these networks. What is no address is in none."""
    try:
        address = ipaddress.ip_address(source or "")
    except ValueError:
        return False
    plain = getattr(address, "ipv4_mapped", None) or address  # a dual-stack socket writes ::ffff:192.0.2.1
    return any(plain in network for network in networks)
