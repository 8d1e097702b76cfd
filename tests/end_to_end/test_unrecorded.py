"""Nothing leaves that is not on record: whatever holds the store up, and whenever the gateway is killed."""

import json
import os
import resource
import shutil
import socket
import sqlite3
import ssl
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import pytest
from cryptography import x509

from certs import csr
from deploy.demo.visitor import Answer, evidence_of
from gateway.wire.messages import EnrollRequest, RenewRequest, encode
from tests.end_to_end.crowd import launch, order_ticket
from tests.end_to_end.door import Reply
from tests.end_to_end.forged import context_of, uri_of
from tests.end_to_end.host import kill_workers, processes
from tests.end_to_end.rough import Rough, rough_fixture  # noqa: F401  # a fixture
from tests.end_to_end.tour import NOT_THERE, VEND, Watching, plain_get, watching_fixture  # noqa: F401  # a fixture
from tests.end_to_end.world import PROFILE, World

KILLS = int(os.environ.get("KILLS", "10"))  # of each kind; `make long` has 250
HANDED_OUT = ("secret_access_key", "session_token", '"certificate"', "BEGIN CERTIFICATE", '"ticket"')


# Nothing leaves that is not recorded


def everything(rough: Rough) -> list[tuple[str, Callable[[], Answer]]]:
    """One request of each kind that hands out something, or changes something; each on a connection of its own."""
    world = rough.world
    newcomer = launch(world, 1)[0]
    ticket = order_ticket(rough.operator)["ticket"]
    _, visitor = rough.enrolled()
    callers = [world.visitor() for _ in range(4)]
    for caller in callers[:3]:
        caller.present(visitor.certificate or "", visitor.key)
    applicant = callers[3]
    operators = [world.operator() for _ in range(5)]
    for caller in (*callers, *operators):
        caller.connect()
    body = encode(EnrollRequest(csr.make(applicant.key), evidence_of(newcomer.document), ticket=ticket))
    return [
        ("grants", partial(callers[0].call, "GET", "/v1/grants")),
        ("vend", partial(callers[1].call, "POST", "/v1/credentials", VEND)),
        ("renew", partial(callers[2].call, "POST", "/v1/renew", RenewRequest(csr.make(visitor.key)))),
        ("enrol", partial(applicant.call, "POST", "/v1/enroll", body)),
        ("ticket", partial(operators[0].call, "POST", "/v1/tickets", {"profile": PROFILE})),
        ("revoke", partial(operators[1].call, "POST", f"/v1/revocations/instances/{NOT_THERE}")),
        ("audit", partial(operators[2].call, "GET", "/v1/audit?limit=1")),
        ("search", partial(operators[3].call, "GET", "/v1/audit/search?limit=1")),
        ("checkpoint", partial(operators[4].call, "GET", "/v1/audit/checkpoint")),
    ]


def nothing_leaves(rough: Rough, asks: list[tuple[str, Callable[[], Answer]]]) -> None:
    """Ask all at once: each is refused with 503 within 6 s, without a word of what it would have given."""
    calls = len(rough.door.asked_for("AssumeRole"))

    def ask(what: str, call: Callable[[], Answer]) -> None:
        begun = time.monotonic()
        answer = call()
        took = time.monotonic() - begun
        assert (what, answer.status, answer.code) == (what, 503, "store_unavailable")
        assert took < 6.5, f"{what} took {took:.1f} s"
        assert not any(word in json.dumps(answer.body) for word in HANDED_OUT)

    with ThreadPoolExecutor(len(asks)) as pool:
        for future in [pool.submit(ask, *each) for each in asks]:
            future.result(30)
    assert len(rough.door.asked_for("AssumeRole")) == calls, "nothing is minted of which no record can be made"


def recovers(rough: Rough) -> None:
    """A healthy client is served within a second."""
    deadline = time.monotonic() + 1
    visitor = rough.world.visitor()
    while (answer := visitor.call("POST", "/v1/enroll", {})).code != "malformed_request":  # that would be recorded
        assert time.monotonic() < deadline, answer
    assert rough.enrolled()[1].call("POST", "/v1/credentials", VEND).status == 200


@pytest.mark.usefixtures("watching")  # to begin it, if it has not begun
@pytest.mark.threat("I01", "I02", "H05")
def test_I02_a_store_that_another_process_has_locked(rough: Rough) -> None:
    asks = everything(rough)
    tables = rough.world.everything_but_the_log()
    with locked(rough.world):
        nothing_leaves(rough, asks)
        assert plain_get(f"http://{rough.world.site.public}/ca.pem").status == 200, "what needs no record works"
    assert rough.world.everything_but_the_log() == tables
    recovers(rough)


