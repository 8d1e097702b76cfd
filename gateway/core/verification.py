"""Whether the audit log is what it was: each chain walked once, in memory that does not grow with it. Pure.

A chain holds itself together, except for its end, and unless all of it was written anew. That is what witnesses find:
the statements of checkpoints, and what an earlier verification kept. Any one of them will do.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.core.audit import GENESIS, Kind, digest
from gateway.wire.checkpoint import Statement
from gateway.wire.merkle import Tree, leaf

MOST_FAULTS = 1000


@dataclass(frozen=True, slots=True)
class Start:
    """Where a chain begins whose older records are in an archive: the size and the edge of the tree of those, and the
    hash of the last one.
    """

    tree: Tree
    hash: str


@dataclass(frozen=True, slots=True)
class Witness:
    """What is known of some chains from elsewhere: chain → (size, hash of the last record, root or None)."""

    name: str
    chains: Mapping[str, tuple[int, str, str | None]]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What verification found. `heads` maps chain → (seq, hash): keep it, and a later truncation shows.

    `faults` names each break, first one first; `open_intents` counts mints whose outcome was never written (a crash).
    """

    records: int
    heads: Mapping[str, tuple[int, str]]
    faults: tuple[str, ...]
    open_intents: int

    def __bool__(self) -> bool:
        return self.records > 0 and not self.faults


@dataclass(slots=True)
class _Chain:
    """How far one chain was walked. `sound`: the largest size that a witness has confirmed."""

    tree: Tree
    hash: str
    seq: int
    sound: int = 0
    expected: dict[int, list[tuple[str, str, str | None]]] = field(default_factory=dict)


def witness_of(statement: Statement) -> Witness:
    """What a checkpoint says."""
    chains = {name: (each.size, each.head, each.root) for name, each in statement.chains.items()}
    return Witness(f"checkpoint {statement.number} of {statement.at}", chains)


def witness_of_heads(heads: Mapping[str, tuple[int, str]]) -> Witness:
    """What an earlier verification kept."""
    return Witness("the witness", {name: (seq, hash_, None) for name, (seq, hash_) in heads.items()})


def verify(
    rows: Iterable[tuple[str, str]], witnesses: Iterable[Witness] = (), begin: Mapping[str, Start] | None = None
) -> Verdict:
    """Walk exported rows `(line, hash)`, each chain in order, chains interleaved as they may be.

    `begin` says where chains go on from an archive. An empty log never verifies.
    """
    chains = {
        name: _Chain(each.tree, each.hash, each.tree.size, each.tree.size) for name, each in (begin or {}).items()
    }
    faults: list[str] = []
    intents: set[str] = set()
    for witness in witnesses:
        for name, (size, head, root) in witness.chains.items():
            chain = chains.setdefault(name, _fresh())
            chain.expected.setdefault(size, []).append((witness.name, head, root))
    for name, chain in chains.items():
        if chain.seq:
            faults += _confirm(name, chain)
        if early := [size for size in chain.expected if size < chain.seq]:
            faults.append(f"{name} #{min(early)}: was witnessed, and is in an archive: verify that, too (--archive)")
    count = 0
    for line, written in rows:
        count += 1
        if len(faults) >= MOST_FAULTS:
            break
        body = _parse(line)
        if body is None:
            faults.append(f"record {count}: not a record of this log")
            continue
        name, seq = body["chain"], body["seq"]
        where = f"{name} #{seq}"
        chain = chains.setdefault(name, _fresh())
        if digest(line) != written:
            faults.append(f"{where}: was changed (its hash does not match)")
        if seq != chain.seq + 1:
            faults.append(f"{where}: follows #{chain.seq}; records were removed, inserted or reordered")
        elif body["prev"] != chain.hash:
            faults.append(f"{where}: does not continue the record before it")
        chain.seq, chain.hash = seq, written
        chain.tree.append(leaf_of(written))
        faults += _confirm(name, chain)
        if body["kind"] == Kind.INTENT:
            intents.add(body["request_id"])
        elif body["kind"] == Kind.OUTCOME:
            intents.discard(body["request_id"])
    for name, chain in sorted(chains.items()):
        for size, found in sorted(chain.expected.items()):
            if size > chain.seq:
                faults.append(f"{name} #{chain.seq + 1} to #{size}: are gone; {found[0][0]} has seen them")
    heads = {name: (chain.seq, chain.hash) for name, chain in chains.items() if chain.seq}
    return Verdict(count, heads, tuple(faults), len(intents))


def leaf_of(record_hash: str) -> bytes:
    """The leaf of a record in its chain's tree: the hash of its hash, in bytes."""
    return leaf(record_hash.encode())


def _fresh() -> _Chain:
    return _Chain(Tree(), GENESIS, 0)


def _confirm(name: str, chain: _Chain) -> list[str]:
    """Hold the chain, as far as it was walked, against the witnesses of that size."""
    faults = []
    for witness, head, root in chain.expected.get(chain.seq, ()):
        if head == chain.hash and root in (None, chain.tree.root.hex()):
            chain.sound = chain.seq
        else:
            span = f"#{chain.seq}" if chain.sound == chain.seq - 1 else f"#{chain.sound + 1} to #{chain.seq}"
            faults.append(f"{name} {span}: written anew; {witness} has seen something else")
    return faults


def _parse(line: str) -> dict[str, Any] | None:
    try:
        body = json.loads(line)
        ok = isinstance(body["chain"], str) and type(body["seq"]) is int and isinstance(body["prev"], str)
        return body if ok and isinstance(body["kind"], str) and isinstance(body["request_id"], str) else None
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
