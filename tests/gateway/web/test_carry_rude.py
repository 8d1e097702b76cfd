"""An AWS that misbehaves, or somebody in its place, and clients that do: nobody gets another's bytes, nothing is sent
twice, nothing ends cleanly that is not whole, and everything ends in time.
"""

import socket
import struct
import threading
import time
from datetime import timedelta
from typing import Any

import pytest

from gateway.flows.passage import Ended
from gateway.web.server.service import Limits
from gateway.web.upstream.pool import Patience
from tests.gateway.web.carrying import ask, call, chunks, code_of, head_of, read_answer
from tests.gateway.web.conftest import Aws, Carry
from tests.gateway.web.rude import OK, Line, Script, polite
from tests.gateway.web_server.client import until
from tests.gateway.web_server.pki import Pki

BIG = 300 * 1024
SECRET = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecret"
PATIENT = Patience()


def after(first: bytes) -> Script:
    """Answers the first request on the first connection with these bytes, and all others properly."""

    def script(line: Line) -> None:
        while (head := line.head()) is not None:
            line.body(head)
            line.send(first if line.number == 0 else OK)

    return script


def mute(line: Line) -> None:
    """Takes one request, and closes."""
    line.head()


def patient(line: Line) -> None:
    """Takes everything, and says nothing."""
    line.ended()


# F01: where to


@pytest.mark.threat("F01")
@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "0", "2130706433", "0x7f000001", "0177.0.0.1", "[::1]", "[::ffff:127.0.0.1]"]
)
def test_addresses_that_are_not_aws_are_never_connected_to(pki: Pki, aws: Aws, gateway: Carry, host: str) -> None:
    trap = aws(polite())
    origin = f"https://{host}:{trap.address[1]}"
    with gateway(origin, checked=True) as carrying, carrying.connect(pki.client_context("client")) as sock:
        sock.sendall(ask(call()))
        raw = read_answer(sock)
        assert (raw.status, code_of(raw)) == (503, "upstream_unavailable")
        until(lambda: carrying.deciding.ended)
        assert carrying.deciding.ended == [Ended(None, 0, 0, None, "address_refused")]
        assert trap.connections == 0


@pytest.mark.threat("F01")
def test_the_trap_would_have_been_sprung(pki: Pki, aws: Aws, gateway: Carry) -> None:
    """The negative control: the same, where the settings name the origin."""
    trap = aws(polite())
    with gateway(trap.origin) as carrying, carrying.connect(pki.client_context("client")) as sock:
        sock.sendall(ask(call()))
        assert read_answer(sock).status == 200
    assert trap.connections == 1


@pytest.mark.threat("F01")
def test_one_bad_address_spoils_a_name_and_the_checked_one_is_connected_to(
    pki: Pki, aws: Aws, gateway: Carry, monkeypatch: pytest.MonkeyPatch
) -> None:
    trap = aws(polite())
    answers = [["93.184.215.14", "127.0.0.1"], ["127.0.0.1"]]
    asked = []

    async def resolves(host: str, port: int) -> list[Any]:
        asked.append(host)
        found = answers.pop(0)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in found]

    origin = f"https://s3.us-east-1.amazonaws.com:{trap.address[1]}"
    with gateway(origin, checked=True) as carrying, carrying.connect(pki.client_context("client")) as sock:
        monkeypatch.setattr("gateway.web.upstream.connect._names", resolves)
        for _ in range(2):
            sock.sendall(ask(call()))
            assert code_of(read_answer(sock)) == "upstream_unavailable"
        assert len(asked) == 2  # once for each connection: what was checked is never looked up again
        assert trap.connections == 0


@pytest.mark.threat("F01")
def test_without_encryption_there_is_only_development(pki: Pki, gateway: Carry) -> None:
    with gateway("http://93.184.215.14", checked=True) as carrying:
        with carrying.connect(pki.client_context("client")) as sock:
            sock.sendall(ask(call()))
            assert read_answer(sock).status == 503
        until(lambda: carrying.deciding.ended)
        assert carrying.deciding.ended[0].problem == "not_encrypted"


