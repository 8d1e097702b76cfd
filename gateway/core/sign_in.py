"""Signing in with a token of an OpenID provider: whom its claims name, with which roles, and for how long. Pure.

A signed token says who somebody is at the provider. Who that is here follows from the settings alone, by a mapping that
leaves nothing to guess: a claim that does not have the required form, to the letter, names nobody.
"""

import base64
import hashlib
import json
import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from gateway.core.errors import Refusal
from gateway.core.operator_document import SELF
from gateway.core.operator_model import Operator, OperatorState
from gateway.wire.messages import NAME

SHORTEST = timedelta(seconds=30)  # a certificate for less is of no use
LEEWAY = timedelta(seconds=30)  # by which the provider's clock may differ from ours


@dataclass(frozen=True, slots=True)
class Provider:
    """The OpenID provider as the settings name it.

    `roles` maps values of the claim `roles_claim` to roles; `life` is the longest of a certificate, `max_age` that of a
    token since it was issued; `ca` a PEM file, or None for the certificates that the system trusts.
    """

    issuer: str
    audience: str
    client_id: str | None
    scopes: str
    name_claim: str
    name_suffix: str
    roles_claim: str
    roles: Mapping[str, str]
    life: timedelta
    max_age: timedelta
    ca: str | None


@dataclass(frozen=True, slots=True)
class Person:
    """Whom a token names. `roles` may be none; `life` is that of the certificate."""

    name: str
    identity: Mapping[str, str]
    roles: tuple[str, ...]
    life: timedelta


def person(provider: Provider, claims: Mapping[str, Any], now: datetime) -> Person:
    """Whom these claims name. Signature, issuer, audience and times were checked before (`ports.Tokens`).

    Raises Refusal `sign_in_refused`, always the same to who asks; the reason is for the audit log.
    """
    at, issued, ends = int(now.timestamp()), claims["iat"], claims["exp"]
    if at - issued > provider.max_age.total_seconds():
        raise _refused("token_too_old")
    life = int(min(int(provider.life.total_seconds()), ends - at))
    if life < SHORTEST.total_seconds():
        raise _refused("token_expired")
    subject = claims.get("sub")
    if not isinstance(subject, str) or not 1 <= len(subject) <= 255:  # OpenID Connect Core 1.0, section 2
        raise _refused("token_sub")
    if "events" in claims:  # a Security Event Token (RFC 8417), such as a logout token, says that nobody signed in
        raise _refused("token_kind")
    identity = {"issuer": provider.issuer, "subject": subject}
    return Person(_name(provider, claims), identity, _roles(provider, claims), timedelta(seconds=life))


def _name(provider: Provider, claims: Mapping[str, Any]) -> str:
    claimed = claims.get(provider.name_claim)
    if not isinstance(claimed, str) or not claimed.endswith(provider.name_suffix):
        raise _refused("name_unusable")
    if provider.name_claim == "email" and claims.get("email_verified") is not True:
        raise _refused("email_unverified")  # whoever registers there could claim anybody's
    name = claimed.removesuffix(provider.name_suffix)
    if not re.fullmatch(NAME, name) or name == SELF:
        raise _refused("name_unusable")
    return name


def _roles(provider: Provider, claims: Mapping[str, Any]) -> tuple[str, ...]:
    claimed = claims.get(provider.roles_claim, [])
    if not isinstance(claimed, list) or not all(isinstance(each, str) for each in claimed):
        raise _refused("roles_malformed")
    return tuple(sorted({provider.roles[each] for each in claimed if each in provider.roles}))


def admitted(person: Person, found: Operator | None, is_role: Callable[[str], bool], now: datetime) -> Operator:
    """The operator of this person as it has to be from now on: new, or with the roles that the provider says today.

    It may have none left; then it is nobody who may come in. Raises Refusal `sign_in_refused`: a token never takes a
    name over that is not the same person's, and brings nobody back who was revoked.
    """
    roles = [role for role in person.roles if is_role(role)]
    if found is None:
        if not roles:
            raise no_roles()
        document = {"roles": roles, "identity": dict(person.identity)}
        return Operator(person.name, document, 1, OperatorState.ACTIVE, now, "")
    if found.document.get("identity") != person.identity:
        raise _refused("name_taken")
    if found.state is not OperatorState.ACTIVE:
        raise _refused("operator_revoked")
    if found.document["roles"] == roles:
        return found
    return replace(found, document={**found.document, "roles": roles}, version=found.version + 1)


def no_roles() -> Refusal:
    """The refusal of who has no role here."""
    return _refused("roles_missing")


def signs_in(operator: Operator) -> bool:
    """Whether this operator comes in by tokens, and by nothing else."""
    return operator.document.get("identity") is not None


def used(token: str) -> str:
    """What a token is remembered by, hex: the SHA-256 of what is signed of it. Its signature can be written otherwise
    and hold nevertheless (ECDSA has two for each; base64 has bits that nobody reads), and would pass for another's.
    """
    return hashlib.sha256(b"trusted-gateway token v1\n" + token.rpartition(".")[0].encode()).hexdigest()


def account(provider: Provider, token: str) -> str:
    """Whose account a token speaks of, normalised and hashed, whether it is genuine or not: to count attempts by."""
    try:
        payload = token.split(".")[1]
        claimed = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))[provider.name_claim]
        name = unicodedata.normalize("NFKC", claimed).casefold()
    except (ValueError, LookupError, TypeError, RecursionError):
        name = ""
    return hashlib.sha256("".join(name.split()).encode(errors="replace")).hexdigest()


def _refused(reason: str) -> Refusal:
    return Refusal("sign_in_refused", reason=reason)
