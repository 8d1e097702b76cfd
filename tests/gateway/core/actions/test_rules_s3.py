"""S3: each operation's action, and what headers, versions, sources and bodies add. The side doors of F04."""

import gzip
import json
from pathlib import Path
from typing import Any

import botocore
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.actions.rules import s3_names
from gateway.core.errors import Refusal
from tests.gateway.core.actions.asking import needed, pairs

OBJECT = {"Bucket": "bkt", "Key": "a/b"}
ARN = "arn:aws:s3:::bkt/a/b"


def on(operation: str, members: dict[str, Any] | None = None, **kwargs: Any) -> list[tuple[str | None, str | None]]:
    return pairs(needed("s3", operation, {**OBJECT, **(members or {})}, **kwargs))


@pytest.mark.parametrize(
    ("operation", "members", "actions"),
    [
        ("GetObject", {}, ["s3:GetObject"]),
        ("GetObject", {"VersionId": "v"}, ["s3:GetObjectVersion"]),
        ("GetObject", {"VersionId": "null"}, ["s3:GetObjectVersion"]),
        ("HeadObject", {}, ["s3:GetObject"]),
        ("HeadObject", {"VersionId": "v"}, ["s3:GetObjectVersion"]),
        ("GetObjectTorrent", {}, ["s3:GetObjectTorrent"]),
        ("GetObjectAcl", {}, ["s3:GetObjectAcl"]),
        ("GetObjectAcl", {"VersionId": "v"}, ["s3:GetObjectVersionAcl"]),
        ("GetObjectTagging", {"VersionId": "v"}, ["s3:GetObjectVersionTagging"]),
        ("GetObjectAttributes", {}, ["s3:GetObjectAttributes", "s3:GetObject"]),
        ("GetObjectAttributes", {"VersionId": "v"}, ["s3:GetObjectVersionAttributes", "s3:GetObjectVersion"]),
        ("SelectObjectContent", {}, ["s3:GetObject"]),
        ("PutObject", {}, ["s3:PutObject"]),
        ("UploadPart", {}, ["s3:PutObject"]),
        ("CreateMultipartUpload", {}, ["s3:PutObject"]),
        ("CompleteMultipartUpload", {}, ["s3:PutObject"]),
        ("AbortMultipartUpload", {}, ["s3:AbortMultipartUpload"]),
        ("ListParts", {}, ["s3:ListMultipartUploadParts"]),
        ("DeleteObject", {}, ["s3:DeleteObject"]),
        ("DeleteObject", {"VersionId": "v"}, ["s3:DeleteObjectVersion"]),
        ("PutObjectAcl", {"VersionId": "v"}, ["s3:PutObjectVersionAcl"]),
        ("PutObjectRetention", {}, ["s3:PutObjectRetention"]),
        ("RestoreObject", {"RestoreRequest": {"Days": "1"}}, ["s3:RestoreObject"]),
    ],
)
@pytest.mark.threat("F04")
def test_what_an_operation_on_an_object_takes(operation: str, members: dict[str, Any], actions: list[str]) -> None:
    assert on(operation, members) == [(action, ARN) for action in actions]


@pytest.mark.parametrize(
    ("operation", "action"),
    [
        ("HeadBucket", "s3:ListBucket"),
        ("ListObjects", "s3:ListBucket"),
        ("ListObjectsV2", "s3:ListBucket"),
        ("ListObjectVersions", "s3:ListBucketVersions"),
        ("ListMultipartUploads", "s3:ListBucketMultipartUploads"),
        ("GetBucketPolicy", "s3:GetBucketPolicy"),
        ("PutBucketPolicy", "s3:PutBucketPolicy"),
        ("DeleteBucketCors", "s3:PutBucketCORS"),
        ("GetBucketLifecycleConfiguration", "s3:GetLifecycleConfiguration"),
        ("DeleteBucketLifecycle", "s3:PutLifecycleConfiguration"),
        ("DeletePublicAccessBlock", "s3:PutBucketPublicAccessBlock"),
        ("ListBucketInventoryConfigurations", "s3:GetInventoryConfiguration"),
        ("DeleteBucketMetricsConfiguration", "s3:PutMetricsConfiguration"),
        ("DeleteBucketWebsite", "s3:DeleteBucketWebsite"),
    ],
)
@pytest.mark.threat("F04")
def test_what_an_operation_on_a_bucket_takes(operation: str, action: str) -> None:
    assert pairs(needed("s3", operation, {"Bucket": "bkt"})) == [(action, "arn:aws:s3:::bkt")]


