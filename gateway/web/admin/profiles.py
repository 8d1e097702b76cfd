"""The profile routes of the admin listener. A version's entity tag is its number."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.core.audit import Name
from gateway.core.model import Profile, ProfileVersion
from gateway.flows.profiles import Applied, Profiles
from gateway.web.admin.conditions import expected, tagged
from gateway.web.admin.desk import JSON_OBJECT, AdminRoute, Answered, Asked, DryRun
from gateway.wire.messages import instant
from gateway.wire.strict import integer, text

LAST = 99_999_999  # the number of a version has eight digits at most


@dataclass(frozen=True, slots=True)
class Which:
    """The query of GET /v1/profiles/<name>."""

    version: str | None = text(pattern=r"[1-9][0-9]{0,7}", default=None)


@dataclass(frozen=True, slots=True)
class RollBack:
    """POST /v1/profiles/<name>/rollback."""

    version: int = integer(low=1, high=LAST)


def routes(profiles: Profiles) -> Sequence[AdminRoute]:
    """A version is named by If-Match where a change depends on it."""

    def all_profiles(asked: Asked) -> Mapping[str, Any]:
        return {"profiles": [_profile(row) for row in profiles.all(asked.call)]}

    def one_profile(asked: Asked) -> Answered:
        version = asked.query.version
        found = profiles.one(asked.call, asked.path["name"], int(version) if version else None)
        return tagged(_profile(found), found.version)

    def versions(asked: Asked) -> Mapping[str, Any]:
        return {"versions": [_summary(row) for row in profiles.versions(asked.call, asked.path["name"])]}

    def vet(asked: Asked) -> None:
        expected()
        profiles.vet(asked.path["name"], asked.body)

    def apply_profile(asked: Asked) -> Answered:
        dry_run = asked.query.is_dry
        applied = profiles.apply(asked.call, asked.path["name"], asked.body, expected(), dry_run=dry_run)
        return _applied(applied, dry_run=dry_run)

    def roll_back(asked: Asked) -> Answered:
        done = profiles.roll_back(asked.call, asked.path["name"], asked.body.version, expected())
        return _applied(done, dry_run=False)

    changed = ("profile_invalid", "precondition_failed", "upstream_key_unknown")
    return (
        AdminRoute("GET", "/v1/profiles", "Every profile", Name.OPERATOR_PROFILE_LIST, all_profiles),
        AdminRoute("GET", "/v1/profiles/<name>", "One profile, in force or of an earlier version",
                   Name.OPERATOR_PROFILE_READ, one_profile, query=Which, codes=("profile_unknown",), tagged=True),
        AdminRoute("GET", "/v1/profiles/<name>/versions", "Who applied which version, and when",
                   Name.OPERATOR_PROFILE_READ, versions, codes=("profile_unknown",)),
        AdminRoute("PUT", "/v1/profiles/<name>", "Apply a profile", Name.OPERATOR_PROFILE_APPLY, apply_profile,
                   asks=JSON_OBJECT, query=DryRun, codes=changed, tagged=True,
                   vets=vet),
        AdminRoute("POST", "/v1/profiles/<name>/rollback", "Apply an earlier version anew",
                   Name.OPERATOR_PROFILE_ROLLBACK, roll_back, asks=RollBack, codes=("profile_unknown", *changed),
                   tagged=True),
    )  # fmt: skip


def _applied(applied: Applied, *, dry_run: bool) -> Answered:
    row = applied.profile
    answer = _profile(row) | {"changed": applied.changed, "previous": applied.previous, "dry_run": dry_run}
    return Answered(answer) if dry_run else tagged(answer, row.version)


def _profile(row: Profile | ProfileVersion) -> dict[str, Any]:
    return {**_summary(row), "document": dict(row.document)}


def _summary(row: Profile | ProfileVersion) -> dict[str, Any]:
    return {
        "name": row.name,
        "version": row.version,
        "applied_at": instant(row.applied_at),
        "applied_by": row.applied_by,
    }
