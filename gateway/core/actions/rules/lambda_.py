"""Lambda: every way to invoke is lambda:InvokeFunction; a function has four forms of name.

AWS: "Lambda API reference", Invoke and InvokeWithResponseStream ("lambda:InvokeFunction"), FunctionName: name, name and
qualifier, ARN, partial ARN; "Identity-based policies: function" for qualified ARNs. The old InvokeAsync has an action
of its own in the "Service Authorization Reference" besides.
"""

import re

from gateway.core.actions.ask import Ask
from gateway.core.actions.call import Need
from gateway.core.actions.indexed import tags
from gateway.core.actions.passing import role_needs

_INVOKING = frozenset({"Invoke", "InvokeAsync", "InvokeWithResponseStream"})
_NAME = re.compile(
    r"(?:(?:arn:(?P<partition>[a-z-]+):lambda:(?P<region>[a-z0-9-]+):)?(?P<account>[0-9]{12}):function:)?"
    r"(?P<name>[A-Za-z0-9_-]{1,140})(?::(?P<qualifier>\$LATEST(?:\.PUBLISHED)?|[A-Za-z0-9_-]{1,128}))?"
)


def needs(ask: Ask) -> tuple[Need, ...] | None:
    """The needs of a call on a function."""
    entry = ask.entry
    if ask.operation not in _INVOKING and entry is None:
        return None
    if "FunctionName" not in ask.routed.members and "FunctionName" not in ask.routed.unread:
        return None
    if ask.operation in _INVOKING:
        function = _function(ask, qualified=True)
        out = [Need("lambda:InvokeFunction", function, {})]
        return tuple([*out, Need("lambda:InvokeAsync", function, {})] if ask.operation == "InvokeAsync" else out)
    if entry is None or not any(":function:" in each for resource in entry.resources for each in _templates(resource)):
        return None
    needed = Need(entry.action, _function(ask, qualified=False), tags(ask))
    return (needed, *role_needs(ask, entry.roles, passes=entry.passes))


def _templates(resource: object) -> tuple[str, ...]:
    return getattr(resource, "templates", None) or (getattr(resource, "template", ""),)


def _function(ask: Ask, *, qualified: bool) -> str | None:
    """The function's ARN, with alias or version where IAM decides on that; None when the parts disagree."""
    found = _NAME.fullmatch(ask.text("FunctionName") or "")
    if found is None or found["partition"] not in (None, ask.partition):
        return None
    named = ask.text("Qualifier") if "Qualifier" in ask.routed.members or "Qualifier" in ask.routed.unread else None
    qualifier = found["qualifier"] or named
    if found["qualifier"] and named and named != found["qualifier"]:
        return None
    region, account = found["region"] or ask.request.region, found["account"] or ask.account
    arn = f"arn:{ask.partition}:lambda:{region}:{account}:function:{found['name']}"
    return f"{arn}:{qualifier}" if qualified and qualifier else arn
