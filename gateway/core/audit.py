"""The audit log: what one record holds, how records are chained, and how a chain is verified. Pure.

A record is one line of JSON (sorted keys, ASCII only, so one record is always one line). Its hash covers the line,
which holds the hash before it; each chain counts from 1. Verification needs nothing but the lines.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

GENESIS = "0" * 64


class Kind(StrEnum):
    """A request has exactly one DECISION; a mint an INTENT before and an OUTCOME after it; a FACT was not asked for."""

    DECISION = "decision"
    INTENT = "intent"
    OUTCOME = "outcome"
    FACT = "fact"


class Name(StrEnum):
    """Every event, as `subject:object:verb`."""

    INSTANCE_CALL_CARRY = "instance:call:carry"
    INSTANCE_CALL_SIGN = "instance:call:sign"
    INSTANCE_CERTIFICATE_ENROLL = "instance:certificate:enroll"
    INSTANCE_CERTIFICATE_RENEW = "instance:certificate:renew"
    INSTANCE_CREDENTIALS_VEND = "instance:credentials:vend"
    INSTANCE_KEY_REGISTER = "instance:key:register"
    INSTANCE_KEY_MISUSE = "instance:key:misuse"
    INSTANCE_GRANT_LIST = "instance:grant:list"
    INSTANCE_NONCE_ASK = "instance:nonce:ask"
    INSTANCE_REVOCATION_WATCH = "instance:revocation:watch"
    INSTANCE_TOKEN_CREATE = "instance:token:create"  # noqa: S105  # the name of an event
    INSTANCE_TOKEN_READ = "instance:token:read"  # noqa: S105  # the name of an event
    INSTANCE_TOKEN_REVOKE = "instance:token:revoke"  # noqa: S105  # the name of an event
    INSTANCE_REQUEST_REFUSE = "instance:request:refuse"
    INSTANCE_SESSION_CREATE = "instance:session:create"
    OPERATOR_REQUEST_REFUSE = "operator:request:refuse"
    OPERATOR_AUDIT_READ = "operator:audit:read"
    OPERATOR_GATEWAY_INITIALIZE = "operator:gateway:initialize"
    OPERATOR_GATEWAY_STATUS = "operator:gateway:status"
    OPERATOR_CERTIFICATE_ISSUE = "operator:certificate:issue"
    OPERATOR_INSTANCE_LIST = "operator:instance:list"
    OPERATOR_INSTANCE_REENROLL = "operator:instance:reenroll"
    OPERATOR_INSTANCE_REVOKE = "operator:instance:revoke"
    OPERATOR_KEY_IMPORT = "operator:key:import"
    OPERATOR_PROFILE_APPLY = "operator:profile:apply"
    OPERATOR_PROFILE_LIST = "operator:profile:list"
    OPERATOR_PROFILE_READ = "operator:profile:read"
    OPERATOR_PROFILE_ROLLBACK = "operator:profile:rollback"
    OPERATOR_TICKET_CREATE = "operator:ticket:create"
    GATEWAY_CRL_PUBLISH = "gateway:crl:publish"
    GATEWAY_SERVER_CERTIFY = "gateway:server:certify"
    GATEWAY_WORKER_START = "gateway:worker:start"


@dataclass(frozen=True, slots=True)
class Event:
    """One record before it is chained. `subject` is who asked (SPIFFE ID, or None when nobody was proved).

    `allowed` is the decision or whether the outcome was success; `reason` a stable word; `source` the peer's address;
    `facts` public JSON values, never a secret (secrets are named by id only).
    """

    kind: Kind
    name: Name
    allowed: bool
    reason: str
    request_id: str
    subject: str | None = None
    object: str | None = None
    source: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Record:
    """One chained line. `hash` is the hex SHA-256 of `line`."""

    chain: str
    seq: int
    at: datetime
    line: str
    hash: str


@dataclass(frozen=True, slots=True)
class Head:
    """Where a chain ends. `at` is the latest time in any of its records: part of the store's high-water mark."""

    chain: str
    seq: int
    hash: str
    at: datetime


def append(head: Head | None, chain: str, event: Event, now: datetime) -> Record:
    """Chain `event` after `head` (None for the first of a chain)."""
    seq, prev = (head.seq + 1, head.hash) if head else (1, GENESIS)
    body = {
        "chain": chain,
        "seq": seq,
        "prev": prev,
        "at": now.isoformat(timespec="microseconds"),
        "kind": event.kind,
        "name": event.name,
        "allowed": event.allowed,
        "reason": event.reason,
        "request_id": event.request_id,
        "subject": event.subject,
        "object": event.object,
        "source": event.source,
        "facts": dict(event.facts),
    }
    line = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return Record(chain, seq, now, line, digest(line))


def digest(line: str) -> str:
    """The hash of a record's line: SHA-256 with a domain of its own, hex."""
    return hashlib.sha256(b"trusted-gateway audit v1\n" + line.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Verdict:
    """What verification found. `heads` maps chain → (seq, hash): keep it, and a later truncation shows.

    `faults` names each break, first one first; `open_intents` counts mints whose outcome was never written (a crash).
    """

    records: int
    heads: Mapping[str, tuple[int, str]]
    faults: tuple[str, ...]
    open_intents: int

    def __bool__(self) -> bool:
        return self.records > 0 and not self.faults


def verify(rows: Iterable[tuple[str, str]], witness: Mapping[str, tuple[int, str]] | None = None) -> Verdict:
    """Walk exported rows `(line, hash)`, each chain in order, chains interleaved as they may be.

    `witness` is the `heads` of an earlier verification: a chain that no longer holds that record was cut or rewritten.
    An empty log never verifies.
    """
    heads: dict[str, tuple[int, str]] = {}
    faults: list[str] = []
    intents: set[str] = set()
    seen: dict[tuple[str, int], str] = {}
    wanted = {(chain, seq) for chain, (seq, _) in (witness or {}).items()}
    count = 0
    for line, written in rows:
        count += 1
        body = _parse(line)
        if body is None:
            faults.append(f"record {count}: not a record of this log")
            continue
        chain, seq = body["chain"], body["seq"]
        where = f"{chain} #{seq}"
        last_seq, last_hash = heads.get(chain, (0, GENESIS))
        if digest(line) != written:
            faults.append(f"{where}: was changed (its hash does not match)")
        if seq != last_seq + 1:
            faults.append(f"{where}: follows #{last_seq}; records were removed, inserted or reordered")
        elif body["prev"] != last_hash:
            faults.append(f"{where}: does not continue the record before it")
        heads[chain] = (seq, written)
        if (chain, seq) in wanted:
            seen[chain, seq] = written
        if body["kind"] == Kind.INTENT:
            intents.add(body["request_id"])
        elif body["kind"] == Kind.OUTCOME:
            intents.discard(body["request_id"])
    for chain, (seq, hash_) in (witness or {}).items():
        if seen.get((chain, seq)) != hash_:
            faults.append(f"{chain} #{seq}: was witnessed with another hash, or is gone")
    return Verdict(count, heads, tuple(faults), len(intents))


def _parse(line: str) -> dict[str, Any] | None:
    try:
        body = json.loads(line)
        ok = isinstance(body["chain"], str) and type(body["seq"]) is int and isinstance(body["prev"], str)
        return body if ok and isinstance(body["kind"], str) and isinstance(body["request_id"], str) else None
    except (ValueError, KeyError, TypeError):
        return None
