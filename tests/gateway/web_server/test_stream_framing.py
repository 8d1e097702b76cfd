"""Where bodies end: laws that hold for any bytes, however they are cut up."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.web.server.framing import BadFraming, Chunked, Fixed, Framing, UntilClose

bodies = st.lists(st.binary(min_size=1, max_size=50), max_size=6)


def chunked(pieces: list[bytes]) -> bytes:
    return b"".join(b"%X\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


def fed(framing: Framing, data: bytes, cuts: list[int]) -> bytes:
    """What comes out when `data` goes in, cut up; what is behind the end is given back in `framing.rest`."""
    out, at = b"", 0
    ends = [*sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    for end in ends:
        if framing.complete:
            framing.rest += data[at:]
            break
        if end > at:
            out += framing.feed(data[at:end])
            at = end
    return out


@given(bodies, st.binary(max_size=30), st.lists(st.integers(0, 400), max_size=8))
def test_a_body_and_what_follows_it_are_told_apart(pieces: list[bytes], rest: bytes, cuts: list[int]) -> None:
    body = b"".join(pieces)
    for framing, data in (
        (Fixed(len(body)), body),
        (Chunked(), chunked(pieces)),
        (Chunked(extended=True), chunked(pieces)),
    ):
        assert fed(framing, data + rest, cuts) == body
        assert framing.complete
        assert framing.rest == rest


@given(bodies, st.lists(st.integers(0, 400), max_size=8), st.integers(1, 400))
def test_what_is_cut_off_is_not_complete(pieces: list[bytes], cuts: list[int], missing: int) -> None:
    data = chunked(pieces)
    framing = Chunked()
    fed(framing, data[:-missing], cuts)
    assert not framing.complete
    framing_of_length = Fixed(len(data))
    fed(framing_of_length, data[:-missing], cuts)
    assert not framing_of_length.complete


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=5))
def test_any_bytes_are_chunks_or_refused_and_cuts_make_no_difference(data: bytes, cuts: list[int]) -> None:
    found = []
    for where in ([], cuts):
        framing = Chunked()
        try:
            found.append((fed(framing, data, where), framing.complete, framing.rest))
        except BadFraming:
            found.append((b"", False, b"refused"))
    assert found[0] == found[1]


STRICT = [
    b"5;a=b\r\nhello\r\n0\r\n\r\n",
    b"5 \r\nhello\r\n0\r\n\r\n",
    b"0\r\nX: y\r\n\r\n",
]
NEVER = [
    b"5\nhello\n0\n\n",
    b"+5\r\nhello\r\n0\r\n\r\n",
    b"0x5\r\nhello\r\n0\r\n\r\n",
    b" 5\r\nhello\r\n0\r\n\r\n",
    b"5\r\nhelloX\r\n0\r\n\r\n",
    b"4\r\nhello\r\n0\r\n\r\n",
    b"\r\n",
    b"-1\r\n",
    b"10000000000000000\r\n",
    b"5\r\nhello\n0\r\n\r\n",
    b"0\r\n\n",
    b"0\r\n" + b"X: y\r\n" * 2000,
    b"5;" + b"a" * 5000,
    b"a" * 5000,
]


@pytest.mark.threat("C09")
@pytest.mark.parametrize("data", NEVER + STRICT)
def test_a_server_takes_plain_chunks_only(data: bytes) -> None:
    with pytest.raises(BadFraming):
        Chunked().feed(data)


@pytest.mark.parametrize("data", NEVER)
def test_a_client_takes_no_bad_ones(data: bytes) -> None:
    with pytest.raises(BadFraming):
        Chunked(extended=True).feed(data)


@pytest.mark.parametrize("data", STRICT)
def test_a_client_passes_over_what_it_does_not_know(data: bytes) -> None:
    framing = Chunked(extended=True)
    assert framing.feed(data) == (b"hello" if re.match(b"5", data) else b"")
    assert framing.complete


@pytest.mark.threat("C09")
def test_chunks_are_added_up() -> None:
    framing = Chunked(longest=10)
    assert framing.feed(b"5\r\nhello\r\n5\r\nhello\r\n") == b"hellohello"
    with pytest.raises(BadFraming):
        framing.feed(b"1\r\n")
    with pytest.raises(BadFraming):
        Chunked(longest=10).feed(b"fffffffffffff\r\n")


def test_until_the_end() -> None:
    framing = UntilClose()
    assert framing.feed(b"anything") == b"anything"
    assert not framing.complete
