from dataclasses import replace
from datetime import timedelta

import pytest

from gateway.core.admission import check_newcomer, check_return, check_ticket
from gateway.core.errors import Refusal
from gateway.core.model import Instance, InstanceState, Ticket, TicketState
from tests.gateway.core.rows import INSTANCE, KEY, NOW, OTHER_KEY, TICKET

REDEEMED = replace(TICKET, state=TicketState.REDEEMED, key_sha256=KEY)
REVOKED = replace(INSTANCE, state=InstanceState.REVOKED, revoked_at=NOW)
ALLOWED = replace(INSTANCE, reenroll_until=NOW + timedelta(minutes=15))


@pytest.mark.threat("A16")
@pytest.mark.parametrize(
    ("ticket", "when", "code", "reason"),
    [
        (None, 0, "ticket_invalid", "ticket_unknown"),
        (replace(TICKET, state=TicketState.REVOKED), 0, "ticket_invalid", "ticket_revoked"),
        (replace(TICKET, instance_id="i-0def0def"), 0, "ticket_invalid", "ticket_for_another_instance"),
        (TICKET, 900, "ticket_invalid", "ticket_expired"),
        (TICKET, 901, "ticket_invalid", "ticket_expired"),
        (replace(REDEEMED, key_sha256=OTHER_KEY), 0, "ticket_used", "ticket_used"),
    ],
)
def test_A16_tickets_that_are_refused(ticket: Ticket | None, when: int, code: str, reason: str) -> None:
    with pytest.raises(Refusal) as caught:
        check_ticket(ticket, "i-0abc0abc", KEY, NOW + timedelta(seconds=when))
    assert (caught.value.code, caught.value.reason) == (code, reason)


@pytest.mark.threat("A16")
@pytest.mark.parametrize("ticket", [TICKET, REDEEMED, replace(TICKET, instance_id="i-0abc0abc")])
def test_A16_tickets_that_are_good_until_a_second_before_their_end(ticket: Ticket) -> None:
    assert check_ticket(ticket, "i-0abc0abc", KEY, NOW + timedelta(seconds=899)) is ticket


def test_a_wrong_ticket_teaches_nothing() -> None:
    answers = set()
    for ticket in (None, replace(TICKET, state=TicketState.REVOKED), replace(TICKET, instance_id="i-0def0def")):
        with pytest.raises(Refusal) as caught:
            check_ticket(ticket, "i-0abc0abc", KEY, NOW)
        answers.add((caught.value.code, caught.value.detail, str(caught.value)))
    assert len(answers) == 1


BY_NAME = replace(TICKET, instance_id="i-0abc0abc", created_at=NOW + timedelta(seconds=1))


@pytest.mark.threat("A12")
@pytest.mark.parametrize(
    ("instance", "ticket", "key", "code"),
    [
        (INSTANCE, TICKET, OTHER_KEY, "instance_enrolled"),
        (INSTANCE, BY_NAME, OTHER_KEY, "instance_enrolled"),
        (REVOKED, TICKET, KEY, "instance_revoked"),
        (REVOKED, TICKET, OTHER_KEY, "instance_revoked"),
        (REVOKED, replace(BY_NAME, created_at=NOW - timedelta(seconds=1)), KEY, "instance_revoked"),
        (replace(ALLOWED, reenroll_until=NOW), TICKET, OTHER_KEY, "instance_enrolled"),
    ],
)
def test_A12_who_is_in_or_was_thrown_out_does_not_come_in_by_any_ticket(
    instance: Instance, ticket: Ticket, key: str, code: str
) -> None:
    with pytest.raises(Refusal) as caught:
        check_newcomer(instance, ticket, key, NOW)
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("instance", "ticket", "key"),
    [
        (None, TICKET, KEY),
        (INSTANCE, TICKET, KEY),
        (ALLOWED, TICKET, OTHER_KEY),
        (REVOKED, BY_NAME, OTHER_KEY),
    ],
)
def test_who_may_come_in(instance: Instance | None, ticket: Ticket, key: str) -> None:
    check_newcomer(instance, ticket, key, NOW)


@pytest.mark.parametrize(
    ("instance", "key", "code"),
    [
        (None, KEY, "proof_refused"),
        (REVOKED, KEY, "instance_revoked"),
        (INSTANCE, OTHER_KEY, "instance_enrolled"),
        (replace(REVOKED, reenroll_until=NOW + timedelta(minutes=5)), OTHER_KEY, "instance_revoked"),
    ],
)
def test_who_may_not_return_without_a_ticket(instance: Instance | None, key: str, code: str) -> None:
    with pytest.raises(Refusal) as caught:
        check_return(instance, key, NOW)
    assert caught.value.code == code


def test_who_may_return_without_a_ticket() -> None:
    assert check_return(INSTANCE, KEY, NOW) is INSTANCE
    assert check_return(ALLOWED, OTHER_KEY, NOW) is ALLOWED
