"""What two readers could take for two calls is refused, each with its reason, beside a twin that is taken."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.errors import Refusal
from tests.gateway.core.actions.asked import CBOR, FORM, JSON, routed

PUT_ITEM = ("x-amz-target", "DynamoDB_20120810.PutItem")
LIST_METRICS = "/service/GraniteServiceVersion20100801/operation/ListMetrics"
Headers = tuple[tuple[str, str], ...]

# Reason, and a request that is refused for it: signing name, method, target, headers, body.
REFUSED: list[tuple[str, str, str, str, Headers, bytes]] = [
    # A selector of another protocol, or of another service
    ("target_unknown", "s3", "DELETE", "/b-1/k", (("x-amz-target", "AmazonSQS.ListQueues"),), b""),
    ("target_unknown", "sqs", "POST", "/", (JSON, ("x-amz-target", "DynamoDB_20120810.DeleteTable")), b"{}"),
    ("target_unknown", "ec2", "POST", "/", (FORM, ("x-amz-target", "AmazonSQS.ListQueues")), b"Action=RunInstances"),
    ("target_unknown", "dynamodb", "POST", "/", (JSON, ("x-amz-target", "PutItem")), b"{}"),
    ("target_unknown", "dynamodb", "POST", "/", (JSON, ("x-amz-target", "")), b"{}"),
    ("protocol_form", "dynamodb", "GET", "/", (JSON, PUT_ITEM), b""),
    ("protocol_form", "dynamodb", "POST", "/x", (JSON, PUT_ITEM), b"{}"),
    ("protocol_form", "dynamodb", "POST", "/?a=b", (JSON, PUT_ITEM), b"{}"),
    ("protocol_form", "dynamodb", "POST", "/", (JSON,), b"{}"),
    ("protocol_twice", "monitoring", "POST", LIST_METRICS, (*CBOR, ("x-amz-target", "a.b")), b"\xa0"),
    ("protocol_twice", "monitoring", "POST", LIST_METRICS, (), b"\xa0"),
    ("protocol_twice", "monitoring", "POST", LIST_METRICS, (("smithy-protocol", "rpc-v2-json"),), b"\xa0"),
    ("protocol_form", "monitoring", "POST", "/", CBOR, b"\xa0"),
    ("protocol_form", "monitoring", "POST", f"{LIST_METRICS}?Action=PutMetricData", CBOR, b"\xa0"),
    ("protocol_unknown", "monitoring", "POST", "/service/Kinesis_20131202/operation/ListStreams", CBOR, b"\xa0"),
    ("protocol_unknown", "dynamodb", "POST", "/service/DynamoDB_20120810/operation/GetItem", CBOR, b"\xa0"),
    # Action
    ("action_in_query", "ec2", "POST", "/?Action=DescribeInstances", (FORM,), b"Action=TerminateInstances"),
    ("action_in_query", "ec2", "POST", "/?%41ction=DescribeInstances", (FORM,), b"Action=TerminateInstances"),
    ("action_in_query", "sts", "GET", "/?Action=GetCallerIdentity&Version=2011-06-15", (), b""),
    ("protocol_form", "ec2", "POST", "/?DryRun=true", (FORM,), b"Action=TerminateInstances&Version=2016-11-15"),
    ("duplicate_parameter", "ec2", "POST", "/", (FORM,), b"Action=DescribeInstances&Action=TerminateInstances"),
    ("duplicate_parameter", "ec2", "POST", "/", (FORM,), b"Action=DescribeInstances&%41ction=TerminateInstances"),
    ("action", "ec2", "POST", "/", (FORM,), b"Action=DescribeInstances&action=TerminateInstances&Version=2016-11-15"),
    ("action", "ec2", "POST", "/", (FORM,), b"Version=2016-11-15"),
    ("empty_parameter", "ec2", "POST", "/", (FORM,), b"Action=DescribeInstances&&Version=2016-11-15"),
    ("form", "ec2", "POST", "/", (FORM,), b"Action=DescribeInstances;Action=TerminateInstances"),
    ("not_utf8", "ec2", "POST", "/", (FORM,), b"Action=DescribeInstances&Version=2016-11-15&NextToken=%ff"),
    ("protocol_form", "ec2", "POST", "/", (("content-type", "text/plain"),), b"Action=DescribeInstances"),
    # S3's sub-resources
    ("unknown_subresource", "s3", "GET", "/b-1/k?newsubresource", (), b""),
    ("unknown_subresource", "s3", "GET", "/b-1/k?policy", (), b""),
    ("several_operations", "s3", "GET", "/b-1/k?acl&tagging", (), b""),
    ("several_operations", "s3", "GET", "/b-1?acl&policy", (), b""),
    ("unknown_subresource", "s3", "GET", "/b-1?acl=1", (), b""),
    ("unknown_subresource", "s3", "GET", "/b-1?ACL", (), b""),
    ("unknown_subresource", "s3", "GET", "/b-1?list-type=1", (), b""),
    ("unknown_subresource", "s3", "PUT", "/b-1/k?uploadId=1", (), b""),
    ("unknown_subresource", "s3", "GET", "/b-1/k?x-id=DeleteObject", (), b""),
    ("unknown_subresource", "s3", "GET", "/b-1/k?VersionId=1", (), b""),
    ("unknown_subresource", "s3", "PUT", "/b-1/k?x-amz-acl=public-read", (), b""),
    ("unknown_subresource", "s3", "PUT", "/b-1/k?X-Amz-Copy-Source=b-2%2Fk", (), b""),
    ("unknown_subresource", "s3", "PATCH", "/b-1/k?acl", (), b""),
    ("duplicate_key", "s3", "GET", "/b-1/k?versionId=1&versionId=2", (), b""),
    ("duplicate_key", "s3", "GET", "/b-1/k?versionId=1&version%49d=2", (), b""),
    ("duplicate_key", "s3", "GET", "/b-1?acl&acl", (), b""),
    ("empty_query_part", "s3", "GET", "/b-1?acl&", (), b""),
    ("post_form", "s3", "POST", "/b-1", (("content-type", "multipart/form-data; boundary=x"),), b"--x"),
    ("post_form", "s3", "POST", "/b-1?delete", (("content-type", "application/x-www-form-urlencoded"),), b"a=b"),
    ("several_operations", "s3", "PUT", "/b-1/k?acl", (("x-amz-copy-source", "b-2/k"),), b""),
    # Paths
    ("dot_segment", "s3", "GET", "/b-1/../b-2/k", (), b""),
    ("dot_segment", "s3", "GET", "/b-1/a/./k", (), b""),
    ("dot_segment", "s3", "GET", "/b-1/%2e%2E/b-2/k", (), b""),
    ("dot_segment", "s3", "GET", "/b-1/a%2F..%2Fk", (), b""),
    ("dot_segment", "lambda", "GET", "/2015-03-31/functions/x/../y", (), b""),
    ("slash_in_bucket", "s3", "GET", "/b-1%2Fk", (), b""),
    ("slash_in_bucket", "s3", "GET", "/b-1%2fk/more", (), b""),
    ("encoded_path", "lambda", "GET", "/2015-03-31/functions/f%2Fconfiguration", (), b""),
    ("encoded_path", "lambda", "GET", "/2015-03-31/%66unctions/f", (), b""),
    ("encoded_path", "lambda", "GET", "/2015-03-31/functions/%2Ff", (), b""),
    ("empty_segment", "lambda", "GET", "/2015-03-31//functions/f", (), b""),
    ("control_character", "s3", "GET", "/b-1/k%00.txt", (), b""),
    ("control_character", "s3", "GET", "/b-1/k%0d%0a", (), b""),
    ("percent_encoding", "s3", "GET", "/b-1/k%4", (), b""),
    ("percent_encoding", "s3", "GET", "/b-1/k%zz", (), b""),
    ("not_utf8", "s3", "GET", "/b-1/k%c3", (), b""),
    ("plus_in_path", "s3", "GET", "/b-1/a+b", (), b""),
    ("plus_in_query", "s3", "GET", "/b-1?list-type=2&prefix=a+b", (), b""),
    ("semicolon_in_query", "s3", "GET", "/b-1?acl;policy", (), b""),
    ("path_form", "s3", "GET", "/b-1\\k", (), b""),
    ("path_form", "s3", "GET", "/b-1/k#acl", (), b""),
    ("path_form", "s3", "GET", "b-1/k", (), b""),
    ("path_form", "s3", "GET", "http://b-1/k", (), b""),
    ("bucket_name", "s3", "GET", "/b-1%3Fpolicy/k", (), b""),
    # Headers
    ("duplicate_header", "dynamodb", "POST", "/", (JSON, PUT_ITEM, PUT_ITEM), b"{}"),
    ("duplicate_header", "s3", "PUT", "/b-1/k", (("x-amz-acl", "private"), ("x-amz-acl", "public-read")), b""),
    ("duplicate_header", "s3", "GET", "/b-1/k", (("host", "elsewhere"),), b""),
    ("header_name", "dynamodb", "POST", "/", (JSON, PUT_ITEM, ("X-Amz-Target", "DynamoDB_20120810.Scan")), b"{}"),
    ("header_name", "dynamodb", "POST", "/", (JSON, PUT_ITEM, ("x_amz_target", "DynamoDB_20120810.Scan")), b"{}"),
    ("method_override", "s3", "GET", "/b-1/k", (("x-http-method-override", "DELETE"),), b""),
    # The rest of the rest protocols
    ("header_in_query", "lambda", "GET", "/2015-03-31/functions/f?x-amz-target=a", (), b""),
    ("key_case", "lambda", "GET", "/2015-03-31/functions/f?qualifier=1", (), b""),
    ("duplicate_key", "lambda", "GET", "/2015-03-31/functions/f?Qualifier=1&Qualifier=2", (), b""),
    ("several_operations", "chime", "POST", "/accounts/a/users?operation=a&operation=b", (), b"{}"),
    # Bodies
    ("content_encoding", "ec2", "POST", "/", (FORM, ("content-encoding", "gzip")), b"\x1f\x8b"),
    ("content_type", "dynamodb", "POST", "/", (FORM, PUT_ITEM), b"{}"),
    ("content_type", "dynamodb", "POST", "/", (PUT_ITEM,), b"{}"),
    ("content_type", "lambda", "POST", "/2015-03-31/functions", (FORM,), b"{}"),
    ("content_type", "monitoring", "POST", LIST_METRICS, (CBOR[0], JSON), b"\xa0"),
    ("body_form", "dynamodb", "POST", "/", (JSON, PUT_ITEM), b'{"TableName":"a","TableName":"b"}'),
    ("body_form", "dynamodb", "POST", "/", (JSON, PUT_ITEM), b'{"TableName":"a","\\u0054ableName":"b"}'),
    ("body_form", "s3", "POST", "/b-1?delete", (), b"<!DOCTYPE a><Delete/>"),
    ("member_case", "dynamodb", "POST", "/", (JSON, PUT_ITEM), b'{"TableName":"a","tableName":"b"}'),
    ("wrong_type", "dynamodb", "POST", "/", (JSON, PUT_ITEM), b'{"TableName":["a"]}'),
    ("wrong_type", "dynamodb", "POST", "/", (JSON, PUT_ITEM), b"[]"),
]

TAKEN: list[tuple[str, str, str, Headers, bytes, str]] = [
    ("s3", "DELETE", "/b-1/k", (), b"", "DeleteObject"),
    ("dynamodb", "POST", "/", (JSON, PUT_ITEM), b'{"TableName":"a"}', "PutItem"),
    ("monitoring", "POST", LIST_METRICS, CBOR, b"\xa0", "ListMetrics"),
    ("ec2", "POST", "/", (FORM,), b"Action=TerminateInstances&Version=2016-11-15", "TerminateInstances"),
    ("s3", "GET", "/b-1/k?versionId=1&partNumber=2", (), b"", "GetObject"),
    ("s3", "GET", "/b-1/...?", (), b"", "GetObject"),
    ("s3", "GET", "/b-1/a%2Fb", (), b"", "GetObject"),
    ("s3", "GET", "/b-1/a%2Bb%20c", (), b"", "GetObject"),
    ("s3", "POST", "/b-1?delete", (("content-type", "application/xml"),), b"<Delete/>", "DeleteObjects"),
    ("s3", "PUT", "/b-1/k", (("content-type", "multipart/form-data"),), b"", "PutObject"),
    ("s3", "PUT", "/b-1/k?x-amz-checksum-crc32=AA%3D%3D&X-Amz-Expires=60", (), b"", "PutObject"),
    ("s3", "GET", "/b-1/k", (("accept", "a"), ("accept", "b"), ("x-amz-meta-a_b", "c")), b"", "GetObject"),
    ("lambda", "GET", "/2015-03-31/functions/f?Qualifier=1&later=2", (), b"", "GetFunction"),
    (
        "lambda",
        "GET",
        "/2015-03-31/functions/arn%3Aaws%3Alambda%3Aus-east-1%3A1%3Afunction%3Af",
        (),
        b"",
        "GetFunction",
    ),
    ("lambda", "DELETE", "/2017-03-31/tags/arn%3Aa?tagKeys=a&tagKeys=b", (), b"", "UntagResource"),
    ("s3tables", "GET", "/namespaces/arn%3Aaws%3As3tables%3Aus-east-1%3A1%3Abucket%2Fb", (), b"", "ListNamespaces"),
]


@pytest.mark.threat("E04", "F04")
@pytest.mark.parametrize(("reason", "service", "method", "target", "headers", "body"), REFUSED)
def test_a_request_with_two_readings_is_refused(
    reason: str, service: str, method: str, target: str, headers: Headers, body: bytes
) -> None:
    with pytest.raises(Refusal) as refused:
        routed(service, method, target, *headers, body=body)
    assert refused.value.reason == reason
    assert refused.value.code in ("call_ambiguous", "call_malformed")


@pytest.mark.parametrize(("service", "method", "target", "headers", "body", "operation"), TAKEN)
def test_its_twin_with_one_reading_is_taken(
    service: str, method: str, target: str, headers: Headers, body: bytes, operation: str
) -> None:
    assert routed(service, method, target, *headers, body=body).operation == operation


@pytest.mark.threat("F04")
def test_a_bucket_in_the_host_is_not_looked_for_in_the_path() -> None:
    found = routed("s3", "GET", "/b-2/k", bucket="b-1")
    assert found.members == {"Bucket": "b-1", "Key": "b-2/k"}
    found = routed("s3", "GET", "/v20180820/jobs", ("x-amz-account-id", "111122223333"), bucket="b-1")
    assert (found.service, found.members) == ("s3", {"Bucket": "b-1", "Key": "v20180820/jobs"})


@pytest.mark.threat("F04")
def test_what_a_copy_reads_is_a_member() -> None:
    found = routed("s3", "PUT", "/b-1/k", ("x-amz-copy-source", "/secret/k?versionId=1"))
    assert found.members["CopySource"] == "/secret/k?versionId=1"
    body = b"<Delete><Object><Key>a</Key></Object><Object><Key>b</Key><VersionId>1</VersionId></Object></Delete>"
    found = routed("s3", "POST", "/b-1?delete", body=body)
    assert found.members["Delete"] == {"Objects": [{"Key": "a"}, {"Key": "b", "VersionId": "1"}]}


@given(
    st.sampled_from(["s3", "lambda", "ec2", "dynamodb", "monitoring", "ses"]),
    st.sampled_from(["GET", "POST", "PUT", "DELETE"]),
    st.text(st.sampled_from("/ab.%2Fe?&=+;#acl\\"), max_size=30),
    st.lists(st.sampled_from([FORM, JSON, *CBOR, PUT_ITEM]), max_size=3),
    st.binary(max_size=20),
)
def test_whatever_comes_is_routed_or_refused(
    service: str, method: str, rest: str, headers: list[tuple[str, str]], body: bytes
) -> None:
    try:
        outcome = routed(service, method, f"/{rest}", *headers, body=body).service
    except Refusal as refusal:
        outcome = refusal.code
    assert outcome in ("call_ambiguous", "call_malformed") or "call" not in outcome
