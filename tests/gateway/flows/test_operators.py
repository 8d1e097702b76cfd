"""Who comes in, what they may do, and what nobody can do to themselves or to those above them."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from cryptography import x509

from certs import csr, keys
from gateway.core import operator_document, rights
from gateway.core.audit import Name
from gateway.core.errors import Refusal
from gateway.core.model import CertificateState
from gateway.core.operator_document import RoleRules
from gateway.core.operator_model import Operator, OperatorState
from gateway.core.precondition import Expected
from gateway.core.revocation import Target
from gateway.flows.admit import Admitted
from gateway.flows.initialize import CertifyOperator
from gateway.flows.operators import Bundle, Operators, Roles
from tests.gateway.flows.conftest import Gateway

ADMINISTRATOR = {"roles": ["administrator"]}
SERVERS = {"permissions": ["operator:server:*", "operator:operator:*", "operator:role:*"]}


class Desk:
    """The flows, as one operator after another uses them."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.operators = Operators(gateway.store, gateway.journal, gateway.issue, gateway.time, "td")
        self.roles = Roles(gateway.store, gateway.journal, gateway.time)

    def by(self, name: str = "alice") -> Admitted:
        """Somebody at the desk, with all roles."""
        row = self.row(name)
        with self.gateway.store.read() as tx:
            known = rights.known(tx.roles.find())
        return Admitted(row, rights.of(operator_document.operator(row.document), known))

    def row(self, name: str) -> Operator:
        with self.gateway.store.read() as tx:
            found = tx.operators.get(name=name)
        assert found
        return found

    def add(self, name: str, document: dict[str, Any], by: str = "alice", request: str | None = None) -> Bundle:
        call = self.gateway.call(Name.OPERATOR_OPERATOR_ADD)
        with self.gateway.journal.call(call.name, call.request_id, call.source) as call:
            return self.operators.add(call, self.by(by), name, document, request or csr.make(keys.generate()))

    def change(self, name: str, document: dict[str, Any], by: str = "alice", **more: Any) -> Operator:
        call = self.gateway.call(Name.OPERATOR_OPERATOR_CHANGE)
        return self.operators.change(call, self.by(by), name, document, **more)

    def certify(self, name: str, by: str = "alice", request: str | None = None) -> Bundle:
        call = self.gateway.call(Name.OPERATOR_CERTIFICATE_ISSUE)
        return self.operators.certify(call, self.by(by), name, request or csr.make(keys.generate()))

    def apply(self, name: str, document: dict[str, Any], by: str = "alice", **more: Any) -> None:
        self.roles.apply(self.gateway.call(Name.OPERATOR_ROLE_APPLY), self.by(by), name, document, **more)

    def remove(self, name: str) -> None:
        self.roles.remove(self.gateway.call(Name.OPERATOR_ROLE_REMOVE), self.by(), name)


@pytest.fixture
def desk(gateway: Gateway) -> Desk:
    return Desk(gateway)


def refusal(do: Callable[..., object], *args: Any, **more: Any) -> tuple[str, str]:
    with pytest.raises(Refusal) as found:
        do(*args, **more)
    return found.value.code, found.value.reason


def test_a_person_comes_in_by_a_key_that_nobody_else_sees(desk: Desk) -> None:
    key = keys.generate()
    made = desk.add("bob", {"roles": ["monitor"]}, request=csr.make(key))
    certificate = x509.load_der_x509_certificate(made.certificate.der)
    assert certificate.public_key() == key.public_key()
    assert made.certificate.subject == "spiffe://td/operator/bob"
    assert (made.certificate.not_after - desk.gateway.time()).total_seconds() == pytest.approx(12 * 3600, abs=1)
    record = next(each for each in desk.gateway.records() if each["name"] == "operator:operator:add")
    assert (record["object"], record["facts"]["document"]) == ("operator/bob", {"roles": ["monitor"]})


