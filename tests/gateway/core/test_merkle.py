"""Trees against the definitions of RFC 9162, section 2.1, written down anew."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.wire.merkle import Tree, consistency, is_consistent, leaf, tree_of

LEAVES = [bytes([n]) * 3 for n in range(130)]


def mth(leaves: list[bytes]) -> bytes:
    """Section 2.1.1, word for word."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\x00" + leaves[0]).digest()
    k = split(len(leaves))
    return hashlib.sha256(b"\x01" + mth(leaves[:k]) + mth(leaves[k:])).digest()


def split(n: int) -> int:
    k = 1
    while 2 * k < n:
        k *= 2
    return k


def proof(m: int, leaves: list[bytes]) -> list[bytes]:
    """Section 2.1.4.1."""

    def subproof(m: int, part: list[bytes], b: bool) -> list[bytes]:
        n = len(part)
        if m == n:
            return [] if b else [mth(part)]
        k = split(n)
        if m <= k:
            return [*subproof(m, part[:k], b), mth(part[k:])]
        return [*subproof(m - k, part[k:], False), mth(part[:k])]

    return subproof(m, leaves, True)


@pytest.mark.parametrize("n", range(len(LEAVES)))
def test_the_root_is_that_of_the_definition(n: int) -> None:
    tree = tree_of(map(leaf, LEAVES[:n]))
    assert (tree.size, tree.root) == (n, mth(LEAVES[:n]))
    assert len(tree.edge) == n.bit_count(), "what is kept does not grow with the tree"


def test_a_vector_of_certificate_transparency() -> None:
    """The empty tree and the tree of one empty leaf, as google/certificate-transparency has them."""
    assert Tree().root.hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert tree_of([leaf(b"")]).root.hex() == "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
    inputs = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
    root = tree_of(leaf(bytes.fromhex(each)) for each in inputs).root
    assert root.hex() == "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"


@given(st.data())
def test_a_proof_is_that_of_the_definition_and_shows_nothing_else(data: st.DataObject) -> None:
    n = data.draw(st.integers(1, len(LEAVES)))
    m = data.draw(st.integers(1, n))
    made = consistency(tree_of(map(leaf, LEAVES[:m])), [leaf(each) for each in LEAVES[m:n]])
    assert made == proof(m, LEAVES[:n])
    old, new = mth(LEAVES[:m]), mth(LEAVES[:n])
    assert is_consistent(m, old, n, new, made)
    other = mth([b"x", *LEAVES[1:m]])
    assert not is_consistent(m, other, n, new, made)
    assert not is_consistent(m, old, n, other, made)
    assert not is_consistent(m, old, n, new, [*made, old])
    if made:
        at = data.draw(st.integers(0, len(made) - 1))
        assert not is_consistent(m, old, n, new, made[:at] + made[at + 1 :])
        assert not is_consistent(m, old, n, new, [*made[:at], other, *made[at + 1 :]])


def test_nothing_is_consistent_with_the_empty_tree_or_with_a_smaller_one() -> None:
    root = mth(LEAVES[:3])
    assert not is_consistent(0, Tree().root, 3, root, [])
    assert not is_consistent(4, mth(LEAVES[:4]), 3, root, [root])
    assert not is_consistent(0, Tree().root, 0, Tree().root, [])


@pytest.mark.parametrize(("size", "edge"), [(-1, []), (2, []), (3, [b"x" * 32]), (1, [b"short"]), (0, [b"x" * 32])])
def test_an_edge_that_is_none(size: int, edge: list[bytes]) -> None:
    with pytest.raises(ValueError, match="edge"):
        Tree(size, edge)
