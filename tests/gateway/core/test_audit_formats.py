"""Records in other people's words: against what was written down, and against the published schemas."""

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import jsonschema_rs
import pytest

from gateway.core.audit import Event, Kind, Name, append, digest
from gateway.core.audit_formats import Format, ecs, ocsf, outgoing, written
from tests.vectors import audit_formats as vectors
from tests.vectors.audit_formats import PLACE

KEPT = json.loads(PLACE.read_text())
OCSF = json.loads(PLACE.with_name("ocsf.json").read_text())

# ECS 8.17, elastic.co/docs/reference/ecs: the fields that we use, with their types; the types that go with a category.
ECS_FIELDS = {
    "@timestamp": "date", "ecs.version": "keyword", "message": "text", "event.kind": "keyword",
    "event.category": "keywords", "event.type": "keywords", "event.action": "keyword", "event.outcome": "keyword",
    "event.reason": "keyword", "event.id": "keyword", "event.hash": "keyword", "event.sequence": "long",
    "event.original": "keyword", "event.module": "keyword", "event.dataset": "keyword", "event.provider": "keyword",
    "http.request.id": "keyword", "service.type": "keyword", "service.node.name": "keyword",
    "source.address": "keyword", "source.ip": "ip", "user.id": "keyword", "user.name": "keyword",
    "user.target.id": "keyword", "user.target.name": "keyword", "related.ip": "keywords", "related.user": "keywords",
    "error.code": "keyword",
}  # fmt: skip
ECS_TYPES = {
    "api": "access admin allowed change creation deletion denied end info start user",
    "iam": "admin change creation deletion group info user",
    "configuration": "access change creation deletion info",
    "session": "start end info",
}
ECS_KINDS = {"alert", "asset", "enrichment", "event", "metric", "state", "pipeline_error", "signal"}


def test_they_are_as_they_were_written_down() -> None:
    """A change here is one that every reader of an export sees: write the vectors anew only when it is meant."""
    assert vectors.vectors() == KEPT


def every_event() -> Iterator[tuple[str, str]]:
    """A record of every event, of every kind, allowed and refused, with as much and as little in it as there may be."""
    head = None
    for name in Name:
        for kind in Kind:
            for full in (True, False):
                known = ("spiffe://td/operator/alice", "thing/x", "::1") if full else (None, None, None)
                event = Event(kind, name, full, "ok", "an id", *known)
                record = append(head, "node-1.cli", event, datetime(2030, 1, 1, tzinfo=UTC))
                yield record.line, record.hash


@pytest.fixture(scope="module")
def validators() -> Mapping[int, jsonschema_rs.Draft202012Validator]:
    return {
        int(uid): jsonschema_rs.Draft202012Validator({**schema, "$defs": OCSF["$defs"]})
        for uid, schema in OCSF["classes"].items()
    }


def test_ocsf_of_every_event_is_valid(validators: Mapping[int, jsonschema_rs.Draft202012Validator]) -> None:
    seen = set()
    for line, hash_ in [*every_event(), *((each["line"], each["hash"]) for each in KEPT)]:
        document = ocsf(line, hash_)
        validators[document["class_uid"]].validate(document)
        assert document["type_uid"] == document["class_uid"] * 100 + document["activity_id"]
        seen.add(document["class_uid"])
    assert seen == set(validators), "every class of the table is used"


@pytest.mark.parametrize("lacks", ["actor", "api", "src_endpoint", "metadata", "time"])
def test_the_schema_notices_what_is_missing(
    lacks: str, validators: Mapping[int, jsonschema_rs.Draft202012Validator]
) -> None:
    """The control."""
    document = next(each["ocsf"] for each in KEPT if each["ocsf"]["class_uid"] == 6003)
    assert validators[6003].is_valid(document)
    assert not validators[6003].is_valid({key: value for key, value in document.items() if key != lacks})
    assert not validators[6003].is_valid({**document, "invented": 1})


