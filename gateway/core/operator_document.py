"""Operators and roles as they are written, read strictly: every fault is named at once. Pure."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from gateway.core import presence
from gateway.core.attest.ec2 import REGION
from gateway.core.audit import Name
from gateway.core.errors import Refusal
from gateway.core.presence import ALWAYS, Presence
from gateway.wire.messages import NAME
from gateway.wire.strict import Malformed, decode, text

D = TypeVar("D")
PATTERN = r"operator:(\*|[a-z]+):(\*|[a-z]+)"
MOST = 64  # of anything in one document
PLACED = ("instance", "server")
"""What has an account, a region and tags. A role that is bound to some gives nothing else."""
SELF = "self"
"""In a path: whoever asks. So nobody has this name."""
OF_ONESELF = frozenset({Name.OPERATOR_CERTIFICATE_RENEW.value, Name.OPERATOR_API_READ.value})


@dataclass(frozen=True, slots=True)
class RoleDocument:
    """A role as it is written. `tags` are of the machine; in their values `*` stands for anything."""

    permissions: tuple[str, ...] = text(pattern=PATTERN)
    source_addresses: tuple[str, ...] = text(default=())
    hours: tuple[str, ...] = text(default=())
    accounts: tuple[str, ...] = text(pattern="[0-9]{12}", default=())
    regions: tuple[str, ...] = text(pattern=REGION, default=())
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class IdentityDocument:
    """Who an operator is to an OpenID provider: names are only unique there."""

    issuer: str = text(longest=2048)
    subject: str = text()


@dataclass(frozen=True, slots=True)
class OperatorDocument:
    """An operator as it is written. `identity` is there only for one who signs in elsewhere."""

    roles: tuple[str, ...] = text(pattern=NAME)
    source_addresses: tuple[str, ...] = text(default=())
    hours: tuple[str, ...] = text(default=())
    identity: IdentityDocument | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """Where a role counts: in these accounts, in these regions, on what has these tags. Empty is anywhere."""

    accounts: frozenset[str] = frozenset()
    regions: frozenset[str] = frozenset()
    tags: tuple[tuple[str, str], ...] = ()

    def holds(self, account: str, region: str, tags: Mapping[str, str]) -> bool:
        """Whether a machine there is meant. A tag that it does not have never matches."""
        return (
            (not self.accounts or account in self.accounts)
            and (not self.regions or region in self.regions)
            and all(key in tags and _like(pattern, tags[key]) for key, pattern in self.tags)
        )

    def within(self, other: "Place") -> bool:
        """Whether this is no wider than `other`, as far as that is seen without thinking."""
        return (
            (not other.accounts or (bool(self.accounts) and self.accounts <= other.accounts))
            and (not other.regions or (bool(self.regions) and self.regions <= other.regions))
            and set(other.tags) <= set(self.tags)
        )


ANYWHERE = Place()


@dataclass(frozen=True, slots=True)
class RoleRules:
    """A role that is valid: what it permits, where, and when it counts."""

    name: str
    permissions: frozenset[str]
    presence: Presence = ALWAYS
    place: Place = ANYWHERE

    def permits(self, permission: Name) -> bool:
        """Whether a pattern matches. Without a pattern nothing is permitted."""
        return any(matches(pattern, permission) for pattern in self.permissions)


@dataclass(frozen=True, slots=True)
class OperatorRules:
    """An operator that is valid: the names of the roles, and when all of them count."""

    roles: tuple[str, ...]
    presence: Presence = ALWAYS


def matches(pattern: str, permission: str) -> bool:
    """Whether `operator:object:verb`, maybe with `*` for a part, is of this permission."""
    parts, asked = pattern.split(":"), permission.split(":")
    return len(parts) == len(asked) == 3 and all(part in ("*", word) for part, word in zip(parts, asked, strict=True))


def role(name: str, document: Mapping[str, Any]) -> RoleRules:
    """A role of the administrators' own making. Raises Refusal `role_invalid`, which names every fault."""
    written, faults = _decoded(RoleDocument, document, "role_invalid")
    if not re.fullmatch(NAME, name):
        faults.append("name: has a-z, 0-9 and -, at most 63")
    if not written.permissions:
        faults.append("permissions: name at least one")
    faults += [f"permissions[{i}]: {fault}" for i, each in enumerate(written.permissions) if (fault := unknown(each))]
    _bounded(written, ("permissions", "accounts", "regions", "tags", "source_addresses", "hours"), faults)
    if any(not key or len(key) > 128 or len(value) > 256 for key, value in written.tags.items()):
        faults.append("tags: a key has 1 to 128 letters, a value at most 256")
    place = Place(frozenset(written.accounts), frozenset(written.regions), tuple(sorted(written.tags.items())))
    if place != ANYWHERE:
        faults += [
            f"permissions[{i}]: has no account, region or tags; a role that asks for them is of {' and '.join(PLACED)}"
            for i, each in enumerate(written.permissions)
            if each.split(":")[1] not in PLACED and each not in OF_ONESELF
        ]
    found = presence.read(written.source_addresses, written.hours, faults)
    _refuse("role_invalid", faults)
    return RoleRules(name, frozenset(written.permissions), found, place)


def operator(document: Mapping[str, Any]) -> OperatorRules:
    """An operator's own document. Which roles there are is not looked at. Raises Refusal `operator_invalid`."""
    written, faults = _decoded(OperatorDocument, document, "operator_invalid")
    if len(set(written.roles)) != len(written.roles):
        faults.append("roles: one stands twice")
    _bounded(written, ("roles", "source_addresses", "hours"), faults)
    found = presence.read(written.source_addresses, written.hours, faults)
    _refuse("operator_invalid", faults)
    return OperatorRules(written.roles, found)


def unknown(pattern: str) -> str | None:
    """What is wrong with a permission, in words, if it is of nothing that there is."""
    if not re.fullmatch(PATTERN, pattern):
        return "must be written operator:object:verb"
    return None if any(matches(pattern, name) for name in Name) else f"{pattern} permits nothing that there is"


def _decoded(cls: type[D], document: Mapping[str, Any], code: str) -> tuple[D, list[str]]:
    try:
        return decode(cls, dict(document)), []
    except Malformed as malformed:
        raise Refusal(code, "; ".join(malformed.faults[:20]), faults=malformed.faults) from None


def _bounded(written: Any, names: Sequence[str], faults: list[str]) -> None:
    faults += [f"{name}: has more than {MOST}" for name in names if len(getattr(written, name)) > MOST]


def _refuse(code: str, faults: Sequence[str]) -> None:
    if faults:
        raise Refusal(code, "; ".join(faults[:20]), faults=tuple(faults))


def _like(pattern: str, value: str) -> bool:
    """Whether `value` is `pattern`, in which each `*` is any text. Takes time in proportion to both."""
    first, *rest = pattern.split("*")
    if not rest:
        return value == pattern
    if not value.startswith(first):
        return False
    at = len(first)
    for piece in rest[:-1]:
        if (found := value.find(piece, at)) < 0:
            return False
        at = found + len(piece)
    return len(value) - len(rest[-1]) >= at and value.endswith(rest[-1])
