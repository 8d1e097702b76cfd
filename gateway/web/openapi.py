"""OpenAPI 3.1 documents, made of what decodes the messages: a dataclass's own fields say what it accepts.

Nothing is said twice, so nothing can drift: patterns, lengths and ranges are those of `wire.strict`, statuses and codes
those of `wire.problems`. OpenAPI Specification 3.1.1; its schemas are JSON Schema 2020-12.
"""

import dataclasses
import re
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.wire.problems import MEDIA_TYPE, PROBLEMS, URN

JSON = "application/json"
LONGEST_TEXT = 256  # of `wire.strict.text`, where a field says nothing else

# What every route can answer, and every route that asks for a certificate of an instance: docs/api.md.
ANY = (
    "malformed_request", "method_not_allowed", "request_timeout", "misdirected_request", "head_too_large",
    "body_too_large", "unsupported_media_type", "not_implemented", "internal_error", "overloaded", "draining",
    "store_unavailable", "clock_untrusted", "audit_behind",
)  # fmt: skip
IDENTIFIED = (
    "certificate_required", "certificate_unknown", "certificate_expired", "certificate_superseded", "instance_revoked",
)  # fmt: skip

PATH_SEGMENT = r"^[A-Za-z0-9_~-][A-Za-z0-9._~-]*$"
"""What a variable of a path may be in a request that gets as far as its route: it needs no decoding (web.server.head).

Some routes take several such segments with slashes between them. OpenAPI has no way to write that.
"""


@dataclass(frozen=True, slots=True)
class Header:
    """A header field that a route reads or gives, and the form of its value."""

    name: str
    does: str
    pattern: str


RETRY_AFTER = Header("Retry-After", "Seconds to wait", "[0-9]+")


@dataclass(frozen=True, slots=True)
class Route:
    """One route: `asks`, `query` and `answers` are dataclasses of `wire.strict` fields, `text` the media type of an
    answer that is none. Variables of the path stand in braces. `asks` may be `dict`: any object.

    `codes` are the problems that it has beside those of ANY and, where it asks for a `certificate`, of `identified`.
    `sends` and `gives` are header fields. `accepts` is another answer, of status 202, `drops` one of 200. `permission`:
    what it takes.
    """

    method: str
    path: str
    does: str
    asks: type | None = None
    answers: type | None = None
    text: str | None = None
    status: int = 200
    certificate: bool = False
    codes: tuple[str, ...] = ()
    query: type | None = None
    identified: tuple[str, ...] = IDENTIFIED
    sends: tuple[Header, ...] = ()
    gives: tuple[Header, ...] = ()
    accepts: type | None = None
    drops: type | None = None
    permission: str | None = None


class Schemas(dict[str, Any]):
    """The schemas of a document by their names; `of` is what each was made of."""

    def __init__(self, **given: Any) -> None:
        super().__init__(given)
        self.of: dict[str, type] = {}


def document(title: str, version: str, routes: Iterable[Route]) -> dict[str, Any]:
    """The OpenAPI document of these routes."""
    schemas = Schemas(Problem=_problem_schema())
    paths: dict[str, Any] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, schemas)
    return {
        "openapi": "3.1.1",
        "info": {"title": title, "version": version},
        "paths": paths,
        "components": {"schemas": schemas, "securitySchemes": {"certificate": {"type": "mutualTLS"}}},
    }


def _operation(route: Route, schemas: Schemas) -> dict[str, Any]:
    codes = tuple(dict.fromkeys((*ANY, *(route.identified if route.certificate else ()), *route.codes)))
    name = re.sub(r"[{}]", "", route.path.strip("/")).replace("/", "_").replace(".", "_")
    found: dict[str, Any] = {
        "operationId": f"{route.method.lower()}_{name}",
        "summary": route.does,
        "security": [{"certificate": []}] if route.certificate else [],
        "responses": {str(route.status): _answer(route, schemas), **_problems(codes)},
    }
    if route.permission:
        found["x-permission"] = route.permission
    if route.accepts:
        found["responses"]["202"] = _response("Accepted, not done", JSON, schema_of(route.accepts, schemas))
    if route.drops:
        found["responses"]["200"] = _response("What to drop", JSON, schema_of(route.drops, schemas))
    if parameters := _parameters(route, schemas):
        found["parameters"] = parameters
    if route.asks:
        schema = {"type": "object"} if route.asks is dict else schema_of(route.asks, schemas)
        found["requestBody"] = {"required": True, "content": {JSON: {"schema": schema}}}
    return found


