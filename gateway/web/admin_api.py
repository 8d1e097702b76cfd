"""The admin listener: what operators do. Every route asks for an operator's certificate. docs/api.md describes it."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from flask import Flask, Response, jsonify

from gateway.core.audit import Name
from gateway.core.errors import Refusal
from gateway.core.model import Certificate, Instance
from gateway.flows.identify import Identify
from gateway.flows.journal import Journal
from gateway.flows.operate import TICKET_LIFE, Operate
from gateway.flows.profiles import Profiles
from gateway.flows.revoke import Revoke
from gateway.web.exchange import asked, make_app, message, no_body, nothing, peer, query
from gateway.web.profile_api import add_profile_routes
from gateway.wire.messages import NAME, instant
from gateway.wire.strict import integer, text


@dataclass(frozen=True, slots=True)
class TicketOrder:
    """POST /v1/tickets. `life` in seconds; `instance_id` makes the ticket good for that instance only."""

    profile: str = text(pattern=NAME)
    instance_id: str | None = text(pattern=r"i-[0-9a-f]{8,17}", default=None)
    life: int = integer(low=1, high=86400, default=int(TICKET_LIFE.total_seconds()))


@dataclass(frozen=True, slots=True)
class AuditPage:
    """The query of GET /v1/audit. `after` is the last record that the reader has of each chain: `CHAIN:7,CHAIN:12`."""

    after: str = text(pattern=r"([a-z0-9.-]+:[0-9]{1,18}(,[a-z0-9.-]+:[0-9]{1,18})*)?", longest=4096, default="")
    limit: str = text(pattern=r"1000|[1-9][0-9]{0,2}", default="1000")

    @property
    def positions(self) -> dict[str, int]:
        """Chain → sequence number. Raises Refusal when a chain is named twice."""
        pairs = [item.rpartition(":") for item in self.after.split(",") if item]
        found = {chain: int(seq) for chain, _, seq in pairs}
        if len(found) != len(pairs):
            raise Refusal("malformed_request", "after: a chain stands twice")
        return found


@dataclass(frozen=True, slots=True)
class InstancePage:
    """The query of GET /v1/instances."""

    after: str | None = text(longest=512, default=None)
    limit: str = text(pattern=r"[1-9][0-9]{0,2}", default="100")


def admin_app(
    journal: Journal,
    identify: Identify,
    operate: Operate,
    profiles: Profiles,
    revoke: Revoke,
    user_data: Callable[[str], str],
) -> Flask:
    """The Flask application of the admin listener. `user_data` makes of a ticket what an instance boots with."""
    app = make_app("admin", journal, Name.OPERATOR_REQUEST_REFUSE)
    add_profile_routes(app, journal, identify, profiles)

    @app.get("/v1/status")
    def status() -> Response:
        with asked(journal, Name.OPERATOR_GATEWAY_STATUS) as call:
            identify.operator(call, peer().certificate)
            nothing()
            return jsonify(operate.status(call))

    @app.post("/v1/tickets")
    def create_ticket() -> tuple[Response, int]:
        with asked(journal, Name.OPERATOR_TICKET_CREATE) as call:
            identify.operator(call, peer().certificate)
            order = message(TicketOrder)
            issued = operate.create_ticket(call, order.profile, order.instance_id, timedelta(seconds=order.life))
            return jsonify(
                id=issued.ticket.id,
                ticket=issued.secret,
                user_data=user_data(issued.secret),
                profile=issued.ticket.profile,
                instance_id=issued.ticket.instance_id,
                expires_at=instant(issued.ticket.expires_at),
            ), 201

    @app.get("/v1/instances")
    def instances() -> Response:
        with asked(journal, Name.OPERATOR_INSTANCE_LIST) as call:
            identify.operator(call, peer().certificate)
            no_body()
            page = query(InstancePage)
            found = operate.instances(call, after=page.after, limit=int(page.limit))
            more = found[-1].id if len(found) == int(page.limit) else None
            return jsonify(instances=[_instance(row) for row in found], next=more)

    @app.get("/v1/instances/<path:named>")
    def instance(named: str) -> Response:
        with asked(journal, Name.OPERATOR_INSTANCE_LIST) as call:
            identify.operator(call, peer().certificate)
            nothing()
            row, certificates, leases = operate.instance(call, named)
            return jsonify(
                **_instance(row),
                claims=dict(row.claims),
                certificates=[_certificate(certificate) for certificate in certificates],
                leases=leases,
            )

    @app.post("/v1/instances/<path:named>/revoke")
    def revoke_instance(named: str) -> Response:
        with asked(journal, Name.OPERATOR_INSTANCE_REVOKE) as call:
            identify.operator(call, peer().certificate)
            nothing()
            return jsonify(revoke.instance(call, named))

    @app.post("/v1/instances/<path:named>/allow-reenroll")
    def allow_reenroll(named: str) -> Response:
        with asked(journal, Name.OPERATOR_INSTANCE_REENROLL) as call:
            identify.operator(call, peer().certificate)
            nothing()
            return jsonify(until=instant(operate.allow_reenroll(call, named)))

    @app.get("/v1/audit")
    def audit() -> Response:
        with asked(journal, Name.OPERATOR_AUDIT_READ) as call:
            identify.operator(call, peer().certificate)
            no_body()
            page = query(AuditPage)
            rows = operate.audit_lines(call, page.positions, int(page.limit))
            return jsonify(records=[{"chain": c, "seq": s, "line": line, "hash": h} for c, s, line, h in rows])

    return app


def _instance(row: Instance) -> dict[str, Any]:
    return {
        "id": row.id,
        "instance_id": row.instance_id,
        "account": row.account,
        "region": row.region,
        "profile": row.profile,
        "state": row.state.value,
        "enrolled_at": instant(row.enrolled_at),
        "revoked_at": instant(row.revoked_at) if row.revoked_at else None,
        "revoked_by": row.revoked_by,
    }


def _certificate(row: Certificate) -> dict[str, Any]:
    return {
        "serial": row.serial,
        "state": row.state.value,
        "not_before": instant(row.not_before),
        "not_after": instant(row.not_after),
        "sha256": row.sha256,
    }
