"""Operators and roles: who there is, who comes in, what each may do. Each leaves one decision.

Nobody gives what they do not have, and nobody widens their own: what is given, and what is taken, must lie within the
rights of who does it, at this moment and from there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from certs import csr
from certs.csr import VerifiedRequest
from certs.errors import CsrRefused
from certs.names import OperatorName
from certs.profiles import OPERATOR
from gateway.core import operator_document, rights
from gateway.core.audit import Kind
from gateway.core.errors import Refusal
from gateway.core.model import Certificate, CertificateState
from gateway.core.operator_document import SELF, OperatorRules, RoleRules
from gateway.core.operator_model import Operator, OperatorState, Role
from gateway.core.precondition import ANYTHING, Expected
from gateway.core.rights import Rights
from gateway.flows.admit import Admitted
from gateway.flows.issue import Issue
from gateway.flows.journal import Call, Journal
from gateway.ports import Clock, Store, Transaction

CERTIFICATE_LIFE = timedelta(hours=12)


@dataclass(frozen=True, slots=True)
class Bundle:
    """What an operator's machine needs beside the key that it keeps. All of it is public."""

    operator: Operator
    certificate: Certificate
    issuer: bytes
    root: bytes


class Operators:
    """Raises Refusal."""

    def __init__(self, store: Store, journal: Journal, issue: Issue, clock: Clock, trust_domain: str) -> None:
        self._store = store
        self._journal = journal
        self._issue = issue
        self._clock = clock
        self._trust_domain = trust_domain

    def all(self, call: Call, *, after: str | None, limit: int) -> Sequence[Operator]:
        """A page of operators, by name."""
        self._journal.allow(call)
        with self._store.read() as tx:
            return tx.operators.find(after=after, limit=limit)

    def one(self, call: Call, name: str) -> tuple[Operator, Sequence[Certificate]]:
        """An operator, and the certificates that are in force."""
        call.object = f"operator/{name}"
        with self._store.read() as tx:
            found = _operator(tx, name)
            subject = OperatorName(self._trust_domain, name).uri
            certificates = tx.certificates.find(subject=subject, state=CertificateState.ACTIVE)
        self._journal.allow(call)
        return found, [each for each in certificates if each.not_after >= self._clock()]

    def add(self, call: Call, admitted: Admitted, name: str, document: Mapping[str, Any], request: str) -> Bundle:
        """A new operator, whose key is certified for 12 hours. A name is never given a second time."""
        call.object = f"operator/{name}"
        if name == SELF:
            raise Refusal("operator_invalid", fault := f"name: {SELF} is everybody's", faults=(fault,))
        verified, now = _verified(request), self._clock()
        row = Operator(name, dict(document), 1, OperatorState.ACTIVE, now, call.subject or "")
        certificate = self._certificate(name, verified, now)

        def unit(tx: Transaction) -> None:
            _demand_own(admitted, _given(tx, document))
            demand_own_key(tx, certificate)
            if not (tx.operators.add(row) and tx.certificates.add(certificate)):
                raise Refusal("conflict", "There is an operator of this name, or was", reason="operator_exists")
            tx.audit.append(call.event(Kind.DECISION, document=dict(document), serial=certificate.serial))

        self._journal.write(call, unit)
        return self._bundle(row, certificate)

    def change(
        self, call: Call, admitted: Admitted, name: str, document: Mapping[str, Any], expected: Expected = ANYTHING
    ) -> Operator:
        """Other roles and conditions. It counts from the operator's next request on."""
        call.object = f"operator/{name}"

        def unit(tx: Transaction) -> Operator:
            before = _active(tx, name)
            expected.demand(before.version)
            kept = {"identity": before.document["identity"]} if before.document.get("identity") else {}
            after = replace(before, document={**document, **kept}, version=before.version + 1)
            given = _given(tx, after.document)
            if name == admitted.operator.name:
                _demand_narrower(before, after)
            _demand_own(admitted, given)
            _demand_own(admitted, _held(tx, before))  # who has more than oneself is not to be touched
            rows = [after if row.name == name else row for row in tx.operators.find()]
            now = self._clock()
            rights.demand_administrator([before], [row for row in rows if rights.could_act(row, call.source, now)])
            if after.document == before.document:
                tx.audit.append(call.event(Kind.DECISION, changed=False, version=before.version))
                return before
            if not tx.operators.swap(before, after):
                raise Refusal("conflict")
            old, new = dict(before.document), dict(after.document)
            tx.audit.append(call.event(Kind.DECISION, changed=True, version=after.version, before=old, after=new))
            return after

        return self._journal.write(call, unit)

    def certify(self, call: Call, admitted: Admitted, name: str, request: str) -> Bundle:
        """A certificate for a key of an operator whose last one ran out, or whose key was lost. It is the only one."""
        call.object = f"operator/{name}"
        verified, now = _verified(request), self._clock()
        with self._store.read() as tx:
            _active(tx, name)
        certificate = self._certificate(name, verified, now)

        def unit(tx: Transaction) -> Operator:
            row = _active(tx, name)
            if row.document.get("identity"):
                why = "This operator signs in with an OpenID provider"
                raise Refusal("conflict", why, reason="operator_signs_in")
            _demand_own(admitted, _held(tx, row))
            demand_own_key(tx, certificate)
            put_in_force(tx, certificate)
            tx.audit.append(call.event(Kind.DECISION, serial=certificate.serial))
            return row

        return self._bundle(self._journal.write(call, unit), certificate)

    def _certificate(self, name: str, verified: VerifiedRequest, now: datetime) -> Certificate:
        subject = OperatorName(self._trust_domain, name)
        return self._issue.certificate("services", OPERATOR, subject, verified.public_key, now, CERTIFICATE_LIFE)

    def _bundle(self, row: Operator, certificate: Certificate) -> Bundle:
        return Bundle(row, certificate, self._issue.certificate_of("services"), self._issue.certificate_of("root"))


