"""Traces, by OpenTelemetry. Imported only where the settings name a collector: without one nothing of it is loaded.

Attributes are names of routes, events and operations, codes and our request ids. What a client sends as `traceparent`
is never the parent of anything: a span links to it when the client was identified, and that is all.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from time import time_ns
from typing import Any

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace import Span, Status, StatusCode, get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from gateway.core.errors import Refusal

Environ = dict[str, Any]
WSGI = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]

PATIENCE = 5.0  # seconds for the collector, in a thread of its own
_LAST = 1000  # milliseconds for what is queued when the worker ends

_presented: ContextVar[str | None] = ContextVar("traceparent", default=None)


class Traces:
    """Of one worker; made after the fork, for it has a thread."""

    def __init__(self, endpoint: str, instance: str, exporter: SpanExporter | None = None) -> None:
        resource = Resource({"service.name": "trusted-gateway", "service.instance.id": instance})
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(
            BatchSpanProcessor(exporter or OTLPSpanExporter(endpoint=endpoint, timeout=PATIENCE))
        )
        self._tracer = self._provider.get_tracer("trusted_gateway")

    @contextmanager
    def span(self, name: str, **attributes: str | int) -> Iterator[Span]:
        """Around a piece of work. An exception's text is not in it: its kind, or a refusal's code."""
        with self._tracer.start_as_current_span(
            name, attributes=attributes, record_exception=False, set_status_on_exception=False
        ) as span:
            try:
                yield span
            except BaseException as error:
                code = error.code if isinstance(error, Refusal) else type(error).__name__
                span.set_attribute("error.type", code)
                span.set_status(Status(StatusCode.ERROR))
                raise

    def past(self, name: str, seconds: float, **attributes: str | int) -> None:
        """A span for what is over, and took so long."""
        now = time_ns()
        self._tracer.start_span(name, attributes=attributes, start_time=now - int(seconds * 1e9)).end(now)

    def link(self, span: Span) -> None:
        """Whoever asks was identified: link to the trace that the request came with."""
        if (presented := _presented.get()) is None:
            return
        found = get_current_span(TraceContextTextMapPropagator().extract({"traceparent": presented})).get_span_context()
        if found.is_valid and found.is_remote:
            span.add_link(found)

    def wsgi(self, application: WSGI, listener: str, route_of: Callable[[str], str]) -> WSGI:
        """The application, with a span around each request."""

        def traced(environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
            method, route = environ["REQUEST_METHOD"], route_of(environ["PATH_INFO"])
            attributes: Mapping[str, str] = {
                "http.request.method": method, "http.route": route, "gateway.listener": listener,
            }  # fmt: skip
            _presented.set(environ.get("HTTP_TRACEPARENT"))
            try:
                with self.span(f"{method} {route}", **attributes) as span:

                    def start(status: str, *rest: Any) -> Any:
                        span.set_attribute("http.response.status_code", int(status[:3]))
                        return start_response(status, *rest)

                    return application(environ, start)
            finally:
                _presented.set(None)

        return traced

    def stop(self) -> None:
        """Send what is queued, if that can be done at once."""
        self._provider.force_flush(_LAST)
