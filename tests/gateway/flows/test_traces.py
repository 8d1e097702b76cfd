"""Traces: what is in a span, and what never is; and that nothing of it is loaded where it is off."""

import subprocess
import sys
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from deploy.demo import REPOSITORY
from gateway.adapters import clock
from gateway.adapters.traces import Traces
from gateway.core.audit import Name
from gateway.core.errors import Refusal
from gateway.traced import TracedJournal, TracedStore
from tests.gateway.flows.conftest import Gateway

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE}-b7ad6b7169203331-01"


class Scene:
    def __init__(self, gateway: Gateway) -> None:
        self.exporter = InMemorySpanExporter()
        self.traces = Traces("http://127.0.0.1:9/v1/traces", "node-1.worker-0", self.exporter)
        self.store = TracedStore(self.traces, gateway.url, "traced", gateway.time)
        self.journal = TracedJournal(self.traces, self.store)

    def spans(self) -> dict[str, ReadableSpan]:
        self.traces.stop()
        return {span.name: span for span in self.exporter.get_finished_spans()}

    def request(self, subject: str | None, refusal: Exception | None = None, path: str = "/v1/grants") -> None:
        def application(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
            with self.journal.call(Name.INSTANCE_GRANT_LIST, clock.request_id(), "10.0.0.9") as call:
                call.subject = subject
                if refusal:
                    raise refusal
                self.journal.allow(call)
                self.traces.past("aws sts assume_role", 0.01, **{"gateway.outcome": "ok"})
            start("200 OK", [])
            return [b""]

        environ = {"REQUEST_METHOD": "GET", "PATH_INFO": path, "HTTP_TRACEPARENT": PARENT}
        wsgi = self.traces.wsgi(application, "instance", lambda path: path if path == "/v1/grants" else "other")
        list(wsgi(environ, lambda *_: None))


@pytest.fixture
def scene(gateway: Gateway) -> Iterable[Scene]:
    made = Scene(gateway)
    yield made
    made.store.close()


def test_a_request_its_decision_its_writes_and_what_was_asked_of_aws(scene: Scene) -> None:
    scene.request("spiffe://td/aws/111122223333/us-east-1/i-0123456789abcdef0")
    spans = scene.spans()
    assert spans.keys() == {"GET /v1/grants", "instance:grant:list", "store write", "aws sts assume_role"}
    request, decision = spans["GET /v1/grants"], spans["instance:grant:list"]
    assert decision.parent
    assert request.context
    assert decision.parent.span_id == request.context.span_id
    for name in ("store write", "aws sts assume_role"):
        parent = spans[name].parent
        assert parent
        assert decision.context
        assert parent.span_id == decision.context.span_id
    assert (request.attributes or {})["http.response.status_code"] == 200
    said = str([(span.name, span.attributes) for span in spans.values()])
    assert not any(word in said for word in ("spiffe", "i-0123456789abcdef0", "10.0.0.9", "arn:"))


def test_a_callers_trace_is_linked_to_once_it_is_identified_and_never_a_parent(scene: Scene) -> None:
    scene.request("spiffe://td/operator/alice")
    spans = scene.spans()
    (link,) = spans["instance:grant:list"].links
    assert f"{link.context.trace_id:032x}" == TRACE
    for span in spans.values():
        assert span.context
        assert f"{span.context.trace_id:032x}" != TRACE


def test_a_stranger_is_linked_to_nothing(scene: Scene) -> None:
    """The control."""
    scene.request(None)
    assert scene.spans()["instance:grant:list"].links == ()


@pytest.mark.parametrize(
    ("error", "kind"),
    [(Refusal("grant_refused", "grant payroll"), "grant_refused"), (ValueError("a secret"), "ValueError")],
)
def test_an_error_is_its_kind_and_not_its_text(scene: Scene, error: Exception, kind: str) -> None:
    with pytest.raises(type(error)):
        scene.request("spiffe://td/operator/alice", error)
    span = scene.spans()["instance:grant:list"]
    assert (span.attributes or {})["error.type"] == kind
    assert span.events == ()
    assert span.status.description is None


def test_a_path_that_is_no_route_is_in_no_span(scene: Scene) -> None:
    scene.request(None, path="/v1/grants/AKIAIOSFODNN7EXAMPLE")
    assert "GET other" in scene.spans()
    assert "AKIA" not in str([(span.name, span.attributes) for span in scene.spans().values()])


def test_nothing_of_it_is_loaded_where_it_is_off() -> None:
    code = (
        "import sys, gateway.bootstrap, gateway.observation\n"
        "print(sorted(name for name in sys.modules if name.startswith('opentelemetry')))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
