"""What is S3's own in reading a request: where the bucket stands, and what is not taken at all.

AWS: "Virtual hosting of general purpose buckets", "POST Object", "General purpose buckets naming rules".
"""

import re
from collections.abc import Sequence
from typing import Final

from gateway.core.actions.target import Target, ambiguous, decoded, malformed

SIGNING_NAME: Final = "s3"
SERVICE: Final = "s3"
UNSUPPORTED: Final = frozenset({"ListDirectoryBuckets"})
"""Known by its host alone, which is another: GET / is ListBuckets."""

# Buckets of old may have capitals and underscores.
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}")
_FORMS: Final = ("multipart/form-data", "application/x-www-form-urlencoded")


def segments(target: Target, host_bucket: str | None) -> Sequence[str]:
    """The path as in path style: nothing, a bucket, or a bucket and a key, whose empty segments count.

    Raises Refusal for a bucket that is none.
    """
    parts = target.segments if host_bucket is None else (host_bucket, *target.segments)
    if parts == ("",):
        return ()
    bucket = decoded(parts[0])
    if "/" in bucket:
        raise ambiguous("slash_in_bucket", "an encoded slash stands where the bucket's name ends")
    if not _BUCKET.fullmatch(bucket):
        raise malformed("bucket_name", "the path begins with something that is no bucket's name")
    return parts[:1] if parts[1:] == ("",) else parts


def check(method: str, media_type: str) -> None:
    """Raise Refusal for an upload by a browser's form: its policy and its key are signed inside of the body."""
    if method == "POST" and media_type in _FORMS:
        raise ambiguous("post_form", "uploads by POST of a form are not taken: use PUT")


def is_harmless(key: str, value: str, operation: str) -> bool:
    """Does an SDK add this to a query without a change of meaning?"""
    low = key.lower()
    return (key == "x-id" and value == operation) or low.startswith(("x-amz-checksum-", "x-amz-sdk-checksum-"))
