"""Operators come in by a token of the OpenID provider, stay by renewing, and leave.

A token is exchanged for a certificate, once. So what is used afterwards is bound to a key that never left its machine,
ends soon, and is revoked as every certificate is; a token that somebody finds in a log is worth nothing.
"""

from dataclasses import replace

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from certs import csr as certificate_request
from certs.errors import CsrRefused
from certs.names import OperatorName
from certs.profiles import OPERATOR
from certs.reasons import Reason
from gateway.core import rights, sign_in
from gateway.core.audit import Event, Kind
from gateway.core.errors import Refusal
from gateway.core.identity import check_operator
from gateway.core.model import Certificate, CertificateState, Nonce
from gateway.core.operator_model import Operator
from gateway.core.sign_in import Person, Provider
from gateway.flows.issue import Issue, presented, successor
from gateway.flows.journal import Call, Journal
from gateway.flows.operators import CERTIFICATE_LIFE, Bundle, demand_own_key
from gateway.ports import Attempts, Clock, Store, Tokens, Transaction

# What makes an attempt to come in count as failed: a token that is not good, not a provider that does not answer.
_GUESSES = frozenset({"csr_refused", "sign_in_refused"})


class SignIn:
    """POST /v1/login, and /v1/logout. Raises Refusal."""

    def __init__(
        self,
        store: Store,
        journal: Journal,
        issue: Issue,
        tokens: Tokens,
        provider: Provider,
        attempts: Attempts,
        clock: Clock,
        trust_domain: str,
    ) -> None:
        self._store = store
        self._journal = journal
        self._issue = issue
        self._tokens = tokens
        self.provider = provider
        self._attempts = attempts
        self._clock = clock
        self._trust_domain = trust_domain

    def begin(self, call: Call, token: str, csr: str) -> Bundle:
        """A certificate for the key of the CSR, for as long as the token lasts, for whom the token names.

        A genuine token is let in however many others fail; who only fails is slowed down by address and account, and
        hears the same whether the account is known here or not.
        """
        try:
            return self._begin(call, token, csr)
        except Refusal as refusal:
            if refusal.code in _GUESSES:
                self._attempts.failed(call.source, sign_in.account(self.provider, token))
            raise

    def _begin(self, call: Call, token: str, csr: str) -> Bundle:
        now = self._clock()
        try:
            request = certificate_request.read(csr)
        except CsrRefused as refused:
            raise Refusal("csr_refused", reason=f"csr_{refused.reason}") from None
        person = sign_in.person(self.provider, self._tokens.verify(token), now)
        call.object = f"operator/{person.name}"
        # A token that was issued before that is too old anyhow.
        spent = Nonce(sign_in.used(token), now + self.provider.max_age + 2 * sign_in.LEEWAY)
        operator = self._journal.write(call, lambda tx: self._admit(tx, call, person, spent))
        if not operator.document["roles"]:
            raise sign_in.no_roles()
        name = OperatorName(self._trust_domain, operator.name)
        made = self._issue.certificate("services", OPERATOR, name, request.public_key, now, person.life)

        def unit(tx: Transaction) -> None:
            check_operator(tx.operators.get(name=operator.name))
            demand_own_key(tx, made)
            if not tx.certificates.add(made):
                raise Refusal("conflict")
            tx.audit.append(_outcome(call, "signed_in", made))

        self._journal.write(call, unit)
        return Bundle(operator, made, self._issue.certificate_of("services"), self._issue.certificate_of("root"))

    def _admit(self, tx: Transaction, call: Call, person: Person, spent: Nonce) -> Operator:
        """Spend the token, and let the operator have the roles that it says. One who has none left is refused, and has
        none from now on: that the provider says so is remembered, whatever becomes of this sign-in.
        """
        found = tx.operators.get(name=person.name)
        is_role = rights.known(tx.roles.find()).__contains__
        operator = sign_in.admitted(person, found, is_role, self._clock())
        if not tx.nonces.add(spent):
            raise Refusal("sign_in_refused", reason="token_used")
        if not (tx.operators.add(operator) if found is None else tx.operators.swap(found, operator)):
            raise Refusal("conflict")
        call.subject = OperatorName(self._trust_domain, operator.name).uri
        facts = {"roles": operator.document["roles"], "identity": dict(person.identity), "created": found is None}
        if not operator.document["roles"]:
            tx.audit.append(call.event(Kind.DECISION, allowed=False, reason="roles_missing", **facts))
        else:
            tx.audit.append(call.event(Kind.DECISION, **facts))
            tx.audit.append(call.event(Kind.INTENT, reason="asked"))
        return operator


