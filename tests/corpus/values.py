"""Input for an operation: the members that it demands, or all of them, with values that the wire leaves as they are."""

from typing import Any

from botocore.model import Shape

ACCOUNT = "111122223333"
BUCKET = "amzn-s3-demo-bucket"
KEY = "photos/2026/a b+c~(d)%é.txt"
DEEPEST = 4
"""Levels of members that may be left out; what is demanded is given at any depth."""


def parameters(shape: Shape | None, service: str, every: bool) -> dict[str, Any]:
    """Values for an operation's input."""
    return {} if shape is None else _Values(service, every).structure(shape, ())


class _Values:
    def __init__(self, service: str, every: bool) -> None:
        self._service = service
        self._every = every

    def structure(self, shape: Shape, above: tuple[str, ...]) -> dict[str, Any]:
        out = {}
        wanted = set(shape.required_members)
        if self._every and len(above) < DEEPEST and not getattr(shape, "is_tagged_union", False):
            wanted |= set(shape.members)
        if above and not wanted and shape.members:
            wanted = {next(iter(shape.members))}  # nothing in it would leave no trace of it on the wire
        for name in shape.members:
            if name in wanted and above.count(shape.name) < 2:
                out[name] = self._value(shape.members[name], name, (*above, shape.name))
        return out

    def _value(self, shape: Shape, name: str, above: tuple[str, ...]) -> Any:
        kind = shape.type_name
        if kind == "structure":
            if getattr(shape, "is_document_type", False):
                return {"a": "b"}
            return self.structure(shape, above)
        if kind == "list":
            length = max(1, shape.metadata.get("min", 1))
            return [self._value(shape.member, name, (*above, shape.name))] * length if len(above) < 40 else []
        if kind == "map":
            key = self._text(shape.key, "key")
            return {key: self._value(shape.value, name, (*above, shape.name))}
        if kind == "boolean":
            return True
        if kind in ("integer", "long"):
            return max(1, shape.metadata.get("min", 1))
        if kind in ("float", "double"):
            return float(max(1, shape.metadata.get("min", 1)))
        if kind == "timestamp":
            return "2026-01-02T03:04:05Z"
        if kind == "blob":
            return b"blob" * max(1, -(-shape.metadata.get("min", 1) // 4))
        return self._text(shape, name)

    def _text(self, shape: Shape, name: str) -> str:
        if "enum" in shape.metadata:
            return str(shape.metadata["enum"][0])
        low = name.lower()
        if shape.serialization.get("jsonvalue"):
            return "{}"
        if shape.serialization.get("hostLabel"):
            return ACCOUNT if low == "accountid" else "label-1"
        if self._service in ("s3", "s3control") and name in ("Bucket", "Key"):
            return BUCKET if name == "Bucket" else KEY
        if self._service == "s3" and name == "CopySource":
            return f"{BUCKET}/{KEY}"
        if low in ("spaceid", "predictendpoint"):
            return "label-1" if low == "spaceid" else "https://realtime.machinelearning.us-east-1.amazonaws.com"
        if low == "accountid":
            return ACCOUNT
        if low.endswith("arn"):
            kind = low.removesuffix("arn") if self._service == "kinesis" and low != "resourcearn" else "stream"
            return f"arn:aws:{self._service}:us-east-1:{ACCOUNT}:{kind}/a-name-1"
        text = "a-Value.1_~"
        least: int = shape.metadata.get("min", 1)
        return text + "x" * max(0, least - len(text))
