"""Vending: a grant in, a short-lived scoped AWS session out. Asked, recorded, minted, recorded, answered.

A session is sealed and kept with its lease. Whoever asks for exactly the same gets the same again while enough of it is
left, from every worker and node, after a restart too; so the store is the cache, and revocation empties it.
"""

import logging
import time
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from gateway.core.audit import Kind
from gateway.core.errors import Refusal
from gateway.core.identity import Identity
from gateway.core.lease import Order, Plan, choose_grant, is_alive, is_fresh, plan
from gateway.core.model import Flight, Lease, Session, SessionRequest
from gateway.core.profile import ProfileRules
from gateway.flows.applied import Applied
from gateway.flows.identify import demand_standing
from gateway.flows.journal import Call, Journal
from gateway.flows.vault import SealedSessions, UpstreamKeys
from gateway.ports import Clock, OpenableKey, RandomBytes, Store, Transaction, Upstream
from gateway.wire import messages

log = logging.getLogger("trusted_gateway.vend")

# How far AWS's clock and ours may differ. AWS gives a session exactly the life that was asked for.
SKEW = timedelta(minutes=5)
FLIGHT = timedelta(seconds=8)
"""How long a mint may take, recording included, before it counts as lost: AWS has 4.5 seconds of it."""
BEHIND_ITS_BACK = "revoked_while_vending"
MOST_LIVE = 256
"""Sessions of one instance: each that differs from the others costs a call to STS, whose patience is for all."""
# Seconds: for how long someone waits for a mint that another has begun, and may then begin one; and between two looks.
_PATIENCE, _TRIES, _PAUSE = 4.75, 1.0, 0.05


@dataclass(frozen=True, slots=True, repr=False)
class Vended:
    """A lease, and the session that it stands for, which holds secrets."""

    lease: Lease
    session: Session


@dataclass(frozen=True, slots=True)
class Asked:
    """One request for a session, on its way. `account` is the one in which the session acts."""

    call: Call
    identity: Identity
    rules: ProfileRules
    plan: Plan
    key: OpenableKey
    account: str


