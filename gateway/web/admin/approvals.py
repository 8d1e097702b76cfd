"""Requests that wait for a second person."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from gateway.core.audit import Name
from gateway.flows.approve import Approve, Standing
from gateway.web.admin.desk import AdminRoute, Asked
from gateway.web.admin.pages import Page, page
from gateway.web.admin.shown import INSTANT
from gateway.wire.messages import NAME, instant
from gateway.wire.strict import text


@dataclass(frozen=True, slots=True)
class ApprovalShown:
    """A request that waits: `request` is all of it, its body as JSON; `given` of the `needed` agree, `asked_by` too."""

    request: Mapping[str, Any]
    given: int
    needed: int
    id: str = text()
    permission: str = text()
    asked_by: str = text(pattern=NAME)
    asked_at: str = text(pattern=INSTANT)
    expires_at: str = text(pattern=INSTANT)
    state: str = text(pattern="open|given|refused|spent")
    given_by: tuple[str, ...] = text(pattern=NAME)

    @classmethod
    def of(cls, standing: Standing) -> "ApprovalShown":
        """Of a row, as it stands."""
        row = standing.approval
        return cls(
            dict(row.request), standing.given, standing.needed, row.id, row.permission, row.asked_by,
            instant(row.asked_at), instant(row.expires_at), row.state.value, tuple(row.given_by),
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class ApprovalsAnswer:
    """A page of what waits, and where the next one begins."""

    approvals: tuple[ApprovalShown, ...]
    next: str | None = text(longest=1024)


def routes(approve: Approve) -> Sequence[AdminRoute]:
    """Which ones an operator sees: own ones, and those that the operator may agree to."""

    def waiting(asked: Asked) -> Mapping[str, Any]:
        limit = int(asked.query.limit)
        found = approve.open(asked.call, asked.admitted, after=asked.query.after, limit=limit)
        return page("approvals", found, limit, lambda row: row.approval.id, lambda row: asdict(ApprovalShown.of(row)))

    def give(asked: Asked) -> ApprovalShown:
        return ApprovalShown.of(approve.give(asked.call, asked.admitted, asked.path["id"]))

    def refuse(asked: Asked) -> ApprovalShown:
        return ApprovalShown.of(approve.refuse(asked.call, asked.admitted, asked.path["id"]))

    codes = ("approval_unknown", "conflict")
    return (
        AdminRoute("GET", "/v1/approvals", "What waits for a second person", Name.OPERATOR_APPROVAL_LIST, waiting,
                   query=Page, answers=ApprovalsAnswer),
        AdminRoute("POST", "/v1/approvals/<id>/give", "Agree with another operator's request",
                   Name.OPERATOR_APPROVAL_GIVE, give, answers=ApprovalShown, codes=codes),
        AdminRoute("POST", "/v1/approvals/<id>/refuse", "Refuse a request, or take back one's own",
                   Name.OPERATOR_APPROVAL_REFUSE, refuse, answers=ApprovalShown, codes=codes),
    )  # fmt: skip
