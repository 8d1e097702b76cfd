"""May this ticket, or this key, bring this instance in? Pure decisions on rows of the store."""

from datetime import datetime

from gateway.core.errors import Refusal
from gateway.core.model import Instance, InstanceState, Ticket, TicketState


def check_ticket(ticket: Ticket | None, instance_id: str, key_sha256: str, now: datetime) -> Ticket:
    """The ticket must be open, in time, and made for this instance if for any; or redeemed by this very key.

    Unknown, revoked, expired and foreign tickets answer alike, so that a guess teaches nothing; the audit record has
    the reason. Raises Refusal.
    """
    if ticket is None:
        raise Refusal("ticket_invalid", reason="ticket_unknown")
    if ticket.state is TicketState.REVOKED:
        raise Refusal("ticket_invalid", reason="ticket_revoked", ticket=ticket.id)
    if ticket.instance_id is not None and ticket.instance_id != instance_id:
        raise Refusal("ticket_invalid", reason="ticket_for_another_instance", ticket=ticket.id)
    if now >= ticket.expires_at:
        raise Refusal("ticket_invalid", reason="ticket_expired", ticket=ticket.id)
    if ticket.state is TicketState.REDEEMED and ticket.key_sha256 != key_sha256:
        raise Refusal("ticket_used", ticket=ticket.id)
    return ticket


def check_newcomer(
    instance: Instance | None, ticket: Ticket, key_sha256: str, now: datetime, *, key_revoked_at: datetime | None = None
) -> None:
    """A ticket opens the door to a machine that is not in yet; else see decisions about its return.

    An enrolled instance with another key is refused (somebody copied its document) unless an operator allowed it back;
    a revoked one needs a ticket that names it and was made after the revocation, and so does one whose key was revoked
    with its certificate: that key itself is never taken again. Raises Refusal.
    """
    if instance is None:
        return
    if key_revoked_at is not None and instance.key_sha256 == key_sha256:
        raise Refusal("instance_revoked", reason="key_revoked")
    revoked_at = key_revoked_at if instance.state is InstanceState.ENROLLED else instance.revoked_at
    if instance.state is InstanceState.REVOKED or (key_revoked_at is not None and not may_reenroll(instance, now)):
        made_for_it = ticket.instance_id == instance.instance_id
        if not (made_for_it and revoked_at is not None and ticket.created_at > revoked_at):
            raise Refusal("instance_revoked", reason="instance_revoked_ticket_not_by_name")
    elif key_revoked_at is None and instance.key_sha256 != key_sha256 and not may_reenroll(instance, now):
        raise Refusal("instance_enrolled", reason="evidence_of_enrolled_instance_from_another_key")


def check_return(
    instance: Instance | None, key_sha256: str, now: datetime, *, key_revoked_at: datetime | None = None
) -> Instance:
    """A machine that comes back without a ticket must be enrolled, unrevoked, and hold the key that it enrolled with.

    An operator's `allow-reenroll` lets a new key in, once. Raises Refusal.
    """
    if instance is None:
        raise Refusal("proof_refused", reason="instance_unknown")
    if instance.state is InstanceState.REVOKED:
        raise Refusal("instance_revoked")
    if instance.key_sha256 == key_sha256 and key_revoked_at is not None:
        raise Refusal("instance_revoked", reason="key_revoked")
    if instance.key_sha256 != key_sha256 and not may_reenroll(instance, now):
        raise Refusal("instance_enrolled", reason="proof_by_another_key")
    return instance


def may_reenroll(instance: Instance, now: datetime) -> bool:
    """An operator allowed this instance back with a new key, and the time for it is not over."""
    return instance.reenroll_until is not None and now < instance.reenroll_until
