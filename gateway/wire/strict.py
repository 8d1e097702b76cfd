"""Strict JSON, and strict decoding of plain values into frozen dataclasses.

Python's own parser lets pass what two readers understand differently: duplicate keys, NaN, unknown fields, true for 1.
Every message that crosses the wire, and every settings file, comes in by `decode`, which names all faults at once.
"""

import dataclasses
import json
import math
import re
import types
import typing
from collections.abc import Mapping
from typing import Any, NoReturn, TypeVar

T = TypeVar("T")


class Malformed(ValueError):
    """The input does not have the form it must have. `faults` names each one, as `path: what is wrong`."""

    def __init__(self, *faults: str) -> None:
        super().__init__("; ".join(faults))
        self.faults = faults


def loads(raw: bytes) -> Any:
    """Parse JSON (RFC 8259) from UTF-8 bytes; refuse duplicate keys, NaN, Infinity and absurd nesting.

    Raises Malformed.
    """
    try:
        return json.loads(
            raw.decode("utf-8"),
            object_pairs_hook=_without_duplicates,
            parse_constant=_no_constant,
            parse_float=_finite,
        )
    except Malformed:
        raise
    except RecursionError:
        raise Malformed("body: nested too deeply") from None
    except ValueError:  # also UnicodeDecodeError; its text could quote the input, so it is not passed on
        raise Malformed("body: not JSON in UTF-8") from None


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out = dict(pairs)
    if len(out) != len(pairs):
        raise Malformed("body: a key stands twice in one object")
    return out


def _finite(written: str) -> float:
    if math.isinf(number := float(written)):
        raise Malformed("body: a number is too large")
    return number


def _no_constant(_: str) -> NoReturn:
    raise Malformed("body: NaN and Infinity are not JSON")


def text(*, pattern: str | None = None, longest: int = 256, default: Any = dataclasses.MISSING) -> Any:
    """A dataclass field: a string (or a tuple of them), matched in full by `pattern`, of at most `longest` letters."""
    return dataclasses.field(default=default, metadata={"pattern": pattern, "longest": longest})


def nested() -> Any:
    """A dataclass field: another dataclass, which must be there."""
    return dataclasses.field()


def integer(*, low: int, high: int, default: Any = dataclasses.MISSING) -> Any:
    """A dataclass field: an integer (never a boolean) from `low` to `high`, both included."""
    return dataclasses.field(default=default, metadata={"low": low, "high": high})


def decode(cls: type[T], value: object) -> T:
    """Make a `cls` (a dataclass) of a parsed JSON or TOML value.

    Types are exact, unknown and missing fields are faults, and all faults are told at once. Raises Malformed.
    """
    faults: list[str] = []
    out = _decode(cls, value, "", faults, {})
    if faults:
        raise Malformed(*faults)
    return typing.cast(T, out)


def _decode(kind: Any, value: object, path: str, faults: list[str], rules: Mapping[str, Any]) -> Any:
    def fault(what: str) -> None:
        faults.append(f"{path or 'body'}: {what}")

    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        (kind,) = (a for a in arguments if a is not type(None))
        return _decode(kind, value, path, faults, rules)
    if dataclasses.is_dataclass(kind):
        return _decode_dataclass(kind, value, path, faults)
    if origin is tuple:
        if not isinstance(value, list):
            return fault("must be a list")
        return tuple(_decode(arguments[0], item, f"{path}[{i}]", faults, rules) for i, item in enumerate(value))
    if origin in (dict, Mapping):
        if not isinstance(value, dict):
            return fault("must be an object")
        return {key: _decode(arguments[1], item, f"{path}.{key}", faults, rules) for key, item in value.items()}
    if kind is Any:
        return value
    if type(value) is not kind:
        return fault(f"must be {_WORDS[kind]}")
    if isinstance(value, str):
        if len(value) > rules.get("longest", 256):
            return fault("is too long")
        if (pattern := rules.get("pattern")) and not re.fullmatch(pattern, value):
            return fault("does not have the required form")
    if isinstance(value, int) and "low" in rules and not rules["low"] <= value <= rules["high"]:
        return fault(f"must be from {rules['low']} to {rules['high']}")
    return value


_WORDS = {str: "a string", int: "an integer", bool: "true or false", dict: "an object", list: "a list"}


def _decode_dataclass(cls: Any, value: object, path: str, faults: list[str]) -> Any:
    if not isinstance(value, dict):
        faults.append(f"{path or 'body'}: must be an object")
        return None
    hints = typing.get_type_hints(cls)
    arguments: dict[str, Any] = {}
    before = len(faults)
    for field in dataclasses.fields(cls):
        where = f"{path}.{field.name}" if path else field.name
        if field.name in value:
            arguments[field.name] = _decode(hints[field.name], value[field.name], where, faults, field.metadata)
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            faults.append(f"{where}: is missing")
    known = {field.name for field in dataclasses.fields(cls)}
    for key in value:
        if key not in known:
            # A key is the sender's text: shown escaped and cut, since faults reach terminals and logs.
            faults.append(f"{(path + '.') if path else ''}{ascii(key)[1:-1][:40]}: is not known here")
    return cls(**arguments) if len(faults) == before else None
