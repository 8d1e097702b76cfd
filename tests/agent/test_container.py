"""The loopback server over real sockets: what it answers, to whom, and who cannot disturb it (J09)."""

import json
import socket
import stat
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from agent.credentials import LONGEST_WAIT
from agent.errors import Fault
from agent.serve import listener
from agent.settings import Address
from tests.agent.conftest import Machine, until
from tests.agent.fake_gateway import SECRET_CANARY, Refusal

APP = "/v1/credentials/app"


def raw(machine: Machine, request: bytes) -> bytes:
    """Every byte of the answer to these bytes."""
    host, port = machine.running()["listen"].rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=3) as connection:
        connection.sendall(request)
        answer = b""
        while more := connection.recv(65536):
            answer += more
    return answer


def connect(machine: Machine, stack: ExitStack) -> socket.socket:
    """A connection to the loopback server that says nothing yet."""
    host, port = machine.running()["listen"].rsplit(":", 1)
    return stack.enter_context(socket.create_connection((host, int(port)), timeout=2))


def test_credentials_have_the_exact_form(serving: Machine) -> None:
    answer = serving.get(APP, Accept="application/json")
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Cache-Control"] == "no-store"
    assert set(answer.json) == {"AccessKeyId", "SecretAccessKey", "Token", "Expiration"}
    assert answer.json["SecretAccessKey"] == f"{SECRET_CANARY}1"
    assert answer.json["Expiration"].endswith("Z")


@pytest.mark.parametrize(
    ("path", "changes", "status"),
    [
        (APP, {"token": "wrong"}, 401),
        ("/v1/credentials/other", {"token": "wrong"}, 401),
        (APP, {"method": "POST"}, 405),
        (APP, {"method": "HEAD"}, 405),
        (APP, {"method": "BREW"}, 405),
        (APP, {"Host": "evil.example"}, 403),
        (APP, {"Origin": "https://evil.example"}, 403),
        (APP, {"Sec_Fetch_Site": "cross-site"}, 403),
        (APP, {"X_Forwarded_For": "10.0.0.1"}, 403),
        (APP, {"Content_Length": "5"}, 400),
        ("/v1/credentials/app?x", {}, 404),
        ("/v1/credentials/%61pp", {}, 404),
        ("//v1/credentials/app", {}, 404),
        ("/latest/meta-data/", {}, 404),
        ("/status", {}, 404),
    ],
)
def test_refusals_have_a_form_that_every_sdk_reads(
    serving: Machine, path: str, changes: dict[str, str], status: int
) -> None:
    token = Path(serving.running()["tokens"]["app"]).read_text()
    answer = serving.get(path, **{"token": token, **changes})
    assert answer.status == status
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Cache-Control"] == "no-store"
    assert "Location" not in answer.headers
    if changes.get("method") != "HEAD":
        assert answer.json["code"] == answer.json["Code"]
        assert answer.json["message"] == answer.json["Message"]
    assert SECRET_CANARY.encode() not in answer.raw
    assert serving.get(APP).status == 200


def test_one_grants_token_does_not_open_another(machine: Machine) -> None:
    machine.gateway.grants = ["app", "other"]
    machine.agent()
    token = Path(machine.running()["tokens"]["app"]).read_text()
    assert machine.get(APP, token=token).status == 200
    assert machine.get("/v1/credentials/other", token=token).status == 401
    assert machine.get("/v1/credentials/other").status == 200


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /v1/credentials/app\r\n\r\n",
        b"GET /v1/credentials/app HTTP/9.9\r\n\r\n",
        b"GET http://127.0.0.1/v1/credentials/app HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 200 + b"\r\n",
        b"GET /" + b"a" * 70000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: " + b"y" * 70000 + b"\r\n\r\n",
    ],
)
def test_junk_is_refused_and_harms_nothing(
    serving: Machine, request_bytes: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.clear()
    try:
        answer = raw(serving, request_bytes)
    except ConnectionError:  # closed with bytes of ours unread
        answer = b""
    assert b" 200 " not in answer
    assert b"<html" not in answer.lower()
    assert serving.get(APP).status == 200
    assert caplog.records == []


def test_token_files_and_agent_json(machine: Machine) -> None:
    daemon = machine.agent()
    token = machine.run_dir / "app.token"
    assert stat.S_IMODE(token.stat().st_mode) == 0o400
    assert stat.S_IMODE((machine.run_dir / "agent.json").stat().st_mode) == 0o600
    assert stat.S_IMODE(machine.run_dir.stat().st_mode) == 0o711
    assert len(token.read_bytes()) == 43
    assert b"\n" not in token.read_bytes()
    plain = json.loads((machine.run_dir / "agent.json").read_bytes())
    assert plain["tokens"] == {"app": str(token)}
    assert token.read_text() not in json.dumps(plain)
    daemon.close()
    assert list(machine.run_dir.iterdir()) == []


def test_every_start_has_new_tokens(machine: Machine) -> None:
    daemon = machine.agent()
    first = (machine.run_dir / "app.token").read_text()
    daemon.close()
    machine.agent()
    assert (machine.run_dir / "app.token").read_text() != first
    assert machine.get(APP, token=first).status == 401


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702])
def test_j07_a_run_directory_that_others_may_write_is_refused(machine: Machine, mode: int) -> None:
    machine.run_dir.mkdir()
    machine.run_dir.chmod(mode)
    with pytest.raises(Fault, match="directory_refused"):
        machine.agent()
    machine.run_dir.chmod(0o755)
    machine.agent()


