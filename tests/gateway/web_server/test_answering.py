"""What requests get: from inline handlers, from the application, and when either fails."""

import contextlib
import email.utils
import json
import logging
from datetime import UTC, datetime, timedelta

import pytest

from gateway.web.server.service import Limits, Response
from gateway.web.server.wsgi import AnswerTooLarge, call
from tests.gateway.web_server.client import LAST, Answer, answers, connected, get, read_all, read_one, send, until
from tests.gateway.web_server.serving import Serving, serving
from tests.gateway.web_server.toy import CANARY, LARGE, Toy, listener


def ask(plain: Serving, path: str, *headers: str, method: str = "GET", body: bytes | None = None) -> Answer:
    (answer,) = send(plain.address, get(path, LAST, *headers, method=method, body=body), to_head=method == "HEAD")
    return answer


@pytest.mark.parametrize(("path", "body"), [("/inline", b"hello"), ("/soon", b"soon"), ("/app", b"app")])
def test_get(plain: Serving, path: str, body: bytes) -> None:
    answer = ask(plain, path)
    assert (answer.status, answer.body) == (200, body)


@pytest.mark.parametrize("path", ["/inline", "/app/echo"])
def test_post(plain: Serving, path: str) -> None:
    body = bytes(range(256)) * 200
    assert ask(plain, path, method="POST", body=body).body == body


@pytest.mark.parametrize("path", ["/inline", "/app", "/app/large", "/large", "/soon"])
def test_head_is_get_without_the_body(plain: Serving, path: str) -> None:
    head, whole = ask(plain, path, method="HEAD"), ask(plain, path)
    assert head.status == whole.status == 200
    assert {**head.headers, "date": ""} == {**whole.headers, "date": ""}
    assert int(head.headers["content-length"]) == len(whole.body) > 0


@pytest.mark.threat("C18")
@pytest.mark.parametrize(
    "path", ["/inline", "/soon", "/empty", "/refuse", "/fail", "/app", "/app/fail", "/app/refuse", "/nothing", "/a//b"]
)
def test_every_answer_has_the_headers_of_every_answer(plain: Serving, path: str) -> None:
    headers = ask(plain, path).headers
    assert headers["cache-control"] == "no-store"
    assert headers["x-content-type-options"] == "nosniff"
    age = datetime.now(UTC) - email.utils.parsedate_to_datetime(headers["date"])
    assert abs(age) < timedelta(seconds=3)
    assert "server" not in headers
    assert "etag" not in headers
    assert ("content-length" in headers) == (path != "/empty")


def test_an_answer_may_say_how_it_is_cached(plain: Serving) -> None:
    assert ask(plain, "/cached").headers["cache-control"] == "max-age=60"


def test_204_has_no_body_and_no_length(plain: Serving) -> None:
    with connected(plain.address) as sock:
        sock.sendall(get("/empty") + get("/inline", LAST))
        raw = read_all(sock)
    first, second = raw.split(b"HTTP/1.1 200 OK")
    assert first.startswith(b"HTTP/1.1 204 No Content")
    assert b"Content-Length" not in first
    assert second.endswith(b"hello")


def test_http_1_0_gets_one_answer(plain: Serving) -> None:
    request = b"GET /inline HTTP/1.0\r\nHost: gateway.test\r\nConnection: keep-alive\r\n\r\n"
    (answer,) = send(plain.address, request + request)
    assert answer.headers["connection"] == "close"


