"""What an operator may do: permissions, roles, and the conditions on them. Pure.

A permission has the grammar of audit events, `operator:object:verb`, and is the event of what it permits. A role lists
permissions; `*` stands for any object, or any verb. Nothing permits to read an upstream key: no such verb exists.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from gateway.core.audit import Name
from gateway.core.errors import Refusal
from gateway.core.operator_document import ANYWHERE, OperatorRules, RoleRules, operator, role
from gateway.core.operator_model import Operator, OperatorState, Role
from gateway.core.presence import ALWAYS, Presence

ADMINISTRATOR = "administrator"

ROLES: Mapping[str, Mapping[str, Any]] = {
    ADMINISTRATOR: {"permissions": ["operator:*:*"]},
    "operator": {
        "permissions": [
            "operator:gateway:status",
            "operator:instance:*",
            "operator:ticket:*",
            "operator:lease:*",
            "operator:server:*",
            "operator:certificate:renew",
            "operator:api:read",
            "operator:certificate:revoke",
            "operator:grant:revoke",
            "operator:profile:list",
            "operator:profile:read",
            "operator:profile:revoke",
            "operator:revocation:list",
            "operator:approval:*",
        ]
    },
    "monitor": {
        "permissions": [
            "operator:gateway:status",
            "operator:gateway:metrics",
            "operator:instance:list",
            "operator:server:list",
            "operator:certificate:renew",
            "operator:api:read",
        ]
    },
    "auditor": {
        "permissions": [
            "operator:audit:read",
            "operator:audit:export",
            "operator:certificate:renew",
            "operator:api:read",
        ],
    },
    "revoker": {
        "permissions": [
            "operator:*:revoke",
            "operator:key:disable",
            "operator:key:compromise",
            "operator:revocation:list",
            "operator:approval:*",
            "operator:certificate:renew",
            "operator:api:read",
        ]
    },
}
"""The roles that are always there. Nobody can change them."""


@dataclass(frozen=True, slots=True)
class Rights:
    """What one operator may do: the roles that count now and from where the request came. No role: nothing. `presence`
    is the condition on the operator, which bounds all of them.
    """

    roles: tuple[RoleRules, ...] = ()
    presence: Presence = ALWAYS

    def permits(self, permission: Name) -> bool:
        """Whether any role permits it, maybe not everywhere: for what has a place, ask `covers`, too."""
        return any(each.permits(permission) for each in self.roles)

    def permits_anywhere(self, permission: Name) -> bool:
        """Whether a role permits it that is bound to no account, region or tag."""
        return any(each.place == ANYWHERE and each.permits(permission) for each in self.roles)

    def covers(self, permission: Name, account: str, region: str, tags: Mapping[str, str]) -> bool:
        """Whether a role permits it on a machine in this account and region with these tags."""
        return any(each.permits(permission) and each.place.holds(account, region, tags) for each in self.roles)

    def include(self, given: "Rights") -> bool:
        """Whether all that these rights give is given by this operator's own, nowhere wider and at no other time.

        What nobody has cannot be given. Where it takes thinking to see (two roles that make up for a third), the answer
        is no.
        """

        def bounded(each: RoleRules, limit: Presence) -> bool:
            return each.presence.within(limit) or given.presence.within(limit)

        return all(
            any(
                own.permits(name) and each.place.within(own.place)
                and bounded(each, own.presence) and bounded(each, self.presence)
                for own in self.roles
            )
            for each in given.roles
            for name in Name
            if each.permits(name)
        )  # fmt: skip


BUILT_IN: Mapping[str, RoleRules] = {name: role(name, document) for name, document in ROLES.items()}


def known(rows: Iterable[Role]) -> dict[str, RoleRules]:
    """Every role by its name. One that is no longer valid, because the rules are others now, gives nothing."""
    found: dict[str, RoleRules] = {}
    for row in rows:
        try:
            found[row.name] = role(row.name, row.document)
        except Refusal:
            continue
    return found | dict(BUILT_IN)


def of(found: OperatorRules, roles: Mapping[str, RoleRules]) -> Rights:
    """All roles of an operator, whether they count at this moment or not."""
    return Rights(tuple(roles[name] for name in found.roles if name in roles), found.presence)


def admit(
    found: OperatorRules, roles: Mapping[str, RoleRules], permission: Name, source: str | None, now: datetime
) -> Rights:
    """The rights at this moment, from this address. Raises Refusal `operator_forbidden` without the permission.

    Its reason says whether a condition was in the way: `source_address`, `outside_hours`, else `permission_missing`.
    """
    if missed := found.presence.missed(source, now):
        raise Refusal("operator_forbidden", "A condition of the operator does not hold", reason=missed)
    everything = of(found, roles)
    counting = replace(
        everything, roles=tuple(each for each in everything.roles if each.presence.missed(source, now) is None)
    )
    if not counting.permits(permission):
        asleep = (each.presence.missed(source, now) for each in everything.roles if each.permits(permission))
        reason = next((missed for missed in asleep if missed), "permission_missing")
        raise Refusal("operator_forbidden", reason=reason)
    return counting


def demand_administrator(changed: Iterable[Operator], left: Iterable[Operator]) -> None:
    """Where one of the `changed` could let others in, one of those who are `left` can. Raises Refusal `conflict`.

    That is an active administrator with a certificate of ours: who signs in elsewhere can lose the role there at any
    time, and is not counted on. Whoever makes a change that can wait leaves only those who `could_act` now; to cut
    somebody off does not wait until another one's hours begin.
    """
    if any(map(_is_administrator, changed)) and not any(map(_is_administrator, left)):
        why = "It would leave no administrator with a certificate: make another one first"
        raise Refusal("conflict", why, reason="last_administrator")


def could_act(row: Operator, source: str | None, now: datetime) -> bool:
    """Whether no condition on the operator is in the way at this moment, from this address."""
    rules = _rules(row)
    return rules is not None and rules.presence.missed(source, now) is None


def _is_administrator(row: Operator) -> bool:
    rules, signs_in = _rules(row), row.document.get("identity") is not None
    return row.state is OperatorState.ACTIVE and rules is not None and ADMINISTRATOR in rules.roles and not signs_in


def _rules(row: Operator) -> OperatorRules | None:
    try:
        return operator(row.document)
    except Refusal:  # the rules were others when it was written: it lets nobody in
        return None
