"""What real clients send, through the router, to needs: nothing here knows how a request looks inside."""

from typing import Any
from urllib.parse import urlsplit

import botocore.session
import pytest
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.config import Config

from gateway.adapters.aws_models import Models
from gateway.core.actions.call import AwsRequest, Need
from gateway.core.actions.needs import needs
from gateway.core.actions.router import route
from gateway.core.errors import Refusal
from tests.gateway.core.actions.asking import ACCOUNT, CATALOG, REGION, arn, pairs

MODELS = Models(None)
ROLE = f"arn:aws:iam::{ACCOUNT}:role/r"


def sent(service: str, operation: str, style: str = "path", **members: Any) -> AwsRequest:
    """The request that botocore would send; nothing leaves the process."""
    session = botocore.session.Session()
    session.set_credentials("AKIDEXAMPLE", "secret")
    config = Config(s3={"addressing_style": style}, parameter_validation=False)
    client = session.create_client(service, region_name=REGION, config=config)
    caught: list[AWSPreparedRequest] = []

    def catch(request: AWSPreparedRequest, **_: Any) -> AWSResponse:
        caught.append(request)
        raise LookupError

    client.meta.events.register("before-send", catch)
    method = botocore.xform_name(operation)
    with pytest.raises(LookupError):
        getattr(client, method)(**members)
    request = caught[0]
    url = urlsplit(request.url)
    target = (url.path or "/") + (f"?{url.query}" if url.query else "")
    headers = tuple(
        (name.lower(), value.decode() if isinstance(value, bytes) else value) for name, value in request.headers.items()
    )
    body = request.body.encode() if isinstance(request.body, str) else request.body
    body = body.read() if hasattr(body, "read") else body or b""
    scope = dict(headers)["authorization"].split("Credential=")[1].split("/")[3]
    bucket = url.netloc.split(".")[0] if style == "virtual" else None
    return AwsRequest(request.method, target, headers, scope, REGION, "UNSIGNED-PAYLOAD", body, bucket)


def asked(request: AwsRequest) -> tuple[Need, ...]:
    routed = route(request, MODELS.of(request.service))
    return needs(routed, request, ACCOUNT, CATALOG.of(routed.service))


OBJECT = {"Bucket": "bkt", "Key": "a b/c+d"}
OBJECT_ARN = "arn:aws:s3:::bkt/a b/c+d"


