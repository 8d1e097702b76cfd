"""The decision of IAM policies about one request. Pure.

AWS: "Policy evaluation logic": an explicit Deny wins, then an Allow counts, and without one the request is denied by
default. Several policies count as one with all their statements.

An action without resource types asks for the resource `*`: AWS, "Actions, resources, and condition keys": "you must
specify all resources ("*") in your policy when you use it". To a pattern that `*` is one letter as any other, so that
of all that a Resource may be only `*` matches it.

An action or a resource that cannot be known (None) matches an Allow whose element is literally `*`, and every Deny.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.core.policy.compiled import Policy, compile_policy
from gateway.core.policy.variables import Context

__all__ = ("ALLOWED", "DENIED", "NOT_ALLOWED", "Decision", "Policy", "Question", "compile_policy", "decide")

ALLOWED, DENIED, NOT_ALLOWED = "allowed", "denied", "not_allowed"


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked for: `s3:GetObject` in any case, an ARN or `*`, and the condition keys, in lower case.

    None is an action or a resource that cannot be known. A key with several values has a tuple.
    """

    action: str | None
    resource: str | None
    context: Context


@dataclass(frozen=True, slots=True)
class Decision:
    """`allowed`, `denied` (by a Deny) or `not_allowed` (by default). True when allowed.

    `statements` names those that decided: every Deny that matches, else every Allow that does.
    """

    kind: str
    statements: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return self.kind == ALLOWED


def decide(policies: Sequence[Policy], question: Question) -> Decision:
    """What the policies say together. No policy, and an empty one, allows nothing."""
    action = question.action if question.action is None else question.action.lower()
    resource, context = question.resource, question.context
    denying: list[str] = []
    allowing: list[str] = []
    for policy in policies:
        for statement in policy.about(action):
            if statement.matches(action, resource, context):
                (denying if statement.deny else allowing).append(statement.name)
    if denying:
        return Decision(DENIED, tuple(denying))
    return Decision(ALLOWED, tuple(allowing)) if allowing else Decision(NOT_ALLOWED)
