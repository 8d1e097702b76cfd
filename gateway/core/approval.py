"""Which requests need a second person, and whether there are enough of them. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from gateway.core import operator_document, rights
from gateway.core.audit import Name
from gateway.core.errors import Refusal
from gateway.core.operator_document import PATTERN, RoleRules, matches
from gateway.core.operator_model import Approval, ApprovalState, Operator, OperatorState
from gateway.core.profile_document import DURATION, parse_duration
from gateway.wire.strict import integer, text

NEVER = frozenset({
    Name.OPERATOR_APPROVAL_GIVE, Name.OPERATOR_APPROVAL_LIST, Name.OPERATOR_APPROVAL_REFUSE,
    Name.OPERATOR_CERTIFICATE_RENEW, Name.OPERATOR_SESSION_CREATE,
})  # fmt: skip
"""What no setting can make depend on others: giving an approval, and being let in."""

LOOKS = frozenset({"list", "metrics", "read", "status"})
"""The verbs that only look."""

WITH_ANY = frozenset({
    Name.OPERATOR_OPERATOR_ADD, Name.OPERATOR_OPERATOR_CHANGE, Name.OPERATOR_CERTIFICATE_ISSUE,
    Name.OPERATOR_ROLE_APPLY,
})  # fmt: skip
"""What makes a second person, or gives one a right. One person who could do that alone would be two."""


@dataclass(frozen=True, slots=True)
class ApprovalsDocument:
    """The setting: `count` people, who asks among them, for these permissions; an approval's life."""

    count: int = integer(low=2, high=9, default=2)
    permissions: tuple[str, ...] = text(pattern=PATTERN, default=())
    life: str = text(pattern=DURATION, default="1h")

    @property
    def faults(self) -> list[str]:
        """What is wrong with it."""
        found = [(i, fault) for i, each in enumerate(self.permissions) if (fault := operator_document.unknown(each))]
        faults = [f"approvals.permissions[{i}]: {fault}" for i, fault in found]
        if not timedelta(minutes=1) <= parse_duration(self.life) <= timedelta(days=7):
            faults.append("approvals.life: from 1m to 168h")
        return faults

    @property
    def rules(self) -> "ApprovalRules":
        """As the gateway goes by them."""
        return ApprovalRules(self.count, self.permissions, parse_duration(self.life))


@dataclass(frozen=True, slots=True)
class ApprovalRules:
    """`count` people, who asks among them, for what matches a pattern of `permissions`, within `life`."""

    count: int = 2
    permissions: tuple[str, ...] = ()
    life: timedelta = timedelta(hours=1)

    def ask_for(self, permission: Name) -> bool:
        """Whether this permission needs them. To look at something, only if the verb is named: `*` is what is done."""
        if not self.permissions or permission in NEVER:
            return False
        patterns = self.permissions
        if permission.rpartition(":")[2] in LOOKS:
            patterns = tuple(each for each in patterns if not each.endswith(":*"))
        return permission in WITH_ANY or any(matches(pattern, permission) for pattern in patterns)


def demand(row: Approval | None, asked_by: str, request_sha256: str, now: datetime) -> Approval:
    """The approval must be of this operator, for exactly this request, unspent and in its time.

    Raises Refusal `approval_refused`.
    """
    if row is None or row.asked_by != asked_by:
        raise Refusal("approval_refused", reason="approval_unknown")
    if row.request_sha256 != request_sha256:
        raise Refusal("approval_refused", "It was given for another request", reason="approval_other_request")
    if row.state in (ApprovalState.SPENT, ApprovalState.REFUSED):
        raise Refusal("approval_refused", f"It is {row.state.value}", reason=f"approval_{row.state.value}")
    if row.expires_at <= now:
        raise Refusal("approval_refused", "It is over", reason="approval_expired")
    return row


def given(row: Approval, people: Iterable[Operator], roles: Mapping[str, RoleRules]) -> int:
    """How many agree, who asks among them: those who still are operators, and still hold the permission."""
    return 1 + sum(
        1
        for each in people
        if each.name in row.given_by
        and each.name != row.asked_by
        and each.state is OperatorState.ACTIVE
        and _holds(each, Name(row.permission), roles)
    )


def _holds(row: Operator, permission: Name, roles: Mapping[str, RoleRules]) -> bool:
    try:
        found = operator_document.operator(row.document)
    except Refusal:
        return False
    return rights.of(found, roles).permits_anywhere(permission)
