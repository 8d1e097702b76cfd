"""Reading a request head: llhttp parses it, and then it must be plain. What is not plain is refused, never repaired.

Plain is: HTTP/1.1 or 1.0; origin form; a path that needs no decoding, so that the path that is authorised is the path
that is executed; ASCII; one Host; one Content-Length or none; no Upgrade, no Content-Encoding, no Transfer-Encoding
(but `chunked`, in exactly this form and instead of a length, to a route that streams).
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import httptools

from gateway.core.errors import Refusal
from gateway.web.server.service import Limits

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "LIST")

# RFC 3986 pchar without "%" and ";": no segment may be empty, "." or "..".
_LINE = re.compile(
    rb"([A-Z]+) ((?=/)((?:/(?!\.\.?[/? ])[A-Za-z0-9._~:@!$&'()*+,=-]+)*/?)(?:\?([!\"$-~]*))?) HTTP/1\.([01])"
)
_FOREIGN_METHOD = re.compile(rb"[A-Z]{1,32} [!-~]+ HTTP/1\.[01]")
_HOST = re.compile(rb"(?:([A-Za-z0-9][A-Za-z0-9._-]{0,253})|\[([0-9A-Fa-f:.]{2,45})\])(?::[0-9]{1,5})?")
_LENGTH = re.compile(rb"[0-9]{1,19}")

# What a HeadReader remembers: few and short heads, and none with a secret in it.
_MOST_KNOWN, _LONGEST_KNOWN = 512, 1024
_SECRET = frozenset({b"authorization", b"cookie", b"proxy-authorization", b"x-amz-security-token", b"x-vault-token"})

# Fields that RFC 9110 and 9112 define once: a second copy is how two parsers are made to disagree.
_SINGLE = (b"authorization", b"content-length", b"content-type", b"expect", b"host", b"transfer-encoding")
_REFUSED = {
    b"content-encoding": ("unsupported_media_type", "a compressed body is not accepted"),
    b"transfer-encoding": ("not_implemented", "Transfer-Encoding is not accepted"),  # see _is_chunked
    b"upgrade": ("malformed_request", "Upgrade is not accepted"),
}


@dataclass(frozen=True, slots=True)
class Head:
    """A request head that was found plain."""

    method: str
    path: str
    target: bytes
    query: bytes
    headers: tuple[tuple[bytes, bytes], ...]  # names in lower case, values without outer blanks
    host: str  # lower case, without port or brackets
    length: int  # of the body, in bytes
    close: bool  # HTTP/1.0, or `Connection: close`
    awaits_continue: bool  # `Expect: 100-continue`
    streams: bool = False  # to a route that takes its body in pieces
    chunked: bool = False  # then `length` is 0


class _Fields:
    """What llhttp calls back: the fields of one head, and whether the message ends with it."""

    __slots__ = ("complete", "found")

    def __init__(self) -> None:
        self.found: list[tuple[bytes, bytes]] = []
        self.complete = False

    def on_header(self, name: bytes, value: bytes) -> None:
        self.found.append((name.lower(), value.strip(b" \t")))

    def on_message_complete(self) -> None:
        self.complete = True


def read_head(raw: bytes, streams: Collection[str] = ()) -> Head:
    """The head in `raw`, which ends with its first CRLF CRLF; `streams` are the paths that take a POST in pieces.

    Raises Refusal: malformed_request, method_not_allowed, not_implemented or unsupported_media_type (RFC 9112 sections
    2, 3, 5 and 6; threats C04, C05, C07, C08, C12, C20).
    """
    end = raw.index(b"\r\n")
    line = _LINE.fullmatch(raw, 0, end)
    if line is None:
        raise _bad_line(raw[:end])
    method, target, path, query, minor = line.groups()
    if (verb := method.decode()) not in METHODS:
        raise Refusal("method_not_allowed")
    if not raw.isascii():
        raise Refusal("malformed_request", "the head is not ASCII")
    parsed = _Fields()
    try:
        # llhttp knows the methods of a registry, in which Vault's LIST is not; the rest of the head is what it judges.
        httptools.HttpRequestParser(parsed).feed_data(b"GET" + raw[4:] if verb == "LIST" else raw)
    except httptools.HttpParserUpgrade:
        raise Refusal("malformed_request", "Upgrade is not accepted") from None
    except httptools.HttpParserError:
        raise Refusal("malformed_request", "the head is not well formed") from None
    headers = tuple(parsed.found)
    fields = dict(headers)
    streaming = verb == "POST" and path.decode() in streams
    chunked = _refuse_unplain(headers, fields, streaming and minor == b"1")
    length = _length(fields.get(b"content-length"), verb)
    if parsed.complete is not (length == 0 and not chunked):
        raise Refusal("malformed_request", "the length of the body is in doubt")
    return Head(
        method=verb,
        path=path.decode(),
        target=target,
        query=query or b"",
        headers=headers,
        host=_host(fields.get(b"host", b"")),
        length=length,
        close=minor == b"0" or _asks_to_close(fields.get(b"connection", b"")),
        awaits_continue=minor == b"1" and b"expect" in fields,
        streams=streaming,
        chunked=chunked,
    )


def _bad_line(line: bytes) -> Refusal:
    if _FOREIGN_METHOD.fullmatch(line) and line.partition(b" ")[0].decode() not in METHODS:
        return Refusal("method_not_allowed")
    return Refusal("malformed_request", "the request line is not plain")


def _refuse_unplain(headers: tuple[tuple[bytes, bytes], ...], fields: dict[bytes, bytes], may_be_chunked: bool) -> bool:
    """Whether the body is chunked; Refusal for what is not plain."""
    if len(fields) != len(headers):
        names = [name for name, _ in headers]
        for name in _SINGLE:
            if names.count(name) > 1:
                raise Refusal("malformed_request", f"more than one {name.decode()} header")
    chunked = may_be_chunked and fields.get(b"transfer-encoding") == b"chunked" and b"content-length" not in fields
    for name in () if _REFUSED.keys().isdisjoint(fields) else fields:
        if name in _REFUSED and not (chunked and name == b"transfer-encoding"):
            raise Refusal(*_REFUSED[name])
    if b"_" in b" ".join(fields):  # X_Y and X-Y are one name in a WSGI environment
        raise Refusal("malformed_request", "a header name has an underscore")
    if fields.get(b"expect", b"100-continue").lower() != b"100-continue":
        raise Refusal("not_implemented", "that expectation is not met here")
    return chunked


def _length(value: bytes | None, method: str) -> int:
    if value is None:
        return 0
    if _LENGTH.fullmatch(value) is None:
        raise Refusal("malformed_request", "Content-Length is not a number")
    length = int(value)
    if length and method in ("GET", "HEAD", "LIST"):
        raise Refusal("malformed_request", f"a {method} request has no body")
    return length


def _host(value: bytes) -> str:
    match = _HOST.fullmatch(value)
    if match is None:
        raise Refusal("malformed_request", "one valid Host header is required")
    return (match[1] or match[2]).decode().lower()


def _asks_to_close(connection: bytes) -> bool:
    return bool(connection) and b"close" in [token.strip() for token in connection.lower().split(b",")]


class HeadReader:
    """`read_head` for one listener: also keeps its limits and its hosts, and remembers heads, which clients repeat."""

    def __init__(
        self,
        limits: Limits,
        hosts: frozenset[str] | None,
        streams: Collection[str] = (),
        bodies: Mapping[str, int] | None = None,
    ) -> None:
        self._limits = limits
        self._hosts = hosts
        self._streams = frozenset(streams)
        self._bodies = bodies or {}
        self._streaming_lines = tuple(f"POST {path} HTTP/1.1\r\n".encode() for path in streams)
        self._known: dict[bytes, Head] = {}

    def limit(self, received: bytearray) -> int:
        """How long the head may be whose first bytes these are."""
        return self._limits.stream_head if received.startswith(self._streaming_lines) else self._limits.head

    def read(self, raw: bytes) -> Head:
        """The head in `raw`. Raises Refusal as `read_head`, or: head_too_large, misdirected_request, body_too_large."""
        known = self._known.get(raw)
        if known is not None:
            return known
        head = read_head(raw, self._streams)
        if len(head.headers) > self._limits.headers:
            raise Refusal("head_too_large", "too many header fields")
        if self._hosts is not None and head.host not in self._hosts:
            raise Refusal("misdirected_request")
        longest = self._limits.stream_body if head.streams else self._bodies.get(head.path, self._limits.body)
        if head.length > longest:
            raise Refusal("body_too_large")
        if head.streams:  # what it brings besides is said to AWS, and differs
            return head
        if len(raw) <= _LONGEST_KNOWN and not head.query and _SECRET.isdisjoint(name for name, _ in head.headers):
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            self._known[raw] = head
        return head
