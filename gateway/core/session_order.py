"""What a CreateSession request asks for, from its query and its body. Pure.

Its ARNs only select: the certificate decides who asks, and the profile what may be had. A trust anchor is
`…:trust-anchor/instances` (our own CA) or `…:trust-anchor/<NAME>`, a profile `…:profile/<PROFILE>[/<GRANT>]`.
"""

import re
from dataclasses import dataclass
from typing import Any

from gateway.core.errors import Refusal
from gateway.core.profile import Grant, ProfileRules
from gateway.core.profile_document import ROLE_ARN
from gateway.core.rolesanywhere import Received, parameters
from gateway.wire.messages import NAME
from gateway.wire.strict import Malformed, loads

SHORTEST, LONGEST = 900, 43200  # seconds; AWS: CreateSession, durationSeconds
DOOR = "sessions"

_PLACE = r"(arn:aws[a-z-]*:rolesanywhere:([a-z0-9-]{1,32}):([0-9]{12}):)"
_ANCHOR = re.compile(rf"{_PLACE}trust-anchor/({NAME})")
_PROFILE = re.compile(rf"{_PLACE}profile/({NAME})(?:/({NAME}))?")
_TEXTS = ("profileArn", "roleArn", "trustAnchorArn", "roleSessionName", "sessionName")
_NUMBER = "durationSeconds"


@dataclass(frozen=True, slots=True)
class SessionOrder:
    """What is asked for. `session_name` is a name that the caller insists on; `seconds` None: the grant's own."""

    anchor: str
    profile: str
    grant: str | None
    role: str
    region: str
    account: str
    seconds: int | None
    session_name: str | None


def read(request: Received) -> SessionOrder:
    """The order; each parameter in the query or in the body, or the same in both. Raises Refusal `malformed_request`.

    As with AWS, unknown keys and `instanceProperties` are not looked at.
    """
    given = _from_body(request.body)
    for key, value in _from_query(request.query).items():
        if given.setdefault(key, value) != value:
            raise _malformed(f"{key} stands in the query and, differently, in the body")
    anchor, profile = (_arn(given, key, form) for key, form in (("trustAnchorArn", _ANCHOR), ("profileArn", _PROFILE)))
    if anchor[1] != profile[1]:
        raise _malformed("trustAnchorArn and profileArn are of different partitions, regions or accounts")
    if not re.fullmatch(ROLE_ARN, role := given.get("roleArn", "")):
        raise _malformed("roleArn must be the ARN of an IAM role")
    names = {given[key] for key in ("roleSessionName", "sessionName") if key in given}
    if len(names) > 1:
        raise _malformed("roleSessionName and sessionName differ")
    return SessionOrder(
        anchor=anchor[4],
        profile=profile[4],
        grant=profile[5],
        role=role,
        region=anchor[2],
        account=anchor[3],
        seconds=given.get(_NUMBER),
        session_name=names.pop() if names else None,
    )


def choose(rules: ProfileRules, order: SessionOrder) -> Grant:
    """The one grant that is meant. Raises Refusal: `grant_refused` for none, `malformed_request` for several."""
    named = [each for each in rules.grants.values() if each.role == order.role and order.grant in (None, each.name)]
    found = [each for each in named if DOOR in each.doors]
    if not found:
        reason = "door" if named else "role_not_granted"
        raise Refusal("grant_refused", "The profile has no grant of this role that is delivered by sessions",
                      reason=reason, profile=rules.name, role=order.role)  # fmt: skip
    if len(found) > 1:
        names = ", ".join(each.name for each in found)
        raise Refusal(
            "malformed_request",
            f"Several grants have this role: end profileArn with profile/{rules.name}/GRANT, one of {names}",
            reason="grants_several",
        )
    return found[0]


def _malformed(detail: str) -> Refusal:
    return Refusal("malformed_request", detail)


def _from_body(body: bytes) -> dict[str, Any]:
    if not body:
        return {}
    try:
        found = loads(body)
    except Malformed as malformed:
        raise _malformed("; ".join(malformed.faults)) from None
    if not isinstance(found, dict):
        raise _malformed("body: must be an object")
    for key in _TEXTS:
        if key in found and not isinstance(found[key], str):
            raise _malformed(f"{key} must be a string")
    if _NUMBER in found and (type(found[_NUMBER]) is not int or not SHORTEST <= found[_NUMBER] <= LONGEST):
        raise _malformed(f"{_NUMBER} must be an integer from {SHORTEST} to {LONGEST}")
    return {key: found[key] for key in (*_TEXTS, _NUMBER) if key in found}


def _from_query(query: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in parameters(query):
        if key in found:
            raise _malformed("query: a key stands twice")
        found[key] = value
    if _NUMBER in found:
        written = found[_NUMBER]
        if not re.fullmatch(r"[1-9][0-9]{2,4}", written) or not SHORTEST <= int(written) <= LONGEST:
            raise _malformed(f"{_NUMBER} must be an integer from {SHORTEST} to {LONGEST}")
        found[_NUMBER] = int(written)
    return {key: found[key] for key in (*_TEXTS, _NUMBER) if key in found}


def _arn(given: dict[str, Any], key: str, form: re.Pattern[str]) -> re.Match[str]:
    match = form.fullmatch(given.get(key, ""))
    if match is None:
        kind = form.pattern.rpartition(":)")[2].partition("/")[0]
        raise _malformed(f"{key} must be an ARN like arn:aws:rolesanywhere:REGION:ACCOUNT:{kind}/NAME")
    return match
