"""Merkle trees of RFC 9162, section 2.1, that grow at their right edge: nothing of the left has to be kept or read.

Of a tree only its size and the hashes of its complete subtrees are kept, the largest first: one for each bit that is
set in its size. That is enough to grow it, to tell its root, and to prove that a larger one continues it.
"""

import hashlib
from collections.abc import Iterable, Sequence

HASH = 32


def leaf(data: bytes) -> bytes:
    """The hash of a leaf."""
    return hashlib.sha256(b"\0" + data).digest()


def node(left: bytes, right: bytes) -> bytes:
    """The hash of two subtrees."""
    return hashlib.sha256(b"\1" + left + right).digest()


class Tree:
    """A tree of `size` leaves, with its complete subtrees. Raises ValueError when these cannot be of that size."""

    __slots__ = ("edge", "size")

    def __init__(self, size: int = 0, edge: Iterable[bytes] = ()) -> None:
        self.size, self.edge = size, list(edge)
        if size < 0 or len(self.edge) != size.bit_count() or any(len(each) != HASH for each in self.edge):
            raise ValueError("not the edge of a tree of that size")

    def append(self, leaf_hash: bytes) -> None:
        """One more leaf, by its hash."""
        edge, full = self.edge, self.size
        edge.append(leaf_hash)
        while full & 1:
            right = edge.pop()
            edge[-1] = node(edge[-1], right)
            full >>= 1
        self.size += 1

    @property
    def root(self) -> bytes:
        """MTH of the leaves."""
        if not self.edge:
            return hashlib.sha256().digest()
        found = self.edge[-1]
        for left in reversed(self.edge[:-1]):
            found = node(left, found)
        return found


def tree_of(leaf_hashes: Iterable[bytes]) -> Tree:
    """The tree of these leaves."""
    tree = Tree()
    for each in leaf_hashes:
        tree.append(each)
    return tree


def consistency(old: Tree, new: Sequence[bytes]) -> list[bytes]:
    """PROOF(m, D_n) of section 2.1.4.1, for `old` (m leaves, not none) and the hashes of the leaves behind them."""
    whole = {}  # where each complete subtree of `old` begins
    begin = 0
    for bit, each in zip(_bits(old.size), old.edge, strict=True):
        whole[begin] = each
        begin += bit
    end = old.size

    def root(low: int, high: int) -> bytes:
        return whole[low] if low < end else tree_of(new[low - end : high - end]).root

    def subproof(low: int, high: int, *, known: bool) -> list[bytes]:
        if end == high:
            return [] if known else [root(low, high)]
        middle = low + (1 << (high - low - 1).bit_length() - 1)
        if end <= middle:
            return [*subproof(low, middle, known=known), root(middle, high)]
        return [*subproof(middle, high, known=False), root(low, middle)]

    return subproof(0, end + len(new), known=True)


def is_consistent(first: int, first_root: bytes, second: int, second_root: bytes, proof: Sequence[bytes]) -> bool:
    """Whether the proof shows that a tree of `second` leaves begins with that of `first` (section 2.1.4.2)."""
    if not 0 < first < second or not proof:
        return first == second > 0 and not proof and first_root == second_root
    path = list(proof)
    if first & (first - 1) == 0:
        path.insert(0, first_root)
    fn, sn = first - 1, second - 1
    while fn & 1:
        fn, sn = fn >> 1, sn >> 1
    fr = sr = path[0]
    for each in path[1:]:
        if sn == 0:
            return False
        if fn & 1 or fn == sn:
            fr, sr = node(each, fr), node(each, sr)
            while fn and not fn & 1:
                fn, sn = fn >> 1, sn >> 1
        else:
            sr = node(sr, each)
        fn, sn = fn >> 1, sn >> 1
    return sn == 0 and fr == first_root and sr == second_root


def _bits(number: int) -> list[int]:
    """The powers of two that it is the sum of, the largest first."""
    return [1 << at for at in range(number.bit_length() - 1, -1, -1) if number >> at & 1]
