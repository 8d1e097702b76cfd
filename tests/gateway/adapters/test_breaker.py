"""The breaker: who does not answer is asked less and less, and one call at a time finds out when it answers again."""

from collections.abc import Callable

import pytest

from gateway.adapters.breaker import FIRST, LONGEST, PROBE, TOLERATED, Breaker, Breakers
from gateway.core.errors import Refusal


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker(clock, lambda: 1.0)


def ask(breaker: Breaker, refusal: Refusal | None = None) -> str:
    """What came of a call, which ends in `refusal`: "asked", or why it was not made."""
    asked = False
    try:
        with breaker.guarding():
            asked = True
            if refusal is not None:
                raise refusal
    except Refusal as found:
        return "asked" if asked else found.reason
    return "asked"


AWAY = Refusal("upstream_unavailable", reason="aws_later")


def break_it(breaker: Breaker) -> None:
    for _ in range(TOLERATED + 1):
        assert ask(breaker, AWAY) == "asked"


@pytest.mark.threat("D13")
def test_D13_some_failures_are_tolerated_and_more_are_not(breaker: Breaker, clock: Clock) -> None:
    break_it(breaker)
    assert ask(breaker) == "upstream_breaker_open"
    clock.now += FIRST - 0.01
    assert ask(breaker) == "upstream_breaker_open"
    clock.now += 0.02
    assert ask(breaker) == "asked"
    assert ask(breaker) == "asked", "an answer closes it"


def test_one_good_answer_between_failures_keeps_it_closed(breaker: Breaker) -> None:
    for _ in range(20):
        assert ask(breaker, AWAY) == "asked"
        assert ask(breaker) == "asked"


@pytest.mark.parametrize("code", ["upstream_refused", "internal_error"])
def test_a_no_is_an_answer(breaker: Breaker, code: str) -> None:
    for _ in range(20):
        assert ask(breaker, Refusal(code)) == "asked"


def test_our_own_wall_says_nothing_about_the_other_side(breaker: Breaker) -> None:
    for _ in range(20):
        assert ask(breaker, Refusal("upstream_unavailable", reason="upstream_busy")) == "asked"


@pytest.mark.threat("D13")
def test_D13_the_pauses_grow_and_have_an_end(breaker: Breaker, clock: Clock) -> None:
    break_it(breaker)
    pauses = []
    for _ in range(8):
        begun = clock.now
        while ask(breaker, AWAY) != "asked":
            clock.now += 0.05
        pauses.append(clock.now - begun)
    assert pauses == sorted(pauses)
    assert pauses[-1] == pytest.approx(LONGEST, abs=0.1), "recovery is noticed within this"


@pytest.mark.threat("D13")
def test_D13_when_it_may_be_asked_again_one_call_asks(breaker: Breaker, clock: Clock) -> None:
    break_it(breaker)
    clock.now += FIRST + 0.01
    with breaker.guarding():
        assert [ask(breaker) for _ in range(50)] == ["upstream_breaker_open"] * 50
    assert ask(breaker) == "asked"


def test_a_call_that_never_comes_back_does_not_shut_it_for_ever(breaker: Breaker, clock: Clock) -> None:
    break_it(breaker)
    clock.now += FIRST + 0.01
    lost = breaker.guarding()
    lost.__enter__()
    assert ask(breaker) == "upstream_breaker_open"
    clock.now += PROBE + 0.01
    assert ask(breaker) == "asked"


def test_half_of_a_pause_is_chance(clock: Clock) -> None:
    def pause(chance: Callable[[], float]) -> float:
        breaker, begun = Breaker(clock, chance), clock.now
        break_it(breaker)
        while ask(breaker) != "asked":
            clock.now += 0.01
        return clock.now - begun

    assert pause(lambda: 0.0) == pytest.approx(FIRST / 2, abs=0.02)
    assert pause(lambda: 1.0) == pytest.approx(FIRST, abs=0.02)


def test_a_retry_is_named(breaker: Breaker) -> None:
    break_it(breaker)
    with pytest.raises(Refusal) as caught, breaker.guarding():
        pass
    assert (caught.value.code, caught.value.retry_after) == ("upstream_unavailable", 1)


def test_each_thing_has_a_breaker_of_its_own(clock: Clock) -> None:
    breakers = Breakers(clock, lambda: 1.0)
    for _ in range(TOLERATED + 1):
        with pytest.raises(Refusal), breakers.of("sts", "us-east-1", "AKIA1"):
            raise AWAY
    with pytest.raises(Refusal) as caught, breakers.of("sts", "us-east-1", "AKIA1"):
        pass
    assert caught.value.reason == "upstream_breaker_open"
    for other in (("ec2", "us-east-1", "AKIA1"), ("sts", "eu-west-1", "AKIA1"), ("sts", "us-east-1", "AKIA2")):
        with breakers.of(*other):
            pass