def test_status_tells_no_secret(serving: Machine) -> None:
    told = json.dumps(serving.status())
    assert json.loads(told)["healthy"] is True
    assert SECRET_CANARY not in told
    assert "ticket-one" not in told
    for file in serving.run_dir.glob("*.token"):
        assert file.read_text() not in told


# ── cold, and busy


def test_cold_is_503_with_retry_after_within_two_seconds(machine: Machine) -> None:
    machine.gateway.delay["/v1/credentials"] = 6.0
    daemon = machine.agent(ready=False)
    until(lambda: daemon.lifecycle.state == "enrolled")
    answer = machine.get(APP)
    assert answer.status == 503
    assert int(answer.headers["Retry-After"]) >= 1
    assert answer.json["Code"] == "ServiceUnavailable"
    assert LONGEST_WAIT - 0.1 <= answer.seconds < 5
    assert LONGEST_WAIT < 2


def test_cold_waits_for_what_comes_in_time(machine: Machine) -> None:
    machine.gateway.delay["/v1/credentials"] = 0.5
    daemon = machine.agent(ready=False)
    until(lambda: daemon.lifecycle.state == "enrolled")
    answer = machine.get(APP)
    assert answer.status == 200
    assert answer.seconds > 0.2


def test_before_enrolment_it_is_503_too(machine: Machine) -> None:
    machine.gateway.sticky["/v1/enroll"] = Refusal("store_unavailable")
    machine.agent(ready=False)
    answer = machine.get(APP)
    assert (answer.status, answer.headers["Retry-After"]) == (503, "1")


def test_j09_a_hundred_local_clients_make_one_request_upstream(machine: Machine) -> None:
    machine.gateway.delay["/v1/credentials"] = 0.4
    daemon = machine.agent(ready=False)
    until(lambda: daemon.lifecycle.state == "enrolled")
    with ThreadPoolExecutor(100) as pool:
        answers = list(pool.map(lambda _: machine.get(APP), range(100)))
    assert {answer.status for answer in answers} == {200}
    assert len({answer.raw for answer in answers}) == 1
    assert machine.gateway.count("/v1/credentials") == 1


def test_j09_slow_clients_do_not_hold_up_others_and_are_ended(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "LONGEST_HEAD", 0.6)
    machine.agent()
    with ExitStack() as stack:
        slow = [connect(machine, stack) for _ in range(60)]
        for connection in slow:
            connection.sendall(b"GET /v1/cr")
        assert machine.get(APP).status == 200
        began = time.monotonic()
        with suppress(OSError):
            while time.monotonic() - began < 20:
                slow[0].sendall(b"e")  # a byte now and then buys no time
                time.sleep(0.1)
        assert time.monotonic() - began < 15
        assert slow[1].recv(100) == b""


def test_more_connections_than_there_is_room_for_are_closed_and_room_comes_back(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "MOST", 4)
    door = machine.agent().doors.doors["container"]
    with ExitStack() as stack:
        for _ in range(4):
            connect(machine, stack)
        until(lambda: door.inside == 4)
        assert connect(machine, stack).recv(1) == b""
    until(lambda: door.inside == 0)
    assert machine.get(APP).status == 200


def test_a_port_that_is_taken_is_a_clear_fault(serving: Machine) -> None:
    with pytest.raises(Fault, match="listen_failed"):
        listener.listen(Address.parse(serving.running()["listen"]), "listen")