def test_another_certificate_is_not_aws(pki: Pki, aws: Aws, gateway: Carry) -> None:
    upstream = aws(polite())
    with gateway(upstream.origin.replace("127.0.0.1", "localhost")) as carrying:
        with carrying.connect(pki.client_context("client")) as sock:
            sock.sendall(ask(call()))
            assert read_answer(sock).status == 503
        until(lambda: carrying.deciding.ended)
        assert carrying.deciding.ended == [Ended(None, 0, 0, None, "certificate")]


# F03: whose answer is it?


@pytest.mark.threat("F03")
@pytest.mark.parametrize(
    ("bytes_of_aws", "status"),
    [
        (OK + SECRET, 200),
        (OK + b"\r\n", 200),
        (b"HTTP/1.1 204 No Content\r\n\r\nsecret", 200),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n" + SECRET, 200),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", 502),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok", 502),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok", 502),
        (b"HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok", 502),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 502),
        (b"HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nok", 502),
        (b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 2\r\n\r\nok", 502),
        (b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok\r\n\r\n", 502),
        (b"HTTP/1.1 102 x\r\n\r\n" * 9 + OK, 502),
        (b"HTTP/1.1 103 x\r\n\r\n" * 8 + OK, 200),
    ],
)
def test_the_next_tenant_gets_its_own_answer(
    pki: Pki, aws: Aws, gateway: Carry, bytes_of_aws: bytes, status: int
) -> None:
    upstream = aws(after(bytes_of_aws))
    with gateway(upstream.origin) as carrying:
        with carrying.connect(pki.client_context("client")) as sock:
            sock.sendall(ask(call()))
            raw = read_answer(sock)
            assert raw.status == status
            assert b"secret" not in raw.body
        with carrying.connect(pki.client_context("client")) as sock:
            sock.sendall(ask(call()))
            assert read_answer(sock).body == b"ok"
        sound = bytes_of_aws.startswith(b"HTTP/1.1 103")
        assert upstream.connections == (1 if sound else 2)
        assert carrying.pool.used.dropped == (0 if sound else 1)


@pytest.mark.threat("F03")
def test_what_comes_unasked_poisons_an_idle_connection(pki: Pki, aws: Aws, gateway: Carry) -> None:
    go_on = threading.Event()

    def script(line: Line) -> None:
        line.head()
        line.send(OK)
        if line.number == 0:
            go_on.wait(10)
            line.send(SECRET)
            line.ended()
            go_on.clear()

    upstream = aws(script)
    with gateway(upstream.origin) as carrying, carrying.connect(pki.client_context("client")) as sock:
        sock.sendall(ask(call()))
        assert read_answer(sock).body == b"ok"
        go_on.set()
        until(lambda: not go_on.is_set())
        sock.sendall(ask(call()))
        assert read_answer(sock).body == b"ok"
        assert upstream.connections == 2


def test_a_connection_that_aws_has_closed_is_not_used(pki: Pki, aws: Aws, gateway: Carry) -> None:
    def script(line: Line) -> None:
        line.body(line.head() or b"")
        line.send(OK)  # and close

    upstream = aws(script)
    with gateway(upstream.origin) as carrying, carrying.connect(pki.client_context("client")) as sock:
        for _ in range(3):
            sock.sendall(ask(call("PUT"), body=b"x"))
            assert read_answer(sock).body == b"ok"
            until(lambda: not carrying.pool._all)  # it hears of it while nobody asks
        assert upstream.connections == 3


