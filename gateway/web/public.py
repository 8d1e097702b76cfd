"""The public listener (plain HTTP: what it gives is signed, or is compared with a fingerprint) and the local one."""

from collections.abc import Callable, Mapping
from typing import Any

from flask import Flask, Response, jsonify

from gateway.core.audit import Name
from gateway.flows.journal import Journal
from gateway.flows.publish import Publish
from gateway.web.exchange import make_app


def public_app(journal: Journal, publish: Publish, root_pem: str) -> Flask:
    """GET /ca.pem and GET /crl/instances.crl (RFC 2585)."""
    app = make_app("public", journal, Name.INSTANCE_REQUEST_REFUSE)

    @app.get("/ca.pem")
    def ca() -> Response:
        return Response(root_pem, content_type="application/pem-certificate-chain")

    @app.get("/crl/instances.crl")
    def crl() -> Response:
        return Response(publish.current().der, content_type="application/pkix-crl")

    return app


def local_app(journal: Journal, health: Callable[[], Mapping[str, Any]]) -> Flask:
    """GET /livez: the process answers. GET /readyz and /healthz: the store answers, too; how memory is protected."""
    app = make_app("local", journal, Name.OPERATOR_REQUEST_REFUSE)

    @app.get("/livez")
    def livez() -> Response:
        return Response(status=204)

    @app.get("/readyz")
    @app.get("/healthz")
    def healthz() -> tuple[Response, int]:
        found = health()
        return jsonify(found), 200 if found["ready"] else 503

    return app
