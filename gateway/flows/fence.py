"""The layer `aws` of a revocation: the cuts in the store become a policy at AWS, in each account that they are of.

Truth first: what AWS shall be told is in the store before it is told, so whoever comes next, in any worker, after any
crash, tells it again until AWS says that it stands.
"""

import logging
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from gateway.core import fence
from gateway.core.audit import Event, Kind, Name
from gateway.core.errors import Refusal
from gateway.core.model import InstanceState, Lease
from gateway.core.operator_model import Cut, Revocation
from gateway.core.operator_model import Fence as Row
from gateway.flows.layers import Progress
from gateway.flows.turn import Turns
from gateway.flows.vault import UpstreamKeys, named
from gateway.ports import AccessKeys, Clock, OpenableKey, Policies, RandomBytes, Store, Transaction
from gateway.wire.messages import instant

log = logging.getLogger("trusted_gateway.fence")

LOOK_AGAIN = timedelta(minutes=5)
"""How long what AWS said is believed: somebody may detach the policy."""
IMPORT = "'trusted-gateway key import NAME --purpose revoke' on the gateway's host"
_PATIENCE = timedelta(seconds=10)
_NAME = "trusted-gateway-fence"


class Fence:
    """`flows.layers.Layer`. Raises Refusal for what is wrong with the store only; the rest is in the facts."""

    name = "aws"
    looks = False

    def __init__(
        self,
        store: Store,
        clock: Clock,
        random: RandomBytes,
        keys: UpstreamKeys,
        policies: Policies,
        access_keys: AccessKeys,
        owner: str,
        partition: str = "aws",
    ) -> None:
        """`owner` tells the policies of several gateways in one account apart; `partition` is AWS's, as in ARNs."""
        self._store = store
        self._clock = clock
        self._random = random
        self._keys = keys
        self._policies = policies
        self._access_keys = access_keys
        self._arn = f"arn:{partition}:iam::{{}}:policy/{f'{_NAME}-{owner}'[:128]}"
        self._turns = Turns(store, clock, random)

    def carry(self, revocation: Revocation) -> Progress:
        """Have the accounts of this revocation's cuts fenced."""
        with self._store.read() as tx:
            cuts = tx.cuts.find(revocation=revocation.id)
        live = [cut for cut in cuts if not fence.is_over(cut, self._clock())]
        told = [self._tell(account, live) for account in sorted({cut.account for cut in live})]
        waiting = [each["account"] for each in told if each["state"] == "no_revoker"]
        if waiting and all(each["state"] != "trying" for each in told):
            return Progress(False, {"accounts": told}, f"a revoker key for {' and '.join(waiting)}: {IMPORT}")
        return Progress(all(each["state"] == "fenced" for each in told), {"accounts": told})

    def tend(self) -> None:
        """Tell AWS what it has not been told, look whether it still stands, drop what is over."""
        now = self._clock()
        with self._store.read() as tx:
            cuts, rows = tx.cuts.find(), tx.fences.find()
        over = [cut for cut in cuts if fence.is_over(cut, now)]
        if over:
            self._store.write(lambda tx: [tx.cuts.remove(cut) for cut in over if tx.cuts.get(id=cut.id) == cut])
        live = [cut for cut in cuts if not fence.is_over(cut, now)]
        for account in sorted({cut.account for cut in live} | {row.account for row in rows if row.attached}):
            self._tell(account, [cut for cut in live if cut.account == account])

    def _tell(self, account: str, cuts: Sequence[Cut]) -> dict[str, Any]:
        """What the receipt says of this account: whom the cuts are about, and whether AWS goes on honouring them."""
        meant = [cut for cut in cuts if cut.account == account]
        facts: dict[str, Any] = {"account": account, "principals": sorted({cut.principal for cut in meant})}
        until = max((cut.until for cut in meant), default=None)
        with self._store.read() as tx:
            caller = self._keys.revoker(tx, account)
        if caller is None:
            why = f"no revoker key is imported for account {account}"
            return facts | {"state": "no_revoker", "why": why, "honoured_until": instant(until) if until else None}
        try:
            with self._turns.of(f"fence/{account}", _PATIENCE):
                failed = self._apply(account, caller)
            for principal in facts["principals"]:
                if principal in failed:
                    raise failed[principal]
        except Refusal as refusal:
            log.warning("account %s is not fenced: %s (%s)", account, refusal, refusal.reason)
            return facts | {
                "state": "trying", "why": refusal.reason, "aws_code": refusal.context.get("aws_code"),
                "aws_operation": refusal.context.get("aws_operation"),
                "honoured_until": instant(until) if until else None,
            }  # fmt: skip
        return facts | {"state": "fenced"}

    def _apply(self, account: str, caller: OpenableKey) -> dict[str, Refusal]:
        """Tell AWS. Whom it cannot be attached to, and why: the others do not wait for these."""
        now = self._clock()
        cuts, document = self._store.write(lambda tx: self._written(tx, account))
        with self._store.read() as tx:
            row = tx.fences.get(account=account)
            users = {cut.principal: _access_key_id(tx, cut) for cut in cuts if cut.principal.startswith("upstream/")}
        digest, arn = fence.digest(document), self._arn.format(account)
        entities: dict[str, str] = dict(row.attached) if row else {}
        principals = {cut.principal for cut in cuts if cut.principal != fence.EVERYBODY}
        is_told = row is not None and row.document_sha256 == digest and principals == set(entities)
        if is_told and row is not None and row.applied_at > now - LOOK_AGAIN:
            return {}
        failed: dict[str, Refusal] = {}
        wanted = {each: f"role/{each.rpartition('/')[2]}" for each in principals if each not in users}
        for each, key in users.items():
            try:
                wanted[each] = f"user/{self._access_keys.user(caller, key)}"
            except Refusal as refusal:  # the key may be gone, and what was made with it is not
                if each in entities:
                    wanted[each] = entities[each]
                else:
                    failed[each] = refusal
        # Who is no longer meant is let go first: a statement may name nobody, when all to whom it is attached are.
        stands = self._policies.attached(caller, arn)
        for entity in stands - set(wanted.values()):
            self._policies.detach(caller, arn, entity)
        if cuts and self._policies.document(caller, arn) != document:
            self._policies.put(caller, arn, document)
        gone: set[str] = set()
        for principal, entity in sorted(wanted.items()):
            try:
                if entity not in stands and not self._policies.attach(caller, arn, entity):
                    gone.add(entity)
            except Refusal as refusal:
                failed[principal] = refusal
        meant = {entity for principal, entity in wanted.items() if principal not in failed}
        attached, found = self._policies.attached(caller, arn), self._policies.document(caller, arn)
        if attached != meant - gone or (cuts and found != document):
            raise Refusal("upstream_refused", "AWS does not show what it was told", reason="fence_not_yet_seen")
        known = {principal: entity for principal, entity in wanted.items() if principal not in failed}
        new = Row(account, arn, digest, known, self._clock())

        def unit(tx: Transaction) -> bool:
            if not (tx.fences.swap(row, new) if row else tx.fences.add(new)):
                _distrust(tx, account)
                return False
            if row is None or (row.document_sha256, row.attached) != (digest, known):
                self._record(tx, account, "applied", policy=arn, attached=sorted(attached), cuts=len(cuts),
                             gone=sorted(gone), document_sha256=digest)  # fmt: skip
            return True

        if not self._store.write(unit):
            raise Refusal("conflict", reason="fence_moved")
        return failed

    def _written(self, tx: Transaction, account: str) -> tuple[list[Cut], str]:
        """The cuts that are live, and their document. What it costs if that would be too long is in the store first."""
        now = self._clock()
        cuts = [cut for cut in tx.cuts.find(account=account) if not fence.is_over(cut, now)]
        machines = {cut.value.partition("/")[0] for cut in cuts if cut.kind in fence.OF_MACHINES}
        resting = {each for each in machines if _is_resting(tx, each)}
        for wide in fence.overflow(cuts[0].revocation if cuts else "", cuts, resting):
            hit = [lease for lease in live_leases(tx, wide, cuts, now) if fence.is_hit(lease, wide)]
            wide = replace(wide, until=max([wide.until, *(lease.expires_at for lease in hit)]))
            hit = [lease for lease in hit if lease.revoked_at is None]
            before = tx.cuts.get(id=wide.id)
            if not (tx.cuts.swap(before, wide) if before else tx.cuts.add(wide)):
                raise Refusal("conflict")
            empty(tx, hit, now)
            cuts = [*(cut for cut in cuts if cut.id != wide.id), wide]
            self._record(tx, account, "overflow", principal=wide.principal, issued_before=instant(wide.before),
                         leases=[lease.id for lease in hit])  # fmt: skip
        return cuts, fence.policy(cuts, resting)

    def _record(self, tx: Transaction, account: str, reason: str, **facts: Any) -> None:
        about = f"account/{account}"
        request_id = self._random(16).hex()
        tx.audit.append(Event(Kind.FACT, Name.GATEWAY_FENCE_APPLY, True, reason, request_id, object=about, facts=facts))


