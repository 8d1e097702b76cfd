"""Rows to test decisions with."""

from datetime import UTC, datetime, timedelta

from gateway.core.model import Certificate, Instance, InstanceState, Lease, Ticket

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
KEY, OTHER_KEY = "a" * 64, "b" * 64
ID = "spiffe://td/aws/111122223333/us-east-1/i-0abc0abc"

TICKET = Ticket("f" * 64, "t-1", "web", None, NOW, "spiffe://td/operator/alice", NOW + timedelta(minutes=15))
INSTANCE = Instance(ID, "111122223333", "us-east-1", "i-0abc0abc", "web", InstanceState.ENROLLED, KEY, NOW, {})
CERTIFICATE = Certificate(
    "1f", "instances", "instance", ID, "c" * 64, b"der", KEY, NOW - timedelta(minutes=5), NOW + timedelta(hours=24)
)
LEASE = Lease(
    "l1", ID, "web", "reports", "main", "arn:aws:iam::111122223333:role/r", "i-0abc0abc", "ASIA", NOW,
    NOW + timedelta(hours=1),
)  # fmt: skip
