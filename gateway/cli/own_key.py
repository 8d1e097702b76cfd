"""The key and the certificate in an operator's directory: made here, and put in place here."""

import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import load_der_x509_certificate

from certs import keys
from certs.errors import CertificateError
from gateway.cli import files
from gateway.cli.client import ADDRESS, CERTIFICATE, KEY, ROOT, OperatorDirectory
from gateway.cli.failure import Failure


def written_fingerprint(text: str) -> str:
    """A fingerprint as people write it, with blanks, colons or capitals, in the form of `keys.fingerprint`."""
    return re.sub("[:\\s]", "", text).lower()


@contextmanager
def key_in(directory: OperatorDirectory) -> Iterator[EllipticCurvePrivateKey]:
    """The operator's key. A new one is on disk before it is certified, and gone again if that fails: a certificate in
    the store whose key was lost would be of no use. One that a broken-off command left is used.
    """
    path = directory.path / KEY
    files.private(directory.path)
    try:
        found, is_new = keys.load_private_pem(path.read_bytes()), False
    except FileNotFoundError:
        found, is_new = keys.generate(), True
    except (OSError, CertificateError):
        raise Failure(
            f"{path} is no operator's key", "key_unreadable", "Name another place with --operator-dir."
        ) from None
    if is_new:
        files.write(path, keys.dump_private_pem(found).decode())
    try:
        yield found
    except BaseException:
        if is_new:
            path.unlink()
        raise


def install(directory: OperatorDirectory, address: str, root: str, chain: str) -> None:
    """Put in place what belongs to the key, certificates as PEM. Raises Failure when they are of another key.

    Whether they are is asked of OpenSSL, as for each connection: the key may be where only OpenSSL can use it.
    """
    draft = directory.path / f".{CERTIFICATE}.draft"
    files.private(directory.path)
    files.write(draft, chain)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(draft, directory.path / KEY)
    except (OSError, ssl.SSLError):
        text = f"the certificate is not for the key in {directory.path}"
        raise Failure(
            text, "certificate_mismatch", "Name the directory that 'operator request' was run with."
        ) from None
    finally:
        draft.unlink(missing_ok=True)
    files.write(directory.path / ROOT, root)
    files.write(directory.path / ADDRESS, address + "\n")
    files.write(directory.path / CERTIFICATE, chain)  # last: it says that all is there


def pem(certificate: bytes) -> str:
    """A DER certificate as PEM."""
    return load_der_x509_certificate(certificate).public_bytes(Encoding.PEM).decode()


def text(source: Path, largest: int) -> str:
    """What is in a file, or `-`, of standard input. Raises Failure."""
    try:
        with open(0 if str(source) == "-" else source, "rb", closefd=str(source) != "-") as opened:
            raw = opened.read(largest + 1)
        if len(raw) <= largest:
            return raw.decode()
    except (OSError, ValueError):
        pass
    raise Failure(f"{source} cannot be read as a short text", "file_unreadable", "Name a file, or - where it says so.")
