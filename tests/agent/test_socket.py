"""The Unix socket and `credential-process`: what is asked and answered, in a process that costs little (J09)."""

import json
import os
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from datetime import timedelta
from pathlib import Path

import pytest

from agent import ask, entry, launch, settings
from agent.serve import listener
from tests.agent.conftest import ROOT, Machine, until
from tests.agent.fake_gateway import SECRET_CANARY, SESSION_CANARY, Refusal
from tests.agent.test_imds import ROLES, get, token

SCRIPT = str(Path(ask.__file__))
EXPENSIVE = {
    "argparse", "dataclasses", "enum", "http", "json", "logging", "re", "selectors", "socket", "ssl", "threading",
    "typing", "urllib", "collections", "functools", "inspect",
}  # fmt: skip


def say(machine: Machine, line: bytes) -> bytes:
    """Every byte of the answer to these bytes."""
    with socket.socket(socket.AF_UNIX) as asking:
        asking.settimeout(10)
        asking.connect(machine.socket)
        asking.sendall(line)
        answer = b""
        with suppress(ConnectionResetError):  # closed with bytes of ours unread
            while more := asking.recv(65536):
                answer += more
    return answer


def fast(machine: Machine, *words: str) -> subprocess.CompletedProcess[str]:
    """The form that `configure` writes."""
    command = [sys.executable, "-I", "-S", SCRIPT, machine.socket, *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)


def test_the_document_has_the_exact_form(serving: Machine) -> None:
    done = fast(serving, "app")
    assert (done.returncode, done.stderr) == (0, "")
    told = json.loads(done.stdout)
    assert list(told) == ["Version", "AccessKeyId", "SecretAccessKey", "SessionToken", "Expiration"]
    assert told["Version"] == 1
    assert told["SecretAccessKey"].startswith(SECRET_CANARY)
    assert told["SessionToken"].startswith(SESSION_CANARY)
    assert told["Expiration"].endswith("Z")
    assert fast(serving).stdout == done.stdout, "the only grant needs no name"
    assert serving.cli("credential-process", "--grant", "app").stdout == done.stdout
    assert serving.cli("credential-process", f"--socket={serving.socket}").stdout == done.stdout


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"credentials nothing\n", b"access_denied"),
        (b"where nothing\n", b"access_denied"),
        (b"\n", b"request_malformed"),
        (b"credentials app \n", b"request_malformed"),
        (b"credentials  app\n", b"request_malformed"),
        (b"credentials APP\n", b"request_malformed"),
        (b"credentials app\r\n", b"request_malformed"),
        (b"credentials ../app\n", b"request_malformed"),
        (b"Credentials app\n", b"request_malformed"),
        (b"GET /v1/credentials/app HTTP/1.1\r\n\r\n", b"request_malformed"),
        (b"\xff\xfe\n", b"request_malformed"),
        (b"credentials " + b"a" * 70000 + b"\n", b"request_malformed"),
    ],
)
def test_anything_else_is_refused_in_a_line(serving: Machine, line: bytes, code: bytes) -> None:
    answer = say(serving, line)
    assert answer.startswith(b"error " + code + b" ") or (len(line) > 1000 and answer == b"")
    assert answer.count(b"\n") <= 1
    assert SECRET_CANARY.encode() not in answer
    assert say(serving, b"credentials app\n").startswith(b"ok\n{")


def test_where_names_addresses_and_files_and_no_secret(serving: Machine) -> None:
    told = json.loads(say(serving, b"where app\n").removeprefix(b"ok\n"))
    assert told["container"]["uri"] == f"http://{serving.running()['listen']}/v1/credentials/app"
    assert Path(told["container"]["token_file"]).read_text() not in json.dumps(told)
    assert told["imds"] == f"http://{serving.running()['imds']}/"
    assert told["process"] == serving.socket
    assert told["why_not"] == {}


def test_the_socket_is_open_to_all_since_the_kernel_says_who_asks(serving: Machine) -> None:
    assert stat.S_IMODE(os.stat(serving.socket).st_mode) == 0o666
    with socket.socket(socket.AF_UNIX) as asking:
        asking.connect(serving.socket)


# ── what goes wrong


