"""How operators come in and leave: the only routes of the admin listener that no role has to permit.

`ROUTES` describes those that are beside the desk: who signs in has no certificate yet; who has one may give it up.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from flask import Flask, Response

from gateway.core.audit import Name
from gateway.core.errors import Refusal
from gateway.flows.identify import Identify
from gateway.flows.journal import Journal
from gateway.flows.sign_in import Session, SignIn
from gateway.web.admin.desk import AdminRoute, Asked
from gateway.web.admin.operators import BundleAnswer
from gateway.web.exchange import asked, message, nothing, peer, reply
from gateway.web.openapi import Route
from gateway.wire.strict import text

JWS = r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+"  # RFC 7515, section 7.1


@dataclass(frozen=True, slots=True, repr=False)
class Login:
    """POST /v1/login: an ID token (or access token that is a JWT) of the provider, and a PEM PKCS#10 request."""

    token: str = text(pattern=JWS, longest=16384)
    csr: str = text(longest=8192)


@dataclass(frozen=True, slots=True)
class ProviderAnswer:
    """GET /v1/login: where to get a token, and as which client. `root` is our root certificate, PEM."""

    issuer: str
    client_id: str | None
    scopes: str
    root: str


@dataclass(frozen=True, slots=True)
class EndAnswer:
    """POST /v1/logout: the certificate that is revoked."""

    serial: str


ROUTES = (
    Route("GET", "/v1/login", "Where operators get their tokens", answers=ProviderAnswer, codes=("not_found",)),
    Route(
        "POST", "/v1/login", "An operator's certificate for a token", asks=Login, answers=BundleAnswer, status=201,
        codes=(
            "not_found", "csr_refused", "sign_in_refused", "operator_forbidden", "conflict", "too_many_requests",
            "provider_unavailable",
        ),
    ),
    Route(
        "POST", "/v1/logout", "Revoke the certificate that this is asked with", answers=EndAnswer,
        codes=(
            "certificate_required", "certificate_unknown", "certificate_expired", "certificate_superseded",
            "certificate_revoked", "operator_forbidden", "conflict", "too_many_requests",
        ),
    ),
)  # fmt: skip


def add_sign_in(
    app: Flask,
    journal: Journal,
    identify: Identify,
    sign_in: SignIn | None,
    session: Session,
    root_pem: str,
    address: str,
) -> None:
    """Add `ROUTES`. Without `sign_in` no provider is configured. `address` is where this listener is found."""

    @app.get("/v1/login", provide_automatic_options=False)
    def provider() -> Response:
        with asked(journal, Name.OPERATOR_SESSION_CREATE):  # which records a refusal, and nothing else
            nothing()
            found = _configured(sign_in).provider
        return reply(ProviderAnswer(found.issuer, found.client_id, found.scopes, root_pem))

    @app.post("/v1/login", provide_automatic_options=False)
    def login() -> Response:
        with asked(journal, Name.OPERATOR_SESSION_CREATE) as call:
            order = message(Login)
            made = _configured(sign_in).begin(call, order.token, order.csr)
            return reply(BundleAnswer.of(made, address), 201)

    @app.post("/v1/logout", provide_automatic_options=False)
    def logout() -> Response:
        with asked(journal, Name.OPERATOR_SESSION_END) as call:
            der = peer().certificate
            identify.operator(call, der)
            nothing()
            return reply(EndAnswer(session.end(call, der or b"")))


def routes(session: Session, address: str) -> Sequence[AdminRoute]:
    """What goes through the desk."""

    def renew(asked: Asked) -> BundleAnswer:
        return BundleAnswer.of(session.renew(asked.call, asked.admitted.operator, peer().certificate or b""), address)

    return (
        AdminRoute(
            "POST", "/v1/operators/self/renew", "A new certificate for the key of the one in use",
            Name.OPERATOR_CERTIFICATE_RENEW, renew, answers=BundleAnswer, codes=("conflict",), resumes=True,
        ),
    )  # fmt: skip


def _configured(sign_in: SignIn | None) -> SignIn:
    if sign_in is None:
        raise Refusal("not_found", "This gateway has no OpenID provider: sign in with a certificate")
    return sign_in