@contextmanager
def locked(world: World) -> Iterator[None]:
    other = sqlite3.connect(world.site.database, isolation_level=None, timeout=10)
    other.execute("BEGIN EXCLUSIVE")
    try:
        yield
    finally:
        other.execute("ROLLBACK")
        other.close()


@pytest.mark.threat("I01", "H08")
def test_I01_a_session_whose_outcome_cannot_be_recorded_is_given_to_nobody(rough: Rough) -> None:
    """The store is locked when AWS has already made the session."""
    world = rough.world
    launched, visitor = rough.enrolled()
    lock = sqlite3.connect(world.site.database, isolation_level=None, timeout=10, check_same_thread=False)

    def too_late(reply: Reply) -> Reply:
        lock.execute("BEGIN EXCLUSIVE")
        return reply

    with rough.door.changing(too_late):
        answer = visitor.call("POST", "/v1/credentials", VEND)
    lock.execute("ROLLBACK")
    lock.close()
    assert (answer.status, answer.code) == (503, "store_unavailable")
    assert not any(word in json.dumps(answer.body) for word in HANDED_OUT)
    uri = world.rows("instance", instance_id=launched.id)[0]["id"]
    records = world.audit(subject=uri, name="instance:credentials:vend")
    assert [record["kind"] for record in records] == ["decision", "intent"], "the log says that it was begun"
    assert world.rows("lease", instance=uri) == []
    assert "1 mint(s) without an outcome" in world.site.cli("audit", "verify")
    recovers(rough)


@pytest.mark.threat("I01", "H08")
def test_H08_a_certificate_that_cannot_be_recorded_is_given_to_nobody(rough: Rough) -> None:
    """A trigger of the store refuses the row, after the certificate was signed."""
    world = rough.world
    newcomer, ticket = world.launch(), order_ticket(rough.operator)["ticket"]
    applicant = world.visitor()
    _, visitor = rough.enrolled()
    with trigger(world, "BEFORE INSERT ON certificate BEGIN SELECT RAISE(ABORT, 'no'); END"):
        tables = world.everything_but_the_log()
        for answer in (applicant.enroll(newcomer.document, ticket), visitor.renew()):
            assert answer.status in (500, 503), answer
            assert not any(word in json.dumps(answer.body) for word in HANDED_OUT)
            records = world.audit(answer.body["instance"])
            assert [(record["kind"], record["allowed"]) for record in records] == [
                ("decision", True),
                ("intent", True),
                ("outcome", False),
            ]
        assert world.everything_but_the_log() == tables, "neither the ticket is used, nor is there an instance"
    assert applicant.enroll(newcomer.document, ticket).status == 201
    assert visitor.renew().status == 200


@contextmanager
def trigger(world: World, what: str) -> Iterator[None]:
    def run(statement: str) -> None:
        connection = sqlite3.connect(world.site.database, timeout=10, isolation_level=None)
        connection.execute(statement)
        connection.close()

    run(f"CREATE TRIGGER refuses {what}")
    try:
        yield
    finally:
        run("DROP TRIGGER refuses")


@pytest.mark.threat("I01", "H05", "H12")
def test_I01_no_room_for_the_log_because_files_may_not_grow(rough: Rough) -> None:
    asks = everything(rough)
    tables = rough.world.everything_but_the_log()
    with no_growth(rough.world):
        nothing_leaves(rough, asks)
    assert rough.world.everything_but_the_log() == tables
    recovers(rough)
    rough.world.site.cli("audit", "verify")


@contextmanager
def no_growth(world: World) -> Iterator[None]:
    """RLIMIT_FSIZE: whatever a process of the gateway writes to a file fails with EFBIG."""
    pids = processes(world.site)
    before = {pid: resource.prlimit(pid, resource.RLIMIT_FSIZE) for pid in pids}
    for pid in pids:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (1, before[pid][1]))
    try:
        yield
    finally:
        for pid in pids:
            resource.prlimit(pid, resource.RLIMIT_FSIZE, before[pid])


@pytest.mark.threat("I01", "H05", "H12")
def test_I01_no_room_for_the_log_because_the_disk_is_full(rough: Rough) -> None:
    world, store = rough.world, rough.world.site.database.parent
    if not store.is_mount():
        pytest.skip("no tmpfs can be mounted here; RLIMIT_FSIZE stands for it in the test above")
    asks = everything(rough)
    tables, ballast = world.everything_but_the_log(), store / "ballast"
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(1024 * 1024))
    assert shutil.disk_usage(store).free == 0
    fill_the_log(asks[0][1])
    nothing_leaves(rough, asks)
    assert world.everything_but_the_log() == tables
    ballast.unlink()
    recovers(rough)
    world.site.cli("audit", "verify")


