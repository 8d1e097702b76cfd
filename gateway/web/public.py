"""The public listener (plain HTTP: what it gives is signed, or is compared with a fingerprint) and the local one."""

from collections.abc import Callable, Mapping
from typing import Any

from flask import Flask, Response, jsonify, request

from gateway.core.audit import Name
from gateway.flows.journal import Journal
from gateway.flows.publish import Publish
from gateway.web.exchange import make_app

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


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


def local_app(journal: Journal, health: Callable[[], Mapping[str, Any]], metrics: Callable[[], bytes]) -> Flask:
    """GET /livez: the process answers. GET /readyz and /healthz: what it depends on does, too. GET /metrics."""
    app = make_app("local", journal, Name.OPERATOR_REQUEST_REFUSE)

    @app.get("/livez")
    def livez() -> Response:
        return Response(status=204)

    @app.get("/readyz")
    @app.get("/healthz")
    def healthz() -> tuple[Response, int]:
        found = health()
        if request.environ["trusted_gateway.draining"]:
            found = {**found, "ready": False, "status": "draining"}
        return jsonify(found), 200 if found["ready"] else 503

    @app.get("/metrics")
    def metrics_text() -> Response:
        return Response(metrics(), content_type=METRICS_TYPE)

    return app