def _parameters(route: Route, schemas: Schemas) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "pattern": PATH_SEGMENT}}
        for name in re.findall(r"\{(\w+)\}", route.path)
    ]
    if route.query:
        hints = typing.get_type_hints(route.query)
        for each in dataclasses.fields(route.query):
            kind = _not_none(hints[each.name])
            required = _must_be_there(each)
            schema = _schema(kind, each.metadata, schemas)
            found.append({"name": each.name, "in": "query", "required": required, "schema": schema})
    for header in route.sends:
        schema = {"type": "string", "pattern": f"^(?:{header.pattern})$"}
        found.append({"name": header.name, "in": "header", "description": header.does, "schema": schema})
    return found


def _answer(route: Route, schemas: Schemas) -> dict[str, Any]:
    if route.answers:
        return _response("The answer", JSON, schema_of(route.answers, schemas), route.gives)
    if route.text:
        kind = "object" if route.text == JSON else "string"
        return _response("The answer", route.text, {"type": kind}, route.gives)
    return {"description": "Nothing more"}


def _problems(codes: Sequence[str]) -> dict[str, Any]:
    """A response for each status, with the codes that it can hold."""
    statuses = sorted({PROBLEMS[code].status for code in codes})
    return {
        str(status): _response(
            "; ".join(PROBLEMS[code].title for code in codes if PROBLEMS[code].status == status),
            MEDIA_TYPE,
            {
                "$ref": "#/components/schemas/Problem",
                "properties": {"code": {"enum": [code for code in codes if PROBLEMS[code].status == status]}},
            },
            (RETRY_AFTER,) if status in (409, 429, 503) else (),
        )
        for status in statuses
    }


def _response(
    description: str, media_type: str, schema: Mapping[str, Any], gives: Sequence[Header] = ()
) -> dict[str, Any]:
    found: dict[str, Any] = {"description": description, "content": {media_type: {"schema": schema}}}
    if gives:
        found["headers"] = {
            each.name: {"description": each.does, "schema": {"type": "string", "pattern": f"^(?:{each.pattern})$"}}
            for each in gives
        }
    return found


def _problem_schema() -> dict[str, Any]:
    """RFC 9457, with the members of `wire.problems.document`."""
    words = {"type": "string"}
    return {
        "type": "object",
        "properties": {
            "type": {"type": "string", "pattern": f"^{URN}[a-z_]+$"},
            "title": words, "status": {"type": "integer"}, "code": {"type": "string", "enum": list(PROBLEMS)},
            "hint": words, "detail": words, "instance": {"type": "string", "pattern": "^urn:uuid:[0-9a-f-]{36}$"},
            "faults": {"type": "array", "items": words},
        },
        "required": ["type", "title", "status", "code", "hint", "instance"],
        "additionalProperties": False,
    }  # fmt: skip


# From dataclasses to schemas


def schema_of(cls: Any, schemas: Schemas) -> dict[str, Any]:
    """A reference to the schema of a wire message, which is put into `schemas` under its name.

    Raises TypeError when another has that name: one of the two would be described as the other.
    """
    if cls.__name__ in schemas and schemas.of.get(cls.__name__) is not cls:
        raise TypeError(f"two schemas of the name {cls.__name__}")
    if cls.__name__ not in schemas:
        schemas.of[cls.__name__] = cls
        hints = typing.get_type_hints(cls)
        fields = dataclasses.fields(cls)
        schemas[cls.__name__] = {
            "type": "object",
            "description": (cls.__doc__ or "").strip(),
            "properties": {field.name: _schema(hints[field.name], field.metadata, schemas) for field in fields},
            "required": [field.name for field in fields if _must_be_there(field)],
            "additionalProperties": False,
        }
    return {"$ref": f"#/components/schemas/{cls.__name__}"}


def _must_be_there(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _not_none(kind: Any) -> Any:
    if typing.get_origin(kind) not in (typing.Union, types.UnionType):
        return kind
    (inner,) = (each for each in typing.get_args(kind) if each is not type(None))
    return inner


def _schema(kind: Any, rules: Mapping[str, Any], schemas: Schemas) -> dict[str, Any]:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return {"anyOf": [_schema(_not_none(kind), rules, schemas), {"type": "null"}]}
    if dataclasses.is_dataclass(kind):
        return schema_of(kind, schemas)
    if origin is tuple:
        return {"type": "array", "items": _schema(arguments[0], rules, schemas)}
    if origin in (dict, Mapping):
        inner = {} if arguments[1] is Any else {"additionalProperties": _schema(arguments[1], rules, schemas)}
        return {"type": "object", **inner}
    if kind is str:
        pattern = rules.get("pattern")
        longest = {"type": "string", "maxLength": rules.get("longest", LONGEST_TEXT)}
        return {**longest, "pattern": f"^(?:{pattern})$"} if pattern else longest
    if kind is int:
        return {"type": "integer", **({"minimum": rules["low"], "maximum": rules["high"]} if rules else {})}
    if kind is bool:
        return {"type": "boolean"}
    if kind is float:
        return {"type": "number"}
    raise TypeError(f"no schema for {kind}")
