"""Checkpoints of the audit log: made on a schedule, signed with a key of their own, and shown to every witness."""

import base64
import logging
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from cryptography import x509

from certs import keys, statement
from certs.names import AuditName
from certs.profiles import AUDIT
from gateway.core import checkpoint
from gateway.core.audit import Event, Head, Kind, Name
from gateway.core.errors import Refusal
from gateway.core.model import Signer
from gateway.core.operator_model import Checkpoint, Cursor
from gateway.core.verification import leaf_of
from gateway.flows.issue import Issue, pem
from gateway.ports import Clock, RandomBytes, Store, Transaction, Vault
from gateway.wire import checkpoint as wire
from gateway.wire.merkle import Tree, consistency
from gateway.wire.secret import Secret
from gateway.wire.strict import Malformed

log = logging.getLogger("trusted_gateway.audit")

SIGNER, CONTEXT = "audit", "signer/audit/key"
LIFE = timedelta(days=400)
LATEST, ARCHIVED = "audit.checkpoint", "audit.archive"
"""The cursors that say which checkpoint is the latest, and up to which one the records are in an archive."""
PAGE = 10_000
STEP = 100_000  # records that one proof may have to read
AHEAD = 288  # checkpoints that are looked at for one that is near enough


class Checkpoints:
    """Raises Refusal `checkpoint_unknown` for a number that there is not, or of which no proof can be made any more."""

    def __init__(
        self,
        store: Store,
        vault: Vault,
        issue: Issue,
        clock: Clock,
        random: RandomBytes,
        trust_domain: str,
        every: timedelta,
    ) -> None:
        self._store = store
        self._vault = vault
        self._issue = issue
        self._clock = clock
        self._random = random
        self._name = AuditName(trust_domain)
        self._every = every
        self._fault: str | None = None  # which is on record

    def tick(self) -> None:
        """Make the next one if it is due. Of all workers, one wins."""
        with self._store.read() as tx:
            last, heads = latest(tx), tx.audit.heads()
        if checkpoint.due(last, sum(head.seq for head in heads), self._clock(), self._every):
            self.make()

    def make(self) -> Checkpoint | None:
        """A checkpoint of all that is there now; None when another worker was first, or when the log is broken."""
        signer = self._signer()
        now = self._clock()
        with self._store.read() as tx:
            last = latest(tx)
            trees, fault = _trees(tx, last)
        if fault is not None:
            log.error("the audit log is broken: %s. Run 'trusted-gateway audit verify'", fault)
            if fault != self._fault:  # at every tick it would fill the log
                broken = self._fact(False, "audit_broken", {"fault": fault})
                self._store.write(lambda tx: tx.audit.append(broken))
                self._fault = fault  # now: if it could not be written, it is tried again
            return None
        self._fault = None
        made = checkpoint.make(last, trees, now)
        with self._vault.open(CONTEXT, signer.sealed_key) as key:
            signature = statement.sign(keys.load_private(key), wire.signed(made.text))
        serial = f"{x509.load_der_x509_certificate(signer.certificate).serial_number:x}"
        row = made.signed(signature, serial)
        facts = {"number": made.number, "size": row.size, "root": row.root}

        def unit(tx: Transaction) -> Checkpoint | None:
            if not (move(tx, LATEST, last, row) and tx.checkpoints.add(row)):
                return None
            tx.audit.append(self._fact(True, "ok", facts))
            return row

        return self._store.write(unit)

    def show(self, after: int | None) -> wire.CheckpointAnswer:
        """The latest; or, for who has number `after`, one that is behind it, with the proof that it continues that."""
        with self._store.read() as tx:
            last = latest(tx)
            if last is None:
                raise Refusal("checkpoint_unknown")
            if after is None:
                return shown(tx, last)
            known = tx.checkpoints.get(id=checkpoint.identifier(after))
            if known is None:
                raise Refusal("checkpoint_unknown")
            if last.size - known.size > STEP:
                following = tx.checkpoints.find(after=known.id, limit=AHEAD)
                near = [row for row in following if row.size - known.size <= STEP]
                last = near[-1] if near else following[0]
            return shown(tx, last, self._proofs(tx, known, last))

    def exist(self) -> bool:
        """Whether there is one yet."""
        with self._store.read() as tx:
            return latest(tx) is not None

    def begin(self) -> tuple[Checkpoint, wire.CheckpointAnswer] | None:
        """The checkpoint behind which the store's records begin; None while nothing was archived."""
        with self._store.read() as tx:
            row = pointed(tx, ARCHIVED)
            return (row, shown(tx, row)) if row else None

    def _proofs(self, tx: Transaction, old: Checkpoint, new: Checkpoint) -> Sequence[wire.ChainHashes]:
        proofs = []
        then, now = checkpoint.starts(old), checkpoint.statement(new)
        for name, start in then.items():
            size, wanted = start.tree.size, now.chains[name].size
            if wanted == size:
                continue
            leaves = [leaf_of(hash_) for _, hash_ in tx.audit.hashes(name, size, wanted - size)]
            if len(leaves) != wanted - size:  # they were archived since
                raise Refusal("checkpoint_unknown")
            proofs.append(wire.ChainHashes(name, tuple(each.hex() for each in consistency(start.tree, leaves))))
        return proofs

    def _signer(self) -> Signer:
        """The key that signs; a new one when there is none, or when its certificate will not last."""
        with self._store.read() as tx:
            found = tx.signers.get(name=SIGNER)
        if found is not None:
            ends = x509.load_der_x509_certificate(found.certificate).not_valid_after_utc
            if ends - self._clock() > LIFE / 3:
                return found
        key = keys.generate()
        made = self._issue.certificate("services", AUDIT, self._name, key.public_key(), self._clock(), LIFE)
        new = Signer(SIGNER, made.der, self._vault.seal(CONTEXT, Secret(keys.dump_private(key))))

        def unit(tx: Transaction) -> Signer:
            if not (tx.signers.swap(found, new) if found else tx.signers.add(new)):
                raise Refusal("conflict")  # another worker makes the checkpoint
            tx.certificates.add(made)
            facts = {"serial": made.serial, "names": made.subject}
            tx.audit.append(self._fact(True, "ok", facts, Name.GATEWAY_SERVER_CERTIFY))
            return new

        return self._store.write(unit)

    def _fact(
        self, allowed: bool, reason: str, facts: Mapping[str, Any], name: Name = Name.GATEWAY_AUDIT_CHECKPOINT
    ) -> Event:
        return Event(Kind.FACT, name, allowed, reason, self._random(16).hex(), facts=facts)


