"""IAM, by boto3: the policy that fences sessions off, and the access keys of upstream users.

Calls go through `adapters.aws`: its time limits, its breakers, its bulkhead. A key opens for each signature.
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote

import botocore.session

from gateway.adapters.aws import Aws, aware, understood
from gateway.core.errors import Refusal
from gateway.ports import OpenableKey
from gateway.wire.secret import Secret

# AWS: "IAM and AWS STS quotas": versions of one managed policy.
MOST_VERSIONS = 5
_GONE = "NoSuchEntity"
_KINDS = {"role": ("RoleName", "PolicyRoles"), "user": ("UserName", "PolicyUsers")}


class Iam:
    """`ports.Policies` and `ports.AccessKeys`."""

    def __init__(self, aws: Aws) -> None:
        self._aws = aws

    @property
    def partition(self) -> str:
        """AWS's name of the part of itself that we talk to, as it stands in ARNs."""
        return str(botocore.session.Session().get_partition_for_region(self._aws.home_region))

    @understood()
    def document(self, caller: OpenableKey, arn: str) -> str | None:
        """GetPolicy and GetPolicyVersion (AWS: the document is URL-encoded, RFC 3986; botocore parses it)."""
        found = self._unless_gone(caller, "get_policy", PolicyArn=arn)
        if found is None:
            return None
        version = found["Policy"]["DefaultVersionId"]
        answer = self._call(caller, "get_policy_version", PolicyArn=arn, VersionId=version)["PolicyVersion"]["Document"]
        return _text(answer)

    @understood()
    def put(self, caller: OpenableKey, arn: str, document: str) -> None:
        """CreatePolicy, or CreatePolicyVersion with SetAsDefault."""
        versions = self._unless_gone(caller, "list_policy_versions", PolicyArn=arn)
        if versions is None:
            path, _, name = arn.partition(":policy")[2].rpartition("/")
            self._call(caller, "create_policy", PolicyName=name, Path=f"{path}/", PolicyDocument=document)
            return
        others = [each for each in versions["Versions"] if not each["IsDefaultVersion"]]
        if len(versions["Versions"]) >= MOST_VERSIONS:
            oldest = min(others, key=lambda each: int(each["VersionId"].removeprefix("v")))
            self._unless_gone(caller, "delete_policy_version", PolicyArn=arn, VersionId=oldest["VersionId"])
        self._call(caller, "create_policy_version", PolicyArn=arn, PolicyDocument=document, SetAsDefault=True)

    @understood()
    def attached(self, caller: OpenableKey, arn: str) -> frozenset[str]:
        """ListEntitiesForPolicy, all pages."""
        found: set[str] = set()
        more: dict[str, Any] = {}
        while True:
            answer = self._unless_gone(caller, "list_entities_for_policy", PolicyArn=arn, **more)
            if answer is None:
                return frozenset()
            for kind, (name, entities) in _KINDS.items():
                found |= {f"{kind}/{each[name]}" for each in answer.get(entities, ())}
            if not answer.get("IsTruncated"):
                return frozenset(found)
            more = {"Marker": answer["Marker"]}

    @understood()
    def attach(self, caller: OpenableKey, arn: str, to: str) -> bool:
        """AttachRolePolicy, AttachUserPolicy."""
        kind, _, name = to.partition("/")
        return self._unless_gone(caller, f"attach_{kind}_policy", PolicyArn=arn, **{_KINDS[kind][0]: name}) is not None

    @understood()
    def detach(self, caller: OpenableKey, arn: str, of: str) -> None:
        """DetachRolePolicy, DetachUserPolicy."""
        kind, _, name = of.partition("/")
        self._unless_gone(caller, f"detach_{kind}_policy", PolicyArn=arn, **{_KINDS[kind][0]: name})

    @understood()
    def user(self, caller: OpenableKey, access_key_id: str) -> str:
        """GetAccessKeyLastUsed."""
        return str(self._call(caller, "get_access_key_last_used", AccessKeyId=access_key_id)["UserName"])

    @understood()
    def last_used(self, caller: OpenableKey, access_key_id: str) -> datetime | None:
        """GetAccessKeyLastUsed; a key that was never used has no date."""
        found = self._unless_gone(caller, "get_access_key_last_used", AccessKeyId=access_key_id)
        when = found["AccessKeyLastUsed"].get("LastUsedDate") if found else None
        return aware(when).astimezone(UTC) if when else None

    @understood()
    def ids(self, caller: OpenableKey, user: str) -> list[str]:
        """ListAccessKeys: a user has two at most, so there is one page."""
        answer = self._call(caller, "list_access_keys", UserName=user)
        return [str(each["AccessKeyId"]) for each in answer["AccessKeyMetadata"]]

    @understood()
    def create(self, caller: OpenableKey, user: str) -> tuple[str, Secret]:
        """CreateAccessKey."""
        made = self._call(caller, "create_access_key", UserName=user)["AccessKey"]
        return str(made["AccessKeyId"]), Secret(made["SecretAccessKey"])

    @understood()
    def deactivate(self, caller: OpenableKey, user: str, access_key_id: str) -> None:
        """UpdateAccessKey."""
        self._unless_gone(caller, "update_access_key", UserName=user, AccessKeyId=access_key_id, Status="Inactive")

    @understood()
    def delete(self, caller: OpenableKey, user: str, access_key_id: str) -> None:
        """DeleteAccessKey."""
        self._unless_gone(caller, "delete_access_key", UserName=user, AccessKeyId=access_key_id)

    def _call(self, caller: OpenableKey, operation: str, **arguments: Any) -> Any:
        return self._aws.call(caller, "iam", self._aws.home_region, operation, arguments)

    def _unless_gone(self, caller: OpenableKey, operation: str, **arguments: Any) -> Any:
        """The answer; None when what it is about is not there."""
        try:
            return self._call(caller, operation, **arguments)
        except Refusal as refusal:
            if refusal.context.get("aws_code") == _GONE:
                return None
            raise


def _text(document: Any) -> str:
    """As it was written, without white space: botocore gives the document parsed, or else its URL-encoded text."""
    parsed = document if isinstance(document, Mapping) else json.loads(unquote(document))
    return json.dumps(parsed, separators=(",", ":"))
