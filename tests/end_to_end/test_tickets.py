"""A ticket serves one key, once, in time, for whom it was made (A14, A16); the same key may ask again."""

import os
from collections import Counter
from contextlib import closing
from datetime import timedelta
from functools import partial
from http.client import HTTPSConnection
from pathlib import Path

import pytest

from deploy.demo.visitor import Answer, Visitor
from gateway.wire.messages import parse_instant
from tests.end_to_end.applicant import insist
from tests.end_to_end.counted import Counted, counted_fixture  # noqa: F401  # a fixture
from tests.end_to_end.crowd import (
    OwnWorld,
    all_send,
    at_once,
    enrollment,
    launch,
    order_ticket,
    second_node,
    wait_until,
)
from tests.end_to_end.world import OTHER_PROFILE, World

ROUNDS = int(os.environ.get("ROUNDS", "5"))  # 200 for a long run
CLIENTS = 64


def answer_lost() -> None:
    pytest.fail("a connection broke")


def redeemed(world: World, ticket_id: str) -> int:
    """How often, by the log, a ticket brought a new certificate."""
    records = [each for each in world.audit(kind="outcome", allowed=True) if each["facts"].get("ticket") == ticket_id]
    return sum(1 for record in records if record["reason"] != "given_again")


@pytest.mark.threat("A14")
@pytest.mark.timeout(240 + 20 * ROUNDS)
def test_A14_of_64_who_redeem_one_ticket_at_once_one_gets_in(counted: Counted, tmp_path: Path) -> None:
    """Over two gateways of two workers each; in turn with 64 copies of one document, and with 64 of their own."""
    world = counted.world
    own = launch(world, CLIENTS)
    with second_node(world, tmp_path / "second") as second:
        nodes = [world.site.instance, second.instance]
        chains, raced = set(), 0
        for turn in range(ROUNDS):
            ordered, (fresh,) = order_ticket(counted.operator), launch(world, 1)
            launched = own if turn % 2 else [fresh] * CLIENTS
            visitors = [Visitor(nodes[n % 2], world.root) for n in range(CLIENTS)]
            calls = [
                partial(insist, visitor, enrollment(visitor, each.document, ordered["ticket"]), answer_lost)
                for visitor, each in zip(visitors, launched, strict=True)
            ]
            for visitor in visitors:
                visitor.connect()
            answers = at_once(calls)
            for visitor in visitors:
                visitor.close()

            refused = [answer for answer in answers if answer.status != 201]
            assert len(refused) == CLIENTS - 1
            assert {(answer.status, answer.code) for answer in refused} == {(409, "ticket_used")}
            assert redeemed(world, ordered["id"]) == 1
            ids = {each.id for each in launched}
            (issued,) = [row for row in world.rows("certificate") if row["subject"].rpartition("/")[2] in ids]
            assert issued["state"] == "active"
            (ticket,) = world.rows("ticket", id=ordered["id"])
            assert (ticket["state"], ticket["serial"]) == ("redeemed", issued["serial"])
            records = world.audit(kind="decision", name="instance:certificate:enroll")
            decided = {record["request_id"]: record for record in records}
            assert len(decided) == len(records)
            theirs = [decided[answer.body["instance"].removeprefix("urn:uuid:")] for answer in refused]
            chains |= {record["chain"] for record in theirs}
            raced += sum(1 for record in theirs if record["allowed"])
            own = [fresh if issued["subject"].endswith(each.id) else each for each in own]
        assert len(chains) == 4, chains
        assert raced  # some found the ticket open, and were refused by the transaction that would have used it
        assert counted.healthy.call("GET", "/v1/grants").status == 200


def test_the_same_ticket_and_key_get_the_very_same_certificate(counted: Counted) -> None:
    world, visitor = counted.world, counted.world.visitor()
    launched, ordered = world.launch(), order_ticket(counted.operator)
    body = enrollment(visitor, launched.document, ordered["ticket"])
    first = visitor.call("POST", "/v1/enroll", body)
    assert first.status == 201
    before = world.everything_but_the_log()
    for again in (body, enrollment(visitor, launched.document, ordered["ticket"])):  # the same bytes, and a new CSR
        answer = world.visitor().call("POST", "/v1/enroll", again)
        assert (answer.status, answer.body) == (201, first.body)
    assert world.everything_but_the_log() == before
    assert redeemed(world, ordered["id"]) == 1

    thief = world.visitor()
    counted.refuses(lambda: thief.enroll(launched.document, ordered["ticket"]), 409, "ticket_used")
    # Not for another machine either, though it holds the key.
    counted.refuses(lambda: visitor.enroll(world.launch().document, ordered["ticket"]), 409, "ticket_used")
    assert visitor.enroll(launched.document, ordered["ticket"]).status == 201
    assert visitor.renew().status == 200
    counted.refuses(lambda: visitor.call("POST", "/v1/enroll", body), 409, "ticket_used")


