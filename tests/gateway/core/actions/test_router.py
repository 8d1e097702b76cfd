"""Which operation a request is, by every protocol. (That botocore's own are routed rightly, the corpus shows.)"""

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.actions.router import EMPTY, route
from gateway.core.errors import Refusal
from tests.gateway.core.actions.asked import CBOR, FORM, JSON, models, request, routed


@pytest.mark.parametrize(
    ("method", "target", "headers", "operation"),
    [
        ("GET", "/", (), "ListBuckets"),
        ("PUT", "/b-1", (), "CreateBucket"),
        ("HEAD", "/b-1/", (), "HeadBucket"),
        ("GET", "/b-1", (), "ListObjects"),
        ("GET", "/b-1?list-type=2&prefix=a%2Fb", (), "ListObjectsV2"),
        ("GET", "/b-1?versions", (), "ListObjectVersions"),
        ("GET", "/b-1?acl", (), "GetBucketAcl"),
        ("GET", "/b-1?acl=", (), "GetBucketAcl"),
        ("GET", "/b-1?policy", (), "GetBucketPolicy"),
        ("GET", "/b-1?lifecycle", (), "GetBucketLifecycleConfiguration"),
        ("PUT", "/b-1?lifecycle", (), "PutBucketLifecycleConfiguration"),
        ("GET", "/b-1?analytics", (), "ListBucketAnalyticsConfigurations"),
        ("GET", "/b-1?analytics&id=1", (), "GetBucketAnalyticsConfiguration"),
        ("POST", "/b-1?delete", (), "DeleteObjects"),
        ("GET", "/b-1/k", (), "GetObject"),
        ("GET", "/b-1//k//", (), "GetObject"),
        ("GET", "/b-1/k?x-id=GetObject", (), "GetObject"),
        ("GET", "/b-1/k?response-content-type=a%2Fb&versionId=1", (), "GetObject"),
        ("GET", "/b-1/k?acl", (), "GetObjectAcl"),
        ("GET", "/b-1/k?torrent", (), "GetObjectTorrent"),
        ("GET", "/b-1/k?uploadId=1", (), "ListParts"),
        ("GET", "/b-1/k?attributes", (("x-amz-object-attributes", "ETag"),), "GetObjectAttributes"),
        ("HEAD", "/b-1/k", (), "HeadObject"),
        ("PUT", "/b-1/k", (), "PutObject"),
        ("PUT", "/b-1/k", (("x-amz-copy-source", "/b-2/k"),), "CopyObject"),
        ("PUT", "/b-1/k?partNumber=1&uploadId=2", (), "UploadPart"),
        ("PUT", "/b-1/k?partNumber=1&uploadId=2", (("x-amz-copy-source", "/b-2/k"),), "UploadPartCopy"),
        ("POST", "/b-1/k?uploads", (), "CreateMultipartUpload"),
        ("POST", "/b-1/k?uploadId=2", (), "CompleteMultipartUpload"),
        ("POST", "/b-1/k?select&select-type=2", (), "SelectObjectContent"),
        ("DELETE", "/b-1/k?uploadId=2", (), "AbortMultipartUpload"),
        ("DELETE", "/b-1/k?tagging", (), "DeleteObjectTagging"),
        ("DELETE", "/b-1/k?versionId=2", (), "DeleteObject"),
    ],
)
def test_s3_by_method_path_subresource_and_headers(
    method: str, target: str, headers: tuple[tuple[str, str], ...], operation: str
) -> None:
    by_path = routed("s3", method, target, *headers)
    assert (by_path.service, by_path.operation, by_path.protocol) == ("s3", operation, "rest-xml")
    if "Bucket" in by_path.members:
        rest = target.removeprefix("/b-1")
        by_host = routed("s3", method, rest if rest.startswith("/") else f"/{rest}", *headers, bucket="b-1")
        assert by_host == by_path


@given(st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=40))
def test_a_key_of_s3_is_read_back_as_it_was_written(key: str) -> None:
    target = f"/b-1/{quote(key, safe='/~')}"
    if {".", ".."} & set(key.split("/")):
        with pytest.raises(Refusal):
            routed("s3", "GET", target)
    else:
        assert routed("s3", "GET", target).members == {"Bucket": "b-1", "Key": key}