def live_leases(tx: Transaction, wide: Cut, cuts: Sequence[Cut], now: datetime) -> list[Lease]:
    """The leases that a cut by time may end: those of its principal, or of everybody whom the policy is attached to."""
    principals = {wide.principal} if wide.principal != fence.EVERYBODY else {cut.principal for cut in cuts}
    if any(principal.startswith("upstream/") for principal in principals):  # the statement means all users
        principals |= {f"upstream/{key.name}" for key in tx.upstream_keys.find(account=wide.account)}
    found: list[Lease] = []
    for principal in sorted(principals):
        name = principal.removeprefix("upstream/")
        equal = {"role": principal} if name == principal else {"upstream": name}
        rows = tx.leases.find_live(now, revoked_too=True, limit=None, after=None, **equal)
        found += [row for row in rows if fence.principal_of(row) == principal]
    return found


def empty(tx: Transaction, leases: Sequence[Lease], now: datetime) -> None:
    """End these leases in the store: they are not given again, and their agents are told. Raises Refusal `conflict`."""
    for lease in leases:
        ended = replace(lease, sealed_session=None, revoked_at=lease.revoked_at or now)
        if lease != ended and not tx.leases.swap(lease, ended):
            raise Refusal("conflict")


def _distrust(tx: Transaction, account: str) -> None:
    """Whoever has told AWS since our turn was over may have been overwritten by us: so look again at once."""
    row = tx.fences.get(account=account)
    if row is not None:
        tx.fences.swap(row, replace(row, applied_at=row.applied_at - LOOK_AGAIN))


def _is_resting(tx: Transaction, machine: str) -> bool:
    return all(row.state is InstanceState.REVOKED for row in tx.instances.find(instance_id=machine))


def _access_key_id(tx: Transaction, cut: Cut) -> str:
    return named(tx, cut.principal.removeprefix("upstream/")).access_key_id
