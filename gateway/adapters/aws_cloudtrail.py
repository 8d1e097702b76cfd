"""CloudTrail's records, from the bucket of a trail or by LookupEvents, by boto3 as `adapters.aws` asks it."""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from datetime import timedelta
from typing import Any, Final

from gateway.adapters.aws import Aws, aware, understood
from gateway.core.cloudtrail import is_log, records
from gateway.core.errors import Refusal
from gateway.core.trail import Bucket, Portion, Stretch
from gateway.ports import OpenableKey
from gateway.wire.strict import Malformed

OBJECTS: Final = 8
"""Log files of one portion; AWS writes one about every five minutes."""
PAGES: Final = 6
"""Of LookupEvents in one portion, 50 events each."""
PAUSE: Final = 0.55
"""Seconds between two of them. AWS: LookupEvents, "two requests per second, per account, per Region"."""
_PIECE: Final = 64 * 1024


class AwsTrail:
    """`ports.Trail`."""

    def __init__(self, aws: Aws) -> None:
        self._aws = aws

    def portion(self, key: OpenableKey, stretch: Stretch, after: str | None) -> Portion:
        """Some log files, or some pages."""
        with understood():
            if stretch.bucket is not None:
                return self._stored(key, stretch, stretch.bucket, after)
            return self._looked_up(key, stretch, after)

    def _stored(self, key: OpenableKey, stretch: Stretch, bucket: Bucket, after: str | None) -> Portion:
        """S3 ListObjectsV2, in the region of the settings, from the day before: names sort by day, files come late."""
        day = stretch.since - timedelta(days=1)
        listed = self._aws.call(
            key, "s3", self._aws.home_region, "list_objects_v2",
            {"Bucket": bucket.name, "Prefix": stretch.prefix, "StartAfter": after or f"{stretch.prefix}{day:%Y/%m/%d}"},
        )  # fmt: skip
        names: list[str] = []
        last: str | None = None
        for each in listed.get("Contents", []):
            if stretch.since <= aware(each["LastModified"]) <= stretch.until and is_log(each["Key"]):
                if len(names) == OBJECTS:
                    return Portion(self._opened(key, bucket, names), last)
                names.append(each["Key"])
            last = each["Key"]
        return Portion(self._opened(key, bucket, names), last if listed.get("IsTruncated") else None)

    def _opened(self, key: OpenableKey, bucket: Bucket, names: Sequence[str]) -> Iterator[Any]:
        """S3 GetObject, one after the other. A file that cannot be read makes one record that cannot be."""
        for name in names:
            arguments = {"Bucket": bucket.name, "Key": name}
            with understood():
                body = self._aws.call(key, "s3", self._aws.home_region, "get_object", arguments)["Body"]
            with closing(body):
                try:
                    yield from records(_pieces(body))
                except Malformed:
                    yield None

    def _looked_up(self, key: OpenableKey, stretch: Stretch, after: str | None) -> Portion:
        """CloudTrail LookupEvents: management events of the last 90 days, the newest first."""
        found: list[Any] = []
        for turn in range(PAGES):
            if turn:
                time.sleep(PAUSE)
            more = {"NextToken": after} if after else {}
            asked: dict[str, Any] = {"StartTime": stretch.since, "EndTime": stretch.until, "MaxResults": 50, **more}
            answer = self._aws.call(key, "cloudtrail", stretch.region, "lookup_events", asked)
            found += [_recorded(each) for each in answer["Events"]]
            after = answer.get("NextToken")
            if not after:
                break
        return Portion(iter(found), after)


def _pieces(body: Any) -> Iterator[bytes]:
    try:
        while piece := body.read(_PIECE):
            yield piece
    except Exception as error:  # botocore's and urllib3's own: no answer, or half of one
        raise Refusal("upstream_unavailable", reason=type(error).__name__, retry_after=5) from None


def _recorded(event: Mapping[str, Any]) -> Any:
    try:
        return json.loads(event["CloudTrailEvent"])
    except ValueError:
        return None
