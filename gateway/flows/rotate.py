"""Rotation of upstream keys at IAM: create, verify, switch, drain, deactivate, delete.

What comes next is in the store before it is done, and that it was done after it; so a rotation goes on after a crash at
any point, in any worker. IAM is asked by the account's revoker key, or, where there is none, by the key itself.
"""

import logging
import time
from dataclasses import replace
from datetime import timedelta
from typing import Any, Protocol

from gateway.core import rotation as steps
from gateway.core.audit import Event, Kind, Name
from gateway.core.errors import Refusal
from gateway.core.model import KeyState, UpstreamKey
from gateway.core.operator_model import PlanState, Revocation, Rotation
from gateway.core.receipt import counted
from gateway.core.rotation import Progress, Step
from gateway.flows.turn import Turns
from gateway.flows.vault import UpstreamKeys, named
from gateway.ports import AccessKeys, Clock, Cloud, OpenableKey, RandomBytes, Store, Transaction

log = logging.getLogger("trusted_gateway.rotate")

CONSISTENT = 3
"""How often in a row AWS must know the new key: it tells its servers one by one."""
KNOWS_IT_NOT = frozenset({"InvalidClientTokenId", "AuthFailure", "InvalidAccessKeyId"})
"""AWS codes for a key that it does not know: not yet, not any more, or not while it is inactive."""
_PAUSE = 0.5  # seconds between two looks


class EndSessions(Protocol):
    """Ends what was made with a key, in the transaction in which it is decided; and again what was made since, in the
    one in which it is known that AWS takes the key no more (flows.keys).
    """

    def open(self, tx: Transaction, key: UpstreamKey, by: str, *, does: str) -> Revocation: ...

    def again(self, tx: Transaction, revocation_id: str, key: UpstreamKey) -> str | None: ...


