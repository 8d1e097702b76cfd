"""The profile routes of the admin listener. A version's entity tag is its number: `"7"` (RFC 9110, section 8.8.3)."""

import re
from dataclasses import dataclass
from typing import Any

from flask import Flask, Response, jsonify, request

from gateway.core.audit import Name
from gateway.core.errors import Refusal
from gateway.core.model import Profile, ProfileVersion
from gateway.flows.identify import Identify
from gateway.flows.journal import Journal
from gateway.flows.profiles import Applied, Expected, Profiles
from gateway.web.exchange import asked, content, message, no_body, nothing, peer, query
from gateway.wire.messages import instant
from gateway.wire.strict import integer, text

LAST = 99_999_999  # the number of a version has eight digits at most
_TAG = re.compile(r'"([1-9][0-9]{0,7})"')


@dataclass(frozen=True, slots=True)
class Which:
    """The query of GET /v1/profiles/<name>."""

    version: str | None = text(pattern=r"[1-9][0-9]{0,7}", default=None)


@dataclass(frozen=True, slots=True)
class How:
    """The query of PUT /v1/profiles/<name>."""

    dry_run: str = text(pattern="true|false", default="false")


@dataclass(frozen=True, slots=True)
class RollBack:
    """POST /v1/profiles/<name>/rollback."""

    version: int = integer(low=1, high=LAST)


def add_profile_routes(app: Flask, journal: Journal, identify: Identify, profiles: Profiles) -> None:
    """Give the admin listener its profile routes."""

    @app.get("/v1/profiles")
    def all_profiles() -> Response:
        with asked(journal, Name.OPERATOR_PROFILE_LIST) as call:
            identify.operator(call, peer().certificate)
            nothing()
            return jsonify(profiles=[_profile(row) for row in profiles.all(call)])

    @app.get("/v1/profiles/<name>")
    def one_profile(name: str) -> Response:
        with asked(journal, Name.OPERATOR_PROFILE_READ) as call:
            identify.operator(call, peer().certificate)
            no_body()
            which = query(Which)
            found = profiles.one(call, name, int(which.version) if which.version else None)
            return _tagged(_profile(found), found.version)

    @app.get("/v1/profiles/<name>/versions")
    def versions(name: str) -> Response:
        with asked(journal, Name.OPERATOR_PROFILE_READ) as call:
            identify.operator(call, peer().certificate)
            nothing()
            return jsonify(versions=[_summary(row) for row in profiles.versions(call, name)])

    @app.put("/v1/profiles/<name>")
    def apply_profile(name: str) -> Response:
        with asked(journal, Name.OPERATOR_PROFILE_APPLY) as call:
            identify.operator(call, peer().certificate)
            how, document = query(How), content()
            if not isinstance(document, dict):
                raise Refusal("malformed_request", "body: must be an object")
            dry_run = how.dry_run == "true"
            applied = profiles.apply(call, name, document, _expected(), dry_run=dry_run)
            return _applied(applied, dry_run=dry_run)

    @app.post("/v1/profiles/<name>/rollback")
    def roll_back(name: str) -> Response:
        with asked(journal, Name.OPERATOR_PROFILE_ROLLBACK) as call:
            identify.operator(call, peer().certificate)
            order = message(RollBack)
            return _applied(profiles.roll_back(call, name, order.version, _expected()), dry_run=False)


def _expected() -> Expected:
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


def _applied(applied: Applied, *, dry_run: bool) -> Response:
    row = applied.profile
    answer = _profile(row) | {"changed": applied.changed, "previous": applied.previous, "dry_run": dry_run}
    return jsonify(answer) if dry_run else _tagged(answer, row.version)


def _tagged(answer: dict[str, Any], version: int) -> Response:
    response = jsonify(answer)
    response.headers["ETag"] = f'"{version}"'
    return response


def _profile(row: Profile | ProfileVersion) -> dict[str, Any]:
    return {**_summary(row), "document": dict(row.document)}


def _summary(row: Profile | ProfileVersion) -> dict[str, Any]:
    return {
        "name": row.name,
        "version": row.version,
        "applied_at": instant(row.applied_at),
        "applied_by": row.applied_by,
    }