class Roles:
    """The roles of the administrators' own making. Raises Refusal."""

    def __init__(self, store: Store, journal: Journal, clock: Clock) -> None:
        self._store = store
        self._journal = journal
        self._clock = clock

    def all(self, call: Call) -> Sequence[Role]:
        """All of them, by name. The built-in ones are not among them."""
        self._journal.allow(call)
        with self._store.read() as tx:
            return tx.roles.find()

    def one(self, call: Call, name: str) -> Role | None:
        """One of them; None for a built-in one."""
        call.object = f"role/{name}"
        with self._store.read() as tx:
            found = None if name in rights.ROLES else _role(tx, name)
        self._journal.allow(call)
        return found

    def vet(self, name: str, document: Mapping[str, Any]) -> RoleRules:
        """The role that this is. Raises Refusal: for what is none, others are not asked to agree to it."""
        _demand_not_built_in(name)
        return operator_document.role(name, document)

    def apply(
        self, call: Call, admitted: Admitted, name: str, document: Mapping[str, Any], expected: Expected = ANYTHING
    ) -> Role:
        """A role, new or another than before. It counts from the next request of who has it."""
        call.object = f"role/{name}"
        given = self.vet(name, document)

        def unit(tx: Transaction) -> Role:
            before = tx.roles.get(name=name)
            expected.demand(before.version if before else None)
            _demand_own(admitted, Rights((given,)))
            if before is not None and (known := rights.known([before]).get(name)):
                _demand_own(admitted, Rights((known,)))
                if before.document == document:
                    tx.audit.append(call.event(Kind.DECISION, changed=False, version=before.version))
                    return before
            version = before.version + 1 if before else 1
            after = Role(name, dict(document), version, self._clock(), call.subject or "")
            if not (tx.roles.swap(before, after) if before else tx.roles.add(after)):
                raise Refusal("conflict")
            tx.audit.append(call.event(Kind.DECISION, changed=True, version=version, document=dict(document)))
            return after

        return self._journal.write(call, unit)

    def remove(self, call: Call, admitted: Admitted, name: str, expected: Expected = ANYTHING) -> Role:
        """Forget a role that nobody has."""
        call.object = f"role/{name}"
        _demand_not_built_in(name)

        def unit(tx: Transaction) -> Role:
            found = _role(tx, name)
            expected.demand(found.version)
            active = tx.operators.find(state=OperatorState.ACTIVE)
            if having := [row.name for row in active if name in row.document["roles"]]:
                raise Refusal("conflict", f"Operators have it: {', '.join(having[:10])}", reason="role_in_use")
            if not tx.roles.remove(found):
                raise Refusal("conflict")
            tx.audit.append(call.event(Kind.DECISION, version=found.version))
            return found

        return self._journal.write(call, unit)


