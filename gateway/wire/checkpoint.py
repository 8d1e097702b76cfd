"""Checkpoints of the audit log: a signed statement of how long each chain was, and of everything that was in it.

Each chain is a Merkle tree (RFC 9162) whose leaves are the hashes of its records. A statement names the size and the
root of each tree, the hash of the last record, and one root over all chains. Whoever keeps a statement is a witness.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from gateway.wire.merkle import is_consistent, leaf, tree_of
from gateway.wire.messages import PEM
from gateway.wire.strict import Malformed, decode, integer, loads, nested, text

HEX = r"[0-9a-f]{64}"
DOMAIN = b"trusted-gateway checkpoint v1\n"
MOST = 2**53 - 1  # what every reader of JSON reads exactly (RFC 8259, section 6)
LONGEST = 1_000_000  # letters of a statement
LONGEST_ANSWER = 4 * LONGEST  # bytes: a proof is some seven times as long as what the statement says of its chain


@dataclass(frozen=True, slots=True)
class ChainState:
    """How a chain was: `size` records, the last one's hash, and the root of the tree of all."""

    size: int = integer(low=1, high=MOST)
    head: str = text(pattern=HEX)
    root: str = text(pattern=HEX)


@dataclass(frozen=True, slots=True)
class Statement:
    """What is signed. `at` is RFC 3339 with microseconds; `size` counts the records of all chains."""

    number: int = integer(low=1, high=MOST)
    at: str = text(longest=32)
    size: int = integer(low=1, high=MOST)
    root: str = text(pattern=HEX)
    chains: Mapping[str, ChainState] = nested()


@dataclass(frozen=True, slots=True)
class ChainHashes:
    """Hashes of one chain's tree: a consistency proof (RFC 9162, section 2.1.4), or the edge of the tree."""

    chain: str = text(longest=255)
    hashes: tuple[str, ...] = text(pattern=HEX)


@dataclass(frozen=True, slots=True)
class CheckpointAnswer:
    """GET /v1/checkpoint: the statement, exactly as it was signed (ECDSA-SHA-256 in base64 over `signed`), the
    certificate of the key, its issuer, and what shows that it continues the one that the reader named.
    """

    statement: str = text(longest=LONGEST)
    signature: str = text(pattern=r"[A-Za-z0-9+/]+={0,2}", longest=256)
    certificate: str = text(pattern=PEM, longest=8192)
    issuer: str = text(pattern=PEM, longest=8192)
    proofs: tuple[ChainHashes, ...] = ()


def write(number: int, at: str, chains: Mapping[str, ChainState]) -> str:
    """A statement of these chains, as it is signed."""
    shown = {name: {"size": each.size, "head": each.head, "root": each.root} for name, each in chains.items()}
    size = sum(each.size for each in chains.values())
    body: dict[str, Any] = {"number": number, "at": at, "size": size, "root": root_of(chains), "chains": shown}
    return json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def signed(statement: str) -> bytes:
    """The bytes that the signature covers."""
    return DOMAIN + statement.encode()


def read(statement: str) -> Statement:
    """The statement of `write`. Raises Malformed, also when its sums are not those of its chains."""
    found = decode(Statement, loads(statement.encode()))
    if found.size != sum(each.size for each in found.chains.values()) or found.root != root_of(found.chains):
        raise Malformed("statement: its size or its root is not that of its chains")
    return found


def root_of(chains: Mapping[str, ChainState]) -> str:
    """The root over all chains: the leaves are lines `chain size root`, in the order of the names."""
    lines = (f"{name} {each.size} {each.root}".encode() for name, each in sorted(chains.items()))
    return tree_of(map(leaf, lines)).root.hex()


def break_between(old: Statement, new: Statement, proofs: Iterable[ChainHashes]) -> str | None:
    """What shows that `new` is not a continuation of `old`, as a sentence; None when it is one."""
    if new.number < old.number:
        return f"checkpoint {new.number} came after checkpoint {old.number}"
    hashes = {each.chain: [bytes.fromhex(one) for one in each.hashes] for each in proofs}
    for name, before in sorted(old.chains.items()):
        after = new.chains.get(name)
        if after is None or after.size < before.size:
            return f"{name}: had {before.size} records, and has {after.size if after else 0}"
        if after.size == before.size:
            if after != before:
                return f"{name}: its {before.size} records are others"
        elif not is_consistent(
            before.size, bytes.fromhex(before.root), after.size, bytes.fromhex(after.root), hashes.get(name, ())
        ):
            return f"{name}: its {after.size} records do not begin with the {before.size} that it had"
    return None
