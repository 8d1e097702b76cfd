"""A profile in TOML. `tomllib` reads it, and does not say where anything stands: a scanner of what is known to be valid
TOML (https://toml.io/en/v1.0.0) finds the lines. Raises Faulty.
"""

import math
import re
import tomllib
from collections.abc import Iterator
from datetime import date, datetime, time
from typing import Any

from gateway.cli.place import Faulty, Place

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_STRINGS = tuple(
    re.compile(form, re.DOTALL)
    for form in (
        r'"""\r?\n?((?:\\.|[^\\])*?"{0,2})"""(?!")',
        r"'''\r?\n?(.*?'{0,2})'''(?!')",
        r'"((?:\\.|[^"\\])*)"',
        r"'([^']*)'",
    )
)
_OTHER = re.compile(r"[^,\]}\n#]*")


def read(text: str) -> tuple[dict[str, Any], Place]:
    """The document in plain values, and its places."""
    try:
        document = tomllib.loads(text)
    except ValueError as error:  # a number may have too many digits, too
        found = re.fullmatch(r"(.*) \(at line (\d+), column \d+\)", str(error))
        last = text.rstrip().count("\n") + 1
        raise Faulty((int(found[2]), found[1]) if found else (last, re.sub(r" \(at end.*", "", str(error)))) from None
    except RecursionError:
        raise Faulty((1, "is nested too deeply")) from None
    place = _Scanner(text).document()
    if faults := [(place.of(f"{path}:").line, f"{path}: {what}") for path, what in _strange(document, "")]:
        raise Faulty(*faults)
    return document, place


def _strange(value: Any, path: str) -> Iterator[tuple[str, str]]:
    """What JSON has not."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _strange(item, f"{path}.{ascii(key)[1:-1][:40]}".lstrip("."))
    elif isinstance(value, list):
        for i, item in enumerate(value):
            yield from _strange(item, f"{path}[{i}]")
    elif isinstance(value, datetime | date | time):
        yield path, "is a date or a time: put it in quotes"
    elif isinstance(value, float) and not math.isfinite(value):
        yield path, "is no number that JSON has"


class _Scanner:
    """One pass over valid TOML."""

    def __init__(self, text: str) -> None:
        self._text, self._at = text, 0
        self._tables: dict[int, Place] = {}  # the id of an array of tables → its last table

    def document(self) -> Place:
        root = here = Place(1)
        while self._more():
            line = self._line()
            if self._took("["):
                several = self._took("[")
                *outer, last = self._keys()
                self._at = self._text.index("]", self._at) + 1 + several
                here = root
                for key in outer:
                    here = self._into(here, key, line)
                if several:
                    tables = here.inner.setdefault(last, Place(line))
                    here = self._tables[id(tables)] = tables.inner[f"[{len(tables.inner)}]"] = Place(line)
                else:
                    here = self._into(here, last, line)
            else:
                self._pair(here)
        return root

    def _into(self, place: Place, key: str, line: int) -> Place:
        found = place.inner.setdefault(key, Place(line))
        return self._tables.get(id(found), found)

    def _pair(self, here: Place) -> None:
        line = self._line()
        *outer, last = self._keys()
        for key in outer:
            here = self._into(here, key, line)
        self._took("=")
        here.inner[last] = self._value()
        here.inner[last].line = line

    def _value(self) -> Place:
        self._more()
        place = Place(self._line())
        if self._took("["):
            while self._more() and not self._took("]"):
                place.inner[f"[{len(place.inner)}]"] = self._value()
                self._took(",")
        elif self._took("{"):
            while self._more() and not self._took("}"):
                self._pair(place)
                self._took(",")
        elif match := self._string():
            place.text = match[1]
            place.text_line = self._text.count("\n", 0, match.start(1)) + 1
        elif match := _OTHER.match(self._text, self._at):
            self._at = match.end()
        return place

    def _string(self) -> re.Match[str] | None:
        for form in _STRINGS:
            if match := form.match(self._text, self._at):
                self._at = match.end()
                return match
        return None

    def _keys(self) -> list[str]:
        found = []
        while True:
            self._more()
            if match := _BARE.match(self._text, self._at):
                self._at = match.end()
                found.append(match[0])
            elif match := self._string():
                found.append(tomllib.loads(f"key = {match[0]}")["key"])
            if not self._took("."):
                return found

    def _more(self) -> bool:
        match = _BLANK.match(self._text, self._at)
        self._at = match.end() if match else self._at
        return self._at < len(self._text)

    def _took(self, token: str) -> bool:
        """Take it, if it is next."""
        self._more()
        if not self._text.startswith(token, self._at):
            return False
        self._at += len(token)
        return True

    def _line(self) -> int:
        return self._text.count("\n", 0, self._at) + 1
