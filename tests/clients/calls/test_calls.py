"""The short form of the matrix of calls, and what compares there: each comparison has its control."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from deploy.demo.cloud import Cloud, Seeded
from tests.clients.calls import account, matrix, sizes
from tests.clients.calls.__main__ import wrong
from tests.clients.calls.account import Callers
from tests.clients.calls.differences import canonical, corrupted, digests, faults, unlike_its_hash
from tests.clients.calls.jobs import MODES, sha256
from tests.clients.calls.page import render
from tests.clients.calls.table import CLIENTS, Client
from tests.clients.calls.tap import Exchange, Message, Tap, aws_plain, http_plain
from tests.clients.calls.ways import MARKS
from tests.clients.page import RESULTS
from tests.conftest import Known
from tests.sink.payloads import PIECE

SIZE = 64 * PIECE
GROWTH = 48.0
"""MiB that a process may grow by while a body passes: buffers and threads, and not the body."""


@pytest.fixture(scope="module")
def callers(cloud: Cloud, seeded: Seeded, known: Known) -> Callers:
    made = account.prepare(cloud)
    known.add(made.secret)
    return made


@pytest.fixture(scope="module")
def results(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    cloud: Cloud,
    seeded: Seeded,
    callers: Callers,
) -> matrix.Results:
    """One run for all clients that were picked."""
    specs = (getattr(item, "callspec", None) for item in request.session.items)
    picked = [spec.params.get("client") for spec in specs if spec]
    folder = tmp_path_factory.mktemp("calls")
    with matrix.places(folder, cloud, seeded, callers) as found:
        chosen = [client for client in CLIENTS if client in picked]
        return matrix.run(folder / "clients", cloud, found, matrix.SHORT, chosen)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.name)
def test_a_call_is_as_if_it_were_made_directly(results: matrix.Results, client: Client) -> None:
    if client.name in results.not_run:
        pytest.skip(results.not_run[client.name])
    found = results.faults[client.name]
    assert set(found) == set(matrix.SHORT(client))
    assert {f"{job} by {way}": each for job, ways in found.items() for way, each in ways.items() if each} == {}


@pytest.mark.timeout(600)
def test_every_form_of_payload_was_sent(results: matrix.Results) -> None:
    if "sockets" in results.modes:
        assert set(results.modes["sockets"]) == set(MODES)


@pytest.mark.timeout(600)
@pytest.mark.threat("F05")
def test_a_long_body_passes_and_stays_nowhere(
    tmp_path_factory: pytest.TempPathFactory, cloud: Cloud, seeded: Seeded, callers: Callers
) -> None:
    with sizes.place(tmp_path_factory.mktemp("sizes"), cloud, seeded, callers) as place:
        for way, machine in place.machines.items():
            for what, one in sizes.through(place, machine, SIZE).items():
                assert {name: grown for name, grown in one.grown.items() if grown > GROWTH} == {}, (way, what)
        assert place.sink.refused == []
        whole = [each for each in place.sink.received if each.length == SIZE]
        assert len(whole) == len(place.machines)
        assert all(each.generated for each in whole), "other bytes than were sent"
        assert not any(each.access_key_id.startswith("TGDK") for each in place.sink.received)


# What was written down


def test_the_results_have_no_fault() -> None:
    written = json.loads(RESULTS.read_text()).get("calls")
    assert written is not None, "python -m tests.clients.calls writes it"
    assert wrong(written) == []
    assert set(written["faults"]) == {client.name for client in CLIENTS}


# The comparison, and its controls

ANSWER = Message("HTTP/1.1 200 OK", (("etag", '"1"'), ("date", "now"), ("x-amz-request-id", "ONE")), b"<Key>a</Key>")
RIGHT = Exchange(Message("PUT /calls-x-d/k HTTP/1.1", (), b"body"), ANSWER)
OTHER = Exchange(
    Message("PUT /calls-x-s/k HTTP/1.1", (), b"body"),
    replace(ANSWER, headers=(("etag", '"1"'), ("date", "then"), ("x-amz-request-id", "TWO"))),
)


def test_what_may_differ_is_no_fault() -> None:
    assert list(faults("put", [RIGHT], [OTHER])) == []


@pytest.mark.parametrize(
    "change",
    [
        lambda each: replace(each, answer=replace(each.answer, first="HTTP/1.1 201 Created")),
        lambda each: replace(each, answer=replace(each.answer, body=b"<Key>b</Key>")),
        lambda each: replace(each, answer=replace(each.answer, headers=(("etag", '"2"'),))),
        lambda each: replace(each, answer=replace(each.answer, headers=(*each.answer.headers, ("set-cookie", "a=b")))),
        lambda each: replace(each, request=replace(each.request, body=b"another")),
        lambda each: replace(each, request=replace(each.request, first="PUT /calls-x-s/l HTTP/1.1")),
    ],
)
def test_what_may_not_differ_is_a_fault(change: Callable[[Exchange], Exchange]) -> None:
    assert list(faults("put", [RIGHT], [change(OTHER)])) != []


def test_a_call_that_was_not_made_is_a_fault() -> None:
    assert list(faults("put", [RIGHT], [])) != []
    assert list(faults("put", [RIGHT], [OTHER, OTHER])) != []


def test_what_aws_said_is_what_the_client_saw() -> None:
    assert list(corrupted(digests([RIGHT]), [RIGHT])) == []
    assert list(corrupted(digests([]), [RIGHT])) == []
    for name, value in (("date", "then"), ("x-new", "1")):
        headers = (*(pair for pair in ANSWER.headers if pair[0] != name), (name, value))
        changed = replace(RIGHT, answer=replace(ANSWER, headers=headers))
        assert list(corrupted(digests([RIGHT]), [changed])) != []
    assert list(corrupted(digests([RIGHT]), [replace(RIGHT, request=replace(RIGHT.request, body=b"bodY"))])) != []


def test_a_body_that_is_not_the_one_that_was_hashed_is_a_fault() -> None:
    for body, count in ((b"body", 0), (b"bodY", 1)):
        request = Message("PUT / HTTP/1.1", (("x-amz-content-sha256", sha256(b"body")),), body)
        assert len(list(unlike_its_hash(Exchange(request, ANSWER)))) == count


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("calls-boto3-d/k", "calls-·/k"),
        ("2026-11-23T11:30:20Z 2026/11/23 11:36 Mon, 23 Nov 2026 11:30:36 GMT", "· · ·"),
        ("arn:aws:sts::111122223333:assumed-role/calls/i-0123456789abcdef0", "·"),
        ("<UploadId>a b</UploadId>", "<UploadId>·</UploadId>"),
        ("<Key>a</Key><ETag>1</ETag>", "<Key>a</Key><ETag>1</ETag>"),
    ],
)
def test_a_text_less_what_may_differ(text: str, shown: str) -> None:
    assert canonical(text) == shown


# The tap


@pytest.fixture
def echo() -> Iterator[str]:
    """Answers each connection with what the test put into `SAID`."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                connection.recv(65536)
                connection.sendall(SAID)

    threading.Thread(target=serve, daemon=True).start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


