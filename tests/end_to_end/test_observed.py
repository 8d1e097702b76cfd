"""A gateway as its operators see it from outside: exports, health, metrics, logs. Real files, sockets and processes."""

import gzip
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway.core.audit import digest
from gateway.core.metrics import METRICS, PREFIX
from tests.end_to_end.host import kill_workers
from tests.end_to_end.tour import VEND, plain_get
from tests.end_to_end.world import World

Own = Callable[..., AbstractContextManager[World]]


@pytest.fixture
def observed(own_world: Own, tmp_path: Path) -> Iterator[World]:
    """With a sink of each format, and one that hangs from the first byte on."""
    hanging = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    hanging.bind(str(tmp_path / "hang"))
    hanging.listen()
    top = "\n".join(
        f'[audit.sinks.{form}]\nkind = "file"\nformat = "{form}"\npath = "{tmp_path / form}"'
        for form in ("raw", "ocsf", "ecs")
    )
    collector = HTTPServer(("127.0.0.1", 0), _Collector)
    threading.Thread(target=collector.serve_forever, daemon=True).start()
    top += f'\n[traces]\nendpoint = "http://127.0.0.1:{collector.server_port}/v1/traces"'
    with own_world(tables=f'{top}\n[audit.sinks.slow]\nkind = "syslog"\npath = "{tmp_path / "hang"}"\n') as world:
        yield world
    hanging.close()
    collector.shutdown()
    collector.server_close()


class _Collector(BaseHTTPRequestHandler):
    """Keeps what OTLP brings."""

    got: ClassVar[list[bytes]] = []

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers["Content-Length"]))
        self.got.append(gzip.decompress(raw) if self.headers["Content-Encoding"] == "gzip" else raw)
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Says nothing."""


def exported(path: Path) -> dict[str, str]:
    """Hash → line, of a raw export; each hash is right."""
    found = {}
    for text in path.read_text().splitlines():
        hash_, _, line = text.partition(" ")
        if line:
            assert digest(line) == hash_
            found[hash_] = line
    return found


def _documents(path: Path) -> list[dict[str, Any]]:
    return [json.loads(text) for text in path.read_text().splitlines()]


def until(what: Callable[[], Any], seconds: float = 40) -> Any:
    end = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < end, what
        time.sleep(0.1)
    return found


def lines_of(world: World) -> set[str]:
    with world.database() as database:
        return {line for (line,) in database.execute("SELECT line FROM audit_record")}


def metrics(world: World) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    text = plain_get(f"http://{world.site.local}/metrics").body.decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def health(world: World) -> dict[str, Any]:
    body = plain_get(f"http://{world.site.local}/healthz").body
    found: dict[str, Any] = body if isinstance(body, dict) else json.loads(body)  # a dict: it is not ready
    return found


@pytest.mark.timeout(480)
@pytest.mark.threat("I02", "K06")
def test_I02_a_gateway_seen_from_outside(observed: World, tmp_path: Path) -> None:
    """One gateway for all of it: it takes its time to start."""
    world = observed
    launched, visitor = world.enrolled()
    assert visitor.call("POST", "/v1/credentials", VEND).status == 200, "a sink that hangs holds nobody up"

    # Everything is exported, also what the workers that are killed now had not delivered.
    for _ in range(3):
        world.operator().call("GET", "/v1/instances")
        kill_workers(world.site)
        world.hang_up()
        world.site.wait_ready()
    before = lines_of(world)
    until(lambda: before <= set(exported(tmp_path / "raw").values()))
    until(lambda: before <= {each["raw_data"] for each in _documents(tmp_path / "ocsf")})
    until(lambda: before <= {each["event"]["original"] for each in _documents(tmp_path / "ecs")})

    # Health says which sink is behind, and metrics how far.
    until(lambda: all("slow" in health(world)["checks"]["sinks"]["says"] for _ in range(6)))  # each worker has seen it
    found = until(lambda: (it := health(world))["checks"]["sinks"]["state"] == "degraded" and it)
    assert (found["ready"], found["checks"]["sinks"]["state"]) == (True, "degraded")
    assert {name for name, check in found["checks"].items() if check["state"] != "good"} <= {"sinks", "disk"}
    slow = (("sink", "slow"),)
    until(lambda: metrics(world).get((f"{PREFIX}audit_sink_failing", slow)) == 1)
    seen = metrics(world)
    assert seen[f"{PREFIX}audit_sink_behind_records", slow] > 10
    assert seen[f"{PREFIX}crl_next_update_seconds", ()] > 3600

    # Counters survive SIGKILL, and are those of all workers.
    def requests() -> float:
        return sum(value for (name, labels), value in metrics(world).items()
                   if name == f"{PREFIX}requests_total" and ("listener", "admin") in labels)  # fmt: skip

    counted = requests()
    for _ in range(20):
        operator = world.operator()
        assert operator.call("GET", "/v1/instances").status == 200
        operator.close()
    until(lambda: requests() >= counted + 20)
    time.sleep(1.5)  # what was counted in the last second is lost with its worker
    counted = requests()
    kill_workers(world.site)
    world.site.wait_ready()
    assert requests() >= counted

    # K06: no id, ARN or secret in any label; every series is documented, and of few values.
    labels = {value for name, pairs in metrics(world) for _, value in pairs}
    secret_like = (launched.id, "arn:", "spiffe:", world.seeded.access_key_id, "127.0.0.1", "alice")
    assert not [value for value in labels if any(word in value for word in secret_like)]
    assert {name.removeprefix(PREFIX) for name, _ in metrics(world)} <= _series()
    world.visitor().call("GET", "/v1/" + "x" * 200)
    assert not [value for value in until(lambda: {v for _, p in metrics(world) for _, v in p}) if "xxx" in value]

    # The same for operators who may, and the log in others' formats.
    answer = world.operator().call("GET", "/v1/metrics")
    assert f"# TYPE {PREFIX}requests_total counter" in answer.body["text"]
    copy = tmp_path / "copy"
    world.site.cli("audit", "export", "--format", "ocsf", str(copy))
    assert before <= {each["raw_data"] for each in _documents(copy)}
    world.site.cli("audit", "export", str(copy))
    assert before <= set(exported(copy).values())
    world.site.cli("audit", "verify", str(copy))
    assert world.audit(name="operator:audit:export", allowed=True)

    # Spans arrive, with names of routes and of events, and of nobody. (Those of a worker that was killed are lost.)
    launched, visitor = world.enrolled()
    assert visitor.call("POST", "/v1/credentials", VEND).status == 200
    names = (b"POST /v1/credentials", b"instance:credentials:vend", b"store write", b"aws sts assume_role")
    until(lambda: all(any(name in raw for raw in _Collector.got) for name in names))
    spans = b"".join(_Collector.got)
    assert not [word for word in (launched.id, "arn:", "spiffe:", "alice") if word.encode() in spans]

    # The log: JSON lines, and gunicorn's own among them.
    entries = [json.loads(line) for line in world.site.log.read_text().splitlines() if line.startswith("{")]
    assert {"gunicorn.error", "trusted_gateway.export"} <= {entry["logger"] for entry in entries}
    others = [line for line in world.site.log.read_text().splitlines() if not line.startswith("{")]
    assert others == []


def _series() -> set[str]:
    found = set()
    for name, metric in METRICS.items():
        found |= {name} if not metric.bounds else {f"{name}_{each}" for each in ("bucket", "count", "sum")}
    return found
