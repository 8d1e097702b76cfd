"""One row of each kind, an audit event, and a clock that stands still until it is told."""

from datetime import UTC, datetime, timedelta
from typing import Any

from gateway.core.audit import Event, Kind, Name
from gateway.core.model import (
    BearerToken,
    Certificate,
    CertificateState,
    Crl,
    Flight,
    Instance,
    InstanceState,
    Lease,
    Nonce,
    Profile,
    ProfileVersion,
    SealRecord,
    Signer,
    Ticket,
    UpstreamKey,
)
from gateway.core.operator_model import (
    Approval,
    ApprovalState,
    Checkpoint,
    Cursor,
    Cut,
    Fence,
    Finding,
    KeptAnswer,
    Launch,
    Operator,
    OperatorState,
    PlanState,
    Revocation,
    Role,
    Rotation,
)

NOW = datetime(2026, 11, 23, 12, 0, 0, 123456, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)


class SetClock:
    """Says the time that was set."""

    def __init__(self, now: datetime = NOW) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now


def event(request_id: str = "r-1", kind: Kind = Kind.DECISION, **facts: Any) -> Event:
    return Event(kind, Name.INSTANCE_CREDENTIALS_VEND, True, "ok", request_id, facts=facts)


def ticket(key: str = "t-1", **fields: Any) -> Ticket:
    known = {"profile": "web", "instance_id": None, "created_at": NOW, "created_by": "ann", "expires_at": LATER}
    return Ticket(sha256=key, **{"id": f"id-{key}"} | known | fields)


def instance(key: str = "i-1", **fields: Any) -> Instance:
    known: dict[str, Any] = {
        "account": "123456789012",
        "region": "eu-west-1",
        "instance_id": key,
        "profile": "web",
        "state": InstanceState.ENROLLED,
        "key_sha256": "ab" * 32,
        "enrolled_at": NOW,
        "claims": {"image": "ami-1", "tags": ["b", "a"], "depth": {"ö": 1.5, "n": None}},
    }
    return Instance(id=f"spiffe://trusted-gateway.internal/aws/{key}", **known | fields)


def lease(key: str = "l-1", **fields: Any) -> Lease:
    names = ("instance", "profile", "grant", "upstream", "role", "session_name", "access_key_id")
    known: dict[str, Any] = {name: f"{name} of {key}" for name in names} | {"issued_at": NOW, "expires_at": LATER}
    return Lease(id=key, **known | fields)


CERTIFICATE = Certificate(
    "0a1b", "instances", "instance", "spiffe://x", "cd" * 32, b"\x30\x00\xff", "ab" * 32, NOW, LATER,
    CertificateState.REVOKED, "0a1c", LATER, "key_compromise",
)  # fmt: skip


def operator(name: str = "ann", **fields: Any) -> Operator:
    known: dict[str, Any] = {"document": {"roles": ["auditor"]}, "version": 1, "state": OperatorState.ACTIVE}
    return Operator(name, **known | {"created_at": NOW, "created_by": "bob"} | fields)


# The field of the transaction that holds the kind, and a row with every field set.
ROWS: dict[str, Any] = {
    "seals": SealRecord("primary", "passphrase", {"n": 2**15, "salt": "ff"}, b"\x00wrapped"),
    "signers": Signer("root", b"der", b""),
    "upstream_keys": UpstreamKey("main", "123456789012", "AKIDEXAMPLE", b"sealed", NOW, "ann"),
    "profiles": Profile("web", 3, {"grants": [{"name": "s3", "policy": {"Version": "2012-10-17"}}]}, NOW, "ann"),
    "tickets": ticket(instance_id="i-1", redeemed_by="spiffe://x", key_sha256="ab", serial="0a1b"),
    "instances": instance(reenroll_until=LATER, revoked_at=NOW, revoked_by="ann"),
    "certificates": CERTIFICATE,
    "nonces": Nonce("ef" * 32, LATER),
    "leases": lease(plan_sha256="ab" * 32, sealed_session=b"\x01sealed"),
    "flights": Flight("ab" * 32, "l-1", LATER),
    "bearer_tokens": BearerToken("cd" * 32, "0a1b", "spiffe://x", NOW, LATER),
    "profile_versions": ProfileVersion("web/00000003", "web", 3, {"grants": []}, NOW, "ann"),
    "operators": operator(revoked_at=LATER, revoked_by="bob"),
    "roles": Role("night", {"permissions": ["operator:*:revoke"]}, 2, NOW, "ann"),
    "approvals": Approval(
        "a-1",
        "operator:key:rotate",
        "key/main",
        "ab" * 32,
        {"path": "/v1/keys/main/rotate"},
        "ann",
        NOW,
        LATER,
        ApprovalState.GIVEN,
        {"bob": "2026-11-23T12:00:00Z"},
    ),
    "answers": KeptAnswer("ann/1", "ab" * 32, 201, b"\x01sealed", NOW, LATER),
    "revocations": Revocation("r-1", "instance", "i-1", "ann", NOW, PlanState.RUNNING, {"layers": {"crl": "done"}}),
    "cuts": Cut("c-1", "123456789012", "arn:aws:iam::123456789012:role/r", "instance", "i-1", NOW, LATER, "r-1"),
    "fences": Fence("123456789012", "arn:aws:iam::123456789012:policy/f", "ab" * 32, {"roles": ["r"]}, NOW),
    "rotations": Rotation("o-1", "main", "ann", NOW, PlanState.DONE, {"steps": []}),
    "launches": Launch("aws/1/r/i-1", "1", "r", "i-1", "web", "t-1", "ann", NOW),
    "checkpoints": Checkpoint("000000000001", NOW, 7, "ab" * 32, {"heads": {}}, b"\x01signed"),
    "findings": Finding("ab" * 32, "session_elsewhere", "i-1", NOW, LATER, {"events": 3}),
    "cursors": Cursor("syslog", {"node.worker-0": 7}, NOW),
    "crls": Crl("instances", 2**40, NOW, LATER, b"crl"),
}