@pytest.mark.parametrize(
    ("idempotent", "body", "again"),
    [(True, b"small", True), (False, b"small", False), (True, b"", True), (True, bytes(BIG), False)],
)
def test_only_what_may_be_repeated_is_sent_again_and_only_on_a_stale_connection(
    pki: Pki, aws: Aws, gateway: Carry, idempotent: bool, body: bytes, again: bool
) -> None:
    heads = []

    def script(line: Line) -> None:
        while (head := line.head()) is not None:
            heads.append(head)
            line.body(head)
            if line.number == 0 and len(heads) > 1:
                return  # the second request meets a connection that closes without a word
            line.send(OK)

    upstream = aws(script)
    with gateway(upstream.origin, idempotent=idempotent) as carrying:
        with carrying.connect(pki.client_context("client")) as sock:
            sock.sendall(ask(call("PUT"), body=b"first"))
            assert read_answer(sock).status == 200
            sock.sendall(ask(call("PUT"), body=body))
            raw = read_answer(sock)
            assert raw.status == (200 if again else 502)
        assert len(heads) == (3 if again else 2)
        until(lambda: len(carrying.deciding.ended) == 2)
        assert carrying.deciding.ended[1].problem in ((None,) if again else ("no_answer", "connection_lost"))


def test_a_new_connection_that_breaks_is_not_tried_again(pki: Pki, aws: Aws, gateway: Carry) -> None:
    upstream = aws(mute)
    with gateway(upstream.origin, idempotent=True) as carrying, carrying.connect(pki.client_context("client")) as sock:
        sock.sendall(ask(call()))
        assert read_answer(sock).status == 502
        assert upstream.connections == 1


# F05: endless, slow, gone


@pytest.mark.threat("F05")
@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_that_breaks_off_never_ends_cleanly(pki: Pki, aws: Aws, gateway: Carry, chunked: bool) -> None:
    def script(line: Line) -> None:
        line.head()
        framing = b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n" if chunked else b"Content-Length: 9\r\n\r\nabc"
        line.send(b"HTTP/1.1 200 OK\r\n" + framing)

    with gateway(aws(script).origin) as carrying, carrying.connect(pki.client_context("client")) as sock:
        sock.sendall(ask(call()))
        with pytest.raises(ConnectionError):
            read_answer(sock)
        until(lambda: carrying.deciding.ended)
        ended = carrying.deciding.ended[0]
        assert (ended.status, ended.received, ended.problem) == (200, 3, "cut_off")


@pytest.mark.threat("F05")
def test_chunks_that_are_none_break_the_answer_off(pki: Pki, aws: Aws, gateway: Carry) -> None:
    bad = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n"
    with gateway(aws(polite(bad)).origin) as carrying, carrying.connect(pki.client_context("client")) as sock:
        sock.sendall(ask(call()))
        with pytest.raises(ConnectionError):
            read_answer(sock)
        until(lambda: carrying.deciding.ended)
        assert carrying.deciding.ended[0].problem == "bad_framing"


@pytest.mark.threat("F05")
@pytest.mark.parametrize("reset", [False, True])
def test_a_client_that_goes_takes_its_upstream_with_it(pki: Pki, aws: Aws, gateway: Carry, reset: bool) -> None:
    """While AWS sends without end, and the client takes nothing."""
    broken = threading.Event()

    def script(line: Line) -> None:
        line.head()
        line.send(b"HTTP/1.1 200 OK\r\nx-amz-request-id: R\r\nTransfer-Encoding: chunked\r\n\r\n")
        try:
            while True:
                line.send(b"10000\r\n" + bytes(65_536) + b"\r\n")
        except OSError:
            broken.set()

    with gateway(aws(script).origin, patience=PATIENT) as carrying:
        sock = carrying.connect(pki.client_context("client"))
        sock.sendall(ask(call()))
        assert sock.recv(10)
        until(lambda: _settled(carrying))
        if reset:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()
        assert broken.wait(2)
        until(lambda: carrying.deciding.ended)
        (ended,) = carrying.deciding.ended
        assert (ended.status, ended.aws_request_id, ended.problem) == (200, "R", "client_gone")
        assert ended.received >= carrying.running.counters.streamed_out > 0
        until(lambda: not carrying.running.connections())


def _settled(carrying: Any) -> bool:
    """Nobody takes anything more: every buffer on the way is full."""
    before = carrying.running.counters.streamed_out
    time.sleep(0.2)
    return bool(before) and carrying.running.counters.streamed_out == before


