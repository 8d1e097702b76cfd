"""What the gateway remembers: one frozen dataclass a noun. Each is one row of the store, field for column.

Times are aware datetimes in UTC. `sha256` fields are lower-case hex. Sealed fields are `core.envelope` ciphertexts.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any


class InstanceState(StrEnum):
    ENROLLED = "enrolled"
    REVOKED = "revoked"


class CertificateState(StrEnum):
    ACTIVE = "active"
    SUPERSEDED = "superseded"
    REVOKED = "revoked"


class TicketState(StrEnum):
    OPEN = "open"
    REDEEMED = "redeemed"
    REVOKED = "revoked"


class KeyState(StrEnum):
    ACTIVE = "active"
    DISABLED = "disabled"
    COMPROMISED = "compromised"


class KeyPurpose(StrEnum):
    """What an upstream key is for. The key that cuts sessions off vends none, and the other way round."""

    VEND = "vend"
    REVOKE = "revoke"


@dataclass(frozen=True, slots=True)
class SealRecord:
    """How the master key is protected: `kind` names the seal, `parameters` what it needs, `wrapped` the wrapped key."""

    name: str
    kind: str
    parameters: Mapping[str, Any]
    wrapped: bytes


@dataclass(frozen=True, slots=True)
class Signer:
    """A key of our own with its certificate: `root`, the issuers `instances` and `services`, or `server`."""

    name: str
    certificate: bytes
    sealed_key: bytes


@dataclass(frozen=True, slots=True)
class UpstreamKey:
    """A double-secret key. Nobody can read it; flows open it for the length of a `with`."""

    name: str
    account: str
    access_key_id: str
    sealed_secret: bytes
    created_at: datetime
    created_by: str
    purpose: KeyPurpose = KeyPurpose.VEND
    state: KeyState = KeyState.ACTIVE


@dataclass(frozen=True, slots=True)
class Profile:
    """What a kind of instance may have. `document` is the applied profile in plain values (core.profile reads it).

    `revoked` says what of it was revoked since, and when (core.revocation reads it): applying it anew ends that.
    """

    name: str
    version: int
    document: Mapping[str, Any]
    applied_at: datetime
    applied_by: str
    revoked: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class ProfileVersion:
    """A profile as it was applied once. `id` is `<name>/<version, eight digits>`, so that versions sort."""

    id: str
    name: str
    version: int
    document: Mapping[str, Any]
    applied_at: datetime
    applied_by: str


@dataclass(frozen=True, slots=True)
class Ticket:
    """Single use, at launch. The store knows the ticket by the SHA-256 of its secret only.

    `instance_id` restricts it to one instance; once redeemed, `redeemed_by` is the SPIFFE ID, `key_sha256` the key and
    `serial` the certificate that it gave, so that a retry with the same key gets the same certificate.
    """

    sha256: str
    id: str
    profile: str
    instance_id: str | None
    created_at: datetime
    created_by: str
    expires_at: datetime
    state: TicketState = TicketState.OPEN
    redeemed_by: str | None = None
    key_sha256: str | None = None
    serial: str | None = None


@dataclass(frozen=True, slots=True)
class Instance:
    """A machine that was admitted. `id` is its SPIFFE ID; `claims` what was proved of it, for the record."""

    id: str
    account: str
    region: str
    instance_id: str
    profile: str
    state: InstanceState
    key_sha256: str
    enrolled_at: datetime
    claims: Mapping[str, Any]
    reenroll_until: datetime | None = None
    revoked_at: datetime | None = None
    revoked_by: str | None = None


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate that we issued, byte for byte. `serial` is lower-case hex; `issuer` a signer's name.

    `subject` is the SPIFFE ID of an instance or operator, or the names of a server.
    """

    serial: str
    issuer: str
    kind: str
    subject: str
    sha256: str
    der: bytes
    key_sha256: str
    not_before: datetime
    not_after: datetime
    state: CertificateState = CertificateState.ACTIVE
    successor: str | None = None
    revoked_at: datetime | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Nonce:
    """A nonce that was given out and not yet spent, by its SHA-256."""

    sha256: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Lease:
    """Our record of vended credentials, until `expires_at`: what AWS would go on honouring.

    `role` is the assumed role, or the federated user. The credentials themselves are in `sealed_session` (a sealed
    `Session`): whoever asks for the same, by `plan_sha256`, is given the same. It is emptied when they are over. `held`
    says what for the gateway keeps the session to itself ("calls"); None: it was given to the instance. One that was
    revoked before its end has `revoked_at`: its instance is told to drop it, and the fence keeps AWS from honouring it.
    """

    id: str
    instance: str
    profile: str
    grant: str
    upstream: str
    role: str
    session_name: str
    access_key_id: str
    issued_at: datetime
    expires_at: datetime
    plan_sha256: str | None = None
    sealed_session: bytes | None = None
    held: str | None = None
    revoked_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Flight:
    """Something that is under way, so that nobody begins the same: `key` names what, `holder` who is at it. A mint has
    its plan's hash and its lease; a turn (flows.turn) a name with a slash in it, and a random word.

    Whoever holds it has until `ends_at`; then it counts as lost.
    """

    key: str
    holder: str
    ends_at: datetime


@dataclass(frozen=True, slots=True)
class BearerToken:
    """A token that was given to the holder of a certificate, by its SHA-256; good with that certificate only."""

    sha256: str
    serial: str
    instance: str
    created_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class DummyKey:
    """A key pair that an agent made for the clients of one grant: a call that is signed with it was signed there.

    It is of the enrolment whose key is `key_sha256`. It is known beyond `expires_at`: who shows it then is noticed.
    """

    access_key_id: str
    instance: str
    key_sha256: str
    grant: str
    sealed_secret: bytes
    created_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Meter:
    """What a limit remembers (core.rate): `id` names the instance, the grant and the limit."""

    id: str
    until: datetime


@dataclass(frozen=True, slots=True)
class Crl:
    """The latest certificate revocation list of an issuer (RFC 5280)."""

    issuer: str
    number: int
    this_update: datetime
    next_update: datetime
    der: bytes


@dataclass(frozen=True, slots=True)
class SessionRequest:
    """What we ask STS for: AssumeRole, or GetFederationToken when `role` is None (then `session_name` is its name, and
    there is no source identity). `tags` are session tags; `policy` the session policy as JSON text or None.
    """

    role: str | None
    region: str
    session_name: str
    source_identity: str | None
    duration: timedelta
    policy: str | None
    tags: Mapping[str, str]
    policy_arns: tuple[str, ...] = ()
    external_id: str | None = None


@dataclass(frozen=True, slots=True, repr=False)
class Session:
    """What STS gave. Holds secrets: it has no printing repr; seal it, or let it go at once.

    `principal` is the ARN of the assumed role's session or of the federated user, `principal_id` its unique id.
    """

    access_key_id: str
    secret_access_key: str
    session_token: str
    expires_at: datetime
    principal: str
    principal_id: str
    packed_percent: int | None = None