@pytest.mark.parametrize("style", ["path", "virtual"])
@pytest.mark.parametrize(
    ("operation", "members", "expected"),
    [
        ("GetObject", OBJECT, [("s3:GetObject", OBJECT_ARN)]),
        ("GetObject", {**OBJECT, "VersionId": "v"}, [("s3:GetObjectVersion", OBJECT_ARN)]),
        ("PutObject", {**OBJECT, "Body": b"x", "ACL": "public-read", "Tagging": "a=b"},
         [("s3:PutObject", OBJECT_ARN), ("s3:PutObjectTagging", OBJECT_ARN), ("s3:PutObjectAcl", OBJECT_ARN)]),
        ("CopyObject", {**OBJECT, "CopySource": {"Bucket": "other", "Key": "k+ä", "VersionId": "v"}},
         [("s3:PutObject", OBJECT_ARN), ("s3:GetObjectVersion", "arn:aws:s3:::other/k+ä")]),
        ("DeleteObjects", {"Bucket": "bkt", "Delete": {"Objects": [{"Key": "a"}, {"Key": "b", "VersionId": "v"}]}},
         [("s3:DeleteObject", "arn:aws:s3:::bkt/a"), ("s3:DeleteObjectVersion", "arn:aws:s3:::bkt/b")]),
        ("ListObjectsV2", {"Bucket": "bkt", "Prefix": "p/"}, [("s3:ListBucket", "arn:aws:s3:::bkt")]),
        ("PutBucketPolicy", {"Bucket": "bkt", "Policy": "{}"}, [("s3:PutBucketPolicy", "arn:aws:s3:::bkt")]),
    ],
)  # fmt: skip
@pytest.mark.threat("F04")
def test_s3(style: str, operation: str, members: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    assert pairs(asked(sent("s3", operation, style, **members))) == expected


@pytest.mark.parametrize(
    ("service", "operation", "members", "expected"),
    [
        ("sqs", "SendMessageBatch", {"QueueUrl": f"https://sqs.{REGION}.amazonaws.com/{ACCOUNT}/q", "Entries": []},
         [("sqs:SendMessage", arn("sqs", "q"))]),
        ("dynamodb", "TransactWriteItems", {"TransactItems": [{"Delete": {"TableName": "t", "Key": {}}}]},
         [("dynamodb:DeleteItem", arn("dynamodb", "table/t"))]),
        ("dynamodb", "BatchGetItem", {"RequestItems": {"t": {"Keys": [{"a": {"S": "x"}}]}}},
         [("dynamodb:BatchGetItem", arn("dynamodb", "table/t"))]),
        ("ec2", "TerminateInstances", {"InstanceIds": ["i-1", "i-2"]},
         [("ec2:TerminateInstances", arn("ec2", f"instance/i-{each}")) for each in (1, 2)]),
        ("ec2", "CreateTags", {"Resources": ["i-1"], "Tags": [{"Key": "a", "Value": "b"}]},
         [("ec2:CreateTags", arn("ec2", "instance/i-1"))]),
        ("lambda", "Invoke", {"FunctionName": arn("lambda", "function:f"), "Payload": b"{}"},
         [("lambda:InvokeFunction", arn("lambda", "function:f"))]),
        ("lambda", "CreateFunction", {"FunctionName": "f", "Role": ROLE, "Code": {}},
         [("lambda:CreateFunction", arn("lambda", "function:f")), ("iam:PassRole", ROLE)]),
        ("sns", "Publish", {"TopicArn": arn("sns", "t"), "Message": "x"}, [("sns:Publish", arn("sns", "t"))]),
        ("sts", "AssumeRole", {"RoleArn": ROLE, "RoleSessionName": "s"}, [("sts:AssumeRole", ROLE)]),
        ("kms", "Decrypt", {"CiphertextBlob": b"x"}, [("kms:Decrypt", None)]),
        ("ssm", "GetParameter", {"Name": "/a/b"}, [("ssm:GetParameter", arn("ssm", "parameter/a/b"))]),
        ("apigateway", "GetRestApi", {"restApiId": "a"},
         [("apigateway:GET", f"arn:aws:apigateway:{REGION}::/restapis/a")]),
        ("cloudwatch", "ListDashboards", {}, [("cloudwatch:ListDashboards", "*")]),
        ("rds", "StopDBInstance", {"DBInstanceIdentifier": "db"}, [("rds:StopDBInstance", arn("rds", "db:db"))]),
        ("ecs", "RunTask", {"taskDefinition": "f:1", "overrides": {"taskRoleArn": ROLE}},
         [("ecs:RunTask", arn("ecs", "task-definition/f:1")), ("iam:PassRole", ROLE)]),
    ],
)  # fmt: skip
def test_other_services(service: str, operation: str, members: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    assert pairs(asked(sent(service, operation, **members))) == expected


def test_a_launch() -> None:
    launch = sent(
        "ec2", "RunInstances", ImageId="ami-1", InstanceType="t3.micro", MinCount=1, MaxCount=1, SubnetId="subnet-1",
        SecurityGroupIds=["sg-1"], IamInstanceProfile={"Name": "p"}, EbsOptimized=True,
        TagSpecifications=[{"ResourceType": "instance", "Tags": [{"Key": "a", "Value": "b"}]}],
    )  # fmt: skip
    found = asked(launch)
    assert None not in [need.resource for need in found if need.action == "ec2:RunInstances"]
    assert len(found) == 8
    assert ("iam:PassRole", None) in pairs(found)
    assert ("ec2:CreateTags", arn("ec2", "instance/*")) in pairs(found)
    assert found[0].context["ec2:instancetype"] == "t3.micro"
    assert found[0].context["ec2:ebsoptimized"] == "true"


@pytest.mark.parametrize(
    ("service", "operation", "members"),
    [
        ("s3", "DeleteObjects", {"Bucket": "bkt", "Delete": {"Objects": [{"Key": "a"}]}}),
        ("s3", "PutObjectTagging", {**OBJECT, "Tagging": {"TagSet": [{"Key": "a", "Value": "b"}]}}),
        ("dynamodb", "GetItem", {"TableName": "t", "Key": {"a": {"S": "x"}}}),
        ("lambda", "CreateFunction", {"FunctionName": "f", "Role": ROLE, "Code": {}}),
    ],
)
@pytest.mark.threat("F04")
def test_a_body_that_tells_is_asked_for(service: str, operation: str, members: dict[str, Any]) -> None:
    seen = sent(service, operation, **members)
    unseen = AwsRequest(seen.method, seen.target, seen.headers, seen.service, seen.region, "UNSIGNED-PAYLOAD", None)
    with pytest.raises(Refusal) as refused:
        asked(unseen)
    assert refused.value.code == "body_required"


def test_a_body_that_tells_nothing_is_not() -> None:
    seen = sent("s3", "PutObject", **OBJECT, Body=b"x")
    unseen = AwsRequest(seen.method, seen.target, seen.headers, seen.service, seen.region, "UNSIGNED-PAYLOAD", None)
    assert pairs(asked(unseen)) == [("s3:PutObject", OBJECT_ARN)]
    invoke = sent("lambda", "Invoke", FunctionName="f", Payload=b"{}")
    unseen = AwsRequest(invoke.method, invoke.target, invoke.headers, invoke.service, invoke.region, "x" * 64, None)
    assert pairs(asked(unseen)) == [("lambda:InvokeFunction", arn("lambda", "function:f"))]
