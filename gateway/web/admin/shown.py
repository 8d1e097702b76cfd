"""How the rows of the store look on the admin listener: field by field, so that no new one is shown by itself."""

from dataclasses import dataclass

from gateway.core.model import Certificate, Instance, Lease, Ticket
from gateway.wire.messages import instant
from gateway.wire.strict import text

INSTANT = r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z"


@dataclass(frozen=True, slots=True)
class InstanceShown:
    """An instance: `id` is its SPIFFE ID; `revoked_at` and `revoked_by` are of the last time, if there was one."""

    id: str = text(longest=2048)
    instance_id: str = text()
    account: str = text()
    region: str = text()
    profile: str = text()
    state: str = text(pattern="enrolled|revoked")
    enrolled_at: str = text(pattern=INSTANT)
    revoked_at: str | None = text(pattern=INSTANT)
    revoked_by: str | None = text(longest=2048)

    @classmethod
    def of(cls, row: Instance) -> "InstanceShown":
        """Of a row."""
        revoked_at = instant(row.revoked_at) if row.revoked_at else None
        return cls(
            row.id, row.instance_id, row.account, row.region, row.profile, row.state.value, instant(row.enrolled_at),
            revoked_at, row.revoked_by,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class CertificateShown:
    """A certificate; `serial` and `sha256` in hex."""

    serial: str = text(pattern="[0-9a-f]+")
    state: str = text(pattern="active|superseded|revoked")
    not_before: str = text(pattern=INSTANT)
    not_after: str = text(pattern=INSTANT)
    sha256: str = text(pattern="[0-9a-f]{64}")

    @classmethod
    def of(cls, row: Certificate) -> "CertificateShown":
        """Of a row."""
        return cls(row.serial, row.state.value, instant(row.not_before), instant(row.not_after), row.sha256)


@dataclass(frozen=True, slots=True)
class TicketShown:
    """A ticket, never its secret. Once it is redeemed, `redeemed_by` is the SPIFFE ID and `serial` what it gave."""

    id: str = text()
    profile: str = text()
    instance_id: str | None = text()
    state: str = text(pattern="open|redeemed|revoked")
    created_at: str = text(pattern=INSTANT)
    created_by: str = text(longest=2048)
    expires_at: str = text(pattern=INSTANT)
    redeemed_by: str | None = text(longest=2048)
    serial: str | None = text(pattern="[0-9a-f]+")

    @classmethod
    def of(cls, row: Ticket) -> "TicketShown":
        """Of a row."""
        return cls(
            row.id, row.profile, row.instance_id, row.state.value, instant(row.created_at), row.created_by,
            instant(row.expires_at), row.redeemed_by, row.serial,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class LeaseShown:
    """What was vended, never the secret of it. `held`: what for the gateway keeps the session to itself, or null."""

    id: str = text()
    instance: str = text(longest=2048)
    profile: str = text()
    grant: str = text()
    upstream: str = text()
    role: str = text(longest=2048)
    session_name: str = text()
    access_key_id: str = text()
    issued_at: str = text(pattern=INSTANT)
    expires_at: str = text(pattern=INSTANT)
    revoked_at: str | None = text(pattern=INSTANT)
    held: str | None = text()

    @classmethod
    def of(cls, row: Lease) -> "LeaseShown":
        """Of a row."""
        revoked_at = instant(row.revoked_at) if row.revoked_at else None
        return cls(
            row.id, row.instance, row.profile, row.grant, row.upstream, row.role, row.session_name, row.access_key_id,
            instant(row.issued_at), instant(row.expires_at), revoked_at, row.held,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Unseen:
    """An account and a region whose machines AWS did not tell about, and the problem."""

    account: str = text()
    region: str = text()
    code: str = text()
