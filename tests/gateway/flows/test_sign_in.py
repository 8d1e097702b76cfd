"""Sign-in on a real store: what happens between its steps, and what is forgotten when."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import pytest

from certs import csr, keys
from gateway.adapters.throttle import Attempts
from gateway.core.audit import Name
from gateway.core.errors import Refusal
from gateway.core.operator_model import OperatorState
from gateway.core.revocation import Target
from gateway.core.sign_in import Provider
from gateway.flows.housekeeping import Housekeeping
from gateway.flows.sign_in import Session, SignIn
from tests.gateway.flows.conftest import Gateway

PROVIDER = Provider(
    issuer="https://login.example", audience="gateway", client_id=None, scopes="openid", ca=None, name_claim="name",
    name_suffix="", roles_claim="groups", roles={"admins": "administrator"}, life=timedelta(hours=1),
    max_age=timedelta(hours=1),
)  # fmt: skip


@dataclass
class Tokens:
    """`ports.Tokens` that believes everybody. `meanwhile` is done when it is asked."""

    gateway: Gateway
    meanwhile: Callable[[], object] = lambda: None
    claims: dict[str, Any] = field(default_factory=dict)

    def verify(self, token: str) -> Mapping[str, Any]:
        self.meanwhile()
        at = int(self.gateway.time().timestamp())
        return {"sub": "s-1", "name": "anne", "groups": ["admins"], "iat": at, "exp": at + 600, **self.claims}


@pytest.fixture
def tokens(gateway: Gateway) -> Tokens:
    return Tokens(gateway)


@pytest.fixture
def sign_in(gateway: Gateway, tokens: Tokens) -> SignIn:
    attempts = Attempts(1000, 1000)
    return SignIn(gateway.store, gateway.journal, gateway.issue, tokens, PROVIDER, attempts, gateway.time, "td")


def begin(gateway: Gateway, sign_in: SignIn, token: str) -> str | None:
    """Sign in; the reason for a refusal."""
    call = gateway.call(Name.OPERATOR_SESSION_CREATE)
    try:
        with gateway.journal.call(call.name, call.request_id, call.source) as opened:
            sign_in.begin(opened, token, csr.make(keys.generate()))
    except Refusal as refusal:
        return refusal.reason
    return None


def certificates(gateway: Gateway) -> int:
    with gateway.store.read() as tx:
        return len(tx.certificates.find(subject="spiffe://td/operator/anne"))


def test_who_is_revoked_while_the_certificate_is_made_gets_none(
    gateway: Gateway, sign_in: SignIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = gateway.issue.certificate

    def revoked_meanwhile(*arguments: Any) -> Any:
        with gateway.store.read() as tx:
            row = tx.operators.get(name="anne")
        assert row is not None
        assert gateway.store.write(lambda tx: tx.operators.swap(row, replace(row, state=OperatorState.REVOKED)))
        return make(*arguments)

    monkeypatch.setattr(gateway.issue, "certificate", revoked_meanwhile)
    assert begin(gateway, sign_in, "a.b.c") == "operator_revoked"
    assert certificates(gateway) == 0
    kinds = [(record["kind"], record["allowed"]) for record in gateway.records()[-3:]]
    assert kinds == [("decision", True), ("intent", True), ("outcome", False)]


def test_two_first_sign_ins_at_once_make_one_operator(gateway: Gateway, sign_in: SignIn, tokens: Tokens) -> None:
    def other() -> None:
        tokens.meanwhile = lambda: None
        assert begin(gateway, sign_in, "b.b.c") is None

    tokens.meanwhile = other
    assert begin(gateway, sign_in, "a.b.c") is None
    with gateway.store.read() as tx:
        row = tx.operators.get(name="anne")
    assert row is not None
    assert (row.version, certificates(gateway)) == (1, 2)


def test_a_refusal_does_not_spend_the_token(gateway: Gateway, sign_in: SignIn, tokens: Tokens) -> None:
    tokens.claims = {"groups": []}
    assert begin(gateway, sign_in, "a.b.c") == "roles_missing"
    tokens.claims = {}
    assert begin(gateway, sign_in, "a.b.c") is None
    assert begin(gateway, sign_in, "a.b.d") == "token_used"


def test_a_spent_token_is_remembered_for_as_long_as_it_could_be_used(gateway: Gateway, sign_in: SignIn) -> None:
    assert begin(gateway, sign_in, "a.b.c") is None
    keeping = Housekeeping(gateway.publish, gateway.store, gateway.time)
    gateway.time.passes(PROVIDER.max_age)
    keeping.tick()
    assert begin(gateway, sign_in, "a.b.c") == "token_used"
    gateway.time.passes(timedelta(seconds=60))
    keeping.tick()
    with gateway.store.read() as tx:
        assert tx.nonces.find() == []


def test_what_was_revoked_is_not_revoked_anew_by_its_owner(gateway: Gateway) -> None:
    """The first time, and why, stays: it is what the CRL says."""
    with gateway.store.read() as tx:
        (certificate,) = tx.certificates.find(kind="operator")
    gateway.revoke(certificate.serial, Target.CERTIFICATE)
    before = gateway.certificate(certificate.serial)
    session = Session(gateway.store, gateway.journal, gateway.issue, gateway.time)
    with pytest.raises(Refusal) as refused:
        session.end(gateway.call(Name.OPERATOR_SESSION_END), certificate.der)
    assert refused.value.code == "certificate_revoked"
    assert gateway.certificate(certificate.serial) == before
