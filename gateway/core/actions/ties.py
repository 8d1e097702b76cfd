"""Which of several services or operations a request is of, when its path or its name is not one's alone.

Services that share a signing name share IAM's action for an operation of the same name (rds, docdb and neptune; the
old and the new chime): any of them is decided alike, and the call goes to the host of the one that was decided. Two
names are another matter: they are refused, unless the host or the slash at the end tells.
"""

from collections.abc import Mapping, Sequence

from gateway.core.actions.paths import Match
from gateway.core.actions.service import ServiceModel
from gateway.core.actions.target import ambiguous


def first(models: Sequence[ServiceModel]) -> ServiceModel:
    """The service that stands for all of a signing name: the one of that name, or the shortest."""
    return min(models, key=lambda model: (model.name != model.signing_name, len(model.name), model.name))


def hosted(models: Sequence[ServiceModel], headers: Mapping[str, str]) -> Sequence[ServiceModel]:
    """Those whose host the client names, or all of them when it names none of theirs."""
    host = f".{headers.get('host', '')}"
    return [model for model in models if f".{model.endpoint_prefix}." in host] or models


def one(matches: Sequence[Match], headers: Mapping[str, str], slash: bool) -> Match:
    """One of these, which are not none. `slash`: whether the path ends with one.

    Raises Refusal when operations of different names are left.
    """
    if len(matches) == 1:
        return matches[0]
    models = hosted([match.model for match in matches], headers)
    left = [match for match in matches if match.model in models]
    if len({match.operation.name for match in left}) > 1:
        left = [match for match in left if match.operation.slash == slash] or left
    current = {match.model.name for match in left if not match.operation.deprecated}
    left = [match for match in left if not match.operation.deprecated or match.model.name not in current]
    if len({match.operation.name for match in left}) > 1:
        raise ambiguous("several_operations", "nothing in the request tells two operations apart")
    model = first([match.model for match in left])
    return next(match for match in left if match.model is model)
