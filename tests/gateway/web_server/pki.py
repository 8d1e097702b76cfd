"""A certificate authority for the tests of the server, made once per run."""

import datetime
import ipaddress
import ssl
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

_Pair = tuple[ec.EllipticCurvePrivateKey, x509.Certificate]


@dataclass(frozen=True)
class Pki:
    """PEM files: `ca.pem`, and certificate with key in `server.pem`, `client.pem`, and `stranger.pem` of another CA."""

    folder: Path

    def server_context(self) -> ssl.SSLContext:
        """As the gateway makes it: TLS 1.3, a client certificate is optional, one ticket."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.verify_mode = ssl.CERT_OPTIONAL
        context.load_verify_locations(self.folder / "ca.pem")
        context.load_cert_chain(self.folder / "server.pem")
        context.num_tickets = 1
        return context

    def client_context(self, certificate: str | None = None) -> ssl.SSLContext:
        """A client that verifies the server, with the certificate of that name or none."""
        context = ssl.create_default_context(cafile=str(self.folder / "ca.pem"))
        if certificate is not None:
            context.load_cert_chain(self.folder / f"{certificate}.pem")
        return context

    def certificate(self, name: str) -> bytes:
        """DER."""
        found = x509.load_pem_x509_certificate((self.folder / f"{name}.pem").read_bytes())
        return found.public_bytes(serialization.Encoding.DER)


def make(folder: Path) -> Pki:
    """Make it all."""
    ca = _sign("ca")
    _write(folder / "ca.pem", ca, with_key=False)
    _write(folder / "server.pem", _sign("server", ca, address="127.0.0.1"))
    _write(folder / "client.pem", _sign("client", ca))
    _write(folder / "stranger.pem", _sign("stranger", _sign("another ca")))
    return Pki(folder)


def _sign(name: str, by: _Pair | None = None, address: str | None = None) -> _Pair:
    now = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(by[1].subject if by else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=36_500))
        .add_extension(x509.BasicConstraints(ca=by is None, path_length=None), critical=True)
    )
    if address is not None:
        names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))])
        builder = builder.add_extension(names, critical=False)
    return key, builder.sign(by[0] if by else key, hashes.SHA256())


def _write(path: Path, pair: _Pair, *, with_key: bool = True) -> None:
    key, certificate = pair
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    if with_key:
        pem += key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    path.write_bytes(pem)
