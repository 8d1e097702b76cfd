"""From botocore's `service-2.json` to the plain value that `ServiceModel.of` reads: requests only, and no prose.

What is kept follows botocore's serializers (botocore/serialize.py), which are what the SDK sends.
"""

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import unquote

from gateway.core.actions.service import GREEDY, LABEL, LITERAL, PROTOCOLS, QUERY

FORM: Final = 2
"""The version of the plain value: a cache that holds another is not read."""


def compiled(name: str, model: Mapping[str, Any]) -> dict[str, Any]:
    """The plain value of the service that botocore calls `name`. Raises LookupError for what is no model."""
    metadata = model["metadata"]
    shapes = _Shapes(model["shapes"])
    operations = sorted(model["operations"].items())
    return {
        "name": name,
        "signing_name": signing_name(metadata),
        "endpoint_prefix": metadata["endpointPrefix"],
        "protocols": _protocols(metadata),
        "version": metadata["apiVersion"],
        "target_prefix": metadata.get("targetPrefix", ""),
        "operations": [_operation(key, row, shapes, model["shapes"]) for key, row in operations],
        "shapes": shapes.rows,
    }


def _protocols(metadata: Mapping[str, Any]) -> list[str]:
    """What the model lists; and for a service that has come from the query protocol, that: older SDKs go on with it."""
    listed = [each for each in metadata.get("protocols", [metadata["protocol"]]) if each in PROTOCOLS]
    return [*listed, QUERY] if "awsQueryCompatible" in metadata and QUERY not in listed else listed


def signing_name(metadata: Mapping[str, Any]) -> str:
    """The name in the credential scope of what an SDK signs."""
    return str(metadata.get("signingName", metadata["endpointPrefix"]))


def _operation(name: str, row: Mapping[str, Any], shapes: "_Shapes", raw: Mapping[str, Any]) -> list[Any]:
    path, _, query = row["http"]["requestUri"].partition("?")
    static = [part.partition("=") for part in query.split("&") if part]
    shape = row["input"]["shape"] if "input" in row else None
    return [
        name,
        row["http"]["method"],
        [_segment(text) for text in path.strip("/").split("/")] if path.strip("/") else [],
        [[unquote(key), unquote(value)] for key, _, value in static],
        None if shape is None else shapes.index(row["input"]),
        None if shape is None else raw[shape].get("payload"),
        row.get("endpoint", {}).get("hostPrefix", ""),
        bool(row.get("deprecated")),
        path.endswith("/"),
    ]


def _segment(text: str) -> list[Any]:
    if not text.startswith("{"):
        return [LITERAL, text]
    return [GREEDY, text[1:-2]] if text.endswith("+}") else [LABEL, text[1:-1]]


class _Shapes:
    """The shapes that inputs reach, numbered as they are met. A reference may flatten its own."""

    def __init__(self, raw: Mapping[str, Any]) -> None:
        self._raw = raw
        self._numbers: dict[tuple[str, bool], int] = {}
        self.rows: list[Any] = []

    def index(self, reference: Mapping[str, Any]) -> int:
        name = reference["shape"]
        shape = self._raw[name]
        flattened = bool(reference.get("flattened", shape.get("flattened")))
        if (number := self._numbers.get((name, flattened))) is not None:
            return number
        number = self._numbers[name, flattened] = len(self.rows)
        self.rows.append(shape["type"])  # its place is taken before its parts are, which may lead back here
        self.rows[number] = self._row(shape, flattened)
        return number

    def _row(self, shape: Mapping[str, Any], flattened: bool) -> Any:
        kind = shape["type"]
        if shape.get("eventstream"):
            return "stream"
        if shape.get("document"):
            return "document"
        if kind == "structure":
            required = shape.get("required", ())
            return [kind, [self._member(name, each, name in required) for name, each in shape["members"].items()]]
        if kind == "list":
            item = shape["member"]
            wire = self._wire(item)
            # Flattened items are named as the list is, unless they have a name of their own.
            return [kind, self.index(item), wire or ("" if flattened else "member"), flattened]
        if kind == "map":
            names = self._wire(shape["key"]) or "key", self._wire(shape["value"]) or "value"
            return [kind, self.index(shape["value"]), *names, flattened]
        return kind

    def _member(self, name: str, row: Mapping[str, Any], required: bool) -> list[Any]:
        wire = self._wire(row)
        return [
            name,
            self.index(row),
            row.get("location", ""),
            wire or name,
            row.get("queryName") or (wire[0].upper() + wire[1:] if wire else name),
            required,
            bool(row.get("xmlAttribute")),
            bool(row.get("hostLabel")),
        ]

    def _wire(self, reference: Mapping[str, Any]) -> str | None:
        name = reference.get("locationName", self._raw[reference["shape"]].get("locationName"))
        return None if name is None else str(name)