def test_every_operation_of_the_model_is_known_or_is_meant_to_be_unknown() -> None:
    path = Path(botocore.__file__).parent / "data" / "s3" / "2006-03-01"
    model = json.loads(next(_read(each) for each in path.iterdir() if each.name.startswith("service-2")))
    known = s3_names.ON_OBJECT.keys() | s3_names.ON_BUCKET.keys() | {"ListBuckets", "DeleteObjects"}
    unknown = {"CreateSession", "ListDirectoryBuckets", "RenameObject", "WriteGetObjectResponse"}
    assert set(model["operations"]) - known == unknown
    assert known - set(model["operations"]) == set()
    assert {on(each)[0] for each in unknown} == {(None, None)}


def _read(path: Path) -> bytes:
    return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()


@pytest.mark.parametrize(
    ("headers", "besides"),
    [
        ({}, []),
        ({"content-type": "text/plain", "x-amz-meta-acl": "x"}, []),
        ({"x-amz-acl": "public-read"}, ["s3:PutObjectAcl"]),
        ({"x-amz-grant-read": 'uri="http://acs.amazonaws.com/groups/global/AllUsers"'}, ["s3:PutObjectAcl"]),
        ({"x-amz-tagging": "a=b"}, ["s3:PutObjectTagging"]),
        ({"x-amz-object-lock-legal-hold": "ON"}, ["s3:PutObjectLegalHold"]),
        ({"x-amz-object-lock-mode": "GOVERNANCE"}, ["s3:PutObjectRetention"]),
        ({"x-amz-object-lock-retain-until-date": "2030-01-01T00:00:00Z"}, ["s3:PutObjectRetention"]),
    ],
)
@pytest.mark.parametrize("operation", ["PutObject", "CreateMultipartUpload"])
@pytest.mark.threat("F04")
def test_headers_of_a_write_take_actions_of_their_own(
    operation: str, headers: dict[str, str], besides: list[str]
) -> None:
    assert on(operation, headers=headers) == [(action, ARN) for action in ["s3:PutObject", *besides]]
    assert on("UploadPart", headers=headers) == [("s3:PutObject", ARN)]  # S3 reads none of them there


@pytest.mark.threat("F04")
def test_what_stands_in_the_query_counts_as_a_header() -> None:
    assert on("PutObject", target="/bkt/a/b?X-Amz-Acl=public-read") == [("s3:PutObject", ARN), ("s3:PutObjectAcl", ARN)]
    assert on("PutObject", target="/bkt/a/b?%58-amz-acl=public-read")[1:] == [("s3:PutObjectAcl", ARN)]
    with pytest.raises(Refusal) as refused:
        on("PutObject", target="/bkt/a/b?x-amz-acl=private", headers={"x-amz-acl": "public-read"})
    assert (refused.value.code, refused.value.reason) == ("call_ambiguous", "duplicate_header")


@pytest.mark.threat("E04")
def test_a_header_that_decides_is_there_once() -> None:
    with pytest.raises(Refusal, match="twice"):
        on("PutObject", headers={"x-amz-acl": "private"}, twice=(("x-amz-acl", "public-read"),))
    assert on("PutObject", headers={"via": "a"}, twice=(("via", "b"),)) == [("s3:PutObject", ARN)]


