"""How many requests are answered: failed attempts to come in, per address, account and in all; those of an operator.

Counted in this process, by `limits`.
"""

import ipaddress
import math
from collections.abc import Callable
from datetime import datetime

from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from gateway.core.errors import Refusal


class Throttle:
    """`ports.Throttle`. A success costs nothing; who only fails is told to wait."""

    def __init__(self, per_source: int, overall: int) -> None:
        self._limiter = MovingWindowRateLimiter(MemoryStorage())
        self._per_source = RateLimitItemPerMinute(per_source)
        self._overall = RateLimitItemPerMinute(overall)

    def check(self, source: str) -> None:
        """Raises Refusal `too_many_requests` when this source, or all together, failed too often in the last minute."""
        if not self._limiter.test(self._per_source, "source", source) or not self._limiter.test(self._overall, "all"):
            raise Refusal("too_many_requests", retry_after=60)

    def failed(self, source: str) -> None:
        """Count one failed attempt."""
        self._limiter.hit(self._per_source, "source", source)
        self._limiter.hit(self._overall, "all")


class Attempts:
    """`ports.Attempts`. What is counted is told only to who failed: nobody's failures keep anybody else out."""

    def __init__(self, per_source: int, overall: int) -> None:
        self._limiter = MovingWindowRateLimiter(MemoryStorage())
        self._few = RateLimitItemPerMinute(per_source)
        self._many = RateLimitItemPerMinute(overall)

    def failed(self, source: str | None, account: str | None = None) -> None:
        """Count one failed attempt. Raises Refusal `too_many_requests`."""
        counted = [self._limiter.hit(self._few, "source", _network(source or "")), self._limiter.hit(self._many, "all")]
        if account is not None:
            counted.append(self._limiter.hit(self._few, "account", account))
        if not all(counted):
            raise Refusal("too_many_requests", retry_after=60)


def _network(source: str) -> str:
    """Whose addresses count as one: a host of IPv6 has 2^64 (RFC 4291, section 2.5.1)."""
    try:
        address = ipaddress.IPv6Address(source)
    except ValueError:
        return source
    return str(address.ipv4_mapped or ipaddress.ip_network((int(address) >> 64 << 64, 64)))


class Pace:
    """`ports.Pace`."""

    def __init__(self, per_minute: int, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._limiter = MovingWindowRateLimiter(MemoryStorage())
        self._rate = RateLimitItemPerMinute(per_minute)

    def take(self, who: str) -> None:
        """Count one request. Raises Refusal `too_many_requests` when there were enough in the last minute."""
        if not self._limiter.hit(self._rate, who):
            free_at = self._limiter.get_window_stats(self._rate, who).reset_time
            raise Refusal("too_many_requests", retry_after=max(1, math.ceil(free_at - self._clock().timestamp())))
