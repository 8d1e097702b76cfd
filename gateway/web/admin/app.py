"""The Flask application of the admin listener, made of its routes; and what they are, for programs."""

from collections.abc import Iterable

from flask import Flask

from gateway.core.audit import Name
from gateway.flows.journal import Journal
from gateway.web.admin.desk import AdminRoute, Desk
from gateway.web.exchange import make_app


def admin_app(journal: Journal, desk: Desk, routes: Iterable[AdminRoute]) -> Flask:
    """Every route goes through the desk; what meets no route is recorded, too."""
    app = make_app("admin", journal, Name.OPERATOR_REQUEST_REFUSE)
    desk.add(app, routes)
    return app
