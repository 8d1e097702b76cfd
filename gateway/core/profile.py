"""A profile: what a kind of instance may have, read from the applied document. Pure.

The document is a file (TOML or YAML) on an operator's disk and JSON on the wire; `profile_document` has its fields.
"""

import ipaddress
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from gateway.core.attest.admission import Rules
from gateway.core.conditions import Conditions, Hours
from gateway.core.delivery import Delivery, action_pattern
from gateway.core.errors import Refusal
from gateway.core.policy import document as policies
from gateway.core.policy.intersect import minified
from gateway.core.profile_document import (
    DURATION,
    AttestationDocument,
    ConditionsDocument,
    GrantDocument,
    LaunchDocument,
    LimitsDocument,
    ProfileDocument,
    parse_duration,
)
from gateway.core.profile_faults import delivery_of, duration_faults, grant_faults, launch_faults
from gateway.core.rate import Rate, parse_rate
from gateway.core.servers import LaunchPlan
from gateway.wire.messages import parse_instant
from gateway.wire.strict import Malformed, decode


@dataclass(frozen=True, slots=True)
class Limits:
    """How much an instance may have by a grant; `actions` has a pattern of IAM actions for each rate of its own."""

    requests: Rate | None
    bytes: Rate | None
    actions: tuple[tuple[str, re.Pattern[str], Rate], ...]


@dataclass(frozen=True, slots=True)
class Grant:
    """One thing that an instance may ask for, valid by construction. Texts may hold templates.

    `role` None: a federation token of the upstream user. `policy` is a parsed IAM policy, None when managed policies
    alone narrow the session. `bind` names the attested fact that the session is tied to. `presign` is the longest life
    of a presigned URL, None for none. `unsigned_payload`: a signature may leave out the body.
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
    doors: tuple[str, ...]
    users: tuple[str, ...]
    deliver: Delivery = field(default_factory=Delivery)
    presign: timedelta | None = None
    unsigned_payload: bool = False
    limits: Limits | None = None


@dataclass(frozen=True, slots=True)
class ProfileRules:
    """A profile, valid by construction. Without `launch`, nothing is launched by it. `revoked` are names of grants that
    it had, and has not any more.
    """

    name: str
    upstream: str
    attestation: Rules
    grants: Mapping[str, Grant]
    launch: LaunchPlan | None = None
    revoked: frozenset[str] = frozenset()


def read(document: Mapping[str, Any], *, source_address: bool) -> ProfileRules:
    """Validate a profile document; all faults at once, each as `path: what is wrong`.

    `source_address` is the default for profiles that do not say. Raises Refusal `profile_invalid`.
    """
    document = normal(document)
    faults: list[str] = []
    try:
        written = decode(ProfileDocument, document)
        if written.launch:
            faults += [f"launch.{fault}" for fault in launch_faults(written.launch, written.attestation)]
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
            faults += [f"grants[{i}].{fault}" for fault in grant_faults(grant)]
    attestation = document.get("attestation")
    if isinstance(attestation, dict) and re.fullmatch(DURATION, str(age := attestation.get("max_age", "1h"))):
        faults += [f"attestation.{fault}" for fault in duration_faults("max_age", str(age))]
    if faults:
        raise Refusal("profile_invalid", "; ".join(faults), faults=tuple(faults))
    rules = _attestation(written.attestation, source_address)
    grants_by_name = {grant.name: _grant(grant) for grant in written.grants}
    return ProfileRules(written.name, written.upstream, rules, grants_by_name, _launch(written.launch))


def normal(document: Mapping[str, Any]) -> dict[str, Any]:
    """The document with every policy as JSON text without white space (it may also be written as a table, or prettily)
    and with every `deliver` as a table (it may also be one word).

    What is no policy stays as it is, and `read` says so.
    """
    grants = document.get("grants")
    if not isinstance(grants, list):
        return dict(document)
    return {**document, "grants": [_with_policy_text(_with_deliver_table(grant)) for grant in grants]}


def _with_deliver_table(grant: Any) -> Any:
    if isinstance(grant, dict) and isinstance(grant.get("deliver"), str):
        return {**grant, "deliver": {"default": grant["deliver"]}}
    return grant


def _with_policy_text(grant: Any) -> Any:
    if not isinstance(grant, dict) or not isinstance(written := grant.get("policy"), str | dict):
        return grant
    try:
        return {**grant, "policy": minified(policies.parse(written) if isinstance(written, str) else written)}
    except Malformed:
        return grant
    except RecursionError:
        return {**grant, "policy": "nested too deeply"}  # no JSON either


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
        doors=written.doors,
        users=written.users,
        deliver=delivery_of(written.deliver),
        presign=parse_duration(written.presign) if written.presign else None,
        unsigned_payload=written.unsigned_payload,
        limits=_limits(written.limits) if written.limits else None,
    )


def _launch(written: LaunchDocument | None) -> LaunchPlan | None:
    if written is None:
        return None
    return LaunchPlan(
        image=written.image,
        region=written.region,
        type=written.type,
        subnet=written.subnet,
        security_groups=written.security_groups,
        tags=written.tags,
        user_data=written.user_data,
    )


def _limits(written: LimitsDocument) -> Limits:
    return Limits(
        requests=parse_rate(written.requests) if written.requests else None,
        bytes=parse_rate(written.bytes) if written.bytes else None,
        actions=tuple((name, action_pattern([name]), parse_rate(rate)) for name, rate in written.actions.items()),
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
