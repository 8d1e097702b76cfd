"""Operators and roles. Both have entity tags: two people may edit them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from gateway.core.audit import Name
from gateway.core.model import Certificate
from gateway.core.operator_model import Operator, Role
from gateway.core.rights import ROLES
from gateway.flows.issue import pem
from gateway.flows.operators import Bundle, Operators, Roles
from gateway.web.admin.conditions import expected, tagged
from gateway.web.admin.desk import JSON_OBJECT, AdminRoute, Answered, Asked
from gateway.web.admin.pages import Page, page
from gateway.web.admin.shown import INSTANT
from gateway.wire.messages import NAME, PEM, instant
from gateway.wire.strict import text


@dataclass(frozen=True, slots=True)
class OperatorOrder:
    """POST /v1/operators. `csr` was made where the key is, and stays."""

    name: str = text(pattern=NAME)
    csr: str = text(longest=8192)
    roles: tuple[str, ...] = text(pattern=NAME)
    source_addresses: tuple[str, ...] = text(default=())
    hours: tuple[str, ...] = text(default=())


@dataclass(frozen=True, slots=True)
class OperatorChange:
    """PUT /v1/operators/<name>: all of it, not only what differs."""

    roles: tuple[str, ...] = text(pattern=NAME)
    source_addresses: tuple[str, ...] = text(default=())
    hours: tuple[str, ...] = text(default=())


@dataclass(frozen=True, slots=True)
class CertificateOrder:
    """POST /v1/operators/<name>/certificates."""

    csr: str = text(longest=8192)


@dataclass(frozen=True, slots=True)
class OperatorShown:
    """An operator. `identity`: the name at an OpenID provider, for one who signs in there."""

    version: int
    name: str = text(pattern=NAME)
    state: str = text(pattern="active|revoked")
    roles: tuple[str, ...] = text(pattern=NAME)
    source_addresses: tuple[str, ...] = text()
    hours: tuple[str, ...] = text()
    identity: Mapping[str, str] | None = text(longest=2048)
    created_at: str = text(pattern=INSTANT)
    created_by: str = text(longest=2048)
    revoked_at: str | None = text(pattern=INSTANT)
    revoked_by: str | None = text(longest=2048)
    certified_until: str | None = text(pattern=INSTANT, default=None)

    @classmethod
    def of(cls, row: Operator, certificates: Sequence[Certificate] = ()) -> "OperatorShown":
        """Of a row."""
        seen = row.document
        return cls(
            row.version, row.name, row.state.value, tuple(seen["roles"]), tuple(seen.get("source_addresses", ())),
            tuple(seen.get("hours", ())), seen.get("identity"), instant(row.created_at), row.created_by,
            instant(row.revoked_at) if row.revoked_at else None, row.revoked_by,
            max((instant(each.not_after) for each in certificates), default=None),
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class OperatorsAnswer:
    """A page of operators, and where the next one begins."""

    operators: tuple[OperatorShown, ...]
    next: str | None = text(longest=1024)


@dataclass(frozen=True, slots=True)
class BundleAnswer:
    """What `operator accept` installs where the key is: certificates in PEM, and the admin listener's address."""

    operator: str = text(pattern=NAME)
    certificate: str = text(pattern=PEM, longest=8192)
    issuer: str = text(pattern=PEM, longest=8192)
    root: str = text(pattern=PEM, longest=8192)
    gateway: str = text(longest=512)
    not_after: str = text(pattern=INSTANT)

    @classmethod
    def of(cls, made: Bundle, address: str) -> "BundleAnswer":
        """Of what was made. `address` is the admin listener's."""
        certificate, until = pem(made.certificate.der), instant(made.certificate.not_after)
        return cls(made.operator.name, certificate, pem(made.issuer), pem(made.root), address, until)


@dataclass(frozen=True, slots=True)
class RoleShown:
    """A role. A built-in one has no version: nobody can change it."""

    built_in: bool
    document: Mapping[str, Any]
    version: int | None
    name: str = text(pattern=NAME)
    changed_at: str | None = text(pattern=INSTANT)
    changed_by: str | None = text(longest=2048)

    @classmethod
    def of(cls, row: Role) -> "RoleShown":
        """Of a row."""
        return cls(False, dict(row.document), row.version, row.name, instant(row.changed_at), row.changed_by)

    @classmethod
    def built_in_one(cls, name: str) -> "RoleShown":
        """Of a role that is always there."""
        return cls(True, dict(ROLES[name]), None, name, None, None)


@dataclass(frozen=True, slots=True)
class RolesAnswer:
    """Every role, the built-in ones first."""

    roles: tuple[RoleShown, ...]


