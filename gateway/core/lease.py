"""What a session of AWS is asked for on behalf of an instance, and how long it may be given again. Pure."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from gateway.core import template
from gateway.core.conditions import check
from gateway.core.delivery import TOKEN
from gateway.core.errors import Refusal
from gateway.core.model import Instance, Lease, SessionRequest
from gateway.core.policy.document import LONGEST, VERSION, statements
from gateway.core.policy.intersect import minified, narrowed
from gateway.core.profile import Grant, ProfileRules
from gateway.core.profile_faults import SESSION_SHORTEST
from gateway.wire.messages import instant

# AWS: session tag keys have at most 128 characters of letters, digits and _ . : / = + - @
INSTANCE_TAG = "gateway:instance"
LEASE_TAG = "gateway:lease"
MARGIN = timedelta(minutes=30)
"""Credentials are given with at least this much left, or half of a shorter life: below 15 minutes SDKs ask anew."""
SHORTEST_LIFE = timedelta(minutes=1)
"""While AWS cannot be asked, what is still alive is given; with less than this left it is of no use to anyone."""


@dataclass(frozen=True, slots=True)
class Order:
    """What an instance asks for. `door` is the way it comes in (None: the agent's own API, which has many). `held`: the
    gateway itself asks, to sign or carry calls with a session that it keeps.

    `seconds` may ask for less than the grant gives, and for more only where `clamp` says that the grant's end will do.
    `policy` is JSON text that narrows the grant's.
    """

    grant: str
    door: str | None = None
    seconds: int | None = None
    clamp: bool = False
    policy: str | None = None
    held: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """The session that would answer an order, but for the lease's id; `sha256` names it among all plans."""

    grant: Grant
    values: Mapping[str, str]
    policy: Mapping[str, Any] | None
    duration: timedelta
    held: bool
    sha256: str

    def request(self, lease: str) -> SessionRequest:
        """The call to STS for this lease. Raises Refusal."""
        return _request(self.grant, {**self.values, "lease.id": lease}, self.policy, self.duration)


def choose_grant(rules: ProfileRules, order: Order) -> Grant:
    """The grant of this order, if it goes by that door and in that way. Raises Refusal `grant_refused`."""
    grant = rules.grants.get(order.grant)
    if grant is None and order.grant in rules.revoked:
        why = "The grant is revoked: an operator has to apply the profile anew"
        raise Refusal("grant_refused", why, reason="grant_revoked", grant=order.grant)
    if grant is None:
        raise Refusal("grant_refused", grant=order.grant)
    if order.door is not None and order.door not in grant.doors:
        raise Refusal("grant_refused", "The grant is not delivered in this way", reason="door", grant=grant.name)
    ways = grant.deliver.ways
    if not order.held and TOKEN not in ways:
        raise Refusal("grant_refused", f"The grant gives no session away: {' and '.join(ways)} is how its calls go",
                      reason="way", grant=grant.name)  # fmt: skip
    if order.held and ways == (TOKEN,):
        raise Refusal("grant_refused", "The grant's calls go by token: nothing of it is signed or carried",
                      reason="way", grant=grant.name)  # fmt: skip
    return grant


def plan(
    instance: Instance, rules: ProfileRules, grant: Grant, order: Order, key: str, source: str | None, now: datetime
) -> Plan:
    """What STS will be asked for. `key` names the upstream key and its account. Raises Refusal.

    Every AssumeRole session carries the instance's id as source identity and tag, and the lease's as tag.
    """
    closes = check(grant.conditions, instance, source, now)
    duration = _duration(grant, order)
    values = _values(instance, rules, grant)
    policy = template.in_policy(grant.policy, values, later=("lease.id",))
    if order.policy is not None:
        policy = _narrowed(grant, policy, order.policy)
    fences = [*_bound_to(grant, instance), *_closed_after(closes)]
    if not order.held:
        fences += grant.deliver.fences()
    if fences:
        policy = {"Version": VERSION, "Statement": [*(statements(policy) if policy else ()), *fences]}
    who = (key, instance.id, instance.key_sha256, instance.enrolled_at.isoformat())
    what = _request(grant, values | {"lease.id": "0" * 32}, policy, duration)
    about = [*who, rules.name, rules.upstream, grant.name, asdict(what) | {"duration": duration.total_seconds()}]
    if order.held:
        about.append("held")
    return Plan(
        grant,
        values,
        policy,
        duration,
        order.held,
        hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest(),
    )


def _narrowed(grant: Grant, policy: dict[str, Any] | None, asked: str) -> dict[str, Any]:
    if policy is None or grant.policy_arns:
        why = "STS would add the managed policies to it: a grant with policy_arns cannot be narrowed"
        raise Refusal("policy_refused", why, reason="policy_managed")
    found: dict[str, Any] = json.loads(narrowed(minified(policy), asked))
    return found


def is_fresh(lease: Lease, now: datetime) -> bool:
    """Whether the lease has enough left to be given once more. Which moment is its last differs from lease to lease, so
    that those made together are not renewed together; an agent's own refresh comes after it.
    """
    life = lease.expires_at - lease.issued_at
    spread = int(lease.id[:4], 16) / 0xFFFF
    return lease.expires_at - now >= min(MARGIN, life / 2) * (1.15 + 0.2 * spread)


def is_alive(lease: Lease, now: datetime) -> bool:
    """Whether the lease is of use while nothing better can be had."""
    return lease.expires_at - now >= SHORTEST_LIFE


def _duration(grant: Grant, order: Order) -> timedelta:
    if order.seconds is None:
        return grant.duration
    asked = timedelta(seconds=order.seconds)
    if asked > grant.duration and not order.clamp:
        raise Refusal("grant_refused", "The grant does not last that long", reason="duration", grant=grant.name)
    return max(SESSION_SHORTEST, min(asked, grant.duration))


def _values(instance: Instance, rules: ProfileRules, grant: Grant) -> dict[str, str]:
    tags = instance.claims.get("tags", {})
    return {f"instance.tags.{key}": value for key, value in tags.items()} | {
        "instance.id": instance.instance_id,
        "instance.account": instance.account,
        "instance.region": instance.region,
        "profile.name": rules.name,
        "grant.name": grant.name,
    }


def _request(
    grant: Grant, values: Mapping[str, str], policy: Mapping[str, Any] | None, duration: timedelta
) -> SessionRequest:
    instance, lease = values["instance.id"], values["lease.id"]
    name = template.in_name(grant.session_name, values)
    if grant.role is None:
        name = f"{instance}.{lease[:12]}"  # GetFederationToken: at most 32 letters, and no source identity
    if not 2 <= len(name) <= (64 if grant.role else 32):
        raise Refusal(
            "grant_refused", "The session's name would be too short or too long", reason="session_name_length"
        )
    written = minified(template.in_policy(policy, values)) if policy is not None else None
    if len(written or "") + sum(map(len, grant.policy_arns)) > LONGEST:
        raise Refusal(
            "grant_refused", f"The session policy would have more than {LONGEST} letters", reason="policy_too_long"
        )
    tags = {key: template.in_tag(value, values) for key, value in grant.tags.items()}
    return SessionRequest(
        role=grant.role,
        region=grant.region,
        session_name=name,
        source_identity=instance if grant.role else None,
        duration=duration,
        policy=written,
        tags=tags | {INSTANCE_TAG: instance, LEASE_TAG: lease},
        policy_arns=grant.policy_arns,
        external_id=grant.external_id,
    )


# What ties a session to where its instance is. A Deny, so that it holds whatever else is allowed; what AWS's services
# do for the session comes from their own addresses, and is not meant. AWS: "aws:SourceIp", "aws:ViaAWSService".
_BINDS = {
    "public_ip": ("NotIpAddress", "aws:SourceIp"),
    "private_ip": ("NotIpAddress", "aws:VpcSourceIp"),
    "vpc": ("StringNotEquals", "aws:SourceVpc"),
}


def _bound_to(grant: Grant, instance: Instance) -> list[dict[str, Any]]:
    if grant.bind is None:
        return []
    attested = instance.claims.get(grant.bind)
    if not attested:
        raise Refusal("grant_refused", "Where the instance is was not attested", reason="bind_missing", bind=grant.bind)
    operator, key = _BINDS[grant.bind]
    return [_deny({operator: {key: attested}, "BoolIfExists": {"aws:ViaAWSService": "false"}})]


def _closed_after(closes: datetime | None) -> list[dict[str, Any]]:
    """A session must not outlast the time in which its grant may be had."""
    return [] if closes is None else [_deny({"DateGreaterThanEquals": {"aws:CurrentTime": instant(closes)}})]


def _deny(condition: Mapping[str, Any]) -> dict[str, Any]:
    return {"Effect": "Deny", "Action": "*", "Resource": "*", "Condition": condition}
