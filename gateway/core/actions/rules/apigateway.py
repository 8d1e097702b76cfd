"""API Gateway: the action is the HTTP verb, the resource the path.

AWS: "Control access to API Gateway with IAM policies": apigateway:GET and its sisters on
`arn:aws:apigateway:region::path`; the paths of HTTP and WebSocket APIs stand there without their `/v2`.
"""

from urllib.parse import quote, unquote

from gateway.core.actions.ask import Ask
from gateway.core.actions.call import Need
from gateway.core.actions.indexed import tags

_VERBS = frozenset({"DELETE", "GET", "PATCH", "POST", "PUT"})


def needs(ask: Ask) -> tuple[Need, ...] | None:
    """The needs of a call that has no action of its own name."""
    if ask.entry is not None:
        return None
    if ask.request.method not in _VERBS:
        return (Need(None, None, {}),)
    # One spelling of each path: what need not be escaped is not, so that no policy is dodged by `%61`.
    path = "/".join(quote(unquote(part), safe="-_.~$") for part in ask.request.path.split("/"))
    path = path.removeprefix("/v2") if ask.routed.service == "apigatewayv2" else path
    resource = f"arn:{ask.partition}:apigateway:{ask.request.region}::{path}"
    return (Need(f"apigateway:{ask.request.method}", resource, tags(ask)),)
