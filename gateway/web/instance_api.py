"""The instance listener: enrol, renew, ask for grants and credentials. docs/api.md describes it."""

from flask import Flask, Response

from gateway.core.audit import Name
from gateway.core.errors import Refusal
from gateway.flows.enroll import Enroll
from gateway.flows.identify import Identify
from gateway.flows.journal import Journal
from gateway.flows.renew import Renew
from gateway.flows.vend import Vend
from gateway.ports import RandomBytes, Throttle
from gateway.web.exchange import asked, make_app, message, nothing, peer, reply
from gateway.web.instance_routes import instance_document
from gateway.wire import messages

# What makes an attempt to come in count as failed: a wrong secret or wrong evidence, not a cloud that does not answer.
_GUESSES = frozenset(
    {"malformed_request", "csr_refused", "evidence_malformed", "evidence_refused", "ticket_invalid", "proof_refused"}
)


def instance_app(
    journal: Journal,
    identify: Identify,
    enroll: Enroll,
    renew: Renew,
    vend: Vend,
    throttle: Throttle,
    random: RandomBytes,
    root_pem: str,
) -> Flask:
    """The instance listener's application. `livez`, `openapi`, `ca`, `nonces` and `enroll` ask for no certificate."""
    app = make_app("instance", journal, Name.INSTANCE_REQUEST_REFUSE)

    @app.get("/livez")
    def livez() -> Response:
        return Response(status=204)

    @app.get("/v1/openapi.json")
    def openapi() -> Response:
        return Response(instance_document(), content_type="application/json")

    @app.get("/v1/ca")
    def ca() -> Response:
        return Response(root_pem, content_type="application/pem-certificate-chain")

    @app.post("/v1/nonces")
    def nonces() -> Response:
        with asked(journal, Name.INSTANCE_NONCE_ASK):
            nothing()
            return reply(messages.NonceAnswer(enroll.nonce(random(16))))

    @app.post("/v1/enroll")
    def enroll_instance() -> Response:
        with asked(journal, Name.INSTANCE_CERTIFICATE_ENROLL) as call:
            throttle.check(peer().address)
            try:
                return reply(enroll.enroll(call, message(messages.EnrollRequest)), 201)
            except Refusal as refusal:
                if refusal.code in _GUESSES:
                    throttle.failed(peer().address)
                raise

    @app.post("/v1/renew")
    def renew_certificate() -> Response:
        with asked(journal, Name.INSTANCE_CERTIFICATE_RENEW) as call:
            identity = identify.instance(call, peer().certificate, superseded_too=True)
            return reply(renew.renew(call, identity, message(messages.RenewRequest)))

    @app.get("/v1/grants")
    def grants() -> Response:
        with asked(journal, Name.INSTANCE_GRANT_LIST) as call:
            identity = identify.instance(call, peer().certificate)
            nothing()
            return reply(vend.grants(call, identity))

    @app.post("/v1/credentials")
    def credentials() -> Response:
        with asked(journal, Name.INSTANCE_CREDENTIALS_VEND) as call:
            identity = identify.instance(call, peer().certificate)
            return reply(vend.vend(call, identity, message(messages.CredentialsRequest)))

    @app.get("/v1/watch")
    def watch() -> Response:
        # The event loop answers it (web/watch.py); here it is known, so that another method of it gets 405.
        raise Refusal("internal_error")

    return app
