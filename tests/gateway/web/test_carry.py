"""A call that the gateway carries: what is sent to AWS, what comes back, and what is recorded."""

import hashlib
import socket
import threading
from datetime import timedelta

import pytest

from gateway.flows.passage import Ended
from gateway.web.server.service import Limits
from gateway.wire.calls import LONGEST_BODY, Header
from tests.gateway.web.carrying import ask, call, chunks, code_of, head_of, read_answer
from tests.gateway.web.conftest import Aws, Carry
from tests.gateway.web.rude import OK, Line, polite
from tests.gateway.web_server.client import until
from tests.gateway.web_server.pki import Pki

BIG = 300 * 1024


class Recorder:
    """A script that remembers requests, and answers with `answer`."""

    def __init__(self, answer: bytes = OK) -> None:
        self.answer = answer
        self.heads: list[list[str]] = []
        self.bodies: list[bytes] = []

    def __call__(self, line: Line) -> None:
        while (head := line.head()) is not None:
            self.heads.append(head.decode("latin-1").split("\r\n"))
            self.bodies.append(line.body(head))
            line.send(self.answer)


def test_a_call_reaches_aws_and_its_answer_comes_back(pki: Pki, aws: Aws, gateway: Carry) -> None:
    recorder = Recorder(
        b"HTTP/1.1 404 Not Found\r\nx-amz-request-id: R1\r\nContent-Type: text/xml\r\nContent-Length: 5\r\n\r\n<no/>"
    )
    with gateway(aws(recorder).origin) as carrying, carrying.connect(pki.client_context("client")) as sock:
        for _ in range(2):
            sock.sendall(ask(call("GET", "/a%20b?x=%2F", x_amz_date="now")))
            raw = read_answer(sock)
            answer = head_of(raw)
            assert (answer.status, raw.body) == (404, b"<no/>")
            assert answer.headers == (
                Header("x-amz-request-id", "R1"), Header("content-type", "text/xml"), Header("content-length", "5"),
            )  # fmt: skip
            assert raw.headers["cache-control"] == "no-store"
            assert raw.headers["content-type"] == "application/octet-stream"
        until(lambda: len(carrying.deciding.ended) == 2)
        assert carrying.deciding.ended[0] == Ended(404, 0, 5, "R1", None)
        assert recorder.heads[0] == ["GET /a%20b?x=%2F HTTP/1.1", "x-amz-date: now", "host: aws.test"]
        assert (carrying.pool.used.opened, carrying.pool.used.reused) == (1, 1)
        assert carrying.records.events == []  # what is allowed the flow records, once


