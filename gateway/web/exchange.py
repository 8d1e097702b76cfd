"""What every route does: read strictly, open a call, answer in JSON; and what becomes of an error."""

import logging
import traceback
from contextlib import AbstractContextManager
from typing import Any, TypeVar

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from gateway.core.audit import Name
from gateway.core.errors import Refusal
from gateway.flows.journal import Call, Journal
from gateway.web.server.answer import CLOSING
from gateway.web.server.service import Peer
from gateway.wire import messages, problems
from gateway.wire.strict import Malformed

T = TypeVar("T")
log = logging.getLogger("trusted_gateway.web")

LONGEST_DETAIL = 2048  # a body can have thousands of faults; whoever mends it needs the first ones
MOST_FAULTS = 100
_BY_STATUS = {404: "not_found", 405: "method_not_allowed", 413: "body_too_large", 415: "unsupported_media_type"}


def peer() -> Peer:
    """Who is on the other end: from the socket, and from nothing else."""
    found: Peer = request.environ["trusted_gateway.peer"]
    return found


def request_id() -> str:
    """The id of this request, drawn by the server."""
    found: str = request.environ["trusted_gateway.request_id"]
    return found


def asked(journal: Journal, name: Name) -> AbstractContextManager[Call]:
    """The call that this request is. What is refused inside the block is recorded as it leaves."""
    return journal.call(name, request_id(), peer().address)


def body() -> Any:
    """The body, which is all that this request brings, as strict JSON. Raises Refusal."""
    _no_query()
    return content()


def content() -> Any:
    """The body as strict JSON, of a request that may have a query, too. Raises Refusal."""
    if request.mimetype != "application/json":
        raise Refusal("unsupported_media_type")
    try:
        return messages.loads(request.get_data(cache=False))
    except Malformed as malformed:
        raise Refusal("malformed_request", "; ".join(malformed.faults)) from None


def message(cls: type[T]) -> T:
    """The body as a wire message. Raises Refusal."""
    return _decoded(cls, body())


def query(cls: type[T]) -> T:
    """The query string as a dataclass of strings. Raises Refusal."""
    if any(len(values) != 1 for values in request.args.to_dict(flat=False).values()):
        raise Refusal("malformed_request", "query: a key stands twice")
    return _decoded(cls, dict(request.args))


def no_body() -> None:
    """Demand that the request has no body. Raises Refusal."""
    if request.get_data(cache=False):
        raise Refusal("malformed_request", "body: must be empty")


def nothing() -> None:
    """Demand that the request has neither a body nor a query. Raises Refusal."""
    no_body()
    _no_query()


def _no_query() -> None:
    if request.query_string:
        raise Refusal("malformed_request", "query: must be empty")


def _decoded(cls: type[T], value: object) -> T:
    try:
        return messages.decode(cls, value)
    except Malformed as malformed:
        raise Refusal("malformed_request", "; ".join(malformed.faults[:20])) from None


def reply(answer: Any, status: int = 200) -> Response:
    """A wire message as JSON."""
    return Response(messages.encode(answer), status, content_type="application/json")


def problem(refusal: Refusal) -> Response:
    """A refusal as `application/problem+json` (RFC 9457)."""
    detail = refusal.detail and refusal.detail[:LONGEST_DETAIL]
    faults = refusal.faults[:MOST_FAULTS]
    document = problems.encode(refusal.code, detail=detail, instance=f"urn:uuid:{request_id()}", faults=faults)
    status = problems.PROBLEMS[refusal.code].status
    response = Response(document, status, content_type=problems.MEDIA_TYPE)
    if refusal.retry_after is not None:
        response.headers["Retry-After"] = str(refusal.retry_after)
    if refusal.code in CLOSING:
        response.headers["Connection"] = "close"
    return response


def make_app(name: str, journal: Journal, refused: Name) -> Flask:
    """An application whose every error is a problem document. `refused` records requests that meet no route."""
    app = Flask(name, static_folder=None)

    @app.errorhandler(Refusal)
    def _refusal(refusal: Refusal) -> Response:
        return problem(refusal)

    @app.errorhandler(HTTPException)
    def _http(error: HTTPException) -> Response:
        refusal = Refusal(_BY_STATUS.get(error.code or 0, "malformed_request"))
        try:
            with asked(journal, refused):
                raise refusal
        except Refusal as recorded:
            response = problem(recorded)
        if isinstance(error, MethodNotAllowed) and error.valid_methods:
            # RFC 9110 section 15.5.6 demands it; OPTIONS is Flask's own idea.
            response.headers["Allow"] = ", ".join(sorted({*error.valid_methods} - {"OPTIONS"}))
        return response

    @app.errorhandler(Exception)
    def _unknown(error: Exception) -> Response:
        # Where it happened is logged; its text is not, since nobody vouches for what is in it.
        frames = "".join(traceback.format_tb(error.__traceback__))
        log.error("request %s failed: %s\n%s", request_id(), type(error).__name__, frames)
        return problem(Refusal("internal_error"))

    return app
