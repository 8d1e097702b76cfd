"""What a request gives its operation, by every way in which a request gives something."""

import json
import struct
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.actions import cbor, xml
from gateway.core.errors import Refusal
from gateway.wire.strict import Malformed
from tests.gateway.core.actions.asked import CBOR, FORM, JSON, routed


def test_labels_query_headers_and_prefixed_headers() -> None:
    headers = (("x-amz-meta-one", "1"), ("x-amz-meta-two", "2"), ("x-amz-tagging", "a=b"), ("content-type", "text/x"))
    members = routed("s3", "PUT", "/b-1/a%20b?x-id=PutObject", *headers, body=None).members
    assert members == {
        "Bucket": "b-1",
        "Key": "a b",
        "Metadata": {"one": "1", "two": "2"},
        "Tagging": "a=b",
        "ContentType": "text/x",
    }


def test_a_list_in_a_query_or_a_header() -> None:
    members = routed("lambda", "DELETE", "/2017-03-31/tags/arn%3Aa?tagKeys=a%2Cb&tagKeys=c").members
    assert members == {"Resource": "arn:a", "TagKeys": ["a,b", "c"]}
    attributes = ("x-amz-object-attributes", 'ETag, "Object,Size" ,Checksum')
    members = routed("s3", "GET", "/b-1/k?attributes", attributes).members
    assert members["ObjectAttributes"] == ["ETag", "Object,Size", "Checksum"]


def test_every_other_key_of_a_query_that_is_a_map() -> None:
    members = routed("apigateway", "PUT", "/restapis/a?mode=merge&ignore=documentation", body=None).members
    assert members == {"restApiId": "a", "mode": "merge", "parameters": {"ignore": "documentation"}}


def test_json() -> None:
    item = {"Artist": {"S": "a"}, "Year": {"N": "1"}, "Tags": {"L": [{"S": "b"}]}, "Deep": {"M": {"x": {"BOOL": True}}}}
    body = json.dumps({"TableName": "t", "Item": item, "Unknown": {"TableName": "u"}, "ReturnValues": None}).encode()
    members = routed("dynamodb", "POST", "/", JSON, ("x-amz-target", "DynamoDB_20120810.PutItem"), body=body).members
    assert members == {"TableName": "t", "Item": item}


def test_cbor_with_indefinite_lengths_and_a_time() -> None:
    body = b"\xbfiNamespace\x7f\x61a\x61b\xffiStartTime\xc1\x1a\x69\x55\xb9\x80jDimensions\x9f\xa1dNameac\xff\xff"
    path = "/service/GraniteServiceVersion20100801/operation/ListMetrics"
    assert routed("monitoring", "POST", path, *CBOR, body=body).members == {
        "Namespace": "ab",
        "Dimensions": [{"Name": "c"}],
    }


def test_a_form_of_the_query_protocol() -> None:
    body = b"Action=SetAlarmState&Version=2010-08-01&AlarmName=a+b%2Bc&StateValue=OK&StateReason=%0A"
    assert routed("monitoring", "POST", "/", FORM, body=body).members == {
        "AlarmName": "a b+c",
        "StateValue": "OK",
        "StateReason": "\n",
    }
    body = (
        b"Action=Publish&Version=2010-03-31&TopicArn=t&Message=m&MessageAttributes.entry.1.Name=n"
        b"&MessageAttributes.entry.1.Value.DataType=String&MessageAttributes.entry.1.Value.StringValue=v"
    )
    assert routed("sns", "POST", "/", FORM, body=body).members == {
        "TopicArn": "t",
        "Message": "m",
        "MessageAttributes": {"n": {"DataType": "String", "StringValue": "v"}},
    }
    body = b"Action=UntagUser&Version=2010-05-08&UserName=u" + b"".join(
        b"&TagKeys.member.%d=k%d" % (n, n) for n in range(1, 12)
    )
    keys = routed("iam", "POST", "/", FORM, body=body).members["TagKeys"]
    assert keys == [f"k{n}" for n in range(1, 12)]  # by number, not by letter


def test_a_form_of_ec2() -> None:
    body = (
        b"Action=RunInstances&Version=2016-11-15&ImageId=ami-1&SecurityGroupId.1=sg-1&SecurityGroupId.2=sg-2"
        b"&TagSpecification.1.ResourceType=instance&TagSpecification.1.Tag.1.Key=a&TagSpecification.1.Tag.1.Value=b"
        b"&IamInstanceProfile.Name=web&NetworkInterface.1.SubnetId=s-1"
    )
    assert routed("ec2", "POST", "/", FORM, body=body).members == {
        "ImageId": "ami-1",
        "SecurityGroupIds": ["sg-1", "sg-2"],
        "TagSpecifications": [{"ResourceType": "instance", "Tags": [{"Key": "a", "Value": "b"}]}],
        "IamInstanceProfile": {"Name": "web"},
        "NetworkInterfaces": [{"SubnetId": "s-1"}],
    }


