"""The messages between agent and gateway, frozen dataclasses. `decode(cls, loads(raw))` reads, `encode(m)` writes."""

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from gateway.wire.strict import Malformed, decode, integer, loads, nested, text

__all__ = [
    "DOORS",
    "USUAL_DOORS",
    "WAYS",
    "CertificateAnswer",
    "CredentialsAnswer",
    "CredentialsRequest",
    "EnrollRequest",
    "Evidence",
    "GrantSummary",
    "GrantsAnswer",
    "KeyProof",
    "NonceAnswer",
    "RenewRequest",
    "UserData",
    "WatchAnswer",
    "decode",
    "encode",
    "instant",
    "loads",
    "parse_instant",
    "read_user_data",
    "reenroll_statement",
    "user_data_line",
]  # fmt: skip

BASE64 = r"[A-Za-z0-9+/]+={0,2}"
BASE64URL = r"[A-Za-z0-9_-]+"
NAME = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
PEM = r"-----BEGIN [A-Z ]+-----[A-Za-z0-9+/=\r\n]+-----END [A-Z ]+-----\s*"

# How a grant may reach a program: by the agent as the container endpoint, the IMDSv2 look-alike, its Unix socket (for
# credential_process and `env`) or a file on tmpfs; by the gateway through IAM Roles Anywhere's or Vault's API.
DOORS = ("container", "imds", "process", "file", "sessions", "vault")
USUAL_DOORS = ("container", "imds", "process", "sessions", "vault")  # a file outlives whoever reads it
# How a call reaches AWS: with a session that the agent holds, signed by the gateway, or carried by it.
WAYS = ("token", "sign", "proxy")
USER = r"[a-z_][a-z0-9_-]{0,31}"  # of Linux: useradd(8)

EC2_IDENTITY_DOCUMENT = "aws-ec2-identity-document"


@dataclass(frozen=True, slots=True)
class Evidence:
    """What an instance presents about itself: the raw identity document and its PKCS#7 signature, both base64.

    `pkcs7` is the `rsa2048` resource of the metadata service. AWS: "Instance identity documents for Amazon EC2".
    """

    kind: str = text(pattern=re.escape(EC2_IDENTITY_DOCUMENT))
    document: str = text(pattern=BASE64, longest=8192)
    pkcs7: str = text(pattern=BASE64, longest=8192)


@dataclass(frozen=True, slots=True)
class KeyProof:
    """Proof of an enrolled key without a ticket: ECDSA-SHA-256 (base64 DER) over `reenroll_statement(nonce, …)`."""

    nonce: str = text(pattern=BASE64URL, longest=64)
    signature: str = text(pattern=BASE64, longest=256)


@dataclass(frozen=True, slots=True)
class EnrollRequest:
    """POST /v1/enroll: a CSR and evidence, with exactly one of a ticket or a proof of the key enrolled before."""

    csr: str = text(longest=8192)
    evidence: Evidence = nested()
    ticket: str | None = text(pattern=BASE64URL, longest=64, default=None)
    proof: KeyProof | None = None


@dataclass(frozen=True, slots=True)
class NonceAnswer:
    """POST /v1/nonces: a nonce, good for one use within a minute."""

    nonce: str = text(pattern=BASE64URL, longest=64)


@dataclass(frozen=True, slots=True)
class CertificateAnswer:
    """The certificate issued (PEM), its issuer (PEM), the SPIFFE ID inside, and when it ends (RFC 3339)."""

    certificate: str = text(pattern=PEM, longest=8192)
    issuer: str = text(pattern=PEM, longest=8192)
    instance: str = text(longest=512)
    profile: str = text(pattern=NAME)
    not_after: str = text(longest=32)


@dataclass(frozen=True, slots=True)
class RenewRequest:
    """POST /v1/renew over mTLS: a CSR made with the key of the certificate in use."""

    csr: str = text(longest=8192)