@pytest.mark.threat("F05")
def test_a_client_that_goes_while_its_body_is_held_back(pki: Pki, aws: Aws, gateway: Carry) -> None:
    """AWS takes nothing, so the gateway reads nothing, and yet it sees that the client has gone."""
    broken = threading.Event()

    def script(line: Line) -> None:
        line.head()
        hold.wait(10)
        line.ended()
        broken.set()

    hold = threading.Event()
    with gateway(aws(script).origin, patience=PATIENT) as carrying:
        sock = carrying.connect(pki.client_context("client"), timeout=1)
        sock.sendall(ask(call("PUT"), "Content-Length: 1000000000"))
        with pytest.raises(TimeoutError):
            sock.sendall(bytes(64 * 1024 * 1024))
        assert carrying.running.counters.streamed_in < 32 * 1024 * 1024  # what sockets hold, and no more
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()
        until(lambda: carrying.deciding.ended, 2)
        assert carrying.deciding.ended[0].problem == "client_gone"
        hold.set()
        assert broken.wait(2)


@pytest.mark.threat("F05")
def test_a_client_that_goes_before_the_decision_leaves_a_passage_with_its_end(
    pki: Pki, aws: Aws, gateway: Carry
) -> None:
    upstream = aws(polite())
    with gateway(upstream.origin) as carrying:
        carrying.deciding.may_begin.clear()
        sock = carrying.connect(pki.client_context("client"))
        sock.sendall(ask(call()))
        until(lambda: carrying.deciding.bodies)
        sock.close()
        until(lambda: carrying.running.counters.dropped or carrying.running.connections()[0]._transport is None)
        carrying.deciding.may_begin.set()
        until(lambda: carrying.deciding.ended)
        assert carrying.deciding.ended == [Ended(None, 0, 0, None, "client_gone")]
        assert upstream.connections == 0


@pytest.mark.threat("F05")
def test_a_slow_aws_meets_a_deadline_in_the_middle_of_its_answer(pki: Pki, aws: Aws, gateway: Carry) -> None:
    def script(line: Line) -> None:
        line.head()
        line.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")
        assert line.ended()

    with gateway(aws(script).origin) as carrying, carrying.connect(pki.client_context("client")) as sock:
        sock.sendall(ask(call()))
        with pytest.raises(ConnectionError):
            read_answer(sock)
        until(lambda: carrying.deciding.ended)
        assert carrying.deciding.ended == [Ended(200, 0, 3, None, "upstream_timeout")]


@pytest.mark.threat("F05")
@pytest.mark.parametrize("takes", [True, False])
def test_a_slow_client_meets_a_deadline(pki: Pki, aws: Aws, gateway: Carry, takes: bool) -> None:
    """Between two pieces of what it sends, and for what it is to take."""
    soon = timedelta(seconds=0.4)
    limits = Limits(stream_idle=soon, write_time=soon, closing=timedelta(seconds=0.1), settle=timedelta(0))

    def script(line: Line) -> None:
        line.head()
        line.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        while True:
            line.send(bytes(65_536))

    with (
        gateway(aws(script if takes else polite()).origin, limits=limits, patience=PATIENT) as carrying,
        carrying.connect(pki.client_context("client")) as sock,
    ):
        if takes:
            sock.sendall(ask(call()))
        else:
            sock.sendall(ask(call("PUT"), "Content-Length: 1000000") + bytes(70_000))
            assert code_of(read_answer(sock)) == "request_timeout"
        until(lambda: carrying.deciding.ended)
        assert carrying.deciding.ended[0].problem == ("client_slow" if takes else "request_timeout")
        assert carrying.running.counters.timeouts == 1


# F06: too late


