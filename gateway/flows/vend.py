"""Vending: a grant in, a short-lived scoped AWS session out. Asked, recorded, minted, recorded, answered."""

from datetime import datetime, timedelta

from gateway.core import profile
from gateway.core.audit import Kind
from gateway.core.errors import Refusal
from gateway.core.identity import Identity
from gateway.core.lease import choose_grant, plan_session
from gateway.core.model import CertificateState, InstanceState, Lease
from gateway.flows.journal import Call, Journal
from gateway.flows.vault import UpstreamKeys
from gateway.ports import Clock, RandomBytes, Store, Transaction, Upstream
from gateway.wire import messages

# How far AWS's clock and ours may differ. AWS gives a session exactly the life that was asked for.
SKEW = timedelta(minutes=5)


class Vend:
    """GET /v1/grants and POST /v1/credentials. Raises Refusal."""

    def __init__(
        self,
        store: Store,
        journal: Journal,
        keys: UpstreamKeys,
        upstream: Upstream,
        clock: Clock,
        random: RandomBytes,
    ) -> None:
        self._store = store
        self._journal = journal
        self._keys = keys
        self._upstream = upstream
        self._clock = clock
        self._random = random

    def grants(self, call: Call, identity: Identity) -> messages.GrantsAnswer:
        """What this instance may ask for."""
        rules = self._rules(identity)
        self._journal.allow(call)
        summaries = [messages.GrantSummary(g.name, int(g.duration.total_seconds())) for g in rules.grants.values()]
        return messages.GrantsAnswer(rules.name, tuple(summaries))

    def vend(self, call: Call, identity: Identity, request: messages.CredentialsRequest) -> messages.CredentialsAnswer:
        """Credentials for one grant of the caller's profile."""
        call.object = f"grant/{request.grant}"
        rules = self._rules(identity)
        grant = choose_grant(rules, request.grant)
        lease_id = self._random(16).hex()
        session = plan_session(identity.instance, grant, request.duration, lease_id)
        key, _ = self._keys.openable(rules.upstream)
        self._journal.intend(
            call,
            grant=grant.name,
            profile=rules.name,
            role=session.role,
            session_name=session.session_name,
            lease=lease_id,
            seconds=int(session.duration.total_seconds()),
        )
        answer = self._upstream.assume_role(key, session, lease_id)
        now = self._clock()
        lease = Lease(
            id=lease_id,
            instance=identity.instance.id,
            profile=rules.name,
            grant=grant.name,
            upstream=key.name,
            role=session.role,
            session_name=session.session_name,
            access_key_id=answer.access_key_id,
            issued_at=now,
            expires_at=_expiry(answer, now + session.duration),
        )
        if not self._journal.write(call, lambda tx: self._settle(tx, call, identity, lease)):
            # The session exists at AWS but was given to nobody; the lease stays on record until it ends.
            raise Refusal("instance_revoked", reason="revoked_while_vending", lease=lease_id)
        return answer

    def _rules(self, identity: Identity) -> profile.ProfileRules:
        with self._store.read() as tx:
            applied = tx.profiles.get(name=identity.instance.profile)
        if applied is None:
            raise Refusal("grant_refused", reason="profile_missing")
        return profile.read(applied.document, source_address=True)

    def _settle(self, tx: Transaction, call: Call, identity: Identity, lease: Lease) -> bool:
        """Record the lease; True when the caller may still have it at this moment."""
        instance = tx.instances.get(id=identity.instance.id)
        certificate = tx.certificates.get(serial=identity.certificate.serial)
        if not tx.leases.add(lease):
            raise Refusal("conflict")
        if instance is None or instance.state is not InstanceState.ENROLLED:
            return False
        if certificate is None or certificate.state is CertificateState.REVOKED:
            return False
        tx.audit.append(
            call.event(
                Kind.OUTCOME,
                reason="vended",
                lease=lease.id,
                access_key_id=lease.access_key_id,
                expires_at=messages.instant(lease.expires_at),
            )
        )
        return True


def _expiry(answer: messages.CredentialsAnswer, expected: datetime) -> datetime:
    """When AWS says that the session ends. One that ends much sooner or later than was asked for is not handed out."""
    try:
        ends = messages.parse_instant(answer.expiration)
    except ValueError:
        ends = None
    if ends is None or abs(ends - expected) > SKEW:
        raise Refusal(
            "upstream_refused",
            reason="session_of_another_length",
            lease=answer.lease,
            access_key_id=answer.access_key_id,
            expires_at=answer.expiration,
        )
    return ends
