import uuid

import pytest

from gateway.core.errors import Refusal
from gateway.web.server.head import HeadReader, read_head
from gateway.web.server.request_ids import request_ids
from gateway.web.server.service import Limits
from tests.gateway.web_server.client import get


def test_a_plain_head_is_read() -> None:
    head = read_head(
        b"POST /v1/a.b-c?x=%20&y HTTP/1.1\r\nHost: Gateway.Test:8443\r\nX-A:  one \t\r\nx-a: two\r\n"
        b"Content-Length: 12\r\nExpect: 100-Continue\r\nConnection: keep-alive, Close\r\n\r\n"
    )
    assert (head.method, head.path, head.query) == ("POST", "/v1/a.b-c", b"x=%20&y")
    assert head.target == b"/v1/a.b-c?x=%20&y"
    assert head.headers[1:3] == ((b"x-a", b"one"), (b"x-a", b"two"))
    assert (head.host, head.length, head.close, head.awaits_continue) == ("gateway.test", 12, True, True)


@pytest.mark.parametrize(
    ("host", "found"), [("[::1]:8443", "::1"), ("[::1]", "::1"), ("127.0.0.1:1", "127.0.0.1"), ("A.b", "a.b")]
)
def test_hosts_lose_port_brackets_and_capitals(host: str, found: str) -> None:
    assert read_head(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()).host == found


@pytest.mark.parametrize("host", ["[::1", "::1", "[]", "a b", "-a", "a:b:c", "a:", "a%2e"])
def test_what_is_no_host_is_refused(host: str) -> None:
    with pytest.raises(Refusal, match="Host"):
        read_head(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())


def test_http_1_0_closes_and_is_never_told_to_continue() -> None:
    head = read_head(
        b"POST / HTTP/1.0\r\nHost: a\r\nContent-Length: 1\r\nExpect: 100-continue\r\nConnection: keep-alive\r\n\r\n"
    )
    assert head.close
    assert not head.awaits_continue
    assert not read_head(b"POST / HTTP/1.1\r\nHost: a\r\n\r\n").close


def test_heads_are_remembered_by_all_their_bytes_and_only_while_they_hold_no_secret() -> None:
    reader = HeadReader(Limits(), None)
    assert reader.read(get("/a")) is reader.read(get("/a"))
    assert reader.read(get("/a")) is not reader.read(get("/a", "X: a"))
    secrets = ("Authorization: Bearer x", "cookie: x", "X-Amz-Security-Token: x", "X-Vault-Token: x")
    for field in (*secrets, "X-Long: " + "a" * 1100):
        assert reader.read(get("/a", field)) is not reader.read(get("/a", field))
    assert reader.read(get("/a?token=x")) is not reader.read(get("/a?token=x"))


def test_list_is_a_method_and_is_read_as_strictly_as_get() -> None:
    """Vault's clients send it, and llhttp does not know it."""
    head = read_head(get("/a", "X-Odd: 1", method="LIST"))
    assert (head.method, head.path, head.length, head.headers[-1]) == ("LIST", "/a", 0, (b"x-odd", b"1"))
    for field in ("Content-Length: 1", "Transfer-Encoding: chunked", "X-Odd : 1", "Upgrade: websocket"):
        with pytest.raises(Refusal):
            read_head(get("/a", field, method="LIST"))


def test_what_is_refused_is_refused_again() -> None:
    reader = HeadReader(Limits(body=10), frozenset({"gateway.test"}))
    for _ in range(2):
        with pytest.raises(Refusal, match="Host"):
            reader.read(b"GET / HTTP/1.1\r\nHost: other.test\r\n\r\n")
        with pytest.raises(Refusal, match="too large"):
            reader.read(get("/", "Content-Length: 11", method="POST"))
    assert reader.read(get("/", "Content-Length: 10", method="POST")).length == 10


def test_few_heads_are_remembered() -> None:
    reader = HeadReader(Limits(), None)
    first = reader.read(get("/first"))
    for n in range(600):
        reader.read(get(f"/{n}"))
    assert len(reader._known) <= 512
    assert reader.read(get("/first")) is not first


def test_request_ids_are_random_uuids() -> None:
    ids = request_ids()
    drawn = [next(ids) for _ in range(1000)]
    assert len(set(drawn)) == 1000
    for each in drawn:
        assert str(uuid.UUID(each)) == each
        assert uuid.UUID(each).version == 4
        assert uuid.UUID(each).variant == uuid.RFC_4122
