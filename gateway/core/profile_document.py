"""A profile as it is written, field by field. Durations are written `900s`, `15m`, `1h`."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from gateway.core.attest.ec2 import IMAGE_ID, REGION
from gateway.core.conditions import CHECKS, DAYS
from gateway.core.rate import RATE
from gateway.wire.messages import DOORS, NAME, USER, USUAL_DOORS, WAYS
from gateway.wire.strict import text

ROLE_ARN = r"arn:aws[a-z-]*:iam::[0-9]{12}:role/[A-Za-z0-9_+=,.@/-]{1,512}"
POLICY_ARN = r"arn:aws[a-z-]*:iam::([0-9]{12}|aws):policy/[A-Za-z0-9_+=,.@/-]{1,512}"
DURATION = r"[1-9][0-9]{0,5}[smh]"
CLOCK = r"([01][0-9]|2[0-3]):[0-5][0-9]"
ACTION = r"\*|[A-Za-z0-9-]{1,64}:[A-Za-z0-9*?]{1,128}"
INSTANCE_TYPE = r"[a-z0-9-]{1,24}\.[a-z0-9-]{1,24}"
BINDS = ("public_ip", "private_ip", "vpc")


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
class HoursDocument:
    """A daily window in UTC: `start` and `end` as `08:00`."""

    start: str = text(pattern=CLOCK)
    end: str = text(pattern=CLOCK)
    days: tuple[str, ...] = text(pattern="|".join(DAYS), default=DAYS)


@dataclass(frozen=True, slots=True)
class ConditionsDocument:
    """When a grant may be had; all must hold. `core.conditions` says what each means."""

    source_addresses: tuple[str, ...] = text(default=())
    hours: HoursDocument | None = None
    not_before: str | None = text(default=None)
    not_after: str | None = text(default=None)
    instance_tags: Mapping[str, str] = field(default_factory=dict)
    attestation: tuple[str, ...] = text(pattern="|".join(CHECKS), default=())
    attested_within: str | None = text(pattern=DURATION, default=None)


@dataclass(frozen=True, slots=True)
class DeliverDocument:
    """How calls reach AWS: `default`, and another way for IAM action patterns. A word alone is the default."""

    default: str = text(pattern="|".join(WAYS), default="token")
    token: tuple[str, ...] = text(pattern=ACTION, default=())
    sign: tuple[str, ...] = text(pattern=ACTION, default=())
    proxy: tuple[str, ...] = text(pattern=ACTION, default=())


@dataclass(frozen=True, slots=True)
class LimitsDocument:
    """How many calls, and bytes of bodies, an instance may have by this grant: `100/minute`, `5GB/hour`. `actions` are
    limits of their own for IAM action patterns. What goes by `token` is not seen, and not limited.
    """

    requests: str | None = text(pattern=RATE, default=None)
    bytes: str | None = text(pattern=RATE, default=None)
    actions: Mapping[str, str] = field(default_factory=dict, metadata={"pattern": RATE, "longest": 64})


@dataclass(frozen=True, slots=True)
class GrantDocument:
    """One grant as it is written. `policy` is IAM policy JSON in a string; as a table it is taken too."""

    name: str = text(pattern=NAME)
    region: str = text(pattern=REGION)
    role: str | None = text(pattern=ROLE_ARN, longest=2048, default=None)
    federation: bool = False
    policy: str | None = text(longest=16384, default=None)
    policy_arns: tuple[str, ...] = text(pattern=POLICY_ARN, longest=2048, default=())
    duration: str = text(pattern=DURATION, default="1h")
    session_name: str = text(default="${instance.id}")
    source_identity: str = text(default="${instance.id}")
    external_id: str | None = text(pattern=r"[A-Za-z0-9_+=,.@:/-]{2,1224}", longest=1224, default=None)
    tags: Mapping[str, str] = field(default_factory=dict, metadata={"longest": 512})
    bind: str | None = text(pattern="|".join(BINDS), default=None)
    conditions: ConditionsDocument | None = None
    doors: tuple[str, ...] = text(pattern="|".join(DOORS), default=USUAL_DOORS)
    users: tuple[str, ...] = text(pattern=USER, default=())
    deliver: DeliverDocument = field(default_factory=DeliverDocument)
    presign: str | None = text(pattern=DURATION, default=None)
    unsigned_payload: bool = False
    limits: LimitsDocument | None = None


@dataclass(frozen=True, slots=True)
class LaunchDocument:
    """How `server launch` launches such an instance. `user_data` is what it boots with beside the gateway's line."""

    image: str = text(pattern=IMAGE_ID)
    region: str = text(pattern=REGION)
    type: str = text(pattern=INSTANCE_TYPE)
    subnet: str | None = text(pattern=r"subnet-[0-9a-f]{8,17}", default=None)
    security_groups: tuple[str, ...] = text(pattern=r"sg-[0-9a-f]{8,17}", default=())
    tags: Mapping[str, str] = field(default_factory=dict)
    user_data: str = text(longest=15 * 1024, default="")


@dataclass(frozen=True, slots=True)
class ProfileDocument:
    """A profile as it is written."""

    name: str = text(pattern=NAME)
    upstream: str = text(pattern=NAME, default="main")
    attestation: AttestationDocument = field(default_factory=AttestationDocument)
    launch: LaunchDocument | None = None
    grants: tuple[GrantDocument, ...] = ()


def parse_duration(written: str) -> timedelta:
    """`900s`, `15m` or `1h`. Raises ValueError."""
    if not re.fullmatch(DURATION, written):
        raise ValueError("a duration is written like 900s, 15m or 1h")
    return timedelta(**{{"s": "seconds", "m": "minutes", "h": "hours"}[written[-1]]: int(written[:-1])})
