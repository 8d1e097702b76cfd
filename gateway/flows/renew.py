"""Renewal: the same key, a new certificate, and the old one is out of force in the same transaction.

If the answer is lost on its way, the old certificate still opens this one door, and gets the very same successor.
"""

from dataclasses import replace
from datetime import datetime, timedelta

from certs import csr as certificate_request
from certs.errors import CsrRefused
from certs.names import InstanceName
from certs.profiles import INSTANCE
from gateway.core.audit import Kind
from gateway.core.errors import Refusal
from gateway.core.identity import Identity, check_instance
from gateway.core.model import Certificate, CertificateState
from gateway.flows.issue import Issue, answer, successor
from gateway.flows.journal import Call, Journal
from gateway.ports import Clock, Store, Transaction
from gateway.wire import messages


class Renew:
    """POST /v1/renew. Raises Refusal."""

    def __init__(self, store: Store, journal: Journal, issue: Issue, clock: Clock, life: timedelta) -> None:
        self._store = store
        self._journal = journal
        self._issue = issue
        self._clock = clock
        self._life = life

    def renew(self, call: Call, identity: Identity, request: messages.RenewRequest) -> messages.CertificateAnswer:
        """Give the caller the successor of the certificate that it called with."""
        now = self._clock()
        try:
            csr = certificate_request.read(request.csr)
        except CsrRefused as refused:
            raise Refusal("csr_refused", reason=f"csr_{refused.reason}") from None
        if csr.key_sha256 != identity.certificate.key_sha256:
            raise Refusal("csr_refused", "Renew with the key of the certificate in use", reason="csr_other_key")
        call.object = identity.instance.id
        with self._store.read() as tx:
            _successor(tx, identity)
        self._journal.intend(call, serial=identity.certificate.serial)
        name = InstanceName.parse(identity.instance.id)
        made = self._issue.certificate("instances", INSTANCE, name, csr.public_key, now, self._life)
        certificate = self._journal.write(call, lambda tx: self._replace(tx, call, identity, made, now))
        return answer(certificate, self._issue.certificate_of(certificate.issuer), identity.instance.profile)

    def _replace(
        self, tx: Transaction, call: Call, identity: Identity, made: Certificate, now: datetime
    ) -> Certificate:
        old, given = _successor(tx, identity)
        if given:
            tx.audit.append(call.event(Kind.OUTCOME, reason="given_again", serial=given.serial))
            return given
        superseded = replace(old, state=CertificateState.SUPERSEDED, successor=made.serial)
        if not (tx.certificates.swap(old, superseded) and tx.certificates.add(made)):
            raise Refusal("conflict")
        tx.audit.append(
            call.event(
                Kind.OUTCOME, reason="renewed", serial=made.serial, certificate_sha256=made.sha256, replaces=old.serial
            )
        )
        return made


def _successor(tx: Transaction, identity: Identity) -> tuple[Certificate, Certificate | None]:
    """The caller's certificate as it is now, and the successor that it was given already. Raises Refusal."""
    old = tx.certificates.get(serial=identity.certificate.serial)
    if old is None:
        raise Refusal("certificate_unknown")
    check_instance(tx.instances.get(id=old.subject), old)
    if old.state is CertificateState.REVOKED:
        raise Refusal("instance_revoked")
    return old, successor(tx, old)