@pytest.mark.parametrize(
    ("name", "document", "refused"),
    [
        ("alice", {"roles": ["monitor"]}, ("conflict", "operator_exists")),
        ("self", {"roles": ["monitor"]}, ("operator_invalid", "operator_invalid")),
        ("bob", {"roles": ["nobody-made-this"]}, ("operator_invalid", "operator_invalid")),
        ("bob", {"roles": ["monitor", "monitor"]}, ("operator_invalid", "operator_invalid")),
        ("bob", {"roles": ["monitor"], "hours": ["never"]}, ("operator_invalid", "operator_invalid")),
    ],
)
def test_who_does_not_come_in(desk: Desk, name: str, document: dict[str, Any], refused: tuple[str, str]) -> None:
    before = desk.gateway.store
    with before.read() as tx:
        rows = tx.operators.find(), tx.certificates.find()
    assert refusal(desk.add, name, document) == refused
    with before.read() as tx:
        assert (tx.operators.find(), tx.certificates.find()) == rows
    assert desk.gateway.records()[-1]["allowed"] is False


def test_a_revoked_name_is_never_given_again(desk: Desk) -> None:
    desk.add("bob", {"roles": ["monitor"]})
    row = desk.row("bob")
    desk.gateway.store.write(lambda tx: tx.operators.swap(row, replace(row, state=OperatorState.REVOKED)))
    assert refusal(desk.add, "bob", {"roles": ["monitor"]}) == ("conflict", "operator_exists")
    assert refusal(desk.change, "bob", {"roles": ["monitor"]}) == ("conflict", "operator_revoked")
    assert refusal(desk.certify, "bob") == ("conflict", "operator_revoked")


def test_one_key_is_one_persons(desk: Desk) -> None:
    request = csr.make(keys.generate())
    desk.add("bob", {"roles": ["monitor"]}, request=request)
    assert refusal(desk.add, "eve", {"roles": ["monitor"]}, request=request) == ("csr_refused", "csr_key_of_another")
    assert refusal(desk.certify, "alice", request=request) == ("csr_refused", "csr_key_of_another")
    desk.certify("bob", request=request)


@pytest.mark.parametrize("name", ["nobody", "Alice", "alice ", "../alice"])
def test_who_is_nobody_gets_no_certificate(desk: Desk, name: str) -> None:
    assert refusal(desk.certify, name)[0] == "operator_unknown"


def test_a_new_certificate_ends_the_one_before(desk: Desk) -> None:
    first = desk.add("bob", {"roles": ["monitor"]}).certificate
    second = desk.certify("bob").certificate
    old, new = desk.gateway.certificate(first.serial), desk.gateway.certificate(second.serial)
    assert old
    assert new
    assert (old.state, old.successor, new.state) == (
        CertificateState.SUPERSEDED,
        second.serial,
        CertificateState.ACTIVE,
    )


# Escalation


@pytest.fixture
def fleet(desk: Desk) -> Desk:
    """Bob may do all with servers, and let people in."""
    desk.apply("fleet", SERVERS)
    desk.add("bob", {"roles": ["fleet"]})
    return desk


def test_nobody_gives_more_than_they_have(fleet: Desk) -> None:
    fleet.add("carol", {"roles": ["fleet"]}, by="bob")
    more = ("operator_forbidden", "more_than_own")
    assert refusal(fleet.add, "eve", ADMINISTRATOR, by="bob") == more
    assert refusal(fleet.change, "carol", ADMINISTRATOR, by="bob") == more
    assert refusal(fleet.change, "bob", ADMINISTRATOR, by="bob") == more
    assert refusal(fleet.apply, "keys", {"permissions": ["operator:key:*"]}, by="bob") == more
    widened = {"permissions": [*SERVERS["permissions"], "operator:key:rotate"]}
    assert refusal(fleet.apply, "fleet", widened, by="bob") == more
    assert fleet.row("carol").version == 1


def test_nobody_touches_who_has_more(fleet: Desk) -> None:
    more = ("operator_forbidden", "more_than_own")
    fleet.add("dave", ADMINISTRATOR)
    assert refusal(fleet.change, "dave", {"roles": []}, by="bob") == more
    fleet.apply("certify", {"permissions": ["operator:certificate:issue", *SERVERS["permissions"]]})
    fleet.change("bob", {"roles": ["certify"]})
    assert refusal(fleet.certify, "dave", by="bob") == more
    fleet.apply("strong", {"permissions": ["operator:key:rotate"]})
    assert refusal(fleet.apply, "strong", {"permissions": ["operator:server:list"]}, by="bob") == more


