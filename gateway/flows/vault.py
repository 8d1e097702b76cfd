"""What lies in the vault: upstream keys, lent to an adapter for the length of a signature and never read out, and the
sessions that were vended, for as long as they may be given again.
"""

import json
from dataclasses import asdict, replace
from datetime import datetime

from gateway.core import fence
from gateway.core.audit import Kind
from gateway.core.errors import Refusal
from gateway.core.model import KeyPurpose, KeyState, Lease, Session, UpstreamKey
from gateway.flows.journal import Call, Journal
from gateway.ports import Clock, Cloud, OpenableKey, Transaction, Vault
from gateway.wire.messages import instant, parse_instant
from gateway.wire.secret import Secret

_BY_TIME = fence.By.ISSUED_BEFORE


def context_of(key: UpstreamKey) -> str:
    """Where a sealed secret stands. The access key id is in it: a row rolled back to an older secret does not open."""
    return f"upstream_key/{key.name}/{key.access_key_id}/secret"


def named(tx: Transaction, name: str) -> UpstreamKey:
    """The key of this name. Raises Refusal `upstream_key_unknown`, which does not repeat the name: it may be the key
    itself, pasted in the wrong place, and a refusal is recorded.
    """
    key = tx.upstream_keys.get(name=name)
    if key is None:
        raise Refusal("upstream_key_unknown")
    return key


class UpstreamKeys:
    """The vault's shelf of upstream keys."""

    def __init__(self, journal: Journal, vault: Vault, cloud: Cloud, clock: Clock) -> None:
        self._journal = journal
        self._vault = vault
        self._cloud = cloud
        self._clock = clock

    def openable(self, tx: Transaction, name: str) -> tuple[OpenableKey, str]:
        """The key of this name, closed, and its account.

        Raises Refusal `upstream_key_unknown`, and `upstream_key_disabled` when nothing is to be done with it.
        """
        key = named(tx, name)
        if key.purpose is not KeyPurpose.VEND:
            why = f"{name!r} is a key to cut sessions off with: it vends none"
            raise Refusal("upstream_key_unknown", why, reason="key_purpose")
        if key.state is not KeyState.ACTIVE:
            raise Refusal("upstream_key_disabled", f"The upstream key {name!r} is {key.state}", key=name)
        return self.closed(key), key.account

    def demand_uncut(self, tx: Transaction, key: OpenableKey, lease: Lease, begun: datetime) -> None:
        """Neither the key was disabled, nor all that was issued before a time cut off, while this lease was made, which
        began then. Raises Refusal.
        """
        self.openable(tx, key.name)
        if any(fence.is_hit(replace(lease, issued_at=begun + fence.SKEW), cut) for cut in tx.cuts.find(kind=_BY_TIME)):
            why = "All sessions of this role that are older than a moment were cut off"
            raise Refusal("conflict", why, reason="cut_while_vending", lease=lease.id)

    def revoker(self, tx: Transaction, account: str) -> OpenableKey | None:
        """The key to cut off this account's sessions with; None when none was imported."""
        found = tx.upstream_keys.find(account=account, purpose=KeyPurpose.REVOKE, state=KeyState.ACTIVE)
        return self.closed(found[0]) if found else None

    def take_in(
        self, call: Call, name: str, access_key_id: str, secret: Secret, by: str, purpose: KeyPurpose = KeyPurpose.VEND
    ) -> UpstreamKey:
        """Seal the key, ask AWS whose it is, and keep it. A name that is taken is refused (`conflict`)."""
        sealed = self.sealed(UpstreamKey(name, "", access_key_id, b"", self._clock(), by, purpose), secret)
        key = replace(sealed, account=self._cloud.account(self.closed(sealed)))

        def unit(tx: Transaction) -> None:
            if not tx.upstream_keys.add(key):
                raise Refusal("conflict", f"An upstream key named {name!r} is here already", key=name)
            tx.audit.append(
                call.event(
                    Kind.DECISION,
                    key=name,
                    account=key.account,
                    access_key_id=access_key_id,
                    purpose=purpose.value,
                )
            )

        self._journal.write(call, unit)
        return key

    def sealed(self, key: UpstreamKey, secret: Secret) -> UpstreamKey:
        """The key with this secret."""
        return replace(key, sealed_secret=self._vault.seal(context_of(key), secret))

    def closed(self, key: UpstreamKey) -> OpenableKey:
        """The key as adapters get it, whatever its state and purpose."""
        return OpenableKey(key.name, key.access_key_id, lambda: self._vault.open(context_of(key), key.sealed_secret))


class SealedSessions:
    """Sessions as they lie in their leases: bound to lease and plan, so one that was moved to another does not open."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault

    def seal(self, lease_id: str, plan_sha256: str, session: Session) -> bytes:
        """The session, sealed for this lease."""
        written = asdict(session) | {"expires_at": instant(session.expires_at)}
        return self._vault.seal(_lease_context(lease_id, plan_sha256), Secret(json.dumps(written)))

    def open(self, lease: Lease) -> Session:
        """The lease's session. Raises Refusal `internal_error` when it was altered, or is another's."""
        with self._vault.open(_lease_context(lease.id, lease.plan_sha256), lease.sealed_session or b"") as plain:
            written = json.loads(plain)
        return Session(**written | {"expires_at": parse_instant(written["expires_at"])})


def _lease_context(lease_id: str, plan_sha256: str | None) -> str:
    return f"lease/{lease_id}/{plan_sha256}/session"
