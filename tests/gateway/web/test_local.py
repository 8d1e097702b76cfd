"""The local listener: ready or not, and a worker that is about to end is not."""

import json
from typing import Any, cast

import pytest

from gateway.flows.journal import Journal
from gateway.ports import Store
from gateway.web.measure import Measure
from gateway.web.public import METRICS_TYPE, local_app
from gateway.web.server.service import Peer, Request, Response


@pytest.mark.parametrize(("ready", "draining", "status"), [(True, False, 200), (False, False, 503), (True, True, 503)])
def test_ready_or_not(ready: bool, draining: bool, status: int) -> None:
    app = local_app(Journal(cast(Store, None)), lambda: {"ready": ready, "status": "good"}, lambda: b"# metrics")
    for path in ("/readyz", "/healthz"):
        answer = app.test_client().get(path, environ_overrides={"trusted_gateway.draining": draining})
        told = json.loads(answer.data)
        assert (answer.status_code, told["ready"]) == (status, status == 200)
        assert (told["status"] == "draining") == draining
    answer = app.test_client().get("/metrics")
    assert (answer.data, answer.content_type) == (b"# metrics", METRICS_TYPE)


class Counted:
    def __init__(self) -> None:
        self.seen: list[tuple[str, ...]] = []

    def count(self, name: str, *labels: str, by: float = 1) -> None:
        self.seen.append((name, *labels))

    def observe(self, name: str, value: float, *labels: str) -> None:
        self.seen.append((name, *labels))

    def gauge(self, name: str, value: float, *labels: str) -> None: ...


def _request(method: str, path: str) -> Request:
    return Request(method, path.encode(), path, b"", (), b"", Peer("127.0.0.1", 1, None), "admin", "an id")


@pytest.mark.threat("K06")
def test_K06_whatever_a_client_sends_the_labels_are_ours() -> None:
    counted = Counted()
    measure = Measure(counted, "admin", ["/livez", "/v1/instances/<path:named>/revoke", "/v1/<what>"])
    evil: list[tuple[Any, str]] = [
        (_request("GET", "/v1/instances/i-0123456789abcdef0/revoke"), "/v1/instances"),
        (_request("BREW", "/livez"), "/livez"),
        (_request("GET", "/v1/AKIAIOSFODNN7EXAMPLE"), "other"),
        (_request("GET", "/" + "x" * 5000), "other"),
    ]
    for request, route in evil:
        counted.seen.clear()
        measure(request, Response(200))
        assert counted.seen[0][2] == route
        assert counted.seen[0][3] in ("GET", "other")
    counted.seen.clear()
    body = b'{"code": "not_found"}'
    measure(None, Response(404, body, "application/problem+json"))
    measure(None, Response(404, b'{"code": "arn_of_somebody"}', "application/problem+json"))
    assert [each[-1] for each in counted.seen if each[0] == "refusals_total"] == ["not_found", "other"]