def fill_the_log(ask: Callable[[], Answer]) -> None:
    """SQLite has a little room left in the log that it has: use it up, by requests that are recorded."""
    deadline = time.monotonic() + 30
    while ask().status == 200:
        assert time.monotonic() < deadline


# Whatever was delivered is recorded


@pytest.mark.threat("I03", "H07")
@pytest.mark.timeout(120 + 6 * KILLS)
def test_I03_a_session_is_on_record_before_its_first_byte_leaves(rough: Rough, tmp_path: Path) -> None:
    world = rough.world
    for _ in range(KILLS):
        visitor = rough.enrolled()[1]
        uri = uri_of(x509.load_pem_x509_certificate((visitor.certificate or "").encode()))
        raw = first_byte_and_kill(rough, context_of(world, visitor, tmp_path), "/v1/credentials", encode(VEND))
        assert raw.startswith(b"HTTP/1.1 200"), raw[:99]
        (outcome,) = world.audit(kind="outcome", subject=uri, reason="vended")
        (lease,) = world.rows("lease", instance=uri)
        assert outcome["facts"]["lease"] == lease["id"]
        with suppress(ValueError):  # what was in the kernel already comes through
            assert json.loads(raw.partition(b"\r\n\r\n")[2])["lease"] == lease["id"]
    world.site.cli("audit", "verify")


@pytest.mark.threat("I03", "H07")
@pytest.mark.timeout(120 + 6 * KILLS)
def test_I03_a_certificate_is_on_record_before_its_first_byte_leaves(rough: Rough) -> None:
    world = rough.world
    for newcomer in launch(world, KILLS):
        applicant, ticket = world.visitor(), order_ticket(rough.operator)["ticket"]
        request = EnrollRequest(csr.make(applicant.key), evidence_of(newcomer.document), ticket=ticket)
        raw = first_byte_and_kill(rough, world.site.context(), "/v1/enroll", encode(request))
        assert raw.startswith(b"HTTP/1.1 201"), raw[:99]
        (row,) = world.rows("instance", instance_id=newcomer.id)
        (certificate,) = world.rows("certificate", subject=row["id"])
        (outcome,) = world.audit(kind="outcome", subject=row["id"])
        assert outcome["facts"]["serial"] == certificate["serial"]
        again = applicant.enroll(newcomer.document, ticket)
        assert again.status == 201, "the same key gets it again"
        assert world.rows("certificate", subject=row["id"]) == [certificate]
    world.site.cli("audit", "verify")


@pytest.mark.threat("I03", "H07")
@pytest.mark.timeout(120 + 6 * KILLS)
@pytest.mark.parametrize("what", ["ticket", "token"])
def test_I03_a_bearer_secret_is_on_record_before_its_first_byte_leaves(rough: Rough, tmp_path: Path, what: str) -> None:
    world = rough.world
    operator, instance = world.operator(), rough.enrolled()[1]
    ways = {
        "ticket": (operator, world.site.admin, "/v1/tickets", {"profile": PROFILE}, "operator:ticket:create"),
        "token": (instance, world.site.instance, "/v1/auth/cert/login", {}, "instance:token:create"),
    }
    caller, address, path, order, name = ways[what]
    context, table = context_of(world, caller, tmp_path), "bearer_token" if what == "token" else what
    for _ in range(KILLS):
        recorded, rows = len(world.audit(name=name, allowed=True)), len(world.rows(table))
        raw = first_byte_and_kill(rough, context, path, json.dumps(order).encode(), address)
        assert raw.startswith(b"HTTP/1.1 20"), raw[:99]
        assert (len(world.audit(name=name, allowed=True)), len(world.rows(table))) == (recorded + 1, rows + 1)
    world.site.cli("audit", "verify")


def first_byte_and_kill(
    rough: Rough, context: ssl.SSLContext, path: str, body: bytes, address: str | None = None
) -> bytes:
    """Post, and kill every worker when the first byte of the answer is here. All that came."""
    site = rough.world.site
    host, port = (address or site.instance).split(":")
    with context.wrap_socket(socket.create_connection((host, int(port)), timeout=10), server_hostname=host) as line:
        head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
        line.sendall(head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        raw = line.recv(1)
        kill_workers(site)
        with suppress(OSError):
            while piece := line.recv(65536):
                raw += piece
    rough.operator.close()  # it was connected to one of them
    site.wait_ready()
    return raw


# The watch that began long ago


def test_a_watch_without_news_ends_after_25_seconds_and_leaves_no_record(world: World, watching: Watching) -> None:
    assert watching.answer.result(30).status == 204
    assert world.audit(name="instance:revocation:watch", subject=watching.subject) == []
