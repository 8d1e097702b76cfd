"""Bodies on their way: who waits for whom, who notices what breaks off, and what is never sent twice."""

import hashlib
import http.client
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from typing import Any

import pytest

from agent.calls import inbound, outbound
from gateway.wire.calls import Header
from tests.agent.calls.conftest import Site
from tests.agent.conftest import until
from tests.agent.fake_aws import PIECE
from tests.agent.fake_calls import Refused

BOTH = pytest.mark.parametrize("grant", ["signed", "carried"])
TARGET = "/bucket/k"
MIB = 1024 * 1024


class Rude:
    """An AWS that does with each connection what it is told to. `opened` counts them."""

    def __init__(self, *do: Callable[[socket.socket], None]) -> None:
        self.opened = 0
        self._do = do
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.origin = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.opened += 1
                do = self._do[min(self.opened, len(self._do)) - 1]
                threading.Thread(target=self._serve, args=(connection, do), daemon=True).start()

    def _serve(self, connection: socket.socket, do: Callable[[socket.socket], None]) -> None:
        with connection, suppress(OSError):
            connection.settimeout(10)
            do(connection)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)  # or it would accept one more
        self._listener.close()


@contextmanager
def rude(site: Site, *do: Callable[[socket.socket], None]) -> Iterator[Rude]:
    """Until the block ends, this is AWS."""
    server = Rude(*do)
    site.calls.origin = server.origin
    try:
        yield server
    finally:
        server.close()
        site.calls.origin = site.aws.origin


def head_of(connection: socket.socket) -> bytes:
    head = b""
    while b"\r\n\r\n" not in head:
        more = connection.recv(65536)
        if not more:
            raise ConnectionError
        head += more
    return head


def says(*answers: bytes, then: Callable[[socket.socket], None] | None = None) -> Callable[[socket.socket], None]:
    """Reads a head before each answer."""

    def do(connection: socket.socket) -> None:
        for answer in answers:
            head_of(connection)
            connection.sendall(answer)
        if then:
            then(connection)

    return do


def waits(connection: socket.socket) -> None:
    """Until the other end closes."""
    connection.recv(1)


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def get(site: Site, grant: str = "signed", method: str = "GET") -> Any:
    return site.send(method, TARGET, site.signed(method, TARGET, grant=grant))


# Who waits for whom


@BOTH
@pytest.mark.threat("C16")
def test_nothing_of_a_body_is_asked_for_before_the_gateway_says_yes(site: Site, grant: str) -> None:
    def no(_: Any) -> None:
        raise Refused("call_denied", "no")

    for decide, expected in ((lambda _: None, b"HTTP/1.1 100 Continue\r\n"), (no, b"HTTP/1.1 403 Forbidden\r\n")):
        site.calls.decide = decide
        headers = site.signed("PUT", TARGET, payload="UNSIGNED-PAYLOAD", grant=grant)
        headers |= {"expect": "100-continue", "content-length": str(5 * MIB)}
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        host, _, port = site.host.partition(":")
        with socket.create_connection((host, int(port)), timeout=5) as connection:
            connection.sendall(f"PUT {TARGET} HTTP/1.1\r\n{head}\r\n".encode())
            assert connection.recv(len(expected), socket.MSG_WAITALL) == expected


@BOTH
def test_a_megabyte_goes_both_ways(site: Site, grant: str) -> None:
    body = PIECE * 8
    headers = site.signed("PUT", TARGET, payload=hashlib.sha256(body).hexdigest(), grant=grant)
    assert site.send("PUT", TARGET, headers, body).status == 200
    assert site.aws.asked[-1].sha256 == hashlib.sha256(body).hexdigest()
    big = f"/big/{len(body)}"
    answer = site.send("GET", big, site.signed("GET", big, grant=grant))
    assert answer.body == body
    assert answer.headers["content-length"] == str(len(body))


