"""From the certificate on the connection to an identity. On every request, from the store: nothing here is cached."""

from gateway.core.errors import Refusal
from gateway.core.identity import Identity, check_certificate, check_instance, check_operator
from gateway.core.model import (
    Certificate,
    CertificateState,
    InstanceState,
)
from gateway.core.operator_model import (
    Operator,
)
from gateway.flows.issue import presented
from gateway.flows.journal import Call
from gateway.ports import Attempts, Clock, Store, Transaction


class Identify:
    """Raises Refusal: 401 without, with an unknown, expired or replaced certificate, 403 for what is revoked."""

    def __init__(self, store: Store, clock: Clock, attempts: Attempts | None = None) -> None:
        """`attempts` slows down who shows certificates that are not ours to operators' doors. A valid one never is."""
        self._store = store
        self._clock = clock
        self._attempts = attempts

    def instance(self, call: Call, der: bytes | None, *, superseded_too: bool = False) -> Identity:
        """The enrolled instance whose certificate (DER, from the TLS socket) this is."""
        with self._store.read() as tx:
            certificate = self._certificate(tx, call, der, "instance", superseded_too)
            return check_instance(tx.instances.get(id=certificate.subject), certificate)

    def operator(self, call: Call, der: bytes | None, *, superseded_too: bool = False) -> Operator:
        """The operator whose certificate this is."""
        with self._store.read() as tx:
            return self.operator_in(tx, call, der, superseded_too=superseded_too)

    def operator_in(self, tx: Transaction, call: Call, der: bytes | None, *, superseded_too: bool = False) -> Operator:
        """The same, in a transaction."""
        try:
            certificate = self._certificate(tx, call, der, "operator", superseded_too)
            name = certificate.subject.rpartition("/")[2]
            return check_operator(tx.operators.get(name=name))
        except Refusal as refusal:
            if self._attempts and refusal.code == "certificate_unknown":
                self._attempts.failed(call.source)
            raise

    def _certificate(
        self, tx: Transaction, call: Call, der: bytes | None, kind: str, superseded_too: bool
    ) -> Certificate:
        if der is None:
            raise Refusal("certificate_required")
        serial, sha256 = presented(der)
        row = tx.certificates.get(serial=serial)
        if row is not None and row.sha256 == sha256:
            call.subject = row.subject
        return check_certificate(row, kind, sha256, self._clock(), superseded_too=superseded_too)


def stands(tx: Transaction, identity: Identity, *, superseded_too: bool = True) -> bool:
    """Whether the identity is still one, once more."""
    instance = tx.instances.get(id=identity.instance.id)
    certificate = tx.certificates.get(serial=identity.certificate.serial)
    if instance is None or instance.state is not InstanceState.ENROLLED:
        return False
    if certificate is None or certificate.state is CertificateState.REVOKED:
        return False
    return superseded_too or certificate.state is CertificateState.ACTIVE


def demand_standing(
    tx: Transaction, identity: Identity, *, superseded_too: bool = True, reason: str = "revoked_meanwhile"
) -> None:
    """`stands`, in the transaction that records the decision: nothing is given behind a revocation's back.

    Raises Refusal `instance_revoked`.
    """
    if not stands(tx, identity, superseded_too=superseded_too):
        raise Refusal("instance_revoked", reason=reason)
