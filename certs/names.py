"""Who a certificate is for: SPIFFE IDs of instances and operators, and the addresses of a server.

A name comes from attestation, from an operator or from the settings, never from a certificate request.
"""

import ipaddress
import re
from dataclasses import astuple, dataclass

from cryptography import x509
from cryptography.x509.oid import NameOID

from certs.errors import CertificateError

# SPIFFE-ID section 2.1. The parts are bounded, so that the whole stays below the 2,048 bytes of section 2.3.
_TRUST_DOMAIN = r"[a-z0-9._-]{1,255}"
_INSTANCE = re.compile(
    rf"spiffe://({_TRUST_DOMAIN})/aws/([0-9]{{12}})/([a-z]{{2,4}}(?:-[a-z]{{2,16}}){{1,3}}-[0-9]{{1,2}})/(i-[0-9a-f]{{8,17}})"
)
_OPERATOR = re.compile(rf"spiffe://({_TRUST_DOMAIN})/operator/([a-z0-9](?:[a-z0-9-]{{0,61}}[a-z0-9])?)")

_AUDIT = re.compile(rf"spiffe://({_TRUST_DOMAIN})/audit")

_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
# The last label is not all digits: such a name would be read as an IPv4 address by some (WHATWG URL section 3.5).
_DNS_NAME = re.compile(rf"(?=.{{1,253}}\Z)(?:{_LABEL}\.)*(?![0-9]+\Z){_LABEL}")
_LONGEST_COMMON_NAME = 64  # RFC 5280 appendix A, ub-common-name


@dataclass(frozen=True, slots=True)
class InstanceName:
    """`spiffe://<trust domain>/aws/<account>/<region>/<instance id>`. Raises CertificateError for any other form."""

    trust_domain: str
    account: str
    region: str
    instance_id: str

    def __post_init__(self) -> None:
        _demand_form(_INSTANCE, self.uri, astuple(self))

    @property
    def uri(self) -> str:
        """The SPIFFE ID."""
        return f"spiffe://{self.trust_domain}/aws/{self.account}/{self.region}/{self.instance_id}"

    @property
    def alternatives(self) -> tuple[str, ...]:
        """The subject alternative names: X.509-SVID section 2 allows exactly one URI."""
        return (self.uri,)

    @property
    def common_name(self) -> str:
        """For the eyes of people; the identity is the SPIFFE ID."""
        return self.instance_id

    @classmethod
    def parse(cls, uri: str) -> "InstanceName":
        """The inverse of `uri`. Raises CertificateError."""
        return cls(*_parts(_INSTANCE, uri))


@dataclass(frozen=True, slots=True)
class OperatorName:
    """`spiffe://<trust domain>/operator/<name>`. Raises CertificateError for any other form."""

    trust_domain: str
    name: str

    def __post_init__(self) -> None:
        _demand_form(_OPERATOR, self.uri, astuple(self))

    @property
    def uri(self) -> str:
        """The SPIFFE ID."""
        return f"spiffe://{self.trust_domain}/operator/{self.name}"

    @property
    def alternatives(self) -> tuple[str, ...]:
        """The subject alternative names: X.509-SVID section 2 allows exactly one URI."""
        return (self.uri,)

    @property
    def common_name(self) -> str:
        """For the eyes of people; the identity is the SPIFFE ID."""
        return self.name

    @classmethod
    def parse(cls, uri: str) -> "OperatorName":
        """The inverse of `uri`. Raises CertificateError."""
        return cls(*_parts(_OPERATOR, uri))


@dataclass(frozen=True, slots=True)
class AuditName:
    """`spiffe://<trust domain>/audit`, which signs what the audit log was. Raises CertificateError for another form."""

    trust_domain: str

    def __post_init__(self) -> None:
        _demand_form(_AUDIT, self.uri, astuple(self))

    @property
    def uri(self) -> str:
        """The SPIFFE ID."""
        return f"spiffe://{self.trust_domain}/audit"

    @property
    def alternatives(self) -> tuple[str, ...]:
        """The subject alternative names: X.509-SVID section 2 allows exactly one URI."""
        return (self.uri,)

    @property
    def common_name(self) -> str:
        """For the eyes of people; the identity is the SPIFFE ID."""
        return "audit"


@dataclass(frozen=True, slots=True)
class ServerNames:
    """Where a server is reached: DNS names and IP addresses, each as text in its one canonical form.

    No wildcard, no port, no trailing dot. The first one is also the common name. Raises CertificateError.
    """

    alternatives: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.alternatives or len(set(self.alternatives)) != len(self.alternatives):
            raise CertificateError("server names: at least one, and none twice")
        if len(self.common_name) > _LONGEST_COMMON_NAME:
            raise CertificateError("server names: the first one is the common name, of at most 64 characters")
        for name in self.alternatives:
            address = _address(name)
            if not (_DNS_NAME.fullmatch(name) if address is None else str(address) == name):
                raise CertificateError("server names: neither a lower-case DNS name nor a plain IP address")

    @property
    def common_name(self) -> str:
        """The first name: a common name that is no alternative name could be taken for one."""
        return self.alternatives[0]

    @classmethod
    def parse(cls, *names: str) -> "ServerNames":
        """From settings or a command line: upper case and long forms of IPv6 are brought to the canonical form."""
        return cls(tuple(str(_address(name.lower()) or name.lower()) for name in names))


Name = InstanceName | OperatorName | AuditName | ServerNames


def subject(name: Name) -> x509.Name:
    """The subject of this name's certificate: one common name, a UTF8String."""
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name.common_name)])


def alternative_names(name: Name) -> x509.SubjectAlternativeName:
    """The subject alternative names of this name's certificate, in the order of `alternatives`."""
    if isinstance(name, ServerNames):
        pairs = [(text, _address(text)) for text in name.alternatives]
        return x509.SubjectAlternativeName([x509.IPAddress(ip) if ip else x509.DNSName(text) for text, ip in pairs])
    return x509.SubjectAlternativeName([x509.UniformResourceIdentifier(name.uri)])


def read(certificate: x509.Certificate) -> InstanceName | OperatorName:
    """Whom a client certificate names: one URI, and beside it nothing but what `authority.issue` puts there.

    Whatever could be read in two ways is refused: a second name, an empty, other or differently encoded subject.
    Says nothing about trust: the chain is for `chain.verify`. Raises CertificateError.
    """
    try:
        found = list(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
        written = certificate.subject.public_bytes()
    except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        raise CertificateError("the certificate has no names that can be read") from None
    if len(found) != 1 or not isinstance(found[0], x509.UniformResourceIdentifier):
        raise CertificateError("the certificate does not have exactly one alternative name, a URI")
    uri = found[0].value
    name = OperatorName.parse(uri) if _OPERATOR.fullmatch(uri) else InstanceName.parse(uri)
    if written != subject(name).public_bytes():
        raise CertificateError("the certificate's subject is not the one that belongs to its URI")
    return name


def _parts(form: re.Pattern[str], uri: str) -> tuple[str, ...]:
    match = form.fullmatch(uri)
    if match is None:
        raise CertificateError("not a SPIFFE ID of the required form")
    return match.groups()


def _demand_form(form: re.Pattern[str], uri: str, parts: tuple[str, ...]) -> None:
    if _parts(form, uri) != parts:
        raise CertificateError("not the parts of a SPIFFE ID of the required form")


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address that `text` is; a scoped one is none, for it means nothing on another machine."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return None if "%" in text else address
