"""What every admin route does: the operator is identified and admitted, the request read strictly, the answer made.

A route is a value; its permission is also the audit event that it leaves. So nothing is reachable that has no row in
the matrix of routes and roles, and nothing answers without a decision.
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from flask import Flask, Response, json, jsonify, request

from gateway.core.audit import Name
from gateway.core.errors import Refusal
from gateway.core.rights import BUILT_IN
from gateway.flows.admit import Admit, Admitted
from gateway.flows.approve import Approve, Request, Standing
from gateway.flows.journal import Call, Journal
from gateway.flows.once import Once, Order
from gateway.ports import Pace
from gateway.web.admin.names import demand_names
from gateway.web.admin.pages import Cursors, Page
from gateway.web.exchange import asked, content, no_body, peer, query
from gateway.wire import messages
from gateway.wire.strict import Malformed, text

JSON_OBJECT = dict
"""`AdminRoute.asks` of a route whose body is a document that the flow reads itself."""

IDEMPOTENCY_KEY = r"[\x21-\x2b\x2d-\x7e]{1,128}"  # no comma: two fields arrive as one with a comma between them
_URGENT = BUILT_IN["revoker"]


@dataclass(frozen=True, slots=True)
class DryRun:
    """The query of a change that can be rehearsed: then the answer says what would be done, and nothing is."""

    dry_run: str = text(pattern="true|false", default="false")

    @property
    def is_dry(self) -> bool:
        """Whether it is only rehearsed. What is, needs nobody's agreement: so this is asked here, and nowhere else."""
        return self.dry_run == "true"


@dataclass(frozen=True, slots=True)
class Asked:
    """One admitted request: `path` are the variables of the rule, `query` and `body` what the route asks for.

    `sha256` is what the request is, exactly: its method, path, query, conditions and body. `key`: its idempotency key.
    """

    call: Call
    admitted: Admitted
    path: Mapping[str, str]
    query: Any
    body: Any
    sha256: str
    key: str | None

    @property
    def by(self) -> str:
        """Who asks, as records name it."""
        return self.call.subject or ""


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer that has more to it than its route's status and a document."""

    document: Any
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AdminRoute:
    """One route. `rule` is as Flask writes it; `asks` and `query` are dataclasses of `wire.strict` fields, and None
    demands that there is nothing. `codes` are the problems that it has beside those of every admin route.

    `answers` is the dataclass of the answer, `status` that of a success. `tagged`: it has entity tags. `resumes`: under
    the same idempotency key it can be run again where it stopped, by `Asked.key`. `vets` may refuse the request before
    it is kept for, and shown to, whoever else has to agree to it. `follows`: it only tells how far a change is, under
    the permission of that change, and nobody else has to agree to it.
    """

    method: str
    rule: str
    does: str
    permission: Name
    answer: Callable[[Asked], Any]
    asks: type | None = None
    query: type | None = None
    codes: tuple[str, ...] = ()
    answers: type | None = None
    status: int = 200
    tagged: bool = False
    resumes: bool = False
    vets: Callable[[Asked], object] = lambda _: None
    follows: bool = False

    @property
    def changes(self) -> bool:
        """Whether it may change something."""
        return self.method != "GET"

    @property
    def urgent(self) -> bool:
        """Whether it is for the pager at night: nothing slows that down."""
        return _URGENT.permits(self.permission)