def latest(tx: Transaction) -> Checkpoint | None:
    """The latest checkpoint."""
    return pointed(tx, LATEST)


def pointed(tx: Transaction, cursor: str) -> Checkpoint | None:
    """The checkpoint that a cursor names."""
    found = tx.cursors.get(name=cursor)
    return tx.checkpoints.get(id=found.positions["checkpoint"]) if found else None


def shown(tx: Transaction, row: Checkpoint, proofs: Sequence[wire.ChainHashes] = ()) -> wire.CheckpointAnswer:
    """A checkpoint as others are shown it."""
    certificate = tx.certificates.get(serial=row.document["certificate"])
    issuer = tx.signers.get(name="services")
    if certificate is None or issuer is None:
        raise Refusal("store_unavailable", reason="signer_missing")
    signature = base64.b64encode(row.signature).decode()
    chain = (pem(certificate.der), pem(issuer.certificate))
    return wire.CheckpointAnswer(row.document["statement"], signature, *chain, tuple(proofs))


def move(tx: Transaction, cursor: str, old: Checkpoint | None, new: Checkpoint) -> bool:
    """Let the cursor name `new`; False when it does not name `old`."""
    found = tx.cursors.get(name=cursor)
    if (found.positions["checkpoint"] if found else None) != (old.id if old else None):
        return False
    moved = Cursor(cursor, {"checkpoint": new.id}, new.at)
    return tx.cursors.swap(found, moved) if found else tx.cursors.add(moved)


def _trees(tx: Transaction, last: Checkpoint | None) -> tuple[dict[str, tuple[Tree, str]], str | None]:
    """Each chain's tree as it is now, with the hash of its last record; and what is wrong, if anything is."""
    if last is None and tx.checkpoints.find(limit=1):
        return {}, "it is not known any more which checkpoint was the latest"
    try:
        before = checkpoint.starts(last) if last else {}
    except (Malformed, ValueError, KeyError, TypeError):
        return {}, f"checkpoint {last.id if last else ''} is not what was signed"
    heads = {head.chain: head for head in tx.audit.heads()}
    trees = {}
    for name in sorted(heads.keys() | before.keys()):
        tree, head = before[name].tree if name in before else Tree(), heads.get(name)
        if head is None or (fault := _grow(tx, name, tree, head)):
            return {}, f"{name} is gone" if head is None else fault
        trees[name] = (tree, head.hash)
    return trees, None


def _grow(tx: Transaction, name: str, tree: Tree, head: Head) -> str | None:
    """Add what the chain has behind the tree. What is wrong with it, if anything is."""
    if head.seq < tree.size:
        return f"{name} had {tree.size} records"
    last = None
    while tree.size < head.seq:
        rows = tx.audit.hashes(name, tree.size, min(PAGE, head.seq - tree.size))
        for seq, hash_ in rows:
            if seq != tree.size + 1:
                return f"{name} #{tree.size + 1} is missing"
            tree.append(leaf_of(hash_))
            last = hash_
        if not rows:
            return f"{name} #{tree.size + 1} is missing"
    return None if last in (None, head.hash) else f"{name} #{head.seq} is not its head"
