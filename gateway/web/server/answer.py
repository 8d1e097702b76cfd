"""From a Response to the bytes on the wire (RFC 9112 section 4), and from a problem to a Response."""

import re
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus

from gateway.core.errors import Refusal
from gateway.web.server.head import METHODS
from gateway.web.server.service import Response
from gateway.wire import problems

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
# Fields that are the server's own to write.
_OWN = frozenset({"connection", "content-length", "date", "keep-alive", "server", "transfer-encoding", "upgrade"})
# After these the connection closes: who is behind it has to prove itself anew.
CLOSING = frozenset(
    {"certificate_unknown", "certificate_expired", "certificate_revoked", "instance_revoked", "draining"}
)


def date_line() -> bytes:
    """The Date header at this time (RFC 9110 section 5.6.7)."""
    return f"Date: {formatdate(usegmt=True)}\r\n".encode()


def compose(response: Response, *, date: bytes, head_only: bool, close: bool) -> tuple[bytes, bytes]:
    """The head of the answer, and its body (none to a HEAD). Raises ValueError: no such status or header."""
    prefix = _begin(response)
    body = response.body
    if response.status in (204, 304):
        length = body = b""  # RFC 9110 section 8.6: a 204 has no Content-Length
    else:
        length = b"Content-Length: %d\r\n" % (len(body) if response.length is None else response.length)
    end = b"Connection: close\r\n\r\n" if close else b"\r\n"
    return b"".join((prefix, date, length, end)), b"" if head_only else body


def compose_head(response: Response, *, length: int | None, date: bytes, close: bool) -> bytes:
    """The head of an answer whose body comes in pieces: `length` bytes in all, or in chunks. Raises ValueError."""
    framing = b"Transfer-Encoding: chunked\r\n" if length is None else b"Content-Length: %d\r\n" % length
    return b"".join((_begin(response), date, framing, b"Connection: close\r\n\r\n" if close else b"\r\n"))


def problem(refusal: Refusal, request_id: str) -> Response:
    """A refusal as an answer: an RFC 9457 document."""
    document = problems.encode(refusal.code, detail=refusal.detail, instance=f"urn:uuid:{request_id}")
    headers = []
    if refusal.code == "method_not_allowed":
        headers.append(("Allow", ", ".join(METHODS)))  # RFC 9110 section 15.5.6 demands it
    if refusal.retry_after is not None:
        headers.append(("Retry-After", str(refusal.retry_after)))
    status = problems.PROBLEMS[refusal.code].status
    return Response(status, document, problems.MEDIA_TYPE, tuple(headers), close=refusal.code in CLOSING)


def _begin(response: Response) -> bytes:
    if response.headers:
        return _prefix(response.status, response.media_type, response.headers)
    return _plain_prefix(response.status, response.media_type)


def _prefix(status: int, media_type: str | None, headers: tuple[tuple[str, str], ...]) -> bytes:
    """Status line and headers, all but Content-Length, Date and Connection."""
    if not 200 <= status <= 599:
        raise ValueError("not the status of a final answer")
    try:
        lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}"]
    except ValueError:
        lines = [f"HTTP/1.1 {status} "]
    if media_type is not None:
        headers = (("Content-Type", media_type), *headers)
    named = set()
    for name, value in headers:
        if _NAME.fullmatch(name) is None or _VALUE.fullmatch(value) is None:
            raise ValueError("not a header")
        named.add(name.lower())
        if name.lower() not in _OWN:
            lines.append(f"{name}: {value}")
    if "cache-control" not in named:
        lines.append("Cache-Control: no-store")
    if "x-content-type-options" not in named:
        lines.append("X-Content-Type-Options: nosniff")
    return "\r\n".join([*lines, ""]).encode("latin-1")


@lru_cache(maxsize=128)
def _plain_prefix(status: int, media_type: str | None) -> bytes:
    # Only answers without headers of their own are remembered: a header can be a secret (Set-Cookie).
    return _prefix(status, media_type, ())
