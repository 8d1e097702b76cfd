"""What every client is asked to do, and with what bytes. A job ends with what the client then has to show for it."""

import functools
import hashlib
import io
import random
import zipfile

SMALL = b"month,total\n2026-11,42\n" * 40
LONG = 12 * 1024 * 1024 + 17
"""Bytes of the object that goes in parts: neither a whole number of parts nor of blocks."""
PART = 5 * 1024 * 1024
ODD_KEYS = ("a b+c", "ü/é/日本.txt", "x//y", "per%41cent", "q?r&s=t#u", "tilde~star*'(colon):@!$,;=", "trailing/")
"""Keys that a path has to be encoded for, or whose path a careless hop would normalise."""

S3 = ("put", "get", "head", "range", "copy", "list", "unchanged", "missing", "refused", "odd-keys", "multipart",
      "presigned", "delete", "delete-many")  # fmt: skip
SERVICES = ("sqs", "dynamodb", "ec2", "sts", "sns", "lambda")
MODES = ("UNSIGNED-PAYLOAD", "STREAMING-UNSIGNED-PAYLOAD-TRAILER", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
         "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER", "hash", "presigned")  # fmt: skip
"""How the payload of an S3 request can be signed, as `tap.Exchange.mode` names it."""


@functools.cache
def long() -> bytes:
    """The same bytes in every run, that do not repeat."""
    return random.Random(11).randbytes(LONG)  # noqa: S311  # no secret


def sha256(body: bytes) -> str:
    """In hex."""
    return hashlib.sha256(body).hexdigest()


def packed() -> bytes:
    """A Lambda function's code, the same bytes each time."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(zipfile.ZipInfo("one.py"), "def answer(event, context):\n    return event\n")
    return file.getvalue()
