"""How an upstream key becomes another one: the steps, and what is remembered between them. Pure.

A rotation is one row. Its document names the step that comes next, so whoever finds it goes on there: each step may be
done twice. It holds the new key, sealed, until that is in force.
"""

import base64
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Self

from gateway.core.model import KeyState, UpstreamKey
from gateway.core.operator_model import PlanState, Rotation
from gateway.wire.messages import instant, parse_instant

DRAIN = timedelta(seconds=15)
"""For how long after the switch something may still be under way with the old key: a mint has 8 seconds."""


class Step(StrEnum):
    """In their order. After the last there is none."""

    CREATE = "create"
    VERIFY = "verify"
    SWITCH = "switch"
    DRAIN = "drain"
    DEACTIVATE = "deactivate"
    DELETE = "delete"


_ORDER = tuple(Step)


@dataclass(frozen=True, slots=True)
class Progress:
    """A rotation's document, read. `step` is None when all is done; `done` maps each step to when it was; `urgent`: the
    old key is in wrong hands, and nothing waits for what uses it; `end_sessions`: with the switch its sessions end;
    `revives`: it was asked for to make a disabled key good again. One that is disabled on the way stays so. `cut`: the
    revocation that ended the sessions; what is made with the old key after it ends as soon as that is inactive.
    """

    user: str
    old: str
    step: Step | None
    done: Mapping[str, str]
    urgent: bool = False
    end_sessions: bool = False
    revives: bool = False
    cut: str | None = None
    new: str | None = None
    sealed: bytes | None = None
    last_used: str | None = None

    @classmethod
    def of(cls, rotation: Rotation) -> Self:
        """As it stands in the row."""
        written = dict(rotation.document)
        step, sealed = written.pop("step"), written.pop("sealed")
        return cls(**written, step=Step(step) if step else None, sealed=base64.b64decode(sealed) if sealed else None)

    def document(self) -> dict[str, Any]:
        """For the row."""
        return {
            "user": self.user,
            "old": self.old,
            "step": self.step,
            "done": dict(self.done),
            "urgent": self.urgent,
            "end_sessions": self.end_sessions,
            "revives": self.revives,
            "cut": self.cut,
            "new": self.new,
            "sealed": base64.b64encode(self.sealed).decode() if self.sealed else None,
            "last_used": self.last_used,
        }

    def advanced(self, now: datetime) -> Self:
        """With the step behind it that came next."""
        if self.step is None:
            return self
        following = _ORDER[_ORDER.index(self.step) + 1 :]
        return replace(
            self, step=following[0] if following else None, done={**self.done, self.step.value: instant(now)}
        )

    def again(self) -> Self:
        """Back at the beginning: the new key is lost."""
        return replace(self, step=Step.CREATE, new=None, sealed=None)

    def is_drained(self, now: datetime) -> bool:
        """Whether nothing can be under way with the old key any more."""
        return self.urgent or now >= parse_instant(self.done[Step.SWITCH]) + timedelta(seconds=1) + DRAIN

    def strangers(self, ids: Collection[str]) -> list[str]:
        """Keys of the user that are neither of the two. None was there when this began: we made them, and lost them."""
        return sorted(set(ids) - {self.old, self.new})

    def switched(self, key: UpstreamKey, now: datetime) -> UpstreamKey:
        """The key as it will be."""
        if self.new is None or self.sealed is None:
            raise ValueError("there is no new key yet")
        state = key.state if key.state is KeyState.DISABLED and not self.revives else KeyState.ACTIVE
        return replace(key, access_key_id=self.new, sealed_secret=self.sealed, created_at=now, state=state)


def moved(rotation: Rotation, progress: Progress) -> Rotation:
    """The row with this progress."""
    return replace(rotation, state=PlanState.RUNNING if progress.step else PlanState.DONE, document=progress.document())
