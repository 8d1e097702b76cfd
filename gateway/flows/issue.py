"""Issuing a certificate: the CA's keys are opened here and nowhere else, each for the length of one signature."""

import hashlib
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from certs import authority, chain, keys
from certs.names import Name as CertifiedName
from certs.profiles import Profile as CertificateProfile
from gateway.core.errors import Refusal
from gateway.core.model import Certificate, CertificateState, Signer
from gateway.ports import RandomBytes, Store, Transaction, Vault
from gateway.wire import messages

# A certificate begins a little in the past, so that an instance whose clock runs behind can use it at once.
BACKDATE = timedelta(minutes=5)


def presented(der: bytes) -> tuple[str, str]:
    """(serial as hex, SHA-256) of a certificate that a peer presented. Raises Refusal `certificate_unknown`."""
    try:
        serial = x509.load_der_x509_certificate(der).serial_number
    except ValueError:
        raise Refusal("certificate_unknown", reason="certificate_unreadable") from None
    return f"{serial:x}", hashlib.sha256(der).hexdigest()


def pem(der: bytes) -> str:
    """A DER certificate as PEM."""
    return x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM).decode()


def answer(certificate: Certificate, issuer: bytes, profile: str) -> messages.CertificateAnswer:
    """What an instance gets: its certificate and that of the issuer, PEM."""
    return messages.CertificateAnswer(
        certificate=pem(certificate.der),
        issuer=pem(issuer),
        instance=certificate.subject,
        profile=profile,
        not_after=messages.instant(certificate.not_after),
    )


def successor(tx: Transaction, old: Certificate) -> Certificate | None:
    """What took the place of a certificate that is not revoked, for the same key; None while it is in force itself.

    Raises Refusal `certificate_superseded` when that is not in force any more, or of another key.
    """
    if old.state is CertificateState.ACTIVE:
        return None
    given = tx.certificates.get(serial=old.successor)
    if given is None or given.state is not CertificateState.ACTIVE or given.key_sha256 != old.key_sha256:
        raise Refusal("certificate_superseded")
    return given


class Issue:
    """Makes certificates in memory. Storing them, and so letting them live, is the calling flow's transaction."""

    def __init__(self, store: Store, vault: Vault, random: RandomBytes, crl_url: str | None) -> None:
        self._store = store
        self._vault = vault
        self._random = random
        self._crl_url = crl_url

    def issuer(self, name: str) -> authority.Issuer:
        """The issuer `instances` or `services`, its key opened. Drop it as soon as it has signed."""
        signer = self._signer(name)
        with self._vault.open(f"signer/{name}/key", signer.sealed_key) as key:
            return authority.Issuer(x509.load_der_x509_certificate(signer.certificate), keys.load_private(key))

    def certificate_of(self, name: str) -> bytes:
        """The certificate (DER) of the signer `root`, `instances` or `services`."""
        return self._signer(name).certificate

    def _signer(self, name: str) -> Signer:
        with self._store.read() as tx:
            signer = tx.signers.get(name=name)
        if signer is None:
            raise Refusal("store_unavailable", reason="signer_missing")
        return signer

    def certificate(
        self,
        issuer_name: str,
        profile: CertificateProfile,
        name: CertifiedName,
        public_key: ec.EllipticCurvePublicKey,
        now: datetime,
        life: timedelta,
    ) -> Certificate:
        """Sign with an issuer of the store's; see `sign`."""
        root = self.certificate_of("root")
        crl_url = self._crl_url if issuer_name == "instances" else None
        serial = authority.serial_from(self._random(20))
        return sign(self.issuer(issuer_name), issuer_name, root, profile, name, public_key, serial, now, life, crl_url)


def sign(
    issuer: authority.Issuer,
    issuer_name: str,
    root: bytes,
    profile: CertificateProfile,
    name: CertifiedName,
    public_key: ec.EllipticCurvePublicKey,
    serial: int,
    now: datetime,
    life: timedelta,
    crl_url: str | None = None,
) -> Certificate:
    """Sign, and have two others look at it before it leaves: certs.lint (inside `issue`) and OpenSSL's chain check."""
    now = now.replace(microsecond=0)
    begin, end = now - BACKDATE, now + life
    made = authority.issue(
        issuer, profile, name, public_key, serial=serial, not_before=begin, not_after=end, crl_url=crl_url
    )
    (usage,) = profile.extended_key_usages
    chain.verify(made, [issuer.certificate], x509.load_der_x509_certificate(root), now, usage=usage)
    der = made.public_bytes(Encoding.DER)
    return Certificate(
        serial=f"{made.serial_number:x}",
        issuer=issuer_name,
        kind=profile.kind.value,
        subject=" ".join(name.alternatives),
        sha256=hashlib.sha256(der).hexdigest(),
        der=der,
        key_sha256=keys.public_sha256(public_key),
        not_before=begin,
        not_after=end,
    )
