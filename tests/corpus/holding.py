"""What is held against each request of the corpus: its route, its members, and the stages of its signature."""

from collections.abc import Callable

from gateway.adapters.aws_endpoints import Endpoints
from gateway.core.actions.call import AwsRequest, Routed
from gateway.core.actions.router import route
from gateway.core.actions.service import Operation, ServiceModel
from gateway.core.errors import Refusal
from gateway.wire import sigv4
from tests.corpus.capture import HOSTS, PATH_STYLE, SECRET, Captured
from tests.corpus.table import CUSTOMIZED, ELSEWHERE, EXPLAINED, HIDDEN, NOT_REACHED, SAME_ACTION
from tests.corpus.values import BUCKET

EXACT, TWIN, EXPLAINED_MISS, WRONG = "exact", "same IAM action", "explained", "wrong"
_ENDPOINT = "127.0.0.1:9913"

Of = Callable[[str], tuple[ServiceModel, ...]]


def aws_request(captured: Captured, *, hidden: bool = False) -> AwsRequest:
    """What the gateway would be asked to route. `hidden`: the client was told an endpoint, and names no AWS host."""
    scope = sigv4.parse_authorization(captured.method, captured.target, captured.headers).scope
    bucket = BUCKET if captured.style != PATH_STYLE and captured.host.startswith(f"{BUCKET}.") else None
    headers = captured.headers
    if hidden:
        headers = tuple(("host", _ENDPOINT) if name == "host" else (name, value) for name, value in headers)
    payload = captured.canonical.rpartition("\n")[2]
    return AwsRequest(
        captured.method, captured.target, headers, scope.service, scope.region, payload, captured.body, bucket
    )


def verdict(captured: Captured, models: Of, *, hidden: bool = False) -> tuple[str, str]:
    """How the request was routed, and what to say of it."""
    request = aws_request(captured, hidden=hidden)
    wanted = f"{captured.service}.{captured.operation}"
    try:
        routed = route(request, models(request.service))
        found = f"{routed.service}.{routed.operation}"
    except Refusal as refusal:
        routed, found = None, f"{refusal.code}/{refusal.reason}"
    if routed is not None and found == wanted and routed.protocol == captured.protocol:
        model = next(each for each in models(request.service) if each.name == routed.service)
        fault = _members(captured, routed, model.operations[captured.operation])
        return (WRONG, fault) if fault else (EXACT, "")
    if routed is not None and (routed.operation == captured.operation or SAME_ACTION.get(wanted) == found):
        return TWIN, f"{captured.service} as {routed.service}"
    for key, table in ((wanted, EXPLAINED), (f"{captured.service}.*", EXPLAINED), (wanted, HIDDEN if hidden else {})):
        if table.get(key, ("", ""))[0] == found:
            return EXPLAINED_MISS, table[key][1]
    return WRONG, f"{captured.name}: {found}, {captured.method} {captured.target}"


def _members(captured: Captured, routed: Routed, operation: Operation) -> str:
    """A member that was given, and was not read, or not as what it was; empty when all were."""
    kinds = {member.name: member.shape.kind for member in operation.shape.members} if operation.shape else {}
    for name, value in captured.given.items():
        where = f"{captured.service}.{captured.operation}.{name}"
        if name in routed.unread or where in CUSTOMIZED:
            continue
        if kinds[name] == "stream" or (name == operation.payload and kinds[name] in ("blob", "string")):
            continue
        if name not in routed.members:
            return f"{captured.name}: {name} is missing"
        if kinds[name] == "string" and routed.members[name] != value:
            return f"{captured.name}: {name} is {routed.members[name]!r}, not {value!r}"
    return ""


def signature_fault(captured: Captured) -> str:
    """The first stage of the signature that we compute otherwise than botocore; empty when none is."""
    authorization = sigv4.parse_authorization(captured.method, captured.target, captured.headers)
    scope = authorization.scope
    payload = captured.canonical.rpartition("\n")[2]
    canonical = sigv4.canonical_request(
        captured.method, captured.target, captured.headers, authorization.signed_headers, payload, scope.service
    )
    if canonical != captured.canonical:
        return f"{captured.name}: canonical request\n{canonical}\n--\n{captured.canonical}"
    string = sigv4.string_to_sign(canonical, authorization.stamp, scope)
    if string != captured.string_to_sign:
        return f"{captured.name}: string to sign"
    if sigv4.signature(sigv4.signing_key(SECRET.encode(), scope), string) != captured.signature:
        return f"{captured.name}: signature"
    if authorization.signature != captured.signature:
        return f"{captured.name}: what is sent is not what was computed"
    sigv4.verify(authorization, captured.method, captured.target, captured.headers, payload, SECRET.encode())
    return ""


def host_fault(captured: Captured, models: Of, endpoints: Endpoints) -> str:
    """Where botocore would send the request, if that is none of the hosts that we would send it to; else empty."""
    request = aws_request(captured)
    try:
        routed = route(request, models(request.service))
    except Refusal:
        return ""  # is the route's fault, and told there
    if captured.service in HOSTS or routed.service != captured.service:
        return ""
    if ELSEWHERE.fullmatch(captured.host) or NOT_REACHED.fullmatch(captured.host):
        return ""
    front = f"{request.host_bucket}." if request.host_bucket else routed.host_prefix
    try:
        hosts = endpoints.hosts(routed.service, request.region, routed.operation)
    except Refusal as refusal:
        return f"{captured.name}: {refusal.reason} in {request.region}, {captured.host}"
    if captured.host in {f"{front}{host}" for host in hosts}:
        return ""
    return f"{captured.name}: {captured.host} is not {front}{hosts[0]}"
