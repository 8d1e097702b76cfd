"""Launching machines: RunInstances with a ticket in user-data, and nothing that is secret beside it.

The ticket and AWS's client token are made of the order and its idempotency key: whoever sends the request again after a
crash gets the same machines, not more of them. A ticket is bound to its machine as soon as that has an id, so that one
that leaks serves nobody else; one whose machine never was expires.
"""

import hashlib
import hmac
import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from typing import Any

from gateway.core import profile, servers
from gateway.core.audit import Kind
from gateway.core.errors import Refusal
from gateway.core.model import Profile, Ticket, TicketState
from gateway.core.operator_model import Launch as LaunchRow
from gateway.core.revocation import is_stopped
from gateway.core.rights import Rights
from gateway.core.servers import LaunchPlan, Machine, MachineOrder, Server
from gateway.flows.journal import Call, Journal
from gateway.flows.operate import TICKET_LIFE
from gateway.flows.servers import server_of
from gateway.flows.vault import UpstreamKeys
from gateway.ports import Clock, Machines, OpenableKey, RandomBytes, SecretDetector, Store, Transaction
from gateway.wire.secret import Secret

AT_ONCE = 4  # of the places that the adapter has for all calls to AWS


@dataclass(frozen=True, slots=True)
class Order:
    """What an operator asks for: `count` machines of a profile. `user_data` replaces the profile's."""

    profile: str
    count: int = 1
    name: str | None = None
    user_data: str | None = None


@dataclass(frozen=True, slots=True)
class Launched:
    """The servers that were launched, and what AWS refused the others with."""

    servers: Sequence[Server]
    refused: Sequence[Refusal]


@dataclass(frozen=True, slots=True)
class _Plan:
    """An order that may be carried out: where, how, and with which key."""

    order: Order
    profile: Profile
    launch: LaunchPlan
    key: OpenableKey
    account: str
    extra: str


@dataclass(frozen=True, slots=True, repr=False)
class _Seat:
    """One machine of an order, before it is there: its ticket, and the token that AWS knows the request by."""

    number: int
    secret: str
    sha256: str
    client_token: str