class Vend:
    """GET /v1/grants, POST /v1/credentials, and what other doors give out by `give`. Raises Refusal."""

    def __init__(
        self,
        store: Store,
        journal: Journal,
        keys: UpstreamKeys,
        sealed: SealedSessions,
        upstream: Upstream,
        clock: Clock,
        random: RandomBytes,
    ) -> None:
        self._store = store
        self._journal = journal
        self._keys = keys
        self._sealed = sealed
        self._upstream = upstream
        self._clock = clock
        self._random = random
        self._applied = Applied()

    def grants(self, call: Call, identity: Identity) -> messages.GrantsAnswer:
        """What this instance may ask for."""
        rules = self.rules(identity)
        self._journal.allow(call)
        summaries = [
            messages.GrantSummary(
                each.name, int(each.duration.total_seconds()), each.doors, each.users, each.deliver.ways
            )
            for each in rules.grants.values()
        ]
        return messages.GrantsAnswer(rules.name, tuple(summaries))

    def vend(self, call: Call, identity: Identity, request: messages.CredentialsRequest) -> messages.CredentialsAnswer:
        """Credentials for one grant of the caller's profile."""
        given = self.give(call, identity, Order(request.grant, seconds=request.duration, policy=request.policy))
        return messages.CredentialsAnswer(
            lease=given.lease.id,
            access_key_id=given.session.access_key_id,
            secret_access_key=given.session.secret_access_key,
            session_token=given.session.session_token,
            expiration=messages.instant(given.session.expires_at),
        )

    def understand(self, call: Call, identity: Identity, order: Order) -> Asked:
        """What AWS would be asked for to answer this order. Raises Refusal."""
        with self._store.read() as tx:
            return self._understood(tx, call, identity, order)

    def is_current(self, tx: Transaction, asked: Asked) -> bool:
        """Whether the instance's profile still is what the order was understood by."""
        return self._applied.rules(tx, asked.identity) == asked.rules

    def hold(self, asked: Asked) -> Vended:
        """The session of an order with `held`: the gateway calls AWS with it, or signs, and it never leaves.

        Nothing is decided here: whoever calls this records its decision afterwards, and only then lets anything go.
        """
        with self._store.read() as tx:
            lease = _newest(tx, asked, self._clock())
        return self._get(asked, lease)

    def rules(self, identity: Identity) -> ProfileRules:
        """The caller's profile. Raises Refusal `grant_refused` when it is gone, or was revoked."""
        with self._store.read() as tx:
            return self._applied.rules(tx, identity)

    def give(self, call: Call, identity: Identity, order: Order) -> Vended:
        """The session that answers this order: one that is there already, or a new one."""
        call.object = f"grant/{order.grant}"
        with self._store.read() as tx:
            asked = self._understood(tx, call, identity, order)
            lease = _newest(tx, asked, self._clock())
        return self._get(asked, lease)

    def _get(self, asked: Asked, lease: Lease | None) -> Vended:
        begun = time.monotonic()
        while True:
            if lease is not None and is_fresh(lease, self._clock()):
                return self._give_again(asked, lease, "vended_again")
            if time.monotonic() - begun > _TRIES:  # whoever was at it has failed, and has taken long to
                if lease is not None and is_alive(lease, self._clock()):
                    log.warning("AWS does not answer: lease %s is given again", lease.id)
                    return self._give_again(asked, lease, "vended_while_aws_away")
                raise Refusal("upstream_unavailable", reason="mint_failed", retry_after=2)
            lease_id = self._random(16).hex()
            request = asked.plan.request(lease_id)
            if self._journal.write(
                asked.call, partial(self._take_off, asked=asked, request=request, lease_id=lease_id)
            ):
                return self._mint(asked, request, lease_id, lease)
            lease = self._wait(asked, begun + _PATIENCE)

    def _wait(self, asked: Asked, until: float) -> Lease | None:
        """Until someone else's mint of the same is over, or patience is; the newest lease then."""
        while True:
            with self._store.read() as tx:
                lease, flight = _newest(tx, asked, self._clock()), tx.flights.get(key=asked.plan.sha256)
            if flight is None or flight.ends_at <= self._clock() or time.monotonic() > until:
                return lease
            time.sleep(_PAUSE)

    def _understood(self, tx: Transaction, call: Call, identity: Identity, order: Order) -> Asked:
        rules = self._applied.rules(tx, identity)
        grant = choose_grant(rules, order)
        key, account = self._keys.openable(tx, rules.upstream)
        owner = f"{account}/{key.name}/{key.access_key_id}"
        planned = plan(identity.instance, rules, grant, order, owner, call.source, self._clock())
        return Asked(call, identity, rules, planned, key, grant.role.split(":")[4] if grant.role else account)

    def _give_again(self, asked: Asked, lease: Lease, reason: str) -> Vended:
        session = self._sealed.open(lease)

        def unit(tx: Transaction) -> None:
            self._demand(tx, asked, lease)
            tx.audit.append(asked.call.event(Kind.DECISION, reason=reason, **_facts(lease)))

        if not asked.plan.held:
            self._journal.write(asked.call, unit)
        return Vended(lease, session)

    def _take_off(self, tx: Transaction, *, asked: Asked, request: SessionRequest, lease_id: str) -> bool:
        """Decide, and begin the mint, unless someone else is at the same one or has just ended it."""
        call, plan, now = asked.call, asked.plan, self._clock()
        self._demand(tx, asked)
        newest = _newest(tx, asked, now)
        if newest is not None and is_fresh(newest, now):
            return False
        if tx.leases.count_live(asked.identity.instance.id, now) >= MOST_LIVE:
            why = f"The instance has {MOST_LIVE} sessions that live: ask for those again, or wait until some are over"
            raise Refusal("too_many_requests", why, reason="leases_too_many", retry_after=60)
        flight = Flight(plan.sha256, lease_id, now + FLIGHT)
        under_way = tx.flights.get(key=flight.key)
        if under_way is not None and under_way.ends_at > now:
            return False
        if not (tx.flights.swap(under_way, flight) if under_way else tx.flights.add(flight)):
            return False
        facts: dict[str, Any] = {
            "grant": plan.grant.name,
            "profile": asked.rules.name,
            "role": request.role,
            "session_name": request.session_name,
            "lease": lease_id,
            "seconds": int(plan.duration.total_seconds()),
        }
        if not plan.held:
            tx.audit.append(call.event(Kind.DECISION, **facts))
        tx.audit.append(call.event(Kind.INTENT, reason="asked", **(facts if plan.held else {})))
        return True

    def _mint(self, asked: Asked, request: SessionRequest, lease_id: str, before: Lease | None) -> Vended:
        """Ask STS, seal what comes, record it. While STS cannot be asked, `before` is given for as long as it lives."""
        begun = self._clock()
        try:
            session = self._upstream.session(asked.key, request)
            _demand_length(session, self._clock() + asked.plan.duration, lease_id)
        except Refusal as refusal:
            if refusal.code == "upstream_unavailable" and before is not None and is_alive(before, self._clock()):
                log.warning("AWS cannot be asked (%s): lease %s is given again", refusal.reason, before.id)
                return self._give_before(asked, lease_id, before, refusal.reason)
            self._store.write(partial(_crash, asked=asked, lease_id=lease_id, refusal=refusal))
            raise
        lease = Lease(
            id=lease_id,
            instance=asked.identity.instance.id,
            profile=asked.rules.name,
            grant=asked.plan.grant.name,
            upstream=asked.key.name,
            role=request.role or session.principal,
            session_name=request.session_name,
            access_key_id=session.access_key_id,
            issued_at=self._clock(),
            expires_at=session.expires_at,
            plan_sha256=asked.plan.sha256,
            sealed_session=self._sealed.seal(lease_id, asked.plan.sha256, session),
            held="calls" if asked.plan.held else None,
        )
        if refused := self._journal.write(asked.call, lambda tx: self._settle(tx, asked, lease, begun)):
            # The session exists at AWS but was given to nobody; the lease stays on record until it ends.
            raise Refusal(refused.code, refused.detail, reason=BEHIND_ITS_BACK, lease=lease_id)
        return Vended(lease, session)

    def _give_before(self, asked: Asked, lease_id: str, before: Lease, why: str) -> Vended:
        def unit(tx: Transaction) -> None:
            _land(tx, asked, lease_id)
            self._demand(tx, asked, before)
            tx.audit.append(asked.call.event(Kind.OUTCOME, reason="vended_while_aws_away", why=why, **_facts(before)))

        self._journal.write(asked.call, unit)
        return Vended(before, self._sealed.open(before))

    def _settle(self, tx: Transaction, asked: Asked, lease: Lease, begun: datetime) -> Refusal | None:
        """Record the lease; the refusal when the caller may not have it any more."""
        _land(tx, asked, lease.id)
        refused = None
        try:
            self._demand(tx, asked)
            self._keys.demand_uncut(tx, asked.key, lease, begun)
        except Refusal as refusal:
            refused = refusal
        kept = replace(lease, sealed_session=None, revoked_at=lease.issued_at) if refused else lease
        if not tx.leases.add(kept):
            raise Refusal("conflict")
        if refused is None:
            tx.audit.append(asked.call.event(Kind.OUTCOME, reason="held" if lease.held else "vended", **_facts(lease)))
        return refused

    def _demand(self, tx: Transaction, asked: Asked, lease: Lease | None = None) -> None:
        """Nothing was revoked meanwhile: not the instance, not the grant or its profile, not the lease that is there.
        Raises Refusal.
        """
        demand_standing(tx, asked.identity, reason=BEHIND_ITS_BACK)
        if asked.plan.grant.name in (rules := self._applied.rules(tx, asked.identity)).revoked:
            choose_grant(rules, Order(asked.plan.grant.name))
        if lease is not None:
            demand_lease(tx, lease)


