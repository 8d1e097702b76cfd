"""Writes audit_formats.json: audit records as OCSF and ECS have them, for a reader to compare and a test to hold to.

`python -m tests.vectors.audit_formats`. What a schema demands is not asked of our own code: tests/vectors/ocsf.json and
ecs.json are reduced from the published ones.
"""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gateway.core.audit import Event, Head, Kind, Name, append
from gateway.core.audit_formats import ecs, ocsf

PLACE = Path(__file__).with_suffix(".json")
AT = datetime(2030, 1, 1, 12, 0, 0, 250_001, tzinfo=UTC)
MACHINE = "spiffe://td/aws/111122223333/us-east-1/i-0123456789abcdef0"
ALICE, BOB = "spiffe://td/operator/alice", "spiffe://td/operator/bob"
ID = "0a1b2c3d-0000-4000-8000-000000000001"

# One of each class, both ways of a decision, and each kind; the last has what an attacker would put into a record.
EVENTS = (
    Event(Kind.DECISION, Name.INSTANCE_CREDENTIALS_VEND, True, "ok", ID, MACHINE, "grant/reports", "10.0.0.9"),
    Event(Kind.INTENT, Name.INSTANCE_CREDENTIALS_VEND, True, "asked", ID, MACHINE, "grant/reports", "10.0.0.9"),
    Event(
        Kind.OUTCOME, Name.INSTANCE_CREDENTIALS_VEND, False, "aws_refused", ID, MACHINE, "grant/reports", "10.0.0.9",
        {"code": "upstream_refused", "aws_request_id": "a-1", "aws_status": 403},
    ),
    Event(Kind.DECISION, Name.INSTANCE_SESSION_CREATE, True, "ok", ID, MACHINE, MACHINE, "2001:db8::1"),
    Event(
        Kind.DECISION, Name.INSTANCE_REQUEST_REFUSE, False, "not_found", ID, None, None, "192.0.2.1",
        {"code": "not_found"},
    ),
    Event(Kind.DECISION, Name.OPERATOR_INSTANCE_REVOKE, True, "ok", ID, ALICE, MACHINE, "10.0.0.2"),
    Event(Kind.DECISION, Name.OPERATOR_INSTANCE_LIST, True, "ok", ID, ALICE, None, "10.0.0.2"),
    Event(Kind.DECISION, Name.OPERATOR_OPERATOR_ADD, True, "ok", ID, ALICE, "operator/bob", "10.0.0.2"),
    Event(Kind.DECISION, Name.OPERATOR_OPERATOR_REVOKE, True, "ok", ID, ALICE, BOB, "10.0.0.2"),
    Event(
        Kind.DECISION, Name.OPERATOR_PROFILE_APPLY, False, "permission_missing", ID, BOB, "profile/web", "10.0.0.2",
        {"code": "operator_forbidden"},
    ),
    Event(Kind.DECISION, Name.OPERATOR_KEY_IMPORT, True, "ok", ID, None, "upstream_key/main", None),
    Event(Kind.FACT, Name.GATEWAY_WORKER_START, True, "ok", ID),
    Event(Kind.FACT, Name.GATEWAY_CRL_PUBLISH, True, "ok", ID, facts={"number": 7, "issuer": "instances"}),
    Event(Kind.FACT, Name.INSTANCE_KEY_MISUSE, False, "dummy_key_elsewhere", ID, MACHINE, "key/k1", "192.0.2.1"),
    Event(
        Kind.DECISION, Name.INSTANCE_REQUEST_REFUSE, False, "malformed_request", ID, None,
        "a\r\n\x1b[2J\u202e\u2028", "", {"code": "malformed_request", "said": '"},{"', "long": "x" * 80},
    ),
)  # fmt: skip


def vectors() -> list[dict[str, Any]]:
    """The records, chained, and both forms of each."""
    found: list[dict[str, Any]] = []
    head: Head | None = None
    for event in EVENTS:
        record = append(head, "node-1.worker-0", event, AT)
        head = Head(record.chain, record.seq, record.hash, record.at)
        found.append(
            {"line": record.line, "hash": record.hash, "ocsf": ocsf(record.line, record.hash),
             "ecs": ecs(record.line, record.hash)}
        )  # fmt: skip
    return found


if __name__ == "__main__":
    PLACE.write_text(json.dumps(vectors(), indent=1, ensure_ascii=True) + "\n")
