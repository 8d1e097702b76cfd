"""A second person: who counts as one, for which request, once, and until when."""

import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from gateway.adapters import clock
from gateway.core import operator_document, rights
from gateway.core.approval import NEVER, WITH_ANY, ApprovalRules
from gateway.core.audit import Kind, Name
from gateway.core.errors import Refusal
from gateway.core.operator_model import Approval, ApprovalState, Operator, OperatorState, Role
from gateway.flows.admit import Admitted
from gateway.flows.approve import Approve, Request, Standing
from gateway.flows.housekeeping import Housekeeping
from gateway.ports import Transaction
from tests.gateway.flows.conftest import Gateway

ROTATE = Name.OPERATOR_KEY_ROTATE
RULES = ApprovalRules(2, ("operator:key:*",), timedelta(hours=1))
SHOWN = {"method": "POST", "path": "/v1/keys/main/rotate", "query": "", "body": None}


class Desk:
    """Requests for what needs two people, by one operator after another."""

    def __init__(self, gateway: Gateway, rules: ApprovalRules = RULES) -> None:
        self.gateway = gateway
        self.approve = Approve(gateway.store, gateway.journal, gateway.time, clock.random_bytes, rules)
        self.done = 0

    def person(self, name: str, *roles: str, **document: Any) -> None:
        row = Operator(name, {"roles": list(roles), **document}, 1, OperatorState.ACTIVE, self.gateway.time(), "")
        assert self.gateway.store.write(lambda tx: tx.operators.add(row))

    def becomes(self, name: str, **change: Any) -> None:
        with self.gateway.store.read() as tx:
            row = tx.operators.get(name=name)
        assert row
        assert self.gateway.store.write(lambda tx: tx.operators.swap(row, replace(row, **change)))

    def by(self, name: str) -> Admitted:
        with self.gateway.store.read() as tx:
            row, known = tx.operators.get(name=name), rights.known(tx.roles.find())
        assert row
        return Admitted(row, rights.of(operator_document.operator(row.document), known))

    def ask(
        self, approval: str | None = None, *, by: str = "alice", sha256: str = "a" * 64, permission: Name = ROTATE
    ) -> Standing | None:
        """Send a request as the desk does: wait, or do it."""
        with self.gateway.journal.call(permission, clock.request_id(), "127.0.0.1") as call:
            waiting = self.approve.demand(call, self.by(by), Request(sha256, SHOWN, approval))
            if waiting is None:
                self.gateway.journal.write(call, lambda tx: tx.audit.append(call.event(Kind.DECISION)))
                self.done += 1
            return waiting

    def asked(self, **more: Any) -> str:
        waiting = self.ask(**more)
        assert waiting
        return waiting.approval.id

    def give(self, id_: str, by: str) -> Standing:
        call = self.gateway.call(Name.OPERATOR_APPROVAL_GIVE)
        return self.approve.give(call, self.by(by), id_)

    def refuse(self, id_: str, by: str) -> Standing:
        call = self.gateway.call(Name.OPERATOR_APPROVAL_REFUSE)
        return self.approve.refuse(call, self.by(by), id_)

    def seen(self, by: str) -> list[str]:
        call = self.gateway.call(Name.OPERATOR_APPROVAL_LIST)
        return [each.approval.id for each in self.approve.open(call, self.by(by), after=None, limit=100)]

    def row(self, id_: str) -> Approval | None:
        with self.gateway.store.read() as tx:
            return tx.approvals.get(id=id_)


@pytest.fixture
def desk(gateway: Gateway) -> Desk:
    """Alice and bob are administrators, carol watches."""
    made = Desk(gateway)
    made.person("bob", "administrator")
    made.person("carol", "monitor")
    return made


def refusal(do: Callable[..., object], *args: Any, **more: Any) -> tuple[str, str]:
    with pytest.raises(Refusal) as found:
        do(*args, **more)
    return found.value.code, found.value.reason


def test_two_people_do_what_one_could_not(desk: Desk) -> None:
    id_ = desk.asked()
    assert desk.done == 0
    record = desk.gateway.records()[-1]
    assert (record["allowed"], record["reason"], record["object"]) == (False, "approval_needed", f"approval/{id_}")
    assert desk.give(id_, "bob").given == 2
    assert desk.ask(id_) is None
    assert desk.done == 1
    row = desk.row(id_)
    assert row
    assert row.state is ApprovalState.SPENT
    assert refusal(desk.ask, id_) == ("approval_refused", "approval_spent")
    assert desk.done == 1