def test_an_answer_that_comes_before_the_body_is_whole_is_passed_on(site: Site) -> None:
    early = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 5\r\nConnection: close\r\n\r\nearly"
    with rude(site, says(early)) as server:
        headers = site.signed("PUT", TARGET, payload="UNSIGNED-PAYLOAD") | {"content-length": str(64 * MIB)}
        connection = http.client.HTTPConnection(site.host, timeout=10)
        connection.putrequest("PUT", TARGET, skip_host=True, skip_accept_encoding=True)
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.endheaders()
        with suppress(OSError):
            for _ in range(64):
                connection.send(bytes(MIB))
        answer = connection.getresponse()
        assert (answer.status, answer.read()) == (400, b"early")
        connection.close()
    assert server.opened == 1


def test_a_refusal_of_aws_to_take_the_body_reaches_the_client_before_he_sends_it(site: Site) -> None:
    """S3 redirects, and refuses conditional writes, so."""
    no = b"HTTP/1.1 412 Precondition Failed\r\nContent-Length: 0\r\n\r\n"
    with rude(site, says(no)):
        headers = site.signed("PUT", TARGET, payload="UNSIGNED-PAYLOAD")
        headers |= {"expect": "100-continue", "content-length": "1000000"}
        connection = http.client.HTTPConnection(site.host, timeout=10)
        connection.putrequest("PUT", TARGET, skip_host=True, skip_accept_encoding=True)
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.endheaders()
        assert connection.getresponse().status == 412
        connection.close()


def test_nobody_waits_for_leave_to_send_nothing(site: Site) -> None:
    """RFC 9110 section 10.1.1."""
    heard = []

    def listens(connection: socket.socket) -> None:
        heard.append(head_of(connection).lower())
        connection.sendall(OK)

    with rude(site, listens):
        headers = site.signed("PUT", TARGET) | {"expect": "100-continue", "content-length": "0"}
        assert site.send("PUT", TARGET, headers).status == 200
    assert (b"expect" in heard[0], b"content-length: 0\r\n" in heard[0]) == (False, True)


@pytest.mark.threat("C16")
def test_a_place_is_for_who_has_something_to_say(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbound, "HEAD", 0.3)
    host, _, port = site.host.partition(":")
    with socket.create_connection((host, int(port)), timeout=10) as silent:
        assert silent.recv(1) == b""
    kept = http.client.HTTPConnection(site.host, timeout=10)
    for wait in (0.0, 0.5):
        time.sleep(wait)
        kept.request("GET", TARGET, headers=site.signed("GET", TARGET))
        opened = kept.sock
        assert kept.getresponse().read() is not None
        assert kept.sock is opened, "who was answered may wait for longer"
    kept.close()


# What breaks off


@BOTH
@pytest.mark.parametrize(
    "cut",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n",
    ],
    ids=["length", "chunked"],
)
@pytest.mark.threat("F05")
def test_an_answer_that_breaks_off_never_ends_cleanly(site: Site, grant: str, cut: bytes) -> None:
    with rude(site, says(cut)), pytest.raises((http.client.IncompleteRead, ConnectionError)):
        get(site, grant)
    assert get(site, grant).status in (200, 404)


@pytest.mark.threat("F05")
def test_half_an_answer_is_never_whole_to_a_client_for_whom_its_end_is_the_connection_s(site: Site) -> None:
    """HTTP/1.0 has no chunks: only a reset tells."""
    cut = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n"
    whole = cut + b"0\r\n\r\n"
    host, _, port = site.host.partition(":")
    head = "".join(f"{name}: {value}\r\n" for name, value in site.signed("GET", TARGET).items())
    for answer in (whole, cut):
        with rude(site, says(answer)), socket.create_connection((host, int(port)), timeout=5) as connection:
            connection.sendall(f"GET {TARGET} HTTP/1.0\r\n{head}\r\n".encode())
            came = b""
            with nullcontext() if answer is whole else pytest.raises(ConnectionResetError):
                while more := connection.recv(65536):
                    came += more
                assert came.endswith(b"\r\n\r\n12345")