@pytest.mark.parametrize("operation", ["DeleteObject", "PutObjectRetention"])
@pytest.mark.threat("F04")
def test_to_bypass_governance_is_an_action(operation: str) -> None:
    bypass = ("s3:BypassGovernanceRetention", ARN)
    assert bypass in on(operation, headers={"x-amz-bypass-governance-retention": "true"})
    assert bypass not in on(operation, headers={"x-amz-bypass-governance-retention": "false"})
    assert bypass not in on(operation)


# Copies


def copied(source: str, operation: str = "CopyObject", **headers: str) -> list[tuple[str | None, str | None]]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return on(operation, headers={"x-amz-copy-source": source, **named})


@pytest.mark.parametrize(
    ("source", "need"),
    [
        ("other/k", ("s3:GetObject", "arn:aws:s3:::other/k")),
        ("/other/k", ("s3:GetObject", "arn:aws:s3:::other/k")),
        ("other/a%20b/c", ("s3:GetObject", "arn:aws:s3:::other/a b/c")),
        ("other%2Fk", ("s3:GetObject", "arn:aws:s3:::other/k")),
        ("other/a%252Fb", ("s3:GetObject", "arn:aws:s3:::other/a%2Fb")),  # once, not twice
        ("other/k?versionId=v.1", ("s3:GetObjectVersion", "arn:aws:s3:::other/k")),
        ("other/k?versionId=null", ("s3:GetObjectVersion", "arn:aws:s3:::other/k")),
        ("other/k%3FversionId=v", ("s3:GetObject", "arn:aws:s3:::other/k?versionId=v")),
        ("other/*", ("s3:GetObject", "arn:aws:s3:::other/*")),
        ("other/a+b", ("s3:GetObject", None)),
        ("arn:aws:s3:eu-west-1:123456789012:accesspoint/ap/object/k", ("s3:GetObject", None)),
        ("arn%3Aaws%3As3%3Aeu-west-1%3A123456789012%3Aaccesspoint/ap/object/k", ("s3:GetObject", None)),
        ("my-ap-hrzrlukc5m36ft7okagglf3gmwluquse1b-s3alias/k", ("s3:GetObject", None)),
    ],
)
@pytest.mark.parametrize("operation", ["CopyObject", "UploadPartCopy"])
@pytest.mark.threat("F04")
def test_a_copy_reads_its_source(operation: str, source: str, need: tuple[str, str | None]) -> None:
    assert copied(source, operation) == [("s3:PutObject", ARN), need]


@pytest.mark.parametrize(
    "source",
    ["", "other", "other/", "/", "//other/k", "other/k?versionid=v", "other/k?versionId=", "other/k?versionId=a&x=b",
     "other/k?versionId=a?versionId=b", "other/k?acl", "other/%zz", "other/%", "other/%ff", "other/a%00b",
     "other/../bkt/k", "other/./k", "other/%2e%2e/k", "other/k?versionId=%76"],
)  # fmt: skip
@pytest.mark.threat("F04")
def test_a_source_that_can_be_read_in_two_ways_is_refused(source: str) -> None:
    with pytest.raises(Refusal) as refused:
        copied(source)
    assert refused.value.code in ("call_malformed", "call_ambiguous")


@pytest.mark.threat("F04")
def test_tags_and_acl_of_a_copy() -> None:
    read = ("s3:GetObject", "arn:aws:s3:::oth/k")
    assert copied("oth/k") == [("s3:PutObject", ARN), read]
    assert copied("oth/k", x_amz_tagging_directive="COPY") == [
        ("s3:PutObject", ARN), ("s3:PutObjectTagging", ARN), read, ("s3:GetObjectTagging", "arn:aws:s3:::oth/k"),
    ]  # fmt: skip
    assert copied("oth/k", x_amz_tagging_directive="REPLACE", x_amz_tagging="a=b") == [
        ("s3:PutObject", ARN), ("s3:PutObjectTagging", ARN), read,
    ]  # fmt: skip
    assert ("s3:PutObjectAcl", ARN) in copied("oth/k", x_amz_acl="public-read")