@pytest.mark.parametrize(
    "answer", [b"", b"ok\n", b"ok\n{", b"nonsense\n", b"error\n", b"error code\n", b"HTTP/1.1 200 OK\r\n\r\n"]
)
def test_an_agent_that_answers_half_or_nonsense_gives_nothing(tmp_path: Path, answer: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        path = str(tmp_path / "s")
        listening.bind(path)
        listening.listen()

        def once() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(100)
                connection.sendall(answer)

        thread = threading.Thread(target=once)
        thread.start()
        document, code, message = ask.ask(path, "credentials")
        thread.join()
    assert (document, code) == (b"", "agent_not_running")
    assert message


def test_what_goes_wrong_is_told_in_two_lines(machine: Machine) -> None:
    for done in (fast(machine, "app"), machine.cli("credential-process")):
        assert (done.returncode, done.stdout) == (1, "")
        error, hint = done.stderr.splitlines()
        assert error.startswith("error: No agent answers")
        assert error.endswith("(agent_not_running)")
        assert hint.startswith("hint: ")
    machine.gateway.sticky["/v1/credentials"] = Refusal("upstream_refused")
    machine.agent()
    done = fast(machine, "app")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[0].endswith("(upstream_refused)")
    odd = fast(machine, "app\nstatus\x1b[31m")
    assert odd.returncode == 1
    assert "\x1b" not in odd.stderr


def test_a_revoked_agent_says_so(machine: Machine) -> None:
    daemon = machine.agent()
    assert fast(machine).returncode == 0
    machine.gateway.revoke()
    until(lambda: daemon.lifecycle.state == "revoked")
    done = fast(machine)
    assert (done.returncode, done.stdout) == (1, "")
    assert "The instance is revoked" in done.stderr


def test_a_path_that_is_too_long_for_a_socket_is_none_here(machine: Machine, tmp_path: Path) -> None:
    machine.run_dir = tmp_path / ("long" * 30) / "run"
    machine.written["run_dir"] = str(machine.run_dir)
    machine.agent()
    assert len(machine.socket) > 108
    assert fast(machine).returncode == 0
    assert machine.cli("status").returncode == 0


def test_the_socket_of_an_agent_that_was_killed_is_replaced(machine: Machine) -> None:
    machine.run_dir.mkdir()
    with socket.socket(socket.AF_UNIX) as old:
        old.bind(machine.socket)
    machine.agent().close()
    assert not Path(machine.socket).exists()
    machine.agent()
    assert fast(machine).returncode == 0


# ── what it costs


NOTING = "import atexit, sys; atexit.register(lambda: open(sys.argv[1], 'w').write(' '.join(sys.modules)))\n"
RUNNING = (
    NOTING
    + "from agent.entry import main; note, sys.argv[1:] = sys.argv[1], sys.argv[2:]; code = main()\nsys.argv[1] = note"
)


def loaded(program: str, machine: Machine, note: Path, *words: str) -> set[str]:
    """The modules that a program has loaded when it ends."""
    environment = {**os.environ, "TRUSTED_GATEWAY_AGENT_RUN_DIR": str(machine.run_dir)}
    command = [sys.executable, "-c", program, str(note), *words]
    subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True)
    return set(note.read_text().split())


def test_it_loads_nothing_that_costs(serving: Machine, tmp_path: Path) -> None:
    python = loaded(NOTING, serving, tmp_path / "python")
    quick = loaded(RUNNING, serving, tmp_path / "quick", "credential-process", "--grant", "app")
    assert quick - python == {"agent", "agent.ask", "agent.entry", "_socket"}
    slow = loaded(RUNNING, serving, tmp_path / "slow", "credential-process", "--grant=app")
    assert slow >= {"argparse", "agent.main", "json"}, "the control: the same, in other words"