@pytest.mark.parametrize(
    ("reason", "tail"),
    [
        ("parameter_and_branch", b"InstanceId=i-1&InstanceId.1=i-2"),
        ("parameter_and_branch", b"InstanceId.1=i-2&InstanceId=i-1"),
        ("list_form", b"InstanceId.01=i-1"),
        ("list_form", b"InstanceId.1=i-1&InstanceId.x=i-2"),
        ("list_form", b"InstanceId=i-1"),
        ("wrong_type", b"InstanceId.1.x=i-1"),
        ("wrong_type", b"DryRun.1=true"),
        ("member_case", b"instanceId.1=i-1"),
        ("nesting", b"InstanceId." + b"1." * 100 + b"1=i-1"),
    ],
)
@pytest.mark.threat("E04")
def test_a_form_with_two_readings_is_refused(reason: str, tail: bytes) -> None:
    with pytest.raises(Refusal) as refused:
        routed("ec2", "POST", "/", FORM, body=b"Action=TerminateInstances&Version=2016-11-15&" + tail)
    assert refused.value.reason == reason
    assert routed("ec2", "POST", "/", FORM, body=b"Action=TerminateInstances&Version=2016-11-15&InstanceId.1=i-1")


def test_xml_with_flattened_lists_and_attributes() -> None:
    body = b"""<?xml version="1.0" encoding="UTF-8"?>
      <AccessControlPolicy xmlns="http://s3.amazonaws.com/doc/2006-03-01/">
        <AccessControlList><Grant>
          <Grantee xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="Group"><URI>u</URI></Grantee>
          <Permission>READ</Permission>
        </Grant></AccessControlList>
      </AccessControlPolicy>"""
    members = routed("s3", "PUT", "/b-1/k?acl", body=body).members
    grants = [{"Grantee": {"Type": "Group", "URI": "u"}, "Permission": "READ"}]
    assert members["AccessControlPolicy"] == {"Grants": grants}


@pytest.mark.parametrize(
    ("reason", "body"),
    [
        ("duplicate_member", b"<Delete><Object><Key>a</Key><Key>b</Key></Object></Delete>"),
        ("member_case", b"<Delete><Object><key>a</key></Object></Delete>"),
        ("wrong_type", b"<Delete><Object><Key><x>a</x></Key></Object></Delete>"),
        ("body_form", b"<Delete><Object><Key>a<!-- b --></Key></Object></Delete>"),
        ("body_form", b"<Delete><Object><Key>a<?b c?></Key></Object></Delete>"),
        ("body_form", b"<Delete><x:Object><Key>a</Key></x:Object></Delete>"),
        ("body_form", b'<!DOCTYPE d [<!ENTITY a "b">]><Delete><Object><Key>&a;</Key></Object></Delete>'),
        ("body_form", b"<Delete><Object><Key>&a;</Key></Object></Delete>"),
        ("body_form", b'<?xml version="1.0" encoding="ISO-8859-1"?><Delete><Object><Key>\xe9</Key></Object></Delete>'),
        ("body_form", "<Delete/>".encode("utf-16")),
        ("body_form", b"<Delete><Object>a<Key>b</Key></Object></Delete>"),
        ("body_form", b"<Delete/><Delete/>"),
        ("body_form", b"<a>" * 100 + b"</a>" * 100),
        ("body_form", b"{}"),
    ],
)
@pytest.mark.threat("F04")
def test_xml_with_two_readings_is_refused(reason: str, body: bytes) -> None:
    with pytest.raises(Refusal) as refused:
        routed("s3", "POST", "/b-1?delete", body=body)
    assert refused.value.reason == reason


def test_a_body_does_not_give_what_the_path_gives() -> None:
    body = b'{"FunctionName": "other", "Qualifier": ["x"], "Principal": "p"}'
    members = routed("lambda", "POST", "/2015-03-31/functions/f/policy", body=body).members
    assert members == {"FunctionName": "f", "Principal": "p"}


@pytest.mark.parametrize("value", ["1.2.3.4/", "a/b", "a@b", "", ".", "a..b", "-a", "é", "a" * 64, "a\r\nb"])
@pytest.mark.threat("F01")
def test_a_part_of_the_host_is_a_dns_label(value: str) -> None:
    with pytest.raises(Refusal) as refused:
        routed("s3", "GET", "/v20180820/jobs", ("x-amz-account-id", value))
    assert refused.value.reason == "host_label"


