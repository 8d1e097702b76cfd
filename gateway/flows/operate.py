"""What operators do: tickets, looking at instances, reading the audit log. Each leaves one decision."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from gateway.core.audit import Kind
from gateway.core.errors import Refusal
from gateway.core.model import (
    Certificate,
    CertificateState,
    Instance,
    InstanceState,
    Lease,
    Ticket,
    TicketState,
)
from gateway.core.revocation import is_stopped
from gateway.flows.journal import Call, Journal
from gateway.flows.revoke import find_instance
from gateway.ports import Clock, RandomBytes, Store, Transaction
from gateway.wire.messages import instant

TICKET_LIFE = timedelta(minutes=15)
REENROLL = timedelta(minutes=15)


@dataclass(frozen=True, slots=True, repr=False)
class IssuedTicket:
    """A ticket as it is given out, once: `secret` goes into user-data, `ticket` is what we remember."""

    secret: str
    ticket: Ticket


class Operate:
    """Raises Refusal."""

    def __init__(self, store: Store, journal: Journal, clock: Clock, random: RandomBytes) -> None:
        self._store = store
        self._journal = journal
        self._clock = clock
        self._random = random

    def create_ticket(self, call: Call, profile_name: str, instance_id: str | None, life: timedelta) -> IssuedTicket:
        """A ticket for a profile, maybe for one instance only. Its secret is in the answer and nowhere else."""
        now = self._clock()
        secret = self._random(24).hex()
        ticket = Ticket(
            sha256=hashlib.sha256(secret.encode()).hexdigest(),
            id=f"t-{self._random(6).hex()}",
            profile=profile_name,
            instance_id=instance_id,
            created_at=now,
            created_by=call.subject or "",
            expires_at=now + life,
        )
        call.object = f"ticket/{ticket.id}"
        call.present("ticket", secret.encode())

        def unit(tx: Transaction) -> None:
            applied = tx.profiles.get(name=profile_name)
            if applied is None:
                raise Refusal("profile_unknown")
            if is_stopped(applied):
                raise Refusal(
                    "profile_unknown", "The profile is revoked: apply it anew first", reason="profile_revoked"
                )
            if not tx.tickets.add(ticket):
                raise Refusal("conflict")
            tx.audit.append(
                call.event(
                    Kind.DECISION, profile=profile_name, instance_id=instance_id, expires_at=instant(ticket.expires_at)
                )
            )

        self._journal.write(call, unit)
        return IssuedTicket(secret, ticket)

    def instances(self, call: Call, *, after: str | None, limit: int, **equal: str) -> list[Instance]:
        """A page of instances by id: those whose fields equal `equal`."""
        self._journal.allow(call, **equal)
        found: list[Instance] = []
        with self._store.read() as tx:
            while len(found) < limit:
                rows = tx.instances.find(after=after, limit=limit, **_typed(equal, InstanceState))
                found += filter(call.sees, rows)
                if len(rows) < limit:
                    break
                after = rows[-1].id
        return found[:limit]

    def certificates(self, call: Call, named: str, *, after: str | None, limit: int, **equal: str) -> list[Certificate]:
        """A page of an instance's certificates by serial number."""
        with self._store.read() as tx:
            call.object = find_instance(tx, named, call.sees).id
        self._journal.allow(call, **equal)
        with self._store.read() as tx:
            typed = _typed(equal, CertificateState)
            return list(tx.certificates.find(after=after, limit=limit, subject=call.object, **typed))

    def tickets(self, call: Call, *, after: str | None, limit: int, **equal: str) -> list[Ticket]:
        """A page of tickets, in no order that means anything. What they were is all there is: no secret is kept."""
        self._journal.allow(call, **equal)
        with self._store.read() as tx:
            return list(tx.tickets.find(after=after, limit=limit, **_typed(equal, TicketState)))

    def leases(
        self, call: Call, *, after: str | None, limit: int, live: bool, instance: str | None, **equal: str
    ) -> list[Lease]:
        """A page of leases by id; of one instance, if one is named, and only those that are `live`."""
        if instance is not None:
            with self._store.read() as tx:
                equal = {**equal, "instance": find_instance(tx, instance, call.sees).id}
        self._journal.allow(call, live=live, **equal)
        with self._store.read() as tx:
            if live:
                return list(tx.leases.find_live(self._clock(), revoked_too=False, after=after, limit=limit, **equal))
            return list(tx.leases.find(after=after, limit=limit, **equal))

    def instance(self, call: Call, named: str) -> tuple[Instance, list[Certificate], list[dict[str, Any]]]:
        """One instance, its certificates, and the leases that AWS still honours."""
        with self._store.read() as tx:
            found = find_instance(tx, named, call.sees)
            certificates = list(tx.certificates.find(subject=found.id))
            leases = [
                {"lease": lease.id, "grant": lease.grant, "role": lease.role, "until": instant(lease.expires_at)}
                for lease in tx.leases.live(found.id, self._clock())
            ]
        call.object = found.id
        self._journal.allow(call)
        return found, certificates, leases

    def allow_reenroll(self, call: Call, named: str) -> datetime:
        """Let an instance whose key is lost come back once, within 15 minutes, with a new key."""
        until = self._clock() + REENROLL

        def unit(tx: Transaction) -> None:
            found = find_instance(tx, named, call.sees)
            call.object = found.id
            if found.state is InstanceState.REVOKED:
                raise Refusal("instance_revoked")
            if "anchor" in found.claims:
                raise Refusal(
                    "conflict", "It has a certificate of a trust anchor, and never enrols", reason="never_enrols"
                )
            if not tx.instances.swap(found, replace(found, reenroll_until=until)):
                raise Refusal("conflict")
            tx.audit.append(call.event(Kind.DECISION, until=instant(until)))

        self._journal.write(call, unit)
        return until

    def status(self, call: Call) -> dict[str, Any]:
        """Counts and dates that tell whether all is well."""
        self._journal.allow(call)
        with self._store.read() as tx:
            instances = {state.value: tx.instances.count(state=state) for state in InstanceState}
            crl = tx.crls.get(issuer="instances")
            keys = tx.upstream_keys.find()
            heads = tx.audit.heads()
            active = tx.certificates.count_in_force("instance", self._clock())
        return {
            "at": instant(self._clock()),
            "instances": instances,
            "certificates_active": active,
            "upstream_keys": [
                {"name": key.name, "account": key.account, "access_key_id": key.access_key_id} for key in keys
            ],
            "crl": {"number": crl.number, "next_update": instant(crl.next_update)} if crl else None,
            "audit": {head.chain: {"records": head.seq, "hash": head.hash} for head in heads},
        }


def _typed(equal: Mapping[str, str], state: Callable[[str], object]) -> dict[str, Any]:
    return {name: state(value) if name == "state" else value for name, value in equal.items()}
