"""Requests by the REST protocols: the operation is what method, path, and what cannot be absent make of it.

A request that is one operation, and carries what would make it another one, is refused: servers need not agree on
which of the two wins. AWS: "Amazon S3 API reference", Smithy: "HTTP binding traits".
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from gateway.core.actions import s3, ties
from gateway.core.actions.call import AwsRequest, Routed
from gateway.core.actions.members import host_prefix, in_rest_body, of_rest, of_rest_body
from gateway.core.actions.paths import Match, by_path, fitting
from gateway.core.actions.rpc import FORM, media_type
from gateway.core.actions.service import REST_JSON, REST_XML, Operation, ServiceModel
from gateway.core.actions.target import SIGNING_KEYS, Target, ambiguous, decoded, malformed

_CONTRADICTING: Final = {
    REST_JSON: ("multipart/", FORM, "application/cbor", "application/xml", "text/xml"),
    REST_XML: ("multipart/", FORM, "application/cbor", "application/json", "application/x-amz-json"),
}


def route(
    request: AwsRequest,
    models: Sequence[ServiceModel],
    target: Target,
    headers: Mapping[str, str],
    body: bytes | None,
) -> Routed:
    """The operation of a request by a REST protocol, None when no model has it. Raises Refusal."""
    is_s3 = request.service == s3.SIGNING_NAME
    if is_s3:
        s3.check(request.method, media_type(headers))
    query = frozenset(target.query)
    keys = {key for key, _ in target.query}
    possible = _possible(request, models, target)
    found = fitting(possible, query, keys, headers)
    if "%" in request.path:
        _same_when_decoded(request, models, target, headers, found)
    if not found:
        if (is_s3 and not keys <= SIGNING_KEYS) or len(keys) != len(target.query):
            raise ambiguous("unknown_subresource", "the query names nothing that we know of this service")
        model = ties.first(models)
        return Routed(model.name, None, _protocol(model), {})
    match = ties.one(found, headers, target.segments[-1] == "")
    operation, protocol = match.operation, _protocol(match.model)
    _check_query(match, target, possible)
    _check_headers(operation, headers, possible)
    if in_rest_body(operation) and media_type(headers).startswith(_CONTRADICTING[protocol]):
        raise malformed("content_type", "Content-Type contradicts the protocol")
    members = of_rest(operation, match.labels, target, headers)
    inside, unread = of_rest_body(operation, body, protocol)
    members |= inside
    return Routed(operation.service, operation.name, protocol, members, unread, host_prefix(operation, members, unread))


def _protocol(model: ServiceModel) -> str:
    return REST_XML if REST_XML in model.protocols else REST_JSON


def _possible(request: AwsRequest, models: Sequence[ServiceModel], target: Target) -> list[Match]:
    """What the path could be, in any of the services."""
    out: list[Match] = []
    for model in models:
        if model.name == s3.SERVICE:
            matches = by_path(model, request.method, s3.segments(target, request.host_bucket))
            out += [match for match in matches if match.operation.name not in s3.UNSUPPORTED]
        elif request.host_bucket is None:
            out += by_path(model, request.method, _segments(request, target.segments))
    return out


def _segments(request: AwsRequest, segments: Sequence[str]) -> Sequence[str]:
    """The segments but for a slash at the end, which AWS's models write here and leave out there."""
    kept = segments[:-1] if segments[-1] == "" else segments
    if "" in kept and request.service != s3.SIGNING_NAME:
        raise ambiguous("empty_segment", "an empty segment of a path is dropped by some")
    return kept


def _same_when_decoded(
    request: AwsRequest,
    models: Sequence[ServiceModel],
    target: Target,
    headers: Mapping[str, str],
    found: Sequence[Match],
) -> None:
    """Refuse a path that is another operation, or has other labels, for a server that decodes it first."""
    # Some drop segments that are empty then; to S3 they are a part of the key.
    is_s3 = request.service == s3.SIGNING_NAME
    parts = [part for segment in target.segments for part in decoded(segment).split("/")]
    plain = tuple(part for part in parts if part or is_s3) or ("",)
    # Percent signs that are left are data, and may not be decoded again.
    again = Target(tuple(part.replace("%", "%25") for part in plain), target.query)
    keys = {key for key, _ in target.query}
    other = fitting(_possible(request, models, again), frozenset(target.query), keys, headers)
    if other and _meaning(other) != _meaning(found) and not any(map(_has_arns_alone, found)):
        raise ambiguous("encoded_path", "the path is another one to servers that decode it first")


def _has_arns_alone(match: Match) -> bool:
    """Are the labels with slashes in them ARNs? The SDKs encode these, so the service cannot decode them first."""
    slashed = {label: text for label, raw in match.labels.items() if "/" in (text := decoded(raw))}
    return bool(slashed) and all(
        label.lower().endswith("arn") and text.startswith("arn:") for label, text in slashed.items()
    )


def _meaning(matches: Iterable[Match]) -> set[tuple[str, str, frozenset[tuple[str, str]]]]:
    return {
        (
            match.operation.service,
            match.operation.name,
            frozenset((label, decoded(raw)) for label, raw in match.labels.items()),
        )
        for match in matches
    }


def _check_query(match: Match, target: Target, possible: Iterable[Match]) -> None:
    """Refuse keys that stand twice, that are unknown to S3, or that belong to another operation on this path."""
    operation = match.operation
    seen = set()
    for key, value in target.query:
        member = operation.query.get(key)
        if key in seen and not (member.shape.kind == "list" if member else operation.query_map):
            raise ambiguous("duplicate_key", "a key stands twice in the query")
        seen.add(key)
        if member is None and key not in SIGNING_KEYS and (key, value) not in operation.static:
            _check_unknown(operation, key, value, possible)


def _check_unknown(operation: Operation, key: str, value: str, possible: Iterable[Match]) -> None:
    low = key.lower()
    if operation.service == s3.SERVICE:
        if not s3.is_harmless(key, value, operation.name):
            raise ambiguous("unknown_subresource", "the query has a key that is not of this operation")
    elif low.startswith("x-amz-"):
        raise ambiguous("header_in_query", "a header's name stands in the query")
    elif low in map(str.lower, operation.query):
        raise ambiguous("key_case", "a key of the query differs from one that AWS knows in case only")
    elif any(key in rival.operation.required_query or key in dict(rival.operation.static) for rival in possible):
        raise ambiguous("several_operations", "a key of the query makes it another operation")


def _check_headers(operation: Operation, headers: Mapping[str, str], possible: Sequence[Match]) -> None:
    """Refuse a header that other operations on this path are known by, and this one does not have."""
    own = operation.located["header"].keys()
    for rival in possible:
        needed = rival.operation.required_headers
        if needed and not own >= (needed & headers.keys()):
            raise ambiguous("several_operations", "a header makes it another operation")
