"""The sink that is a bucket: what is put, under which name, locked until when; and into a bucket of a real store."""

import base64
import gzip
import hashlib
import json
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from deploy.demo.cloud import ACCOUNT, Cloud, Seeded
from gateway import observation
from gateway.adapters.audit_s3 import AuditS3, Bucket
from gateway.adapters.aws import Aws
from gateway.adapters.sql.store import SqlStore
from gateway.core.audit_formats import Outgoing
from gateway.core.errors import Refusal, SettingsError
from gateway.core.sinks import SinkFailed
from gateway.flows.vault import UpstreamKeys
from gateway.ports import OpenableKey
from gateway.settings import read
from gateway.wire.secret import Secret

AT = datetime(2030, 1, 1, 12, tzinfo=UTC)
NOW = AT + timedelta(seconds=3)


def batch() -> list[Outgoing]:
    return [
        Outgoing(chain, seq, "a:b:c", True, AT, json.dumps([chain, seq]))
        for chain in ("node-1.worker-0", "node-1.worker-1")
        for seq in range(7, 17)
    ]


def test_an_object_for_each_chain_locked_and_summed() -> None:
    put: list[Mapping[str, Any]] = []
    AuditS3(Bucket("audit", "gw/", "COMPLIANCE", timedelta(days=400)), put.append, lambda: NOW).deliver(batch())
    assert [each["Key"] for each in put] == [
        f"gw/2030/01/01/node-1.worker-{n}/000000000007-000000000016.jsonl.gz" for n in (0, 1)
    ]
    for each, chain in zip(put, ("node-1.worker-0", "node-1.worker-1"), strict=True):
        lines = gzip.decompress(each["Body"]).decode().splitlines()
        assert [json.loads(line) for line in lines] == [[chain, seq] for seq in range(7, 17)]
        assert each["ChecksumSHA256"] == base64.b64encode(hashlib.sha256(each["Body"]).digest()).decode()
        assert (each["ObjectLockMode"], each["ObjectLockRetainUntilDate"]) == ("COMPLIANCE", NOW + timedelta(days=400))


def test_the_same_records_are_the_same_object() -> None:
    put: list[Mapping[str, Any]] = []
    sink = AuditS3(Bucket("audit", "", None, timedelta()), put.append, lambda: NOW)
    sink.deliver(batch())
    sink.deliver(batch())
    assert put[:2] == put[2:]
    assert "ObjectLockMode" not in put[0]


@pytest.mark.threat("I02")
def test_I02_a_bucket_that_refuses_is_a_failure() -> None:
    def refuses(_: Mapping[str, Any]) -> None:
        raise Refusal("upstream_refused", reason="aws_refused", aws_code="AccessDenied")

    with pytest.raises(SinkFailed, match="sink_failed: audit: aws_refused AccessDenied"):
        AuditS3(Bucket("audit", "", None, timedelta()), refuses, lambda: NOW).deliver(batch())


@pytest.mark.parametrize(("written", "days"), [({}, 400), ({"retention": "30d"}, 30)])
def test_it_is_made_of_the_settings(written: dict[str, str], days: int) -> None:
    put: list[Mapping[str, Any]] = []

    class Store:
        def read(self) -> AbstractContextManager[None]:
            return nullcontext()

    class Keys:
        def openable(self, _: object, name: str) -> tuple[str, str]:
            return name, "111122223333"

    class Caller:
        def call(self, key: str, service: str, region: str, operation: str, arguments: Mapping[str, Any]) -> None:
            assert (key, service, region, operation) == ("archive", "s3", "us-east-1", "put_object")
            put.append(arguments)

    sink = {"kind": "s3", "bucket": "audit-locked", "key": "archive", **written}
    settings = read({"names": ["gateway.internal"], "audit": {"sinks": {"bucket": sink}}}, {})
    (rules,) = settings.sinks
    made = observation._sink(rules, settings, cast(SqlStore, Store()), cast(UpstreamKeys, Keys()), cast(Aws, Caller()))
    before = datetime.now(UTC) + timedelta(days=days)
    made.deliver(batch()[:1])
    (object_,) = put
    assert before <= object_["ObjectLockRetainUntilDate"] <= before + timedelta(minutes=1)


@pytest.mark.parametrize("retention", ["400", "0d", "9h", "1.5d", "100000d", "-1d", ""])
def test_a_retention_is_a_number_of_days(retention: str) -> None:
    sink = {"kind": "s3", "bucket": "audit-locked", "key": "archive", "retention": retention}
    with pytest.raises(SettingsError) as caught:
        read({"names": ["gateway.internal"], "audit": {"sinks": {"bucket": sink}}}, {})
    assert "retention" in str(caught.value.faults)


def test_it_lies_in_the_bucket_and_is_locked(cloud: Cloud, seeded: Seeded) -> None:
    client = cloud.root("s3")
    client.create_bucket(Bucket="audit-locked", ObjectLockEnabledForBucket=True)
    key = OpenableKey("root", ACCOUNT, lambda: Secret("test"))
    aws = Aws(cloud.endpoint)
    bucket = Bucket("audit-locked", "gw/", "GOVERNANCE", timedelta(days=1))

    def put(arguments: Mapping[str, Any]) -> None:
        aws.call(key, "s3", seeded.region, "put_object", dict(arguments))

    AuditS3(bucket, put, lambda: datetime.now(UTC)).deliver(batch())
    name = "gw/2030/01/01/node-1.worker-0/000000000007-000000000016.jsonl.gz"
    found = client.get_object(Bucket="audit-locked", Key=name)
    assert len(gzip.decompress(found["Body"].read()).splitlines()) == 10
    assert client.get_object_retention(Bucket="audit-locked", Key=name)["Retention"]["Mode"] == "GOVERNANCE"
