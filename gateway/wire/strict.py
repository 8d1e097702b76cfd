"""Strict JSON, and strict decoding of plain values into frozen dataclasses.

Python's own parser lets pass what two readers understand differently: duplicate keys, NaN, unknown fields, true for 1.
Every message that crosses the wire, and every settings file, comes in by `decode`, which names all faults at once.
"""

import dataclasses
import functools
import json
import math
import re
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, TypeVar

T = TypeVar("T")


class Malformed(ValueError):
    """The input does not have the form it must have. `faults` names each one, as `path: what is wrong`."""

    def __init__(self, *faults: str) -> None:
        super().__init__("; ".join(faults))
        self.faults = faults


def loads(raw: bytes) -> Any:
    """Parse JSON (RFC 8259) from UTF-8 bytes; refuse duplicate keys, NaN, Infinity, half characters (its section 8.2)
    and absurd nesting.

    Raises Malformed.
    """
    try:
        found = json.loads(
            raw.decode("utf-8"),
            object_pairs_hook=_without_duplicates,
            parse_constant=_no_constant,
            parse_float=_finite,
        )
        if b"\\ud" in raw.lower():  # the one way to write what cannot be written in UTF-8
            json.dumps(found, ensure_ascii=False).encode()
        return found
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
    out = _of_dataclass(cls)(value, "", faults)
    if faults:
        raise Malformed(*faults)
    return typing.cast(T, out)


# Types are looked at once, and become functions: of a value, where it stands, and the faults so far (which are added
# to), to the value as its type has it. With faults, what comes back means nothing.
Decoder = Callable[[object, str, list[str]], Any]
_WORDS = {str: "a string", int: "an integer", bool: "true or false", dict: "an object", list: "a list"}


def _decoder(kind: Any, rules: Mapping[str, Any]) -> Decoder:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        (inner,) = (a for a in arguments if a is not type(None))
        return _or_none(_decoder(inner, rules)) if type(None) in arguments else _decoder(inner, rules)
    if dataclasses.is_dataclass(kind):
        return _of_dataclass(kind)
    if origin is tuple:
        return _list(_decoder(arguments[0], rules))
    if origin in (dict, Mapping):
        return _object(_decoder(arguments[1], rules))
    if kind is Any:
        return lambda value, path, faults: value
    return _plain(kind, rules)


def _or_none(inner: Decoder) -> Decoder:
    return lambda value, path, faults: None if value is None else inner(value, path, faults)


def _list(inner: Decoder) -> Decoder:
    def decode(value: object, path: str, faults: list[str]) -> Any:
        if isinstance(value, list):
            return tuple([inner(item, f"{path}[{i}]", faults) for i, item in enumerate(value)])
        return faults.append(f"{path}: must be a list")

    return decode


def _object(inner: Decoder) -> Decoder:
    def decode(value: object, path: str, faults: list[str]) -> Any:
        if isinstance(value, dict):
            return {key: inner(item, f"{path}.{key}", faults) for key, item in value.items()}
        return faults.append(f"{path}: must be an object")

    return decode


def _plain(kind: Any, rules: Mapping[str, Any]) -> Decoder:
    """A string, a number or a boolean, or a list or an object whose insides are looked at elsewhere."""
    longest, ranged = rules.get("longest", 256), kind is int and "low" in rules
    form = re.compile(rules["pattern"]).fullmatch if kind is str and rules.get("pattern") else None

    def decode(value: Any, path: str, faults: list[str]) -> Any:
        if type(value) is not kind:
            return faults.append(f"{path}: must be {_WORDS[kind]}")
        if kind is str:
            if len(value) > longest:
                return faults.append(f"{path}: is too long")
            if form is not None and not form(value):
                return faults.append(f"{path}: does not have the required form")
        elif ranged and not rules["low"] <= value <= rules["high"]:
            return faults.append(f"{path}: must be from {rules['low']} to {rules['high']}")
        return value

    return decode


def _dataclass(cls: Any) -> Decoder:
    hints, fields = typing.get_type_hints(cls), dataclasses.fields(cls)
    decoders = {field.name: _decoder(hints[field.name], field.metadata) for field in fields}
    optional = {
        field.name
        for field in fields
        if field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING
    }

    def decode(value: object, path: str, faults: list[str]) -> Any:
        if not isinstance(value, dict):
            return faults.append(f"{path or 'body'}: must be an object")
        inside, before = f"{path}." if path else "", len(faults)
        arguments = {}
        for name, decoder in decoders.items():
            if name in value:
                arguments[name] = decoder(value[name], inside + name, faults)
            elif name not in optional:
                faults.append(f"{inside}{name}: is missing")
        if len(arguments) < len(value):
            # A key is the sender's text: shown escaped and cut, since faults reach terminals and logs.
            unknown = [ascii(key)[1:-1][:40] for key in value if key not in decoders]
            faults += [f"{inside}{key}: is not known here" for key in unknown]
        return cls(**arguments) if len(faults) == before else None

    return decode


_of_dataclass: Callable[[Any], Decoder] = functools.cache(_dataclass)