def test_nobody_takes_a_condition_off_themselves(fleet: Desk) -> None:
    bound = {"roles": ["fleet"], "source_addresses": ["127.0.0.0/8"], "hours": ["daily 00:00-24:00 UTC"]}
    fleet.change("bob", bound)
    own = ("operator_forbidden", "own_conditions")
    assert refusal(fleet.change, "bob", {"roles": ["fleet"]}, by="bob") == own
    assert refusal(fleet.change, "bob", {"roles": []}, by="bob") == own
    assert refusal(fleet.change, "bob", bound | {"source_addresses": ["0.0.0.0/0"]}, by="bob") == own
    assert refusal(fleet.change, "bob", bound | {"hours": ["mon 00:00-24:00 UTC"]}, by="bob") == own
    fleet.change("bob", bound | {"source_addresses": ["127.0.0.1/32"]}, by="bob")
    fleet.change("bob", {"roles": ["fleet"]})


def test_nobody_gives_others_what_a_condition_keeps_from_themselves(fleet: Desk) -> None:
    """Else who is bound to a place makes a second self that is not."""
    bound = {"source_addresses": ["127.0.0.0/8"]}
    fleet.add("carol", {"roles": ["fleet"]})
    fleet.change("bob", {"roles": ["fleet"], **bound})
    more = ("operator_forbidden", "more_than_own")
    assert refusal(fleet.add, "eve", {"roles": ["fleet"]}, by="bob") == more
    assert refusal(fleet.change, "carol", {"roles": ["fleet"], **bound}, by="bob") == more, "she has more"
    assert refusal(fleet.certify, "carol", by="bob") == more
    assert refusal(fleet.apply, "own", {"permissions": ["operator:server:list"]}, by="bob") == more
    fleet.apply("own", {"permissions": ["operator:server:list"], **bound}, by="bob")
    fleet.add("eve", {"roles": ["fleet"], **bound}, by="bob")
    fleet.certify("eve", by="bob")
    fleet.change("eve", {"roles": [], **bound}, by="bob")


# The last administrator


NEVER_NOW = {"hours": ["sun 00:00-24:00 UTC"]}, {"source_addresses": ["192.0.2.0/24"]}


@pytest.mark.parametrize(
    "less", [{"roles": []}, {"roles": ["operator", "revoker"]}, *(ADMINISTRATOR | each for each in NEVER_NOW)]
)
def test_the_last_administrator_stays_one(desk: Desk, less: dict[str, Any]) -> None:
    assert refusal(desk.change, "alice", less) == ("conflict", "last_administrator")
    assert desk.row("alice").document == ADMINISTRATOR
    desk.add("bob", ADMINISTRATOR)
    desk.change("alice", less)
    assert refusal(desk.change, "bob", less, by="bob") == ("conflict", "last_administrator")


def test_an_administrator_whose_conditions_do_not_hold_does_not_count_for_the_last(desk: Desk) -> None:
    desk.add("bob", ADMINISTRATOR | NEVER_NOW[0])
    assert refusal(desk.change, "alice", {"roles": ["monitor"]}) == ("conflict", "last_administrator")


def test_who_signs_in_elsewhere_is_not_counted_on(desk: Desk) -> None:
    desk.add("bob", ADMINISTRATOR)
    row, identity = desk.row("bob"), {"issuer": "https://id.example", "subject": "7"}
    signs_in = replace(row, document=ADMINISTRATOR | {"identity": identity})
    desk.gateway.store.write(lambda tx: tx.operators.swap(row, signs_in))
    last = ("conflict", "last_administrator")
    assert refusal(desk.change, "alice", {"roles": ["monitor"]}) == last
    assert refusal(desk.gateway.revoke, "alice", Target.OPERATOR) == last
    desk.gateway.revoke("bob", Target.OPERATOR)


def test_cutting_off_does_not_wait_for_another_ones_hours(desk: Desk) -> None:
    """At three in the morning: whoever is asleep can let others in when it is day."""
    desk.add("bob", ADMINISTRATOR | NEVER_NOW[0])
    desk.gateway.revoke("alice", Target.OPERATOR)
    assert refusal(desk.gateway.revoke, "bob", Target.OPERATOR) == ("conflict", "last_administrator")


# Roles, and who edits them