def test_what_is_nested_beyond_sense_is_refused() -> None:
    body = b'{"TableName":"t","Item":{"a":' + b'{"M":{"a":' * 200 + b'{"S":""}' + b"}}" * 200 + b"}}"
    with pytest.raises(Refusal) as refused:
        routed("dynamodb", "POST", "/", JSON, ("x-amz-target", "DynamoDB_20120810.PutItem"), body=body)
    assert refused.value.reason == "wrong_type"


# CBOR, against RFC 8949's own examples


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        ("00", 0), ("17", 23), ("1818", 24), ("1903e8", 1000), ("1bffffffffffffffff", 2**64 - 1), ("20", -1),
        ("3903e7", -1000), ("f90000", 0.0), ("f93c00", 1.0), ("fa47c35000", 100000.0), ("fb3ff199999999999a", 1.1),
        ("f4", False), ("f5", True), ("f6", None), ("c11a514b67b0", 1363896240), ("4401020304", b"\x01\x02\x03\x04"),
        ("6449455446", "IETF"), ("62c3bc", "ü"), ("80", []), ("83010203", [1, 2, 3]), ("a0", {}),
        ("a26161016162820203", {"a": 1, "b": [2, 3]}), ("5f42010243030405ff", b"\x01\x02\x03\x04\x05"),
        ("7f657374726561646d696e67ff", "streaming"), ("9fff", []), ("9f018202039f0405ffff", [1, [2, 3], [4, 5]]),
        ("bf61610161629f0203ffff", {"a": 1, "b": [2, 3]}),
    ],
)  # fmt: skip
def test_cbor_of_the_rfc(raw: str, value: Any) -> None:
    """RFC 8949, appendix A."""
    assert cbor.loads(bytes.fromhex(raw)) == value


@pytest.mark.parametrize(
    "raw",
    [
        "", "0000", "18", "1a000000", "61", "4201", "81", "a161", "ff", "1c", "1f", "3f", "df", "f800", "fc",
        "a10101", "a261610161 6102", "5f00ff", "5f6161ff", "7f4161ff", "5f5f4101ffff", "81ff", "a1ff", "a16161ff",
        "bf6161ff", "c1ff", "61ff", "81" * 200, "9bffffffffffffffff",
    ],
)  # fmt: skip
def test_cbor_that_is_not_well_formed_or_doubtful(raw: str) -> None:
    with pytest.raises(Malformed):
        cbor.loads(bytes.fromhex(raw))


def _encode(value: Any) -> bytes:
    """CBOR, written here so that the reader is not its own witness."""

    def head(major: int, number: int) -> bytes:
        return bytes([major << 5 | 27]) + struct.pack(">Q", number)

    if value is None or isinstance(value, bool):
        return {None: b"\xf6", True: b"\xf5", False: b"\xf4"}[value]
    if isinstance(value, int):
        return head(0, value) if value >= 0 else head(1, -1 - value)
    if isinstance(value, float):
        return b"\xfb" + struct.pack(">d", value)
    if isinstance(value, bytes):
        return head(2, len(value)) + value
    if isinstance(value, str):
        return head(3, len(value.encode())) + value.encode()
    if isinstance(value, list):
        return head(4, len(value)) + b"".join(map(_encode, value))
    return head(5, len(value)) + b"".join(_encode(key) + _encode(item) for key, item in value.items())


_SCALARS = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.binary()
_VALUES = st.recursive(
    _SCALARS | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20
)


@given(_VALUES)
def test_cbor_is_read_back_as_it_was_written(value: Any) -> None:
    assert cbor.loads(_encode(value)) == value


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(raw: bytes) -> None:
    for reader in (cbor.loads, xml.loads):
        try:
            reader(raw)
        except Malformed as fault:
            assert fault.faults  # noqa: PT017 — either outcome is right


@given(st.dictionaries(st.text("abc.", min_size=1), st.text(max_size=5), max_size=8))
def test_any_form_is_read_or_refused(pairs: dict[str, str]) -> None:
    body = b"Action=RunInstances&Version=2016-11-15&" + urlencode(pairs).encode()
    try:
        outcome = routed("ec2", "POST", "/", FORM, body=body.rstrip(b"&")).operation
    except Refusal as refusal:
        outcome = refusal.code
    assert outcome in ("RunInstances", "call_ambiguous", "call_malformed")
