"""Calling a WSGI application (PEP 3333) with a complete request, and collecting its complete answer."""

import io
import sys
from collections.abc import Callable, Iterable
from typing import Any

from gateway.web.server.service import WSGI, Environ, Request, Response


class AnswerTooLarge(Exception):
    """The application's answer is larger than `Limits.response`."""


def environ_of(request: Request, server: tuple[str, int], *, tls: bool, draining: bool) -> Environ:
    """The WSGI environment. REMOTE_ADDR is the socket's; what a header says about the client is only a header.

    The project's own keys: `trusted_gateway.peer` (Peer), `trusted_gateway.request_id`, `trusted_gateway.listener` and
    `trusted_gateway.draining` (the worker is about to end).
    """
    environ: Environ = {
        "REQUEST_METHOD": request.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": request.path,
        "QUERY_STRING": request.query.decode(),
        "RAW_URI": request.target.decode(),
        "SERVER_NAME": server[0],
        "SERVER_PORT": str(server[1]),
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": request.peer.address,
        "REMOTE_PORT": str(request.peer.port),
        "CONTENT_LENGTH": str(len(request.body)),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "https" if tls else "http",
        "wsgi.input": io.BytesIO(request.body),
        "wsgi.input_terminated": True,
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
        "trusted_gateway.peer": request.peer,
        "trusted_gateway.request_id": request.request_id,
        "trusted_gateway.listener": request.listener,
        "trusted_gateway.draining": draining,
    }
    for raw_name, raw_value in request.headers:
        name, value = raw_name.decode().upper().replace("-", "_"), raw_value.decode()
        if name == "CONTENT_TYPE":
            environ[name] = value
        elif name != "CONTENT_LENGTH":
            key = f"HTTP_{name}"
            joint = "; " if name == "COOKIE" else ","
            environ[key] = f"{environ[key]}{joint}{value}" if key in environ else value
    return environ


def call(application: WSGI, environ: Environ, limit: int) -> Response:
    """The application's answer, of at most `limit` bytes. Raises AnswerTooLarge, and what the application raises."""
    started: list[tuple[int, list[tuple[str, str]]]] = []
    chunks: list[bytes] = []

    def start_response(status: str, headers: list[tuple[str, str]], error: Any = None) -> Callable[[bytes], None]:
        if started and error is None:
            raise RuntimeError("start_response was called twice")
        started[:] = [(int(status[:3]), headers)]
        return chunks.append

    parts: Iterable[bytes] = application(environ, start_response)
    try:
        size = 0
        for part in parts:
            chunks.append(part)
            size += len(part)
            if size > limit:
                raise AnswerTooLarge(f"more than {limit} bytes")
    finally:
        if (close := getattr(parts, "close", None)) is not None:
            close()
    if not started:
        raise RuntimeError("start_response was not called")
    status, headers = started[0]
    named = {name.lower(): value for name, value in headers}
    body = b"".join(chunks)
    to_head = environ["REQUEST_METHOD"] == "HEAD"
    return Response(
        status,
        body,
        headers=tuple(headers),
        close=named.get("connection", "").lower() == "close",
        length=int(named["content-length"]) if to_head and not body and "content-length" in named else None,
    )
