"""Which operation a request to AWS is. Pure, and strict: what two readers could take for two operations is refused.

The service is that of the verified credential scope: `candidates` are the models with its signing name, and nothing in
a request leads out of them. Then the protocol: each has one place in which it names its operation, and a request that
names one in two places, or in a place that none of the candidates has, is not taken.
"""

from collections.abc import Sequence
from typing import Final

from gateway.core.actions import rest, rpc
from gateway.core.actions.call import AwsRequest, Routed
from gateway.core.actions.service import CBOR, EC2, QUERY, REST_JSON, REST_XML, ServiceModel
from gateway.core.actions.target import ambiguous, malformed, read

EMPTY: Final = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
"""The SHA-256 of nothing: such a body is known without having been seen."""

# Headers that a sender may repeat without harm; of any other, readers take the first, or the last, or all.
_REPEATABLE: Final = frozenset(
    {"accept", "accept-encoding", "accept-language", "cache-control", "connection", "te", "user-agent", "via"}
)
_OVERRIDES: Final = frozenset({"x-http-method-override", "x-http-method", "x-method-override", "x-amz-method-override"})


def route(request: AwsRequest, candidates: Sequence[ServiceModel]) -> Routed:
    """The operation that this request is.

    Raises Refusal: call_malformed for what no server takes, call_ambiguous for what two would read differently, and
    body_required where the operation (not just a member) is in a body that was not seen.
    """
    if not candidates:
        raise malformed("service_unknown", "no service that we know is signed for by this name")
    headers = _headers(request.headers)
    target = read(request.target)
    body = b"" if request.body is None and request.payload_sha256 == EMPTY else request.body
    protocols = {protocol for model in candidates for protocol in model.protocols}
    if "content-encoding" in headers and body:
        body = None  # compressed: these are not the bytes that the service reads
    if "smithy-protocol" in headers or (CBOR in protocols and target.segments[0] == "service"):
        return rpc.by_path(candidates, request.method, target, headers, body)
    if "x-amz-target" in headers:
        return rpc.by_target(candidates, request.method, target, headers, body)
    if QUERY in protocols or EC2 in protocols:
        if any(key.lower() == "action" for key, _ in target.query):
            raise ambiguous("action_in_query", "Action belongs into the body of a POST")
        if rpc.media_type(headers) == rpc.FORM and (target.segments == ("",) or request.service == rpc.AT_ITS_QUEUE):
            return rpc.by_action(candidates, request.method, target, headers, body)
    models = [model for model in candidates if REST_JSON in model.protocols or REST_XML in model.protocols]
    if not models:
        raise malformed("protocol_form", "the request is in none of the protocols of its service")
    return rest.route(request, models, target, headers, body)


def _headers(fields: Sequence[tuple[str, str]]) -> dict[str, str]:
    """The fields by name. Raises Refusal for a name that stands twice, or that some fold into another."""
    headers: dict[str, str] = {}
    for name, value in fields:
        if name in headers:
            if name not in _REPEATABLE:
                raise ambiguous("duplicate_header", "a header stands twice")
            value = f"{headers[name]}, {value}"
        headers[name] = value
    if not _OVERRIDES.isdisjoint(headers):
        raise ambiguous("method_override", "a header asks for another method")
    for name in headers:
        if name != name.lower() or (name[:6] != "x-amz-" and name.replace("_", "-").startswith("x-amz-")):
            raise ambiguous("header_name", "a header's name is taken for another one by some")
    return headers
