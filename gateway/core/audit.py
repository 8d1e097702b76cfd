"""The audit log: what one record holds, and how records are chained. Pure. `core.verification` verifies a chain.

A record is one line of JSON (sorted keys, ASCII only, so one record is always one line). Its hash covers the line,
which holds the hash before it; each chain counts from 1. Verification needs nothing but the lines.
"""

import hashlib
import json
from collections.abc import Mapping
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
    INSTANCE_CHECKPOINT_READ = "instance:checkpoint:read"
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
    OPERATOR_API_READ = "operator:api:read"
    OPERATOR_APPROVAL_GIVE = "operator:approval:give"
    OPERATOR_APPROVAL_LIST = "operator:approval:list"
    OPERATOR_APPROVAL_REFUSE = "operator:approval:refuse"
    OPERATOR_AUDIT_EXPORT = "operator:audit:export"
    OPERATOR_AUDIT_READ = "operator:audit:read"
    OPERATOR_AUDIT_RECONCILE = "operator:audit:reconcile"
    OPERATOR_CERTIFICATE_ISSUE = "operator:certificate:issue"
    OPERATOR_CERTIFICATE_RENEW = "operator:certificate:renew"
    OPERATOR_CERTIFICATE_REVOKE = "operator:certificate:revoke"
    OPERATOR_EVERYTHING_REVOKE = "operator:everything:revoke"
    OPERATOR_GATEWAY_INITIALIZE = "operator:gateway:initialize"
    OPERATOR_GATEWAY_METRICS = "operator:gateway:metrics"
    OPERATOR_GATEWAY_STATUS = "operator:gateway:status"
    OPERATOR_GRANT_REVOKE = "operator:grant:revoke"
    OPERATOR_INSTANCE_LIST = "operator:instance:list"
    OPERATOR_INSTANCE_REENROLL = "operator:instance:reenroll"
    OPERATOR_INSTANCE_REVOKE = "operator:instance:revoke"
    OPERATOR_KEY_COMPROMISE = "operator:key:compromise"
    OPERATOR_KEY_DISABLE = "operator:key:disable"
    OPERATOR_KEY_IMPORT = "operator:key:import"
    OPERATOR_KEY_LIST = "operator:key:list"
    OPERATOR_KEY_ROTATE = "operator:key:rotate"
    OPERATOR_LEASE_LIST = "operator:lease:list"
    OPERATOR_LEASE_REVOKE = "operator:lease:revoke"
    OPERATOR_OPERATOR_ADD = "operator:operator:add"
    OPERATOR_OPERATOR_CERTIFY = "operator:operator:certify"
    OPERATOR_OPERATOR_CHANGE = "operator:operator:change"
    OPERATOR_OPERATOR_LIST = "operator:operator:list"
    OPERATOR_OPERATOR_REVOKE = "operator:operator:revoke"
    OPERATOR_PROFILE_APPLY = "operator:profile:apply"
    OPERATOR_PROFILE_LIST = "operator:profile:list"
    OPERATOR_PROFILE_READ = "operator:profile:read"
    OPERATOR_PROFILE_REVOKE = "operator:profile:revoke"
    OPERATOR_PROFILE_ROLLBACK = "operator:profile:rollback"
    OPERATOR_REVOCATION_LIST = "operator:revocation:list"
    OPERATOR_ROLE_APPLY = "operator:role:apply"
    OPERATOR_ROLE_LIST = "operator:role:list"
    OPERATOR_ROLE_REMOVE = "operator:role:remove"
    OPERATOR_SERVER_LAUNCH = "operator:server:launch"
    OPERATOR_SERVER_LIST = "operator:server:list"
    OPERATOR_SERVER_OUTPUT = "operator:server:output"
    OPERATOR_SERVER_REBOOT = "operator:server:reboot"
    OPERATOR_SERVER_START = "operator:server:start"
    OPERATOR_SERVER_STOP = "operator:server:stop"
    OPERATOR_SERVER_TERMINATE = "operator:server:terminate"
    OPERATOR_SESSION_CREATE = "operator:session:create"
    OPERATOR_SESSION_END = "operator:session:end"
    OPERATOR_TICKET_CREATE = "operator:ticket:create"
    OPERATOR_TICKET_LIST = "operator:ticket:list"
    OPERATOR_TICKET_REVOKE = "operator:ticket:revoke"
    GATEWAY_AUDIT_ARCHIVE = "gateway:audit:archive"
    GATEWAY_AUDIT_CHECKPOINT = "gateway:audit:checkpoint"
    GATEWAY_AUDIT_EXPORT = "gateway:audit:export"
    GATEWAY_CRL_PUBLISH = "gateway:crl:publish"
    GATEWAY_FENCE_APPLY = "gateway:fence:apply"
    GATEWAY_KEY_ROTATE = "gateway:key:rotate"
    GATEWAY_REVOCATION_CARRY = "gateway:revocation:carry"
    GATEWAY_SERVER_CERTIFY = "gateway:server:certify"
    GATEWAY_USE_FIND = "gateway:use:find"
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
    event: Event


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where a record is, in the order in which a search shows them."""

    at: datetime
    chain: str
    seq: int


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a search asks the store for; `about` may be the subject or the object. `until` is not included."""

    since: datetime | None = None
    until: datetime | None = None
    about: str | None = None
    subject: str | None = None
    object: str | None = None
    request_id: str | None = None
    after: Place | None = None


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
    return Record(chain, seq, now, line, digest(line), event)


def digest(line: str) -> str:
    """The hash of a record's line: SHA-256 with a domain of its own, hex."""
    return hashlib.sha256(b"trusted-gateway audit v1\n" + line.encode()).hexdigest()
