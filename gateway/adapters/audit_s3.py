"""A sink that is a bucket: an object for each stretch of a chain, gzip of JSON lines, that nobody can change (AWS: S3
Object Lock). Its name says which records are in it.
"""

import base64
import gzip
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import groupby
from typing import Any

from gateway.core.audit_formats import Outgoing
from gateway.core.errors import Refusal
from gateway.core.sinks import SinkFailed
from gateway.ports import Clock


@dataclass(frozen=True, slots=True)
class Bucket:
    """Where to, and how long an object is kept from change; `lock` is COMPLIANCE, GOVERNANCE, or None for none."""

    name: str
    prefix: str
    lock: str | None
    keep: timedelta


class AuditS3:
    """`ports.Sink`. `put` is S3's PutObject with these arguments; it raises Refusal."""

    def __init__(self, bucket: Bucket, put: Callable[[Mapping[str, Any]], Any], clock: Clock) -> None:
        self._bucket = bucket
        self._put = put
        self._clock = clock

    def deliver(self, batch: Sequence[Outgoing]) -> None:
        """Put an object for each chain in the batch. Raises SinkFailed."""
        for _, group in groupby(batch, key=lambda each: each.chain):
            try:
                self._put(self._object(list(group)))
            except Refusal as refusal:
                code = refusal.context.get("aws_code", "")
                raise SinkFailed("sink_failed", f"{self._bucket.name}: {refusal.reason} {code}".strip()) from None

    def close(self) -> None:
        """Nothing is kept open."""

    def _object(self, records: Sequence[Outgoing]) -> dict[str, Any]:
        first, last = records[0], records[-1]
        text = "".join(each.text + "\n" for each in records).encode("ascii")
        body = gzip.compress(text, mtime=0)  # the same records are the same bytes
        name = f"{first.at:%Y/%m/%d}/{first.chain}/{first.seq:012d}-{last.seq:012d}.jsonl.gz"
        arguments: dict[str, Any] = {
            "Bucket": self._bucket.name,
            "Key": self._bucket.prefix + name,
            "Body": body,
            "ContentType": "application/x-ndjson",
            "ContentEncoding": "gzip",
            # With Object Lock S3 demands a checksum of what is put.
            "ChecksumSHA256": base64.b64encode(hashlib.sha256(body).digest()).decode(),
        }
        if self._bucket.lock:
            arguments["ObjectLockMode"] = self._bucket.lock
            arguments["ObjectLockRetainUntilDate"] = self._clock() + self._bucket.keep
        return arguments