@pytest.mark.threat("F02")
def test_what_is_of_one_hop_ends_there(site: Site) -> None:
    hop = b"Connection: x-hop, close\r\nX-Hop: 1\r\nKeep-Alive: 5\r\nX-On: 1\r\nContent-Length: 0\r\n\r\n"
    said = {"x-hop": "1", "x-on": "1"}
    assert site.send("GET", TARGET, site.signed("GET", TARGET, said) | {"connection": "x-hop"}).status in (200, 404)
    assert site.aws.asked[-1].headers.keys() & {"connection", "x-hop", "x-on"} == {"x-on"}
    with rude(site, says(b"HTTP/1.1 200 OK\r\n" + hop)):
        assert get(site).headers.keys() & {"connection", "keep-alive", "x-hop", "x-on"} == {"x-on"}


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        b"HTTP/1.1 102 Processing\r\n\r\n" * 20 + OK,
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * MIB + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"".join(b"X-%d: y\r\n" % i for i in range(200)) + b"Content-Length: 0\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"",
    ],
    ids=["both", "two", "upgrade", "interim", "long", "many", "junk", "nothing"],
)
@pytest.mark.threat("F03", "F07")
def test_what_is_no_answer_is_told_as_one_that_did_not_come(site: Site, answer: bytes) -> None:
    with rude(site, says(answer)) as server:
        told = get(site)
        assert (told.status, b"<Code>ServiceUnavailable</Code>" in told.body) == (503, True)
        assert b"SSH" not in told.body
        assert server.opened == 1, "a new connection that fails is told, not tried again"


@pytest.mark.threat("F03")
def test_a_second_answer_is_given_to_nobody(site: Site) -> None:
    poisoned = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"
    with rude(site, says(OK + poisoned, then=waits), says(OK)) as server:
        assert get(site).body == b"ok"
        assert get(site).body == b"ok"
        assert server.opened == 2


@pytest.mark.threat("F03")
def test_an_answer_that_nobody_asked_for_is_given_to_nobody(site: Site) -> None:
    kept, told = threading.Event(), threading.Event()

    def late(connection: socket.socket) -> None:
        kept.wait(5)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison")
        told.set()
        connection.recv(1)

    with rude(site, says(OK, then=late), says(OK)) as server:
        assert get(site).body == b"ok"
        until(lambda: site.idle == 1)
        kept.set()
        assert told.wait(5)
        assert get(site).body == b"ok"
        assert server.opened == 2


@pytest.mark.parametrize(("method", "again"), [("GET", True), ("PUT", True), ("DELETE", True), ("POST", False)])
@pytest.mark.threat("F06")
def test_only_what_may_be_is_sent_again_on_another_connection(site: Site, method: str, again: bool) -> None:
    """The first connection is kept, and closed by AWS once it has the second request."""

    def closes(connection: socket.socket) -> None:
        head_of(connection)

    with rude(site, says(OK, then=closes), says(OK)) as server:
        assert get(site).body == b"ok"
        answer = get(site, method=method)
        assert (answer.status, server.opened) == ((200, 2) if again else (503, 1))


@pytest.mark.threat("F06")
def test_a_body_that_was_begun_is_not_sent_again(site: Site) -> None:
    def closes(connection: socket.socket) -> None:
        head_of(connection)

    with rude(site, says(OK, then=closes), says(OK)) as server:
        assert get(site).body == b"ok"
        headers = site.signed("PUT", TARGET, payload="UNSIGNED-PAYLOAD")
        assert site.send("PUT", TARGET, headers, bytes(4 * MIB)).status == 503
        assert server.opened == 1


@pytest.mark.threat("F06")
def test_an_answer_that_does_not_come_in_time_is_told_and_not_asked_for_again(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbound, "ANSWER", 0.2)
    with rude(site, says(b"", then=waits)) as server:
        answer = get(site)
        assert (answer.status, server.opened) == (504, 1)


def test_nobody_listens_at_aws(site: Site) -> None:
    with rude(site, says(OK)) as server:
        pass
    site.calls.origin = server.origin
    answer = get(site)
    assert answer.status == 503
    assert b"Connection refused" in answer.body


@pytest.mark.parametrize(
    "origin",
    [
        "http://10.1.2.3", "http://s3.amazonaws.com", "http://169.254.169.254", "http://localhost.evil.example",
        "http://127.0.0.1.evil.example", "http://[::ffff:10.1.2.3]", "https://a..b", "https://.a", "https://a:99999",
        f"https://{'a' * 64}.amazonaws.com",
    ],
)  # fmt: skip
@pytest.mark.threat("F01")
def test_plain_http_leaves_the_machine_never(site: Site, origin: str) -> None:
    site.calls.origin = origin
    answer = get(site)
    assert (answer.status, b"answer_malformed" in answer.body) == (503, True)


