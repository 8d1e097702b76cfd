"""OpenAPI 3.1 documents, made of what decodes the messages: a dataclass's own fields say what it accepts.

Nothing is said twice, so nothing can drift: patterns, lengths and ranges are those of `wire.strict`, statuses and codes
those of `wire.problems`. OpenAPI Specification 3.1.1; its schemas are JSON Schema 2020-12.
"""

import dataclasses
import json
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
    "store_unavailable", "clock_untrusted",
)  # fmt: skip
IDENTIFIED = (
    "certificate_required", "certificate_unknown", "certificate_expired", "certificate_superseded", "instance_revoked",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Route:
    """One route: `asks` and `answers` are wire messages, `text` the media type of an answer that is none.

    `codes` are the problems that it has beside those of ANY and, where it asks for a `certificate`, of IDENTIFIED.
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


def document(title: str, version: str, routes: Iterable[Route]) -> bytes:
    """The OpenAPI document of these routes, as JSON."""
    schemas: dict[str, Any] = {"Problem": _problem_schema()}
    paths: dict[str, Any] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, schemas)
    described = {
        "openapi": "3.1.1",
        "info": {"title": title, "version": version},
        "paths": paths,
        "components": {"schemas": schemas, "securitySchemes": {"certificate": {"type": "mutualTLS"}}},
    }
    return json.dumps(described, separators=(",", ":")).encode()


def _operation(route: Route, schemas: dict[str, Any]) -> dict[str, Any]:
    codes = (*ANY, *(IDENTIFIED if route.certificate else ()), *route.codes)
    found: dict[str, Any] = {
        "operationId": f"{route.method.lower()}_{route.path.strip('/').replace('/', '_').replace('.', '_')}",
        "summary": route.does,
        "security": [{"certificate": []}] if route.certificate else [],
        "responses": {str(route.status): _answer(route, schemas), **_problems(codes)},
    }
    if route.asks:
        content = {JSON: {"schema": schema_of(route.asks, schemas)}}
        found["requestBody"] = {"required": True, "content": content}
    return found


def _answer(route: Route, schemas: dict[str, Any]) -> dict[str, Any]:
    if route.answers:
        return _response("The answer", JSON, schema_of(route.answers, schemas))
    if route.text:
        return _response("The answer", route.text, {"type": "object" if route.text == JSON else "string"})
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
        )
        for status in statuses
    }


def _response(description: str, media_type: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {media_type: {"schema": schema}}}


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


def schema_of(cls: Any, schemas: dict[str, Any]) -> dict[str, Any]:
    """A reference to the schema of a wire message, which is put into `schemas` under its name."""
    if cls.__name__ not in schemas:
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


def _schema(kind: Any, rules: Mapping[str, Any], schemas: dict[str, Any]) -> dict[str, Any]:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        (inner,) = (each for each in arguments if each is not type(None))
        return {"anyOf": [_schema(inner, rules, schemas), {"type": "null"}]}
    if dataclasses.is_dataclass(kind):
        return schema_of(kind, schemas)
    if origin is tuple:
        return {"type": "array", "items": _schema(arguments[0], rules, schemas)}
    if kind is str:
        pattern = rules.get("pattern")
        longest = {"type": "string", "maxLength": rules.get("longest", LONGEST_TEXT)}
        return {**longest, "pattern": f"^(?:{pattern})$"} if pattern else longest
    if kind is int:
        return {"type": "integer", "minimum": rules["low"], "maximum": rules["high"]}
    if kind is bool:
        return {"type": "boolean"}
    raise TypeError(f"no schema for {kind}")
