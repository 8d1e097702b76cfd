"""A profile as it is written, field by field. Durations are written `900s`, `15m`, `1h`."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from gateway.core.attest.ec2 import IMAGE_ID, REGION
from gateway.core.conditions import CHECKS, DAYS
from gateway.wire.messages import DELIVERIES, NAME, USER, USUAL_DELIVERIES
from gateway.wire.strict import text

ROLE_ARN = r"arn:aws[a-z-]*:iam::[0-9]{12}:role/[A-Za-z0-9_+=,.@/-]{1,512}"
POLICY_ARN = r"arn:aws[a-z-]*:iam::([0-9]{12}|aws):policy/[A-Za-z0-9_+=,.@/-]{1,512}"
DURATION = r"[1-9][0-9]{0,5}[smh]"
CLOCK = r"([01][0-9]|2[0-3]):[0-5][0-9]"
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
    deliver: tuple[str, ...] = text(pattern="|".join(DELIVERIES), default=USUAL_DELIVERIES)
    users: tuple[str, ...] = text(pattern=USER, default=())


@dataclass(frozen=True, slots=True)
class ProfileDocument:
    """A profile as it is written."""

    name: str = text(pattern=NAME)
    upstream: str = text(pattern=NAME, default="main")
    attestation: AttestationDocument = field(default_factory=AttestationDocument)
    grants: tuple[GrantDocument, ...] = ()