def test_s3control_goes_by_its_account_header() -> None:
    account = ("x-amz-account-id", "111122223333")
    found = routed("s3", "GET", "/v20180820/jobs", account)
    assert (found.service, found.operation) == ("s3control", "ListJobs")
    assert found.host_prefix == "111122223333."
    # Without it, it is a bucket of that name.
    assert routed("s3", "GET", "/v20180820/jobs").operation == "GetObject"


@pytest.mark.parametrize(
    ("signing_name", "service", "target"),
    [
        ("dynamodb", "dynamodb", "DynamoDB_20120810.PutItem"),
        ("dynamodb", "dynamodbstreams", "DynamoDBStreams_20120810.GetRecords"),
        ("sqs", "sqs", "AmazonSQS.SendMessage"),
        ("timestream", "timestream-write", "Timestream_20181101.WriteRecords"),
        ("timestream", "timestream-query", "Timestream_20181101.Query"),
        ("monitoring", "cloudwatch", "GraniteServiceVersion20100801.PutMetricData"),
    ],
)
def test_json_by_its_target(signing_name: str, service: str, target: str) -> None:
    found = routed(signing_name, "POST", "/", JSON, ("x-amz-target", target), body=b"{}")
    assert (found.service, found.operation, found.protocol) == (service, target.partition(".")[2], "json")


def test_the_query_protocols_by_their_action() -> None:
    found = routed("ec2", "POST", "/", FORM, body=b"Action=RunInstances&Version=2016-11-15")
    assert (found.service, found.operation, found.protocol) == ("ec2", "RunInstances", "ec2")
    found = routed("sts", "POST", "/", FORM, body=b"Version=2011-06-15&Action=GetCallerIdentity")
    assert (found.service, found.operation, found.protocol) == ("sts", "GetCallerIdentity", "query")


def test_sqs_by_the_query_protocol_of_older_sdks() -> None:
    """botocore's model lists JSON alone; AWS CLI 2 before 2.14 and SDK 2 for JavaScript know only this."""
    body = b"Action=CreateQueue&Version=2012-11-05&QueueName=jobs&Attribute.1.Name=DelaySeconds&Attribute.1.Value=1"
    found = routed("sqs", "POST", "/", FORM, body=body)
    assert (found.service, found.operation, found.protocol) == ("sqs", "CreateQueue", "query")
    assert found.members["QueueName"] == "jobs"
    url = b"https%3A%2F%2Fsqs.us-east-1.amazonaws.com%2F111122223333%2Fjobs"
    body = b"Action=SendMessage&Version=2012-11-05&MessageBody=x&QueueUrl=" + url
    found = routed("sqs", "POST", "/111122223333/jobs", FORM, body=body)
    assert found.operation == "SendMessage"
    assert found.members["QueueUrl"] == "https://sqs.us-east-1.amazonaws.com/111122223333/jobs"


@pytest.mark.parametrize(("service", "path"), [("sts", "/111122223333/jobs"), ("sqs", "/a/b/c"), ("sqs", "/jobs")])
def test_a_form_goes_to_the_root_or_to_a_queue(service: str, path: str) -> None:
    with pytest.raises(Refusal) as caught:
        routed(service, "POST", path, FORM, body=b"Action=ListQueues&Version=2012-11-05")
    assert caught.value.reason in ("protocol_form", "path_form")


@pytest.mark.parametrize(("version", "service"), [("2012-06-01", "elb"), ("2015-12-01", "elbv2")])
def test_the_version_tells_services_of_one_name_apart(version: str, service: str) -> None:
    body = f"Action=DescribeLoadBalancers&Version={version}".encode()
    found = routed("elasticloadbalancing", "POST", "/", FORM, body=body)
    assert (found.service, found.operation) == (service, "DescribeLoadBalancers")


def test_cbor_by_its_path() -> None:
    path = "/service/GraniteServiceVersion20100801/operation/ListMetrics"
    found = routed("monitoring", "POST", path, *CBOR, body=b"\xa0")
    assert (found.service, found.operation, found.protocol) == ("cloudwatch", "ListMetrics", "smithy-rpc-v2-cbor")