class Session:
    """What an operator does with the certificate of its own: renew it, and give it up. Raises Refusal."""

    def __init__(self, store: Store, journal: Journal, issue: Issue, clock: Clock) -> None:
        self._store = store
        self._journal = journal
        self._issue = issue
        self._clock = clock

    def renew(self, call: Call, operator: Operator, der: bytes) -> Bundle:
        """A new certificate for the key of this one, which is out of force then.

        If the answer is lost, the old one gets the very same successor. One that came by a token ends with it.
        """
        now, (serial, _) = self._clock(), presented(der)
        call.object = f"operator/{operator.name}"
        if sign_in.signs_in(operator):
            raise Refusal("operator_forbidden", "Who signs in by a token signs in again", reason="sign_in_again")
        with self._store.read() as tx:
            old, _ = _successor(tx, serial)
        self._journal.intend(call, serial=serial)
        key = x509.load_der_x509_certificate(old.der).public_key()
        if not isinstance(key, ec.EllipticCurvePublicKey):
            raise TypeError("an operator's key is on P-256")
        made = self._issue.certificate(
            "services", OPERATOR, OperatorName.parse(old.subject), key, now, CERTIFICATE_LIFE
        )

        def unit(tx: Transaction) -> Certificate:
            check_operator(tx.operators.get(name=operator.name))
            old, given = _successor(tx, serial)
            if given:
                tx.audit.append(_outcome(call, "given_again", given))
                return given
            superseded = replace(old, state=CertificateState.SUPERSEDED, successor=made.serial)
            if not (tx.certificates.swap(old, superseded) and tx.certificates.add(made)):
                raise Refusal("conflict")
            tx.audit.append(_outcome(call, "renewed", made))
            return made

        given = self._journal.write(call, unit)
        return Bundle(operator, given, self._issue.certificate_of("services"), self._issue.certificate_of("root"))

    def end(self, call: Call, der: bytes) -> str:
        """Revoke the certificate that this is asked with; its serial number."""
        serial, _ = presented(der)
        call.object = f"certificate/{serial}"

        def unit(tx: Transaction) -> None:
            found = tx.certificates.get(serial=serial)
            if found is None:
                raise Refusal("certificate_unknown")
            if found.state is CertificateState.REVOKED:  # by somebody else meanwhile: when, and why, stays
                raise Refusal("certificate_revoked")
            why = Reason.CESSATION_OF_OPERATION.value
            ended = replace(found, state=CertificateState.REVOKED, revoked_at=self._clock(), reason=why)
            if not tx.certificates.swap(found, ended):
                raise Refusal("conflict")
            tx.audit.append(call.event(Kind.DECISION, serial=serial))

        self._journal.write(call, unit)
        return serial


def _successor(tx: Transaction, serial: str) -> tuple[Certificate, Certificate | None]:
    """The certificate as it is now, and the successor that it was given already. Raises Refusal."""
    old = tx.certificates.get(serial=serial)
    if old is None:
        raise Refusal("certificate_unknown")
    if old.state is CertificateState.REVOKED:
        raise Refusal("certificate_revoked")
    return old, successor(tx, old)


def _outcome(call: Call, reason: str, made: Certificate) -> Event:
    return call.event(Kind.OUTCOME, reason=reason, serial=made.serial, certificate_sha256=made.sha256)
