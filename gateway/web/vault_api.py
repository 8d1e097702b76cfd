"""Vault's API, as much of it as a program needs that has its AWS credentials from Vault. docs/vault.md describes it.

The forms are those of Vault's HTTP API ("Cert auth method", "Token auth method", "AWS secrets engine", "/sys/health").
What is given is decided where it is for everyone else: by the certificate on the connection, and by the grants.
"""

import dataclasses
import re
from dataclasses import dataclass
from typing import Any, TypeVar

from flask import Flask, Response, request
from werkzeug.exceptions import MethodNotAllowed

from gateway.core.audit import Name
from gateway.core.errors import Refusal
from gateway.core.identity import Identity
from gateway.core.lease import Order, choose_grant, plan
from gateway.flows.bearer import Bearer
from gateway.flows.identify import Identify
from gateway.flows.journal import Call, Journal
from gateway.flows.vend import Vend
from gateway.ports import Clock
from gateway.web.exchange import asked, no_body, nothing, peer, query, request_id
from gateway.web.vault_form import (
    answer,
    credentials_document,
    login_document,
    plain,
    seconds,
    token_document,
    translated,
)
from gateway.wire import messages, problems
from gateway.wire.messages import NAME
from gateway.wire.secret import Secret
from gateway.wire.strict import Malformed, text

T = TypeVar("T")

_MOUNTS = re.compile(r"/v1/(auth|aws|sys|secret|cubbyhole|identity)/.*")
_CLIENTS = ("X-Vault-Request", "X-Vault-Token", "X-Vault-Namespace", "X-Vault-Wrap-TTL")
_NO_HEADERS = {
    "X-Vault-Namespace": "there are no namespaces here: send no X-Vault-Namespace",
    "X-Vault-Wrap-TTL": "answers are not wrapped here: send no X-Vault-Wrap-TTL",
}
_NO_RENEWALS = {
    "/v1/auth/token/renew-self": "lease is not renewable: log in once more",
    "/v1/sys/leases/renew": "lease is not renewable: ask for credentials once more",
    "/v1/sys/leases/revoke": "AWS takes no session back: it ends by itself, and an operator can revoke the instance",
}


@dataclass(frozen=True, slots=True)
class _Login:
    name: str | None = text(longest=64, default=None)  # Vault's command line sends an empty one


@dataclass(frozen=True, slots=True)
class _Wanted:
    ttl: Any = dataclasses.field(default=None)  # "3600s", "15m", "3600" or 3600
    role_arn: str | None = text(longest=2048, default=None)
    role_session_name: str | None = text(longest=64, default=None)


