"""Where CloudTrail's records lie: in a bucket, or to be looked up. Pure."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

LOOKUP = "lookup"
TRAIL = r"lookup|s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9!_.*'()/-]{0,512})?"


@dataclass(frozen=True, slots=True)
class Bucket:
    """Of a trail that writes to S3. `prefix` is what stands before the number of the account."""

    name: str
    prefix: str

    @classmethod
    def of(cls, trail: str) -> "Bucket | None":
        """From `s3://BUCKET/PREFIX`, where the prefix is the trail's own; one with `AWSLogs/…`, as an organisation's
        trail needs, is taken as it is.
        """
        match = re.fullmatch(r"s3://([^/]+)/?(.*?)/?", trail)
        if match is None:
            return None
        prefix = f"{match[2]}/" if match[2] else ""
        return cls(match[1], prefix if "AWSLogs/" in prefix else f"{prefix}AWSLogs/")


@dataclass(frozen=True, slots=True)
class Stretch:
    """The records of an account in a region, from `since` to `until`. Without a bucket they are looked up."""

    bucket: Bucket | None
    account: str
    region: str
    since: datetime
    until: datetime

    @property
    def prefix(self) -> str:
        """How the names of its objects begin (AWS: "Finding your CloudTrail log files")."""
        return f"{self.bucket.prefix if self.bucket else ''}{self.account}/CloudTrail/{self.region}/"


@dataclass(frozen=True, slots=True)
class Portion:
    """Some of a stretch: records as CloudTrail writes them, which are read as they are asked for, and the place behind
    which the next portion begins; None: that was all.
    """

    records: Iterator[Any]
    after: str | None
