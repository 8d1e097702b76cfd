"""What the pages of a list have in common: `limit`, and `after`, the `next` of the page before.

A cursor says where a list goes on, and of which list: its path and its filters. It is ours (an HMAC is in it), so that
nobody can ask for a place that no page named.
"""

import base64
import hashlib
import hmac
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

from gateway.core.errors import Refusal
from gateway.wire.secret import Secret
from gateway.wire.strict import text

R = TypeVar("R")
_TAG = 16  # bytes of the HMAC-SHA-256: as strong as any key to be guessed


@dataclass(frozen=True, slots=True)
class Page:
    """The query of a list. A list with filters has a dataclass of its own, made of this one.

    A route gets `after` as the key of the row that the page before ended with, not as the cursor that it was sent as.
    """

    after: str | None = text(longest=1024, default=None)
    limit: str = text(pattern=r"[1-9][0-9]{0,2}", default="100")

    @property
    def filters(self) -> dict[str, str]:
        """What else the query names, and only that."""
        named = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in named.items() if name not in ("after", "limit") and value is not None}


def page(
    name: str, rows: Sequence[R], limit: int, key: Callable[[R], str], shown: Callable[[R], Any]
) -> Mapping[str, Any]:
    """The answer: the rows as they are shown, and where the next page begins, or None behind the last."""
    return {name: [shown(row) for row in rows], "next": key(rows[-1]) if len(rows) == limit else None}


class Cursors:
    """Between the keys of rows and what stands for them outside."""

    def __init__(self, key: Secret) -> None:
        self._key = key

    def opened(self, path: str, query: Page) -> Page:
        """The query with the key that its cursor stands for. Raises Refusal `malformed_request`."""
        if query.after is None:
            return query
        try:
            raw = base64.urlsafe_b64decode(query.after.encode("ascii") + b"==")
            key = raw[_TAG:].decode()
        except ValueError:
            raw, key = b"", ""
        # Base64 has more than one way to write some bytes: only the one that we wrote counts.
        if not hmac.compare_digest(self._cursor(path, query, key).encode(), query.after.encode()) or not raw:
            raise Refusal("malformed_request", "after: is not the next of a page of this list with these filters")
        return replace(query, after=key)

    def sealed(self, path: str, query: Page, document: Mapping[str, Any]) -> Mapping[str, Any]:
        """The answer with a cursor as its `next`."""
        following = document.get("next")
        return document if following is None else {**document, "next": self._cursor(path, query, following)}

    def _cursor(self, path: str, query: Page, key: str) -> str:
        filters = [f"{name}={value}" for name, value in sorted(query.filters.items())]
        meant = "\0".join([path, *filters, "", key]).encode()
        with self._key as secret:
            tag = hmac.new(secret, meant, hashlib.sha256).digest()[:_TAG]
        return base64.urlsafe_b64encode(tag + key.encode()).decode().rstrip("=")
