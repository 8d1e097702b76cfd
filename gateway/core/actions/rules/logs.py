"""CloudWatch Logs: a policy names a log group with `:*` behind it, so what a call is on has something there, too.

AWS: "CloudWatch Logs resources and operations": the ARN with the trailing `:*` is for all actions but those on the
tags of any resource. In AWS's own refusals the log group stands as `log-group:name:log-stream:`.
"""

import re
from dataclasses import replace

from gateway.core.actions.ask import Ask
from gateway.core.actions.call import Need
from gateway.core.actions.indexed import by_index

_GROUP = re.compile(r"arn:[a-z-]+:logs:[^:]+:[0-9]{12}:log-group:[^:]+")
_ON_TAGS = frozenset({"ListTagsForResource", "TagResource", "UntagResource"})


def needs(ask: Ask) -> tuple[Need, ...] | None:
    """The needs of a call on a log group."""
    if ask.operation in _ON_TAGS:
        return None
    return tuple(
        replace(each, resource=f"{each.resource}:log-stream:") if _GROUP.fullmatch(each.resource or "") else each
        for each in by_index(ask)
    )
