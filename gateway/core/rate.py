"""How much of something may be had in a time: the generic cell rate algorithm (ITU-T I.371, annex A). Pure.

All that has to be remembered of the past is one moment, so a limit is one small row, which every worker and node
shares, changed in the transaction that records the decision. A limit begins full: so many at once, then evenly.
"""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta

RATE = r"([1-9][0-9]{0,11})(B|KB|MB|GB|TB)?/(second|minute|hour|day)"
_PERIODS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}
_SIZES = {None: 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


@dataclass(frozen=True, slots=True)
class Rate:
    """`amount` in each `period`, all at once if it was not used before."""

    amount: int
    period: timedelta

    def take(self, until: datetime | None, now: datetime, cost: int = 1) -> tuple[datetime, timedelta]:
        """Take `cost`. `until` is what is remembered (None: nothing). What has to be remembered now, and how long
        `cost` has to wait: not at all means that it was taken; otherwise nothing is to be remembered.
        """
        behind = max(until or now, now)
        if (
            behind == now and cost > self.amount
        ):  # more than fits: it is taken when nothing was, and paid for afterwards
            return now + self.period * (cost / self.amount), timedelta()
        ahead = behind + self.period * (cost / self.amount)
        return ahead, max(timedelta(), ahead - now - self.period)

    def owe(self, until: datetime | None, now: datetime, cost: int) -> datetime:
        """What has to be remembered when `cost` was had already."""
        return max(until or now, now) + self.period * (cost / self.amount)


def parse_rate(written: str) -> Rate:
    """`100/minute` or `5GB/hour` (decimal units). Raises ValueError."""
    match = re.fullmatch(RATE, written)
    if match is None:
        raise ValueError("a rate is written like 100/minute or 5GB/hour")
    amount, unit, period = match.groups()
    return Rate(int(amount) * _SIZES[unit], timedelta(seconds=_PERIODS[period]))