def demand_lease(tx: Transaction, lease: Lease) -> None:
    """The lease was not revoked, in the transaction that gives it, or what was signed with it. Raises Refusal."""
    found = tx.leases.get(id=lease.id)
    if found is None or found.revoked_at is not None:
        raise Refusal("conflict", "The session was revoked at this moment", reason="lease_revoked", lease=lease.id)


def _newest(tx: Transaction, asked: Asked, now: datetime) -> Lease | None:
    """The lease of exactly this plan, which is one of this enrolment only, that lives longest."""
    return tx.leases.newest(asked.identity.instance.id, asked.plan.sha256, now)


def _land(tx: Transaction, asked: Asked, lease_id: str) -> None:
    flight = tx.flights.get(key=asked.plan.sha256)
    if flight is not None and flight.holder == lease_id:
        tx.flights.remove(flight)


def _crash(tx: Transaction, asked: Asked, lease_id: str, refusal: Refusal) -> None:
    """The mint has failed. Of one that was not decided before, this is the outcome."""
    _land(tx, asked, lease_id)
    if asked.plan.held:
        tx.audit.append(asked.call.event(Kind.OUTCOME, allowed=False, reason=refusal.reason, code=refusal.code))


def _facts(lease: Lease) -> dict[str, Any]:
    return {
        "grant": lease.grant,
        "lease": lease.id,
        "access_key_id": lease.access_key_id,
        "upstream": lease.upstream,
        "expires_at": messages.instant(lease.expires_at),
    }


def _demand_length(session: Session, expected: datetime, lease_id: str) -> None:
    """A session that ends much sooner or later than was asked for is not handed out."""
    if abs(session.expires_at - expected) > SKEW:
        raise Refusal(
            "upstream_refused",
            reason="session_of_another_length",
            lease=lease_id,
            access_key_id=session.access_key_id,
            expires_at=messages.instant(session.expires_at),
        )
