"""Enrolment: a ticket (or the key that was enrolled before) and evidence go in, one certificate comes out.

Everything that can refuse is asked before anything is written. Then: the intent is on disk; the certificate is made in
memory; ticket, instance, certificate and outcome are written in one transaction, which looks at ticket and instance
again; only then does the certificate leave. A crash before that transaction leaves nothing that lives, a crash after it
leaves a certificate that the same key gets again.
"""

import base64
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256

from certs import csr as certificate_request
from certs.errors import CsrRefused
from certs.names import InstanceName
from certs.profiles import INSTANCE
from gateway.core import nonce, profile
from gateway.core.admission import check_newcomer, check_return, check_ticket
from gateway.core.attest.admission import admit, record
from gateway.core.attest.ec2 import Claims, read
from gateway.core.audit import Kind
from gateway.core.errors import Refusal
from gateway.core.model import Certificate, CertificateState, Instance, InstanceState, Nonce, Ticket, TicketState
from gateway.core.revocation import is_stopped, key_revoked_at
from gateway.flows.issue import Issue, answer
from gateway.flows.journal import Call, Journal
from gateway.flows.vault import UpstreamKeys
from gateway.ports import Clock, Cloud, Store, Transaction
from gateway.wire import messages
from gateway.wire.secret import Secret


@dataclass(frozen=True, slots=True)
class EnrollmentRules:
    """What the settings say about enrolment."""

    trust_domain: str
    regional_certificates: Mapping[str, x509.Certificate]
    source_address: bool
    certificate_life: timedelta


@dataclass(frozen=True, slots=True)
class _Applicant:
    """What was proved before anything is written. The transaction decides again by `recheck`, and spends `nonce`."""

    name: InstanceName
    key: ec.EllipticCurvePublicKey
    key_sha256: str
    claims: Claims
    attested: Mapping[str, Any]
    profile: str
    nonce: Nonce | None
    recheck: Callable[[Transaction], Ticket | None]


class Enroll:
    """POST /v1/enroll. Raises Refusal."""

    def __init__(
        self,
        store: Store,
        journal: Journal,
        issue: Issue,
        keys: UpstreamKeys,
        cloud: Cloud,
        clock: Clock,
        nonce_key: Secret,
        rules: EnrollmentRules,
    ) -> None:
        self._store = store
        self._journal = journal
        self._issue = issue
        self._keys = keys
        self._cloud = cloud
        self._clock = clock
        self._nonce_key = nonce_key
        self._rules = rules

    def nonce(self, random: bytes) -> str:
        """A nonce for a proof. It costs nothing and promises nothing, so no record is made of it."""
        return nonce.make(self._nonce_key, random, self._clock())

    def enroll(self, call: Call, request: messages.EnrollRequest) -> messages.CertificateAnswer:
        """Admit the instance and give it its certificate."""
        now = self._clock()
        applicant = self._examine(call, request, now)
        self._journal.intend(call, profile=applicant.profile, key_sha256=applicant.key_sha256)
        made = self._issue.certificate(
            "instances", INSTANCE, applicant.name, applicant.key, now, self._rules.certificate_life
        )
        certificate = self._journal.write(call, lambda tx: self._admit(tx, call, applicant, made, now))
        return answer(certificate, self._issue.certificate_of(certificate.issuer), applicant.profile)

    def _examine(self, call: Call, request: messages.EnrollRequest, now: datetime) -> _Applicant:
        if (request.ticket is None) == (request.proof is None):
            raise Refusal("malformed_request", "Send either a ticket or a proof")
        if request.ticket is not None:
            call.present("ticket", request.ticket.encode())
        if request.proof is not None:
            call.present("nonce", request.proof.nonce.encode())
        try:
            csr = certificate_request.read(request.csr)
        except CsrRefused as refused:
            raise Refusal("csr_refused", reason=f"csr_{refused.reason}") from None
        claims = read(request.evidence, self._rules.regional_certificates)
        name = InstanceName(self._rules.trust_domain, claims.account, claims.region, claims.instance_id)
        call.object = name.uri
        spent = None
        if request.ticket is not None:
            recheck = _ticket_check(request.ticket, name, csr.key_sha256, now)
        else:
            spent = self._check_proof(request, csr.public_key, now)
            recheck = _return_check(name, csr.key_sha256, spent, now)
        with self._store.read() as tx:
            ticket = recheck(tx)
            instance = tx.instances.get(id=name.uri)
            wanted = ticket.profile if ticket else instance.profile if instance else ""
            applied = tx.profiles.get(name=wanted)
        if applied is None:
            raise Refusal("evidence_refused", reason="profile_missing", profile=wanted)
        if is_stopped(applied):
            raise Refusal("evidence_refused", reason="profile_revoked", profile=wanted)
        rules = profile.read(applied.document, source_address=self._rules.source_address)
        # A machine that comes back may be old; it must only still be the one that was launched.
        asked = rules.attestation if ticket else replace(rules.attestation, max_age=None)
        with self._store.read() as tx:
            key, account = self._keys.openable(tx, rules.upstream)
        if claims.account != account:
            raise Refusal("evidence_refused", reason="account_foreign", account=claims.account)
        facts = self._cloud.instance(key, claims.region, claims.instance_id)
        if facts is None:
            raise Refusal("evidence_refused", reason="instance_unknown_to_aws")
        admit(claims, facts, asked, self._clock(), call.source)
        attested = record(claims, facts, asked, ticket.instance_id is not None if ticket else _by_name(instance))
        return _Applicant(name, csr.public_key, csr.key_sha256, claims, attested, rules.name, spent, recheck)

    def _check_proof(self, request: messages.EnrollRequest, key: ec.EllipticCurvePublicKey, now: datetime) -> Nonce:
        assert request.proof is not None  # for the type checker: the caller chose this way by it
        spent, ends = nonce.check(self._nonce_key, request.proof.nonce, now)
        statement = messages.reenroll_statement(request.proof.nonce, request.csr, request.evidence.document)
        try:
            key.verify(base64.b64decode(request.proof.signature, validate=True), statement, ec.ECDSA(SHA256()))
        except (ValueError, InvalidSignature):
            raise Refusal("proof_refused", reason="proof_signature") from None
        return Nonce(spent, ends)

    def _admit(
        self, tx: Transaction, call: Call, applicant: _Applicant, made: Certificate, now: datetime
    ) -> Certificate:
        """The transaction: decide once more, then write all of it. Returns the certificate that lives."""
        ticket = applicant.recheck(tx)
        if ticket and ticket.state is TicketState.REDEEMED:
            given = _given(tx, ticket, applicant.name, now)
            call.subject = given.subject
            tx.audit.append(call.event(Kind.OUTCOME, reason="given_again", serial=given.serial, ticket=ticket.id))
            return given
        if applicant.nonce and not tx.nonces.add(applicant.nonce):
            raise Refusal("proof_refused", reason="nonce_spent")
        before = tx.instances.get(id=applicant.name.uri)
        instance = Instance(
            id=applicant.name.uri,
            account=applicant.claims.account,
            region=applicant.claims.region,
            instance_id=applicant.claims.instance_id,
            profile=applicant.profile,
            state=InstanceState.ENROLLED,
            key_sha256=applicant.key_sha256,
            enrolled_at=now,
            # Of the last time, if there was one: whoever publishes the CRL goes by it.
            revoked_at=before.revoked_at if before else None,
            revoked_by=before.revoked_by if before else None,
            claims=applicant.attested,
        )
        kept = tx.instances.swap(before, instance) if before else tx.instances.add(instance)
        for old in tx.certificates.find(subject=instance.id, state=CertificateState.ACTIVE):
            kept &= tx.certificates.swap(old, replace(old, state=CertificateState.SUPERSEDED, successor=made.serial))
        if ticket:
            redeemed = replace(
                ticket,
                state=TicketState.REDEEMED,
                redeemed_by=instance.id,
                key_sha256=instance.key_sha256,
                serial=made.serial,
            )
            kept &= tx.tickets.swap(ticket, redeemed)
        if not (kept and tx.certificates.add(made)):
            raise Refusal("conflict")
        call.subject = instance.id
        tx.audit.append(
            call.event(
                Kind.OUTCOME,
                reason="enrolled" if before is None else "enrolled_again",
                serial=made.serial,
                certificate_sha256=made.sha256,
                ticket=ticket.id if ticket else None,
                unknown_claims=list(applicant.claims.unknown),
            )
        )
        return made


