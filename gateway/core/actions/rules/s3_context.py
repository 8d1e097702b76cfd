"""The condition keys that a call to S3 brings. AWS: "Condition keys for Amazon S3", "Bucket policy examples using
condition keys".

Absent here is what only S3 knows (s3:ExistingObjectTag, s3:ResourceAccount) or what needs a clock (s3:signatureAge).
"""

from typing import Any
from urllib.parse import parse_qsl

from gateway.core.actions.ask import Ask, Context
from gateway.core.actions.rules.s3_names import COPYING, KEYS, LISTING, RENAMED
from gateway.core.actions.rules.s3_source import source_of
from gateway.core.errors import Refusal

_LIST_KEYS = {"Prefix": "s3:prefix", "Delimiter": "s3:delimiter", "MaxKeys": "s3:max-keys"}


def context_of(ask: Ask) -> Context:
    """The keys of the whole call, in lower case."""
    out: dict[str, str | tuple[str, ...]] = {
        "s3:authtype": "REST-QUERY-STRING" if ask.has_query("X-Amz-Algorithm") else "REST-HEADER",
        "s3:signatureversion": "AWS4-HMAC-SHA256",
        "s3:x-amz-content-sha256": ask.request.payload_sha256,
    }
    out |= {f"s3:{name}": value for name, value in ask.among(KEYS).items()}
    out |= {f"s3:{RENAMED[name]}": value for name, value in ask.among(RENAMED).items()}
    if ask.operation in LISTING:
        out |= {key: str(value) for name, key in _LIST_KEYS.items() if (value := ask.member(name)) is not None}
    if (version := ask.member("VersionId")) is not None:
        out["s3:versionid"] = str(version)
    if ask.operation in COPYING:
        source = source_of(ask)
        if source.bucket is not None:  # as policies write it: without the slash before it, and decoded
            out["s3:x-amz-copy-source"] = f"{source.bucket}/{source.key}"
    if ask.operation == "CreateBucket":
        wanted = ask.member("CreateBucketConfiguration")
        place = wanted.get("LocationConstraint") if isinstance(wanted, dict) else None
        out |= {"s3:locationconstraint": place} if isinstance(place, str) else {}
    return out


def tagging_of(ask: Ask) -> Context:
    """`s3:RequestObjectTag/…` and its keys, of the header `x-amz-tagging` or of the body of PutObjectTagging."""
    if ask.operation == "PutObjectTagging":
        pairs = _in_body(ask.member("Tagging"))
    elif (written := ask.header("x-amz-tagging")) is not None:
        try:
            pairs = parse_qsl(written, keep_blank_values=True, strict_parsing=bool(written), errors="strict")
        except ValueError:
            raise Refusal("call_malformed", "x-amz-tagging is no list of tags", reason="tagging") from None
    else:
        return {}
    keys = tuple(key for key, _ in pairs)
    if len({key.lower() for key in keys}) != len(keys):
        raise Refusal("call_ambiguous", "A tag is there twice", reason="duplicate_tag")
    named = {f"s3:requestobjecttag/{key.lower()}": value for key, value in pairs}
    return {**named, "s3:requestobjecttagkeys": keys} if keys else {}


def _in_body(tagging: Any) -> list[tuple[str, str]]:
    tags = tagging.get("TagSet") if isinstance(tagging, dict) else None
    found = [each for each in tags if isinstance(each, dict)] if isinstance(tags, list) else []
    return [(str(each.get("Key", "")), str(each.get("Value", ""))) for each in found]