@dataclass(frozen=True, slots=True)
class GrantSummary:
    """One thing that this instance may ask for; `duration` in seconds.

    `doors`: where a program may find it, of `DOORS`. `ways`: how its calls may reach AWS, of `WAYS`. `users`: the local
    users who may have it from the agent, beside root and the agent's own; empty means nobody else.
    """

    name: str = text(pattern=NAME)
    duration: int = integer(low=900, high=43200)
    doors: tuple[str, ...] = text(pattern="|".join(DOORS), default=USUAL_DOORS)
    users: tuple[str, ...] = text(pattern=USER, default=())
    ways: tuple[str, ...] = text(pattern="|".join(WAYS), default=("token",))


@dataclass(frozen=True, slots=True)
class GrantsAnswer:
    """GET /v1/grants."""

    profile: str = text(pattern=NAME)
    grants: tuple[GrantSummary, ...] = ()


@dataclass(frozen=True, slots=True)
class WatchAnswer:
    """GET /v1/watch?after=…: the leases that the agent has to drop, and what to send as `after` from now on."""

    after: str = text(pattern="[0-9a-f]{0,16}")
    drop: tuple[str, ...] = text(longest=64, default=())


@dataclass(frozen=True, slots=True)
class CredentialsRequest:
    """POST /v1/credentials: which grant, for how many seconds (the grant's own duration when left out), and an IAM
    policy (JSON text) that narrows the grant's own further: what comes is what both allow.
    """

    grant: str = text(pattern=NAME)
    duration: int | None = integer(low=900, high=43200, default=None)
    policy: str | None = text(longest=8192, default=None)


@dataclass(frozen=True, slots=True, repr=False)
class CredentialsAnswer:
    """Vended AWS credentials. Holds secrets: it has no printing repr; wrap it or let it go at once."""

    lease: str = text(longest=64)
    access_key_id: str = text(longest=128)
    secret_access_key: str = text(longest=256)
    session_token: str = text(longest=16384)
    expiration: str = text(longest=32)


@dataclass(frozen=True, slots=True, repr=False)
class UserData:
    """What an instance boots with: the gateway's address (host:port), the SHA-256 of the root certificate, a ticket."""

    gateway: str = text(pattern=r"[A-Za-z0-9.:\[\]-]+")
    ca_sha256: str = text(pattern=r"[0-9a-f]{64}")
    ticket: str | None = text(pattern=BASE64URL, longest=64, default=None)


def encode(message: Any) -> bytes:
    """The message as JSON (RFC 8259, UTF-8), fields that are None left out."""
    return _JSON.encode({name: value for name, value in _fields(message).items() if value is not None}).encode()


def _fields(message: Any) -> dict[str, Any]:
    return {name: getattr(message, name) for name in message.__dataclass_fields__}


_JSON = json.JSONEncoder(separators=(",", ":"), default=_fields)


def instant(moment: datetime) -> str:
    """RFC 3339 in UTC with seconds and `Z`: the one form that every AWS client reads."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_instant(written: str) -> datetime:
    """The inverse of `instant`. Raises ValueError."""
    return datetime.strptime(written, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)


def reenroll_statement(nonce: str, csr: str, document: str) -> bytes:
    """What an agent signs to come back without a ticket: bound to the nonce, to this CSR and to this document."""
    return b"\n".join([b"trusted-gateway re-enrol v1", nonce.encode(), csr.encode(), document.encode()])


_MARK = "#trusted-gateway "


def user_data_line(user_data: UserData) -> str:
    """The one comment line that configures an agent. It fits any kind of user-data that has `#` comments."""
    return _MARK + encode(user_data).decode()


def read_user_data(raw: bytes) -> UserData | None:
    """Find the line of `user_data_line` in user-data of any kind; None when there is none. Raises Malformed."""
    lines = [line for line in raw.decode("utf-8", "replace").splitlines() if line.startswith(_MARK)]
    if not lines:
        return None
    if len(lines) > 1:
        raise Malformed("user-data: more than one line begins with '#trusted-gateway'")
    return decode(UserData, loads(lines[0].removeprefix(_MARK).encode()))
