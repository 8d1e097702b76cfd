"""Admission: may the instance that these claims describe enrol, given what AWS says of it at this moment?

What the times mean. The document "is generated when the instance is stopped and started, restarted, or launched"; its
pendingTime is "the date and time that the instance was launched" (AWS: instance-identity-documents.html). LaunchTime is
"the time that the instance was last launched" (AWS: API_Instance.html). A stop and start renews both; a reboot is no
launch. So a document is of the present launch exactly when the two agree, and one copied before a stop never serves
again.
"""

import ipaddress
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from gateway.core.attest.ec2 import Claims
from gateway.core.attest.facts import InstanceFacts
from gateway.core.errors import Refusal
from gateway.wire.messages import instant

LAUNCH_SKEW = timedelta(minutes=5)
# SPIRE's tolerance for the same check (aws_iid): both are attached within one launch, seconds apart.
ATTACH_SKEW = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class Rules:
    """What a profile asks of an instance.

    `max_age` is how long after its launch an instance may enrol (None: for ever, as for one that comes back with its
    key). `images` and `regions`: the allowed ones; empty is any. `source_address`: the request must come from the
    instance's own private or public address. `root_volume`: the root volume must be the one of the first launch.
    """

    max_age: timedelta | None = timedelta(hours=1)
    images: tuple[str, ...] = ()
    regions: tuple[str, ...] = ()
    source_address: bool = True
    root_volume: bool = False


def admit(claims: Claims, facts: InstanceFacts, rules: Rules, now: datetime, source_address: str | None) -> None:
    """Return, if the instance may enrol. `source_address` is the peer's, as the socket has it.

    Raises Refusal `evidence_refused`, with a `reason` of its own for each cause.
    """
    age = now - facts.launch_time
    for reason, holds in (
        ("account_differs", claims.account == facts.account),
        ("region_differs", claims.region == facts.region),
        ("region_not_allowed", not rules.regions or facts.region in rules.regions),
        ("instance_differs", claims.instance_id == facts.instance_id),
        ("instance_not_running", facts.state == "running"),
        ("image_differs", claims.image_id == facts.image_id),
        ("image_not_allowed", not rules.images or facts.image_id in rules.images),
        ("private_ip_differs", claims.private_ip == facts.private_ip),
        ("document_of_other_launch", abs(claims.pending_time - facts.launch_time) <= LAUNCH_SKEW),
        ("launch_in_future", age >= -LAUNCH_SKEW),
        ("launch_too_old", rules.max_age is None or age <= rules.max_age),
        ("source_address_differs", not rules.source_address or _comes_from(source_address, facts)),
        ("root_volume_swapped", not rules.root_volume or _has_first_root_volume(facts)),
    ):
        if not holds:
            raise Refusal("evidence_refused", reason=reason)


def record(claims: Claims, facts: InstanceFacts, rules: Rules, instance_ticket: bool) -> dict[str, Any]:
    """What is kept of an admission, in plain values: the document's claims, what AWS said, and which checks were made.

    Grants may ask for each of them (core.conditions, core.lease).
    """
    checks = {
        "identity_document": True,
        "source_address": rules.source_address,
        "root_volume": rules.root_volume,
        "instance_ticket": instance_ticket,
    }
    return {
        **asdict(claims),
        "pending_time": instant(claims.pending_time),
        "public_ip": facts.public_ip,
        "vpc": facts.vpc_id,
        "tags": dict(facts.tags),
        "checks": [name for name, made in checks.items() if made],
    }


def _comes_from(source: str | None, facts: InstanceFacts) -> bool:
    try:
        address = ipaddress.ip_address(source or "")
    except ValueError:
        return False
    plain = getattr(address, "ipv4_mapped", None) or address  # a dual-stack socket writes ::ffff:192.0.2.1
    return str(plain) in (facts.private_ip, facts.public_ip)


def _has_first_root_volume(facts: InstanceFacts) -> bool:
    if facts.root_attached is None or facts.interface_attached is None:
        return False
    return abs(facts.root_attached - facts.interface_attached) <= ATTACH_SKEW