def test_what_no_setting_names_needs_nobody(desk: Desk) -> None:
    assert desk.ask(permission=Name.OPERATOR_INSTANCE_REVOKE) is None
    assert desk.done == 1
    assert Desk(desk.gateway, ApprovalRules()).ask() is None


def test_the_same_request_again_waits_with_the_first(desk: Desk) -> None:
    id_ = desk.asked()
    assert desk.asked() == id_
    assert desk.asked(sha256="b" * 64) != id_
    assert desk.asked(by="bob") != id_
    waiting = desk.ask(id_)
    assert waiting
    assert (waiting.given, waiting.needed) == (1, 2)


# Who counts


def test_who_asks_is_no_second_person(desk: Desk) -> None:
    id_ = desk.asked()
    assert refusal(desk.give, id_, "alice") == ("operator_forbidden", "own_request")
    assert desk.ask(id_) is not None


def test_one_person_is_one_however_often(gateway: Gateway) -> None:
    desk = Desk(gateway, replace(RULES, count=3))
    for name in ("bob", "dave"):
        desk.person(name, "administrator")
    id_ = desk.asked()
    assert desk.give(id_, "bob").given == 2
    assert desk.give(id_, "bob").given == 2
    assert gateway.records()[-1]["reason"] == "already_given"
    assert desk.ask(id_) is not None
    assert desk.give(id_, "dave").given == 3
    assert desk.ask(id_) is None


def test_who_could_not_do_it_cannot_agree_to_it(desk: Desk) -> None:
    id_ = desk.asked()
    assert refusal(desk.give, id_, "carol") == ("operator_forbidden", "permission_missing")
    assert refusal(desk.refuse, id_, "carol") == ("operator_forbidden", "permission_missing")
    assert desk.seen("carol") == []
    assert desk.seen("alice") == desk.seen("bob") == [id_]


def test_who_may_do_it_somewhere_cannot_agree_to_it_anywhere(gateway: Gateway) -> None:
    desk = Desk(gateway, ApprovalRules(2, ("operator:server:terminate",)))
    document = {"permissions": ["operator:server:*"], "regions": ["eu-central-1"]}
    gateway.store.write(lambda tx: tx.roles.add(Role("berlin", document, 1, gateway.time(), "")))
    desk.person("bob", "berlin")
    id_ = desk.asked(permission=Name.OPERATOR_SERVER_TERMINATE)
    assert refusal(desk.give, id_, "bob") == ("operator_forbidden", "permission_missing")


@pytest.mark.parametrize(
    "change", [{"state": OperatorState.REVOKED}, {"document": {"roles": ["monitor"]}}, {"document": {"odd": 1}}]
)
def test_who_is_revoked_or_demoted_meanwhile_does_not_count(desk: Desk, change: dict[str, Any]) -> None:
    id_ = desk.asked()
    desk.give(id_, "bob")
    desk.becomes("bob", **change)
    waiting = desk.ask(id_)
    assert waiting
    assert (waiting.given, desk.done) == (1, 0)


def test_who_is_revoked_between_the_look_and_the_deed_does_not_count(desk: Desk) -> None:
    id_ = desk.asked()
    desk.give(id_, "bob")

    def late() -> None:
        with desk.gateway.journal.call(ROTATE, clock.request_id(), None) as call:
            assert desk.approve.demand(call, desk.by("alice"), Request("a" * 64, SHOWN, id_)) is None
            desk.becomes("bob", state=OperatorState.REVOKED)
            desk.gateway.journal.allow(call)

    assert refusal(late) == ("approval_refused", "approval_withdrawn")
    last = desk.gateway.records()[-1]
    assert (last["kind"], last["allowed"]) == ("decision", False)


# For what, and when


@pytest.mark.parametrize(
    ("change", "reason"),
    [({"sha256": "b" * 64}, "approval_other_request"), ({"by": "bob"}, "approval_unknown")],
)
def test_an_approval_is_of_one_request_by_one_person(desk: Desk, change: dict[str, str], reason: str) -> None:
    id_ = desk.asked()
    desk.give(id_, "bob")
    assert refusal(desk.ask, id_, **change) == ("approval_refused", reason)
    assert refusal(desk.ask, "ap-0000000000000000") == ("approval_refused", "approval_unknown")
    assert desk.ask(id_) is None


def test_an_approval_ends(desk: Desk) -> None:
    id_ = desk.asked()
    desk.give(id_, "bob")
    desk.gateway.time.passes(timedelta(hours=1))
    assert refusal(desk.ask, id_) == ("approval_refused", "approval_expired")
    assert refusal(desk.give, id_, "bob")[0] == "approval_unknown"
    assert desk.seen("bob") == []
    assert desk.asked() != id_


