"""A profile in YAML, read so that nobody is surprised: no aliases, no tags, no key twice, and nothing that is a date, a
number or a truth value by accident. Raises Faulty.
"""

import re
from collections.abc import Callable
from typing import Any

import yaml

from gateway.cli.place import Faulty, Place, of_yaml

_TAG = "tag:yaml.org,2002:"
_PLAIN = {"bool": re.compile("true|false"), "int": re.compile("0|-?[1-9][0-9]{0,17}"),
          "float": re.compile(r"-?(0|[1-9][0-9]{0,17})\.[0-9]{1,18}")}  # fmt: skip
_READ: dict[str, Callable[[str], Any]] = {"bool": "true".__eq__, "int": int, "float": float}


def read(text: str) -> tuple[Any, Place]:
    """The document in plain values, and its places."""
    try:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):  # before anything is made of them
            if why := _refused(event):
                raise Faulty((event.start_mark.line + 1 if event.start_mark else 1, why))
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        if node is None:
            raise Faulty((1, "the file is empty"))
        faults: list[tuple[int, str]] = []
        document = _value(node, "", faults)
        if faults:
            raise Faulty(*faults)
        return document, of_yaml(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise Faulty((mark.line + 1 if mark else 1, error.problem or "is no YAML")) from None
    except yaml.reader.ReaderError as error:
        raise Faulty((text.count("\n", 0, error.position) + 1, "has a character that YAML does not take")) from None
    except RecursionError:
        raise Faulty((1, "is nested too deeply")) from None


def _refused(event: yaml.Event) -> str | None:
    if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
        return "anchors and aliases are not taken: write it out"
    return "tags (!…) are not taken" if getattr(event, "tag", None) else None


def _value(node: yaml.Node, path: str, faults: list[tuple[int, str]]) -> Any:
    line = node.start_mark.line + 1
    if isinstance(node, yaml.SequenceNode):
        return [_value(item, f"{path}[{i}]", faults) for i, item in enumerate(node.value)]
    if isinstance(node, yaml.MappingNode):
        out: dict[str, Any] = {}
        for key, value in node.value:
            scalar = isinstance(key, yaml.ScalarNode)
            below = f"{path}.{ascii(key.value)[1:-1][:40] if scalar else '?'}".lstrip(".")
            if not scalar or (key.style is None and key.tag != f"{_TAG}str"):
                faults.append((key.start_mark.line + 1, f"{below}: is no text in YAML: put the key in quotes"))
            elif key.value in out:
                faults.append((key.start_mark.line + 1, f"{below}: stands twice"))
            else:
                out[key.value] = _value(value, below, faults)
        return out
    if not isinstance(node, yaml.ScalarNode) or node.style is not None or node.tag == f"{_TAG}str":
        return node.value
    kind = node.tag.removeprefix(_TAG)
    if kind in _PLAIN and _PLAIN[kind].fullmatch(node.value):
        return _READ[kind](node.value)
    where = f"{path}: " if path else ""
    if kind == "null":
        faults.append((line, f"{where}has no value: leave it out"))
    else:
        faults.append((line, f"{where}{ascii(node.value)[1:-1][:40]} is no text in YAML: put it in quotes"))
    return None
