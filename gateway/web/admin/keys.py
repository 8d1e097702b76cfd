"""Upstream keys: which there are, and what may be done to one. None of these shows a secret, or takes one."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.core.audit import Name
from gateway.core.operator_model import Rotation
from gateway.core.rotation import Progress, Step
from gateway.flows.keys import Keys, Listed
from gateway.web.admin.desk import AdminRoute, Asked, DryRun
from gateway.web.admin.pages import Page, page
from gateway.web.admin.receipt import Receipt
from gateway.web.admin.shown import INSTANT
from gateway.wire.messages import instant
from gateway.wire.strict import text

_STEP = "|".join(Step)


@dataclass(frozen=True, slots=True)
class Rotating(DryRun):
    """The query of POST /v1/keys/<name>/rotate. `end_sessions`: what was made with the old key ends with the switch."""

    end_sessions: str = text(pattern="true|false", default="false")


@dataclass(frozen=True, slots=True)
class RotationShown:
    """A rotation: `next` is the step that comes next, None when all is done; `done` maps steps to when they were."""

    id: str | None = text()
    key: str = text()
    user: str = text()
    old: str = text()
    new: str | None = text()
    next: str | None = text(pattern=_STEP)
    done: Mapping[str, str] = text()
    last_used: str | None = text()
    dry_run: bool = False

    @classmethod
    def of(cls, row: Rotation, *, dry_run: bool = False) -> "RotationShown":
        """Of a row."""
        found = Progress.of(row)
        return cls(
            None if dry_run else row.id, row.key, found.user, found.old, found.new,
            found.step.value if found.step else None, found.done, found.last_used, dry_run,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class KeyShown:
    """An upstream key; `rotation` is the one that is under way."""

    name: str = text()
    account: str = text(pattern="[0-9]{12}")
    access_key_id: str = text()
    purpose: str = text(pattern="vend|revoke")
    state: str = text(pattern="active|disabled|compromised")
    created_at: str = text(pattern=INSTANT)
    created_by: str = text(longest=2048)
    rotation: RotationShown | None = None

    @classmethod
    def of(cls, found: Listed) -> "KeyShown":
        """Of a row. What is sealed is left out by not being named."""
        row = found.key
        return cls(
            row.name, row.account, row.access_key_id, row.purpose.value, row.state.value, instant(row.created_at),
            row.created_by, RotationShown.of(found.rotation) if found.rotation else None,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class KeysAnswer:
    """GET /v1/keys."""

    keys: tuple[KeyShown, ...]
    next: str | None = text()


def routes(keys: Keys) -> Sequence[AdminRoute]:
    """`disable` and `compromised` answer with a receipt, as every revocation does."""

    def all_keys(asked: Asked) -> Mapping[str, Any]:
        limit = int(asked.query.limit)
        found = keys.all(asked.call, after=asked.query.after, limit=limit)
        return page("keys", found, limit, lambda each: each.key.name, KeyShown.of)

    def rotate(asked: Asked) -> RotationShown:
        dry_run, end_sessions = asked.query.is_dry, asked.query.end_sessions == "true"
        row = keys.rotate(asked.call, asked.path["name"], end_sessions=end_sessions, dry_run=dry_run)
        return RotationShown.of(row, dry_run=dry_run)

    def cut(*, compromised: bool) -> Callable[[Asked], Mapping[str, Any]]:
        def answer(asked: Asked) -> Mapping[str, Any]:
            return keys.disable(asked.call, asked.path["name"], compromised=compromised, dry_run=asked.query.is_dry)

        return answer

    def rotation(asked: Asked) -> RotationShown:
        return RotationShown.of(keys.rotation(asked.call, asked.path["name"], asked.path["id"]))

    codes = ("upstream_key_unknown", "conflict")
    asks_aws = ("upstream_refused", "upstream_unavailable")
    return (
        AdminRoute("GET", "/v1/keys", "Every upstream key, without its secret", Name.OPERATOR_KEY_LIST, all_keys,
                   query=Page, answers=KeysAnswer),
        AdminRoute("POST", "/v1/keys/<name>/rotate", "Put a new key in the place of one", Name.OPERATOR_KEY_ROTATE,
                   rotate, query=Rotating, answers=RotationShown, codes=(*codes, *asks_aws)),
        AdminRoute("GET", "/v1/keys/<name>/rotations/<id>", "How far a rotation is", Name.OPERATOR_KEY_ROTATE, rotation,
                   answers=RotationShown, codes=("target_unknown",), follows=True),
        AdminRoute("POST", "/v1/keys/<name>/disable", "Cut off a key, and what was made with it",
                   Name.OPERATOR_KEY_DISABLE, cut(compromised=False), query=DryRun, answers=Receipt,
                   codes=codes),
        AdminRoute("POST", "/v1/keys/<name>/compromised", "Cut off a key that is in wrong hands, and replace it",
                   Name.OPERATOR_KEY_COMPROMISE, cut(compromised=True), query=DryRun, answers=Receipt,
                   codes=codes),
    )  # fmt: skip