@pytest.mark.parametrize("size", [0, 1, 5000, BIG])
@pytest.mark.parametrize("chunked", [False, True])
def test_bodies_of_every_size_arrive_as_they_were(pki: Pki, aws: Aws, gateway: Carry, size: int, chunked: bool) -> None:
    body = bytes(range(256)) * (size // 256) + bytes(size % 256)
    recorder = Recorder(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + body)
    sha256 = hashlib.sha256(body).hexdigest()
    with (
        gateway(aws(recorder).origin, payload_sha256=sha256) as carrying,
        carrying.connect(pki.client_context("client")) as sock,
    ):
        for _ in range(2):
            if chunked:
                pieces = [body[at : at + 7001] for at in range(0, size, 7001)]
                sock.sendall(ask(call("PUT", "/k"), "Transfer-Encoding: chunked") + chunks(*pieces))
            else:
                sock.sendall(ask(call("PUT", "/k"), body=body))
            assert read_answer(sock).body == body
        assert recorder.bodies == [body, body]
        framing = recorder.heads[0][-1]
        assert framing == ("transfer-encoding: chunked" if chunked else f"content-length: {size}")
        until(lambda: len(carrying.deciding.ended) == 2)
        assert carrying.deciding.ended[0] == Ended(200, size, size, None, None)
        assert carrying.pool.used.opened == 1


def test_a_chunked_answer_and_one_that_ends_with_its_connection(pki: Pki, aws: Aws, gateway: Carry) -> None:
    def script(line: Line) -> None:
        line.head()
        line.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\nx-t: 1\r\n\r\n")
        line.head()
        line.send(b"HTTP/1.1 200 OK\r\n\r\nuntil the end")

    with gateway(aws(script).origin) as carrying, carrying.connect(pki.client_context("client")) as sock:
        for body in (b"hello", b"until the end"):
            sock.sendall(ask(call()))
            raw = read_answer(sock)
            assert raw.body == body
            assert "transfer-encoding" not in {each.name for each in head_of(raw).headers}
        assert carrying.pool.used.opened == 1


def test_a_head_keeps_the_length_of_what_it_does_not_bring(pki: Pki, aws: Aws, gateway: Carry) -> None:
    def script(line: Line) -> None:
        line.head()
        line.send(b"HTTP/1.1 200 OK\r\nContent-Length: 12345\r\n\r\n")
        line.head()
        line.send(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 12345\r\n\r\n")
        line.head()
        line.send(b"HTTP/1.1 204 No Content\r\n\r\n")

    with gateway(aws(script).origin) as carrying, carrying.connect(pki.client_context("client")) as sock:
        for method, length in (("HEAD", "12345"), ("GET", "12345"), ("DELETE", None)):
            sock.sendall(ask(call(method)))
            raw = read_answer(sock)
            assert (raw.body, raw.headers["content-length"]) == (b"", "0")
            assert {each.name: each.value for each in head_of(raw).headers}.get("content-length") == length
        assert carrying.pool.used.opened == 1


def test_redirects_and_compressed_bodies_pass_untouched(pki: Pki, aws: Aws, gateway: Carry) -> None:
    recorder = Recorder(
        b"HTTP/1.1 307 x\r\nLocation: http://169.254.169.254/\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc"
    )
    with gateway(aws(recorder).origin) as carrying, carrying.connect(pki.client_context("client")) as sock:
        sock.sendall(ask(call()))
        raw = read_answer(sock)
        assert (head_of(raw).status, raw.body, len(recorder.heads)) == (307, b"abc", 1)
        assert Header("location", "http://169.254.169.254/") in head_of(raw).headers


@pytest.mark.threat("F02")
def test_what_belongs_to_one_hop_stays_there(pki: Pki, aws: Aws, gateway: Carry) -> None:
    recorder = Recorder(
        b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nConnection: keep-alive, X-Private\r\nX-Private: 1\r\nKeep-Alive: x\r\n"
        b"Proxy-Authenticate: x\r\nX-Public: 2\r\nContent-Length: 0\r\n\r\n"
    )
    passing = call("GET", "/", te="trailers", connection="x", expect="100-continue", transfer_encoding="chunked", a="1")
    with gateway(aws(recorder).origin) as carrying, carrying.connect(pki.client_context("client")) as sock:
        sock.sendall(ask(passing, "Cookie: c", "X-Amz-Security-Token: t"))
        raw = read_answer(sock)
        assert {each.name for each in head_of(raw).headers} == {"x-public", "content-length"}
        assert recorder.heads == [["GET / HTTP/1.1", "a: 1", "host: aws.test"]]
        assert "set-cookie" not in raw.headers


@pytest.mark.threat("E04")
@pytest.mark.parametrize("value", ["a\r\nx-amz-acl: public-read", "a\nb", "a\x00b", "\u20ac"])
def test_no_header_becomes_two(pki: Pki, aws: Aws, gateway: Carry, value: str) -> None:
    recorder = Recorder()
    with gateway(aws(recorder).origin) as carrying, carrying.connect(pki.client_context("client")) as sock:
        sock.sendall(ask(call(x_amz_meta_a=value)))
        assert code_of(read_answer(sock)) == "call_malformed"
        sock.sendall(ask(call(x_amz_meta_a="plain")))
        assert read_answer(sock).status == 200
        assert len(recorder.heads) == 1


# Who, and what for


def test_without_a_certificate_nothing_is_asked_of_aws(pki: Pki, aws: Aws, gateway: Carry) -> None:
    upstream = aws(polite())
    with gateway(upstream.origin) as carrying:
        with carrying.connect(pki.client_context()) as sock:
            sock.sendall(ask(call()))
            assert code_of(read_answer(sock)) == "certificate_required"
        with carrying.connect(pki.client_context("client")) as sock:
            sock.sendall(ask(call(grant="none")))
            assert code_of(read_answer(sock)) == "call_denied"
            assert upstream.connections == 0
            sock.sendall(ask(call()))
            assert read_answer(sock).status == 200
        assert upstream.connections == 1
        assert [(event.allowed, event.reason) for event in carrying.records.events] == [
            (False, "certificate_required"), (False, "call_denied"),
        ]  # fmt: skip
        until(lambda: len(carrying.deciding.ended) == 1)


@pytest.mark.parametrize(
    "raw",
    [
        b"POST /v1/calls HTTP/1.1\r\nHost: gateway.test\r\n\r\n",
        b"POST /v1/calls HTTP/1.1\r\nHost: gateway.test\r\nTrusted-Gateway-Head: %%%\r\n\r\n",
        b"POST /v1/calls HTTP/1.1\r\nHost: gateway.test\r\nTrusted-Gateway-Head: e30=\r\n\r\n",
        ask(call(), f"Trusted-Gateway-Head: {'e30='}"),
        ask(call()).replace(b"/v1/calls", b"/v1/calls?a=b"),
    ],
)
def test_a_head_that_is_none_is_refused_and_recorded(pki: Pki, aws: Aws, gateway: Carry, raw: bytes) -> None:
    with gateway(aws(polite()).origin) as carrying, carrying.connect(pki.client_context("client")) as sock:
        sock.sendall(raw)
        assert code_of(read_answer(sock)) == "malformed_request"
        assert [event.reason for event in carrying.records.events] == ["malformed_request"]


@pytest.mark.threat("C16")
def test_a_body_is_asked_for_only_when_the_call_is_allowed(pki: Pki, aws: Aws, gateway: Carry) -> None:
    announced = ("Expect: 100-continue", f"Content-Length: {1024**3}")
    recorder = Recorder()
    with gateway(aws(recorder).origin) as carrying:
        for certificate, grant, code in (
            (None, "reports", "certificate_required"),
            ("client", "none", "call_denied"),
            ("client", "look", "body_too_large"),
        ):
            with carrying.connect(pki.client_context(certificate)) as sock:
                sock.sendall(ask(call("PUT", grant=grant), *announced))
                assert code_of(read_answer(sock)) == code
        assert recorder.heads == []
        with carrying.connect(pki.client_context("client")) as sock:
            sock.sendall(ask(call("PUT"), "Expect: 100-continue", "Content-Length: 3"))
            assert read_answer(sock).status == 100
            sock.sendall(b"abc")
            assert read_answer(sock).status == 200
        assert recorder.bodies == [b"abc"]


def test_a_body_that_is_wanted_is_seen_before_the_decision(pki: Pki, aws: Aws, gateway: Carry) -> None:
    recorder = Recorder()
    with gateway(aws(recorder).origin) as carrying, carrying.connect(pki.client_context("client")) as sock:
        sock.sendall(ask(call("POST", grant="look"), body=b"Action=X"))
        assert read_answer(sock).status == 200
        assert (carrying.deciding.bodies, recorder.bodies, carrying.known.asked) == ([b"Action=X"], [b"Action=X"], 2)
        sock.sendall(ask(call("POST", grant="look"), "Transfer-Encoding: chunked"))
        until(lambda: carrying.known.asked == 3)
        carrying.known.revoked = True  # while the body is on its way
        sock.sendall(chunks(b"Action=Y"))
        assert code_of(read_answer(sock)) == "instance_revoked"
        assert len(recorder.bodies) == 1


def test_a_body_that_is_wanted_has_a_limit(pki: Pki, aws: Aws, gateway: Carry) -> None:
    with gateway(aws(Recorder()).origin) as carrying:
        for size, status in ((LONGEST_BODY, 200), (LONGEST_BODY + 1, 413)):
            with carrying.connect(pki.client_context("client")) as sock:
                sock.sendall(ask(call("POST", grant="look"), "Transfer-Encoding: chunked") + chunks(bytes(size)))
                assert read_answer(sock).status == status
        assert [event.reason for event in carrying.records.events] == ["body_too_large"]


@pytest.mark.parametrize("size", [0, 10, BIG])
@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_with_another_hash_never_reaches_aws_whole(
    pki: Pki, aws: Aws, gateway: Carry, size: int, chunked: bool
) -> None:
    recorder = Recorder()
    with (
        gateway(aws(recorder).origin, payload_sha256=hashlib.sha256(b"another").hexdigest()) as carrying,
        carrying.connect(pki.client_context("client")) as sock,
    ):
        if chunked:
            sock.sendall(ask(call("PUT"), "Transfer-Encoding: chunked") + chunks(*[bytes(size)] * (size > 0)))
        else:
            sock.sendall(ask(call("PUT"), body=bytes(size)))
        assert code_of(read_answer(sock)) == "signature_refused"
        until(lambda: carrying.deciding.ended)
        assert carrying.deciding.ended[0].problem == "payload_hash"
        assert recorder.bodies == []


@pytest.mark.parametrize("length", ["4", "6", "x", "-1"])
def test_a_content_length_that_was_signed_must_be_true(pki: Pki, aws: Aws, gateway: Carry, length: str) -> None:
    recorder = Recorder()
    with gateway(aws(recorder).origin) as carrying:
        for form in (
            ask(call("PUT", content_length=length), body=b"hello"),
            ask(call("PUT", content_length=length), "Transfer-Encoding: chunked") + chunks(b"hel", b"lo"),
        ):
            with carrying.connect(pki.client_context("client")) as sock:
                sock.sendall(form)
                assert code_of(read_answer(sock)) == "call_malformed"
        with carrying.connect(pki.client_context("client")) as sock:
            sock.sendall(ask(call("PUT", content_length="5"), "Transfer-Encoding: chunked") + chunks(b"hel", b"lo"))
            assert read_answer(sock).status == 200
        assert recorder.bodies == [b"hello"]
        assert recorder.heads[-1][-1] == "content-length: 5"


# 100 Continue, and answers that come early


def test_aws_is_asked_before_a_large_body_is_sent(pki: Pki, aws: Aws, gateway: Carry) -> None:
    went_on = threading.Event()

    def script(line: Line) -> None:
        head = line.head()
        assert head is not None
        assert b"expect: 100-continue" in head
        line.sock.settimeout(0.15)
        with pytest.raises(TimeoutError):  # shorter than the time after which one goes on without being told to
            line.sock.recv(1)
        line.sock.settimeout(10)
        line.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        went_on.set()
        assert len(line.body(head)) == BIG
        line.send(OK)

    upstream = aws(script)
    with gateway(upstream.origin, expect=True) as carrying, carrying.connect(pki.client_context("client")) as sock:
        sock.sendall(ask(call("PUT"), "Expect: 100-continue", f"Content-Length: {BIG}"))
        assert read_answer(sock).status == 100
        assert went_on.is_set()
        sock.sendall(bytes(BIG))
        assert read_answer(sock).body == b"ok"


def test_who_says_neither_yes_nor_no_is_sent_the_body(pki: Pki, aws: Aws, gateway: Carry) -> None:
    recorder = Recorder()  # reads the body without a word
    with gateway(aws(recorder).origin, expect=True) as carrying, carrying.connect(pki.client_context("client")) as sock:
        sock.sendall(ask(call("PUT"), body=bytes(BIG)))
        assert read_answer(sock).body == b"ok"
        sock.sendall(ask(call("PUT"), body=b"small"))
        assert read_answer(sock).body == b"ok"
        assert ["expect: 100-continue" in head for head in recorder.heads] == [True, False]


def test_a_no_spares_the_body(pki: Pki, aws: Aws, gateway: Carry) -> None:
    def script(line: Line) -> None:
        line.head()
        line.send(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
        assert line.ended()
        assert line.received == b""

    with gateway(aws(script).origin, expect=True) as carrying, carrying.connect(pki.client_context("client")) as sock:
        sock.sendall(ask(call("PUT"), "Expect: 100-continue", f"Content-Length: {BIG}"))
        raw = read_answer(sock)
        assert (head_of(raw).status, raw.body, raw.headers["connection"]) == (403, b"no", "close")
        until(lambda: carrying.deciding.ended)
        assert carrying.deciding.ended[0] == Ended(403, 0, 2, None, None)


def test_an_answer_in_the_middle_of_the_body_ends_it(pki: Pki, aws: Aws, gateway: Carry) -> None:
    ended = threading.Event()

    def script(line: Line) -> None:
        line.head()
        line.sock.recv(1000)
        line.send(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 2\r\n\r\nno")
        if line.ended():
            ended.set()

    with gateway(aws(script).origin) as carrying, carrying.connect(pki.client_context("client")) as sock:
        sock.sendall(ask(call("PUT"), f"Content-Length: {1024**3}") + bytes(1000))
        sock.sendall(bytes(BIG))  # and then no more: the gateway does not wait for the rest
        assert head_of(read_answer(sock)).status == 400
        assert ended.wait(5)


# The worker


def test_a_stream_that_has_begun_is_not_cut_off_by_a_drain(pki: Pki, aws: Aws, gateway: Carry) -> None:
    go_on = threading.Event()

    def script(line: Line) -> None:
        line.head()
        line.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab")
        go_on.wait(10)
        line.send(b"cd")

    with gateway(aws(script).origin) as carrying, carrying.connect(pki.client_context("client")) as sock:
        sock.sendall(ask(call()))
        until(lambda: carrying.running.counters.streamed_out == 2)
        draining = threading.Thread(target=carrying.running.drain, args=(5,))
        draining.start()
        threading.Timer(0.3, go_on.set).start()
        assert read_answer(sock).body == b"abcd"
        draining.join(10)
        assert [each.problem for each in carrying.deciding.ended] == [None]


def test_a_drain_that_is_over_ends_what_is_left_and_waits_for_its_record(pki: Pki, aws: Aws, gateway: Carry) -> None:
    def script(line: Line) -> None:
        line.head()
        line.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab")
        line.ended()

    with gateway(aws(script).origin) as carrying, carrying.connect(pki.client_context("client")) as sock:
        sock.sendall(ask(call()))
        until(lambda: carrying.running.counters.streamed_out == 2)
        carrying.deciding.may_end.clear()
        threading.Timer(0.4, carrying.deciding.may_end.set).start()
        carrying.running.drain(0.2)
        assert carrying.deciding.ended == [Ended(200, 0, 2, None, "draining")]
        with pytest.raises(ConnectionError):
            read_answer(sock)


def test_more_streams_than_there_may_be_are_refused(pki: Pki, aws: Aws, gateway: Carry) -> None:
    release = threading.Event()

    def script(line: Line) -> None:
        line.head()
        release.wait(10)
        line.send(OK)

    limits = Limits(streams=1, closing=timedelta(seconds=0.1), settle=timedelta(0))
    with gateway(aws(script).origin, limits=limits) as carrying:
        with (
            carrying.connect(pki.client_context("client")) as first,
            carrying.connect(pki.client_context("client")) as second,
        ):
            first.sendall(ask(call()))
            until(lambda: carrying.running.counters.streams == 1)
            second.sendall(ask(call()))
            raw = read_answer(second)
            assert (raw.status, code_of(raw), raw.headers["retry-after"]) == (503, "overloaded", "1")
            release.set()
            assert read_answer(first).status == 200
        assert len(carrying.deciding.begun) == 1


def test_the_next_request_does_not_wait_for_the_record_of_the_end(pki: Pki, aws: Aws, gateway: Carry) -> None:
    with gateway(aws(polite()).origin) as carrying, carrying.connect(pki.client_context("client")) as sock:
        carrying.deciding.may_end.clear()
        for _ in range(3):
            sock.sendall(ask(call()))
            assert read_answer(sock).status == 200
        assert carrying.deciding.ended == []
        carrying.deciding.may_end.set()
        until(lambda: len(carrying.deciding.ended) == 3)


def _port_that_nobody_has() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port: int = sock.getsockname()[1]
    return port


def test_nobody_there(pki: Pki, gateway: Carry) -> None:
    with (
        gateway(f"https://127.0.0.1:{_port_that_nobody_has()}") as carrying,
        carrying.connect(pki.client_context("client")) as sock,
    ):
        sock.sendall(ask(call()))
        raw = read_answer(sock)
        assert (raw.status, code_of(raw)) == (503, "upstream_unavailable")
        until(lambda: carrying.deciding.ended)
        assert carrying.deciding.ended == [Ended(None, 0, 0, None, "connect")]
