"""How many failed attempts to come in are answered, per address and in all. Counted in this process, by `limits`."""

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