def test_headers_of_the_target_are_no_conditions_on_the_source() -> None:
    headers = {"x-amz-copy-source": "/oth/k%20k?versionId=v", "x-amz-acl": "private", "x-amz-storage-class": "GLACIER"}
    put, *_, get = needed("s3", "CopyObject", OBJECT, headers=headers)
    assert put.context["s3:x-amz-acl"] == "private"
    assert put.context["s3:x-amz-copy-source"] == "oth/k k"
    assert get.action == "s3:GetObjectVersion"
    assert "s3:x-amz-acl" not in get.context
    assert get.context["s3:versionid"] == "v"


# DeleteObjects


def deleted(objects: Any, **kwargs: Any) -> list[tuple[str | None, str | None]]:
    return pairs(needed("s3", "DeleteObjects", {"Bucket": "bkt", "Delete": {"Objects": objects}}, **kwargs))


@pytest.mark.threat("F04")
def test_each_key_in_the_body_is_decided_on() -> None:
    assert deleted([{"Key": "a"}, {"Key": "b", "VersionId": "v"}, {"Key": "*"}, {"Key": ""}, {"No": "key"}]) == [
        ("s3:DeleteObject", "arn:aws:s3:::bkt/a"),
        ("s3:DeleteObjectVersion", "arn:aws:s3:::bkt/b"),
        ("s3:DeleteObject", "arn:aws:s3:::bkt/*"),
        ("s3:DeleteObject", None),
    ]
    assert deleted([{"Key": "a"}], headers={"x-amz-bypass-governance-retention": "true"}) == [
        ("s3:DeleteObject", "arn:aws:s3:::bkt/a"),
        ("s3:BypassGovernanceRetention", "arn:aws:s3:::bkt/a"),
    ]


@pytest.mark.threat("F04")
def test_a_deletion_whose_body_was_not_seen_is_not_decided_on() -> None:
    with pytest.raises(Refusal) as refused:
        needed("s3", "DeleteObjects", {"Bucket": "bkt"}, unread=("Delete",))
    assert refused.value.code == "body_required"
    odd: list[Any] = [[], None, "a"]
    for nothing in odd:
        with pytest.raises(Refusal, match="names no object"):
            deleted(nothing)


@given(st.lists(st.text(min_size=1), min_size=1, max_size=20))
def test_no_key_is_lost_however_it_is_written(keys: list[str]) -> None:
    found = deleted([{"Key": key} for key in keys])
    assert {resource for _, resource in found} == {f"arn:aws:s3:::bkt/{key}" for key in keys}


# Buckets


@pytest.mark.parametrize(
    "bucket",
    ["", "a", "arn:aws:s3:eu-west-1:123456789012:accesspoint/ap", "ap-s3alias", "x--ol-s3", "b--euw1-az1--x-s3",
     "m1.mrap", "bkt/other", "bkt*", "b?t", "..", "bkt\n"],
)  # fmt: skip
@pytest.mark.threat("F04")
def test_what_is_no_bucket_has_no_known_arn(bucket: str) -> None:
    assert pairs(needed("s3", "GetObject", {"Bucket": bucket, "Key": "k"})) == [("s3:GetObject", None)]


def test_partitions() -> None:
    assert pairs(needed("s3", "HeadBucket", {"Bucket": "bkt"}, region="cn-north-1"))[0][1] == "arn:aws-cn:s3:::bkt"
    assert pairs(needed("s3", "ListBuckets", {})) == [("s3:ListAllMyBuckets", "*")]


