"""A call whose needs are looked for: its members and headers, each read once and for one meaning only. Pure."""

from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from urllib.parse import unquote

from gateway.core.actions.actions_model import Entry, ServiceActions
from gateway.core.actions.call import AwsRequest, Routed
from gateway.core.actions.context import partition_of
from gateway.core.errors import Refusal

Context = Mapping[str, str | tuple[str, ...]]
NO_CONTEXT: Context = {}


@dataclass(frozen=True, repr=False)
class Ask:
    """A routed call, the account that it is made in, and the index of its service."""

    routed: Routed
    request: AwsRequest
    account: str
    actions: ServiceActions

    @property
    def operation(self) -> str:
        """The operation's name, empty for an unknown one."""
        return self.routed.operation or ""

    @cached_property
    def entry(self) -> Entry | None:
        """What the index says of the operation."""
        return self.actions.of(self.operation)

    @cached_property
    def partition(self) -> str:
        """The partition of the region: `aws`, `aws-cn`, …"""
        return partition_of(self.request.region)

    def member(self, name: str) -> Any:
        """A top-level member, None when it is absent. Raises Refusal `body_required` when it was not seen."""
        if name in self.routed.unread:
            raise Refusal(
                "body_required", f"{name} is in the body", reason="member_unread",
                operation=self.routed.operation, member=name,
            )  # fmt: skip
        return self.routed.members.get(name)

    def text(self, name: str) -> str | None:
        """A member that is a text and not empty, else None."""
        value = self.member(name)
        return value if isinstance(value, str) and value else None

    def each(self, name: str) -> list[Any]:
        """The items of a member that is a list; a single value is one item; an absent one is none."""
        value = self.member(name)
        return value if isinstance(value, list) else [] if value is None else [value]

    def header(self, name: str) -> str | None:
        """A header, or what stands for it in the query of a presigned URL (S3 takes any `x-amz-` header there).

        Raises Refusal `call_ambiguous` when it is there twice.
        """
        found = self._fields.get(name)
        if found is None:
            return None
        if len(found) > 1:
            raise Refusal("call_ambiguous", f"{name} is there twice", reason="duplicate_header")
        return found[0]

    def headers(self, prefix: str) -> dict[str, str]:
        """The headers whose names begin so, each once."""
        return {name: self.header(name) or "" for name in self._fields if name.startswith(prefix)}

    def among(self, names: Container[str]) -> dict[str, str]:
        """Those of these headers that are there, each once."""
        return {name: self.header(name) or "" for name in self._fields if name in names}

    def has_query(self, name: str) -> bool:
        """Whether the query has the key, in any case."""
        return any(key.lower() == name.lower() for key, _ in self._query())

    def arn(self, service: str, resource: str, *, region: bool = True, account: bool = True) -> str:
        """An ARN in the call's place. Part by part as given: nothing is escaped, and nothing is a pattern."""
        where = self.request.region if region else ""
        return f"arn:{self.partition}:{service}:{where}:{self.account if account else ''}:{resource}"

    @cached_property
    def _fields(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for name, value in self.request.headers:
            found.setdefault(name, []).append(value)
        for key, value in self._query():
            if (low := key.lower()).startswith("x-amz-"):
                found.setdefault(low, []).append(value)
        return found

    def _query(self) -> Iterator[tuple[str, str]]:
        for part in self.request.query.split("&") if self.request.query else ():
            key, _, value = part.partition("=")
            yield unquote(key), unquote(value)
