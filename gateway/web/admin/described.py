"""The admin listener's OpenAPI document: made of the routes themselves, and served by one of them."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from typing import Any

from gateway.core.audit import Name
from gateway.flows.journal import Journal
from gateway.web.admin.desk import IDEMPOTENCY_KEY, AdminRoute, Asked
from gateway.web.admin.shown import INSTANT
from gateway.web.openapi import JSON, Header, Route, document
from gateway.wire.strict import integer, text

ADMITTED = (
    "certificate_required", "certificate_unknown", "certificate_expired", "certificate_superseded",
    "certificate_revoked", "operator_forbidden",
)  # fmt: skip
CHANGING = ("conflict", "idempotency_mismatch", "approval_unknown", "approval_refused")

TAG = r'"[1-9][0-9]{0,7}"'
_KEY = Header("Idempotency-Key", "The same key and request again: the same answer, and nothing is done twice",
              IDEMPOTENCY_KEY)  # fmt: skip
_REPLAYED = Header("Idempotent-Replayed", "Only where the answer was given before", "true")
_APPROVAL = Header("Approval", "The id of what others agreed to, for this very request", "ap-[0-9a-f]{16}")
_IF_MATCH = Header("If-Match", "Only while one of these versions is in force (RFC 9110)", rf"\*|{TAG}(, ?{TAG})*")
_IF_NONE_MATCH = Header("If-None-Match", "Only while there is none", r"\*")
_ETAG = Header("ETag", "The version", TAG)


@dataclass(frozen=True, slots=True)
class Awaited:
    """Nothing was done: `needed` people have to agree, of whom `given` do, who asked included."""

    approval: str = text()
    expires_at: str = text(pattern=INSTANT)
    given: int = integer(low=1, high=99)
    needed: int = integer(low=2, high=99)


def with_description(
    journal: Journal, routes: Sequence[AdminRoute], beside: Sequence[Route] = ()
) -> Sequence[AdminRoute]:
    """These routes, and one more that describes them all, itself and those `beside` the desk, too."""

    def describe(asked: Asked) -> Mapping[str, Any]:
        journal.allow(asked.call)
        return made()

    @cache
    def made() -> Mapping[str, Any]:
        routes = (*beside, *map(described, every))
        return document("TrustedGateway, admin listener", version("trusted-gateway"), routes)

    described_by = AdminRoute("GET", "/v1/openapi.json", "This document", Name.OPERATOR_API_READ, describe)
    every = (described_by, *routes)
    return every


def described(route: AdminRoute) -> Route:
    """What is to be said of a route."""
    path = re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", route.rule)
    codes = (*route.codes, *(() if route.urgent else ("too_many_requests",)), *(CHANGING if route.changes else ()))
    return Route(
        route.method,
        path,
        route.does,
        asks=route.asks,
        answers=route.answers,
        text=None if route.answers else JSON,
        status=route.status,
        certificate=True,
        codes=(*codes, *(("not_found",) if "{" in path else ())),
        query=route.query,
        identified=ADMITTED,
        accepts=Awaited if route.changes else None,
        permission=route.permission.value,
        sends=((_KEY, _APPROVAL) if route.changes else ())
        + ((_IF_MATCH, _IF_NONE_MATCH) if route.tagged and route.changes else ()),
        gives=((_REPLAYED,) if route.changes else ()) + ((_ETAG,) if route.tagged else ()),
    )