def put_in_force(tx: Transaction, made: Certificate) -> None:
    """A certificate is the only one of its subject from now on. Raises Refusal `conflict`."""
    for old in tx.certificates.find(subject=made.subject, state=CertificateState.ACTIVE):
        if not tx.certificates.swap(old, replace(old, state=CertificateState.SUPERSEDED, successor=made.serial)):
            raise Refusal("conflict")
    if not tx.certificates.add(made):
        raise Refusal("conflict")


def _verified(request: str) -> VerifiedRequest:
    try:
        return csr.read(request)
    except CsrRefused as refused:
        raise Refusal("csr_refused", reason=f"csr_{refused.reason}") from None


def _given(tx: Transaction, document: Mapping[str, Any]) -> Rights:
    """What an operator's document gives. Raises Refusal `operator_invalid` when a role is not there."""
    found, roles = operator_document.operator(document), rights.known(tx.roles.find())
    faults = tuple(f"roles[{i}]: no role has this name" for i, name in enumerate(found.roles) if name not in roles)
    if faults:
        raise Refusal("operator_invalid", "; ".join(faults[:20]), faults=faults)
    return rights.of(found, roles)


def _held(tx: Transaction, row: Operator) -> Rights:
    """What an operator has, as far as its roles are there; one whose document is no longer valid has no conditions."""
    try:
        found = operator_document.operator(row.document)
    except Refusal:
        found = OperatorRules(tuple(row.document.get("roles", ())))
    return rights.of(found, rights.known(tx.roles.find()))


def _demand_own(admitted: Admitted, given: Rights) -> None:
    if not admitted.rights.include(given):
        raise Refusal("operator_forbidden", "That is more than you may do yourself", reason="more_than_own")


def _demand_narrower(before: Operator, after: Operator) -> None:
    """Of oneself: a condition can be added, not taken away; not with all roles either, for somebody to give anew."""
    old, new = (operator_document.operator(row.document).presence for row in (before, after))
    if not new.within(old):
        raise Refusal("operator_forbidden", "Another operator has to widen your conditions", reason="own_conditions")


def demand_own_key(tx: Transaction, made: Certificate) -> None:
    """One key is one person's."""
    alike = tx.certificates.find(issuer=made.issuer, state=CertificateState.ACTIVE, key_sha256=made.key_sha256)
    if any(each.subject != made.subject for each in alike):
        raise Refusal("csr_refused", "The key is another operator's", reason="csr_key_of_another")


def _demand_not_built_in(name: str) -> None:
    if name in rights.ROLES:
        raise Refusal("conflict", "A built-in role stays as it is", reason="role_built_in")


def _operator(tx: Transaction, name: str) -> Operator:
    found = tx.operators.get(name=name)
    if found is None:
        raise Refusal("operator_unknown")
    return found


def _active(tx: Transaction, name: str) -> Operator:
    found = _operator(tx, name)
    if found.state is not OperatorState.ACTIVE:
        raise Refusal("conflict", "The operator is revoked, for good", reason="operator_revoked")
    return found


def _role(tx: Transaction, name: str) -> Role:
    found = tx.roles.get(name=name)
    if found is None:
        raise Refusal("role_unknown")
    return found