def add_vault(app: Flask, journal: Journal, identify: Identify, bearer: Bearer, vend: Vend, clock: Clock) -> None:
    """Add Vault's routes to the instance listener's application, and give its clients their own kind of errors."""

    @app.before_request
    def possible() -> None:
        if _is_vaults():
            told = [sentence for name, sentence in _NO_HEADERS.items() if request.headers.get(name)]
            if told or request.path in _NO_RENEWALS:
                with asked(journal, Name.INSTANCE_REQUEST_REFUSE):
                    raise Refusal("malformed_request", told[0] if told else _NO_RENEWALS[request.path])

    @app.after_request
    def in_its_words(response: Response) -> Response:
        return translated(response) if response.mimetype == problems.MEDIA_TYPE and _is_vaults() else response

    @app.route("/v1/auth/cert/login", methods=["POST", "PUT"])
    def vault_login() -> Response:
        with asked(journal, Name.INSTANCE_TOKEN_CREATE) as call:
            identity = identify.instance(call, peer().certificate)
            name = _brought(_Login).name
            if name and name != identity.instance.profile:
                raise Refusal("grant_refused", "name: must be the instance's profile", reason="profile_differs")
            given = bearer.create(call, identity)
            with given.secret as secret:
                return answer(request_id(), auth=login_document(identity, given.row, secret.decode(), clock()))

    @app.get("/v1/auth/token/lookup-self")
    def vault_lookup() -> Response:
        with asked(journal, Name.INSTANCE_TOKEN_READ) as call:
            identity = identify.instance(call, peer().certificate)
            presented = _token()
            nothing()
            row = bearer.read(call, identity, presented)
            with presented as secret:
                return answer(request_id(), data=token_document(identity, row, secret.decode(), clock()))

    @app.route("/v1/auth/token/revoke-self", methods=["POST", "PUT"])
    def vault_revoke() -> Response:
        with asked(journal, Name.INSTANCE_TOKEN_REVOKE) as call:
            identity = identify.instance(call, peer().certificate)
            _brought(_Nothing)
            bearer.revoke(call, identity, _token())
            return Response(status=204)

    @app.route("/v1/aws/creds/<role>", methods=["GET", "POST"])
    @app.route("/v1/aws/sts/<role>", methods=["GET", "POST", "PUT"])
    def vault_credentials(role: str) -> Response:
        if request.method == "HEAD":  # Flask's own idea: nothing is minted for who does not want it
            raise MethodNotAllowed(valid_methods=["GET", "POST", "PUT"])
        with asked(journal, Name.INSTANCE_CREDENTIALS_VEND) as call:
            identity = identify.instance(call, peer().certificate)
            bearer.check(call, identity, _token())
            wanted = _brought(_Wanted)
            if not re.fullmatch(NAME, role):
                raise Refusal("grant_refused")
            call.object = f"grant/{role}"
            order = Order(role, door="vault", seconds=seconds(wanted.ttl), clamp=True)
            _demand_as_granted(call, identity, order, wanted)
            given = vend.give(call, identity, order)
            return answer(request_id(), **credentials_document(given, clock()))

    def _demand_as_granted(call: Call, identity: Identity, order: Order, wanted: _Wanted) -> None:
        """A role and a session's name may be repeated; they cannot be chosen."""
        rules = vend.rules(identity)
        grant = choose_grant(rules, order)
        if wanted.role_arn not in (None, grant.role):
            raise Refusal("grant_refused", "role_arn: is not the grant's role", reason="role_differs")
        if wanted.role_session_name is not None:
            planned = plan(identity.instance, rules, grant, order, "", call.source, clock())
            # With two leases: a name that has the lease's id in it cannot be known before.
            if {planned.request(digit * 32).session_name for digit in "01"} != {wanted.role_session_name}:
                raise Refusal(
                    "grant_refused", "role_session_name: the grant names its sessions", reason="session_name_differs"
                )

    @app.get("/v1/sys/health")
    def vault_health() -> Response:
        return plain(
            {"initialized": True, "sealed": False, "standby": False, "server_time_utc": int(clock().timestamp())}
        )

    @app.get("/v1/sys/seal-status")
    @app.get("/v1/sys/init")
    def vault_state() -> Response:
        return plain({"initialized": True, "sealed": False})


@dataclass(frozen=True, slots=True)
class _Nothing:
    pass


def _brought(cls: type[T]) -> T:
    """The fields of the request: in the query of a GET, else in a JSON body or none. Vault asks for no media type."""
    if request.method == "GET":
        no_body()
        return query(cls)
    if request.query_string:
        raise Refusal("malformed_request", "query: must be empty")
    raw = request.get_data(cache=False)
    try:
        return messages.decode(cls, messages.loads(raw) if raw else {})
    except Malformed as malformed:
        raise Refusal("malformed_request", "; ".join(malformed.faults[:20])) from None


def _token() -> Secret:
    """What X-Vault-Token or `Authorization: Bearer` holds; empty when there is neither. Raises Refusal."""
    kind, _, written = request.headers.get("Authorization", "").partition(" ")
    found = {request.headers.get("X-Vault-Token", ""), written if kind.lower() == "bearer" else ""} - {""}
    if len(found) > 1:
        raise Refusal("malformed_request", "two tokens were sent")
    return Secret(found.pop() if found else "")


def _is_vaults() -> bool:
    """Whether the caller speaks Vault's language: by a route of its own, or by headers where there is no route."""
    if _MOUNTS.fullmatch(request.path):
        return True
    return request.url_rule is None and any(name in request.headers for name in _CLIENTS)
