"""What `x-amz-copy-source` names: read once, strictly, and for one meaning only.

AWS: "Amazon S3 API reference", CopyObject: "the name of the source bucket and the key of the source object, separated
by a slash; must be URL-encoded; append ?versionId=<version-id>"; an access point stands there with its ARN.
"""

import re
from dataclasses import dataclass
from urllib.parse import unquote

from gateway.core.actions.ask import Ask
from gateway.core.errors import Refusal

_ESCAPES = re.compile(r"(?:[^%]|%[0-9A-Fa-f]{2})*", re.DOTALL)
_VERSION = re.compile(r"[!-~]{1,1024}")


@dataclass(frozen=True, slots=True)
class Source:
    """The object that is copied; bucket and key are None for an access point, whose object it does not tell."""

    bucket: str | None
    key: str | None
    version: str | None


def source_of(ask: Ask) -> Source:
    """The source of a copy. Raises Refusal `call_malformed`, `call_ambiguous`."""
    written = ask.header("x-amz-copy-source")
    if not written:
        raise _malformed("A copy names its source")
    path, mark, query = written.partition("?")
    version = None
    if mark:
        name, _, version = query.partition("=")
        if name != "versionId" or not _VERSION.fullmatch(version) or set(version) & set("&?%+"):
            raise _malformed("Behind the source of a copy stands nothing but its versionId")
    plain = _decoded(path)
    if plain is None:  # some read a plus as a space
        return Source(None, None, version)
    plain = plain.removeprefix("/")
    if plain.startswith("arn:"):
        return Source(None, None, version)
    bucket, slash, key = plain.partition("/")
    if not slash or not bucket or not key:
        raise _malformed("The source of a copy is a bucket and a key")
    if {".", ".."} & set(plain.split("/")):
        raise Refusal("call_ambiguous", "The source of a copy has dot segments", reason="dot_segment")
    return Source(bucket, key, version)


def _decoded(path: str) -> str | None:
    """The text, decoded once; None when it has a plus, which S3 and its clients do not read alike."""
    if not _ESCAPES.fullmatch(path):
        raise _malformed("The source of a copy is not rightly escaped")
    try:
        plain = unquote(path, errors="strict")
    except UnicodeDecodeError:
        raise _malformed("The source of a copy is not in UTF-8") from None
    if "\0" in plain:
        raise _malformed("The source of a copy has a null in it")
    return None if "+" in path else plain


def _malformed(why: str) -> Refusal:
    return Refusal("call_malformed", why, reason="copy_source")
