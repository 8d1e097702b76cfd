"""What is wrong with a grant as it is written, beside its form. Pure."""

import ipaddress
import re
from collections.abc import Iterator, Mapping
from dataclasses import fields
from datetime import timedelta
from typing import Any

from gateway.core import template
from gateway.core.delivery import PROXY, TOKEN, Delivery
from gateway.core.policy import document as policies
from gateway.core.policy.intersect import minified
from gateway.core.policy.patterns import VARIABLE
from gateway.core.profile_document import (
    ACTION,
    AttestationDocument,
    ConditionsDocument,
    DeliverDocument,
    GrantDocument,
    LaunchDocument,
    parse_duration,
)
from gateway.core.servers import tag_faults, user_data_faults
from gateway.wire.messages import parse_instant
from gateway.wire.strict import Malformed, decode

SESSION_SHORTEST, SESSION_LONGEST = timedelta(seconds=900), timedelta(hours=12)
MOST_TAGS = 48  # AWS takes 50, and two are ours
MOST_POLICY_ARNS = 10
FENCE = 170  # letters that a statement which `bind` or a time condition adds may have (core.lease)
OUR_TAGS = "gateway:"  # AWS compares tag keys without case, and so do we
INSTANCE_ID = "${instance.id}"
LONGEST_NAME = 64

_FIELDS = {field.name for field in fields(GrantDocument)}


def grant_faults(written: Mapping[str, Any]) -> Iterator[str]:
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
    if not grant.doors:
        yield "doors: a grant that may be delivered in no way is none"
    yield from _call_faults(grant)
    if grant.conditions:
        yield from (f"conditions.{fault}" for fault in _condition_faults(grant.conditions))


def _call_faults(grant: GrantDocument) -> Iterator[str]:
    delivery = delivery_of(grant.deliver)
    called = delivery.ways != (TOKEN,)
    if called and grant.policy is None:
        yield "policy: what is signed or carried is decided by it: policy_arns are not known here"
    if called and "${lease.id}" in (grant.policy or ""):
        yield "policy: a call is decided before there is a lease: ${lease.id} is for tokens only"
    if PROXY in delivery.ways and grant.bind:
        yield "bind: what is carried comes from the gateway's address, not from the instance's"
    for name in ("presign", "limits"):
        if getattr(grant, name) is not None and not called:
            yield f"{name}: is of calls that are signed or carried, and all go by token here"
    if grant.presign is not None and parse_duration(grant.presign) > SESSION_LONGEST:
        yield "presign: a URL lives for 12h at most"
    for action in grant.limits.actions if grant.limits else ():
        if not re.fullmatch(ACTION, action):
            yield f"limits.actions.{ascii(action)[1:-1][:80]}: must be service:Action or *"


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
    delivery = delivery_of(grant.deliver)
    if TOKEN in delivery.ways:
        fences += sum(len(minified(fence)) + 1 for fence in delivery.fences())
    size = len(minified(policy)) + sum(map(len, grant.policy_arns)) + fences
    if size > policies.LONGEST:
        what = "policy_arns, bind, conditions and deliver" if fences else "policy_arns"
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
        yield from duration_faults("attested_within", conditions.attested_within)


def launch_faults(written: LaunchDocument, attested: AttestationDocument) -> Iterator[str]:
    """What is wrong with `launch` beside its form: what it makes has to be able to enrol."""
    for name, allowed in (("image", attested.images), ("region", attested.regions)):
        if allowed and getattr(written, name) not in allowed:
            yield f"{name}: is not among attestation.{name}s, so that it could not enrol"
    yield from (f"tags: {fault}" for fault in tag_faults(written.tags))
    yield from (f"user_data: {fault}" for fault in user_data_faults(written.user_data))


def duration_faults(name: str, written: str) -> Iterator[str]:
    if parse_duration(written) > timedelta(days=366):
        yield f"{name}: is longer than a year"


def delivery_of(written: DeliverDocument) -> Delivery:
    """The ways of a grant's calls."""
    return Delivery(written.default, {"token": written.token, "sign": written.sign, "proxy": written.proxy})
