"""AWS's answers: read the same however they arrive, and never past their end."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.web.upstream.broken import Broken
from gateway.web.upstream.response import ResponseReader, end_to_end

ANSWERS = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-A: b\r\n\r\nhello",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    b"HTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    b"HTTP/1.1 200\r\nConnection: Close\r\nContent-Length: 5\r\n\r\nhello",
]


def read(data: bytes, cuts: list[int], method: str = "GET") -> tuple[object, ...]:
    """What a reader makes of it, or how it refuses."""
    reader, body, at = ResponseReader(method), b"", 0
    try:
        for end in [*sorted(cut % (len(data) + 1) for cut in cuts), len(data)]:
            if end > at:
                body += reader.feed(data[at:end])
                at = end
    except Broken as broken:
        return (broken.word,)
    head = reader.head
    return body, head and (head.status, head.headers, head.length), reader.complete, reader.reusable, reader.continued


@given(st.sampled_from(ANSWERS), st.lists(st.integers(0, 300), max_size=10), st.sampled_from([b"", b"x", ANSWERS[0]]))
def test_cuts_make_no_difference(data: bytes, cuts: list[int], rest: bytes) -> None:
    found = read(data + rest, cuts)
    assert found == read(data + rest, [])
    assert found[0] == (b"" if b"204" in data else b"hello")
    assert found[2]
    assert found[3] is (not rest and b"1.0" not in data and b"Close" not in data)


@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=5))
def test_any_bytes_are_an_answer_or_refused(data: bytes, cuts: list[int]) -> None:
    read(data, cuts)
    read(b"HTTP/1.1 200 OK\r\n" + data, cuts)


@given(st.sampled_from(ANSWERS), st.integers(1, 60))
def test_what_is_cut_off_is_broken(data: bytes, missing: int) -> None:
    reader = ResponseReader("GET")
    if data[:-missing]:
        reader.feed(data[:-missing])
    if data == ANSWERS[2] or reader.head is None or not reader.complete:
        assert not reader.reusable
        with pytest.raises(Broken):
            reader.end()


def test_only_one_end_is_a_clean_one() -> None:
    reader = ResponseReader("GET")
    assert reader.feed(b"HTTP/1.1 200 OK\r\n\r\nabc") == b"abc"
    assert not reader.complete
    reader.end()
    assert reader.complete
    assert not reader.reusable


def test_a_head_is_not_waited_for() -> None:
    assert read(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", [], "HEAD")[2:4] == (True, True)
    assert read(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", [], "HEAD")[2:4] == (True, True)


def test_connection_cannot_take_what_the_client_needs() -> None:
    headers = (("connection", "close, content-length, x-a"), ("content-length", "5"), ("x-a", "1"), ("etag", "e"))
    assert end_to_end(headers) == (("content-length", "5"), ("etag", "e"))
