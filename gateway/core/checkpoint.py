"""From one checkpoint of the audit log to the next, and what is kept of each. Pure.

A `Checkpoint` row keeps the statement exactly as it was signed, and the right edge of each chain's tree: with these the
next one, and the proof that it continues this one, need the records behind it and no others.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from gateway.core.operator_model import Checkpoint
from gateway.core.verification import Start
from gateway.wire import checkpoint as wire
from gateway.wire.merkle import Tree

MOST = 10_000  # records that have no checkpoint yet


def due(last: Checkpoint | None, records: int, now: datetime, every: timedelta) -> bool:
    """Whether a new one is due, when the chains hold `records`. The record that tells of the last one is not news."""
    if last is None:
        return records > 0
    news = records - last.size
    return news > MOST or (news > 1 and now - last.at >= every)


def identifier(number: int) -> str:
    """The id of a checkpoint's row."""
    return f"{number:012d}"


@dataclass(frozen=True, slots=True)
class Made:
    """A checkpoint that is not signed yet."""

    number: int
    at: datetime
    statement: wire.Statement
    text: str
    edges: Mapping[str, list[str]]

    def signed(self, signature: bytes, serial: str) -> Checkpoint:
        """The row. `serial` is the signing certificate's."""
        document = {"statement": self.text, "edges": self.edges, "certificate": serial}
        size, root = self.statement.size, self.statement.root
        return Checkpoint(identifier(self.number), self.at, size, root, document, signature)


def make(last: Checkpoint | None, trees: Mapping[str, tuple[Tree, str]], now: datetime) -> Made:
    """The one behind `last`: of each chain, its tree and the hash of its last record."""
    number = int(last.id) + 1 if last else 1
    states = {name: wire.ChainState(tree.size, head, tree.root.hex()) for name, (tree, head) in trees.items()}
    text = wire.write(number, now.isoformat(timespec="microseconds"), states)
    edges = {name: [each.hex() for each in tree.edge] for name, (tree, _) in trees.items()}
    return Made(number, now, wire.read(text), text, edges)


def statement(row: Checkpoint) -> wire.Statement:
    """What it says. Raises Malformed."""
    return wire.read(row.document["statement"])


def starts(row: Checkpoint) -> dict[str, Start]:
    """Where each chain stood, so that it can go on from there. Raises Malformed and ValueError."""
    return starts_of(statement(row), row.document["edges"])


def starts_of(said: wire.Statement, edges: Mapping[str, list[str]]) -> dict[str, Start]:
    """The same of a statement and the edges of its trees, which are held against its roots. Raises ValueError."""
    found = {}
    for name, state in said.chains.items():
        tree = Tree(state.size, map(bytes.fromhex, edges[name]))
        if tree.root.hex() != state.root:
            raise ValueError(f"{name}: not the edge of the tree that was signed")
        found[name] = Start(tree, state.head)
    return found
