"""From the certificate on the connection to an identity. On every request, from the store: nothing here is cached."""

from gateway.core.errors import Refusal
from gateway.core.identity import Identity, check_certificate, check_instance, check_operator
from gateway.core.model import Certificate, CertificateState, InstanceState, Operator
from gateway.flows.issue import presented
from gateway.flows.journal import Call
from gateway.ports import Clock, Store, Transaction


class Identify:
    """Raises Refusal: 401 without, with an unknown, expired or replaced certificate, 403 for what is revoked."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    def instance(self, call: Call, der: bytes | None, *, superseded_too: bool = False) -> Identity:
        """The enrolled instance whose certificate (DER, from the TLS socket) this is."""
        with self._store.read() as tx:
            certificate = self._certificate(tx, call, der, "instance", superseded_too)
            return check_instance(tx.instances.get(id=certificate.subject), certificate)

    def operator(self, call: Call, der: bytes | None) -> Operator:
        """The operator whose certificate this is."""
        with self._store.read() as tx:
            certificate = self._certificate(tx, call, der, "operator", False)
            name = certificate.subject.rpartition("/")[2]
            return check_operator(tx.operators.get(name=name))

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