def test_ecs_of_every_event_has_fields_and_values_that_ecs_knows() -> None:
    for line, hash_ in [*every_event(), *((each["line"], each["hash"]) for each in KEPT)]:
        document = ecs(line, hash_)
        own = document.pop("trusted_gateway")
        assert set(own) == {"kind", "object", "facts"}
        flat = dict(_flat(document))
        assert set(flat) <= set(ECS_FIELDS)
        for field, value in flat.items():
            wanted = {"long": int, "keywords": list}.get(ECS_FIELDS[field], str)
            assert type(value) is wanted, field
        allowed = {word for each in flat["event.category"] for word in ECS_TYPES[each].split()}
        assert set(flat["event.type"]) <= allowed, (flat["event.action"], flat["event.type"])
        assert flat["event.kind"] in ECS_KINDS


def _flat(document: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in document.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


@pytest.mark.parametrize("form", list(Format))
def test_C17_a_record_is_one_line_and_the_original_comes_back_byte_by_byte(form: Format) -> None:
    for each in KEPT:
        text = written(each["line"], each["hash"], form)
        assert text.isascii()
        assert text.isprintable(), "no line end, no escape sequence"
        if form is Format.RAW:
            hash_, _, line = text.partition(" ")
        else:
            found = json.loads(text)
            line = found["raw_data"] if form is Format.OCSF else found["event"]["original"]
            hash_ = found["raw_data_hash"]["value"] if form is Format.OCSF else found["event"]["hash"]
        assert (line, hash_) == (each["line"], each["hash"])
        assert digest(line) == hash_


def test_what_goes_out_says_where_it_stood() -> None:
    each = KEPT[4]
    out = outgoing(("node-1.worker-0", 5, each["line"], each["hash"]), Format.RAW)
    assert (out.chain, out.seq, out.name, out.allowed) == ("node-1.worker-0", 5, "instance:request:refuse", False)
    assert out.at == vectors.AT


GOOD = next(every_event())[0]
ODD = (
    "nonsense",
    "",
    "[]",
    "{}",
    "9" * 5000,
    "[" * 100_000,
    "{\n}",
    "caf\u00e9 \ud800",
    GOOD.replace('"allowed":true', '"allowed":1'),
    GOOD.replace('"facts":{}', '"facts":[]'),
    GOOD.replace('"at":"2030-01-01T00:00:00.000000+00:00"', '"at":"2030-01-01T00:00:00"'),
    GOOD.replace('"name":"', '"name":"x'),
    GOOD.replace('"source":"::1"', '"source":{}'),
    GOOD.replace('"facts":{}', '"facts":{"count":NaN}'),
    GOOD.replace('"facts":{}', '"facts":{"count":[{"most":1e999}]}'),
    GOOD.replace('"at":"2030-01-01T00:00:00.000000+00:00"', '"at":"0001-01-01T00:00:00.000000+14:00"'),
    GOOD.replace('"at":"2030-01-01T00:00:00.000000+00:00"', '"at":"9999-12-31T23:59:59.000000-14:00"'),
)


@pytest.mark.threat("I04")
@pytest.mark.parametrize("line", ODD, ids=range(len(ODD)))
def test_I04_what_is_no_record_goes_out_as_an_alarm_and_holds_up_nothing(
    line: str, validators: Mapping[int, jsonschema_rs.Draft202012Validator]
) -> None:
    assert line != GOOD
    for form in Format:
        text = outgoing(("node-1.cli", 7, line, "0" * 64), form).text
        assert text.isascii()
        assert len(text.splitlines()) == 1, "it cannot pass for two"
        if form is not Format.RAW:
            document = json.loads(text)
            assert line in (document.get("raw_data"), document.get("event", {}).get("original"))
    document = ocsf(line, "0" * 64)
    assert (document["class_uid"], document["severity_id"], document["is_alert"]) == (2004, 4, True)
    validators[2004].validate({**document, "raw_data": "x"})
    assert ecs(line, "0" * 64)["event"]["kind"] == "alert"