@pytest.mark.parametrize(
    "added", [Header("x-a", "b\r\nc: d"), Header("x-a", "\u0100"), Header("x-a", "b\0")], ids=["line", "letter", "nul"]
)
@pytest.mark.threat("E04")
def test_a_header_of_the_gateway_that_is_none_goes_nowhere(
    site: Site, added: Header, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    plain = site.calls._signed
    monkeypatch.setattr(site.calls, "_signed", lambda call: (*plain(call), added))
    assert get(site).status == 503
    assert (site.aws.asked, caplog.records) == ([], [])


@pytest.mark.threat("E04", "F07")
def test_how_a_body_is_framed_is_not_for_the_gateway_to_say(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = site.calls._signed
    framed = (Header("transfer-encoding", "chunked"), Header("content-length", "1"), Header("connection", "x-a"))
    monkeypatch.setattr(site.calls, "_signed", lambda call: (*plain(call), *framed))
    headers = site.signed("PUT", TARGET, payload="UNSIGNED-PAYLOAD")
    assert site.send("PUT", TARGET, headers, b"body").status == 200
    seen = site.aws.asked[-1].headers
    assert (seen["content-length"], seen.keys() & {"transfer-encoding", "connection"}) == ("4", set())


def test_a_head_of_an_answer_that_is_none_is_told(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = site.calls.carry

    def strange(*asked: Any) -> Any:
        carried = plain(*asked)
        carried.head = replace(carried.head, headers=(Header("x-a", "\u0100"),))
        return carried

    monkeypatch.setattr(site.calls, "carry", strange)
    told = get(site, "carried")
    assert (told.status, b"answer_malformed" in told.body) == (503, True)


# Who goes away


@BOTH
@pytest.mark.threat("F05")
def test_a_client_that_goes_while_he_is_answered_closes_what_is_behind(site: Site, grant: str) -> None:
    gone = threading.Event()

    def endless(connection: socket.socket) -> None:
        head_of(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n12345")
        with suppress(OSError):
            connection.recv(1)  # until the other end closes
        gone.set()

    with rude(site, endless):
        connection = http.client.HTTPConnection(site.host, timeout=10)
        connection.request("GET", TARGET, headers=site.signed("GET", TARGET, grant=grant))
        answer = connection.getresponse()
        assert answer.read(5) == b"12345"
        answer.close()
        connection.close()
        if grant == "signed":  # the fake gateway itself notices only when it sends again
            assert gone.wait(5)


@pytest.mark.threat("F05")
def test_a_client_that_goes_while_aws_is_silent_closes_what_is_behind(site: Site) -> None:
    gone = threading.Event()

    def silent(connection: socket.socket) -> None:
        head_of(connection)
        with suppress(OSError):
            connection.recv(1)
        gone.set()

    with rude(site, silent) as server:
        connection = http.client.HTTPConnection(site.host, timeout=10)
        connection.request("GET", TARGET, headers=site.signed("GET", TARGET))
        until(lambda: server.opened)
        connection.close()
        assert gone.wait(5)


@BOTH
@pytest.mark.threat("F05")
def test_a_client_that_goes_while_he_sends_leaves_half_a_body_and_no_object(site: Site, grant: str) -> None:
    site.aws.objects.pop(TARGET, None)
    headers = site.signed("PUT", TARGET, payload="UNSIGNED-PAYLOAD", grant=grant) | {"content-length": "1000000"}
    connection = http.client.HTTPConnection(site.host, timeout=10)
    connection.putrequest("PUT", TARGET, skip_host=True, skip_accept_encoding=True)
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.endheaders(bytes(500_000))
    until(lambda: site.calls.asked)
    connection.close()
    assert get(site, grant).status == 404
    assert TARGET not in site.aws.objects


def test_a_client_who_takes_nothing_is_waited_for_and_others_are_served(site: Site) -> None:
    big = "/big/50000000"
    slow = http.client.HTTPConnection(site.host, timeout=10)
    slow.request("GET", big, headers=site.signed("GET", big))
    answer = slow.getresponse()
    for _ in range(5):
        assert get(site).status in (200, 404)
    assert len(answer.read()) == 50_000_000
    slow.close()
