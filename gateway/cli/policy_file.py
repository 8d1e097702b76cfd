"""Policies on an operator's disk: one in JSON, YAML or TOML, or those of a profile's grants; faults with lines."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.cli import profile_file
from gateway.cli.failure import Failure
from gateway.cli.place import Faulty, Place
from gateway.core.policy import document
from gateway.core.policy.engine import compile_policy
from gateway.core.policy.judge import Named, supposing
from gateway.core.profile import normal
from gateway.wire.strict import Malformed

LARGEST = 1024 * 1024
HINT = "Mend the file, and try again. docs/policy.md says what may be in it."


@dataclass(frozen=True, slots=True)
class Entry:
    """One policy of a file. `grant` is None for a file that is one policy; `document` None for a grant that has
    managed policies alone. `at` is where it stands in the file; `managed`: STS adds managed policies to it.
    """

    grant: str | None
    document: Mapping[str, Any] | None
    at: str
    managed: bool = False


@dataclass(frozen=True, slots=True)
class PolicyFile:
    """A file as it was read. `profile` is its name, where it is a profile."""

    file: str
    profile: str | None
    entries: tuple[Entry, ...]
    place: Place

    def line(self, entry: Entry, path: str) -> int:
        """Where in the file the part of a policy is that a fault or a hint (`path: what`) speaks of."""
        return self.place.of(f"{entry.at}: {path}" if entry.at or self.place.text is not None else path).line

    def named(self, entry: Entry) -> Named:
        """The policy of an entry that has one, by the name that decisions give it."""
        return Named(f"grant {entry.grant}" if entry.grant else Path(self.file).name, entry.document or {})

    def values(self, entry: Entry) -> dict[str, str]:
        """The templates whose values the file itself has."""
        return {"profile.name": self.profile, "grant.name": entry.grant} if self.profile and entry.grant else {}

    def one(self, grant: str | None) -> Entry:
        """The entry of the grant, or the only one. Raises Failure."""
        if self.profile is None:
            return self.entries[0]
        found = [each for each in self.entries if grant in (None, each.grant)]
        if len(found) != 1:
            names = ", ".join(str(each.grant) for each in self.entries)
            text = f"{self.file} has no grant {grant}" if not found else f"{self.file} has several grants"
            raise Failure(text, "grant_unknown", f"Name one of its grants: {names}.")
        if found[0].document is None:
            raise Failure(f"grant {found[0].grant} has managed policies only", "policy_invalid", "AWS alone has those.")
        return found[0]

    def faults(self) -> list[str]:
        """What IAM, or our engine, would refuse in its policies, with their lines."""
        found = []
        for entry in self.entries:
            if entry.document is None:
                continue
            try:
                compile_policy(supposing(self.named(entry), {})[0].document, "policy")
            except Malformed as malformed:
                grant = f"grant {entry.grant}: " if entry.grant else ""
                found += [f"{self.file}:{self.line(entry, fault)}: {grant}{fault}" for fault in malformed.faults]
        return found


def read(path: Path) -> PolicyFile:
    """What is in the file, its policies not yet looked at. Raises Failure."""
    content = text(path)
    if path.suffix == ".json":
        place = Place(1, text=content, text_line=1)
        try:
            return PolicyFile(str(path), None, (Entry(None, document.parse(content), ""),), place)
        except Malformed as malformed:
            lines = [(place.of(f": {fault}").line, fault) for fault in malformed.faults]
            raise _failure(path, lines) from None
    found, place = structure(path, content)
    if isinstance(found, dict) and "Statement" in found:
        return PolicyFile(str(path), None, (Entry(None, found, ""),), place)
    profile = profile_file.read(path)
    grants = normal(profile.document)["grants"]
    return PolicyFile(str(path), profile.name, tuple(_entry(i, grant) for i, grant in enumerate(grants)), profile.place)


def valid(path: Path) -> PolicyFile:
    """`read`, and every policy in it is one that IAM takes. Raises Failure, with every fault."""
    found = read(path)
    if faults := found.faults():
        raise refused(path, faults)
    return found


def structure(path: Path, content: str) -> tuple[Any, Place]:
    """A document in YAML or TOML, and its places. Raises Failure."""
    reader = profile_file.READERS.get(path.suffix)
    if reader is None:
        raise Failure(f"{path}: is neither JSON nor YAML nor TOML", "policy_invalid", "Call it after what it holds.")
    try:
        return reader(content)
    except Faulty as faulty:
        raise _failure(path, list(faulty.faults)) from None


def text(path: Path) -> str:
    """What is written in a file. Raises Failure."""
    return profile_file.text(path, LARGEST, "policy_invalid", HINT)


def refused(path: Path, faults: list[str]) -> Failure:
    """These lines as a Failure."""
    return Failure(
        f"{path} has {len(faults)} fault{'s' if len(faults) > 1 else ''}", "policy_invalid", HINT, tuple(faults)
    )


def _failure(path: Path, faults: list[tuple[int, str]]) -> Failure:
    return refused(path, [f"{path}:{line}: {fault}" for line, fault in sorted(faults, key=lambda pair: pair[0])])


def _entry(i: int, grant: Mapping[str, Any]) -> Entry:
    written = grant.get("policy")
    parsed = document.parse(written) if isinstance(written, str) else None
    return Entry(grant["name"], parsed, f"grants[{i}].policy", bool(grant.get("policy_arns")))