def routes(operators: Operators, roles: Roles, address: str) -> Sequence[AdminRoute]:
    """`address` is where operators find the admin listener."""

    def add(asked: Asked) -> BundleAnswer:
        order = asked.body
        made = operators.add(asked.call, asked.admitted, order.name, _document(order), order.csr)
        return BundleAnswer.of(made, address)

    def certify(asked: Asked) -> BundleAnswer:
        made = operators.certify(asked.call, asked.admitted, asked.path["name"], asked.body.csr)
        return BundleAnswer.of(made, address)

    def all_operators(asked: Asked) -> Mapping[str, Any]:
        limit = int(asked.query.limit)
        found = operators.all(asked.call, after=asked.query.after, limit=limit)
        return page("operators", found, limit, lambda row: row.name, lambda row: asdict(OperatorShown.of(row)))

    def one_operator(asked: Asked) -> Answered:
        row, certificates = operators.one(asked.call, asked.path["name"])
        return tagged(asdict(OperatorShown.of(row, certificates)), row.version)

    def change(asked: Asked) -> Answered:
        document = _document(asked.body)
        row = operators.change(asked.call, asked.admitted, asked.path["name"], document, expected())
        return tagged(asdict(OperatorShown.of(row)), row.version)

    def all_roles(asked: Asked) -> RolesAnswer:
        own = [RoleShown.of(row) for row in roles.all(asked.call)]
        return RolesAnswer((*map(RoleShown.built_in_one, ROLES), *own))

    def one_role(asked: Asked) -> Answered | RoleShown:
        row = roles.one(asked.call, name := asked.path["name"])
        return _role(row) if row else RoleShown.built_in_one(name)

    def vet_role(asked: Asked) -> None:
        expected()
        roles.vet(asked.path["name"], asked.body)

    def apply_role(asked: Asked) -> Answered:
        return _role(roles.apply(asked.call, asked.admitted, asked.path["name"], asked.body, expected()))

    def remove_role(asked: Asked) -> RoleShown:
        return RoleShown.of(roles.remove(asked.call, asked.admitted, asked.path["name"], expected()))

    unknown, edited = ("operator_unknown",), ("precondition_failed", "conflict")
    return (
        AdminRoute("GET", "/v1/operators", "Who may use this listener", Name.OPERATOR_OPERATOR_LIST, all_operators,
                   query=Page, answers=OperatorsAnswer),
        AdminRoute("POST", "/v1/operators", "Let somebody in, by a key that they made", Name.OPERATOR_OPERATOR_ADD, add,
                   asks=OperatorOrder, answers=BundleAnswer, status=201,
                   codes=("operator_invalid", "csr_refused", "conflict")),
        AdminRoute("GET", "/v1/operators/<name>", "One operator", Name.OPERATOR_OPERATOR_LIST, one_operator,
                   answers=OperatorShown, tagged=True, codes=unknown),
        AdminRoute("PUT", "/v1/operators/<name>", "Give an operator other roles and conditions",
                   Name.OPERATOR_OPERATOR_CHANGE, change, asks=OperatorChange, answers=OperatorShown, tagged=True,
                   codes=(*unknown, "operator_invalid", *edited)),
        AdminRoute("POST", "/v1/operators/<name>/certificates", "Certify a key of an operator, and no other any more",
                   Name.OPERATOR_CERTIFICATE_ISSUE, certify, asks=CertificateOrder, answers=BundleAnswer, status=201,
                   codes=(*unknown, "csr_refused", "conflict")),
        AdminRoute("GET", "/v1/roles", "Every role", Name.OPERATOR_ROLE_LIST, all_roles, answers=RolesAnswer),
        AdminRoute("GET", "/v1/roles/<name>", "One role", Name.OPERATOR_ROLE_LIST, one_role, answers=RoleShown,
                   tagged=True, codes=("role_unknown",)),
        AdminRoute("PUT", "/v1/roles/<name>", "Apply a role of one's own making", Name.OPERATOR_ROLE_APPLY, apply_role,
                   asks=JSON_OBJECT, answers=RoleShown, tagged=True, codes=("role_invalid", *edited),
                   vets=vet_role),
        AdminRoute("DELETE", "/v1/roles/<name>", "Forget a role that nobody has", Name.OPERATOR_ROLE_REMOVE,
                   remove_role, answers=RoleShown, tagged=True, codes=("role_unknown", *edited)),
    )  # fmt: skip


def _document(order: OperatorOrder | OperatorChange) -> dict[str, Any]:
    """As it is kept: what is empty is left out."""
    named = {"source_addresses": list(order.source_addresses), "hours": list(order.hours)}
    return {"roles": list(order.roles), **{name: each for name, each in named.items() if each}}


def _role(row: Role) -> Answered:
    return tagged(asdict(RoleShown.of(row)), row.version)
