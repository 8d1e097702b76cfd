"""SQS, SNS, Lambda, KMS, Secrets Manager, STS, IAM, ECS, Systems Manager, EventBridge, API Gateway: what names hide."""

from typing import Any

import pytest

from gateway.core.errors import Refusal
from tests.gateway.core.actions.asking import ACCOUNT, REGION, arn, needed, pairs

QUEUE = arn("sqs", "q")
HOST = f"https://sqs.{REGION}.amazonaws.com"


def refused(*args: Any, **kwargs: Any) -> tuple[str, str]:
    with pytest.raises(Refusal) as error:
        needed(*args, **kwargs)
    return error.value.code, error.value.reason


# SQS


@pytest.mark.parametrize(
    ("operation", "action"),
    [
        ("SendMessage", "SendMessage"),
        ("SendMessageBatch", "SendMessage"),
        ("DeleteMessageBatch", "DeleteMessage"),
        ("ChangeMessageVisibilityBatch", "ChangeMessageVisibility"),
        ("ReceiveMessage", "ReceiveMessage"),
        ("DeleteQueue", "DeleteQueue"),
    ],
)
def test_a_batch_of_sqs_takes_the_action_of_the_single_one(operation: str, action: str) -> None:
    found = needed("sqs", operation, {"QueueUrl": f"{HOST}/{ACCOUNT}/q"})
    assert pairs(found) == [(f"sqs:{action}", QUEUE)]


@pytest.mark.parametrize(
    "url",
    [f"{HOST}/{ACCOUNT}/q", f"https://{REGION}.queue.amazonaws.com/{ACCOUNT}/q", f"/{ACCOUNT}/q",
     f"https://vpce-0a-b.sqs.{REGION}.vpce.amazonaws.com/{ACCOUNT}/q", f"http://127.0.0.1:4566/{ACCOUNT}/q",
     f"https://sqs.cn-north-1.amazonaws.com.cn/{ACCOUNT}/q", f"https://sqs.{REGION}.api.aws/{ACCOUNT}/q"],
)  # fmt: skip
def test_a_queue_is_in_its_url(url: str) -> None:
    assert pairs(needed("sqs", "SendMessage", {"QueueUrl": url})) == [("sqs:SendMessage", QUEUE)]


@pytest.mark.parametrize(
    "url",
    [f"https://evil.test/{ACCOUNT}/q", f"https://sqs.amazonaws.com.evil.test/{ACCOUNT}/q", f"{HOST}@evil.test/x/q",
     f"https://{ACCOUNT}:x@sqs.eu-west-1.amazonaws.com/{ACCOUNT}/q", f"ftp://sqs.x.amazonaws.com/{ACCOUNT}/q",
     f"{HOST}/{ACCOUNT}/q?x=y", f"{HOST}/{ACCOUNT}/q#x", f"http://169.254.169.254/{ACCOUNT}/q", "http://[::1", "http://[x]/q"],
)  # fmt: skip
@pytest.mark.threat("F04")
def test_a_queue_url_of_another_host_is_refused(url: str) -> None:
    assert refused("sqs", "SendMessage", {"QueueUrl": url}) == ("call_malformed", "queue_url")


@pytest.mark.threat("F04")
def test_a_queue_is_named_once() -> None:
    members = {"QueueUrl": f"{HOST}/{ACCOUNT}/q"}
    assert refused("sqs", "SendMessage", members, target=f"/{ACCOUNT}/other") == ("call_ambiguous", "two_queues")
    assert pairs(needed("sqs", "SendMessage", members, target=f"/{ACCOUNT}/q")) == [("sqs:SendMessage", QUEUE)]
    for odd in ("", f"{HOST}/q", f"{HOST}/{ACCOUNT}/q/x", f"{HOST}/{ACCOUNT}/../q", f"{HOST}/{ACCOUNT}/q*", "q"):
        assert pairs(needed("sqs", "SendMessage", {"QueueUrl": odd})) == [("sqs:SendMessage", None)]
    assert refused("sqs", "SendMessage", {}, unread=("QueueUrl",))[0] == "body_required"


