"""Where in a file the parts of a profile are, so that a fault can be told with its line."""

import json
from dataclasses import dataclass, field

import yaml

_NO_JSON = ": not JSON in UTF-8"


class Faulty(Exception):
    """A file that is no profile. `faults` are pairs of a line, from 1, and what is wrong there."""

    def __init__(self, *faults: tuple[int, str]) -> None:
        super().__init__(*faults)
        self.faults = faults


@dataclass(slots=True)
class Place:
    """A value, and what is in it: `key` or `[index]` → its place. `line` counts from 1.

    `text` is what the value says if it is a string that begins in line `text_line`: a policy has places of its own.
    `unquoted`: it is written in a way that YAML may read as something else than text.
    """

    line: int
    inner: dict[str, "Place"] = field(default_factory=dict)
    text: str | None = None
    text_line: int = 0
    unquoted: bool = False

    def of(self, fault: str) -> "Place":
        """The innermost place that a fault (`path: what is wrong`, as gateway.core.profile names it) speaks of."""
        if self.text is not None and fault.startswith(": "):
            return _in_policy(self, fault)
        rest = fault.removeprefix(".").removeprefix(": ")
        found: tuple[int, Place] | None = None
        for key, inner in self.inner.items():
            # Core shows a key escaped and, if it is long, cut.
            for shown in {key, *(ascii(key)[1:-1][:length] for length in (40, 60, 100))}:
                if rest.startswith(shown) and rest[len(shown) : len(shown) + 1] in (".", "[", ":"):
                    found = max(found or (0, self), (len(shown), inner), key=lambda pair: pair[0])
        return found[1].of(rest[found[0] :]) if found else self


def _in_policy(place: Place, fault: str) -> Place:
    """Of policy JSON in a string. JSON is YAML, nearly; where it is not, the line of the string has to do."""
    text = place.text or ""
    try:
        if not isinstance(json.loads(text), dict):
            return place
        node = yaml.compose(text.replace("\t", " "), Loader=yaml.SafeLoader)
        return of_yaml(node, place.text_line - 1).of(fault.removeprefix(": ")) if node else place
    except json.JSONDecodeError as error:
        return Place(place.text_line + error.lineno - 1) if fault == _NO_JSON else place
    except (ValueError, yaml.YAMLError, RecursionError):  # also a number of thousands of digits
        return place


def of_yaml(node: yaml.Node, above: int = 0) -> Place:
    """The places of a YAML tree without aliases; `above` it are so many lines. May raise RecursionError."""
    line = node.start_mark.line + 1 + above
    if isinstance(node, yaml.MappingNode):
        pairs = [(key, value) for key, value in node.value if isinstance(key, yaml.ScalarNode)]
        inner = {key.value: of_yaml(value, above) for key, value in pairs}
        for key, _ in pairs:
            inner[key.value].line = key.start_mark.line + 1 + above
        return Place(line, inner)
    if isinstance(node, yaml.SequenceNode):
        return Place(line, {f"[{i}]": of_yaml(value, above) for i, value in enumerate(node.value)})
    style = getattr(node, "style", None)
    return Place(line, text=node.value, text_line=line + (style in ("|", ">")), unquoted=style is None)
