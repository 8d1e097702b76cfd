"""A service with nothing in it but what the tests of the server ask for."""

import asyncio
import json
import threading
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from gateway.core.errors import Refusal
from gateway.web.server.service import Environ, InlineHandler, Limits, Listener, Request, Response

HOST = "gateway.test"
LARGE = bytes(8 * 1024 * 1024)
CANARY = "canary-7f3a"  # must never be seen outside of the process


class Toy:
    """Inline handlers and a WSGI application, and what they have seen."""

    def __init__(self) -> None:
        self.seen: list[Request] = []
        self.release = threading.Event()  # for /app/held
        handlers: dict[tuple[str, str], InlineHandler] = {
            ("GET", "/inline"): self._inline,
            ("POST", "/inline"): self._inline,
            ("GET", "/peer"): self._peer,
            ("GET", "/wait"): self._wait,
            ("GET", "/soon"): self._soon,
            ("GET", "/refuse"): self._refuse,
            ("GET", "/revoked"): self._revoked,
            ("GET", "/fail"): self._fail,
            ("GET", "/fail-later"): self._fail_later,
            ("GET", "/bad-header"): lambda request: Response(200, headers=(("X-Split", "a\r\nSet-Cookie: b"),)),
            ("GET", "/empty"): lambda request: Response(204),
            ("GET", "/cached"): lambda request: Response(200, b"crl", headers=(("Cache-Control", "max-age=60"),)),
            ("GET", "/large"): lambda request: Response(200, LARGE, "application/octet-stream"),
            ("GET", "/last"): lambda request: Response(200, b"bye", close=True),
        }
        self.inline = {route: self._recorded(handler) for route, handler in handlers.items()}

    def _recorded(self, handler: InlineHandler) -> InlineHandler:
        def recorded(request: Request) -> Response | Awaitable[Response]:
            self.seen.append(request)
            return handler(request)

        return recorded

    def _inline(self, request: Request) -> Response:
        return Response(200, request.body or b"hello", "text/plain")

    def _peer(self, request: Request) -> Response:
        peer = request.peer
        answer = {"address": peer.address, "certificate": peer.certificate and peer.certificate.hex()}
        return Response(200, json.dumps(answer).encode(), "application/json")

    async def _wait(self, request: Request) -> Response:
        await asyncio.sleep(60)
        return Response(204)

    async def _soon(self, request: Request) -> Response:
        await asyncio.sleep(0.05)
        return Response(200, b"soon")

    def _refuse(self, request: Request) -> Response:
        raise Refusal("grant_refused", "no such grant", reason=CANARY)

    def _revoked(self, request: Request) -> Response:
        raise Refusal("instance_revoked")

    def _fail(self, request: Request) -> Response:
        raise ValueError(CANARY)

    async def _fail_later(self, request: Request) -> Response:
        await asyncio.sleep(0)
        raise ValueError(CANARY)

    def wsgi(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Everything below /app; 404 elsewhere."""
        path = environ["PATH_INFO"]
        status, body, headers = "200 OK", b"app", [("Content-Type", "text/plain"), ("Server", "toy")]
        if path == "/app/echo":
            body = environ["wsgi.input"].read()
        elif path == "/app/environ":
            shown = {key: value for key, value in environ.items() if isinstance(value, str)}
            body = json.dumps(shown).encode()
        elif path == "/app/slow":
            time.sleep(float(environ["QUERY_STRING"]))
        elif path == "/app/held":
            self.release.wait(30)
        elif path == "/app/fail":
            raise ValueError(CANARY)
        elif path == "/app/exit":
            raise SystemExit(CANARY)
        elif path == "/app/refuse":
            raise Refusal("conflict")
        elif path == "/app/large":
            body = LARGE
        elif path == "/app/endless":
            start_response(status, headers)
            return iter(lambda: bytes(64 * 1024), b"")
        elif path != "/app":
            status, body = "404 Not Found", b""
        headers.append(("Content-Length", str(len(body))))
        start_response(status, headers)
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]


def listener(toy: Toy, name: str = "toy", **more: Any) -> Listener:
    """A listener for it."""
    return Listener(name, toy.wsgi, inline=toy.inline, hosts=frozenset({HOST, "127.0.0.1"}), **more)


class Service:
    """A `Service` of given listeners, which tells `started` its slot."""

    def __init__(
        self, listeners: list[Listener], limits: Limits, started: Callable[[int], None] = lambda slot: None
    ) -> None:
        self.listeners = listeners
        self.limits = limits
        self.start = started

    def tick(self) -> None:
        pass

    def stop(self) -> None:
        pass
