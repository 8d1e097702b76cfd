"""A profile on an operator's disk: TOML or YAML, and every fault with the file and the line that it is in."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.cli import profile_toml, profile_yaml
from gateway.cli.failure import Failure
from gateway.cli.place import Faulty, Place
from gateway.core import profile
from gateway.core.errors import Refusal

LARGEST = 64 * 1024  # what the gateway takes
READERS = {".toml": profile_toml.read, ".yaml": profile_yaml.read, ".yml": profile_yaml.read}
HINT = "Mend the file, and try again. docs/profiles.md says what may be in it."


@dataclass(frozen=True, slots=True)
class ProfileFile:
    """A profile as it was read. `file` is as the operator called it; `document` in plain values of JSON."""

    file: str
    document: dict[str, Any]
    place: Place

    @property
    def name(self) -> str:
        """The profile's."""
        return str(self.document["name"])

    def failure(self, faults: tuple[str, ...], code: str = "profile_invalid", hint: str = HINT) -> Failure:
        """The faults (`path: what is wrong`) as a Failure that says in which line each is."""
        return _failure(self.file, [self._located(fault) for fault in faults], code, hint)

    def _located(self, fault: str) -> tuple[int, str]:
        place = self.place.of(fault)
        quotes = place.unquoted and fault.endswith(": must be a string")
        return place.line, fault + (", which in YAML is put in quotes" if quotes else "")


def read(path: Path) -> ProfileFile:
    """A profile that is valid as far as can be said without the gateway. Raises Failure, with every fault."""
    reader = READERS.get(path.suffix)
    if reader is None:
        raise Failure(f"{path}: is neither .toml nor .yaml nor .yml", "profile_invalid", "Call it after what it holds.")
    content = text(path, LARGEST, "profile_invalid", HINT)
    try:
        document, place = reader(content)
    except Faulty as faulty:
        raise _failure(str(path), [*faulty.faults]) from None
    if not isinstance(document, dict):
        raise _failure(str(path), [(place.line, "must be an object: begin with its name")])
    found = ProfileFile(str(path), document, place)
    try:
        # Whether source addresses are asked for by default changes nothing in what is valid.
        profile.read(document, source_address=True)
    except Refusal as refusal:
        raise found.failure(refusal.faults) from None
    return found


def text(path: Path, largest: int, code: str, hint: str) -> str:
    """What is written in a file of up to `largest` bytes. Raises Failure."""
    try:
        with path.open("rb") as opened:
            raw = opened.read(largest + 1)
    except OSError as error:
        raise Failure(f"{path}: {error.strerror}", code, "Name a file that can be read.") from None
    if len(raw) > largest:
        raise Failure(f"{path}: is larger than {largest // 1024} KiB", code, "Name a file of a page or two.")
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise _failure(str(path), [(line, "is not text in UTF-8")], code, hint) from None


def _failure(file: str, faults: list[tuple[int, str]], code: str = "profile_invalid", hint: str = HINT) -> Failure:
    lines = tuple(f"{file}:{line}: {fault}" for line, fault in sorted(faults, key=lambda pair: pair[0]))
    return Failure(f"{file} has {len(lines)} fault{'s' if len(lines) > 1 else ''}", code, hint, lines)
