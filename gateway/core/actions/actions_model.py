"""The nouns of the action index: which actions an operation takes, and which input members name the resources. Pure.

The index is made by `deploy/make_catalog.py`; gateway/catalog/README.md tells the form of its files.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class ByArn:
    """A resource whose ARN is in a member; `templates` are those of the types that it may be of."""

    member: str
    templates: tuple[str, ...]
    required: bool


@dataclass(frozen=True, slots=True)
class ByNames:
    """A resource whose ARN is a template: placeholder → member that fills it, or `*` for what is yet to be made.

    `fills` is None for a type of which the input does not tell which resource it is.
    """

    template: str
    fills: Mapping[str, str] | None
    required: bool


@dataclass(frozen=True, slots=True)
class Entry:
    """What one operation takes: an action on resources; without any resource it is on `*`.

    `unsure` are members that name a resource of one of several types. `passes`: AWS says that a role is passed;
    `roles` are the places in the input where one may be named (`member`, `list[].inner`, `map{}.inner`).
    """

    action: str
    resources: tuple[ByArn | ByNames, ...] = ()
    unsure: tuple[str, ...] = ()
    passes: bool = False
    roles: tuple[str, ...] = ()


@dataclass(slots=True, eq=False, repr=False)
class ServiceActions:
    """The index of one service of botocore, read operation by operation as it is asked for."""

    service: str
    prefix: str
    _arns: Mapping[str, str]
    _plain: frozenset[str]
    _operations: Mapping[str, Mapping[str, Any]]
    _read: dict[str, Entry] = field(default_factory=dict)

    def of(self, operation: str) -> Entry | None:
        """The operation's entry; None when nobody knows which action it takes."""
        entry = self._read.get(operation)
        if entry is None and (operation in self._plain or operation in self._operations):
            entry = self._entry(operation, self._operations.get(operation, {}))
            self._read[operation] = entry
        return entry

    def _entry(self, operation: str, written: Mapping[str, Any]) -> Entry:
        resources: list[ByArn | ByNames] = []
        for key, required in (("arn", True), ("may_arn", False)):
            for member, kinds in written.get(key, {}).items():
                resources.append(ByArn(member, tuple(self._arns[kind] for kind in kinds), required))
        for key, required in (("on", True), ("may", False)):
            for kind, fills in written.get(key, {}).items():
                plain = None if fills is None else {name: each.lstrip("~") for name, each in fills.items()}
                resources.append(ByNames(self._arns.get(kind, ""), plain, required))
        return Entry(
            written.get("action", f"{self.prefix}:{operation}"),
            tuple(resources),
            tuple(written.get("unsure", ())),
            written.get("passes", False),
            tuple(written.get("roles", ())),
        )


def service_actions(service: str, index: Mapping[str, Any]) -> ServiceActions:
    """The index of a service, as its file has it."""
    return ServiceActions(
        service, index["prefix"], index["arns"], frozenset(index["plain"]), index["operations"]
    )  # fmt: skip


def nothing_known(service: str) -> ServiceActions:
    """The index of a service that has none: each of its operations is unknown."""
    return ServiceActions(service, "", {}, frozenset(), {})
