"""Counts every answer of a listener: by route, method and status, and how long it took. On the hot path: 2 µs."""

import re
from collections.abc import Iterable
from time import perf_counter

from gateway.ports import Metrics
from gateway.web.server.service import Request, Response
from gateway.wire.problems import MEDIA_TYPE, PROBLEMS

_METHODS = frozenset({"DELETE", "GET", "HEAD", "PATCH", "POST", "PUT"})
_CODE = re.compile(rb'"code": ?"([a-z_]{1,64})"')


class Measure:
    """`Listener.measured`. Whatever a client sends, the labels take only values that are ours.

    `rules` are the routes; of each the first two parts name its class, as far as they are fixed.
    """

    def __init__(self, metrics: Metrics, listener: str, rules: Iterable[str]) -> None:
        self._metrics = metrics
        self._listener = listener
        self._known = frozenset(_class(rule.partition("<")[0].rstrip("/")) for rule in rules)

    def __call__(self, request: Request | None, response: Response) -> None:
        listener, metrics = self._listener, self._metrics
        if request is None:
            metrics.count("requests_total", listener, "none", "none", str(response.status))
        else:
            route = self.route(request.path)
            method = request.method if request.method in _METHODS else "other"
            metrics.count("requests_total", listener, route, method, str(response.status))
            metrics.observe("request_seconds", perf_counter() - request.begun, listener, route)
        if response.status >= 400:
            metrics.count("refusals_total", listener, _code(response))

    def route(self, path: str) -> str:
        """The class of a path; `other` for one that is no route."""
        found = _class(path)
        return found if found in self._known else "other"


def _class(path: str) -> str:
    """`/v1/instances` of `/v1/instances/i-1/revoke`."""
    end = path.find("/", path.find("/", 1) + 1)
    return path if end <= 1 else path[:end]


def _code(response: Response) -> str:
    """The code of a problem document; "other" for the answers that are in others' forms."""
    media_type = response.media_type or next((v for k, v in response.headers if k.lower() == "content-type"), "")
    found = _CODE.search(response.body) if media_type == MEDIA_TYPE else None
    code = found[1].decode() if found else "other"
    return code if code in PROBLEMS else "other"