class Rotate:
    """Raises Refusal."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        random: RandomBytes,
        keys: UpstreamKeys,
        cloud: Cloud,
        access_keys: AccessKeys,
        end_sessions: EndSessions,
    ) -> None:
        self._store = store
        self._clock = clock
        self._random = random
        self._keys = keys
        self._cloud = cloud
        self._access_keys = access_keys
        self._end_sessions = end_sessions
        self._turns = Turns(store, clock, random)

    def draft(self, name: str, by: str, *, urgent: bool = False, end_sessions: bool = False) -> Rotation:
        """The rotation of this key, to be added to the store; the one that is under way, if one is.

        AWS is asked whether it can be done. Raises Refusal `conflict` when the user has a second key: two are AWS's
        limit, and which of them is needed we cannot know.
        """
        with self._store.read() as tx:
            key, running = named(tx, name), self.running(tx, name)
        if running is not None:
            return running
        caller = self._caller(key)
        user = self._access_keys.user(caller, key.access_key_id)
        revives = key.state is KeyState.DISABLED and not urgent
        progress = Progress(
            user, key.access_key_id, Step.CREATE, {}, urgent=urgent, end_sessions=end_sessions, revives=revives
        )
        ids = self._access_keys.ids(caller, user)
        if key.access_key_id not in ids:
            raise Refusal("upstream_refused", f"AWS has no key {key.access_key_id} of {user!r}", reason="key_not_there")
        if strangers := progress.strangers(ids):
            why = f"The user {user!r} has a second key, {strangers[0]}: AWS allows two, so delete it first"
            raise Refusal("conflict", why, reason="second_key", access_key_id=strangers[0])
        return Rotation(self._random(16).hex(), name, by, self._clock(), PlanState.RUNNING, progress.document())

    def running(self, tx: Transaction, name: str) -> Rotation | None:
        """The rotation of this key that is under way."""
        return next(iter(tx.rotations.find(key=name, state=PlanState.RUNNING)), None)

    def begin(self, tx: Transaction, rotation: Rotation) -> None:
        """Enter a new rotation: from now on it goes on by itself. Raises Refusal `conflict`.

        Since it was drafted, another one may have begun and ended. Then the key that is in force by now would be a
        stranger to this one, and deleted.
        """
        _demand_in_force(named(tx, rotation.key), Progress.of(rotation))
        if self.running(tx, rotation.key) is not None or not tx.rotations.add(rotation):
            raise Refusal("conflict", "The key is rotated already", reason="rotation_runs")
        self._record(tx, rotation, Kind.INTENT, "asked")

    def carry(self, rotation: Rotation, patience: timedelta = timedelta(0)) -> Rotation:
        """Go on for as long as something can be done; wait for AWS, with `patience`, to know the new key everywhere."""
        until = time.monotonic() + patience.total_seconds()
        with self._turns.of(f"rotation/{rotation.key}", patience):
            while True:
                with self._store.read() as tx:
                    rotation = tx.rotations.get(id=rotation.id) or rotation
                    key = named(tx, rotation.key)
                progress = Progress.of(rotation)
                if progress.step is None:
                    return rotation
                done = self._do(progress, rotation, key)
                if done is None and (progress.step is not Step.VERIFY or time.monotonic() >= until):
                    return rotation
                if done is None:
                    time.sleep(_PAUSE)

    def go_on(self, rotation: Rotation, patience: timedelta) -> Rotation:
        """`carry`, for who waits for an answer: what fails, or is done by another worker, is tried again later."""
        try:
            return self.carry(rotation, patience)
        except Refusal as refusal:
            log.warning("rotation of %s: %s (%s)", rotation.key, refusal, refusal.reason)
            with self._store.read() as tx:
                return tx.rotations.get(id=rotation.id) or rotation

    def hurry(self, rotation: Rotation) -> Rotation:
        """The old key is in wrong hands: nothing waits for what uses it any more."""
        hurried = steps.moved(rotation, replace(Progress.of(rotation), urgent=True))
        self._store.write(lambda tx: tx.rotations.swap(rotation, hurried))
        return hurried

    def leave_disabled(self, tx: Transaction, name: str) -> None:
        """One that is under way, and was to make a disabled key good again, does so no more: somebody has disabled it
        since. Raises Refusal `conflict`.
        """
        running = self.running(tx, name)
        if running is None or not Progress.of(running).revives:
            return
        if not tx.rotations.swap(running, steps.moved(running, replace(Progress.of(running), revives=False))):
            raise Refusal("conflict", reason="rotation_moved")

    def tend(self) -> None:
        """Go on with every rotation that is under way."""
        with self._store.read() as tx:
            running = tx.rotations.find(state=PlanState.RUNNING)
        for each in running:
            self.go_on(each, timedelta(0))

    def _do(self, progress: Progress, rotation: Rotation, key: UpstreamKey) -> Rotation | None:
        """One step; None when it cannot be done yet."""
        if progress.step is Step.CREATE:
            return self._create(progress, rotation, key)
        if progress.step is Step.VERIFY:
            return self._verify(progress, rotation, key)
        if progress.step is Step.SWITCH:
            return self._switch(progress, rotation, key)
        caller = self._caller(key)
        if progress.step is Step.DRAIN:
            if not progress.is_drained(self._clock()):
                return None
            used = self._access_keys.last_used(caller, progress.old)
            progress = replace(progress, last_used=used.isoformat() if used else None)
        elif progress.step is Step.DEACTIVATE:
            self._access_keys.deactivate(caller, progress.user, progress.old)
            return self._deactivated(progress, rotation, key)
        else:
            self._access_keys.delete(caller, progress.user, progress.old)
        return self._advance(rotation, progress)

    def _create(self, progress: Progress, rotation: Rotation, key: UpstreamKey) -> Rotation:
        _demand_in_force(key, progress)  # that is not to be among what is deleted here
        caller = self._caller(key)
        for stranger in progress.strangers(self._access_keys.ids(caller, progress.user)):
            if self._access_keys.last_used(caller, stranger) is not None:
                why = f"The user {progress.user!r} has a second key that is in use, {stranger}: delete it first"
                raise Refusal("conflict", why, reason="second_key", access_key_id=stranger)
            self._access_keys.delete(caller, progress.user, stranger)  # we made it, and its secret was lost
        new, secret = self._access_keys.create(caller, progress.user)
        sealed = self._keys.sealed(replace(key, access_key_id=new), secret).sealed_secret
        try:
            return self._advance(rotation, replace(progress, new=new, sealed=sealed), Kind.OUTCOME)
        except Refusal:
            self._access_keys.delete(caller, progress.user, new)  # its secret is nowhere now
            raise

    def _verify(self, progress: Progress, rotation: Rotation, key: UpstreamKey) -> Rotation | None:
        new = self._keys.closed(progress.switched(key, self._clock()))
        try:
            accounts = {self._cloud.account(new) for _ in range(CONSISTENT)}
        except Refusal as refusal:
            if refusal.context.get("aws_code") not in KNOWS_IT_NOT:
                raise
            if progress.new not in self._access_keys.ids(self._caller(key), progress.user):
                return self._advance(rotation, progress.again(), advance=False)
            return None
        if accounts != {key.account}:
            raise Refusal("upstream_refused", "AWS says that the new key is of another account", reason="other_account")
        return self._advance(rotation, progress)

    def _switch(self, progress: Progress, rotation: Rotation, key: UpstreamKey) -> Rotation:
        now = self._clock()

        def unit(tx: Transaction) -> Rotation:
            _demand_in_force(key, progress)
            if not tx.upstream_keys.swap(key, progress.switched(key, now)):
                raise Refusal("conflict", reason="key_changed")
            switched, ended = replace(progress.advanced(now), sealed=None), dict[str, Any]()
            if progress.end_sessions:
                row = self._end_sessions.open(tx, key, rotation.by, does="rotate")
                switched, ended = replace(switched, cut=row.id), {"revocation": row.id, **counted(row.document)}
            after = steps.moved(rotation, switched)
            self._move(tx, rotation, after, Step.SWITCH, **ended)
            return after

        return self._store.write(unit)

    def _deactivated(self, progress: Progress, rotation: Rotation, key: UpstreamKey) -> Rotation:
        """AWS takes the old key no more: what somebody made with it since the switch ends as well."""
        after = steps.moved(rotation, progress.advanced(self._clock()))

        def unit(tx: Transaction) -> None:
            old = replace(key, access_key_id=progress.old)
            again = self._end_sessions.again(tx, progress.cut, old) if progress.cut else None
            ended: dict[str, Any] = {"revocation": again} if again else {}
            self._move(tx, rotation, after, Step.DEACTIVATE, **ended)

        self._store.write(unit)
        return after

    def _advance(
        self, rotation: Rotation, progress: Progress, kind: Kind = Kind.FACT, *, advance: bool = True
    ) -> Rotation:
        after = steps.moved(rotation, progress.advanced(self._clock()) if advance else progress)
        reason = (progress.step or Step.CREATE) if advance else "new_key_lost"
        self._store.write(lambda tx: self._move(tx, rotation, after, reason, kind))
        return after

    def _move(
        self, tx: Transaction, before: Rotation, after: Rotation, reason: str, kind: Kind = Kind.FACT, **ended: Any
    ) -> None:
        if not tx.rotations.swap(before, after):
            raise Refusal("conflict", reason="rotation_moved")
        self._record(tx, after, kind, reason, **ended)

    def _record(self, tx: Transaction, rotation: Rotation, kind: Kind, reason: str, **ended: Any) -> None:
        about, progress = f"upstream_key/{rotation.key}", Progress.of(rotation)
        facts = {"old": progress.old, "new": progress.new, "user": progress.user, "last_used": progress.last_used,
                 **ended}  # fmt: skip
        event = Event(kind, Name.GATEWAY_KEY_ROTATE, True, reason, rotation.id, rotation.by, about, facts=facts)
        tx.audit.append(event)

    def _caller(self, key: UpstreamKey) -> OpenableKey:
        """Who asks IAM about this key's user."""
        with self._store.read() as tx:
            return self._keys.revoker(tx, key.account) or self._keys.closed(key)


def _demand_in_force(key: UpstreamKey, progress: Progress) -> None:
    """The key is still the one that this rotation replaces. Raises Refusal `conflict`."""
    if key.access_key_id != progress.old:
        raise Refusal("conflict", "The key was replaced meanwhile: ask again", reason="key_changed")
