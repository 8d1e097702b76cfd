"""What the settings say of unmediated use: our own addresses, and what is read without being asked. Pure."""

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

from gateway.core.conditions import Network
from gateway.core.profile_document import DURATION, parse_duration
from gateway.core.trail import TRAIL
from gateway.wire.messages import NAME
from gateway.wire.strict import text

SHORTEST_KEEP = 90
"""Days: LookupEvents goes back as far, and what it shows must be known still."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """What is read how often: `trail` is `lookup` or `s3://…`, by the upstream key of this name."""

    every: timedelta
    trail: str
    upstream: str


@dataclass(frozen=True, slots=True)
class ReconcileRules:
    """`addresses` are the gateway's own, as AWS sees them; leases are kept for `keep` after their end. No regions:
    those in which there are machines.
    """

    addresses: tuple[Network, ...]
    regions: tuple[str, ...]
    keep: timedelta
    schedule: Schedule | None


@dataclass(frozen=True, slots=True)
class ReconcileDocument:
    """`[reconcile]`. Nothing is scheduled unless `trail` and `upstream` are named."""

    every: str = text(pattern=DURATION, default="15m")
    trail: str | None = text(pattern=TRAIL, longest=600, default=None)
    upstream: str | None = text(pattern=NAME, default=None)
    regions: tuple[str, ...] = text(pattern=r"[a-z]{2}(-[a-z]+)+-[0-9]", default=())
    addresses: tuple[str, ...] = text(default=())
    keep_leases: str = text(pattern=r"[1-9][0-9]{0,4}d", default="400d")

    @property
    def faults(self) -> Iterator[str]:
        """What cannot be, as `key: what is wrong`."""
        if (self.trail is None) != (self.upstream is None):
            yield "reconcile: name both a trail and the upstream key to read it with, or neither"
        if parse_duration(self.every) < timedelta(minutes=1):
            yield "reconcile.every: at least 1m"
        if int(self.keep_leases[:-1]) < SHORTEST_KEEP:
            yield f"reconcile.keep_leases: at least {SHORTEST_KEEP}d"
        for i, written in enumerate(self.addresses):
            try:
                ipaddress.ip_network(written)
            except ValueError:
                yield f"reconcile.addresses[{i}]: must be an address or a network, without host bits"

    @property
    def rules(self) -> ReconcileRules:
        """As the gateway takes it; without faults."""
        schedule = None
        if self.trail is not None and self.upstream is not None:
            schedule = Schedule(parse_duration(self.every), self.trail, self.upstream)
        return ReconcileRules(
            addresses=tuple(ipaddress.ip_network(each) for each in self.addresses),
            regions=self.regions,
            keep=timedelta(days=int(self.keep_leases[:-1])),
            schedule=schedule,
        )
