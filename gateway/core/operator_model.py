"""What the gateway remembers of operators and of what they do, in the manner of `core.model`."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any


class OperatorState(StrEnum):
    ACTIVE = "active"
    REVOKED = "revoked"


class ApprovalState(StrEnum):
    OPEN = "open"
    GIVEN = "given"
    REFUSED = "refused"
    SPENT = "spent"


class PlanState(StrEnum):
    """Of a revocation or a rotation, which go on after a crash until they are done."""

    RUNNING = "running"
    DONE = "done"


@dataclass(frozen=True, slots=True)
class Operator:
    """A human. `document` is in plain values (core.rights reads it): the roles, and the conditions on them. `version`
    counts its changes, for who edits it.
    """

    name: str
    document: Mapping[str, Any]
    version: int
    state: OperatorState
    created_at: datetime
    created_by: str
    revoked_at: datetime | None = None
    revoked_by: str | None = None


@dataclass(frozen=True, slots=True)
class Role:
    """A role of the administrators' own making. `document` is in plain values (core.rights reads it)."""

    name: str
    document: Mapping[str, Any]
    version: int
    changed_at: datetime
    changed_by: str


@dataclass(frozen=True, slots=True)
class Approval:
    """A request that waits for a second person: `request` is what is shown of it, `request_sha256` what it is, exactly.

    `given_by` maps who agreed to when (an RFC 3339 time).
    """

    id: str
    permission: str
    object: str
    request_sha256: str
    request: Mapping[str, Any]
    asked_by: str
    asked_at: datetime
    expires_at: datetime
    state: ApprovalState
    given_by: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class KeptAnswer:
    """The answer to a request with an idempotency key: `id` is the operator and that key. None: still under way."""

    id: str
    request_sha256: str
    status: int
    sealed_answer: bytes | None
    created_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Revocation:
    """What one `revoke` cut off, and how far its plan is: `document` holds the layers (core.revocation reads it)."""

    id: str
    kind: str
    name: str
    by: str
    at: datetime
    state: PlanState
    document: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Cut:
    """Sessions that AWS shall not honour: those of `principal` (the ARN of a role or of a user) that were issued before
    `before` and are meant by `kind` and `value` (core.fence reads them). Over at `until`, when the last of them ends.
    """

    id: str
    account: str
    principal: str
    kind: str
    value: str
    before: datetime
    until: datetime
    revocation: str


@dataclass(frozen=True, slots=True)
class Fence:
    """What of our cuts stands at AWS in an account: the policy, what it says, and to whom it is attached."""

    account: str
    policy_arn: str | None
    document_sha256: str
    attached: Mapping[str, Any]
    applied_at: datetime


@dataclass(frozen=True, slots=True)
class Rotation:
    """An upstream key on its way to the next one: `document` holds the steps (core.rotation reads it)."""

    id: str
    key: str
    by: str
    at: datetime
    state: PlanState
    document: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Launch:
    """A machine that was launched through us: `id` is `aws/<account>/<region>/<instance id>`."""

    id: str
    account: str
    region: str
    instance_id: str
    profile: str
    ticket: str | None
    by: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A signed statement of what the audit log was: `id` is its number, twelve digits, so that they sort; `root` the
    Merkle tree's, over `size` records; `document` says where each chain stood (core.checkpoint reads it).
    """

    id: str
    at: datetime
    size: int
    root: str
    document: Mapping[str, Any]
    signature: bytes


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that AWS saw and we did not mediate (core.reconcile). `id` is a hash of what it is about."""

    id: str
    kind: str
    subject: str
    first_at: datetime
    last_at: datetime
    document: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far something has read: an export of the audit log, a job that looks at AWS."""

    name: str
    positions: Mapping[str, Any]
    at: datetime
