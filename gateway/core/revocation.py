"""What a revocation changes. Pure: the rows that were found go in, the rows as they become come out."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from certs.reasons import Reason
from gateway.core.model import (
    BearerToken,
    Certificate,
    CertificateState,
    DummyKey,
    Instance,
    InstanceState,
    Lease,
    Profile,
    Ticket,
    TicketState,
)
from gateway.core.operator_model import Operator, OperatorState
from gateway.wire.messages import instant

WHOLE = "*"
"""In `Profile.revoked`: all of it."""


class Target(StrEnum):
    """What can be revoked."""

    INSTANCE = "instance"
    CERTIFICATE = "certificate"
    LEASE = "lease"
    GRANT = "grant"
    PROFILE = "profile"
    TICKET = "ticket"
    OPERATOR = "operator"
    EVERYTHING = "everything"


@dataclass(frozen=True, slots=True)
class Found:
    """The rows that a revocation means. `name` is what it means, as the receipt calls it; `stops` says what of the
    profiles is out of force from now on: a grant's name, or `WHOLE`. `leases` are live.
    """

    name: str
    instances: tuple[Instance, ...] = ()
    certificates: tuple[Certificate, ...] = ()
    tickets: tuple[Ticket, ...] = ()
    leases: tuple[Lease, ...] = ()
    tokens: tuple[BearerToken, ...] = ()
    keys: tuple[DummyKey, ...] = ()
    operators: tuple[Operator, ...] = ()
    profiles: tuple[Profile, ...] = ()
    stops: str = WHOLE


@dataclass(frozen=True, slots=True)
class Plan:
    """The rows as they are and as they become; of bearer tokens those that go. `leases` are all that AWS goes on
    honouring if it is not told: those that were cut off before are here, too.
    """

    name: str
    instances: tuple[tuple[Instance, Instance], ...]
    certificates: tuple[tuple[Certificate, Certificate], ...]
    tickets: tuple[tuple[Ticket, Ticket], ...]
    leases: tuple[tuple[Lease, Lease], ...]
    keys: tuple[tuple[DummyKey, DummyKey], ...]
    operators: tuple[tuple[Operator, Operator], ...]
    profiles: tuple[tuple[Profile, Profile], ...]
    tokens: tuple[BearerToken, ...]

    @property
    def changes(self) -> bool:
        """Whether anything is not revoked yet."""
        pairs: tuple[tuple[object, object], ...] = (
            *self.instances, *self.certificates, *self.tickets, *self.leases, *self.keys, *self.operators,
            *self.profiles,
        )  # fmt: skip
        return bool(self.tokens) or any(before != after for before, after in pairs)

    @property
    def given(self) -> tuple[Lease, ...]:
        """The leases whose sessions were given away."""
        return tuple(after for _, after in self.leases if not after.held)

    @property
    def agents(self) -> tuple[str, ...]:
        """The instances that hold something of it which works beyond the gateway."""
        return tuple(sorted({lease.instance for lease in self.given}))


def plan(found: Found, by: str, now: datetime) -> Plan:
    """Revoke all of it. What is revoked already keeps its first time.

    RFC 5280 section 5.3.1: the reason is privilegeWithdrawn.
    """
    return Plan(
        name=found.name,
        instances=tuple((row, _instance(row, by, now)) for row in found.instances),
        certificates=tuple(
            (c, replace(c, state=CertificateState.REVOKED, revoked_at=now, reason=Reason.PRIVILEGE_WITHDRAWN.value))
            for c in found.certificates
            if c.state is not CertificateState.REVOKED and c.not_after >= now
        ),
        tickets=tuple((t, replace(t, state=TicketState.REVOKED)) for t in found.tickets if t.state is TicketState.OPEN),
        leases=tuple(
            (each, replace(each, revoked_at=each.revoked_at or now, sealed_session=None)) for each in found.leases
        ),
        # Who shows one from now on is noticed: so they are over, and not forgotten.
        keys=tuple((key, replace(key, expires_at=now)) for key in found.keys if key.expires_at > now),
        operators=tuple(
            (each, replace(each, state=OperatorState.REVOKED, revoked_at=now, revoked_by=by))
            for each in found.operators
            if each.state is not OperatorState.REVOKED
        ),
        profiles=tuple((row, _stopped(row, found.stops, now)) for row in found.profiles),
        tokens=found.tokens,
    )


def is_stopped(profile: Profile, grant: str = WHOLE) -> bool:
    """Whether the profile, or this grant of it, was revoked since it was applied."""
    return profile.revoked is not None and not {WHOLE, grant}.isdisjoint(profile.revoked)


def key_revoked_at(certificates: Iterable[Certificate], instance: Instance) -> datetime | None:
    """When the key by which an enrolled instance is in was revoked with a certificate, if it was: then it brings nobody
    back.
    """
    if instance.state is not InstanceState.ENROLLED:
        return None
    return max(
        (
            row.revoked_at
            for row in certificates
            if row.key_sha256 == instance.key_sha256
            and row.revoked_at is not None
            and row.revoked_at >= instance.enrolled_at
        ),
        default=None,
    )


def _instance(row: Instance, by: str, now: datetime) -> Instance:
    if row.state is InstanceState.REVOKED:
        return row
    return replace(row, state=InstanceState.REVOKED, revoked_at=now, revoked_by=by, reenroll_until=None)


def _stopped(row: Profile, what: str, now: datetime) -> Profile:
    return row if is_stopped(row, what) else replace(row, revoked={**(row.revoked or {}), what: instant(now)})
