"""iam:PassRole: a role that a call hands to a service has to be one that may be handed over. Pure.

AWS: "Grant a user permissions to pass a role to an AWS service", and the dependent actions in the "Service
Authorization Reference". PassRole is on the ARN of the role; a role that is named without its path has an unknown one.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any

from gateway.core.actions.ask import Ask, Context
from gateway.core.actions.call import Need

_ROLE = re.compile(r"arn:[a-z-]+:iam::[0-9]{12}:role/[!-~]+")
_STEP = re.compile(r"([^\[\]{}.]+)|(\[\])|(\{\})")

# Prefix → the service's name as a principal, of those whose documentation names one ("iam:PassedToService"). Of others
# the key is absent: an Allow that asks for it does not match.
_PRINCIPALS = {
    "autoscaling": "autoscaling", "batch": "batch", "bedrock": "bedrock", "cloudformation": "cloudformation",
    "cloudtrail": "cloudtrail", "codebuild": "codebuild", "codedeploy": "codedeploy", "codepipeline": "codepipeline",
    "config": "config", "datasync": "datasync", "ec2": "ec2", "ecs": "ecs-tasks", "eks": "eks", "events": "events",
    "firehose": "firehose", "glue": "glue", "lambda": "lambda", "pipes": "pipes", "rds": "rds",
    "redshift": "redshift", "s3": "s3", "sagemaker": "sagemaker", "scheduler": "scheduler", "states": "states",
}  # fmt: skip


def role_needs(ask: Ask, places: Sequence[str], *, passes: bool) -> tuple[Need, ...]:
    """A need for each role in these places of the input. `passes`: what is there is a role, whatever its form."""
    out = []
    for place in places:
        for value in _at(ask, place):
            if isinstance(value, str) and value and (passes or _ROLE.fullmatch(value)):
                out.append(pass_role(ask, value))
    return tuple(out)


def pass_role(ask: Ask, role: str, to: str | None = None) -> Need:
    """The need to pass one role to the called service, or to the one named `to`."""
    principal = to or _PRINCIPALS.get(ask.actions.prefix)
    context: Context = {"iam:passedtoservice": f"{principal}.amazonaws.com"} if principal else {}
    return Need("iam:PassRole", role if _ROLE.fullmatch(role) else None, context)


def _at(ask: Ask, place: str) -> Iterator[Any]:
    """The values in a place of the input. Raises Refusal `body_required`."""
    steps = [found[0] for found in _STEP.finditer(place)]
    values: list[Any] = [ask.member(steps[0])]
    for step in steps[1:]:
        if step == "[]":
            values = [inner for each in values if isinstance(each, list) for inner in each]
        elif step == "{}":
            values = [inner for each in values if isinstance(each, dict) for inner in each.values()]
        else:
            values = [each.get(step) for each in values if isinstance(each, dict)]
    yield from values
