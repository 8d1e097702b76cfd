"""What operators do: tickets, looking at instances, reading the audit log. Each leaves one decision."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from gateway.core.audit import Kind
from gateway.core.errors import Refusal
from gateway.core.model import Certificate, CertificateState, Instance, InstanceState, Ticket
from gateway.flows.journal import Call, Journal
from gateway.flows.revoke import find_instance
from gateway.ports import Clock, RandomBytes, Store, Transaction
from gateway.wire.messages import instant

TICKET_LIFE = timedelta(minutes=15)
REENROLL = timedelta(minutes=15)
AUDIT_PAGE = 1000


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

        def unit(tx: Transaction) -> None:
            if tx.profiles.get(name=profile_name) is None:
                raise Refusal("profile_unknown")
            if not tx.tickets.add(ticket):
                raise Refusal("conflict")
            tx.audit.append(
                call.event(
                    Kind.DECISION, profile=profile_name, instance_id=instance_id, expires_at=instant(ticket.expires_at)
                )
            )

        self._journal.write(call, unit)
        return IssuedTicket(secret, ticket)

    def instances(self, call: Call, *, after: str | None, limit: int) -> list[Instance]:
        """A page of instances by id."""
        self._journal.allow(call)
        with self._store.read() as tx:
            return list(tx.instances.find(after=after, limit=limit))

    def instance(self, call: Call, named: str) -> tuple[Instance, list[Certificate], list[dict[str, Any]]]:
        """One instance, its certificates, and the leases that AWS still honours."""
        with self._store.read() as tx:
            found = find_instance(tx, named)
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
            found = find_instance(tx, named)
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

    def audit_lines(self, call: Call, after: Mapping[str, int], limit: int) -> list[tuple[str, int, str, str]]:
        """A page of the audit log behind the positions `after`: rows (chain, seq, line, hash)."""
        self._journal.allow(call, after=dict(after))
        with self._store.read() as tx:
            return list(tx.audit.lines(after, min(limit, AUDIT_PAGE)))

    def status(self, call: Call) -> dict[str, Any]:
        """Counts and dates that tell whether all is well."""
        self._journal.allow(call)
        with self._store.read() as tx:
            instances = tx.instances.find()
            crl = tx.crls.get(issuer="instances")
            keys = tx.upstream_keys.find()
            heads = tx.audit.heads()
            active = tx.certificates.find(kind="instance", state=CertificateState.ACTIVE)
        return {
            "at": instant(self._clock()),
            "instances": {state.value: sum(1 for row in instances if row.state is state) for state in InstanceState},
            "certificates_active": sum(1 for row in active if row.not_after >= self._clock()),
            "upstream_keys": [
                {"name": key.name, "account": key.account, "access_key_id": key.access_key_id} for key in keys
            ],
            "crl": {"number": crl.number, "next_update": instant(crl.next_update)} if crl else None,
            "audit": {head.chain: {"records": head.seq, "hash": head.hash} for head in heads},
        }