@pytest.mark.threat("F06")
@pytest.mark.parametrize("body", [b"", b"small", bytes(BIG)])
@pytest.mark.parametrize("method", ["POST", "GET"])
def test_a_request_that_was_sent_is_not_sent_again(
    pki: Pki, aws: Aws, gateway: Carry, method: str, body: bytes
) -> None:
    heads = []

    def script(line: Line) -> None:
        head = line.head()
        heads.append(head)
        line.body(head or b"")
        line.ended()

    upstream = aws(script)
    with gateway(upstream.origin, idempotent=True) as carrying, carrying.connect(pki.client_context("client")) as sock:
        sock.sendall(ask(call(method), body=body))
        raw = read_answer(sock)
        assert (raw.status, code_of(raw)) == (504, "upstream_timeout")
        assert (len(heads), upstream.connections) == (1, 1)
        until(lambda: carrying.deciding.ended)
        assert carrying.deciding.ended == [Ended(None, len(body), 0, None, "upstream_timeout")]
        upstream.script = polite()
        sock.sendall(ask(call()))
        assert read_answer(sock).status == 200


@pytest.mark.threat("F06")
def test_a_head_that_drips_gets_no_more_time(pki: Pki, aws: Aws, gateway: Carry) -> None:
    def script(line: Line) -> None:
        line.head()
        for byte in OK * 100:
            line.send(bytes([byte]))
            time.sleep(0.2)

    with gateway(aws(script).origin) as carrying, carrying.connect(pki.client_context("client")) as sock:
        sock.sendall(ask(call()))
        assert code_of(read_answer(sock)) == "upstream_timeout"


# F07: what is no plain answer


@pytest.mark.threat("F07")
@pytest.mark.parametrize(
    "bytes_of_aws",
    [
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * 1024 * 1024 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * 8193 + b"\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: a\r\n" * 101 + b"\r\n",
        b"HTTP/1.1 200 OK\r\n: a\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\x00b\r\n\r\n",
        b"HTTP/2.0 200 OK\r\n\r\n",
        b"HTTP/1.1 600 OK\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\n",
        b"\r\n\r\n",
    ],
)
def test_what_is_no_plain_answer_is_none(pki: Pki, aws: Aws, gateway: Carry, bytes_of_aws: bytes) -> None:
    upstream = aws(after(bytes_of_aws))
    with gateway(upstream.origin) as carrying, carrying.connect(pki.client_context("client")) as sock:
        sock.sendall(ask(call()))
        raw = read_answer(sock)
        assert (raw.status, code_of(raw)) == (502, "upstream_broken")
        sock.sendall(ask(call()))
        assert read_answer(sock).body == b"ok"
        assert upstream.connections == 2


@pytest.mark.threat("F07")
def test_the_largest_head_passes(pki: Pki, aws: Aws, gateway: Carry) -> None:
    fields = b"".join(b"x-%d: %s\r\n" % (at, b"a" * 8000) for at in range(8))
    upstream = aws(polite(b"HTTP/1.1 200 OK\r\n" + fields + b"Content-Length: 0\r\n\r\n"))
    with gateway(upstream.origin) as carrying, carrying.connect(pki.client_context("client")) as sock:
        sock.sendall(ask(call()))
        assert len(head_of(read_answer(sock)).headers) == 9


@pytest.mark.threat("F07")
@pytest.mark.parametrize("field", ["Upgrade: websocket", "Transfer-Encoding: gzip, chunked", "TE: trailers"])
def test_a_client_upgrades_nothing(pki: Pki, aws: Aws, gateway: Carry, field: str) -> None:
    upstream = aws(polite())
    with gateway(upstream.origin) as carrying, carrying.connect(pki.client_context("client")) as sock:
        sock.sendall(ask(call(te="trailers"), field))
        assert read_answer(sock).status == (200 if field.startswith("TE") else 501 if "T" in field else 400)


@pytest.mark.threat("F07")
def test_trailers_of_a_client_are_refused(pki: Pki, aws: Aws, gateway: Carry) -> None:
    upstream = aws(patient)
    with gateway(upstream.origin) as carrying, carrying.connect(pki.client_context("client")) as sock:
        sock.sendall(
            ask(call("PUT"), "Transfer-Encoding: chunked") + chunks(b"abc")[:-2] + b"x-amz-acl: public\r\n\r\n"
        )
        assert code_of(read_answer(sock)) == "malformed_request"
        until(lambda: carrying.deciding.ended)
        assert carrying.deciding.ended[0].problem == "malformed_request"
