import copy
import pickle

import pytest

from gateway.wire.secret import Secret


def test_opens_for_the_length_of_a_with_and_prints_nowhere() -> None:
    secret = Secret("hunter2-hunter2")
    with secret as plain:
        assert plain == b"hunter2-hunter2"
    for shown in (repr(secret), str(secret), f"{secret}", f"{secret!r:>40}", repr([secret])):
        assert "hunter2" not in shown


def test_is_never_pickled_copied_or_hashed() -> None:
    secret = Secret(b"x")
    for attempt in (pickle.dumps, copy.copy, copy.deepcopy, hash):
        with pytest.raises(TypeError):
            attempt(secret)


def test_does_not_open_after_a_wipe() -> None:
    secret = Secret(b"x" * 8)
    secret.wipe()
    with pytest.raises(ValueError, match="wiped"), secret:
        pass


def test_compares_by_content() -> None:
    assert Secret(b"a") == Secret("a")
    assert Secret(b"a") != Secret(b"b")
    assert Secret(b"a") != b"a"