def test_a_queue_by_name() -> None:
    assert pairs(needed("sqs", "CreateQueue", {"QueueName": "q"})) == [("sqs:CreateQueue", QUEUE)]
    assert pairs(needed("sqs", "GetQueueUrl", {"QueueName": "q"})) == [("sqs:GetQueueUrl", QUEUE)]
    others = {"QueueName": "q", "QueueOwnerAWSAccountId": "999999999999"}
    assert pairs(needed("sqs", "GetQueueUrl", others)) == [("sqs:GetQueueUrl", QUEUE.replace(ACCOUNT, "9" * 12))]


# SNS


def test_publish_goes_to_one_place() -> None:
    topic, endpoint = arn("sns", "t"), arn("sns", "endpoint/APNS/app/1")
    assert pairs(needed("sns", "Publish", {"TopicArn": topic})) == [("sns:Publish", topic)]
    assert pairs(needed("sns", "Publish", {"TargetArn": endpoint})) == [("sns:Publish", endpoint)]
    assert pairs(needed("sns", "Publish", {"PhoneNumber": "+1"})) == [("sns:Publish", "*")]
    assert pairs(needed("sns", "PublishBatch", {"TopicArn": topic})) == [("sns:Publish", topic)]
    assert pairs(needed("sns", "Publish", {"TopicArn": "arn:aws:sqs:eu-west-1:1:q"})) == [("sns:Publish", None)]
    for members in ({}, {"TopicArn": topic, "PhoneNumber": "+1"}, {"TopicArn": topic, "TargetArn": endpoint}):
        assert refused("sns", "Publish", members)[0] == "call_ambiguous"


# Lambda

FUNCTION = arn("lambda", "function:f")


@pytest.mark.parametrize(
    ("members", "resource"),
    [
        ({"FunctionName": "f"}, FUNCTION),
        ({"FunctionName": FUNCTION}, FUNCTION),
        ({"FunctionName": f"{ACCOUNT}:function:f"}, FUNCTION),
        ({"FunctionName": "999999999999:function:f"}, FUNCTION.replace(ACCOUNT, "999999999999")),
        ({"FunctionName": "f:prod"}, FUNCTION + ":prod"),
        ({"FunctionName": "f", "Qualifier": "prod"}, FUNCTION + ":prod"),
        ({"FunctionName": "f:$LATEST"}, FUNCTION + ":$LATEST"),
        ({"FunctionName": "f:prod", "Qualifier": "prod"}, FUNCTION + ":prod"),
        ({"FunctionName": "f:prod", "Qualifier": "dev"}, None),
        ({"FunctionName": "f*"}, None),
        ({"FunctionName": "f/../g"}, None),
        ({"FunctionName": "arn:aws-cn:lambda:eu-west-1:123456789012:function:f"}, None),
        ({"FunctionName": ""}, None),
    ],
)
def test_a_function_has_many_names(members: dict[str, str], resource: str | None) -> None:
    for operation in ("Invoke", "InvokeWithResponseStream"):
        assert pairs(needed("lambda", operation, members)) == [("lambda:InvokeFunction", resource)]
    assert pairs(needed("lambda", "InvokeAsync", members)) == [
        ("lambda:InvokeFunction", resource), ("lambda:InvokeAsync", resource),
    ]  # fmt: skip


