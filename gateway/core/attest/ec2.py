"""EC2 instance identity documents: evidence → claims that AWS has signed.

AWS: "Instance identity documents for Amazon EC2 instances" (instance-identity-documents.html) names the fields. The
document is static and bound to no key and no request: it proves what an instance is, not who presents it. `admission`
compares it with what AWS says now; tickets and keys do the rest.
"""

import base64
import hashlib
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509

from gateway.core.attest import pkcs7
from gateway.core.errors import Refusal
from gateway.wire.messages import Evidence, parse_instant
from gateway.wire.strict import Malformed, decode, loads, text

LONGEST = 8192

INSTANCE_ID = r"i-[0-9a-f]{8,17}"
IMAGE_ID = r"ami-[0-9a-f]{8,17}"
ACCOUNT = r"[0-9]{12}"
REGION = r"[a-z]{2}(?:-[a-z]+){1,3}-[0-9]{1,2}"
INSTANT = r"[0-9]{4}(?:-[0-9]{2}){2}T[0-9]{2}(?::[0-9]{2}){2}Z"
IPV4 = r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}"
WORD = r"[A-Za-z0-9._-]+"


@dataclass(frozen=True, slots=True)
class Claims:
    """What AWS has signed about an instance.

    Verified against AWS in `admission`: account to pending_time. Recorded only: instance_type to availability_zone.
    `unknown` names the keys that we have no class for; `sha256` (hex) is the document's.
    """

    account: str
    region: str
    instance_id: str
    image_id: str
    private_ip: str
    pending_time: datetime
    instance_type: str
    architecture: str
    availability_zone: str
    unknown: tuple[str, ...]
    sha256: str


@dataclass(frozen=True, slots=True)
class _Document:
    """The keys that we verify or record, as AWS spells them."""

    accountId: str = text(pattern=ACCOUNT)
    region: str = text(pattern=REGION)
    instanceId: str = text(pattern=INSTANCE_ID)
    imageId: str = text(pattern=IMAGE_ID)
    privateIp: str = text(pattern=IPV4)
    pendingTime: str = text(pattern=INSTANT)
    instanceType: str = text(pattern=WORD)
    architecture: str = text(pattern=WORD)
    availabilityZone: str = text(pattern=WORD)


_READ = frozenset(_Document.__dataclass_fields__)
_IGNORED = frozenset(
    {"billingProducts", "devpayProductCodes", "kernelId", "marketplaceProductCodes", "ramdiskId", "version"}
)


def read(evidence: Evidence, regional: Mapping[str, x509.Certificate]) -> Claims:
    """Verify `evidence` under the pinned certificate of the document's region, and class every claim in it.

    `regional` holds the regions that are configured, and AWS's RSA-2048 certificate of each (regions-certs.html).
    IPv6-only instances have no IPv4 `privateIp` and are not admitted. Raises Refusal.
    """
    document = _decode(evidence.document, "document_malformed")
    signature = _decode(evidence.pkcs7, "pkcs7_malformed")
    try:
        plain = loads(document)
        region = plain["region"]
        certificate = regional.get(region)
    except (Malformed, TypeError, KeyError):
        raise _malformed("document_malformed") from None
    if certificate is None:
        raise Refusal("evidence_refused", reason="region_not_configured")
    pkcs7.verify(signature, document, certificate)
    return _claims(plain, hashlib.sha256(document).hexdigest())


def _decode(written: str, reason: str) -> bytes:
    """Strict base64, except that lines may end: the metadata service breaks `rsa2048` into lines."""
    try:
        raw = base64.b64decode(written.replace("\r\n", "\n").replace("\n", ""), validate=True)
    except ValueError:
        raise _malformed(reason) from None
    if len(raw) > LONGEST:
        raise _malformed(reason)
    return raw


def _claims(plain: dict[str, object], sha256: str) -> Claims:
    try:
        read = decode(_Document, {key: value for key, value in plain.items() if key in _READ})
        private_ip, pending_time = str(ipaddress.IPv4Address(read.privateIp)), parse_instant(read.pendingTime)
    except ValueError:  # Malformed is one
        raise _malformed("claims_malformed") from None
    return Claims(
        account=read.accountId,
        region=read.region,
        instance_id=read.instanceId,
        image_id=read.imageId,
        private_ip=private_ip,
        pending_time=pending_time,
        instance_type=read.instanceType,
        architecture=read.architecture,
        availability_zone=read.availabilityZone,
        unknown=tuple(sorted(set(plain) - _READ - _IGNORED)),
        sha256=sha256,
    )


def _malformed(reason: str) -> Refusal:
    return Refusal("evidence_malformed", reason=reason)
