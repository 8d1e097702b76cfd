from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core import nonce
from gateway.core.errors import Refusal
from gateway.wire.secret import Secret
from tests.gateway.core.rows import NOW

KEY = Secret(b"k" * 32)
MADE = nonce.make(KEY, bytes(16), NOW)


def reason(key: Secret, text: str, seconds: float = 0) -> str:
    with pytest.raises(Refusal) as caught:
        nonce.check(key, text, NOW + timedelta(seconds=seconds))
    assert caught.value.code == "proof_refused"
    return caught.value.reason


def test_a_nonce_is_good_for_a_minute() -> None:
    spent, ends = nonce.check(KEY, MADE, NOW + timedelta(seconds=59))
    assert len(spent) == 64
    assert ends == NOW + timedelta(seconds=60)
    assert reason(KEY, MADE, 61) == "nonce_expired"


def test_a_nonce_of_another_gateway_or_of_none_is_unknown() -> None:
    assert reason(Secret(b"other" * 8), MADE) == "nonce_unknown"
    assert reason(KEY, "") == "nonce_unknown"


@given(st.integers(0, len(MADE) - 1), st.sampled_from("ABab01-_"))
def test_a_changed_nonce_is_refused_or_is_the_same_nonce(at: int, letter: str) -> None:
    changed = MADE[:at] + letter + MADE[at + 1 :]
    try:
        spent, _ = nonce.check(KEY, changed, NOW)
    except Refusal:
        return
    assert spent == nonce.check(KEY, MADE, NOW)[0], "another spelling of the same nonce is spent as the same"


@given(st.text(max_size=80))
def test_any_text_is_refused_cleanly(text: str) -> None:
    with pytest.raises(Refusal):
        nonce.check(KEY, text, NOW)
