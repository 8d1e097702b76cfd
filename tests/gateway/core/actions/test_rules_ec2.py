"""EC2: what a launch touches, and tags."""

from typing import Any

import pytest

from gateway.core.errors import Refusal
from tests.gateway.core.actions.asking import REGION, arn, needed, pairs

LAUNCH = {
    "ImageId": "ami-1", "InstanceType": "t3.micro", "MinCount": "1", "MaxCount": "1", "SubnetId": "subnet-1",
    "SecurityGroupIds": ["sg-1", "sg-2"],
}  # fmt: skip


def launched(more: dict[str, Any], without: str = "") -> set[tuple[str | None, str | None]]:
    members = {key: value for key, value in {**LAUNCH, **more}.items() if key != without}
    return set(pairs(needed("ec2", "RunInstances", members)))


def run(resource: str | None) -> tuple[str, str | None]:
    return ("ec2:RunInstances", resource and arn("ec2", resource))


IMAGE = ("ec2:RunInstances", f"arn:aws:ec2:{REGION}::image/ami-1")
PLAIN = {
    run("instance/*"), IMAGE, run("subnet/subnet-1"), run("security-group/sg-1"), run("security-group/sg-2"),
    run("network-interface/*"), run("volume/*"),
}  # fmt: skip


def test_a_launch_is_on_all_that_it_touches() -> None:
    assert launched({}) == PLAIN


@pytest.mark.parametrize(
    ("more", "added"),
    [
        ({"KeyName": "k"}, {run("key-pair/k")}),
        ({"Placement": {"GroupName": "g", "HostId": "h-1"}}, {run("placement-group/g"), run("dedicated-host/h-1")}),
        ({"IamInstanceProfile": {"Name": "p"}}, {("iam:PassRole", None)}),
        ({"LaunchTemplate": {"LaunchTemplateId": "lt-1"}}, {run("launch-template/lt-1"), ("iam:PassRole", None)}),
        ({"LaunchTemplate": {"LaunchTemplateName": "x"}}, {run(None), ("iam:PassRole", None)}),
        ({"SecurityGroups": ["default"]}, {run(None)}),
        ({"BlockDeviceMappings": [{"Ebs": {"SnapshotId": "snap-1"}}]},
         {("ec2:RunInstances", f"arn:aws:ec2:{REGION}::snapshot/snap-1")}),
        ({"NetworkInterfaces": [{"SubnetId": "subnet-2", "Groups": ["sg-3"]}]},
         {run("subnet/subnet-2"), run("security-group/sg-3")}),
        ({"CapacityReservationSpecification": {"CapacityReservationTarget": {"CapacityReservationId": "cr-1"}}},
         {run("capacity-reservation/cr-1")}),
    ],
)  # fmt: skip
def test_what_else_a_launch_names_is_decided_on(more: dict[str, Any], added: set[tuple[str, str | None]]) -> None:
    assert launched(more) == PLAIN | added


@pytest.mark.parametrize(
    ("without", "gone"),
    [("ImageId", IMAGE), ("SubnetId", run("subnet/subnet-1")), ("SecurityGroupIds", run("security-group/sg-1"))],
)
def test_what_a_launch_leaves_open_is_unknown(without: str, gone: tuple[str, str]) -> None:
    found = launched({}, without)
    assert run(None) in found
    assert gone not in found


@pytest.mark.parametrize("image", ["resolve:ssm:/x", "ami-*/../ami-1", "*", "arn:aws:ec2:eu-west-1::image/ami-1"])
def test_an_image_that_is_no_id_is_unknown(image: str) -> None:
    assert launched({"ImageId": image}) == PLAIN - {IMAGE} | {run(None)}


def test_an_existing_interface_has_its_own_subnet_and_groups() -> None:
    found = needed("ec2", "RunInstances", {"ImageId": "ami-1", "NetworkInterfaces": [{"NetworkInterfaceId": "eni-1"}]})
    assert set(pairs(found)) == {run("instance/*"), IMAGE, run("network-interface/eni-1"), run("volume/*")}


