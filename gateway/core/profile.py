"""A profile: what a kind of instance may have, read from the applied document. Pure.

The document is TOML on an operator's disk and JSON on the wire; its fields are those of `ProfileDocument`.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from gateway.core.attest.admission import Rules
from gateway.core.attest.ec2 import IMAGE_ID, REGION
from gateway.core.errors import Refusal
from gateway.wire.messages import NAME
from gateway.wire.strict import Malformed, decode, loads, text

ROLE_ARN = r"arn:aws[a-z-]*:iam::[0-9]{12}:role/[\w+=,.@/-]{1,128}"
DURATION = r"[1-9][0-9]{0,5}[smh]"
SESSION_SHORTEST, SESSION_LONGEST = timedelta(seconds=900), timedelta(hours=12)
# AssumeRole: "The plaintext that you use for both inline and managed session policies can't exceed 2,048 characters."
POLICY_LONGEST = 2048


@dataclass(frozen=True, slots=True)
class AttestationDocument:
    """What an instance must prove. Left out: any image, any region, launched within the hour, from its own address.

    `root_volume`: its root volume must be the one that it was launched with.
    """

    images: tuple[str, ...] = text(pattern=IMAGE_ID, default=())
    regions: tuple[str, ...] = text(pattern=REGION, default=())
    max_age: str = text(pattern=DURATION, default="1h")
    source_address: bool | None = None
    root_volume: bool = False


@dataclass(frozen=True, slots=True)
class GrantDocument:
    """One grant as it is written. `policy` is IAM policy JSON in a string."""

    name: str = text(pattern=NAME)
    role: str = text(pattern=ROLE_ARN)
    region: str = text(pattern=REGION)
    policy: str = text(longest=POLICY_LONGEST)
    duration: str = text(pattern=DURATION, default="1h")


@dataclass(frozen=True, slots=True)
class ProfileDocument:
    """A profile as it is written."""

    name: str = text(pattern=NAME)
    upstream: str = text(pattern=NAME, default="main")
    attestation: AttestationDocument = field(default_factory=AttestationDocument)
    grants: tuple[GrantDocument, ...] = ()


@dataclass(frozen=True, slots=True)
class Grant:
    """One thing that an instance may ask for: a session of `role`, at most `duration` long, narrowed by `policy`."""

    name: str
    role: str
    region: str
    policy: str
    duration: timedelta


@dataclass(frozen=True, slots=True)
class ProfileRules:
    """A profile, valid by construction."""

    name: str
    upstream: str
    attestation: Rules
    grants: Mapping[str, Grant]


def read(document: Mapping[str, Any], *, source_address: bool) -> ProfileRules:
    """Validate a profile document; all faults at once.

    `source_address` is the default for profiles that do not say. Raises Refusal `profile_invalid`.
    """
    try:
        written = decode(ProfileDocument, dict(document))
    except Malformed as malformed:
        raise Refusal("profile_invalid", "; ".join(malformed.faults)) from None
    faults: list[str] = []
    if not written.grants:
        faults.append("grants: a profile without a grant allows nothing")
    grants: dict[str, Grant] = {}
    for i, grant in enumerate(written.grants):
        where = f"grants[{i}]"
        duration = parse_duration(grant.duration)
        if not SESSION_SHORTEST <= duration <= SESSION_LONGEST:
            faults.append(f"{where}.duration: STS sessions last from 15m to 12h")
        if grant.name in grants:
            faults.append(f"{where}.name: stands twice")
        faults += [f"{where}.policy: {fault}" for fault in _policy_faults(grant.policy)]
        grants[grant.name] = Grant(grant.name, grant.role, grant.region, grant.policy, duration)
    if faults:
        raise Refusal("profile_invalid", "; ".join(faults))
    asked = written.attestation
    rules = Rules(
        max_age=parse_duration(asked.max_age),
        images=asked.images,
        regions=asked.regions,
        source_address=source_address if asked.source_address is None else asked.source_address,
        root_volume=asked.root_volume,
    )
    return ProfileRules(written.name, written.upstream, rules, grants)


def parse_duration(written: str) -> timedelta:
    """`900s`, `15m` or `1h`. Raises ValueError."""
    if not re.fullmatch(DURATION, written):
        raise ValueError("a duration is written like 900s, 15m or 1h")
    return timedelta(**{{"s": "seconds", "m": "minutes", "h": "hours"}[written[-1]]: int(written[:-1])})


def _policy_faults(written: str) -> list[str]:
    """The shape of a session policy; IAM judges the rest. A policy is always there: no policy would not narrow."""
    try:
        policy = loads(written.encode())
    except (Malformed, UnicodeEncodeError):
        return ["is not JSON, or has a key twice"]
    if not isinstance(policy, dict) or policy.get("Version") != "2012-10-17":
        return ['must be an object with "Version": "2012-10-17"']
    statements = policy.get("Statement")
    statements = [statements] if isinstance(statements, dict) else statements
    if not isinstance(statements, list) or not statements:
        return ["needs at least one Statement"]
    faults = []
    for i, statement in enumerate(statements):
        if not isinstance(statement, dict) or statement.get("Effect") not in ("Allow", "Deny"):
            faults.append(f'Statement[{i}] needs an Effect, "Allow" or "Deny"')
        elif not statement.keys() & {"Action", "NotAction"} or not statement.keys() & {"Resource", "NotResource"}:
            faults.append(f"Statement[{i}] needs an Action and a Resource")
        elif "Principal" in statement or "NotPrincipal" in statement:
            faults.append(f"Statement[{i}] names a Principal, which a session policy may not")
    return faults


def minified(policy: str) -> str:
    """The same policy without white space: STS counts every character."""
    return json.dumps(loads(policy.encode()), separators=(",", ":"))
