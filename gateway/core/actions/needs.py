"""What has to be allowed for a call: IAM actions on resources, with the condition keys that they bring. Pure.

Rules written by hand come first (`rules`): where the name of an operation does not tell. Then the index does
(`actions_model`), made of AWS's "Service Authorization Reference". What neither knows is None: a Need that only a
literal `*` allows, and that any Deny is against whose other elements match.
"""

from typing import Any, Final, Protocol

from gateway.core.actions.actions_model import ServiceActions
from gateway.core.actions.ask import Ask
from gateway.core.actions.call import AwsRequest, Need, Routed
from gateway.core.actions.indexed import by_index
from gateway.core.actions.rules import (
    apigateway,
    dynamodb,
    ec2,
    ecs,
    events,
    iam,
    kms,
    lambda_,
    logs,
    s3,
    secretsmanager,
    sns,
    sqs,
    ssm,
    sts,
)
from gateway.core.errors import Refusal


class Rule(Protocol):
    """The needs of a call, or None where the index knows them as well."""

    def __call__(self, ask: Ask, /) -> tuple[Need, ...] | None: ...


RULES: Final[dict[str, Rule]] = {
    "apigateway": apigateway.needs,
    "apigatewayv2": apigateway.needs,
    "dynamodb": dynamodb.needs,
    "ec2": ec2.needs,
    "ecs": ecs.needs,
    "events": events.needs,
    "iam": iam.needs,
    "kms": kms.needs,
    "lambda": lambda_.needs,
    "logs": logs.needs,
    "s3": s3.needs,
    "secretsmanager": secretsmanager.needs,
    "sns": sns.needs,
    "sqs": sqs.needs,
    "ssm": ssm.needs,
    "sts": sts.needs,
}
MOST: Final = 4000
"""Needs of one call. DeleteObjects, the greatest batch of AWS, has 1,000 keys, with up to two needs each."""


def needs(routed: Routed, request: AwsRequest, account: str, actions: ServiceActions) -> tuple[Need, ...]:
    """What the call takes; never empty. `account` is the role's.

    Raises Refusal: `body_required` when a member that tells it was not seen, `call_malformed` and `call_ambiguous` for
    what AWS would not understand, or could in two ways.
    """
    ask = Ask(routed, request, account, actions)
    if routed.operation is None:
        return (Need(None, None, {}),)
    rule = RULES.get(routed.service)
    found = rule(ask) if rule else None
    if found is None:
        found = by_index(ask)
    if len(found) > MOST:
        raise Refusal("call_malformed", f"The call takes more than {MOST} things", reason="too_many_needs")
    return tuple(_without_twins(found) if len(found) > 1 else found) or (Need(None, None, {}),)


def _without_twins(found: tuple[Need, ...]) -> list[Need]:
    seen: dict[tuple[Any, ...], Need] = {}
    for need in found:
        seen.setdefault((need.action, need.resource, tuple(sorted(need.context.items()))), need)
    return list(seen.values())
