"""What a session of AWS is asked for on behalf of an instance. Pure."""

from datetime import timedelta

from gateway.core.errors import Refusal
from gateway.core.model import Instance, SessionRequest
from gateway.core.profile import Grant, ProfileRules, minified

# AWS: session tag keys have at most 128 characters of letters, digits and _ . : / = + - @
INSTANCE_TAG = "gateway:instance"
LEASE_TAG = "gateway:lease"


def choose_grant(rules: ProfileRules, name: str) -> Grant:
    """The grant of this name. Raises Refusal `grant_refused`."""
    grant = rules.grants.get(name)
    if grant is None:
        raise Refusal("grant_refused", grant=name)
    return grant


def plan_session(instance: Instance, grant: Grant, seconds: int | None, lease: str) -> SessionRequest:
    """The AssumeRole call for this instance: its id is session name, source identity and tag; the lease is a tag.

    `seconds` may ask for less than the grant gives, never for more. Raises Refusal.
    """
    duration = grant.duration if seconds is None else timedelta(seconds=seconds)
    if duration > grant.duration:
        raise Refusal("grant_refused", "The grant does not last that long", reason="duration", grant=grant.name)
    return SessionRequest(
        role=grant.role,
        region=grant.region,
        session_name=instance.instance_id,
        source_identity=instance.instance_id,
        duration=duration,
        policy=minified(grant.policy),
        tags={INSTANCE_TAG: instance.instance_id, LEASE_TAG: lease},
    )
