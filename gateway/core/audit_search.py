"""What a reader looks for in the audit log, and what is to be said of all that was found. Pure."""

import hashlib
import hmac
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.wire.secret import Secret

KINDS = ("ticket", "nonce", "token")


def hidden(key: Secret, kind: str, sha256: str) -> str:
    """What stands in a record for a secret of a kind, given its SHA-256 in hex: nobody without `key` can make it.

    So whoever holds the secret can be shown where it was used, and whoever holds the log learns nothing of it.
    """
    with key as plain:
        return hmac.new(plain, f"{kind}\n{sha256}".encode(), hashlib.sha256).hexdigest()


@dataclass(frozen=True, slots=True)
class Filter:
    """What the store's index does not know. None leaves it open; `key` is the name of an upstream key."""

    event: str | None = None
    reason: str | None = None
    source: str | None = None
    kind: str | None = None
    allowed: bool | None = None
    key: str | None = None
    presented: str | None = None

    def matches(self, body: Mapping[str, Any]) -> bool:
        """Whether the record is one that is looked for. An event may end with `*`."""
        facts = body["facts"]
        if self.event is not None:
            whole = body["name"] == self.event
            if not whole and not (self.event.endswith("*") and body["name"].startswith(self.event[:-1])):
                return False
        if self.key is not None and self.key != facts.get("upstream") and body["object"] != f"upstream_key/{self.key}":
            return False
        if self.presented is not None and self.presented not in facts.get("presented", {}).values():
            return False
        pairs = (("reason", self.reason), ("source", self.source), ("kind", self.kind), ("allowed", self.allowed))
        return all(wanted is None or body[name] == wanted for name, wanted in pairs)


@dataclass(slots=True)
class Summary:
    """All records of something, counted: decisions by event, refusals by reason, bytes of bodies."""

    records: int = 0
    first: str | None = None
    last: str | None = None
    allowed: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    sent: int = 0
    received: int = 0

    def add(self, body: Mapping[str, Any]) -> None:
        """One more record; they come in order of time. One that stands for many counts as many."""
        facts = body["facts"]
        self.records += 1
        self.first, self.last = self.first or body["at"], body["at"]
        self.sent += facts.get("sent", 0)
        self.received += facts.get("received", 0)
        if body["kind"] == "decision" or "count" in facts:
            times = facts.get("count", 1)
            (self.allowed if body["allowed"] else self.refused)[body["name"]] += times
            if not body["allowed"]:
                self.reasons[body["reason"]] += times


def readable(line: str) -> Mapping[str, Any] | None:
    """The record, if the line is one. What somebody broke is for `audit verify` to name."""
    try:
        body = json.loads(line)
        whole = isinstance(body["facts"], dict) and all(
            name in body for name in ("at", "name", "kind", "allowed", "reason", "object", "source")
        )
        return body if whole else None
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