SAID = (
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nETag: x\r\n\r\n"
    b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n"
)


def test_a_tap_passes_bytes_on_and_knows_what_they_were(echo: str) -> None:
    asked = b"PUT /k?a=b HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi"
    with Tap(echo) as tap, socket.create_connection(("127.0.0.1", tap.port)) as connection:
        connection.sendall(asked)
        assert b"".join(iter(lambda: connection.recv(65536), b"")) == SAID
        (found,) = tap.take()
        assert (found.method, found.target, found.request.body) == ("PUT", "/k?a=b", b"hi")
        assert (found.status, found.interim, found.answer.body) == (200, (100,), b"abcde")
        assert tap.take() == []


@pytest.mark.parametrize("cut", range(1, len(SAID.partition(b"chunked\r\nETag: x\r\n\r\n")[2])))
def test_chunks_that_are_not_whole_are_no_body(cut: int) -> None:
    body = SAID.partition(b"chunked\r\nETag: x\r\n\r\n")[2]
    assert http_plain(body) == (b"abcde", len(body))
    assert http_plain(body[:-cut]) is None


def test_chunks_of_aws_are_taken_off() -> None:
    assert aws_plain(b"3;chunk-signature=0\r\nabc\r\n0;chunk-signature=1\r\nx-amz-trailer:1\r\n\r\n") == b"abc"


# The page


def test_the_page_names_what_did_not_hold() -> None:
    run: dict[str, Any] = {
        "run": "today",
        "faults": {"boto3": {"put": {"direct": [], "sign": ["another body"], "proxy": []}}},
        "modes": {"boto3": ["hash"]},
        "not_run": {"curl": "not installed"},
    }
    shown = render({"calls": run})
    assert "| boto3 | put | yes | **no**: put | yes | hash |" in shown
    assert "| curl | not installed |" in shown
    assert wrong(run) == ["boto3: put by sign: another body", "curl: not installed"]
    assert render({}) == ""


def test_names_are_alike_in_all_ways() -> None:
    """Names of buckets have one length in all ways, so that answers have."""
    assert {len(mark) for mark in MARKS.values()} == {1}
    assert len({client.slug for client in CLIENTS}) == len(CLIENTS)
    assert all(len(f"calls-{client.slug}-d") <= 63 for client in CLIENTS)
