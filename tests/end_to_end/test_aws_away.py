"""AWS does not answer, or answers nonsense: enrolment says so soon, uses nothing up, and holds nobody up (A26)."""

import re
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import partial

import pytest

from tests.end_to_end.counted import Counted, counted_fixture  # noqa: F401  # a fixture
from tests.end_to_end.http_door import Behaviour, Door

BUDGET = 5.0  # seconds
MARGIN = 10.0  # for a machine that has other things to do
Misfortune = Callable[[Door], AbstractContextManager[None]]
Refused = tuple[int, str, str]


def it(behave: Behaviour) -> Misfortune:
    return lambda door: door.misbehaving(behave)


def say(raw: bytes) -> Misfortune:
    """And then close."""
    return it(lambda connection, _: connection.sendall(raw))


def hang_after(raw: bytes) -> Misfortune:
    """Until the caller gives up."""

    def behave(connection: socket.socket, _: bytes) -> None:
        connection.sendall(raw)
        connection.recv(1)

    return it(behave)


def drip(raw: bytes) -> Misfortune:
    """Byte by byte, and never silent for long."""

    def behave(connection: socket.socket, _: bytes) -> None:
        for byte in raw:
            connection.sendall(bytes([byte]))
            time.sleep(0.5)

    return it(behave)


def http(status: str, body: bytes = b"", length: int | None = None, more: str = "") -> bytes:
    length = len(body) if length is None else length
    head = f"HTTP/1.1 {status}\r\nContent-Type: text/xml\r\nContent-Length: {length}\r\n{more}Connection: close\r\n\r\n"
    return head.encode() + body


def error(status: str, code: str) -> Misfortune:
    body = f"<Response><Errors><Error><Code>{code}</Code><Message>no</Message></Error></Errors></Response>"
    return say(http(status, body.encode()))


def an_instance_without_facts(connection: socket.socket, request: bytes) -> None:
    asked = re.search(rb"InstanceId\.1=(i-[0-9a-f]+)", request)
    assert asked
    item = b"<item><instancesSet><item><instanceId>%s</instanceId></item></instancesSet></item>" % asked[1]
    connection.sendall(http("200 OK", ANSWER % (b"<reservationSet>%s</reservationSet>" % item)))


ANSWER = b"<DescribeInstancesResponse>%s</DescribeInstancesResponse>"
HALF = ANSWER.partition(b"%s")[0]
HTML = b"<html><body>Please log in</body></html>"
LATER = (503, "upstream_unavailable", "aws_later")
SILENT = (503, "upstream_unavailable", "ReadTimeoutError")
CLOSED = (503, "upstream_unavailable", "ConnectionClosedError")
GARBLED = (503, "upstream_unavailable", "ResponseParserError")

AWAY: dict[str, tuple[Misfortune, Refused]] = {
    "refuses connections": (Door.shut, (503, "upstream_unavailable", "EndpointConnectionError")),
    "hangs": (hang_after(b""), SILENT),
    "hangs in the head": (hang_after(b"HTTP/1.1 200 OK\r\nContent-"), SILENT),
    "hangs in the body": (hang_after(http("200 OK", HALF, 9999)), SILENT),
    "closes": (say(b""), CLOSED),
    "closes in the body": (say(http("200 OK", HALF, 9999)), GARBLED),
    "speaks TLS": (say(b"\x15\x03\x01\0\x02\x02\x46"), CLOSED),
    "answers 500": (error("500 Internal Server Error", "InternalError"), LATER),
    "answers 500 and no more": (say(http("500 Internal Server Error")), LATER),
    "answers 503 in HTML": (say(http("503 Service Unavailable", HTML)), LATER),
    "throttles": (error("400 Bad Request", "RequestLimitExceeded"), LATER),
    "refuses the key": (error("401 Unauthorized", "AuthFailure"), (502, "upstream_refused", "aws_refused")),
    "sends elsewhere": (say(http("302 Found", more="Location: http://127.0.0.1:1/\r\n")), GARBLED),
    "answers nothing": (say(http("200 OK")), GARBLED),
    "answers no XML": (say(http("200 OK", b"\xff\0{}" * 50)), GARBLED),
    "answers half of its XML": (say(http("200 OK", HALF)), GARBLED),
    "answers 50 MB": (say(http("200 OK", HALF + b" " * 50_000_000)), GARBLED),
    "answers in HTML": (say(http("200 OK", HTML)), (502, "upstream_refused", "aws_answer_malformed")),
    "knows no more than the id": (
        it(an_instance_without_facts),
        (502, "upstream_refused", "aws_answer_malformed"),
    ),
}


@pytest.mark.threat("A26")
@pytest.mark.parametrize(("misfortune", "refused"), AWAY.values(), ids=AWAY)
def test_A26_an_AWS_that(counted: Counted, misfortune: Misfortune, refused: Refused) -> None:
    expect_refusal(counted, misfortune, refused)


@pytest.mark.threat("A26")
def test_A26_an_AWS_that_drips(counted: Counted) -> None:
    expect_refusal(
        counted,
        drip(http("200 OK", HALF, 9999)[: int(2 * (BUDGET + MARGIN))] + b"!"),
        (503, "upstream_unavailable", "upstream_slow"),
    )


def expect_refusal(counted: Counted, misfortune: Misfortune, refused: Refused) -> None:
    world, visitor = counted.world, counted.world.visitor()
    launched, ticket, said = world.launch(), counted.ticket(), world.site.log.read_text()
    visitor.connect()
    with misfortune(counted.door):
        began = time.monotonic()
        ask = partial(visitor.enroll, launched.document, ticket)
        counted.refuses(ask, *refused, aws=0 if misfortune is Door.shut else 1)
        assert time.monotonic() - began < BUDGET + MARGIN
    assert world.site.log.read_text() == said
    assert visitor.enroll(launched.document, ticket).status == 201  # nothing was used up


@pytest.mark.threat("A26")
def test_A26_others_are_served_while_AWS_hangs(counted: Counted) -> None:
    world, newcomers = counted.world, [counted.world.visitor() for _ in range(8)]
    launched, tickets = world.launch(), [counted.ticket() for _ in newcomers]
    with hang_after(b"")(counted.door), ThreadPoolExecutor(len(newcomers)) as pool:
        pairs = zip(newcomers, tickets, strict=True)
        asked = [pool.submit(visitor.enroll, launched.document, ticket) for visitor, ticket in pairs]
        served = 0
        while not all(each.done() for each in asked):
            began = time.monotonic()
            assert counted.healthy.call("GET", "/v1/grants").status == 200
            assert counted.healthy.renew().status == 200
            assert time.monotonic() - began < 1 + MARGIN
            served += 1
        assert served > 3
        assert {(each.result().status, each.result().code) for each in asked} == {(503, "upstream_unavailable")}