def test_rest_json_with_a_greedy_label_in_the_middle() -> None:
    found = routed(
        "workspaces-web", "PUT", "/portals/arn%3Aaws%3Aworkspaces-web%3A%3A%3Aportal%2Fa/userSettings?userSettingsArn=x"
    )
    assert found.operation == "AssociateUserSettings"
    assert found.members["portalArn"] == "arn:aws:workspaces-web:::portal/a"


@pytest.mark.parametrize(
    ("service", "method", "target", "headers", "body"),
    [
        ("s3", "PATCH", "/b-1/k", (), b""),
        ("lambda", "GET", "/2015-03-31/no-such-thing", (), b""),
        ("dynamodb", "POST", "/", (JSON, ("x-amz-target", "DynamoDB_20120810.NewThing")), b"{}"),
        ("ec2", "POST", "/", (FORM,), b"Action=NewThing&Version=2016-11-15"),
        ("ec2", "POST", "/", (FORM,), b"Action=RunInstances&Version=2013-02-01"),
        ("ec2", "POST", "/", (FORM,), b"Action=RunInstances"),
        ("monitoring", "POST", "/service/GraniteServiceVersion20100801/operation/NewThing", CBOR, b"\xa0"),
    ],
)
def test_what_no_model_knows_has_no_operation(
    service: str, method: str, target: str, headers: tuple[tuple[str, str], ...], body: bytes
) -> None:
    found = routed(service, method, target, *headers, body=body)
    assert found.operation is None
    assert found.members == {}


def test_services_that_share_an_operation_are_decided_as_the_one_of_the_name() -> None:
    body = b"Action=DescribeDBInstances&Version=2014-10-31"
    assert routed("rds", "POST", "/", FORM, body=body).service == "rds"  # docdb's and neptune's, too


def test_the_host_tells_services_apart_where_the_client_names_it() -> None:
    both = models("lex")
    for host, service, operation in (
        ("models.lex.us-east-1.amazonaws.com", "lex-models", "StartImport"),
        ("models-v2-lex.us-east-1.amazonaws.com", "lexv2-models", "ListImports"),
    ):
        asked = request("lex", "POST", "/imports/")
        named = type(asked)(asked.method, asked.target, (("host", host),), "lex", "us-east-1", EMPTY, b"")
        found = route(named, both)
        assert (found.service, found.operation) == (service, operation)
    with pytest.raises(Refusal) as refused:
        route(request("lex", "POST", "/imports/"), both)
    assert (refused.value.code, refused.value.reason) == ("call_ambiguous", "several_operations")


def test_an_operation_in_a_body_that_was_not_seen_asks_for_it() -> None:
    with pytest.raises(Refusal) as refused:
        routed("ec2", "POST", "/", FORM, body=None)
    assert refused.value.code == "body_required"


def test_members_that_were_not_seen_are_named() -> None:
    asked = request("dynamodb", "POST", "/", JSON, ("x-amz-target", "DynamoDB_20120810.GetItem"), body=None)
    found = route(asked, models("dynamodb"))
    assert found.members == {}
    assert {"TableName", "Key"} <= found.unread
    assert routed("s3", "POST", "/b-1?delete", body=None).unread == {"Delete"}
    # An object's bytes are nobody's member.
    assert routed("s3", "PUT", "/b-1/k", body=None).unread == frozenset()


def test_the_hash_of_nothing_is_a_body_that_was_seen() -> None:
    asked = request("lambda", "POST", "/2015-03-31/functions/", body=None)
    empty = type(asked)(asked.method, asked.target, asked.headers, "lambda", "us-east-1", EMPTY, None)
    assert route(asked, models("lambda")).unread
    assert route(empty, models("lambda")).unread == frozenset()


def test_a_compressed_body_counts_as_unseen() -> None:
    target = ("x-amz-target", "GraniteServiceVersion20100801.PutMetricData")
    found = routed("monitoring", "POST", "/", JSON, target, ("content-encoding", "gzip"), body=b"\x1f\x8b")
    assert found.unread


def test_a_name_that_nobody_signs_for_is_refused() -> None:
    with pytest.raises(Refusal) as refused:
        routed("s3express", "GET", "/b-1/k")
    assert (refused.value.code, refused.value.reason) == ("call_malformed", "service_unknown")
