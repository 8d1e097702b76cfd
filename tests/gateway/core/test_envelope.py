import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.envelope import Unsealable, derive, open_sealed, seal
from gateway.wire.secret import Secret

MASTER = Secret(bytes(range(32)))
RANDOM = bytes(range(100, 144))


def opened(secret: Secret) -> bytes:
    with secret as plain:
        return plain


def test_opens_where_it_was_sealed() -> None:
    sealed = seal(MASTER, "upstream_key/main/AKIA1/secret", Secret(b"wJalr"), RANDOM)
    assert b"wJalr" not in sealed
    assert opened(open_sealed(MASTER, "upstream_key/main/AKIA1/secret", sealed)) == b"wJalr"


@pytest.mark.threat("K01")
@pytest.mark.parametrize("context", ["upstream_key/other/AKIA1/secret", "upstream_key/main/AKIA2/secret", ""])
def test_K01_a_value_moved_to_another_place_does_not_open(context: str) -> None:
    sealed = seal(MASTER, "upstream_key/main/AKIA1/secret", Secret(b"wJalr"), RANDOM)
    with pytest.raises(Unsealable):
        open_sealed(MASTER, context, sealed)


@pytest.mark.threat("K01")
@given(st.data())
def test_K01_a_flipped_bit_a_cut_or_an_appended_byte_does_not_open(data: st.DataObject) -> None:
    sealed = seal(MASTER, "c", Secret(b"wJalr"), RANDOM)
    bit = data.draw(st.integers(0, len(sealed) * 8 - 1))
    flipped = bytearray(sealed)
    flipped[bit // 8] ^= 1 << bit % 8
    for wrong in (bytes(flipped), sealed[: data.draw(st.integers(0, len(sealed) - 1))], sealed + b"\0"):
        with pytest.raises(Unsealable):
            open_sealed(MASTER, "c", wrong)


@pytest.mark.threat("K03")
@pytest.mark.parametrize("master", [b"", b"short", bytes(32), bytes(range(1, 33))])
def test_K03_a_missing_short_zero_or_wrong_master_key_opens_nothing(master: bytes) -> None:
    sealed = seal(MASTER, "c", Secret(b"wJalr"), RANDOM)
    with pytest.raises(Unsealable):
        open_sealed(Secret(master), "c", sealed)


@pytest.mark.threat("K02")
def test_K02_no_two_sealings_share_key_and_nonce() -> None:
    sealed = {seal(MASTER, "c", Secret(b"same"), os.urandom(44))[:45] for _ in range(500)}
    assert len(sealed) == 500
    with pytest.raises(ValueError, match="44"):
        seal(MASTER, "c", Secret(b"x"), b"")


def test_derived_keys_differ_by_purpose() -> None:
    assert derive(MASTER, "nonce") == derive(MASTER, "nonce")
    assert derive(MASTER, "nonce") != derive(MASTER, "other")
    assert derive(MASTER, "nonce") != MASTER