def test_the_script_itself_imports_only_what_is_built_in(serving: Machine) -> None:
    words = [sys.executable, "-I", "-S", "-X", "importtime", SCRIPT, serving.socket, "app"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    names = {line.rsplit("|", 1)[1].strip() for line in done.stderr.splitlines() if "|" in line}
    assert "_socket" in names
    assert not names & EXPENSIVE


@pytest.mark.parametrize(
    ("words", "environ", "told"),
    [
        ([], {}, ("/run/trusted-gateway-agent/agent.sock", "")),
        (["--grant", "app"], {}, ("/run/trusted-gateway-agent/agent.sock", "app")),
        (["--grant", "app", "--socket", "/s"], {}, ("/s", "app")),
        (["--socket", "/s"], {"TRUSTED_GATEWAY_AGENT_CONFIG": "/x"}, ("/s", "")),
        ([], {"TRUSTED_GATEWAY_AGENT_RUN_DIR": "/r"}, ("/r/agent.sock", "")),
        ([], {"TRUSTED_GATEWAY_AGENT_CONFIG": "/x"}, None),
        (["--help"], {}, None),
        (["--grant"], {}, None),
        (["--grant=app"], {}, None),
        (["--grant", "a", "--grant", "b"], {}, None),
        (["--run-dir", "/r"], {}, None),
    ],
)
def test_what_is_simple_enough_for_the_quick_form(
    words: list[str], environ: dict[str, str], told: tuple[str, str] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("CONFIG", "RUN_DIR"):
        monkeypatch.delenv(f"TRUSTED_GATEWAY_AGENT_{name}", raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(entry, "FILE", "/nowhere")
    assert entry._understood(words) == told


def test_a_settings_file_is_read_by_the_slow_form(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "agent.toml").touch()
    monkeypatch.setattr(entry, "FILE", str(tmp_path / "agent.toml"))
    assert entry._understood([]) is None


def test_the_quick_form_knows_the_same_places() -> None:
    assert (str(settings.parse({}).run_dir), launch.SOCKET) == (entry.RUN_DIR, entry.SOCKET)
    assert str(settings.FILE) == entry.FILE


# ── busy, and cold


@pytest.mark.threat("J09")
def test_j09_a_hundred_processes_make_one_request_upstream(machine: Machine) -> None:
    machine.gateway.delay["/v1/credentials"] = 0.5
    daemon = machine.agent(ready=False)
    until(lambda: daemon.lifecycle.state == "enrolled")
    with ThreadPoolExecutor(20) as pool:
        answers = {*pool.map(lambda _: say(machine, b"credentials app\n"), range(100))}
    assert len(answers) == 1
    assert answers.pop().startswith(b"ok\n")
    assert machine.gateway.count("/v1/credentials") == 1
    assert machine.status()["grants"][0]["answers"] == {"process": 100}


@pytest.mark.threat("J09")
def test_j09_one_users_slow_clients_leave_room_for_others(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "MOST_EACH", 3)
    door = machine.agent().doors.doors["process"]
    callers = iter(["slow"] * 5 + ["other"])
    door._who = lambda _: next(callers)
    with ExitStack() as stack:
        slow = [stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(5)]
        for connection in slow:
            connection.settimeout(5)
            connection.connect(machine.socket)
        assert [connection.recv(1) for connection in slow[3:]] == [b"", b""], "more than its part of the room"
        assert say(machine, b"credentials app\n").startswith(b"ok\n"), "others have theirs"
        assert door.inside >= 3
    until(lambda: door.inside == 0)


@pytest.mark.threat("J09")
def test_j09_a_client_that_drips_is_ended(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "LONGEST_HEAD", 0.5)
    door = machine.agent().doors.doors["process"]
    with socket.socket(socket.AF_UNIX) as slow:
        slow.connect(machine.socket)
        began = time.monotonic()
        with suppress(OSError):
            while time.monotonic() - began < 20:
                slow.sendall(b"c")
                time.sleep(0.05)
        assert time.monotonic() - began < 15
    until(lambda: door.inside == 0)


@pytest.mark.threat("J04")
def test_j04_every_door_answers_from_memory_while_the_gateway_hangs(machine: Machine) -> None:
    """Clients wait 250 ms at the least (Go, for its connection to the metadata service)."""
    machine.gateway.credentials_life = timedelta(seconds=20)
    daemon = machine.agent()
    for path in ("/v1/credentials", "/v1/grants", "/v1/renew"):
        machine.gateway.delay[path] = 30.0
    threading.Thread(target=daemon.lifecycle.credentials._supplies["app"].refresh, daemon=True).start()
    machine.gateway.wait_for("/v1/credentials", times=2)
    shown = token(machine)

    def by_container() -> bool:
        return machine.get("/v1/credentials/app").status == 200

    def by_imds() -> bool:
        return get(machine, ROLES + "app", shown).status == 200

    def by_socket() -> bool:
        return say(machine, b"credentials app\n").startswith(b"ok\n")

    for ask_it in (by_container, by_imds, by_socket):
        assert min(seconds(ask_it) for _ in range(5)) < 0.25, "of five: other work may hold this machine up"


def seconds(ask_it: Callable[[], bool]) -> float:
    began = time.monotonic()
    assert ask_it()
    return time.monotonic() - began
