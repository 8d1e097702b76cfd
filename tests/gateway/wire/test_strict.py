from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.wire.strict import Malformed, decode, integer, loads, text


@dataclass(frozen=True)
class Inner:
    flag: bool


@dataclass(frozen=True)
class Outer:
    name: str = text(pattern="[a-z]+", longest=5)
    count: int = integer(low=1, high=9)
    inner: Inner | None = None
    many: tuple[Inner, ...] = ()


GOOD = {"name": "abc", "count": 3, "inner": {"flag": True}, "many": [{"flag": False}]}


def test_decodes_what_has_the_form() -> None:
    assert decode(Outer, GOOD) == Outer("abc", 3, Inner(True), (Inner(False),))
    assert decode(Outer, {"name": "a", "count": 1}) == Outer("a", 1)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"name": 1}, "name: must be a string"),
        ({"name": "abcdef"}, "name: is too long"),
        ({"name": "ABC"}, "name: does not have the required form"),
        ({"name": "abc\n"}, "name: does not have the required form"),
        ({"name": None}, "name: must be a string"),
        ({"count": True}, "count: must be an integer"),
        ({"count": "3"}, "count: must be an integer"),
        ({"count": 3.0}, "count: must be an integer"),
        ({"count": 0}, "count: must be from 1 to 9"),
        ({"count": 10}, "count: must be from 1 to 9"),
        ({"inner": []}, "inner: must be an object"),
        ({"inner": {"flag": 1}}, "inner.flag: must be true or false"),
        ({"many": {}}, "many: must be a list"),
        ({"many": [{}]}, "many[0].flag: is missing"),
        ({"other": 1}, "other: is not known here"),
        ({"\x1b[2J": 1}, "\\x1b[2J: is not known here"),
    ],
)
def test_names_each_fault(change: dict[str, object], fault: str) -> None:
    with pytest.raises(Malformed) as caught:
        decode(Outer, GOOD | change)
    assert caught.value.faults == (fault,)


def test_names_all_faults_at_once() -> None:
    with pytest.raises(Malformed) as caught:
        decode(Outer, {"name": 1, "extra": 2})
    assert set(caught.value.faults) == {
        "name: must be a string",
        "count: is missing",
        "extra: is not known here",
    }


def test_names_faults_in_the_order_of_the_fields_and_what_is_unknown_last() -> None:
    with pytest.raises(Malformed) as caught:
        decode(Outer, {"extra": 2, "many": [{"flag": True}, {"flag": 1, "more": 0}], "inner": 1, "count": 0})
    assert caught.value.faults == (
        "name: is missing",
        "count: must be from 1 to 9",
        "inner: must be an object",
        "many[1].flag: must be true or false",
        "many[1].more: is not known here",
        "extra: is not known here",
    )


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b'{"a":1}x',
        b'{"a":1,"a":1}',
        b'{"a":{"b":1,"b":2}}',
        b'{"a":NaN}',
        b"[Infinity]",
        b"[-Infinity]",
        b"[1e999]",
        b"[-1e999]",
        b'"\xff"',
        b"[" * 60000 + b"]" * 60000,
        b"1" * 5000,
        b"\xef\xbb\xbf{}",
        b'{"a":"\\ud800"}',
        b'{"\\uDFFF":1}',
        b'["\\ude00\\ud83d"]',
    ],
)
def test_refuses_what_two_readers_could_read_differently(raw: bytes) -> None:
    with pytest.raises(Malformed):
        loads(raw)


def test_reads_plain_json() -> None:
    assert loads(b'{"a":[1,"x",null,true]}') == {"a": [1, "x", None, True]}
    assert loads(b'["\\ud83d\\uDE00", "\\\\ud800"]') == ["\U0001f600", "\\ud800"]


@given(st.binary())
def test_never_raises_anything_else(raw: bytes) -> None:
    try:
        value = loads(raw)
    except Malformed:
        return
    try:
        decode(Outer, value)
    except Malformed:
        return