def test_other_operations_are_on_the_function_itself() -> None:
    assert pairs(needed("lambda", "GetFunction", {"FunctionName": "f", "Qualifier": "1"})) == [
        ("lambda:GetFunction", FUNCTION)
    ]
    made = {"FunctionName": "f", "Role": f"arn:aws:iam::{ACCOUNT}:role/a/r", "Tags": {"a": "b"}}
    found = needed("lambda", "CreateFunction", made)
    assert pairs(found) == [
        ("lambda:CreateFunction", FUNCTION), ("iam:PassRole", f"arn:aws:iam::{ACCOUNT}:role/a/r"),
    ]  # fmt: skip
    assert found[0].context == {"aws:requesttag/a": "b", "aws:tagkeys": ("a",)}
    assert found[1].context == {"iam:passedtoservice": "lambda.amazonaws.com"}
    assert pairs(needed("lambda", "CreateFunction", {**made, "Role": "r"}))[1] == ("iam:PassRole", None)


# KMS

KEY_ID = "1234abcd-12ab-34cd-56ef-1234567890ab"
KEY = arn("kms", f"key/{KEY_ID}")


def test_a_key_is_known_by_its_id_and_not_by_its_alias() -> None:
    for given in (KEY_ID, KEY):
        assert pairs(needed("kms", "Encrypt", {"KeyId": given})) == [("kms:Encrypt", KEY)]
    for alias in ("alias/a", arn("kms", "alias/a")):
        (need,) = needed("kms", "Decrypt", {"KeyId": alias, "EncryptionContext": {"Dept": "x"}})
        assert need.resource is None
        assert need.context == {
            "kms:requestalias": "alias/a", "kms:encryptioncontext:dept": "x", "kms:encryptioncontextkeys": ("Dept",),
        }  # fmt: skip
    assert pairs(needed("kms", "Decrypt", {})) == [("kms:Decrypt", None)]
    assert pairs(needed("kms", "ListKeys", {})) == [("kms:ListKeys", "*")]
    assert pairs(needed("kms", "ListAliases", {"KeyId": KEY_ID})) == [("kms:ListAliases", "*")]
    assert pairs(needed("kms", "ReEncrypt", {"DestinationKeyId": KEY_ID})) == [
        ("kms:ReEncryptFrom", None), ("kms:ReEncryptTo", KEY),
    ]  # fmt: skip


def test_an_operation_on_an_alias_is_on_its_keys_too() -> None:
    alias = arn("kms", "alias/a")
    made = needed("kms", "CreateAlias", {"AliasName": "alias/a", "TargetKeyId": KEY_ID})
    assert pairs(made) == [("kms:CreateAlias", alias), ("kms:CreateAlias", KEY)]
    assert pairs(needed("kms", "DeleteAlias", {"AliasName": "alias/a"})) == [
        ("kms:DeleteAlias", alias), ("kms:DeleteAlias", None),
    ]  # fmt: skip


# Secrets Manager, STS, IAM


def test_only_a_full_arn_tells_a_secret() -> None:
    full = arn("secretsmanager", "secret:a/b-AbC123")
    assert pairs(needed("secretsmanager", "GetSecretValue", {"SecretId": full})) == [
        ("secretsmanager:GetSecretValue", full)
    ]
    for other in ("a/b", arn("secretsmanager", "secret:a/b"), full.replace("aws", "aws-cn"), full + "*", ""):
        assert needed("secretsmanager", "GetSecretValue", {"SecretId": other})[0].resource is None
    batch = pairs(needed("secretsmanager", "BatchGetSecretValue", {"SecretIdList": [full, "b"]}))
    assert batch == [
        ("secretsmanager:BatchGetSecretValue", "*"), ("secretsmanager:GetSecretValue", full),
        ("secretsmanager:GetSecretValue", None),
    ]  # fmt: skip


def test_a_session_with_tags_and_a_source_identity() -> None:
    role = f"arn:aws:iam::{ACCOUNT}:role/r"
    plain = {"RoleArn": role, "RoleSessionName": "s", "ExternalId": "e"}
    (need,) = needed("sts", "AssumeRole", plain)
    assert (need.action, need.resource) == ("sts:AssumeRole", role)
    assert need.context == {"sts:externalid": "e", "sts:rolesessionname": "s"}
    more = {**plain, "Tags": [{"Key": "a", "Value": "b"}], "SourceIdentity": "x"}
    found = needed("sts", "AssumeRole", more)
    assert pairs(found) == [(action, role) for action in ("sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity")]
    assert needed("sts", "AssumeRole", {**plain, "RoleArn": f"arn:aws:iam::{ACCOUNT}:user/r"})[0].resource is None
    assert pairs(needed("sts", "GetCallerIdentity")) == [("sts:GetCallerIdentity", "*")]