@pytest.mark.threat("G18")
def test_G18_two_administrators_edit_one_operator_and_one_role(fleet: Desk) -> None:
    seen = Expected(frozenset({1}))
    fleet.change("bob", {"roles": ["fleet", "monitor"]}, expected=seen)
    assert refusal(fleet.change, "bob", {"roles": []}, expected=seen)[0] == "precondition_failed"
    fleet.apply("fleet", {"permissions": ["operator:server:list"]}, expected=seen)
    assert refusal(fleet.apply, "fleet", SERVERS, expected=seen)[0] == "precondition_failed"
    assert refusal(fleet.apply, "fleet", SERVERS, expected=Expected(absent=True))[0] == "precondition_failed"
    assert fleet.row("bob").document["roles"] == ["fleet", "monitor"]


def test_the_same_again_changes_nothing(fleet: Desk) -> None:
    assert fleet.change("bob", {"roles": ["fleet"]}).version == 1
    fleet.apply("fleet", SERVERS)
    assert fleet.gateway.records()[-1]["facts"] == {"changed": False, "version": 1}


@pytest.mark.threat("G09")
@pytest.mark.parametrize("name", rights.ROLES)
def test_G09_a_built_in_role_stays_as_it_is(desk: Desk, name: str) -> None:
    assert refusal(desk.apply, name, SERVERS) == ("conflict", "role_built_in")
    assert refusal(desk.remove, name) == ("conflict", "role_built_in")


def test_a_role_goes_when_nobody_has_it(fleet: Desk) -> None:
    assert refusal(fleet.remove, "fleet") == ("conflict", "role_in_use")
    fleet.change("bob", {"roles": []})
    fleet.remove("fleet")
    assert refusal(fleet.remove, "fleet")[0] == "role_unknown"


def test_who_signs_in_elsewhere_keeps_that_name_and_gets_no_certificate_here(desk: Desk) -> None:
    desk.add("bob", {"roles": ["monitor"]})
    row, identity = desk.row("bob"), {"issuer": "https://id.example", "subject": "7"}
    desk.gateway.store.write(
        lambda tx: tx.operators.swap(row, replace(row, document={**row.document, "identity": identity}))
    )
    assert desk.change("bob", {"roles": ["auditor"]}).document == {"roles": ["auditor"], "identity": identity}
    assert refusal(desk.certify, "bob") == ("conflict", "operator_signs_in")


# The way in when everyone is locked out


def certify_on_the_host(gateway: Gateway, name: str, *, administrator: bool = False) -> None:
    flow = CertifyOperator(gateway.store, gateway.journal, gateway.issue, gateway.time)
    call = gateway.call(Name.OPERATOR_OPERATOR_CERTIFY)
    flow.run(call, "td", name, csr.make(keys.generate()), administrator=administrator)


def test_the_host_can_make_an_administrator_and_nothing_else_does_it_by_the_way(desk: Desk) -> None:
    row = desk.row("alice")
    bound: Operator = replace(row, document=ADMINISTRATOR | NEVER_NOW[1], version=2)
    desk.gateway.store.write(lambda tx: tx.operators.swap(row, bound))
    certify_on_the_host(desk.gateway, "alice")
    assert desk.row("alice").document == bound.document
    certify_on_the_host(desk.gateway, "alice", administrator=True)
    assert (desk.row("alice").document, desk.row("alice").version) == (ADMINISTRATOR, 3)
    assert refusal(certify_on_the_host, desk.gateway, "zoe")[0] == "operator_unknown"
    certify_on_the_host(desk.gateway, "zoe", administrator=True)
    assert desk.row("zoe").document == ADMINISTRATOR
    assert desk.gateway.records()[-1]["facts"]["administrator"] is True
    zoe = desk.row("zoe")
    desk.gateway.store.write(lambda tx: tx.operators.swap(zoe, replace(zoe, state=OperatorState.REVOKED)))
    assert refusal(certify_on_the_host, desk.gateway, "zoe", administrator=True)[1] == "operator_revoked"


def test_the_rules_that_these_tests_speak_of(desk: Desk) -> None:
    """The control: alice is an administrator, and bob's role holds what is said of it."""
    assert desk.by().rights.permits(Name.OPERATOR_KEY_ROTATE)
    found: RoleRules = operator_document.role("fleet", SERVERS)
    assert not found.permits(Name.OPERATOR_KEY_ROTATE)
