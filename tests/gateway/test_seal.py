"""The passphrase seal: it opens with its passphrase and as it was made, or not at all (K01, K03)."""

import base64
import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from gateway.adapters import clock, seal_passphrase
from gateway.adapters.seal_passphrase import BLOCK, COST, PARALLEL, SHORTEST, MasterKey, create, unseal
from gateway.core.envelope import Unsealable
from gateway.core.errors import Refusal
from gateway.core.model import SealRecord
from gateway.wire.secret import Secret

PASSPHRASE = "correct horse battery staple"
CONTEXT = "upstream_key/main/AKIA/secret"


@pytest.fixture(scope="module")
def made() -> tuple[SealRecord, MasterKey]:
    """One seal for all tests: each scrypt takes half a second."""
    return create(Secret(PASSPHRASE), clock.random_bytes)


def opened(master: MasterKey, sealed: bytes, context: str = CONTEXT) -> bytes:
    with master.open(context, sealed) as plain:
        return plain


def test_what_was_sealed_before_a_restart_opens_after_it(made: tuple[SealRecord, MasterKey]) -> None:
    record, before = made
    sealed = before.seal(CONTEXT, Secret("the double-secret key"))
    assert b"double-secret" not in sealed
    after = unseal(record, Secret(PASSPHRASE), clock.random_bytes)
    assert opened(after, sealed) == b"the double-secret key"
    assert after.derive("nonce") == before.derive("nonce")
    assert after.derive("nonce") != after.derive("another purpose")


@pytest.mark.threat("K03")
@pytest.mark.parametrize("wrong", [PASSPHRASE[:-1], PASSPHRASE + "\n", PASSPHRASE.upper()])
def test_K03_another_passphrase_opens_nothing(made: tuple[SealRecord, MasterKey], wrong: str) -> None:
    with pytest.raises(Unsealable) as refused:
        unseal(made[0], Secret(wrong), clock.random_bytes)
    assert wrong not in str(refused.value)


@pytest.mark.parametrize("length", [0, SHORTEST - 1])
def test_a_passphrase_that_is_too_short_makes_no_seal(length: int) -> None:
    with pytest.raises(ValueError, match=f"at least {SHORTEST}") as refused:
        create(Secret("x" * length), clock.random_bytes)
    assert "xx" not in str(refused.value)


@pytest.mark.threat("K03")
@pytest.mark.parametrize("alter", ["truncated", "zeroed", "one bit"])
def test_K03_an_altered_master_key_does_not_open(made: tuple[SealRecord, MasterKey], alter: str) -> None:
    wrapped = made[0].wrapped
    altered = {
        "truncated": wrapped[:-1],
        "zeroed": bytes(len(wrapped)),
        "one bit": wrapped[:-1] + bytes([wrapped[-1] ^ 1]),
    }[alter]
    with pytest.raises(Unsealable):
        unseal(replace(made[0], wrapped=altered), Secret(PASSPHRASE), clock.random_bytes)


@pytest.mark.threat("K03")
@pytest.mark.parametrize(
    "change",
    [
        {"n": 2**4},  # cheap to guess
        {"n": 2**30},  # endless
        {"r": 1},
        {"p": 64},
        {"salt": base64.b64encode(bytes(8)).decode()},
        {"salt": "no base64"},
        {"salt": None},
        {"n": "many"},
    ],
)
def test_K03_altered_parameters_are_refused_before_anything_is_derived(
    made: tuple[SealRecord, MasterKey], change: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def derived(*_: Any) -> Secret:
        raise AssertionError("a key was derived")

    monkeypatch.setattr(seal_passphrase, "_derive", derived)
    for altered in (
        replace(made[0], parameters={**made[0].parameters, **change}),
        replace(made[0], parameters={k: v for k, v in made[0].parameters.items() if k not in change}),
        replace(made[0], kind="plaintext"),
    ):
        with pytest.raises(Unsealable):
            unseal(altered, Secret(PASSPHRASE), clock.random_bytes)


def test_the_parameters_are_strong(made: tuple[SealRecord, MasterKey]) -> None:
    """RFC 7914 section 2; OWASP's floor for scrypt is N = 2^17, r = 8, p = 1."""
    assert COST >= 2**17
    assert (BLOCK, PARALLEL) == (8, 1)
    assert {k: made[0].parameters[k] for k in "nrp"} == {"n": COST, "r": BLOCK, "p": PARALLEL}


@pytest.mark.threat("K01")
def test_K01_a_value_that_was_moved_or_altered_does_not_open_and_says_where(
    made: tuple[SealRecord, MasterKey], caplog: pytest.LogCaptureFixture
) -> None:
    _, master = made
    sealed = master.seal(CONTEXT, Secret("a secret"))
    assert opened(master, sealed) == b"a secret"  # the control
    moved = {
        "to another key": ("upstream_key/backup/AKIA/secret", sealed),
        "to an older access key": ("upstream_key/main/AKIB/secret", sealed),
        "to another table": ("signer/main/key", sealed),
        "truncated": (CONTEXT, sealed[:-1]),
        "a bit flipped": (CONTEXT, sealed[:40] + bytes([sealed[40] ^ 1]) + sealed[41:]),
        "of another version": (CONTEXT, b"\x02" + sealed[1:]),
        "nothing": (CONTEXT, b""),
        "plaintext": (CONTEXT, b"a secret"),
    }
    for what, (context, altered) in moved.items():
        caplog.clear()
        with caplog.at_level(logging.ERROR), pytest.raises(Refusal) as refused:
            master.open(context, altered)
        assert (refused.value.code, refused.value.reason) == ("internal_error", "sealed_value_altered"), what
        assert context in caplog.text, "the operator is told which value it is"


@pytest.mark.threat("K02")
def test_K02_no_two_ciphertexts_share_salt_or_nonce(made: tuple[SealRecord, MasterKey]) -> None:
    _, master = made
    sealed = [master.seal(CONTEXT, Secret("the same")) for _ in range(200)]
    assert len({each[1:33] for each in sealed}) == len({each[33:45] for each in sealed}) == 200


def test_the_master_key_does_not_print(made: tuple[SealRecord, MasterKey]) -> None:
    with made[1]._key as key:
        assert key.hex() not in repr(vars(made[1]))
        assert repr(key) not in repr(vars(made[1]))
