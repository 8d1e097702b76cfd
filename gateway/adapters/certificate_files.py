"""Certificates that the settings name as files: AWS's regional ones, trust anchors and their revocation lists."""

import logging
from collections.abc import Sequence
from pathlib import Path
from threading import Lock

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gateway.core.errors import Refusal, SettingsError
from gateway.core.rolesanywhere import Anchor, AnchorFiles

log = logging.getLogger("trusted_gateway")

_CRL = b"-----BEGIN X509 CRL-----"


def regional(directory: Path) -> dict[str, x509.Certificate]:
    """AWS's certificates by region, from `<region>.pem` files. Raises SettingsError."""
    out, faults = {}, []
    for path in sorted(directory.glob("*.pem")):
        try:
            out[path.stem] = x509.load_pem_x509_certificate(path.read_bytes())
        except (OSError, ValueError):
            faults.append(f"aws.identity_certificates: {path.name} is not a PEM certificate")
    if not out and not faults:
        faults.append(f"aws.identity_certificates: {directory} has no <region>.pem in it")
    if faults:
        raise SettingsError(*faults)
    return out


def anchors(files: Sequence[AnchorFiles], own: Sequence[bytes]) -> dict[str, Anchor]:
    """The trust anchors by name. `own`: certificates (DER) of our CA, which is none of them. Raises SettingsError."""
    ours = {_key(x509.load_der_x509_certificate(der)) for der in own}
    found, faults = {}, []
    for each in files:
        where = f"trust_anchors.{each.name}.certificates"
        try:
            roots = x509.load_pem_x509_certificates(Path(each.certificates).read_bytes())
            faults += [f"{where}: {fault}" for root in roots for fault in _faults(root, ours)]
        except (OSError, ValueError):
            faults.append(f"{where}: {each.certificates} is no file of PEM certificates")
            continue
        crls = CrlFile(Path(each.crl)) if each.crl else None
        found[each.name] = Anchor(each.name, tuple(roots), each.profiles, each.region, crls)
    if faults:
        raise SettingsError(*faults)
    return found


class CrlFile:
    """A PEM file of one or several revocation lists, read again whenever it has changed. For several threads.

    Called, it raises Refusal when there is none to be had: who is to be checked against it must not come in unchecked.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = Lock()
        self._state: tuple[int, int, int] | None = None
        self._lists: tuple[x509.CertificateRevocationList, ...] = ()

    def __call__(self) -> Sequence[x509.CertificateRevocationList]:
        try:
            with self._lock:
                found = self._path.stat()
                state = (found.st_ino, found.st_size, found.st_mtime_ns)
                if state != self._state:
                    self._lists = _lists(self._path.read_bytes())
                    self._state = state
                return self._lists
        except (OSError, ValueError) as error:
            log.warning("the revocation list %s cannot be read: %s", self._path, type(error).__name__)
            raise Refusal(
                "certificate_revoked",
                "The trust anchor's revocation list cannot be read: nobody comes in by it until it can",
                reason="crl_unreadable",
            ) from None


def _lists(pem: bytes) -> tuple[x509.CertificateRevocationList, ...]:
    _, *blocks = pem.split(_CRL)
    if not blocks:
        raise ValueError("no revocation list")
    return tuple(x509.load_pem_x509_crl(_CRL + block) for block in blocks)


def _key(certificate: x509.Certificate) -> bytes:
    return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _faults(root: x509.Certificate, ours: set[bytes]) -> list[str]:
    try:
        authority = root.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        authority = False
    faults = []
    if not authority or root.subject != root.issuer:
        faults.append("a certificate in it is not that of a root CA")
    if _key(root) in ours:
        faults.append("holds a certificate of this gateway's own CA, which is an anchor already: instances")
    return faults
