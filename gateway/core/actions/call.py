"""The nouns of a call: a request to AWS, the operation that it is, and what it takes to be allowed. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, repr=False)
class AwsRequest:
    """A request to AWS as its bytes are: nothing in it is decoded, normalised or reordered.

    `service` and `region` are of the verified credential scope: the signing name, not botocore's. `headers` have names
    in lower case and values without outer blanks, in the order in which they came. `payload_sha256` is hex, or one of
    the words that S3 takes instead. `body` is None when it was not seen. `host_bucket` is the bucket that the host
    names (virtual-hosted style), None with the bucket in the path or none at all.
    """

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    service: str
    region: str
    payload_sha256: str
    body: bytes | None = None
    host_bucket: str | None = None

    @property
    def path(self) -> str:
        """The target before the first `?`."""
        return self.target.partition("?")[0]

    @property
    def query(self) -> str:
        """The target behind the first `?`."""
        return self.target.partition("?")[2]


@dataclass(frozen=True, slots=True)
class Routed:
    """Which operation a request is.

    `service` is botocore's name for it; `operation` its name in botocore's model, None when no model knows it.
    `protocol` is of botocore's words (query, ec2, json, rest-json, rest-xml, smithy-rpc-v2-cbor). `members` are the
    top-level input members that could be read, by their names in the model; `unread` the names of those that a body
    would hold which was not seen. `host_prefix` goes before the service's host (botocore: `endpoint.hostPrefix`).
    """

    service: str
    operation: str | None
    protocol: str
    members: Mapping[str, Any]
    unread: frozenset[str] = frozenset()
    host_prefix: str = ""


@dataclass(frozen=True, slots=True)
class Need:
    """One thing that has to be allowed for a call. A call is allowed when each of its needs is.

    `action` as IAM writes it (`s3:GetObject`), None when it cannot be known. `resource` is an ARN, or `*` for an action
    that IAM has no resource types for; None when there is one that cannot be known. `context` holds the condition keys
    that this need brings (lower case), beside those of the whole call.
    """

    action: str | None
    resource: str | None
    context: Mapping[str, str | tuple[str, ...]]
