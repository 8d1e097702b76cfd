"""What the agent takes from outside of itself; `main` gives the real ones, tests give their own."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class World:
    """`now`: an aware moment in UTC. `random`: from 0 to 1, for jitter. `token`: a new unguessable URL-safe word."""

    now: Callable[[], datetime]
    random: Callable[[], float]
    token: Callable[[], str]
