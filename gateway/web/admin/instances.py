"""Instances, the tickets that they boot with and the leases that they got; and how the gateway is."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any

from gateway.core.audit import Name
from gateway.flows.operate import TICKET_LIFE, Operate
from gateway.web.admin.desk import AdminRoute, Asked
from gateway.web.admin.pages import Page, page
from gateway.web.admin.shown import INSTANT, CertificateShown, InstanceShown, LeaseShown, TicketShown
from gateway.wire.messages import NAME, instant
from gateway.wire.strict import integer, text


@dataclass(frozen=True, slots=True)
class TicketOrder:
    """POST /v1/tickets. `life` in seconds; `instance_id` makes the ticket good for that instance only."""

    profile: str = text(pattern=NAME)
    instance_id: str | None = text(pattern=r"i-[0-9a-f]{8,17}", default=None)
    life: int = integer(low=1, high=86400, default=int(TICKET_LIFE.total_seconds()))


@dataclass(frozen=True, slots=True)
class TicketAnswer:
    """A new ticket: `ticket` is the secret, shown this once; `user_data` the line that holds it."""

    id: str = text()
    ticket: str = text()
    user_data: str = text(longest=2048)
    profile: str = text(pattern=NAME)
    instance_id: str | None = text()
    expires_at: str = text(pattern=INSTANT)


@dataclass(frozen=True, slots=True)
class InstanceQuery(Page):
    """The query of GET /v1/instances."""

    state: str | None = text(pattern="enrolled|revoked", default=None)
    profile: str | None = text(default=None)
    account: str | None = text(default=None)
    region: str | None = text(default=None)


@dataclass(frozen=True, slots=True)
class CertificateQuery(Page):
    """The query of GET /v1/instances/<id>/certificates."""

    state: str | None = text(pattern="active|superseded|revoked", default=None)


@dataclass(frozen=True, slots=True)
class TicketQuery(Page):
    """The query of GET /v1/tickets."""

    state: str | None = text(pattern="open|redeemed|revoked", default=None)
    profile: str | None = text(default=None)
    instance_id: str | None = text(default=None)


@dataclass(frozen=True, slots=True)
class LeaseQuery(Page):
    """The query of GET /v1/leases. `instance` is named as in a path; `live=true`: only what AWS still honours and
    nobody revoked.
    """

    instance: str | None = text(longest=512, default=None)
    profile: str | None = text(default=None)
    grant: str | None = text(default=None)
    live: str | None = text(pattern="true|false", default=None)


@dataclass(frozen=True, slots=True)
class InstancesAnswer:
    """A page of instances, and where the next one begins."""

    instances: tuple[InstanceShown, ...]
    next: str | None = text(longest=1024)


@dataclass(frozen=True, slots=True)
class CertificatesAnswer:
    """A page of certificates, and where the next one begins."""

    certificates: tuple[CertificateShown, ...]
    next: str | None = text(longest=1024)


@dataclass(frozen=True, slots=True)
class TicketsAnswer:
    """A page of tickets, and where the next one begins."""

    tickets: tuple[TicketShown, ...]
    next: str | None = text(longest=1024)


@dataclass(frozen=True, slots=True)
class LeasesAnswer:
    """A page of leases, and where the next one begins."""

    leases: tuple[LeaseShown, ...]
    next: str | None = text(longest=1024)


def routes(operate: Operate, user_data: Callable[[str], str]) -> Sequence[AdminRoute]:
    """`user_data` makes of a ticket what an instance boots with."""

    def status(asked: Asked) -> Mapping[str, Any]:
        return operate.status(asked.call)

    def create_ticket(asked: Asked) -> TicketAnswer:
        order = asked.body
        issued = operate.create_ticket(asked.call, order.profile, order.instance_id, timedelta(seconds=order.life))
        ticket = issued.ticket
        return TicketAnswer(
            ticket.id, issued.secret, user_data(issued.secret), ticket.profile, ticket.instance_id,
            instant(ticket.expires_at),
        )  # fmt: skip

    def tickets(asked: Asked) -> Mapping[str, Any]:
        limit, query = int(asked.query.limit), asked.query
        found = operate.tickets(asked.call, after=query.after, limit=limit, **query.filters)
        return page("tickets", found, limit, lambda row: row.sha256, lambda row: asdict(TicketShown.of(row)))

    def leases(asked: Asked) -> Mapping[str, Any]:
        limit, query = int(asked.query.limit), asked.query
        named = {"instance": None, **query.filters, "live": query.live == "true"}
        found = operate.leases(asked.call, after=query.after, limit=limit, **named)
        return page("leases", found, limit, lambda row: row.id, lambda row: asdict(LeaseShown.of(row)))

    def instances(asked: Asked) -> Mapping[str, Any]:
        limit, query = int(asked.query.limit), asked.query
        found = operate.instances(asked.call, after=query.after, limit=limit, **query.filters)
        return page("instances", found, limit, lambda row: row.id, lambda row: asdict(InstanceShown.of(row)))

    def certificates(asked: Asked) -> Mapping[str, Any]:
        limit, query = int(asked.query.limit), asked.query
        named = asked.path["named"]
        found = operate.certificates(asked.call, named, after=query.after, limit=limit, **query.filters)
        return page("certificates", found, limit, lambda row: row.serial, lambda row: asdict(CertificateShown.of(row)))

    def instance(asked: Asked) -> Mapping[str, Any]:
        row, certificates, leases = operate.instance(asked.call, asked.path["named"])
        return {
            **asdict(InstanceShown.of(row)),
            "claims": dict(row.claims),
            "certificates": [asdict(CertificateShown.of(each)) for each in certificates],
            "leases": leases,
        }

    def allow_reenroll(asked: Asked) -> Mapping[str, Any]:
        return {"until": instant(operate.allow_reenroll(asked.call, asked.path["named"]))}

    named = ("instance_unknown", "instance_ambiguous")
    return (
        AdminRoute("GET", "/v1/status", "How the gateway is", Name.OPERATOR_GATEWAY_STATUS, status),
        AdminRoute(
            "POST", "/v1/tickets", "A ticket for a machine at its launch", Name.OPERATOR_TICKET_CREATE, create_ticket,
            asks=TicketOrder, codes=("profile_unknown",), answers=TicketAnswer, status=201,
        ),
        AdminRoute("GET", "/v1/tickets", "The tickets that were made, without their secrets",
                   Name.OPERATOR_TICKET_LIST, tickets, query=TicketQuery, answers=TicketsAnswer),
        AdminRoute("GET", "/v1/leases", "What was vended", Name.OPERATOR_LEASE_LIST, leases, query=LeaseQuery,
                   codes=named, answers=LeasesAnswer),
        AdminRoute("GET", "/v1/instances", "The machines that were admitted", Name.OPERATOR_INSTANCE_LIST, instances,
                   query=InstanceQuery, answers=InstancesAnswer),
        AdminRoute("GET", "/v1/instances/<path:named>/certificates", "The certificates of an instance",
                   Name.OPERATOR_INSTANCE_LIST, certificates, query=CertificateQuery, codes=named,
                   answers=CertificatesAnswer),
        AdminRoute("GET", "/v1/instances/<path:named>", "One instance, its certificates and what AWS still honours",
                   Name.OPERATOR_INSTANCE_LIST, instance, codes=named),
        AdminRoute("POST", "/v1/instances/<path:named>/allow-reenroll", "Let an instance come back with a new key",
                   Name.OPERATOR_INSTANCE_REENROLL, allow_reenroll, codes=(*named, "instance_revoked", "conflict")),
    )  # fmt: skip