def test_a_no_is_final(desk: Desk) -> None:
    id_ = desk.asked()
    desk.give(id_, "bob")
    desk.refuse(id_, "bob")
    assert refusal(desk.ask, id_) == ("approval_refused", "approval_refused")
    assert refusal(desk.give, id_, "bob") == ("conflict", "approval_refused")
    again = desk.asked()
    assert again != id_
    desk.refuse(again, "alice")
    assert refusal(desk.ask, again)[1] == "approval_refused"


def test_it_is_spent_once_by_many_at_the_same_moment(desk: Desk) -> None:
    id_ = desk.asked()
    desk.give(id_, "bob")
    ready, came = threading.Barrier(8), []

    def go() -> None:
        with desk.gateway.journal.call(ROTATE, clock.request_id(), None) as call:
            assert desk.approve.demand(call, desk.by("alice"), Request("a" * 64, SHOWN, id_)) is None
            ready.wait()
            try:
                desk.gateway.journal.allow(call)
                came.append("done")
            except Refusal as refusal:
                came.append(refusal.reason)

    threads = [threading.Thread(target=go) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert sorted(came) == ["approval_spent"] * 7 + ["done"]


def test_what_is_refused_later_spends_nothing(desk: Desk) -> None:
    id_ = desk.asked()
    desk.give(id_, "bob")

    def refused() -> None:
        with desk.gateway.journal.call(ROTATE, clock.request_id(), None) as call:
            assert desk.approve.demand(call, desk.by("alice"), Request("a" * 64, SHOWN, id_)) is None
            raise Refusal("upstream_key_unknown")

    assert refusal(refused)[0] == "upstream_key_unknown"
    assert desk.ask(id_) is None


def test_what_else_belongs_to_the_decision_happens_too(desk: Desk) -> None:
    id_ = desk.asked()
    desk.give(id_, "bob")
    seen: list[Transaction] = []
    with desk.gateway.journal.call(ROTATE, clock.request_id(), None) as call:
        call.alongside = seen.append
        assert desk.approve.demand(call, desk.by("alice"), Request("a" * 64, SHOWN, id_)) is None
        desk.gateway.journal.allow(call)
    assert len(seen) == 1


def test_what_belongs_to_the_deed_does_not_happen_while_it_waits(desk: Desk) -> None:
    seen: list[Transaction] = []
    with desk.gateway.journal.call(ROTATE, clock.request_id(), None) as call:
        call.alongside = seen.append
        assert desk.approve.demand(call, desk.by("alice"), Request("a" * 64, SHOWN)) is not None
    assert seen == []


# The setting


@pytest.mark.parametrize("permission", sorted(NEVER))
def test_nothing_makes_an_approval_or_a_sign_in_wait(permission: Name) -> None:
    assert not ApprovalRules(2, ("operator:*:*", permission.value)).ask_for(permission)


@pytest.mark.parametrize("permission", sorted(WITH_ANY))
def test_no_one_person_makes_the_second_one(permission: Name) -> None:
    assert RULES.ask_for(permission)
    assert not ApprovalRules().ask_for(permission)


def test_nobody_fills_the_store_with_requests(desk: Desk) -> None:
    for i in range(100):
        desk.asked(sha256=f"{i:064x}")
    assert refusal(desk.ask, sha256="f" * 64)[0] == "too_many_requests"
    assert desk.asked(by="bob")


def test_what_is_long_over_is_forgotten(desk: Desk) -> None:
    id_ = desk.asked()
    desk.gateway.time.passes(timedelta(hours=24))
    keeping = Housekeeping(desk.gateway.publish, desk.gateway.store, desk.gateway.time)
    keeping.tick()
    assert desk.row(id_)
    desk.gateway.time.passes(timedelta(hours=1))
    keeping.tick()
    assert desk.row(id_) is None


def test_a_star_is_for_what_is_done_and_not_for_a_look() -> None:
    """Else `operator:key:*` would ask a second person for each `key list`."""
    rules = ApprovalRules(2, ("operator:key:*", "operator:*:*", "operator:audit:read"))
    assert rules.ask_for(Name.OPERATOR_KEY_ROTATE)
    assert rules.ask_for(Name.OPERATOR_AUDIT_EXPORT)
    assert rules.ask_for(Name.OPERATOR_AUDIT_READ), "it is named"
    for look in (Name.OPERATOR_KEY_LIST, Name.OPERATOR_GATEWAY_STATUS, Name.OPERATOR_API_READ):
        assert not rules.ask_for(look)
