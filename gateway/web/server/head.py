"""Reading a request head: llhttp parses it, and then it must be plain. What is not plain is refused, never repaired.

Plain is: HTTP/1.1 or 1.0; origin form; a path that needs no decoding, so that the path that is authorised is the path
that is executed; ASCII; one Host; one Content-Length or none; no Transfer-Encoding, no Upgrade, no Content-Encoding.
"""

import re
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
_SINGLE = (b"authorization", b"content-length", b"content-type", b"expect", b"host")
_REFUSED = {
    b"content-encoding": ("unsupported_media_type", "a compressed body is not accepted"),
    b"transfer-encoding": ("not_implemented", "Transfer-Encoding is not accepted"),
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


def read_head(raw: bytes) -> Head:
    """The head in `raw`, which ends with its first CRLF CRLF. Raises Refusal: malformed_request, method_not_allowed,
    not_implemented or unsupported_media_type (RFC 9112 sections 2, 3, 5 and 6; threats C04, C05, C07, C08, C12, C20).
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
    _refuse_unplain(headers, fields)
    length = _length(fields.get(b"content-length"), verb)
    if parsed.complete is not (length == 0):
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
    )


def _bad_line(line: bytes) -> Refusal:
    if _FOREIGN_METHOD.fullmatch(line) and line.partition(b" ")[0].decode() not in METHODS:
        return Refusal("method_not_allowed")
    return Refusal("malformed_request", "the request line is not plain")


def _refuse_unplain(headers: tuple[tuple[bytes, bytes], ...], fields: dict[bytes, bytes]) -> None:
    if len(fields) != len(headers):
        names = [name for name, _ in headers]
        for name in _SINGLE:
            if names.count(name) > 1:
                raise Refusal("malformed_request", f"more than one {name.decode()} header")
    if not _REFUSED.keys().isdisjoint(fields):
        raise Refusal(*next(_REFUSED[name] for name in fields if name in _REFUSED))
    if b"_" in b" ".join(fields):  # X_Y and X-Y are one name in a WSGI environment
        raise Refusal("malformed_request", "a header name has an underscore")
    if fields.get(b"expect", b"100-continue").lower() != b"100-continue":
        raise Refusal("not_implemented", "that expectation is not met here")


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

    def __init__(self, limits: Limits, hosts: frozenset[str] | None) -> None:
        self._limits = limits
        self._hosts = hosts
        self._known: dict[bytes, Head] = {}

    def read(self, raw: bytes) -> Head:
        """The head in `raw`. Raises Refusal as `read_head`, or: head_too_large, misdirected_request, body_too_large."""
        known = self._known.get(raw)
        if known is not None:
            return known
        head = read_head(raw)
        if len(head.headers) > self._limits.headers:
            raise Refusal("head_too_large", "too many header fields")
        if self._hosts is not None and head.host not in self._hosts:
            raise Refusal("misdirected_request")
        if head.length > self._limits.body:
            raise Refusal("body_too_large")
        if len(raw) <= _LONGEST_KNOWN and not head.query and _SECRET.isdisjoint(name for name, _ in head.headers):
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            self._known[raw] = head
        return head
