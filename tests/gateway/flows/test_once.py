"""A change happens once under its idempotency key: what is kept, what is free again, and what a crash leaves."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from gateway.core.audit import Kind, Name
from gateway.core.errors import Refusal
from gateway.core.model import Meter
from gateway.flows import once as flow
from gateway.flows.housekeeping import Housekeeping
from gateway.flows.journal import Call
from gateway.flows.once import DONE, UNDER_WAY, Once, Order
from tests.gateway.flows.conftest import Gateway

ORDER = Order("alice", "key-1", "a" * 64)
Done = Callable[[], Mapping[str, Any]]


@pytest.fixture
def once(gateway: Gateway) -> Once:
    return Once(gateway.store, gateway.journal, gateway.vault, gateway.time)


@pytest.fixture
def call(gateway: Gateway) -> Call:
    return gateway.call(Name.OPERATOR_TICKET_CREATE)


def doing(gateway: Gateway, call: Call, status: int = 201, refusal: Refusal | None = None) -> Done:
    """Count one up, with its decision; then answer, or refuse."""

    def do() -> Mapping[str, Any]:
        call.object = "ticket/t-1"

        def unit(tx: Any) -> None:
            count = len(tx.meters.find())
            assert tx.meters.add(Meter(f"done-{count}", gateway.time()))
            tx.audit.append(call.event(Kind.DECISION))

        gateway.journal.write(call, unit)
        if refusal:
            raise refusal
        return {"status": status, "headers": {}, "document": {"ticket": "a-secret"}}

    return do


def done(gateway: Gateway) -> int:
    with gateway.store.read() as tx:
        return len(tx.meters.find())


def kept(gateway: Gateway, order: Order = ORDER) -> Any:
    with gateway.store.read() as tx:
        return tx.answers.get(id=order.id)


def again(gateway: Gateway, once: Once, order: Order = ORDER) -> tuple[Mapping[str, Any], bool]:
    later = gateway.call(Name.OPERATOR_TICKET_CREATE)
    return once.answer(later, order, doing(gateway, later))


def test_the_same_request_again_gets_the_same_answer_and_does_nothing(gateway: Gateway, once: Once, call: Call) -> None:
    first, replayed = once.answer(call, ORDER, doing(gateway, call))
    assert not replayed
    assert again(gateway, once) == (first, True)
    assert done(gateway) == 1
    decided = [row for row in gateway.records() if row["name"] == "operator:ticket:create"]
    assert [(row["kind"], row["reason"], row["object"]) for row in decided] == [
        ("decision", "ok", "ticket/t-1"),
        ("decision", "answered_again", "ticket/t-1"),
    ]
    assert decided[1]["facts"] == {"first": call.request_id}


def test_the_answer_lies_sealed(gateway: Gateway, once: Once, call: Call) -> None:
    once.answer(call, ORDER, doing(gateway, call))
    row = kept(gateway)
    assert row.status == 201
    assert b"a-secret" not in row.sealed_answer
    other = Order("alice", "key-2", ORDER.request_sha256)
    moved = replace(row, id=other.id)
    assert gateway.store.write(lambda tx: tx.answers.add(moved))
    with pytest.raises(Refusal) as refused:
        again(gateway, once, other)
    assert refused.value.reason == "sealed_value_altered"


def test_another_request_under_the_same_key_is_refused(gateway: Gateway, once: Once, call: Call) -> None:
    once.answer(call, ORDER, doing(gateway, call))
    with pytest.raises(Refusal) as refused:
        again(gateway, once, Order("alice", "key-1", "b" * 64))
    assert refused.value.code == "idempotency_mismatch"
    assert done(gateway) == 1


def test_the_key_of_another_operator_is_another_key(gateway: Gateway, once: Once, call: Call) -> None:
    once.answer(call, ORDER, doing(gateway, call))
    assert not again(gateway, once, Order("bob", "key-1", ORDER.request_sha256))[1]
    assert not again(gateway, once, Order("alic", "e/key-1", ORDER.request_sha256))[1]
    assert done(gateway) == 3


def test_while_it_is_under_way_it_is_not_begun_again(gateway: Gateway, once: Once, call: Call) -> None:
    def slow() -> Mapping[str, Any]:
        with pytest.raises(Refusal) as refused:
            again(gateway, once)
        assert (refused.value.code, refused.value.reason, refused.value.retry_after) == ("conflict", "under_way", 1)
        return doing(gateway, call)()

    once.answer(call, ORDER, slow)
    assert done(gateway) == 1


def test_what_is_refused_may_be_tried_again(gateway: Gateway, once: Once, call: Call) -> None:
    def refuse() -> Mapping[str, Any]:
        raise Refusal("profile_unknown")

    with pytest.raises(Refusal):
        once.answer(call, ORDER, refuse)
    assert kept(gateway) is None
    assert not again(gateway, once)[1]


def test_what_is_refused_after_something_was_done_is_refused_again(gateway: Gateway, once: Once, call: Call) -> None:
    with pytest.raises(Refusal):
        once.answer(
            call, ORDER, doing(gateway, call, refusal=Refusal("upstream_refused", "AWS says no", faults=("a",)))
        )
    with pytest.raises(Refusal) as refused:
        again(gateway, once)
    assert (refused.value.code, refused.value.detail, refused.value.faults) == (
        "upstream_refused",
        "AWS says no",
        ("a",),
    )
    assert refused.value.reason == "answered_again"
    assert done(gateway) == 1


def test_what_resumes_is_run_again_after_a_refusal(gateway: Gateway, once: Once, call: Call) -> None:
    order = replace(ORDER, resumes=True)
    with pytest.raises(Refusal):
        once.answer(call, order, doing(gateway, call, refusal=Refusal("upstream_unavailable")))
    assert not again(gateway, once, order)[1]
    assert again(gateway, once, order)[1]
    assert done(gateway) == 2


def test_what_waits_for_a_second_person_is_not_kept(gateway: Gateway, once: Once, call: Call) -> None:
    once.answer(call, ORDER, doing(gateway, call, status=202))
    assert kept(gateway) is None


class Killed(BaseException):
    """As if the process ended here."""


def test_a_crash_before_anything_was_done_leaves_the_key_free_after_a_minute(
    gateway: Gateway, once: Once, call: Call
) -> None:
    def die() -> Mapping[str, Any]:
        raise Killed

    with pytest.raises(Killed):
        once.answer(call, ORDER, die)
    assert kept(gateway).status == UNDER_WAY
    with pytest.raises(Refusal):
        again(gateway, once)
    gateway.time.passes(flow.LOST)
    assert not again(gateway, once)[1]
    assert done(gateway) == 1


def test_a_crash_after_it_was_done_never_does_it_again(gateway: Gateway, once: Once, call: Call) -> None:
    def die() -> Mapping[str, Any]:
        doing(gateway, call)()
        raise Killed

    with pytest.raises(Killed):
        once.answer(call, ORDER, die)
    assert kept(gateway).status == DONE
    for reason in ("under_way", "answer_lost", "answer_lost"):
        with pytest.raises(Refusal) as refused:
            again(gateway, once)
        assert (refused.value.code, refused.value.reason) == ("conflict", reason)
        gateway.time.passes(flow.LOST)
    assert done(gateway) == 1


def test_who_was_thought_lost_does_nothing_any_more(gateway: Gateway, once: Once, call: Call) -> None:
    """The first is slow for longer than a minute; the second takes the key over; only one of them does it."""

    def slow() -> Mapping[str, Any]:
        gateway.time.passes(flow.LOST)
        assert not again(gateway, once)[1]
        return doing(gateway, call)()

    with pytest.raises(Refusal) as refused:
        once.answer(call, ORDER, slow)
    assert refused.value.reason == "under_way"
    assert done(gateway) == 1
    assert again(gateway, once)[1], "the answer of the second is kept"


def test_answers_are_forgotten_after_a_day(gateway: Gateway, once: Once, call: Call) -> None:
    once.answer(call, ORDER, doing(gateway, call))
    keeping = Housekeeping(gateway.publish, gateway.store, gateway.time)
    keeping.tick()
    assert kept(gateway) is not None
    gateway.time.passes(timedelta(hours=24))
    keeping.tick()
    assert kept(gateway) is None


def test_an_answer_that_is_over_is_not_given_again(gateway: Gateway, once: Once, call: Call) -> None:
    once.answer(call, ORDER, doing(gateway, call))
    gateway.time.passes(timedelta(hours=24))
    assert not again(gateway, once)[1]
    assert done(gateway) == 2
