"""Reading AWS's answer, byte by byte as it arrives. No input or output, and no time.

What two readers could understand differently is refused, and its connection is never used again (threats F03, F07).
"""

import re
from dataclasses import dataclass

from gateway.web.server.framing import BadFraming, Chunked, Fixed, Framing, UntilClose
from gateway.web.upstream.broken import Broken

LONGEST_HEAD = 64 * 1024
LONGEST_VALUE = 8192  # of one field: as much as wire.calls.Header holds
MOST_FIELDS = 100
MOST_INTERIM = 8  # answers 1xx

_LINE = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9][0-9])(?: [\t\x20-\x7e\x80-\xff]*)?")
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}):([\t\x20-\x7e\x80-\xff]*)")
_LENGTH = re.compile(r"[0-9]{1,19}")
_END = b"\r\n\r\n"


@dataclass(frozen=True, slots=True, repr=False)
class ResponseHead:
    """Status and header fields of a final answer: names in lower case, values latin-1, in their order."""

    status: int
    headers: tuple[tuple[str, str], ...]
    length: int | None  # of the body that follows; None when only its end tells

    def get(self, name: str) -> str | None:
        """The first value of a field."""
        return next((value for each, value in self.headers if each == name), None)


class ResponseReader:
    """Reads the answer to one request. Then `reusable` says whether another may follow on its connection."""

    __slots__ = ("_framing", "_interim", "_method", "_persistent", "_received", "begun", "continued", "head", "surplus")

    def __init__(self, method: str) -> None:
        self._method = method
        self._received = b""
        self._framing: Framing | None = None
        self._persistent = True
        self._interim = 0
        self.begun = False  # a byte has come
        self.continued = False  # 100 Continue has come
        self.surplus = False  # bytes came behind the answer
        self.head: ResponseHead | None = None

    @property
    def complete(self) -> bool:
        """The whole answer is here."""
        return self._framing is not None and self._framing.complete

    @property
    def reusable(self) -> bool:
        """The connection is where it was before the request."""
        return self.complete and self._persistent and not self.surplus and not isinstance(self._framing, UntilClose)

    def feed(self, data: bytes) -> bytes:
        """What `data` brings of the body. Raises Broken."""
        self.begun = True
        if self._framing is None:
            data = self._received + data
            while self._framing is None:
                end = data.find(_END, 0, LONGEST_HEAD)
                if end < 0:
                    if len(data) >= LONGEST_HEAD:
                        raise Broken("head_too_large")
                    self._received = data
                    return b""
                raw, data = data[:end], data[end + len(_END) :]
                self._take(raw)
            self._received = b""
        framing = self._framing
        if framing.complete:
            self.surplus |= bool(data)
            return b""
        try:
            piece = framing.feed(data)
        except BadFraming:
            raise Broken("bad_framing") from None
        self.surplus |= bool(framing.rest)
        return piece

    def end(self) -> None:
        """The connection has ended. Raises Broken when the answer was not at its end."""
        if isinstance(self._framing, UntilClose):
            self._framing.complete = True
        elif not self.complete:
            raise Broken("cut_off" if self.begun else "no_answer")
        self._persistent = False

    def _take(self, raw: bytes) -> None:
        line, *fields = raw.split(b"\r\n")
        match = _LINE.fullmatch(line)
        if match is None:
            raise Broken("bad_head")
        if len(fields) > MOST_FIELDS:
            raise Broken("head_too_large")
        headers = tuple(map(_field, fields))
        if any(len(value) > LONGEST_VALUE for _, value in headers):
            raise Broken("head_too_large")
        status = int(match[2])
        if status < 200:
            self._interim += 1
            if status == 101 or self._interim > MOST_INTERIM:
                raise Broken("interim")
            self.continued |= status == 100
            return
        self._persistent = match[1] == b"1" and "close" not in _tokens(headers, "connection")
        length = self._frame(status, headers)
        self.head = ResponseHead(status, headers, length)

    def _frame(self, status: int, headers: tuple[tuple[str, str], ...]) -> int | None:
        """RFC 9112 section 6.3, but that nothing in doubt is resolved."""
        lengths = [value for name, value in headers if name == "content-length"]
        codings = [value.lower() for name, value in headers if name == "transfer-encoding"]
        if len(lengths) + len(codings) > 1 or codings not in ([], ["chunked"]):
            raise Broken("bad_framing")
        if lengths and _LENGTH.fullmatch(lengths[0]) is None:
            raise Broken("bad_framing")
        if self._method == "HEAD" or status in (204, 304):
            self._framing = Fixed(0)
            return 0
        if lengths:
            self._framing = Fixed(int(lengths[0]))
            return int(lengths[0])
        self._framing = Chunked(extended=True) if codings else UntilClose()
        return None


def _field(raw: bytes) -> tuple[str, str]:
    match = _FIELD.fullmatch(raw)
    if match is None:
        raise Broken("bad_head")
    return match[1].decode("latin-1").lower(), match[2].strip(b"\t ").decode("latin-1")


def _tokens(headers: tuple[tuple[str, str], ...], field: str) -> set[str]:
    return {token.strip().lower() for name, value in headers if name == field for token in value.split(",")}


# RFC 9110 section 7.6.1, and what only has a meaning between two who speak to each other.
_HOP = frozenset(
    {
        "connection", "keep-alive", "proxy-authenticate", "proxy-authentication-info", "proxy-connection", "te",
        "trailer", "transfer-encoding", "upgrade", "set-cookie",
    }
)  # fmt: skip


def end_to_end(headers: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    """The header fields that are meant for the client: less those of this hop, those that Connection names, and
    Set-Cookie, which no AWS SDK keeps and another tenant might (threat F02).
    """
    named = _tokens(headers, "connection") - {"content-length", "content-type", "host"}
    return tuple((name, value) for name, value in headers if name not in _HOP and name not in named)
