"""The target of a request to AWS, read strictly: whatever two servers could read differently is refused.

Nothing is repaired: the path that policy sees is cut from the very text that is signed and sent. RFC 3986 §2.1, §3.3,
§3.4; AWS: "Create a signed AWS API request".
"""

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote_to_bytes

from gateway.core.errors import Refusal

SIGNING_KEYS: Final = frozenset(
    {
        "X-Amz-Algorithm",
        "X-Amz-Credential",
        "X-Amz-Date",
        "X-Amz-Expires",
        "X-Amz-Security-Token",
        "X-Amz-Signature",
        "X-Amz-SignedHeaders",
        "X-Amz-Content-Sha256",
    }
)
"""The keys that a presigned URL brings. AWS: "Authenticating Requests: Using Query Parameters"."""

_USUAL = re.compile(r"/[A-Za-z0-9/_~:@=,!$&'()*-]*")  # without dots: no dot segment, nothing encoded
_FORBIDDEN = re.compile(r"[^!-~]|[\\#]")
_BAD_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_DOTS = frozenset({".", ".."})


@dataclass(frozen=True, slots=True)
class Target:
    """A target in parts. `segments` are raw, behind the first slash; of `query` keys and values are decoded."""

    segments: tuple[str, ...]
    query: tuple[tuple[str, str], ...]


def malformed(reason: str, detail: str) -> Refusal:
    """The refusal of what no server would take."""
    return Refusal("call_malformed", detail, reason=reason)


def ambiguous(reason: str, detail: str) -> Refusal:
    """The refusal of what two readers could take for two calls."""
    return Refusal("call_ambiguous", detail, reason=reason)


def read(target: str) -> Target:
    """Cut a target (path and query as sent) in parts. Raises Refusal."""
    path, mark, query = target.partition("?")
    segments = tuple(path[1:].split("/")) if _USUAL.fullmatch(path) else _segments(path)
    return Target(segments, _pairs(query) if mark and query else ())


def _segments(path: str) -> tuple[str, ...]:
    if not path.startswith("/") or _FORBIDDEN.search(path):
        raise malformed("path_form", "the path has characters that a path may not have")
    if "+" in path:
        raise ambiguous("plus_in_path", "'+' in a path is a space to some: send %20 or %2B")
    for segment in (segments := tuple(path[1:].split("/"))):
        plain = decoded(segment) if "%" in segment else segment
        # An encoded slash makes segments of its own to whoever decodes first.
        if plain in _DOTS or ("/" in plain and not _DOTS.isdisjoint(plain.split("/"))):
            raise ambiguous("dot_segment", "'.' and '..' in a path name another one to some")
    return segments


def decoded(text: str, *, controls: bool = False) -> str:
    """Percent-decode, once. Raises Refusal for what is not UTF-8 then, or, without leave, holds control characters."""
    if "%" not in text:
        return text
    if _BAD_PERCENT.search(text):
        raise malformed("percent_encoding", "'%' is not followed by two hexadecimal digits")
    try:
        plain = unquote_to_bytes(text).decode("utf-8")
    except UnicodeDecodeError:
        raise malformed("not_utf8", "what is percent-encoded is not UTF-8") from None
    if "\0" in plain or (not controls and _CONTROL.search(plain)):
        raise ambiguous("control_character", "control characters are cut off, or dropped, by some")
    return plain


def _pairs(query: str) -> tuple[tuple[str, str], ...]:
    if _FORBIDDEN.search(query):
        raise malformed("query_form", "the query has characters that a query may not have")
    if "+" in query:
        raise ambiguous("plus_in_query", "'+' in a query is a space to some: send %20 or %2B")
    if ";" in query:
        raise ambiguous("semicolon_in_query", "';' in a query parts pairs to some: send %3B")
    out = []
    for part in query.split("&"):
        key, _, value = part.partition("=")
        if not key:
            raise ambiguous("empty_query_part", "the query has a part without a name")
        out.append((decoded(key), decoded(value)))
    return tuple(out)
