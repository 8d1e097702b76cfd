"""What is not plain is refused with one answer, and nothing behind it is answered; what is plain is not refused."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from gateway.web.server.intake import Awaited
from tests.gateway.web_server.client import LAST, answers, connected, get, read_all, send, until
from tests.gateway.web_server.malformed import MALFORMED, PLAIN, SECOND, Row
from tests.gateway.web_server.pki import Pki
from tests.gateway.web_server.serving import Serving
from tests.gateway.web_server.toy import Toy


def _each(rows: list[Row]) -> list[object]:
    return [pytest.param(row, id=f"{row.threat} {row.oddity}", marks=pytest.mark.threat(row.threat)) for row in rows]


def test_the_table_is_long_enough() -> None:
    assert len(MALFORMED) >= 60
    assert len({row.raw for row in MALFORMED}) == len(MALFORMED)


@pytest.mark.parametrize("row", _each(MALFORMED))
def test_one_refusal_and_no_second_answer(plain: Serving, toy: Toy, row: Row) -> None:
    found = send(plain.address, row.raw + SECOND)
    assert [answer.status for answer in found] == [row.status]
    (answer,) = found
    assert answer.headers["connection"] == "close"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "server" not in answer.headers
    assert answer.problem["status"] == row.status
    assert answer.problem["hint"]
    assert answer.problem["instance"].startswith("urn:uuid:")
    assert toy.seen == []
    assert [answer.status for answer in send(plain.address, SECOND)] == [200]


@pytest.mark.parametrize("row", _each(PLAIN))
def test_plain_requests_are_answered_and_so_is_the_next(plain: Serving, row: Row) -> None:
    found = [answer.status for answer in send(plain.address, row.raw + SECOND) if answer.status != 100]
    assert found == [row.status, 200]


@pytest.mark.threat("C04", "C05", "C06", "C07", "C08", "C09", "C12", "C16", "C20")
def test_the_same_over_tls(secure: Serving, toy: Toy, pki: Pki) -> None:
    context = pki.client_context("client")

    def statuses(row: Row) -> list[int]:
        return [answer.status for answer in send(secure.address, row.raw + SECOND, context) if answer.status != 100]

    with ThreadPoolExecutor(16) as pool:
        refused = dict(zip((row.oddity for row in MALFORMED), pool.map(statuses, MALFORMED), strict=True))
        plain = dict(zip((row.oddity for row in PLAIN), pool.map(statuses, PLAIN), strict=True))
    assert refused == {row.oddity: [row.status] for row in MALFORMED}
    assert plain == {row.oddity: [row.status, 200] for row in PLAIN}


@pytest.mark.threat("C16")
def test_continue_is_said_only_when_the_head_is_acceptable_and_the_body_is_awaited(plain: Serving) -> None:
    head = get("/inline", "Expect: 100-continue", "Content-Length: 3", LAST, method="POST")
    with connected(plain.address) as sock:
        sock.sendall(head)
        assert sock.recv(65_536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        sock.sendall(b"abc")
        (answer,) = answers(read_all(sock))
    assert answer.body == b"abc"
    assert [answer.status for answer in send(plain.address, head + b"abc")] == [200], "the body was here already"
    with connected(plain.address) as sock:
        sock.sendall(head + b"a")
        until(lambda: any(connection._awaited is Awaited.BODY for connection in plain.connections()))
        sock.sendall(b"bc")
        assert [answer.status for answer in answers(read_all(sock))] == [200], "it had begun"


@pytest.mark.threat("C08")
def test_405_names_the_methods(plain: Serving) -> None:
    (answer,) = send(plain.address, b"TRACE / HTTP/1.1\r\nHost: gateway.test\r\n\r\n")
    assert answer.headers["allow"] == "GET, HEAD, POST, PUT, PATCH, DELETE, LIST"
