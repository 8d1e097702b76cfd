"""Upstream keys as operators see to them: list, rotate, disable, and what to do when one is in wrong hands.

To deactivate a key ends nothing that was made with it (AWS: "Disabling permissions for temporary security
credentials"). So a key that is cut off is a revocation, of the kind "key": its sessions go as others do.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from gateway.core import fence
from gateway.core.audit import Kind
from gateway.core.errors import Refusal
from gateway.core.model import KeyState, UpstreamKey
from gateway.core.operator_model import Cut, PlanState, Revocation, Rotation
from gateway.core.receipt import counted, opened, receipt
from gateway.core.revocation import Found, plan
from gateway.core.rotation import Progress as Rotating
from gateway.flows.fence import empty, live_leases
from gateway.flows.journal import Call, Journal
from gateway.flows.layers import Progress
from gateway.flows.revoke import Revoke
from gateway.flows.rotate import KNOWS_IT_NOT, Rotate
from gateway.flows.vault import UpstreamKeys, named
from gateway.ports import AccessKeys, Clock, RandomBytes, Store, Transaction
from gateway.wire.messages import instant

KIND = "key"
# AWS: the longest that a session may last, of a role, and of a user (API_AssumeRole, API_GetFederationToken).
LONGEST_OF_ROLE, LONGEST_OF_USER = timedelta(hours=12), timedelta(hours=36)
PATIENCE = timedelta(seconds=10)
"""How long an answer waits for AWS to know a new key; then housekeeping goes on."""
_LAYERS = ("key", "aws", "agents")


@dataclass(frozen=True, slots=True)
class Listed:
    """A key, and its rotation that is under way."""

    key: UpstreamKey
    rotation: Rotation | None


class CutKey:
    """Opens the revocation of a key, in the transaction in which that is decided."""

    def __init__(self, clock: Clock, random: RandomBytes) -> None:
        self._clock = clock
        self._random = random

    def row(self, tx: Transaction, key: UpstreamKey, by: str, *, does: str) -> tuple[Revocation, tuple[Cut, ...]]:
        """What would be done: the leases are those that the cuts end, of other keys of the same roles, too."""
        now = self._clock()
        name = f"r-{now:%Y%m%dt%H%M%S}-{self._random(4).hex()}"
        cuts = _cuts(tx, key, name, now)
        leases = {each.id: each for cut in cuts for each in live_leases(tx, cut, cuts, now) if fence.is_hit(each, cut)}
        done = plan(Found(key.name, leases=tuple(leases.values())), by, now)
        until = instant(max(cut.until for cut in cuts))
        facts = {"reason": None, "key": {"access_key_id": key.access_key_id, "does": does, "until": until}}
        document = opened(done, KIND, _LAYERS if does != "rotate" else _LAYERS[1:], facts)
        return Revocation(name, KIND, key.name, by, now, PlanState.RUNNING, document), cuts

    def open(self, tx: Transaction, key: UpstreamKey, by: str, *, does: str) -> Revocation:
        """Have it done: by whoever carries revocations. Raises Refusal `conflict`."""
        row, cuts = self.row(tx, key, by, does=does)
        ended = [tx.leases.get(id=each["lease"]) for each in row.document["cut"]["sessions"]]
        empty(tx, [lease for lease in ended if lease is not None], row.at)
        if not tx.revocations.add(row) or not all(tx.cuts.add(cut) for cut in cuts):
            raise Refusal("conflict")
        return row


class Keys:
    """GET /v1/keys and what may be done to one. Raises Refusal."""

    def __init__(
        self, store: Store, journal: Journal, clock: Clock, rotate: Rotate, cut: CutKey, revoke: Revoke
    ) -> None:
        self._store = store
        self._journal = journal
        self._clock = clock
        self._rotate = rotate
        self._cut = cut
        self._revoke = revoke

    def all(self, call: Call, *, after: str | None, limit: int) -> list[Listed]:
        """A page of keys by name; a secret is nowhere in it."""
        self._journal.allow(call)
        with self._store.read() as tx:
            return [
                Listed(key, self._rotate.running(tx, key.name))
                for key in tx.upstream_keys.find(after=after, limit=limit)
            ]

    def rotate(self, call: Call, name: str, *, end_sessions: bool, dry_run: bool) -> Rotation:
        """A new key in the place of this one, which goes on by itself. Asked again, it tells how far it is."""
        call.object = f"upstream_key/{name}"
        drafted = self._rotate.draft(name, call.subject or "", end_sessions=end_sessions)
        if dry_run:
            self._journal.allow(call, dry_run=True)
            return drafted

        def unit(tx: Transaction) -> None:
            running = self._rotate.running(tx, name)
            if running is None:
                self._rotate.begin(tx, drafted)
            elif running.id != drafted.id:
                raise Refusal("conflict", "The key is rotated already", reason="rotation_runs")
            tx.audit.append(call.event(Kind.DECISION, rotation=drafted.id, end_sessions=end_sessions))

        self._journal.write(call, unit)
        return self._rotate.go_on(drafted, PATIENCE)

    def rotation(self, call: Call, name: str, rotation_id: str) -> Rotation:
        """One rotation of this key, as it is now."""
        call.object = f"upstream_key/{name}"
        with self._store.read() as tx:
            row = tx.rotations.get(id=rotation_id)
        if row is None or row.key != name:
            raise Refusal("target_unknown", "There is no such rotation of this key")
        self._journal.allow(call, rotation=row.id)
        return row

    def disable(self, call: Call, name: str, *, compromised: bool, dry_run: bool) -> dict[str, Any]:
        """Nothing is made with this key from now on, and what was made with it ends. One that is `compromised` is
        replaced as well. The receipt.
        """
        call.object = f"upstream_key/{name}"
        does = "compromise" if compromised else "disable"
        by = call.subject or ""
        if dry_run:
            with self._store.read() as tx:
                row, _ = self._cut.row(tx, named(tx, name), by, does=does)
            self._journal.allow(call, dry_run=True, **counted(row.document))
            return receipt(row, self._clock(), dry_run=True)

        def unit(tx: Transaction) -> Revocation:
            key = named(tx, name)
            state = KeyState.COMPROMISED if compromised else KeyState.DISABLED
            row = self._cut.open(tx, key, by, does=does)
            after = replace(key, state=state)
            if after != key and not tx.upstream_keys.swap(key, after):
                raise Refusal("conflict")
            tx.audit.append(
                call.event(
                    Kind.DECISION, revocation=row.id, access_key_id=key.access_key_id, state=state.value,
                    **counted(row.document),
                )
            )  # fmt: skip
            return row

        return self._revoke.see_through(self._journal.write(call, unit))


class KeyLayer:
    """`flows.layers.Layer`: the access key itself is deactivated, and, where it is in wrong hands, replaced."""

    name = "key"
    looks = False

    def __init__(self, store: Store, keys: UpstreamKeys, access_keys: AccessKeys, rotate: Rotate) -> None:
        self._store = store
        self._keys = keys
        self._access_keys = access_keys
        self._rotate = rotate

    def carry(self, revocation: Revocation) -> Progress:
        """Deactivate first, where somebody else than the key itself can be asked to. Raises Refusal."""
        meant = revocation.document["key"]
        old, name = meant["access_key_id"], revocation.name
        with self._store.read() as tx:
            key = named(tx, name)
            revoker = self._keys.revoker(tx, key.account)
            rotations = [each for each in tx.rotations.find(key=name) if Rotating.of(each).old == old]
            running = self._rotate.running(tx, name)
        facts: dict[str, Any] = {"access_key_id": old}
        if meant["does"] == "disable":
            self._deactivate(key, old)
            if key.state is KeyState.DISABLED and key.access_key_id != old:  # a rotation was under way
                self._deactivate(key, key.access_key_id)
            return Progress(running is None, facts | {"state": "deactivated"})
        if any(each.state is PlanState.DONE for each in rotations):
            return Progress(True, facts | {"state": "deleted", "replaced_by": key.access_key_id})
        if revoker:
            self._deactivate(key, old)
            facts |= {"state": "deactivated"}
        try:
            rotation = self._replace(key, old, revocation.by)
        except Refusal as refusal:
            if refusal.reason != "second_key":
                raise
            return Progress(False, facts, f"a second key of its user to be deleted at AWS: {refusal}")
        progress = Rotating.of(rotation)
        facts |= {"replaced_by": progress.new, "next": progress.step}
        is_done = rotation.state is PlanState.DONE and progress.old == old
        return Progress(is_done, facts | {"state": "deleted", "next": None} if is_done else facts)

    def _replace(self, key: UpstreamKey, old: str, by: str) -> Rotation:
        """Rotate, unless it was rotated meanwhile; one that is under way is ended, and hurried."""
        rotation = self._rotate.draft(key.name, by, urgent=True)
        with self._store.read() as tx:
            known = tx.rotations.get(id=rotation.id)
        if known is None:
            self._store.write(lambda tx: self._rotate.begin(tx, rotation))
        elif Rotating.of(known).old == old:
            rotation = self._rotate.hurry(known)
        return self._rotate.carry(rotation)

    def _deactivate(self, key: UpstreamKey, access_key_id: str) -> None:
        with self._store.read() as tx:
            revoker = self._keys.revoker(tx, key.account)
        caller = revoker or self._keys.closed(key)
        try:
            self._access_keys.deactivate(caller, self._access_keys.user(caller, access_key_id), access_key_id)
        except Refusal as refusal:
            code = refusal.context.get("aws_code")
            if code != "NoSuchEntity" and (code not in KNOWS_IT_NOT or caller.access_key_id != access_key_id):
                raise


def _cuts(tx: Transaction, key: UpstreamKey, name: str, now: datetime) -> tuple[Cut, ...]:
    """All that was made with a key until now, by us or by anybody: of each role that it is for, and of its user."""
    roles = {
        grant["role"]
        for row in tx.profiles.find()
        if row.document.get("upstream", "main") == key.name
        for grant in row.document.get("grants", ())
        if grant.get("role")
    }
    roles |= {
        row.role
        for row in tx.leases.find(upstream=key.name)
        if row.expires_at > now and not fence.is_federated(row.role)
    }
    of_roles = [fence.all_of(name, role, role, now, now + LONGEST_OF_ROLE) for role in sorted(roles)]
    user = f"arn:aws:iam::{key.account}:user"
    return (*of_roles, fence.all_of(name, user, f"upstream/{key.name}", now, now + LONGEST_OF_USER))