def test_the_keys_of_a_launch() -> None:
    members = {
        **LAUNCH, "EbsOptimized": True, "Placement": {"Tenancy": "dedicated", "AvailabilityZone": "eu-west-1a"},
        "MetadataOptions": {"HttpTokens": "required", "HttpPutResponseHopLimit": "1"},
        "InstanceMarketOptions": {"MarketType": "spot"},
        "BlockDeviceMappings": [{"Ebs": {"VolumeType": "gp3", "VolumeSize": "8", "Encrypted": "true"}}],
        "NetworkInterfaces": [{"AssociatePublicIpAddress": "false"}, {"AssociatePublicIpAddress": "true"}],
        "TagSpecifications": [{"ResourceType": "instance", "Tags": [{"Key": "Team", "Value": "x"}]}],
    }  # fmt: skip
    found = needed("ec2", "RunInstances", members)
    by_kind = {
        (each.resource or "").rpartition(":")[2]: each.context for each in found if each.action != "ec2:CreateTags"
    }
    assert by_kind["instance/*"] == {
        "ec2:instancetype": "t3.micro", "ec2:ebsoptimized": "true", "ec2:availabilityzone": "eu-west-1a",
        "ec2:tenancy": "dedicated", "ec2:instancemarkettype": "spot", "ec2:metadatahttptokens": "required",
        "ec2:metadatahttpputresponsehoplimit": "1", "aws:requesttag/team": "x", "aws:tagkeys": ("Team",),
    }  # fmt: skip
    assert by_kind["volume/*"] == {"ec2:volumetype": "gp3", "ec2:volumesize": "8", "ec2:encrypted": "true"}
    assert by_kind["network-interface/*"] == {"ec2:associatepublicipaddress": "true"}
    assert by_kind["image/ami-1"] == {}
    (tagging,) = [each for each in found if each.action == "ec2:CreateTags"]
    assert tagging.resource == arn("ec2", "instance/*")
    assert tagging.context == {
        "ec2:createaction": "RunInstances", "aws:requesttag/team": "x", "aws:tagkeys": ("Team",),
    }  # fmt: skip


@pytest.mark.parametrize("operation", ["StartInstances", "StopInstances", "TerminateInstances", "RebootInstances"])
def test_each_instance_is_decided_on(operation: str) -> None:
    action = f"ec2:{operation}"
    assert pairs(needed("ec2", operation, {"InstanceIds": ["i-1", "i-2", ""]})) == [
        (action, arn("ec2", "instance/i-1")), (action, arn("ec2", "instance/i-2")), (action, None),
    ]  # fmt: skip
    assert pairs(needed("ec2", operation, {})) == [(action, None)]
    with pytest.raises(Refusal) as refused:
        needed("ec2", operation, {}, unread=("InstanceIds",))
    assert refused.value.code == "body_required"


def test_tagging_is_on_what_the_ids_say() -> None:
    members = {"Resources": ["i-1", "ami-2", "snap-3", "subnet-4", "nope-5", "i-*", "x"], "Tags": [{"Key": "a"}]}
    found = needed("ec2", "CreateTags", members)
    assert [each.resource for each in found] == [
        arn("ec2", "instance/i-1"), f"arn:aws:ec2:{REGION}::image/ami-2", f"arn:aws:ec2:{REGION}::snapshot/snap-3",
        arn("ec2", "subnet/subnet-4"), None,
    ]  # fmt: skip
    assert found[0].context == {"aws:requesttag/a": "", "aws:tagkeys": ("a",)}


def test_what_is_tagged_while_it_is_made_takes_create_tags() -> None:
    tags = [{"ResourceType": "volume", "Tags": [{"Key": "a", "Value": "b"}]}]
    found = needed("ec2", "CreateVolume", {"AvailabilityZone": "a", "TagSpecifications": tags})
    assert pairs(found) == [("ec2:CreateVolume", arn("ec2", "volume/*")), ("ec2:CreateTags", arn("ec2", "volume/*"))]
    assert found[0].context["aws:requesttag/a"] == "b"
    assert pairs(needed("ec2", "CreateVolume", {})) == [("ec2:CreateVolume", arn("ec2", "volume/*"))]
    assert pairs(needed("ec2", "DescribeInstances", {})) == [("ec2:DescribeInstances", "*")]
