"""Who is calling? Decided anew for each request, from what the store says about the certificate on this connection."""

from dataclasses import dataclass
from datetime import datetime

from gateway.core.errors import Refusal
from gateway.core.model import (
    Certificate,
    CertificateState,
    Instance,
    InstanceState,
)
from gateway.core.operator_model import (
    Operator,
    OperatorState,
)


@dataclass(frozen=True, slots=True)
class Identity:
    """An admitted instance, proved by this certificate."""

    instance: Instance
    certificate: Certificate


def check_certificate(
    certificate: Certificate | None, kind: str, presented_sha256: str, now: datetime, *, superseded_too: bool = False
) -> Certificate:
    """The certificate must be, byte for byte, one that we issued, of this kind, within its life, and in force.

    Because it is compared with what was issued, nothing that it says has to be believed: names, issuer and extensions
    come from the store. Raises Refusal. RFC 5280 section 4.1.2.5: both ends of the validity are inclusive.
    """
    if certificate is None or certificate.kind != kind or certificate.sha256 != presented_sha256:
        raise Refusal("certificate_unknown")
    if certificate.state is CertificateState.REVOKED:
        raise Refusal("instance_revoked" if kind == "instance" else "certificate_revoked")
    if not certificate.not_before <= now <= certificate.not_after:
        raise Refusal("certificate_expired")
    if certificate.state is not CertificateState.ACTIVE and not superseded_too:
        raise Refusal("certificate_superseded")
    return certificate


def check_instance(instance: Instance | None, certificate: Certificate) -> Identity:
    """The instance of the certificate must be enrolled. Raises Refusal."""
    if instance is None:
        raise Refusal("certificate_unknown", reason="instance_missing")
    if instance.state is not InstanceState.ENROLLED:
        raise Refusal("instance_revoked")
    return Identity(instance, certificate)


def check_operator(operator: Operator | None) -> Operator:
    """The operator of the certificate must still be one. Raises Refusal."""
    if operator is None:
        raise Refusal("operator_forbidden", reason="operator_unknown")
    if operator.state is not OperatorState.ACTIVE:
        raise Refusal("operator_forbidden", reason="operator_revoked")
    return operator
