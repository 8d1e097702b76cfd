"""What a revocation changes, and what its receipt says. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from certs.reasons import Reason
from gateway.core.model import Certificate, CertificateState, Instance, InstanceState, Lease, Ticket, TicketState
from gateway.wire.messages import instant


@dataclass(frozen=True, slots=True)
class Plan:
    """The rows as they are and as they become, and what AWS goes on honouring."""

    instance: tuple[Instance, Instance]
    certificates: tuple[tuple[Certificate, Certificate], ...]
    tickets: tuple[tuple[Ticket, Ticket], ...]
    leases: tuple[Lease, ...]


def plan(
    instance: Instance,
    certificates: Sequence[Certificate],
    tickets: Sequence[Ticket],
    leases: Sequence[Lease],
    by: str,
    now: datetime,
) -> Plan:
    """Revoke an instance: itself, every certificate of it that could still be used, every open ticket made for it.

    RFC 5280 section 5.3.1: the reason is privilegeWithdrawn. An instance that is revoked already keeps its first time.
    """
    revoked = replace(instance, state=InstanceState.REVOKED, revoked_at=now, revoked_by=by, reenroll_until=None)
    if instance.state is InstanceState.REVOKED:
        revoked = instance
    return Plan(
        instance=(instance, revoked),
        certificates=tuple(
            (c, replace(c, state=CertificateState.REVOKED, revoked_at=now, reason=Reason.PRIVILEGE_WITHDRAWN.value))
            for c in certificates
            if c.state is not CertificateState.REVOKED and c.not_after >= now
        ),
        tickets=tuple((t, replace(t, state=TicketState.REVOKED)) for t in tickets if t.state is TicketState.OPEN),
        leases=tuple(leases),
    )


def receipt(plan: Plan, crl_number: int | None, now: datetime) -> dict[str, Any]:
    """What is cut off now, and what AWS will still honour, and until when: plain values for API and CLI."""
    _, instance = plan.instance
    given = [lease for lease in plan.leases if not lease.held]
    kept = [lease for lease in plan.leases if lease.held]
    ends = max((lease.expires_at for lease in given), default=None)
    return {
        "instance": instance.id,
        "instance_id": instance.instance_id,
        "revoked_at": instant(instance.revoked_at) if instance.revoked_at else None,
        "at": instant(now),
        "gateway": {
            "refuses": "every request begun after this answer, on open connections too",
            "certificates": [after.serial for _, after in plan.certificates],
            "tickets": [after.id for _, after in plan.tickets],
        },
        "crl": {"published": crl_number is not None, "number": crl_number},
        "agent": {"stops_within_seconds": 5},
        "aws": {
            "still_honours": [
                {
                    "lease": lease.id,
                    "grant": lease.grant,
                    "role": lease.role,
                    "session_name": lease.session_name,
                    "access_key_id": lease.access_key_id,
                    "until": instant(lease.expires_at),
                }
                for lease in given
            ],
            "until": instant(ends) if ends else None,
            # Nobody has these; but what was signed with them can be used for as long as AWS takes a signature, a
            # presigned URL for as long as it says, and none of it beyond the session.
            "forgotten": [
                {"lease": lease.id, "grant": lease.grant, "until": instant(lease.expires_at)} for lease in kept
            ],
        },
    }
