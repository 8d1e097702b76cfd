"""The machines of EC2, by boto3, as `adapters.aws` asks it: the key opened for each request, within its time limits."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from gateway.adapters.aws import Aws, aware, understood
from gateway.core.errors import Refusal
from gateway.core.servers import Done, Machine, MachineOrder, Output, Verb
from gateway.ports import OpenableKey

PAGE: Final = 1000
MOST_PAGES: Final = 20
# boto3's names of the operations, the member of the answer that holds what came of it, and what is in an answer that
# has none (AWS: API_StartInstances, API_StopInstances, API_RebootInstances, API_TerminateInstances).
_OPERATIONS: Final = {
    Verb.START: ("start_instances", "StartingInstances", ""),
    Verb.STOP: ("stop_instances", "StoppingInstances", ""),
    Verb.REBOOT: ("reboot_instances", None, "running"),
    Verb.TERMINATE: ("terminate_instances", "TerminatingInstances", ""),
}


class AwsMachines:
    """`ports.Machines`."""

    def __init__(self, aws: Aws) -> None:
        self._aws = aws

    @understood()
    def all(self, key: OpenableKey, region: str) -> Sequence[Machine]:
        """EC2 DescribeInstances, page by page. More than 20,000 are refused: what is missing must not look absent."""
        found: list[Machine] = []
        more: dict[str, Any] = {}
        for _ in range(MOST_PAGES):
            answer = self._aws.call(key, "ec2", region, "describe_instances", {"MaxResults": PAGE, **more})
            found += _machines(answer["Reservations"], region)
            if not answer.get("NextToken"):
                return found
            more = {"NextToken": answer["NextToken"]}
        raise Refusal("upstream_refused", "There are too many machines to list", reason="machines_too_many")

    @understood()
    def one(self, key: OpenableKey, region: str, instance_id: str) -> Machine | None:
        """EC2 DescribeInstances; None when AWS knows no such instance."""
        found = self._aws.described(key, region, instance_id)
        return _machine(*found, region) if found else None

    @understood()
    def run(self, key: OpenableKey, order: MachineOrder) -> tuple[Machine, str]:
        """EC2 RunInstances of one machine. The metadata service is asked for with IMDSv2 alone."""
        plan = order.plan
        arguments: dict[str, Any] = {
            "ImageId": plan.image,
            "InstanceType": plan.type,
            "MinCount": 1,
            "MaxCount": 1,
            "UserData": order.user_data,
            "ClientToken": order.client_token,
            "MetadataOptions": {"HttpTokens": "required"},
        }
        if plan.subnet:
            arguments["SubnetId"] = plan.subnet
        if plan.security_groups:
            arguments["SecurityGroupIds"] = list(plan.security_groups)
        if order.tags:
            tags = [{"Key": name, "Value": value} for name, value in order.tags.items()]
            arguments["TagSpecifications"] = [{"ResourceType": "instance", "Tags": tags}]
        answer = self._aws.call(key, "ec2", plan.region, "run_instances", arguments)
        (machine,) = _machines([answer], plan.region)
        return machine, _request_id(answer)

    @understood()
    def change(self, key: OpenableKey, region: str, instance_id: str, verb: Verb) -> Done:
        """EC2 StartInstances, StopInstances, RebootInstances or TerminateInstances."""
        operation, member, state = _OPERATIONS[verb]
        answer = self._aws.call(key, "ec2", region, operation, {"InstanceIds": [instance_id]})
        if member:
            (changed,) = answer[member]
            state = str(changed["CurrentState"]["Name"])
        return Done(state, _request_id(answer))

    @understood()
    def output(self, key: OpenableKey, region: str, instance_id: str) -> Output:
        """EC2 GetConsoleOutput; boto3 takes the base64 off."""
        answer = self._aws.call(key, "ec2", region, "get_console_output", {"InstanceId": instance_id})
        at = answer.get("Timestamp")
        return Output(str(answer.get("Output") or ""), aware(at) if at else None)


def _machines(reservations: Sequence[Mapping[str, Any]], region: str) -> Iterator[Machine]:
    for reservation in reservations:
        for instance in reservation.get("Instances", []):
            yield _machine(reservation, instance, region)


def _machine(reservation: Mapping[str, Any], instance: Mapping[str, Any], region: str) -> Machine:
    return Machine(
        account=str(reservation["OwnerId"]),
        region=region,
        instance_id=str(instance["InstanceId"]),
        state=str(instance["State"]["Name"]),
        launched_at=aware(instance["LaunchTime"]),
        image=str(instance.get("ImageId", "")),
        type=str(instance.get("InstanceType", "")),
        private_ip=instance.get("PrivateIpAddress"),
        public_ip=instance.get("PublicIpAddress"),
        tags={str(tag["Key"]): str(tag["Value"]) for tag in instance.get("Tags", [])},
    )


def _request_id(answer: Mapping[str, Any]) -> str:
    return str(answer.get("ResponseMetadata", {}).get("RequestId", ""))[:64]
