"""The schemas of a document: one for each message, and two of the same name are a mistake that is told."""

from dataclasses import dataclass, make_dataclass

import pytest

from gateway.web.openapi import Route, Schemas, document, schema_of


@dataclass(frozen=True, slots=True)
class Cutting:
    """A message."""

    dry_run: bool = False


def test_a_message_has_one_schema_however_often_it_is_named() -> None:
    schemas = Schemas()
    assert schema_of(Cutting, schemas) == schema_of(Cutting, schemas) == {"$ref": "#/components/schemas/Cutting"}
    assert list(schemas) == ["Cutting"]


def test_two_messages_of_one_name_are_refused() -> None:
    other = make_dataclass("Cutting", [("reason", str)])
    with pytest.raises(TypeError, match="two schemas of the name Cutting"):
        document("t", "1", [Route("GET", f"/{each.__name__}", "", answers=each) for each in (Cutting, other)])
    with pytest.raises(TypeError, match="two schemas of the name Problem"):
        document("t", "1", [Route("GET", "/", "", answers=make_dataclass("Problem", [("code", str)]))])
