"""Which version of something must be in force for a change of it to happen (RFC 9110, section 13.1). Pure."""

from dataclasses import dataclass

from gateway.core.errors import Refusal


@dataclass(frozen=True, slots=True)
class Expected:
    """What the caller saw. Neither of the two: any version, or none.

    `versions` are those of If-Match, and None is its `*`, any version at all; `absent` is If-None-Match with `*`.
    """

    versions: frozenset[int | None] = frozenset()
    absent: bool = False

    def demand(self, version: int | None) -> None:
        """`version` is in force (None: nothing is there). Raises Refusal `precondition_failed`."""
        there = version is not None and (version in self.versions or None in self.versions)
        if (self.versions and not there) or (self.absent and version is not None):
            raise Refusal("precondition_failed", f"{f'Version {version}' if version else 'No version'} is in force")


ANYTHING = Expected()