def test_the_same_ticket_and_key_at_once_get_the_very_same_certificate(counted: Counted) -> None:
    world, ticket = counted.world, counted.ticket()
    visitors, document = [world.visitor() for _ in range(8)], world.launch().document
    bodies = [enrollment(visitors[0], document, ticket)] * 8
    answers = all_send(visitors, "/v1/enroll", bodies)
    assert {answer.status for answer in answers} == {201}
    assert len({answer.body["certificate"] for answer in answers}) == 1


@pytest.mark.threat("A16")
def test_A16_a_ticket_ends(counted: Counted) -> None:
    world, visitor = counted.world, counted.world.visitor()
    launched = world.launch()
    unused, used = (order_ticket(counted.operator, life=life) for life in (1, 30))
    assert visitor.enroll(launched.document, used["ticket"]).status == 201
    wait_until(parse_instant(unused["expires_at"]) + timedelta(seconds=1))  # which is written without its fraction
    late = world.visitor()
    counted.refuses(
        lambda: late.enroll(world.launch().document, unused["ticket"]), 401, "ticket_invalid", "ticket_expired"
    )
    assert visitor.enroll(launched.document, used["ticket"]).status == 201


@pytest.mark.threat("A16")
def test_A16_a_ticket_that_was_used_ends_too(counted: Counted) -> None:
    """Whoever lost the answer has its key, and comes back by that."""
    visitor, launched = counted.world.visitor(), counted.world.launch()
    for life in range(2, 60):  # a slow machine may not use it in time
        ordered = order_ticket(counted.operator, life=life)
        if visitor.enroll(launched.document, ordered["ticket"]).status == 201:
            break
    wait_until(parse_instant(ordered["expires_at"]) + timedelta(seconds=1))
    counted.refuses(
        lambda: visitor.enroll(launched.document, ordered["ticket"]), 401, "ticket_invalid", "ticket_expired"
    )
    assert visitor.come_back(launched.document).status == 201


@pytest.mark.threat("A16")
def test_A16_who_guesses_learns_nothing(counted: Counted) -> None:
    """Unknown, ended, revoked, another's: the same bytes. What it was is in the log."""
    world, visitor, launched = counted.world, counted.world.visitor(), counted.world.launch()
    revoked = world.enrolled()[0]
    withdrawn = counted.ticket(instance_id=revoked.id)
    world.site.cli("revoke", "instance", revoked.id)
    ended = order_ticket(counted.operator, life=1)
    wait_until(parse_instant(ended["expires_at"]) + timedelta(seconds=1))
    answers = []

    def ask(ticket: str) -> Answer:
        answers.append(visitor.enroll(launched.document, ticket))
        return answers[-1]

    for ticket, reason in (
        ("0" * 48, "ticket_unknown"),
        ("A", "ticket_unknown"),
        (counted.ticket().swapcase() + "x", "ticket_unknown"),
        (ended["ticket"], "ticket_expired"),
        (withdrawn, "ticket_revoked"),
        (counted.ticket(instance_id="i-00000000000000000"), "ticket_for_another_instance"),
    ):
        counted.refuses(partial(ask, ticket), 401, "ticket_invalid", reason)
    for answer in answers:
        answer.body.pop("instance")
        answer.headers.pop("date")
    first, *others = answers
    assert others == [first] * len(others)
    own = counted.ticket(instance_id=launched.id, profile=OTHER_PROFILE)
    assert visitor.enroll(launched.document, own).body["profile"] == OTHER_PROFILE


@pytest.mark.threat("A16")
def test_A16_guesses_are_limited(own_world: OwnWorld) -> None:
    """By address: who is in stays in, and who comes from elsewhere comes in."""
    with own_world(enrollment={}) as world:  # the default limits
        enrolled, document, ticket = world.enrolled()[1], world.launch().document, world.ticket()
        guessers = [world.visitor() for _ in range(8)]
        bodies = [enrollment(guesser, document, "0" * 48) for guesser in guessers]

        def guess(guesser: Visitor, body: bytes) -> Counter[tuple[int, str | None, str | None]]:
            answers = [guesser.call("POST", "/v1/enroll", body) for _ in range(125)]
            return Counter((answer.status, answer.code, answer.headers.get("retry-after")) for answer in answers)

        pairs = zip(guessers, bodies, strict=True)
        counts = sum(at_once([partial(guess, *pair) for pair in pairs]), Counter())
        evaluated = counts.pop((401, "ticket_invalid", None))
        assert 30 <= evaluated < 100
        assert counts == {(429, "too_many_requests", "60"): 1000 - evaluated}
        records = world.audit(kind="decision", name="instance:certificate:enroll", allowed=False)
        assert Counter(record["reason"] for record in records) == {
            "ticket_unknown": evaluated,
            "too_many_requests": 1000 - evaluated,
        }

        limited = world.visitor()
        body = enrollment(limited, document, ticket)
        assert limited.call("POST", "/v1/enroll", body).status == 429
        assert enrolled.call("GET", "/v1/grants").status == 200
        assert enrolled.renew().status == 200
        elsewhere = HTTPSConnection(world.site.instance, context=world.site.context(), source_address=("127.0.0.2", 0))
        with closing(elsewhere):
            elsewhere.request("POST", "/v1/enroll", body, {"Content-Type": "application/json"})
            assert elsewhere.getresponse().status == 201
