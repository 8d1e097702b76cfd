"""The operations that name themselves: by X-Amz-Target (json), in the path (CBOR), by Action in a form (query, ec2)."""

import re
from collections.abc import Mapping, Sequence
from typing import Final

from gateway.core.actions import form, ties
from gateway.core.actions.call import Routed
from gateway.core.actions.members import host_prefix, of_form, of_rpc
from gateway.core.actions.service import CBOR, EC2, JSON, QUERY, ServiceModel
from gateway.core.actions.target import Target, ambiguous, malformed
from gateway.core.errors import Refusal

FORM: Final = "application/x-www-form-urlencoded"
AT_ITS_QUEUE: Final = "sqs"
_CBOR_TYPES: Final = frozenset({"", "application/cbor", "application/vnd.amazon.eventstream"})
_JSON_TYPES: Final = frozenset({"application/x-amz-json-1.0", "application/x-amz-json-1.1"})
_CBOR_PATH = re.compile(r"service/([A-Za-z0-9_.]+)/operation/([A-Za-z0-9_]+)")
# Smithy, "AWS JSON protocols": the part before the last dot names the service, the part behind it the operation.
_TARGET = re.compile(r"([A-Za-z0-9_.-]+)\.([A-Za-z0-9_]+)")


def by_path(
    candidates: Sequence[ServiceModel], method: str, target: Target, headers: Mapping[str, str], body: bytes | None
) -> Routed:
    """RPC v2 CBOR (Smithy, "Smithy RPC v2 CBOR protocol"). Raises Refusal."""
    if headers.get("smithy-protocol") != "rpc-v2-cbor" or "x-amz-target" in headers:
        raise ambiguous("protocol_twice", "smithy-protocol, the path and X-Amz-Target do not name the same protocol")
    path = _CBOR_PATH.fullmatch("/".join(target.segments))
    if path is None or method != "POST" or target.query:
        raise ambiguous("protocol_form", "an RPC v2 request is a POST to its operation's path, without a query")
    _content_type(headers, _CBOR_TYPES)
    models = [model for model in candidates if CBOR in model.protocols and model.target_prefix == path[1]]
    if not models:
        raise ambiguous("protocol_unknown", "the service of the signature has no such service in this protocol")
    return _routed(models, path[2], CBOR, headers, body)


def by_target(
    candidates: Sequence[ServiceModel], method: str, target: Target, headers: Mapping[str, str], body: bytes | None
) -> Routed:
    """AWS JSON 1.0 and 1.1. Raises Refusal."""
    named = _TARGET.fullmatch(headers["x-amz-target"])
    models = [each for each in candidates if named and JSON in each.protocols and each.target_prefix == named[1]]
    if named is None or not models:
        raise ambiguous("target_unknown", "X-Amz-Target does not name an operation of the service of the signature")
    if method != "POST" or target.segments != ("",) or target.query:
        raise ambiguous("protocol_form", "a request with X-Amz-Target is a POST to /, without a query")
    _content_type(headers, _JSON_TYPES)
    return _routed(models, named[2], JSON, headers, body)


def _routed(
    models: Sequence[ServiceModel], name: str, protocol: str, headers: Mapping[str, str], body: bytes | None
) -> Routed:
    having = [model for model in models if name in model.operations]
    model = ties.first(ties.hosted(having or models, headers))
    if not having:
        return Routed(model.name, None, protocol, {})
    operation = model.operations[name]
    members, unread = of_rpc(operation, body, protocol)
    return Routed(model.name, name, protocol, members, unread, host_prefix(operation, members, unread))


def by_action(
    candidates: Sequence[ServiceModel], method: str, target: Target, headers: Mapping[str, str], body: bytes | None
) -> Routed:
    """The query protocols: the operation is in the form, which therefore has to be seen. Raises Refusal."""
    at_root = target.segments == ("",)
    if method != "POST" or not (at_root or _is_queue(candidates, target)) or target.query:
        raise ambiguous("protocol_form", "a form with an Action is a POST to /, without a query")
    if "content-encoding" in headers:
        raise malformed("content_encoding", "a form that names an operation is not compressed")
    if body is None:
        raise Refusal("body_required", "the operation is named in the body", reason="action_in_body")
    parameters = form.pairs(body)
    action, version = parameters.pop("Action", None), parameters.pop("Version", None)
    if action is None or any(key.lower() in ("action", "version") for key in parameters):
        raise ambiguous("action", "the body names no Action, or more than one")
    models = [model for model in candidates if QUERY in model.protocols or EC2 in model.protocols]
    # Another version of an API may know the same name with other members, so it is none that we know.
    same = [model for model in models if model.version == version and action in model.operations]
    if not same:
        model = ties.first(ties.hosted(models, headers))
        return Routed(model.name, None, _dialect(model), {})
    model = ties.first(ties.hosted(same, headers))
    operation, dialect = model.operations[action], _dialect(model)
    members = of_form(operation, form.tree(parameters), dialect)
    return Routed(operation.service, action, dialect, members, host_prefix=host_prefix(operation, members, frozenset()))


def _is_queue(candidates: Sequence[ServiceModel], target: Target) -> bool:
    """By the query protocol a queue of SQS is called at its own URL; rules/sqs.py compares it with QueueUrl."""
    return len(target.segments) == 2 and all(model.name == AT_ITS_QUEUE for model in candidates)


def _dialect(model: ServiceModel) -> str:
    return EC2 if EC2 in model.protocols else QUERY


def _content_type(headers: Mapping[str, str], allowed: frozenset[str]) -> None:
    if media_type(headers) not in allowed:
        raise malformed("content_type", "Content-Type contradicts the protocol")


def media_type(headers: Mapping[str, str]) -> str:
    """The Content-Type without its parameters, in lower case (RFC 9110 §8.3.1); empty without one."""
    return headers.get("content-type", "").partition(";")[0].strip().lower()
