"""Cutting things off, and the receipts. One route for each kind of thing: each is a permission of its own."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.core.audit import Name
from gateway.core.operator_model import PlanState
from gateway.core.revocation import Target
from gateway.flows.revoke import Order, Revoke
from gateway.web.admin.desk import AdminRoute, Asked, DryRun
from gateway.web.admin.pages import Page, page
from gateway.web.admin.receipt import Receipt, Receipts
from gateway.wire.strict import text

_KINDS = "instance|certificate|lease|grant|profile|ticket|operator|everything|key"


@dataclass(frozen=True, slots=True)
class Cutting(DryRun):
    """The query of POST /v1/revocations/…. `reason` is kept with the revocation, for who reads of it later."""

    reason: str | None = text(longest=256, default=None)


@dataclass(frozen=True, slots=True)
class CuttingAll(Cutting):
    """The query of POST /v1/revocations/everything. `operators`: everybody else who may give orders, too."""

    operators: str = text(pattern="true|false", default="false")


@dataclass(frozen=True, slots=True)
class RevocationQuery(Page):
    """The query of GET /v1/revocations."""

    state: str | None = text(pattern="running|done", default=None)
    kind: str | None = text(pattern=_KINDS, default=None)


def routes(revoke: Revoke) -> Sequence[AdminRoute]:
    """Each answers with a receipt."""

    def cut(target: Target, *path: str) -> Callable[[Asked], Mapping[str, Any]]:
        def answer(asked: Asked) -> Mapping[str, Any]:
            query = asked.query
            order = Order(
                target,
                "/".join(asked.path[name] for name in path),
                query.reason,
                dry_run=query.is_dry,
                operators_too=isinstance(query, CuttingAll) and query.operators == "true",
                of_operators=asked.admitted.rights.permits(Name.OPERATOR_OPERATOR_REVOKE),
            )
            return revoke.revoke(asked.call, order)

        return answer

    def receipts(asked: Asked) -> Mapping[str, Any]:
        query, limit = asked.query, int(asked.query.limit)
        state = PlanState(query.state) if query.state else None
        found = revoke.receipts(asked.call, after=query.after, limit=limit, state=state, kind=query.kind)
        return page("revocations", found, limit, lambda each: str(each["id"]), dict)

    def receipt(asked: Asked) -> Mapping[str, Any]:
        return revoke.receipt(asked.call, asked.path["id"])

    return (
        AdminRoute("POST", "/v1/revocations/instances/<path:named>", "Cut a machine off", Name.OPERATOR_INSTANCE_REVOKE,
                   cut(Target.INSTANCE, "named"), query=Cutting, answers=Receipt,
                   codes=("instance_unknown", "instance_ambiguous", "conflict")),
        AdminRoute("POST", "/v1/revocations/certificates/<serial>", "Cut off a certificate, and its key",
                   Name.OPERATOR_CERTIFICATE_REVOKE, cut(Target.CERTIFICATE, "serial"), query=Cutting, answers=Receipt,
                   codes=("target_unknown", "conflict")),
        AdminRoute("POST", "/v1/revocations/leases/<id>", "Cut off one session", Name.OPERATOR_LEASE_REVOKE,
                   cut(Target.LEASE, "id"), query=Cutting, answers=Receipt, codes=("target_unknown", "conflict")),
        AdminRoute("POST", "/v1/revocations/grants/<profile>/<grant>", "Cut off what a grant gave, and gives",
                   Name.OPERATOR_GRANT_REVOKE, cut(Target.GRANT, "profile", "grant"), query=Cutting, answers=Receipt,
                   codes=("profile_unknown", "target_unknown", "conflict")),
        AdminRoute("POST", "/v1/revocations/profiles/<name>", "Cut off a profile, and every machine that is in by it",
                   Name.OPERATOR_PROFILE_REVOKE, cut(Target.PROFILE, "name"), query=Cutting, answers=Receipt,
                   codes=("profile_unknown", "conflict")),
        AdminRoute("POST", "/v1/revocations/tickets/<id>", "Take a ticket back", Name.OPERATOR_TICKET_REVOKE,
                   cut(Target.TICKET, "id"), query=Cutting, answers=Receipt, codes=("target_unknown", "conflict")),
        AdminRoute("POST", "/v1/revocations/operators/<name>", "Cut an operator off", Name.OPERATOR_OPERATOR_REVOKE,
                   cut(Target.OPERATOR, "name"), query=Cutting, answers=Receipt,
                   codes=("operator_unknown", "conflict")),
        AdminRoute("POST", "/v1/revocations/everything", "Cut off every machine, ticket and session",
                   Name.OPERATOR_EVERYTHING_REVOKE, cut(Target.EVERYTHING), query=CuttingAll, answers=Receipt,
                   codes=("conflict",)),
        AdminRoute("GET", "/v1/revocations", "What was cut off, and how far that is", Name.OPERATOR_REVOCATION_LIST,
                   receipts, query=RevocationQuery, answers=Receipts),
        AdminRoute("GET", "/v1/revocations/<id>", "One receipt, as it is now", Name.OPERATOR_REVOCATION_LIST, receipt,
                   answers=Receipt, codes=("target_unknown",)),
    )  # fmt: skip