def test_a_new_bucket_with_more_than_a_name() -> None:
    bucket = "arn:aws:s3:::bkt"
    plain = {"Bucket": "bkt"}
    assert pairs(needed("s3", "CreateBucket", plain)) == [("s3:CreateBucket", bucket)]
    headers = {"x-amz-acl": "public-read", "x-amz-object-ownership": "ObjectWriter",
               "x-amz-bucket-object-lock-enabled": "true"}  # fmt: skip
    more = {**plain, "CreateBucketConfiguration": {"LocationConstraint": "eu-west-1", "Tags": [{"Key": "a"}]}}
    found = needed("s3", "CreateBucket", more, headers=headers)
    assert [each.action for each in found] == [
        "s3:CreateBucket", "s3:TagResource", "s3:PutBucketAcl", "s3:PutBucketOwnershipControls",
        "s3:PutBucketObjectLockConfiguration", "s3:PutBucketVersioning",
    ]  # fmt: skip
    assert found[0].context["s3:locationconstraint"] == "eu-west-1"


def test_replication_passes_a_role() -> None:
    role = "arn:aws:iam::123456789012:role/replication"
    for given_role, resource in ((role, role), ("replication", None), (None, None)):
        members = {"Bucket": "bkt", "ReplicationConfiguration": {"Role": given_role}}
        found = needed("s3", "PutBucketReplication", members)
        assert pairs(found)[1] == ("iam:PassRole", resource)
        assert found[1].context == {"iam:passedtoservice": "s3.amazonaws.com"}


# Condition keys


def test_the_keys_of_a_listing() -> None:
    members = {"Bucket": "bkt", "Prefix": "home/", "Delimiter": "/", "MaxKeys": "10"}
    (need,) = needed("s3", "ListObjectsV2", members)
    assert {key: need.context[key] for key in ("s3:prefix", "s3:delimiter", "s3:max-keys")} == {
        "s3:prefix": "home/", "s3:delimiter": "/", "s3:max-keys": "10",
    }  # fmt: skip
    (bare,) = needed("s3", "ListObjectsV2", {"Bucket": "bkt"})
    assert "s3:prefix" not in bare.context
    (empty,) = needed("s3", "ListObjectsV2", {"Bucket": "bkt", "Prefix": ""})
    assert empty.context["s3:prefix"] == ""


def test_the_keys_of_a_write() -> None:
    headers = {
        "x-amz-server-side-encryption": "aws:kms", "x-amz-storage-class": "GLACIER", "if-none-match": "*",
        "x-amz-object-lock-mode": "COMPLIANCE", "x-amz-tagging": "Team=a%20b&x=",
    }  # fmt: skip
    context = needed("s3", "PutObject", OBJECT, headers=headers)[0].context
    assert context == {
        "s3:authtype": "REST-HEADER", "s3:signatureversion": "AWS4-HMAC-SHA256",
        "s3:x-amz-content-sha256": "UNSIGNED-PAYLOAD", "s3:x-amz-server-side-encryption": "aws:kms",
        "s3:x-amz-storage-class": "GLACIER", "s3:if-none-match": "*", "s3:object-lock-mode": "COMPLIANCE",
        "s3:requestobjecttag/team": "a b", "s3:requestobjecttag/x": "", "s3:requestobjecttagkeys": ("Team", "x"),
    }  # fmt: skip
    signed = "/bkt/a/b?X-Amz-Algorithm=AWS4-HMAC-SHA256"
    assert needed("s3", "PutObject", OBJECT, target=signed)[0].context["s3:authtype"] == "REST-QUERY-STRING"


def test_tags_in_the_body() -> None:
    members = {**OBJECT, "Tagging": {"TagSet": [{"Key": "a", "Value": "b"}]}}
    (need,) = needed("s3", "PutObjectTagging", members)
    assert need.context["s3:requestobjecttag/a"] == "b"
    with pytest.raises(Refusal) as refused:
        needed("s3", "PutObjectTagging", OBJECT, unread=("Tagging",))
    assert refused.value.code == "body_required"


@pytest.mark.parametrize("tagging", ["a=b&a=c", "a=b&A=c", "a&b", "%ff=a"])
@pytest.mark.threat("E04")
def test_tags_that_can_be_read_in_two_ways_are_refused(tagging: str) -> None:
    with pytest.raises(Refusal):
        on("PutObject", headers={"x-amz-tagging": tagging})