def test_a_name_is_no_arn_in_iam() -> None:
    def made(path: str | None, name: str = "r") -> str | None:
        return needed("iam", "CreateRole", {"RoleName": name} | ({"Path": path} if path else {}))[0].resource

    assert made(None) == f"arn:aws:iam::{ACCOUNT}:role/r"
    assert made("/a/b/") == f"arn:aws:iam::{ACCOUNT}:role/a/b/r"
    assert made("/a") is made("a/") is made("/:/") is made(None, "a/r") is made(None, "") is None
    assert pairs(needed("iam", "DeleteRole", {"RoleName": "r"})) == [("iam:DeleteRole", None)]
    policy = f"arn:aws:iam::{ACCOUNT}:policy/p"
    (attach,) = needed("iam", "AttachRolePolicy", {"RoleName": "r", "PolicyArn": policy})
    assert attach.context == {"iam:policyarn": policy}
    added = needed("iam", "AddRoleToInstanceProfile", {"InstanceProfileName": "p", "RoleName": "r"})
    assert pairs(added)[-1] == ("iam:PassRole", None)
    assert added[-1].context == {"iam:passedtoservice": "ec2.amazonaws.com"}


# ECS, Systems Manager, EventBridge


def test_a_task_needs_its_revision() -> None:
    (need,) = needed("ecs", "RunTask", {"taskDefinition": "f:1"})
    assert (need.action, need.resource) == ("ecs:RunTask", arn("ecs", "task-definition/f:1"))
    assert need.context == {"ecs:cluster": arn("ecs", "cluster/default")}
    full = arn("ecs", "task-definition/f:1")
    assert needed("ecs", "RunTask", {"taskDefinition": full})[0].resource == full
    for unknown in ("f", "f:*", arn("ecs", "cluster/c"), ""):
        assert needed("ecs", "RunTask", {"taskDefinition": unknown})[0].resource is None
    role = f"arn:aws:iam::{ACCOUNT}:role/r"
    found = needed("ecs", "RunTask", {"taskDefinition": "f:1", "overrides": {"taskRoleArn": role}})
    assert pairs(found)[1] == ("iam:PassRole", role)
    assert found[1].context == {"iam:passedtoservice": "ecs-tasks.amazonaws.com"}


def test_a_command_is_on_its_document_and_on_each_node() -> None:
    node, managed = "i-0123456789abcdef0", "mi-0123456789abcdef0"
    members = {"DocumentName": "AWS-RunShellScript", "InstanceIds": [node, managed]}
    assert pairs(needed("ssm", "SendCommand", members)) == [
        ("ssm:SendCommand", f"arn:aws:ssm:{REGION}::document/AWS-RunShellScript"),
        ("ssm:SendCommand", arn("ec2", f"instance/{node}")),
        ("ssm:SendCommand", arn("ssm", f"managed-instance/{managed}")),
    ]
    by_tag = needed("ssm", "SendCommand", {"DocumentName": "own", "Targets": [{"Key": "tag:a", "Values": ["b"]}]})
    assert pairs(by_tag) == [("ssm:SendCommand", arn("ssm", "document/own")), ("ssm:SendCommand", None)]
    session = needed("ssm", "StartSession", {"Target": node})
    assert pairs(session) == [("ssm:StartSession", None), ("ssm:StartSession", arn("ec2", f"instance/{node}"))]