class Desk:
    """Gives an application its routes."""

    def __init__(
        self, journal: Journal, admit: Admit, approve: Approve, once: Once, pace: Pace, cursors: Cursors
    ) -> None:
        self._journal = journal
        self._admit = admit
        self._approve = approve
        self._once = once
        self._pace = pace
        self._cursors = cursors

    def add(self, app: Flask, routes: Iterable[AdminRoute]) -> None:
        """Each route under its rule."""
        for route in routes:
            name = f"{route.method} {route.rule}"
            app.add_url_rule(
                route.rule, name, self._view(route), methods=[route.method], provide_automatic_options=False
            )

    def _view(self, route: AdminRoute) -> Callable[..., Response]:
        def view(**path: str) -> Response:
            with asked(self._journal, route.permission) as call:
                admitted = self._admit.operator(call, peer().certificate, route.permission)
                if not route.urgent:
                    self._pace.take(admitted.operator.name)
                looked: Any = query(route.query or _Nothing)
                if isinstance(looked, Page):
                    looked = self._cursors.opened(request.path, looked)
                key = _idempotency_key() if route.changes else None
                question = Asked(call, admitted, path, looked, _body(route), _sha256(), key)
                return _response(*self._answer(route, question))

        return view

    def _answer(self, route: AdminRoute, question: Asked) -> tuple[Mapping[str, Any], bool]:
        """The answer in plain values, and whether it was given before."""

        wanted = _request(question)

        def do() -> Mapping[str, Any]:
            route.vets(question)
            waiting = self._demand(route, question, wanted)
            if waiting is not None:
                return {"status": 202, "headers": {}, "document": awaited(waiting)}
            found = route.answer(question)
            answer = found if isinstance(found, Answered) else Answered(found)
            document = json.loads(json.dumps(answer.document))  # dataclasses become plain values, wherever they are
            if isinstance(question.query, Page):
                document = self._cursors.sealed(request.path, question.query, document)
            return {"status": answer.status or route.status, "headers": dict(answer.headers), "document": document}

        if question.key is None:
            return do(), False
        operator = question.admitted.operator.name
        order = Order(operator, question.key, question.sha256, resumes=route.resumes)
        return self._once.answer(question.call, order, do)

    def _demand(self, route: AdminRoute, question: Asked, wanted: Request) -> Standing | None:
        """As `Approve.demand`. What only says what would be done, or how far it is, needs nobody: an approval is of one
        request, and the one that was given is for the change.
        """
        only_says = route.follows or (isinstance(question.query, DryRun) and question.query.is_dry)
        if only_says or not self._approve.is_needed(question.call):
            return None
        demand_names(question.path)
        return self._approve.demand(question.call, question.admitted, wanted)


@dataclass(frozen=True, slots=True)
class _Nothing:
    """A query that must be empty."""


def _idempotency_key() -> str | None:
    """draft-ietf-httpapi-idempotency-key-header-07, section 2.1, with any text for a key."""
    keys = request.headers.getlist("Idempotency-Key")
    if len(keys) > 1 or not all(re.fullmatch(IDEMPOTENCY_KEY, key) for key in keys):
        raise Refusal(
            "malformed_request", "Idempotency-Key: must be 1 to 128 printable characters of ASCII, and no comma"
        )
    return keys[0] if keys else None


def awaited(standing: Standing) -> dict[str, Any]:
    """What waits for others, in an answer."""
    row = standing.approval
    expires_at = messages.instant(row.expires_at)
    return {"approval": row.id, "expires_at": expires_at, "given": standing.given, "needed": standing.needed}


def _request(question: Asked) -> Request:
    """What an approval is of. Its body is shown to who may agree: no route of the desk takes a secret, and `vets` has
    refused what came in by mistake.
    """
    approval = request.headers.get("Approval")
    if approval is not None and not re.fullmatch(r"ap-[0-9a-f]{16}", approval):
        raise Refusal("malformed_request", "Approval: must be the id of one approval")
    raw = request.get_data()
    shown = {"method": request.method, "path": request.path, "query": request.query_string.decode("latin-1")}
    return Request(question.sha256, shown | {"body": messages.loads(raw) if raw else None}, approval)


def _sha256() -> str:
    """What stands between the parts cannot stand in one: a head's lines have no line end in them."""
    conditions = [request.headers.get(name, "") for name in ("If-Match", "If-None-Match")]
    head = "\n".join([request.method, request.path, request.query_string.decode("latin-1"), *conditions, ""])
    return hashlib.sha256(head.encode() + request.get_data()).hexdigest()


def _body(route: AdminRoute) -> Any:
    request.get_data()  # kept, for `_sha256`: who reads it otherwise keeps nothing
    if route.asks is None:
        return no_body()
    found = content()
    if route.asks is JSON_OBJECT:
        if not isinstance(found, dict):
            raise Refusal("malformed_request", "body: must be an object")
        return found
    try:
        return messages.decode(route.asks, found)
    except Malformed as malformed:
        raise Refusal("malformed_request", "; ".join(malformed.faults[:20])) from None


def _response(answer: Mapping[str, Any], replayed: bool) -> Response:
    response = jsonify(answer["document"])
    response.status_code = answer["status"]
    response.headers.update(answer["headers"])
    if replayed:
        response.headers["Idempotent-Replayed"] = "true"
    return response