@pytest.mark.threat("C19")
@pytest.mark.parametrize("path", ["/fail", "/fail-later", "/app/fail", "/app/exit", "/bad-header"])
def test_a_fault_of_ours_says_nothing_of_itself(plain: Serving, path: str, caplog: pytest.LogCaptureFixture) -> None:
    with connected(plain.address) as sock, caplog.at_level(logging.DEBUG):
        sock.sendall(get(path))
        answer = read_one(sock)
        sock.sendall(get("/inline"))
        assert read_one(sock).status == 200, "the connection and the worker live on"
    assert answer.status == 500
    assert answer.problem["code"] == "internal_error"
    assert CANARY not in answer.body.decode()
    assert CANARY not in caplog.text
    request_id = answer.problem["instance"].removeprefix("urn:uuid:")
    (record,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert request_id in record.getMessage()
    assert "line " in record.getMessage(), "it says where"
    assert plain.counters.failed == 1


@pytest.mark.parametrize(
    ("path", "status", "code"), [("/refuse", 403, "grant_refused"), ("/app/refuse", 409, "conflict")]
)
def test_a_refusal_is_a_problem_and_no_fault(plain: Serving, path: str, status: int, code: str) -> None:
    with connected(plain.address) as sock:
        for _ in range(2):  # and the connection stays
            sock.sendall(get(path))
            answer = read_one(sock)
            assert (answer.status, answer.problem["code"]) == (status, code)
            assert CANARY not in answer.body.decode(), "the reason is for the audit log"
    assert plain.counters.failed == 0


@pytest.mark.threat("B03")
def test_after_an_identity_is_refused_its_connection_closes(plain: Serving, toy: Toy) -> None:
    with connected(plain.address) as sock:
        sock.sendall(get("/revoked") + get("/inline"))
        assert b"urn:trusted-gateway:problem:instance_revoked" in read_all(sock)
    assert [request.path for request in toy.seen] == ["/revoked"]


def test_requests_wait_for_the_answer_before_them(plain: Serving) -> None:
    asks = [get("/app/slow?0.1"), get("/soon"), get("/inline"), get("/app/echo", method="POST", body=b"b" * 5000)]
    found = send(plain.address, b"".join(asks * 3) + get("/last"))
    assert [answer.body for answer in found] == [b"app", b"soon", b"hello", b"b" * 5000] * 3 + [b"bye"]


def test_what_is_pipelined_late_is_read_later(plain: Serving, toy: Toy) -> None:
    with connected(plain.address) as sock:
        sock.sendall(get("/app/held"))
        until(lambda: plain.counters.requests == 1)
        (connection,) = plain.connections()
        sock.sendall(get("/inline"))
        until(lambda: connection._reading_paused)
        sock.sendall(get("/inline"))
        toy.release.set()
        sock.sendall(get("/inline", LAST))
        assert [answer.body for answer in answers(read_all(sock))] == [b"app"] + [b"hello"] * 3


@pytest.mark.threat("C01", "C03")
def test_the_environment_tells_the_socket_from_the_headers(plain: Serving) -> None:
    lies = ["X-Forwarded-For: 203.0.113.9", "X-Real-IP: 203.0.113.9", "Forwarded: for=203.0.113.9", "Remote-User: root",
            "X-SSL-Client-Verify: SUCCESS", "X-Forwarded-Proto: https"]  # fmt: skip
    answer = ask(plain, "/app/environ?a=%2F", "Cookie: a=1", "Cookie: b=2", "X-Two: 1", "X-Two: 2", *lies)
    environ = json.loads(answer.body)
    assert environ["REMOTE_ADDR"] == "127.0.0.1"
    assert "REMOTE_USER" not in environ
    assert environ["wsgi.url_scheme"] == "http"
    assert environ["SERVER_PORT"] == str(plain.address[1])
    assert (environ["PATH_INFO"], environ["QUERY_STRING"]) == ("/app/environ", "a=%2F")
    assert environ["RAW_URI"] == "/app/environ?a=%2F"
    assert (environ["HTTP_COOKIE"], environ["HTTP_X_TWO"]) == ("a=1; b=2", "1,2")
    assert environ["trusted_gateway.listener"] == "toy"
    assert len(environ["trusted_gateway.request_id"]) == 36


def test_more_calls_than_threads_and_queue_are_turned_away(toy: Toy) -> None:
    with serving(listener(toy), limits=Limits(threads=2, queue=1)) as running, contextlib.ExitStack() as stack:
        socks = [stack.enter_context(connected(running.address)) for _ in range(3)]
        for sock in socks:
            sock.sendall(get("/app/held"))
        until(lambda: running.counters.requests == 3)
        answer = ask(running, "/app")
        assert answer.status == 503
        assert answer.problem["code"] == "overloaded"
        assert answer.headers["retry-after"] == "1"
        assert ask(running, "/inline").status == 200, "what needs no thread is answered"
        toy.release.set()
        assert [read_one(sock).body for sock in socks] == [b"app"] * 3
        assert ask(running, "/app").status == 200, "the pool is free again"


def test_the_answer_for_a_client_that_left_is_dropped(toy: Toy) -> None:
    with serving(listener(toy), limits=Limits(threads=1, queue=0)) as running:
        with connected(running.address) as sock:
            sock.sendall(get("/app/held"))
            until(lambda: running.counters.requests == 1)
            (connection,) = running.connections()
        until(lambda: connection._transport is None)
        toy.release.set()
        until(lambda: running.counters.dropped == 1)
        assert ask(running, "/app").status == 200, "its thread is free again"


def test_an_application_answers_in_bounds() -> None:
    toy = Toy()
    with pytest.raises(AnswerTooLarge):
        call(toy.wsgi, {"PATH_INFO": "/app/endless", "REQUEST_METHOD": "GET"}, 1_000_000)
    answer: Response = call(toy.wsgi, {"PATH_INFO": "/app/large", "REQUEST_METHOD": "GET"}, len(LARGE))
    assert answer.body is LARGE, "not copied"