def _by_name(instance: Instance | None) -> bool:
    """Whether the ticket that this key came in with was made for the instance by name."""
    return instance is not None and "instance_ticket" in instance.claims.get("checks", ())


def _ticket_check(
    ticket: str, name: InstanceName, key_sha256: str, now: datetime
) -> Callable[[Transaction], Ticket | None]:
    sha256 = hashlib.sha256(ticket.encode()).hexdigest()

    def check(tx: Transaction) -> Ticket | None:
        found = check_ticket(tx.tickets.get(sha256=sha256), name.instance_id, key_sha256, now)
        known = tx.instances.get(id=name.uri)
        check_newcomer(known, found, key_sha256, now, key_revoked_at=_key_revoked_at(tx, known))
        if found.state is TicketState.REDEEMED:
            _given(tx, found, name, now)
        return found

    return check


def _given(tx: Transaction, ticket: Ticket, name: InstanceName, now: datetime) -> Certificate:
    """What a redeemed ticket gave; the same machine gets it again for as long as it is in force. Raises Refusal."""
    given = tx.certificates.get(serial=ticket.serial)
    if (
        given is None
        or given.subject != name.uri
        or given.state is not CertificateState.ACTIVE
        or given.not_after < now
    ):
        raise Refusal("ticket_used", ticket=ticket.id)
    return given


def _return_check(
    name: InstanceName, key_sha256: str, spent: Nonce, now: datetime
) -> Callable[[Transaction], Ticket | None]:
    def check(tx: Transaction) -> Ticket | None:
        if tx.nonces.get(sha256=spent.sha256):
            raise Refusal("proof_refused", reason="nonce_spent")
        known = tx.instances.get(id=name.uri)
        check_return(known, key_sha256, now, key_revoked_at=_key_revoked_at(tx, known))
        return None

    return check


def _key_revoked_at(tx: Transaction, known: Instance | None) -> datetime | None:
    if known is None:
        return None
    return key_revoked_at(tx.certificates.find(subject=known.id, state=CertificateState.REVOKED), known)
