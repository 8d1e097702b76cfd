"""What AWS itself says about an instance, as DescribeInstances gives it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, slots=True)
class InstanceFacts:
    """One instance of a DescribeInstances answer. Times are aware.

    `account` is the reservation's OwnerId, `region` the one that was asked. A terminated instance has no addresses.
    `root_attached` and `interface_attached` are the attach times of the root volume and of the first network interface.
    """

    account: str
    region: str
    instance_id: str
    state: str
    image_id: str
    private_ip: str | None
    public_ip: str | None
    launch_time: datetime
    root_attached: datetime | None = None
    interface_attached: datetime | None = None
    vpc_id: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
