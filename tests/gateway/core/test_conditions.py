"""When a grant may be had: each condition at its boundary, and on the other side of it."""

import ipaddress
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from typing import Any

import pytest

from gateway.core.conditions import CHECKS, DAYS, Conditions, Hours, check
from gateway.core.errors import Refusal
from gateway.core.model import Instance
from tests.gateway.core.rows import INSTANCE, NOW

CLAIMS = {"tags": {"env": "prod", "team": ""}, "checks": ["identity_document", "source_address"]}
PROVED = replace(INSTANCE, claims=CLAIMS)
SECOND = timedelta(seconds=1)


def refused(
    conditions: Conditions, instance: Instance = PROVED, source: str | None = "10.1.2.3", now: datetime = NOW
) -> str | None:
    """Why; None when it is not."""
    try:
        check(conditions, instance, source, now)
    except Refusal as refusal:
        return refusal.reason if refusal.code == "grant_refused" else refusal.code
    return None


def networks(*written: str) -> Conditions:
    return Conditions(source_addresses=tuple(map(ipaddress.ip_network, written)))


def test_no_conditions_ask_for_nothing() -> None:
    assert check(Conditions(), INSTANCE, None, NOW) is None


@pytest.mark.parametrize(
    ("source", "holds"),
    [
        ("10.1.0.0", True),
        ("10.1.255.255", True),
        ("10.2.0.0", False),
        ("10.0.255.255", False),
        ("::ffff:10.1.2.3", True),  # as a dual-stack socket writes it
        ("::ffff:10.2.0.0", False),
        ("2001:db8::1", True),
        ("2001:db9::1", False),
        ("::10.1.2.3", False),
        (None, False),
        ("", False),
        ("10.1.2.3 ", False),
        ("010.1.2.3", False),
        ("10.1.2.3/32", False),
        ("localhost", False),
    ],
)
def test_source_addresses(source: str | None, holds: bool) -> None:
    found = refused(networks("10.1.0.0/16", "2001:db8::/32"), source=source)
    assert found == (None if holds else "condition_source_address")


def at(day: int, hour: int, minute: int = 0, second: int = 0) -> datetime:
    """In November 2026; the 23rd is a Monday."""
    return datetime(2026, 11, day, hour, minute, second, tzinfo=UTC)


OFFICE = Hours(DAYS[:5], time(8), time(18))
NIGHT = Hours(("sun",), time(22), time(6, 30))
WEEK = Hours(DAYS[:5], time(0), time(0))


@pytest.mark.parametrize(
    ("hours", "now", "closes"),
    [
        (OFFICE, at(23, 7, 59, 59), None),
        (OFFICE, at(23, 8), at(23, 18)),
        (OFFICE, at(23, 17, 59, 59), at(23, 18)),
        (OFFICE, at(23, 18), None),
        (OFFICE, at(27, 12), at(27, 18)),
        (OFFICE, at(28, 12), None),  # Saturday
        (OFFICE, at(29, 12), None),
        (NIGHT, at(22, 21, 59, 59), None),
        (NIGHT, at(22, 22), at(23, 6, 30)),
        (NIGHT, at(22, 23, 59, 59), at(23, 6, 30)),
        (NIGHT, at(23, 0), at(23, 6, 30)),  # of Sunday's window
        (NIGHT, at(23, 6, 29, 59), at(23, 6, 30)),
        (NIGHT, at(23, 6, 30), None),
        (NIGHT, at(22, 1), None),  # it would be Saturday's
        (NIGHT, at(23, 22), None),
        (WEEK, at(23, 0), at(28, 0)),  # windows that touch are one
        (WEEK, at(25, 23, 59, 59), at(28, 0)),
        (WEEK, at(28, 0), None),
        (Hours(DAYS, time(9), time(9)), at(23, 9), at(30, 9)),  # without an end: a week is far enough
        (Hours(DAYS, time(9), time(8, 59)), at(23, 8, 59), None),
    ],
)
def test_hours(hours: Hours, now: datetime, closes: datetime | None) -> None:
    assert hours.end_of_window(now) == closes
    assert refused(Conditions(hours=hours), now=now) == (None if closes else "condition_hours")
    if closes:
        assert check(Conditions(hours=hours), PROVED, None, now) == closes