class Launch:
    """Raises Refusal: `user_data_refused` for what looks like a secret, `operator_forbidden` outside the conditions."""

    def __init__(
        self,
        store: Store,
        journal: Journal,
        keys: UpstreamKeys,
        machines: Machines,
        detector: SecretDetector,
        clock: Clock,
        random: RandomBytes,
        seed: Secret,
        line: Callable[[str], str],
        regions: Sequence[str],
    ) -> None:
        """`seed` is what tickets are made of; `line` makes of a ticket the line for user-data."""
        self._store = store
        self._journal = journal
        self._keys = keys
        self._machines = machines
        self._detector = detector
        self._clock = clock
        self._random = random
        self._seed = seed
        self._line = line
        self._regions = regions

    def run(self, call: Call, rights: Rights, order: Order, key: str | None) -> Launched:
        """Launch them. Under the same idempotency `key`, those that are there already are not launched again."""
        call.object = f"profile/{order.profile}"
        plan = self._plan(call, rights, order)
        # All of the order is in it: a key that is free again, or forgotten, finds no machine of another order.
        origin = json.dumps([call.subject, key or self._random(16).hex(), asdict(order)])
        seats = [self._seat(f"{origin}\n{number}", number) for number in range(order.count)]
        self._journal.write(call, lambda tx: self._decide(call, tx, plan, seats))
        with ThreadPoolExecutor(AT_ONCE) as pool:
            done = list(pool.map(lambda seat: self._launch(call, plan, seat), seats))
        launched = [each for each in done if isinstance(each, Server)]
        refused = [each for each in done if isinstance(each, Refusal)]
        if not launched:
            raise refused[0]
        for refusal in refused:
            self._tell(call, refusal)
        return Launched(launched, refused)

    def _plan(self, call: Call, rights: Rights, order: Order) -> _Plan:
        with self._store.read() as tx:
            row = tx.profiles.get(name=order.profile)
            if row is None:
                raise Refusal("profile_unknown")
            if is_stopped(row):
                raise Refusal(
                    "profile_unknown", "The profile is revoked: apply it anew first", reason="profile_revoked"
                )
            rules = profile.read(row.document, source_address=False)
            if rules.launch is None:
                raise Refusal("launch_missing")
            key, account = self._keys.openable(tx, rules.upstream)
        if rules.launch.region not in self._regions:
            detail = f"{rules.launch.region} is not among the settings' servers.regions"
            raise Refusal("launch_missing", detail, reason="launch_region")
        extra = rules.launch.user_data if order.user_data is None else order.user_data
        self.demand_harmless(extra)
        plan = _Plan(order, row, rules.launch, key, account, extra)
        if not all(
            rights.covers(call.name, account, rules.launch.region, _tags(plan, number)) for number in range(order.count)
        ):
            raise Refusal("operator_forbidden", "Not in this account, in this region or with these tags",
                          reason="server_outside_conditions")  # fmt: skip
        return plan

    def demand_harmless(self, extra: str) -> None:
        """Refuse user-data that is none, or holds what looks like a secret. What it is, is never told."""
        faults = [f"user_data: {fault}" for fault in servers.user_data_faults(extra)]
        if faults:
            raise Refusal("malformed_request", "; ".join(faults), faults=tuple(faults))
        if found := self._detector(extra):
            kinds = sorted({each.kind for each in found})
            raise Refusal("user_data_refused", faults=tuple(f"user_data, {each}" for each in found),
                          kinds=kinds, lines=sorted({each.line for each in found}))  # fmt: skip

    def _seat(self, origin: str, number: int) -> _Seat:
        def made(what: str) -> str:
            with self._seed as seed:
                return hmac.new(seed, f"{what}\n{origin}".encode(), hashlib.sha256).hexdigest()

        secret = made("ticket")[:48]
        return _Seat(number, secret, hashlib.sha256(secret.encode()).hexdigest(), made("client token"))

    def _decide(self, call: Call, tx: Transaction, plan: _Plan, seats: Sequence[_Seat]) -> None:
        if tx.profiles.get(name=plan.order.profile) != plan.profile:  # it may have been revoked
            raise Refusal("conflict", "The profile was changed meanwhile", reason="profile_changed")
        now = self._clock()
        tickets = []
        for seat in seats:
            ticket = tx.tickets.get(sha256=seat.sha256)
            if ticket is None:
                ticket = Ticket(
                    sha256=seat.sha256,
                    id=f"t-{self._random(6).hex()}",
                    profile=plan.order.profile,
                    instance_id=None,
                    created_at=now,
                    created_by=call.subject or "",
                    expires_at=now + TICKET_LIFE,
                )
                kept = tx.tickets.add(ticket)
            elif ticket.state is TicketState.REVOKED:
                raise Refusal("conflict", "A ticket of this launch was revoked meanwhile", reason="ticket_revoked")
            else:
                again = ticket.state is TicketState.OPEN and ticket.instance_id is None
                kept = not again or tx.tickets.swap(ticket, replace(ticket, expires_at=now + TICKET_LIFE))
            if not kept:
                raise Refusal("conflict")
            tickets.append(ticket.id)
        launch = plan.launch
        facts: dict[str, Any] = {"account": plan.account, "region": launch.region}
        facts |= {"image": launch.image, "type": launch.type}
        tx.audit.append(call.event(Kind.DECISION, count=plan.order.count, tickets=tickets, **facts))
        tx.audit.append(call.event(Kind.INTENT, reason="asked"))

    def _launch(self, call: Call, plan: _Plan, seat: _Seat) -> Server | Refusal:
        """One machine. What was done before a crash is found, and not done again."""
        try:
            with self._store.read() as tx:
                ticket = tx.tickets.get(sha256=seat.sha256)
            if ticket is not None and ticket.instance_id is not None:
                machine = self._machines.one(plan.key, plan.launch.region, ticket.instance_id)
                if machine is None:
                    raise Refusal("server_unknown", "It was launched, and AWS does not know it any more")
                with self._store.read() as tx:
                    return server_of(machine, None, tx)
            user_data = servers.user_data(plan.extra, self._line(seat.secret))
            order = MachineOrder(plan.launch, _tags(plan, seat.number), user_data, seat.client_token)
            machine, request_id = self._machines.run(plan.key, order)
            return self._store.write(lambda tx: self._remember(call, tx, plan, seat, machine, request_id))
        except Refusal as refusal:
            return refusal

    def _remember(
        self, call: Call, tx: Transaction, plan: _Plan, seat: _Seat, machine: Machine, request_id: str
    ) -> Server:
        ticket = tx.tickets.get(sha256=seat.sha256)
        facts: dict[str, Any] = {"server": machine.id, "aws_request_id": request_id}
        if call.hide:  # as `Call.present` has it, of one of several
            facts["presented"] = {"ticket": call.hide("ticket", seat.sha256)}
        if ticket is not None:
            facts["ticket"] = ticket.id
            if ticket.redeemed_by and not ticket.redeemed_by.endswith(f"/{machine.id}"):
                facts["ticket_redeemed_by"] = ticket.redeemed_by  # it leaked: somebody else was let in
            else:
                tx.tickets.swap(ticket, replace(ticket, instance_id=machine.instance_id))
        tx.launches.add(
            LaunchRow(
                id=machine.id,
                account=machine.account,
                region=machine.region,
                instance_id=machine.instance_id,
                profile=plan.order.profile,
                ticket=ticket.id if ticket else None,
                by=call.subject or "",
                at=self._clock(),
            )
        )
        tx.audit.append(call.event(Kind.OUTCOME, **facts))
        return server_of(machine, None, tx)

    def _tell(self, call: Call, refusal: Refusal) -> None:
        """Some were launched: this one was not, and the log says so."""
        facts: dict[str, Any] = {"code": refusal.code, **refusal.context}
        self._store.write(
            lambda tx: tx.audit.append(call.event(Kind.OUTCOME, allowed=False, reason=refusal.reason, **facts))
        )


def _tags(plan: _Plan, number: int) -> Mapping[str, str]:
    """Those of the profile, and a name: `web`, or `web-1` and so on for several."""
    name, count = plan.order.name, plan.order.count
    if name is None:
        return plan.launch.tags
    return {**plan.launch.tags, "Name": f"{name}-{number + 1}" if count > 1 else name}
