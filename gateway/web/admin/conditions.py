"""Entity tags on the admin listener: a version's number in quotes, `"7"` (RFC 9110, section 8.8.3)."""

import re
from collections.abc import Mapping
from typing import Any

from flask import request

from gateway.core.errors import Refusal
from gateway.core.precondition import Expected
from gateway.web.admin.desk import Answered

_TAG = re.compile(r'"([1-9][0-9]{0,7})"')


def expected() -> Expected:
    """The request's conditions (RFC 9110, sections 13.1.1 and 13.1.2). Weak tags never match, so they are refused."""
    match, none_match = (request.headers.get(name) for name in ("If-Match", "If-None-Match"))
    if none_match not in (None, "*"):
        raise Refusal("malformed_request", "If-None-Match: may only be *")
    if match is None:
        return Expected(absent=none_match is not None)
    tags = [each.strip(" \t") for each in match.split(",")]
    if match != "*" and not all(map(_TAG.fullmatch, tags)):
        raise Refusal("malformed_request", 'If-Match: must be entity tags like "7", or *')
    versions = {None} if match == "*" else {int(each[1:-1]) for each in tags}
    return Expected(frozenset(versions), absent=none_match is not None)


def tagged(document: Mapping[str, Any], version: int, status: int = 200) -> Answered:
    """An answer with the tag of what it shows. Its route is `tagged`."""
    return Answered(document, status, {"ETag": f'"{version}"'})
