"""A profile: what a kind of instance may have, read from the applied document. Pure.

The document is a file (TOML or YAML) on an operator's disk and JSON on the wire; `profile_document` has its fields.
"""

import ipaddress
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Any

from gateway.core import template
from gateway.core.attest.admission import Rules
from gateway.core.conditions import Conditions, Hours
from gateway.core.errors import Refusal
from gateway.core.policy import document as policies
from gateway.core.policy.intersect import minified
from gateway.core.policy.patterns import VARIABLE
from gateway.core.profile_document import (
    DURATION,
    AttestationDocument,
    ConditionsDocument,
    GrantDocument,
    ProfileDocument,
)
from gateway.wire.messages import parse_instant
from gateway.wire.strict import Malformed, decode

SESSION_SHORTEST, SESSION_LONGEST = timedelta(seconds=900), timedelta(hours=12)
MOST_TAGS = 48  # AWS takes 50, and two are ours
MOST_POLICY_ARNS = 10
FENCE = 170  # letters that a statement which `bind` or a time condition adds may have (core.lease)
OUR_TAGS = "gateway:"  # AWS compares tag keys without case, and so do we
INSTANCE_ID = "${instance.id}"
LONGEST_NAME = 64


@dataclass(frozen=True, slots=True)
class Grant:
    """One thing that an instance may ask for, valid by construction. Texts may hold templates.

    `role` None: a federation token of the upstream user. `policy` is a parsed IAM policy, None when managed policies
    alone narrow the session. `bind` names the attested fact that the session is tied to.
    """

    name: str
    role: str | None
    region: str
    policy: Mapping[str, Any] | None
    policy_arns: tuple[str, ...]
    duration: timedelta
    session_name: str
    external_id: str | None
    tags: Mapping[str, str]
    bind: str | None
    conditions: Conditions
    deliver: tuple[str, ...]
    users: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ProfileRules:
    """A profile, valid by construction."""

    name: str
    upstream: str
    attestation: Rules
    grants: Mapping[str, Grant]


def read(document: Mapping[str, Any], *, source_address: bool) -> ProfileRules:
    """Validate a profile document; all faults at once, each as `path: what is wrong`.

    `source_address` is the default for profiles that do not say. Raises Refusal `profile_invalid`.
    """
    document = normal(document)
    faults: list[str] = []
    try:
        written = decode(ProfileDocument, document)
    except Malformed as malformed:
        faults += malformed.faults
    grants = document.get("grants")
    if "grants" not in document or grants == []:
        faults.append("grants: a profile without a grant allows nothing")
    names: list[Any] = []
    for i, grant in enumerate(grants if isinstance(grants, list) else ()):
        if isinstance(grant, dict):
            if grant.get("name") in names:
                faults.append(f"grants[{i}].name: stands twice")
            names.append(grant.get("name", i))
            faults += [f"grants[{i}].{fault}" for fault in _grant_faults(grant)]
    attestation = document.get("attestation")
    if isinstance(attestation, dict) and re.fullmatch(DURATION, str(age := attestation.get("max_age", "1h"))):
        faults += [f"attestation.{fault}" for fault in _duration_faults("max_age", str(age))]
    if faults:
        raise Refusal("profile_invalid", "; ".join(faults), faults=tuple(faults))
    rules = _attestation(written.attestation, source_address)
    return ProfileRules(written.name, written.upstream, rules, {grant.name: _grant(grant) for grant in written.grants})


def normal(document: Mapping[str, Any]) -> dict[str, Any]:
    """The document with every policy as JSON text without white space: it may also be written as a table, or prettily.

    What is no policy stays as it is, and `read` says so.
    """
    grants = document.get("grants")
    if not isinstance(grants, list):
        return dict(document)
    return {**document, "grants": [_with_policy_text(grant) for grant in grants]}