def test_a_rule_is_of_its_bus() -> None:
    def rule(bus: str | None) -> str | None:
        return needed("events", "PutRule", {"Name": "r"} | ({"EventBusName": bus} if bus else {}))[0].resource

    assert rule(None) == rule("default") == arn("events", "rule/r")
    assert rule("b") == rule(arn("events", "event-bus/b")) == arn("events", "rule/b/r")
    assert rule("a:b") is rule(arn("sqs", "q")) is None
    sent = needed("events", "PutEvents", {"Entries": [{"Source": "s"}, {"EventBusName": "b", "DetailType": "d"}]})
    assert pairs(sent) == [("events:PutEvents", arn("events", f"event-bus/{bus}")) for bus in ("default", "b")]
    assert [each.context for each in sent] == [{"events:source": "s"}, {"events:detail-type": "d"}]
    assert pairs(needed("events", "PutEvents", {"Entries": []})) == [(None, None)]
    targets = {"Rule": "r", "Targets": [{"RoleArn": f"arn:aws:iam::{ACCOUNT}:role/r"}]}
    assert pairs(needed("events", "PutTargets", targets))[1] == ("iam:PassRole", f"arn:aws:iam::{ACCOUNT}:role/r")


# API Gateway


@pytest.mark.parametrize(
    ("service", "method", "target", "action", "path"),
    [
        ("apigateway", "GET", "/restapis/abc?limit=5", "GET", "/restapis/abc"),
        ("apigateway", "GET", "/restapis/%61bc", "GET", "/restapis/abc"),
        ("apigateway", "PATCH", "/restapis/a/stages/b", "PATCH", "/restapis/a/stages/b"),
        ("apigateway", "PUT", "/tags/arn%3aaws%3Ax", "PUT", "/tags/arn%3Aaws%3Ax"),
        ("apigatewayv2", "DELETE", "/v2/apis/a", "DELETE", "/apis/a"),
    ],
)
def test_the_verb_is_the_action(service: str, method: str, target: str, action: str, path: str) -> None:
    found = pairs(needed(service, "GetApis", method=method, target=target))
    assert found == [(f"apigateway:{action}", f"arn:aws:apigateway:{REGION}::{path}")]


def test_a_verb_that_is_none_is_unknown() -> None:
    assert pairs(needed("apigateway", "GetRestApis", method="HEAD", target="/restapis")) == [(None, None)]
    portal = needed("apigatewayv2", "GetPortal", {"PortalId": "p"}, method="GET", target="/v2/portals/p")
    assert portal[0].action == "apigateway:GetPortal"


# CloudWatch Logs


def test_a_log_group_is_what_a_policy_with_a_star_behind_it_names() -> None:
    group = arn("logs", "log-group:g/h")
    for operation in ("CreateLogGroup", "DescribeLogStreams", "FilterLogEvents", "PutRetentionPolicy"):
        assert pairs(needed("logs", operation, {"logGroupName": "g/h"})) == [
            (f"logs:{operation}", f"{group}:log-stream:")
        ]
    found = needed("logs", "PutLogEvents", {"logGroupName": "g/h", "logStreamName": "s"})
    assert pairs(found) == [("logs:PutLogEvents", f"{group}:log-stream:s")]
    assert pairs(needed("logs", "TagResource", {"resourceArn": group})) == [("logs:TagResource", group)]
    assert pairs(needed("logs", "FilterLogEvents", {})) == [("logs:FilterLogEvents", None)]
    assert pairs(needed("logs", "OfTomorrow", {})) == [(None, None)]


# Elastic Load Balancing


def test_a_load_balancer_that_is_made_has_a_name_that_nobody_knows_yet() -> None:
    create = ("elasticloadbalancing:CreateLoadBalancer", None)
    assert pairs(needed("elbv2", "CreateLoadBalancer", {"Name": "web"})) == [create]
    classic = arn("elasticloadbalancing", "loadbalancer/web")
    assert pairs(needed("elb", "CreateLoadBalancer", {"LoadBalancerName": "web"})) == [(create[0], classic)]
