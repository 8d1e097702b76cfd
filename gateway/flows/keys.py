"""Upstream keys as operators see to them: list, rotate, disable, and what to do when one is in wrong hands.

To deactivate a key ends nothing that was made with it (AWS: "Disabling permissions for temporary security
credentials"). So a key that is cut off is a revocation, of the kind "key": its sessions go as others do.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from gateway.core import fence
from gateway.core.audit import Event, Kind, Name
from gateway.core.errors import Refusal
from gateway.core.model import KeyState, UpstreamKey
from gateway.core.operator_model import Cut, PlanState, Revocation, Rotation
from gateway.core.receipt import counted, cut_again, opened, receipt
from gateway.core.revocation import Found, plan
from gateway.core.rotation import Progress as Rotating
from gateway.core.rotation import Step
from gateway.flows.fence import empty, live_leases
from gateway.flows.journal import Call, Journal
from gateway.flows.layers import Progress
from gateway.flows.revoke import Revoke
from gateway.flows.rotate import KNOWS_IT_NOT, Rotate
from gateway.flows.vault import UpstreamKeys, named
from gateway.ports import AccessKeys, Clock, RandomBytes, Store, Transaction
from gateway.wire.messages import instant

KIND = "key"
PATIENCE = timedelta(seconds=10)
"""How long an answer waits for AWS to know a new key; then housekeeping goes on."""
_LAYERS = ("key", "aws", "agents")
_WITH_KEY = frozenset({"disable", "compromise"})
"""What a revocation may do of which the key itself is a layer: in a rotation, that is seen to by its steps."""
_AGAIN = "cut_again"


@dataclass(frozen=True, slots=True)
class Listed:
    """A key, and its rotation that is under way."""

    key: UpstreamKey
    rotation: Rotation | None


class CutKey:
    """Opens the revocation of a key, in the transaction in which that is decided.

    Cuts of a key are by time, and AWS takes the key for some time more: seconds, or until there is a revoker. So they
    are made a second time, when it is inactive: by a revocation of its own, since it may end what the first did not.
    """

    def __init__(self, clock: Clock, random: RandomBytes) -> None:
        self._clock = clock
        self._random = random

    def row(
        self, tx: Transaction, key: UpstreamKey, by: str, *, does: str, reason: str | None = None
    ) -> tuple[Revocation, tuple[Cut, ...]]:
        """What would be done: the leases are those that the cuts end, of other keys of the same roles, too."""
        now = self._clock()
        name = f"r-{now:%Y%m%dt%H%M%S}-{self._random(4).hex()}"
        cuts = _cuts(tx, key, name, now)
        leases = {each.id: each for cut in cuts for each in live_leases(tx, cut, cuts, now) if fence.is_hit(each, cut)}
        if does == _AGAIN:  # the others are in the first receipt
            leases = {each.id: each for each in leases.values() if each.revoked_at is None}
        done = plan(Found(key.name, leases=tuple(leases.values())), by, now)
        until = instant(max(cut.until for cut in cuts))
        about = {"access_key_id": key.access_key_id, "does": does, "until": until, "works": does != _AGAIN}
        layers = _LAYERS if does in _WITH_KEY else _LAYERS[1:]
        document = opened(done, KIND, layers, {"reason": reason, "key": about})
        return Revocation(name, KIND, key.name, by, now, PlanState.RUNNING, document), cuts

    def open(self, tx: Transaction, key: UpstreamKey, by: str, *, does: str, reason: str | None = None) -> Revocation:
        """Have it done: by whoever carries revocations. Raises Refusal `conflict`."""
        row, cuts = self.row(tx, key, by, does=does, reason=reason)
        ended = [tx.leases.get(id=each["lease"]) for each in row.document["cut"]["sessions"]]
        empty(tx, [lease for lease in ended if lease is not None], row.at)
        if not tx.revocations.add(row) or not all(tx.cuts.add(cut) for cut in cuts):
            raise Refusal("conflict")
        return row

    def again(self, tx: Transaction, revocation_id: str, key: UpstreamKey) -> str | None:
        """AWS takes the key of this revocation no more: what was made with it since then ends as well, by another one.

        That is done once: afterwards this is its id. Raises Refusal `conflict`.
        """
        first = tx.revocations.get(id=revocation_id)
        if first is None:
            return None
        if known := first.document["key"].get("cut_again"):
            return str(known)
        reason = f"what was made with {key.access_key_id} from {first.id} until it was inactive at AWS"
        row = self.open(tx, key, first.by, does=_AGAIN, reason=reason)
        if not tx.revocations.swap(first, cut_again(first, row)):
            raise Refusal("conflict")
        facts = {"revocation": row.id, "of": first.id, "access_key_id": key.access_key_id, **counted(row.document)}
        name, request_id = Name.GATEWAY_REVOCATION_CARRY, self._random(16).hex()
        tx.audit.append(Event(Kind.FACT, name, True, _AGAIN, request_id, first.by, key.name, facts=facts))
        return row.id


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
            if not compromised:
                self._rotate.leave_disabled(tx, name)
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

    def __init__(self, store: Store, keys: UpstreamKeys, access_keys: AccessKeys, rotate: Rotate, cut: CutKey) -> None:
        self._store = store
        self._keys = keys
        self._access_keys = access_keys
        self._rotate = rotate
        self._cut = cut

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
            for each in _inactive(key, old, running):
                self._deactivate(key, each)
            return Progress(running is None, facts | {"state": "deactivated"} | self._again(revocation, key, old))
        if any(each.state is PlanState.DONE for each in rotations):
            facts |= self._again(revocation, key, old)
            return Progress(True, facts | {"state": "deleted", "replaced_by": key.access_key_id})
        if revoker:
            self._deactivate(key, old)
            facts |= {"state": "deactivated"} | self._again(revocation, key, old)
        try:
            rotation = self._replace(key, old, revocation.by)
        except Refusal as refusal:
            if refusal.reason != "second_key":
                raise
            return Progress(False, facts, f"a second key of its user to be deleted at AWS: {refusal}")
        progress = Rotating.of(rotation)
        facts |= {"replaced_by": progress.new, "next": progress.step}
        if progress.old == old and Step.DEACTIVATE in progress.done:
            facts |= self._again(revocation, key, old)
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

    def _again(self, revocation: Revocation, key: UpstreamKey, old: str) -> dict[str, Any]:
        """The old key is inactive. Which revocation means what was made with it until now, for the facts."""
        meant = replace(key, access_key_id=old)
        return {"cut_again": self._store.write(lambda tx: self._cut.again(tx, revocation.id, meant))}

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


def _inactive(key: UpstreamKey, old: str, running: Rotation | None) -> list[str]:
    """The access keys of a disabled key, the one in force last, since it may have to ask for this itself. In a rotation
    there are two: the one before drains still, or the next is in force already.
    """
    if key.state is not KeyState.DISABLED:  # it is good again
        return [old]
    before = [Rotating.of(running).old] if running else []
    found = dict.fromkeys([*before, old, key.access_key_id])
    return [*(each for each in found if each != key.access_key_id), key.access_key_id]


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
    of_roles = [fence.all_of(name, role, role, now, now + fence.LONGEST_OF_ROLE) for role in sorted(roles)]
    user = f"arn:aws:iam::{key.account}:user"
    return (*of_roles, fence.all_of(name, user, f"upstream/{key.name}", now, now + fence.LONGEST_OF_USER))
