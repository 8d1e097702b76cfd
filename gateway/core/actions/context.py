"""The condition keys that the gateway knows of every call. Pure.

AWS: "AWS global condition context keys". What only AWS knows (tags of a resource, the organisation) is absent here; the
session that signs has the very policy that is decided by, so AWS decides about that.
"""

from collections.abc import Mapping
from datetime import datetime

from gateway.core.actions.call import AwsRequest
from gateway.core.model import Instance, SessionRequest
from gateway.wire.messages import instant

# botocore: data/partitions.json, `regionRegex`.
_PARTITIONS = (
    ("cn-", "aws-cn"), ("us-gov-", "aws-us-gov"), ("us-iso-", "aws-iso"), ("us-isob-", "aws-iso-b"),
    ("us-isof-", "aws-iso-f"), ("eu-isoe-", "aws-iso-e"), ("eusc-", "aws-eusc"),
)  # fmt: skip

Context = Mapping[str, str | tuple[str, ...]]


def context_of(
    instance: Instance, session: SessionRequest, account: str, request: AwsRequest, source: str | None, now: datetime
) -> dict[str, str | tuple[str, ...]]:
    """The keys, in lower case. Where the instance is was attested; `source` is where it was not."""
    claims = instance.claims
    partition = partition_of(request.region)
    found: dict[str, str | tuple[str, ...] | None] = {
        "aws:currenttime": instant(now),
        "aws:epochtime": str(int(now.timestamp())),
        "aws:securetransport": "true",
        "aws:requestedregion": request.region,
        "aws:sourceip": claims.get("public_ip") or source,
        "aws:vpcsourceip": claims.get("private_ip"),
        "aws:sourcevpc": claims.get("vpc"),
        "aws:useragent": dict(request.headers).get("user-agent"),
        "aws:viaawsservice": "false",
        "aws:principalisawsservice": "false",
        "aws:principalaccount": account,
        "aws:principaltype": "AssumedRole" if session.role else "FederatedUser",
        "aws:principalarn": session.role or f"arn:{partition}:sts::{account}:federated-user/{session.session_name}",
        "aws:sourceidentity": session.source_identity,
        **{f"aws:principaltag/{key.lower()}": value for key, value in session.tags.items()},
    }
    return {key: value for key, value in found.items() if value}


def partition_of(region: str) -> str:
    """The partition of a region. AWS: "Amazon Resource Names (ARNs)"."""
    return next((partition for prefix, partition in _PARTITIONS if region.startswith(prefix)), "aws")
