"""CloudTrail's records, from a bucket of a real store and from pages of LookupEvents."""

import gzip
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from deploy.demo.cloud import ACCOUNT, REGION, Cloud
from gateway.adapters.aws import Aws
from gateway.adapters.aws_cloudtrail import OBJECTS, PAGES, AwsTrail
from gateway.core.errors import Refusal
from gateway.core.trail import Bucket, Stretch
from gateway.ports import OpenableKey
from gateway.wire.secret import Secret

NOW = datetime.now(UTC).replace(microsecond=0)
ROOT = OpenableKey("root", ACCOUNT, lambda: Secret("test"))


def stretch(bucket: Bucket | None, until: timedelta = timedelta(hours=6)) -> Stretch:
    return Stretch(bucket, ACCOUNT, REGION, NOW - timedelta(hours=1), NOW + until)


def put(cloud: Cloud, bucket: str, name: str, body: bytes) -> None:
    cloud.root("s3").put_object(Bucket=bucket, Key=name, Body=body)


def packed(*ids: int) -> bytes:
    return gzip.compress(json.dumps({"Records": [{"eventID": str(each)} for each in ids]}).encode())


def everything(trail: AwsTrail, wanted: Stretch) -> tuple[list[Any], int]:
    """All records of a stretch, and in how many portions they came."""
    found: list[Any] = []
    after, portions = None, 0
    while portions == 0 or after is not None:
        portion = trail.portion(ROOT, wanted, after)
        found += list(portion.records)
        after, portions = portion.after, portions + 1
    return found, portions


def test_a_bucket_is_read_file_by_file_and_digests_are_left_alone(cloud: Cloud) -> None:
    cloud.root("s3").create_bucket(Bucket="trail")
    bucket = Bucket("trail", "org/AWSLogs/")
    folder = f"org/AWSLogs/{ACCOUNT}/CloudTrail/{REGION}/{NOW:%Y/%m/%d}"
    for i in range(2 * OBJECTS + 3):
        put(cloud, "trail", f"{folder}/{ACCOUNT}_CloudTrail_{REGION}_{NOW:%Y%m%dT%H%MZ}_{i:02}.json.gz", packed(i))
    put(cloud, "trail", f"{folder}/{ACCOUNT}_CloudTrail-Digest_{REGION}_x.json.gz", packed(100))
    put(cloud, "trail", f"{folder}/notes.txt", b"none")
    put(cloud, "trail", f"org/AWSLogs/{ACCOUNT}/CloudTrail/eu-west-1/{NOW:%Y/%m/%d}/x.json.gz", packed(101))
    put(cloud, "trail", f"org/AWSLogs/{ACCOUNT}/CloudTrail/{REGION}/2020/01/01/x.json.gz", packed(102))
    trail = AwsTrail(Aws(cloud.endpoint, home_region=REGION))
    found, portions = everything(trail, stretch(bucket))
    assert [each["eventID"] for each in found] == [str(i) for i in range(2 * OBJECTS + 3)]
    assert portions == 3
    # What came after the end of the stretch is left to the next run.
    assert everything(trail, stretch(bucket, until=timedelta(minutes=-30))) == ([], 1)


def test_a_file_that_is_not_whole_does_not_go_unnoticed(cloud: Cloud) -> None:
    cloud.root("s3").create_bucket(Bucket="broken")
    folder = f"AWSLogs/{ACCOUNT}/CloudTrail/{REGION}/{NOW:%Y/%m/%d}"
    put(cloud, "broken", f"{folder}/1.json.gz", packed(1)[:-9])
    put(cloud, "broken", f"{folder}/2.json.gz", packed(2))
    found, _ = everything(AwsTrail(Aws(cloud.endpoint, home_region=REGION)), stretch(Bucket("broken", "AWSLogs/")))
    assert None in found  # a record that cannot be read, which is counted
    assert {"eventID": "2"} in found


def test_a_bucket_that_is_not_there_is_a_refusal(cloud: Cloud) -> None:
    with pytest.raises(Refusal) as caught:
        AwsTrail(Aws(cloud.endpoint, home_region=REGION)).portion(ROOT, stretch(Bucket("no-such", "")), None)
    assert caught.value.code == "upstream_refused"


class Pages:
    """LookupEvents as AWS answers it: `count` pages."""

    home_region = REGION

    def __init__(self, count: int) -> None:
        self.count = count
        self.asked: list[dict[str, Any]] = []

    def call(self, key: OpenableKey, service: str, region: str, operation: str, arguments: dict[str, Any]) -> Any:
        assert (service, operation) == ("cloudtrail", "lookup_events")
        self.asked.append(arguments)
        number = int(arguments.get("NextToken", "0"))
        answer: dict[str, Any] = {"Events": [{"EventId": "x", "CloudTrailEvent": json.dumps({"eventID": str(number)})}]}
        return answer | ({"NextToken": str(number + 1)} if number + 1 < self.count else {})


def test_lookup_events_is_paged_and_paced(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("gateway.adapters.aws_cloudtrail.time.sleep", pauses.append)
    pages: Any = Pages(PAGES + 2)
    found, portions = everything(AwsTrail(pages), stretch(None))
    assert [each["eventID"] for each in found] == [str(i) for i in range(PAGES + 2)]
    assert portions == 2
    assert len(pauses) == PAGES  # before each page but the first of a portion
    assert min(pauses) > 0.5
    asked: Mapping[str, Any] = pages.asked[-1]
    assert (asked["StartTime"], asked["MaxResults"]) == (NOW - timedelta(hours=1), 50)


def test_the_local_aws_can_be_looked_up(cloud: Cloud) -> None:
    """Its events are thin (design: aws.md); that it answers in AWS's form is what counts here."""
    portion = AwsTrail(Aws(cloud.endpoint, home_region=REGION)).portion(ROOT, stretch(None), None)
    assert isinstance(list(portion.records), list)
