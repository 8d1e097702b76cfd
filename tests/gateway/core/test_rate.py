"""Rates: at once what fits, then evenly; what was refused costs nothing."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.rate import Rate, parse_rate

NOW = datetime(2026, 11, 23, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def test_ten_at_once_then_one_every_six_seconds() -> None:
    rate, until = Rate(10, timedelta(minutes=1)), None
    for _ in range(10):
        until, wait = rate.take(until, NOW)
        assert not wait
    _, wait = rate.take(until, NOW)
    assert wait == 6 * SECOND
    _, wait = rate.take(until, NOW + 5 * SECOND)
    assert wait == SECOND
    until, wait = rate.take(until, NOW + 6 * SECOND)
    assert not wait
    _, wait = rate.take(until, NOW + 6 * SECOND)
    assert wait


def test_one_that_is_larger_than_the_limit_is_taken_alone_and_paid_for_afterwards() -> None:
    rate = Rate(100, timedelta(minutes=1))
    until, wait = rate.take(None, NOW, 300)
    assert not wait
    assert rate.take(until, NOW + timedelta(seconds=119), 1)[1]
    assert not rate.take(until, NOW + timedelta(seconds=121), 1)[1]


def test_what_was_had_already_is_owed() -> None:
    rate = Rate(100, timedelta(minutes=1))
    until = rate.owe(None, NOW, 150)
    assert rate.take(until, NOW, 0)[1] == 30 * SECOND
    assert not rate.take(until, NOW + 30 * SECOND, 0)[1]


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(1, 5)), max_size=60), st.integers(1, 20))
def test_in_no_window_more_than_twice_the_amount(steps: list[tuple[int, int]], amount: int) -> None:
    """A period, wherever it begins, holds at most the burst and what flowed in meanwhile."""
    rate, until, now, taken = Rate(amount, timedelta(minutes=1)), None, NOW, []
    for seconds, cost in steps:
        now += seconds * SECOND
        cost = min(cost, amount)
        ahead, wait = rate.take(until, now, cost)
        if not wait:
            until = ahead
            taken.append((now, cost))
        else:
            assert not rate.take(until, now + wait, cost)[1]
    for begin, _ in taken:
        window = sum(cost for moment, cost in taken if begin <= moment < begin + timedelta(minutes=1))
        assert window <= 2 * amount


@pytest.mark.parametrize(
    ("written", "amount", "seconds"),
    [("1/second", 1, 1), ("100/minute", 100, 60), ("5GB/hour", 5 * 10**9, 3600), ("3KB/day", 3000, 86400)],
)
def test_how_a_rate_is_written(written: str, amount: int, seconds: int) -> None:
    assert parse_rate(written) == Rate(amount, timedelta(seconds=seconds))


@pytest.mark.parametrize(
    "written", ["", "0/minute", "5", "5/fortnight", "5 GB/hour", "-1/hour", "5gb/hour", "5/minute "]
)
def test_what_is_no_rate(written: str) -> None:
    with pytest.raises(ValueError, match="is written like"):
        parse_rate(written)
