"""SNS: Publish goes to a topic, an endpoint, or a telephone.

AWS: "Service Authorization Reference: Amazon SNS"; "Amazon SNS API reference", Publish: "You must specify a value for
TopicArn, TargetArn or PhoneNumber".
"""

import re

from gateway.core.actions.ask import Ask
from gateway.core.actions.call import Need
from gateway.core.errors import Refusal

_ARN = re.compile(r"arn:([a-z-]+):sns:[a-z0-9-]+:[0-9]{12}:(?:[A-Za-z0-9_-]{1,256}(?:\.fifo)?|endpoint/[!-~]+)")


def needs(ask: Ask) -> tuple[Need, ...] | None:
    """The needs of Publish."""
    if ask.operation != "Publish":
        return None
    goals = [name for name in ("TopicArn", "TargetArn", "PhoneNumber") if ask.member(name) is not None]
    if len(goals) != 1:
        raise Refusal("call_ambiguous", "Publish has one of TopicArn, TargetArn and PhoneNumber", reason="two_targets")
    if goals == ["PhoneNumber"]:
        return (Need("sns:Publish", "*", {}),)  # a text message is on no resource of SNS
    found = _ARN.fullmatch(ask.text(goals[0]) or "")
    return (Need("sns:Publish", found[0] if found and found[1] == ask.partition else None, {}),)
