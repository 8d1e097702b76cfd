"""How long to wait: capped exponential back-off with jitter, and due times that a fleet does not share."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from agent.errors import Fault, Problem

LONGEST = 300.0
"""No wait after a failure is longer, in seconds, whatever Retry-After asks for: the gateway cannot silence an agent."""


@dataclass
class Backoff:
    """Seconds to wait after each failure in a row: half to all of 1, 2, 4 … a cap; at least what Retry-After asks.

    `cap` is for what may pass by itself, `lasting_cap` for what the gateway refused for good.
    """

    random: Callable[[], float]
    cap: float = 60.0
    lasting_cap: float = LONGEST
    failures: int = 0

    def failed(self, fault: Fault | None = None) -> float:
        """The wait after one more failure. Seconds, above zero."""
        self.failures += 1
        cap = self.lasting_cap if isinstance(fault, Problem) and not fault.passing else self.cap
        wait = min(cap, 2.0 ** min(self.failures - 1, 16)) * (0.5 + self.random() / 2)
        asked = min(fault.retry_after, LONGEST) if fault else 0.0
        return wait if wait >= asked else asked + self.random()

    def reset(self) -> None:
        """A success: the next failure is the first one again."""
        self.failures = 0


def part_of_life(begin: datetime, end: datetime, share: float) -> datetime:
    """The moment when `share` of the life from `begin` to `end` is over."""
    return begin + (end - begin) * share
