"""Judges who share no code with `certs`: the OpenSSL command line, and pkilint (pyasn1)."""

import shutil
import subprocess
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from pkilint import loader, pkix
from pkilint.pkix import certificate, crl, extension, name
from pkilint.validation import ValidationFindingDescription, ValidationFindingSeverity, ValidatorContainer

_FAULTS = (ValidationFindingSeverity.WARNING, ValidationFindingSeverity.ERROR, ValidationFindingSeverity.FATAL)
OPENSSL = shutil.which("openssl") or "openssl"


def openssl(*arguments: str | Path, input: bytes | None = None) -> tuple[bool, str]:
    """Run it; whether it was content, and all it said."""
    done = subprocess.run([OPENSSL, *map(str, arguments)], capture_output=True, input=input, timeout=20, check=False)
    return done.returncode == 0, (done.stdout + done.stderr).decode("utf-8", "replace")


def pem_file(folder: Path, name: str, *objects: x509.Certificate | x509.CertificateRevocationList) -> Path:
    """A file with these in PEM."""
    path = folder / name
    path.write_bytes(b"".join(thing.public_bytes(Encoding.PEM) for thing in objects))
    return path


def pkilint_certificate(der: bytes) -> list[str]:
    """What pkilint's RFC 5280 linter (`lint_pkix_cert`) finds at WARNING or above."""
    container = certificate.create_pkix_certificate_validator_container(
        certificate.create_decoding_validators(name.ATTRIBUTE_TYPE_MAPPINGS, extension.EXTENSION_MAPPINGS),
        [
            certificate.create_issuer_validator_container([]),
            certificate.create_validity_validator_container(),
            certificate.create_subject_validator_container([]),
            certificate.create_extensions_validator_container([]),
            certificate.create_spki_validator_container([]),
        ],
    )
    return _findings(container, loader.load_certificate(der, "under test").root)


def pkilint_crl(der: bytes) -> list[str]:
    """What pkilint's RFC 5280 CRL linter (`lint_crl --profile PKIX`) finds at WARNING or above."""
    container = crl.create_pkix_crl_validator_container(
        [
            pkix.create_attribute_decoder(name.ATTRIBUTE_TYPE_MAPPINGS),
            pkix.create_extension_decoder(extension.EXTENSION_MAPPINGS),
        ],
        [
            crl.create_issuer_validator_container([]),
            crl.create_validity_validator_container(),
            crl.create_extensions_validator_container([]),
        ],
    )
    return _findings(container, loader.load_crl(der, "under test").root)


def _knows_no_spiffe(found: ValidationFindingDescription) -> bool:
    """pkilint takes a URI for a web address, of a scheme that it knows: no X.509-SVID at all could please it."""
    return found.finding.code == "pkix.invalid_uri_syntax" and '"spiffe://' in (found.message or "")


def _findings(container: ValidatorContainer, root: object) -> list[str]:
    return [
        f"{found.finding.severity.name} {found.finding.code} {found.message or ''} {result.node.path}"
        for result in container.validate(root)
        for found in result.finding_descriptions
        if found.finding.severity in _FAULTS and not _knows_no_spiffe(found)
    ]
