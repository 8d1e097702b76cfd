"""What the agent costs on an instance: its start, its memory, and `credential_process` beside Python itself.

A restart, as after a reboot: key and certificate are kept, and the gateway is a small one on loopback, so that what is
measured is the agent. Commands take turns, one of each kind a round: what else this machine does hits all of them.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from agent import ask
from deploy.demo.site import BIN
from tests.agent.conftest import Machine
from tests.agent.fake_gateway import FakeGateway, running
from tests.agent.fake_metadata import FakeMetadata
from tests.agent.pki import Pki
from tests.agent.test_cli import resident

RESTARTS, ROUNDS, REQUESTS = 11, 41, 400


def main() -> None:
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        gateway = stack.enter_context(running(FakeGateway(Pki())))
        metadata = stack.enter_context(FakeMetadata().running())
        machine = Machine(Path(folder), gateway, metadata)
        stack.callback(machine.close)
        with _agent(machine) as (_, process):
            enrolled = resident(process.pid)
        starts, sizes = [], []
        for _ in range(RESTARTS):
            with _agent(machine) as (took, process):
                starts.append(took)
                sizes.append(resident(process.pid))
        with _agent(machine) as (_, process):
            ours = [sys.executable, "-I", "-S", str(Path(ask.__file__)), machine.socket, "app"]
            commands = {
                "python -c pass": [sys.executable, "-c", "pass"],
                "python -I -S -c pass": [sys.executable, "-I", "-S", "-c", "pass"],
                "credential_process, as configure writes it": ours,
                "trusted-gateway-agent credential-process": [
                    str(BIN / "trusted-gateway-agent"), "credential-process", "--socket", machine.socket,
                ],
                "python -c 'import cryptography'": [sys.executable, "-c", "import cryptography"],
                "python -c 'import boto3'": [sys.executable, "-c", "import boto3"],
            }  # fmt: skip
            turns = _in_turns(commands)
            asking = partial(ask.ask, machine.socket, "credentials app")
            answers = [_seconds_of(asking) for _ in range(REQUESTS)]
            busy = resident(process.pid)
    print(f"restart to first credential   {_ms(starts)}, {RESTARTS} times")
    print(f"resident                      {statistics.median(sizes):.1f} MB, {busy:.1f} MB after {REQUESTS} requests;")
    print(f"                              {enrolled:.1f} MB after an enrolment, which needs cryptography")
    print(f"an answer over the socket     {_ms(answers)}, {REQUESTS} times")
    print(f"\n{'a command, start to end':44}{'median':>9}{'ratio to python -c pass':>26}   ({ROUNDS} rounds)")
    reference = turns["python -c pass"]
    for name, seconds in turns.items():
        ratio = statistics.median(one / other for one, other in zip(seconds, reference, strict=True))
        print(f"{name:44}{statistics.median(seconds) * 1000:6.1f} ms{ratio:26.2f}")


@contextmanager
def _agent(machine: Machine) -> Iterator[tuple[float, "subprocess.Popen[bytes]"]]:
    """An agent that runs, and the seconds from its start to its first credential."""
    words = machine.command("run")
    command = [str(BIN / "trusted-gateway-agent"), *words[words.index("run") :]]
    began = time.monotonic()
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:  # noqa: S603  # our own program
        while not ask.ask(machine.socket, "credentials app")[0]:
            if time.monotonic() - began > 60 or process.poll() is not None:
                raise SystemExit("the agent does not start")
            time.sleep(0.001)
        try:
            yield time.monotonic() - began, process
        finally:
            process.terminate()


def _in_turns(commands: Mapping[str, list[str]]) -> dict[str, list[float]]:
    """Seconds of each, round by round, after one round that warms the page cache."""
    found: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(ROUNDS + 1):
        for name, command in commands.items():
            found[name].append(_seconds_of(partial(_run, command)))
    return {name: seconds[1:] for name, seconds in found.items()}


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, check=True, cwd="/")  # noqa: S603  # our own
    if done.stdout:
        json.loads(done.stdout)


def _seconds_of(do: Callable[[], object]) -> float:
    began = time.perf_counter()
    do()
    return time.perf_counter() - began


def _ms(seconds: list[float]) -> str:
    return f"median {statistics.median(seconds) * 1000:.1f} ms, slowest {max(seconds) * 1000:.1f} ms"


if __name__ == "__main__":
    main()
