"""From the index to needs: names filled in, ARNs held against their types, the unknown, roles that are passed."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.actions.actions_model import nothing_known, service_actions
from gateway.core.actions.call import AwsRequest, Need, Routed
from gateway.core.actions.needs import MOST, needs
from gateway.core.errors import Refusal
from tests.gateway.core.actions.asking import ACCOUNT, REGION, arn, needed, pairs

INDEX = {
    "prefix": "toy",
    "arns": {
        "box": "arn:${Partition}:toy:${Region}:${Account}:box/${BoxName}",
        "lid": "arn:${Partition}:toy:${Region}:${Account}:box/${BoxName}/lid/${LidId}",
        "shelf": "arn:${Partition}:toy:${Region}:${Account}:shelf",
    },
    "plain": ["ListBoxes"],
    "operations": {
        "GetBox": {"on": {"box": {"BoxName": "BoxName"}}},
        "GetLid": {"on": {"lid": {"BoxName": "~Box", "LidId": "LidIds"}}},
        "GetShelf": {"on": {"shelf": {}}},
        "TagThing": {"arn": {"Arn": ["box", "shelf"]}},
        "OpenAny": {"may_arn": {"Arn": ["box"]}},
        "Mend": {"on": {"box": None}, "may": {"lid": {"BoxName": "Box", "LidId": "Lid"}}},
        "Guess": {"on": {"shelf": {}}, "unsure": ["Thing"]},
        "Hire": {"action": "toy:Employ", "passes": True, "roles": ["Role", "Jobs[].role", "ByName{}.RoleArn"]},
        "Maybe": {"roles": ["Role"]},
        "Two": {"on": {"lid": {"BoxName": "Boxes", "LidId": "Lids"}}},
    },
}


def ask(
    operation: str | None, members: dict[str, Any] | None = None, region: str = REGION, **kwargs: Any
) -> tuple[Need, ...]:
    routed = Routed("toy", operation, "json", members or {}, frozenset(kwargs.get("unread", ())))
    request = AwsRequest("POST", "/", (), "toy", region, "UNSIGNED-PAYLOAD")
    return needs(routed, request, ACCOUNT, service_actions("toy", kwargs.get("index", INDEX)))


BOX = arn("toy", "box/b")


@pytest.mark.parametrize(
    ("operation", "members", "resources"),
    [
        ("ListBoxes", {}, ["*"]),
        ("GetShelf", {}, [arn("toy", "shelf")]),
        ("GetBox", {"BoxName": "b"}, [BOX]),
        ("GetBox", {"BoxName": BOX}, [BOX]),  # a name may be an ARN
        ("GetBox", {"BoxName": "a/b"}, [arn("toy", "box/a/b")]),
        ("GetBox", {"BoxName": "*"}, [arn("toy", "box/*")]),  # as it is: the engine takes it for a text
        ("GetLid", {"Box": "b", "LidIds": ["1", "2"]}, [BOX + "/lid/1", BOX + "/lid/2"]),
        ("GetLid", {"Box": BOX, "LidIds": ["1"]}, [BOX + "/lid/1"]),
        ("TagThing", {"Arn": BOX}, [BOX]),
        ("TagThing", {"Arn": arn("toy", "shelf")}, [arn("toy", "shelf")]),
        ("OpenAny", {"Arn": BOX}, [BOX]),
    ],
)
def test_resources_that_the_request_tells(operation: str, members: dict[str, Any], resources: list[str]) -> None:
    assert pairs(ask(operation, members)) == [(f"toy:{operation}", each) for each in resources]


@pytest.mark.parametrize(
    ("operation", "members"),
    [
        ("GetBox", {}),
        ("GetBox", {"BoxName": ""}),
        ("GetBox", {"BoxName": None}),
        ("GetBox", {"BoxName": 7}),
        ("GetBox", {"BoxName": {"x": "y"}}),
        ("GetBox", {"BoxName": " b"}),
        ("GetBox", {"BoxName": "b\n"}),
        ("GetBox", {"BoxName": "a:b"}),
        ("GetBox", {"BoxName": "b" * 3000}),
        ("GetBox", {"BoxName": BOX.replace(":toy:", ":s3:")}),
        ("GetBox", {"BoxName": BOX.replace("arn:aws", "arn:aws-cn")}),
        ("GetBox", {"BoxName": arn("toy", "shelf")}),
        ("GetBox", {"BoxName": arn("toy", "box/")}),
        ("GetLid", {"Box": "b"}),
        ("GetLid", {"LidIds": ["1"]}),
        ("GetLid", {"Box": BOX.replace(ACCOUNT, "9" * 12), "LidIds": ["1"]}),
        ("TagThing", {"Arn": "b"}),
        ("TagThing", {"Arn": arn("toy", "shelf/x")}),
        ("TagThing", {"Arn": "arn:aws:toy:eu-west-1:*:box/b"}),
        ("TagThing", {}),
        ("OpenAny", {}),
        ("Mend", {}),
        ("Two", {"Boxes": ["a", "b"], "Lids": ["1", "2"]}),
    ],
)
def test_what_cannot_be_known_is_none(operation: str, members: dict[str, Any]) -> None:
    assert pairs(ask(operation, members)) == [(f"toy:{operation}", None)]


def test_one_bad_item_hides_no_good_one() -> None:
    found = ask("GetLid", {"Box": "b", "LidIds": ["1", "", "3"]})
    assert [each.resource for each in found] == [BOX + "/lid/1", None, BOX + "/lid/3"]


def test_types_that_are_optional() -> None:
    assert pairs(ask("Mend", {"Box": "b", "Lid": "1"})) == [("toy:Mend", None), ("toy:Mend", BOX + "/lid/1")]
    assert pairs(ask("Guess", {})) == [("toy:Guess", arn("toy", "shelf"))]
    assert pairs(ask("Guess", {"Thing": "x"})) == [("toy:Guess", arn("toy", "shelf")), ("toy:Guess", None)]


def test_an_unknown_operation_is_unknown() -> None:
    for operation in (None, "NoSuchThing"):
        assert ask(operation) == (Need(None, None, {}),)
    routed, request = Routed("none", "Get", "json", {}), AwsRequest("GET", "/", (), "none", REGION, "")
    assert needs(routed, request, ACCOUNT, nothing_known("none")) == (Need(None, None, {}),)


def test_a_member_that_was_not_seen_is_asked_for_when_it_matters() -> None:
    for operation, unread in (("GetBox", "BoxName"), ("TagThing", "Arn"), ("Hire", "Jobs"), ("GetShelf", "Tags")):
        with pytest.raises(Refusal) as refused:
            ask(operation, unread=(unread,))
        assert (refused.value.code, refused.value.context["member"]) == ("body_required", unread)
    assert pairs(ask("GetShelf", unread=("Other",))) == [("toy:GetShelf", arn("toy", "shelf"))]


@pytest.mark.parametrize(
    ("region", "partition"),
    [("eu-west-1", "aws"), ("cn-north-1", "aws-cn"), ("us-gov-west-1", "aws-us-gov")],
)
def test_the_partition_is_the_regions(region: str, partition: str) -> None:
    assert ask("GetBox", {"BoxName": "b"}, region)[0].resource == f"arn:{partition}:toy:{region}:{ACCOUNT}:box/b"


@given(st.text())
def test_a_name_never_leaves_its_place_in_the_arn(name: str) -> None:
    (need,) = ask("GetBox", {"BoxName": name})
    if need.resource is not None and not name.startswith("arn:"):
        assert need.resource == arn("toy", f"box/{name}")
        assert need.resource.count(":") == 5


# Roles and tags

ROLE = f"arn:aws:iam::{ACCOUNT}:role/path/r"


def test_a_role_that_is_passed_has_to_be_one_that_may_be() -> None:
    members = {"Role": ROLE, "Jobs": [{"role": ROLE + "2"}, {"other": 1}, "x"], "ByName": {"a": {"RoleArn": "r"}}}
    assert pairs(ask("Hire", members)) == [
        ("toy:Employ", "*"), ("iam:PassRole", ROLE), ("iam:PassRole", ROLE + "2"), ("iam:PassRole", None),
    ]  # fmt: skip
    assert pairs(ask("Hire", {})) == [("toy:Employ", "*")]


@pytest.mark.parametrize(
    "role", ["r", "role/r", f"arn:aws:iam::{ACCOUNT}:user/r", f"arn:aws:iam::{ACCOUNT}:role/", "*"]
)
def test_what_is_no_arn_of_a_role_is_one_that_cannot_be_known(role: str) -> None:
    assert pairs(ask("Hire", {"Role": role}))[1:] == [("iam:PassRole", None)]
    # Where AWS does not say that a role is passed, only what looks like one is taken for one.
    assert pairs(ask("Maybe", {"Role": role})) == [("toy:Maybe", "*")]
    assert pairs(ask("Maybe", {"Role": ROLE}))[1:] == [("iam:PassRole", ROLE)]


@pytest.mark.parametrize(
    "tags",
    [
        {"Tags": [{"Key": "Team", "Value": "x"}]},
        {"tags": {"Team": "x"}},
        {"Tags": [{"TagKey": "Team", "TagValue": "x"}]},
    ],
)
def test_tags_are_condition_keys(tags: dict[str, Any]) -> None:
    (need,) = ask("GetShelf", tags)
    assert need.context == {"aws:requesttag/team": "x", "aws:tagkeys": ("Team",)}
    assert ask("GetShelf", {"TagKeys": ["a", "b"]})[0].context == {"aws:tagkeys": ("a", "b")}
    assert ask("GetShelf", {"Tags": "odd"})[0].context == {}


def test_twins_are_one_and_a_flood_is_refused() -> None:
    assert len(ask("GetLid", {"Box": "b", "LidIds": ["1", "1"]})) == 1
    with pytest.raises(Refusal) as refused:
        ask("GetLid", {"Box": "b", "LidIds": [str(i) for i in range(MOST + 1)]})
    assert refused.value.reason == "too_many_needs"


# The committed index


@pytest.mark.parametrize(
    ("service", "operation", "members", "expected"),
    [
        ("ssm", "GetParameters", {"Names": ["/a/b", "c"]},
         [("ssm:GetParameters", arn("ssm", "parameter/a/b")), ("ssm:GetParameters", arn("ssm", "parameter/c"))]),
        ("rds", "StopDBInstance", {"DBInstanceIdentifier": "PROD"}, [("rds:StopDBInstance", arn("rds", "db:prod"))]),
        ("docdb", "StopDBCluster", {"DBClusterIdentifier": "c"}, [("rds:StopDBCluster", arn("rds", "cluster:c"))]),
        ("logs", "PutLogEvents", {"logGroupName": "g/h", "logStreamName": "s"},
         [("logs:PutLogEvents", arn("logs", "log-group:g/h:log-stream:s"))]),
        ("ecs", "DescribeTasks", {"cluster": arn("ecs", "cluster/c"), "tasks": ["t"]},
         [("ecs:DescribeTasks", arn("ecs", "task/c/t"))]),
        ("cloudwatch", "PutMetricData", {}, [("cloudwatch:PutMetricData", None)]),
        ("budgets", "CreateBudget", {}, [("budgets:ModifyBudget", None)]),
        ("cloudcontrol", "CreateResource", {}, [("cloudformation:CreateResource", "*")]),
        ("resourcegroupstaggingapi", "GetResources", {}, [("tag:GetResources", "*")]),
        ("codecatalyst", "GetSpace", {"name": "s"}, [(None, None)]),
        ("iot-data", "Publish", {"topic": "t"}, [("iot:Publish", arn("iot", "topic/t"))]),
        ("cloudformation", "CreateStack", {"StackName": "s", "RoleARN": ROLE},
         [("cloudformation:CreateStack", None), ("iam:PassRole", ROLE)]),
    ],
)  # fmt: skip
def test_the_index(service: str, operation: str, members: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    assert pairs(needed(service, operation, members)) == expected