def _with_policy_text(grant: Any) -> Any:
    if not isinstance(grant, dict) or not isinstance(written := grant.get("policy"), str | dict):
        return grant
    try:
        return {**grant, "policy": minified(policies.parse(written) if isinstance(written, str) else written)}
    except Malformed:
        return grant
    except RecursionError:
        return {**grant, "policy": "nested too deeply"}  # no JSON either


def parse_duration(written: str) -> timedelta:
    """`900s`, `15m` or `1h`. Raises ValueError."""
    if not re.fullmatch(DURATION, written):
        raise ValueError("a duration is written like 900s, 15m or 1h")
    return timedelta(**{{"s": "seconds", "m": "minutes", "h": "hours"}[written[-1]]: int(written[:-1])})


# One grant

_FIELDS = {field.name for field in fields(GrantDocument)}


def _grant_faults(written: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with a grant beside its form. Fields of the wrong form are told already, and left out here."""
    try:
        grant, known = decode(GrantDocument, written), set(written)
    except Malformed as malformed:
        known = set(written) - {re.split(r"[.:[]", fault)[0] for fault in malformed.faults}
        specimen = {"name": "specimen", "region": "us-east-1"}
        grant = decode(GrantDocument, specimen | {key: written[key] for key in known if key in _FIELDS})
    left_out = set(written) - known
    for fault in _faults_beside_form(grant):
        if re.split(r"[.:[]", fault)[0] not in left_out:
            yield fault


def _faults_beside_form(grant: GrantDocument) -> Iterator[str]:
    if not SESSION_SHORTEST <= parse_duration(grant.duration) <= SESSION_LONGEST:
        yield "duration: sessions last from 15m to 12h"
    if grant.federation == (grant.role is not None):
        yield "role: a grant is either of a role or a federation token (federation = true)"
    if grant.federation and (grant.external_id is not None or grant.session_name != INSTANCE_ID):
        yield "federation: a federation token has no external_id, and its name is made of instance and lease"
    if grant.source_identity != INSTANCE_ID:
        yield f"source_identity: is always {INSTANCE_ID}: CloudTrail and the audit log are joined by it"
    yield from (f"session_name: {fault}" for fault in _session_name_faults(grant.session_name))
    if grant.policy is None and not grant.policy_arns:
        yield "policy: a grant needs a policy or policy_arns; to narrow nothing, write that down"
    if grant.policy is not None:
        yield from (f"policy: {fault}" for fault in _policy_faults(grant.policy, grant))
    if len(set(grant.policy_arns)) != len(grant.policy_arns) or len(grant.policy_arns) > MOST_POLICY_ARNS:
        yield f"policy_arns: at most {MOST_POLICY_ARNS}, each once"
    for i, arn in enumerate(grant.policy_arns):
        account = arn.split(":")[4]
        if grant.role and account not in ("aws", grant.role.split(":")[4]):
            yield f"policy_arns[{i}]: is of another account than the role"
    yield from _tag_faults(grant.tags)
    if not grant.deliver:
        yield "deliver: a grant that may be delivered in no way is none"
    if grant.conditions:
        yield from (f"conditions.{fault}" for fault in _condition_faults(grant.conditions))


def _session_name_faults(written: str) -> Iterator[str]:
    plain = VARIABLE.sub("", written)
    found = list(template.faults(written))
    if not found and not re.fullmatch(r"[A-Za-z0-9_+=,.@-]*", plain):
        found.append("has a letter that AWS does not take: letters, digits and _+=,.@- are taken")
    if len(plain) > LONGEST_NAME:
        found.append(f"has {len(plain)} letters, and AWS takes {LONGEST_NAME}")
    if not any(name in written for name in ("${instance.id}", "${lease.id}")):
        found.append("needs ${instance.id} or ${lease.id}: a name is of one instance only")
    return iter(found)


def _policy_faults(written: str, grant: GrantDocument) -> Iterator[str]:
    try:
        policy = policies.parse(written)
    except Malformed as malformed:
        yield from malformed.faults
        return
    yield from policies.faults(policy)
    yield from template.policy_faults(policy)
    ends = grant.conditions and (grant.conditions.hours or grant.conditions.not_after)
    fences = FENCE * (bool(grant.bind) + bool(ends))
    size = len(minified(policy)) + sum(map(len, grant.policy_arns)) + fences
    if size > policies.LONGEST:
        what = "policy_arns, bind and conditions" if fences else "policy_arns"
        yield f"has {size} letters with {what}, and AWS takes {policies.LONGEST}"


def _tag_faults(tags: Mapping[str, str]) -> Iterator[str]:
    if len(tags) > MOST_TAGS:
        yield f"tags: AWS takes 50, and two of them are the gateway's: at most {MOST_TAGS}"
    seen: set[str] = set()
    for key, value in tags.items():
        shown = f"tags.{ascii(key)[1:-1][:40]}"
        if not re.fullmatch(r"[\w .:/=+@-]{1,128}", key) or key.lower().startswith(("aws:", OUR_TAGS)):
            yield f"{shown}: is no key that AWS takes, or is kept for AWS or the gateway"
        if key.lower() in seen:
            yield f"{shown}: stands twice; AWS compares tag keys without case"
        seen.add(key.lower())
        if not re.fullmatch(r"[\w .:/=+@-]{0,256}", VARIABLE.sub("", value)):
            yield f"{shown}: is no value that AWS takes"
        yield from (f"{shown}: {fault}" for fault in template.faults(value))


def _condition_faults(conditions: ConditionsDocument) -> Iterator[str]:
    for i, written in enumerate(conditions.source_addresses):
        try:
            ipaddress.ip_network(written)
        except ValueError:
            yield f"source_addresses[{i}]: must be a network like 10.0.0.0/8, without host bits"
    for name in ("not_before", "not_after"):
        written = getattr(conditions, name)
        try:
            if written is not None:
                parse_instant(written)
        except ValueError:
            yield f"{name}: must be written like 2026-11-23T08:00:00Z"
    if conditions.not_before and conditions.not_after and conditions.not_before >= conditions.not_after:
        yield "not_after: is not after not_before"  # both of one form, so they sort as they are written
    if conditions.hours and not conditions.hours.days:
        yield "hours.days: no day at all"
    if conditions.attested_within is not None:
        yield from _duration_faults("attested_within", conditions.attested_within)


def _duration_faults(name: str, written: str) -> Iterator[str]:
    if parse_duration(written) > timedelta(days=366):
        yield f"{name}: is longer than a year"


def _grant(written: GrantDocument) -> Grant:
    return Grant(
        name=written.name,
        role=written.role,
        region=written.region,
        policy=json.loads(written.policy) if written.policy is not None else None,
        policy_arns=written.policy_arns,
        duration=parse_duration(written.duration),
        session_name=written.session_name,
        external_id=written.external_id,
        tags=written.tags,
        bind=written.bind,
        conditions=_conditions(written.conditions) if written.conditions else Conditions(),
        deliver=written.deliver,
        users=written.users,
    )


def _conditions(written: ConditionsDocument) -> Conditions:
    hours = written.hours
    return Conditions(
        source_addresses=tuple(ipaddress.ip_network(each) for each in written.source_addresses),
        hours=Hours(hours.days, _clock(hours.start), _clock(hours.end)) if hours else None,
        not_before=parse_instant(written.not_before) if written.not_before else None,
        not_after=parse_instant(written.not_after) if written.not_after else None,
        instance_tags=written.instance_tags,
        attestation=written.attestation,
        attested_within=parse_duration(written.attested_within) if written.attested_within else None,
    )


def _clock(written: str) -> Any:
    return datetime.strptime(written, "%H:%M").time()


def _attestation(asked: AttestationDocument, source_address: bool) -> Rules:
    return Rules(
        max_age=parse_duration(asked.max_age),
        images=asked.images,
        regions=asked.regions,
        source_address=source_address if asked.source_address is None else asked.source_address,
        root_volume=asked.root_volume,
    )
