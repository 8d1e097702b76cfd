"""A receipt as the OpenAPI document describes it. `core.receipt` makes it; tests hold the one against the other."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gateway.web.admin.shown import INSTANT
from gateway.wire.strict import text

LONGEST = 4096  # letters of a name: a SPIFFE ID, an ARN, and what is around it


@dataclass(frozen=True, slots=True)
class SessionCut:
    """A session that was cut off. `held`: it never left the gateway."""

    lease: str = text()
    instance: str = text(longest=LONGEST)
    grant: str = text()
    role: str = text(longest=LONGEST)
    session_name: str = text()
    access_key_id: str = text()
    until: str = text(pattern=INSTANT)
    held: bool = False


@dataclass(frozen=True, slots=True)
class CutOff:
    """What was cut off: names; of bearer tokens and dummy keys, how many."""

    instances: tuple[str, ...] = text(longest=LONGEST)
    certificates: tuple[str, ...] = text()
    tickets: tuple[str, ...] = text()
    operators: tuple[str, ...] = text()
    tokens: int = 0
    keys: int = 0
    sessions: tuple[SessionCut, ...] = ()


@dataclass(frozen=True, slots=True)
class LayerShown:
    """One layer: `ms` is how long after the revocation it was done, `problem` why the last try failed."""

    facts: Mapping[str, Any]
    layer: str = text(pattern="gateway|crl|key|aws|agents|ocsp|ssh")
    state: str = text(pattern="done|trying|waiting|not_served|planned")
    tries: int = 0
    ms: float | None = None
    problem: str = text(default="")


@dataclass(frozen=True, slots=True)
class Remains:
    """What is still valid: a `session`, `signatures` by one that never left the gateway, or what is `unknown`."""

    where: str = text()
    what: str = text(pattern="session|signatures|unknown")
    why: str = text()
    until: str = text(pattern=INSTANT)
    lease: str = text()
    instance: str = text(longest=LONGEST, default="")
    grant: str = text(default="")
    role: str = text(longest=LONGEST, default="")
    session_name: str = text(default="")
    access_key_id: str = text(default="")
    held: bool = False


@dataclass(frozen=True, slots=True)
class Receipt:
    """A revocation: what was cut off, each layer, and what remains. A dry run has no `id`."""

    cut: CutOff
    layers: tuple[LayerShown, ...]
    remains: tuple[Remains, ...]
    id: str | None = text()
    kind: str = text()
    name: str = text(longest=LONGEST)
    by: str = text(longest=LONGEST)
    revoked_at: str = text(pattern=INSTANT)
    at: str = text(pattern=INSTANT)
    reason: str | None = text()
    state: str = text(pattern="running|done|planned")
    until: str | None = text(pattern=INSTANT)
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class Receipts:
    """GET /v1/revocations."""

    revocations: tuple[Receipt, ...]
    next: str | None = text()