def test_hours_are_utc_in_summer_too() -> None:
    """They do not follow any clock on a wall."""
    for month in (1, 7):
        opens = datetime(2026, month, 1, 8, tzinfo=UTC)
        assert refused(Conditions(hours=Hours(DAYS, time(8), time(18))), now=opens) is None
        assert refused(Conditions(hours=Hours(DAYS, time(8), time(18))), now=opens - SECOND) == "condition_hours"


@pytest.mark.parametrize(
    ("conditions", "now", "reason"),
    [
        (Conditions(not_before=NOW), NOW, None),
        (Conditions(not_before=NOW), NOW - SECOND, "condition_not_before"),
        (Conditions(not_after=NOW), NOW - SECOND, None),
        (Conditions(not_after=NOW), NOW, "condition_not_after"),
        (Conditions(attested_within=timedelta(hours=1)), NOW + timedelta(hours=1), None),
        (
            Conditions(attested_within=timedelta(hours=1)),
            NOW + timedelta(hours=1) + SECOND,
            "condition_attested_within",
        ),
    ],
)
def test_times(conditions: Conditions, now: datetime, reason: str | None) -> None:
    assert refused(conditions, now=now) == reason


def test_the_first_end_counts() -> None:
    monday = at(23, 12)
    assert check(Conditions(hours=OFFICE, not_after=at(23, 13)), PROVED, None, monday) == at(23, 13)
    assert check(Conditions(hours=OFFICE, not_after=at(24, 13)), PROVED, None, monday) == at(23, 18)
    assert check(Conditions(not_after=at(24, 13)), PROVED, None, monday) == at(24, 13)
    assert check(Conditions(not_before=at(1, 1)), PROVED, None, monday) is None


@pytest.mark.parametrize(
    ("wanted", "holds"),
    [
        ({"env": "prod"}, True),
        ({"env": "prod", "team": ""}, True),
        ({"env": "Prod"}, False),
        ({"Env": "prod"}, False),  # EC2's tag keys have a case
        ({"env": "prod", "absent": "x"}, False),
        ({"absent": ""}, False),
    ],
)
def test_tags(wanted: dict[str, str], holds: bool) -> None:
    assert refused(Conditions(instance_tags=wanted)) == (None if holds else "condition_instance_tags")


@pytest.mark.parametrize(
    ("wanted", "holds"),
    [
        (("identity_document",), True),
        (("identity_document", "source_address"), True),
        (("identity_document", "root_volume"), False),
        (("instance_ticket",), False),
        (("trust_anchor",), False),
    ],
)
def test_attestation(wanted: tuple[str, ...], holds: bool) -> None:
    assert set(wanted) <= CHECKS.keys()
    assert refused(Conditions(attestation=wanted)) == (None if holds else "condition_attestation")


@pytest.mark.parametrize("claims", [{}, {"tags": {}, "checks": []}])
def test_what_was_never_attested_fails_closed(claims: dict[str, Any]) -> None:
    """Instances that came in before these were kept have none of them."""
    old = replace(INSTANCE, claims=claims)
    assert refused(Conditions(instance_tags={"env": "prod"}), old) == "condition_instance_tags"
    assert refused(Conditions(attestation=("identity_document",)), old) == "condition_attestation"


def test_all_must_hold() -> None:
    both = Conditions(instance_tags={"env": "prod"}, not_before=NOW)
    assert refused(both) is None
    assert refused(both, now=NOW - SECOND) == "condition_not_before"
    assert refused(both, INSTANCE) == "condition_instance_tags"
