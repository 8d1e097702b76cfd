"""S3: what a request does besides what its operation is called.

AWS: "Required permissions for Amazon S3 API operations"; "Condition keys for Amazon S3"; the pages of the API reference
for each operation. An access point and a directory bucket have ARNs that a bucket's name does not tell: unknown.
"""

import re
from collections.abc import Iterator
from typing import Any

from gateway.core.actions.ask import Ask, Context
from gateway.core.actions.call import Need
from gateway.core.actions.passing import pass_role
from gateway.core.actions.rules.s3_context import context_of, tagging_of
from gateway.core.actions.rules.s3_names import COPYING, ON_BUCKET, ON_OBJECT, WRITING
from gateway.core.actions.rules.s3_source import Source, source_of
from gateway.core.errors import Refusal

# "Bucket naming rules", and the older ones of us-east-1; the ends that mark what is no bucket.
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{2,254}")
_OTHERS = ("-s3alias", "--ol-s3", "--x-s3", ".mrap", "--table-s3")


def needs(ask: Ask) -> tuple[Need, ...]:
    """What a call to S3 takes."""
    operation = ask.operation
    context = context_of(ask)
    if operation == "ListBuckets":
        return (Need("s3:ListAllMyBuckets", "*", context),)
    if operation == "DeleteObjects":
        return tuple(_deletions(ask, context))
    if operation in ON_OBJECT:
        return tuple(_on_object(ask, operation, context))
    if operation in ON_BUCKET:
        return tuple(_on_bucket(ask, operation, context))
    return (Need(None, None, context),)  # what is left is of S3 Express, Object Lambda, or unknown


def _on_object(ask: Ask, operation: str, context: Context) -> Iterator[Need]:
    version = ask.member("VersionId")
    resource = _object(ask, ask.member("Bucket"), ask.member("Key"))
    plain, versioned = ON_OBJECT[operation]
    own = "PutObject" if operation in COPYING else versioned if version is not None else plain
    tagging = tagging_of(ask)
    yield Need(f"s3:{own}", resource, {**context, **tagging})
    for action in _besides(ask, operation, version is not None):
        yield Need(f"s3:{action}", resource, {**context, **tagging})
    if operation in COPYING:
        yield from _from_source(ask, operation, context)
    if operation == "RestoreObject" and "OutputLocation" in str(ask.member("RestoreRequest")):
        yield Need("s3:PutObject", None, context)  # "SELECT … writes the results" to another bucket


def _besides(ask: Ask, operation: str, versioned: bool) -> Iterator[str]:
    """The actions that headers add. (API reference: PutObject, CopyObject, DeleteObject: "Permissions".)"""
    if operation == "GetObjectAttributes":
        yield "GetObjectVersion" if versioned else "GetObject"
    if operation in WRITING:
        if ask.header("x-amz-tagging") is not None or ask.header("x-amz-tagging-directive") is not None:
            yield "PutObjectTagging"
        if ask.header("x-amz-acl") is not None or ask.headers("x-amz-grant-"):
            yield "PutObjectAcl"
        if ask.headers("x-amz-object-lock-legal-hold"):
            yield "PutObjectLegalHold"
        if ask.headers("x-amz-object-lock-mode") or ask.headers("x-amz-object-lock-retain-until-date"):
            yield "PutObjectRetention"
    if operation in ("DeleteObject", "PutObjectRetention") and _bypasses(ask):
        yield "BypassGovernanceRetention"


def _from_source(ask: Ask, operation: str, context: Context) -> Iterator[Need]:
    """What a copy takes where it comes from. Tags are asked for when the request says that they come along; whether an
    object has any, only S3 knows, and then it asks for itself."""
    source: Source = source_of(ask)
    resource = _object(ask, source.bucket, source.key)
    version: Context = {"s3:versionid": source.version} if source.version is not None else {}
    read = {key: value for key, value in context.items() if key in _OF_EVERY_CALL} | dict(version)
    yield Need("s3:GetObject" if source.version is None else "s3:GetObjectVersion", resource, read)
    if operation == "CopyObject" and (ask.header("x-amz-tagging-directive") or "").upper() == "COPY":
        yield Need("s3:GetObjectTagging" if source.version is None else "s3:GetObjectVersionTagging", resource, read)


_OF_EVERY_CALL = frozenset({"s3:authtype", "s3:signatureversion", "s3:x-amz-content-sha256"})


def _deletions(ask: Ask, context: Context) -> Iterator[Need]:
    """One need for each key in the body, and another where governance is bypassed."""
    wanted: Any = ask.member("Delete")
    objects = wanted.get("Objects") if isinstance(wanted, dict) else None
    if not isinstance(objects, list) or not objects:
        raise Refusal("call_malformed", "DeleteObjects names no object", reason="nothing_to_delete")
    bypasses = _bypasses(ask)
    for each in objects:
        key, version = (each.get("Key"), each.get("VersionId")) if isinstance(each, dict) else (None, None)
        resource = _object(ask, ask.member("Bucket"), key)
        own: Context = {**context, "s3:versionid": str(version)} if version is not None else context
        yield Need("s3:DeleteObject" if version is None else "s3:DeleteObjectVersion", resource, own)
        if bypasses:
            yield Need("s3:BypassGovernanceRetention", resource, own)


def _on_bucket(ask: Ask, operation: str, context: Context) -> Iterator[Need]:
    resource = _bucket(ask, ask.member("Bucket"))
    yield Need(f"s3:{ON_BUCKET[operation]}", resource, {**context, **tagging_of(ask)})
    if operation == "CreateBucket":
        for action in _of_new_bucket(ask):
            yield Need(f"s3:{action}", resource, context)
    if operation == "PutBucketReplication":
        wanted = ask.member("ReplicationConfiguration")
        role = wanted.get("Role") if isinstance(wanted, dict) else None
        yield pass_role(ask, role if isinstance(role, str) else "", "s3")


def _of_new_bucket(ask: Ask) -> Iterator[str]:
    """API reference, CreateBucket: "Permissions"."""
    wanted = ask.member("CreateBucketConfiguration")
    if isinstance(wanted, dict) and wanted.get("Tags"):
        yield "TagResource"
    if ask.header("x-amz-acl") is not None or ask.headers("x-amz-grant-"):
        yield "PutBucketAcl"
    if ask.header("x-amz-object-ownership") is not None:
        yield "PutBucketOwnershipControls"
    if (ask.header("x-amz-bucket-object-lock-enabled") or "false").lower() != "false":
        yield from ("PutBucketObjectLockConfiguration", "PutBucketVersioning")


def _bypasses(ask: Ask) -> bool:
    return (ask.header("x-amz-bypass-governance-retention") or "false").lower() != "false"


def _bucket(ask: Ask, name: object) -> str | None:
    if not isinstance(name, str) or not _BUCKET.fullmatch(name) or name.endswith(_OTHERS):
        return None
    return f"arn:{ask.partition}:s3:::{name}"


def _object(ask: Ask, bucket: object, key: object) -> str | None:
    arn = _bucket(ask, bucket)
    return f"{arn}/{key}" if arn and isinstance(key, str) and key else None
