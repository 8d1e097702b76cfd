"""Short ways to ask the engine."""

from typing import Any

from gateway.core.policy.engine import Decision, Question, compile_policy, decide
from gateway.core.policy.variables import Context

GET, OBJECT = "s3:GetObject", "arn:aws:s3:::data/a"


def allow(action: Any = "*", resource: Any = "*", **more: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": action, "Resource": resource, **more}


def deny(action: Any = "*", resource: Any = "*", **more: Any) -> dict[str, Any]:
    return allow(action, resource, **more) | {"Effect": "Deny"}


def without(statement: dict[str, Any], element: str) -> dict[str, Any]:
    """The statement with NotAction in the place of Action, or NotResource of Resource."""
    return {f"Not{key}" if key == element else key: value for key, value in statement.items()}


def policy(*statements: dict[str, Any]) -> dict[str, Any]:
    return {"Version": "2012-10-17", "Statement": list(statements)}


def asked(
    *statements: dict[str, Any], action: str | None = GET, resource: str | None = OBJECT, context: Context | None = None
) -> Decision:
    """The decision of one policy with these statements."""
    return decide([compile_policy(policy(*statements), "p")], Question(action, resource, context or {}))


def matches(statement: dict[str, Any], **asking: Any) -> bool:
    """Whether one statement, an Allow or a Deny, is about what is asked."""
    return asked(statement, **asking).kind == ("allowed" if statement["Effect"] == "Allow" else "denied")


def holds(operator: str, key: str, wanted: Any, context: Context) -> tuple[bool, bool]:
    """Whether a condition holds in an Allow, and in a Deny."""
    condition = {operator: {key: wanted}}
    return matches(allow(Condition=condition), context=context), matches(deny(Condition=condition), context=context)
