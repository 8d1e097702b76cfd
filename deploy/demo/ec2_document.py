"""A test authority for EC2 instance identity documents: what AWS's regional signer is to a real instance.

It writes and signs documents in AWS's form, so that whatever checks them checks the real thing. AWS: "Instance identity
documents for Amazon EC2 instances" and "Verify the instance identity document" (verify-iid.html).
"""

import base64
import json
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.hazmat.primitives.serialization.pkcs7 import PKCS7Options, PKCS7SignatureBuilder


@dataclass(frozen=True, slots=True)
class SignedDocument:
    """The three resources below /latest/dynamic/instance-identity/ as the metadata service serves them.

    `rsa2048` is PKCS#7 and `signature` the bare signature: base64 in lines of 64 characters, without PEM armour.
    """

    document: bytes
    rsa2048: str
    signature: str


class DocumentAuthority:
    """The signer of one region: an RSA-2048 key with a self-signed certificate, which the gateway pins."""

    def __init__(self, region: str) -> None:
        name = x509.Name.from_rfc4514_string("O=Test authority for instance identity documents,C=US")
        self.region = region
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self._key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(datetime(2020, 1, 1, tzinfo=UTC))
            .not_valid_after(datetime(2199, 1, 1, tzinfo=UTC))  # AWS's end between 2195 and 2204
            .sign(self._key, SHA256())
        )

    def certificate_pem(self) -> bytes:
        """What an operator puts into the gateway's directory of regional certificates, as `<region>.pem`."""
        return self.certificate.public_bytes(Encoding.PEM)

    def sign(self, document: bytes) -> SignedDocument:
        """Sign a document byte for byte. (AWS's `signature` is of a second key, RSA-1024; nothing of ours reads it.)"""
        # NoCerts and NoCapabilities: AWS embeds neither. Without DetachedSignature the content is inside, as at AWS.
        pkcs7 = (
            PKCS7SignatureBuilder()
            .set_data(document)
            .add_signer(self.certificate, self._key, SHA256())
            .sign(Encoding.DER, [PKCS7Options.Binary, PKCS7Options.NoCerts, PKCS7Options.NoCapabilities])
        )
        return SignedDocument(document, _lines(pkcs7), _lines(self._key.sign(document, PKCS1v15(), SHA256())))


def identity_document(
    *, account: str, region: str, instance_id: str, image_id: str, private_ip: str, launch_time: datetime
) -> bytes:
    """The document of an instance, in the form and the spacing that AWS's has. `launch_time` becomes pendingTime."""
    fields = {
        "accountId": account,
        "architecture": "x86_64",
        "availabilityZone": f"{region}a",
        "billingProducts": None,
        "devpayProductCodes": None,
        "marketplaceProductCodes": None,
        "imageId": image_id,
        "instanceId": instance_id,
        "instanceType": "t3.micro",
        "kernelId": None,
        "pendingTime": launch_time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "privateIp": private_ip,
        "ramdiskId": None,
        "region": region,
        "version": "2017-09-30",
    }
    return json.dumps(fields, indent=2, separators=(",", " : ")).encode()


def _lines(raw: bytes) -> str:
    written = base64.b64encode(raw).decode()
    return "\n".join(written[start : start + 64] for start in range(0, len(written), 64))
