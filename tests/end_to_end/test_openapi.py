"""The OpenAPI document says what the gateway does: compared with its routes, and held against it by schemathesis."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from deploy.demo import REPOSITORY
from deploy.demo.visitor import Visitor
from gateway.web.openapi import ANY, IDENTIFIED
from gateway.web.server.head import METHODS
from tests.end_to_end.bad_input import ROUTES, Route, rows
from tests.end_to_end.held import held_to_it
from tests.end_to_end.rough import Rough, rough_fixture  # noqa: F401  # a fixture
from tests.end_to_end.world import GRANT, OTHER_GRANT

# Doors that speak the language of others, and the one that streams: their own pages describe them.
FOREIGN = re.compile(r"/sessions|/v1/calls|/v1/(auth|aws|sys)/.*")
NATIVE = [route for route in ROUTES if route.listener == "instance" and not FOREIGN.fullmatch(route.rule)]


@pytest.fixture
def document(rough: Rough) -> dict[str, Any]:
    """As anyone gets it: without a certificate."""
    answer = rough.world.visitor().call("GET", "/v1/openapi.json")
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    found: dict[str, Any] = answer.body
    return found


def operations(document: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    """By method and path."""
    return {
        (method.upper(), path): operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }


def codes(operation: dict[str, Any]) -> dict[str, set[str]]:
    """The problem codes of an operation, by status."""
    return {
        status: set(response["content"]["application/problem+json"]["schema"]["properties"]["code"]["enum"])
        for status, response in operation["responses"].items()
        if status >= "400"
    }


def test_every_native_route_is_described_and_no_other(document: dict[str, Any]) -> None:
    """`ROUTES` is all that the applications and the event loop have: test_bad_input holds it to them."""
    assert operations(document).keys() == {(route.method, route.rule) for route in NATIVE}
    assert document["openapi"].startswith("3.1.")


def test_it_says_which_routes_ask_for_a_certificate(document: dict[str, Any]) -> None:
    for route in NATIVE:
        operation = operations(document)[route.method, route.rule]
        assert operation["security"] == ([{"certificate": []}] if route.caller else [])
        assert ("401" in operation["responses"]) is bool(route.caller) or route.rule == "/v1/enroll"
    assert document["components"]["securitySchemes"] == {"certificate": {"type": "mutualTLS"}}


@pytest.mark.parametrize("route", NATIVE, ids=lambda route: f"{route.method} {route.rule}")
def test_the_answers_of_the_table_of_bad_input_are_described(document: dict[str, Any], route: Route) -> None:
    described = codes(operations(document)[route.method, route.rule])
    for row in rows(route):
        status, code = row.answer.split()
        if code != "not_found":  # that is another path
            assert code in described[status], row.fault


def test_the_page_names_the_same_codes(document: dict[str, Any]) -> None:
    page = (REPOSITORY / "docs" / "api.md").read_text().partition("## Instance listener")[2].partition("\n## ")[0]
    sections = {title: text for title, _, text in (each.partition("\n") for each in page.split("\n### "))}
    for (method, path), operation in operations(document).items():
        said = re.search(r"(?s)Answers also (.*?)\.(?:\s|$)", sections[f"`{method} {path}`"])
        written = set(re.findall(r"`(\w+)`", said[1])) if said else set()
        found = {code for every in codes(operation).values() for code in every}
        general = {*ANY, *(IDENTIFIED if operation["security"] else ())}
        assert found - general == written - general, path
    words = set(
        re.findall(r"`(\w+)`", (REPOSITORY / "docs" / "api.md").read_text().partition("## Instance listener")[0])
    )
    assert {*ANY, *IDENTIFIED} <= words


def test_what_a_message_demands_is_what_its_schema_says(document: dict[str, Any]) -> None:
    asked = document["components"]["schemas"]["CredentialsRequest"]
    assert asked["required"] == ["grant"]
    assert asked["additionalProperties"] is False
    assert {"type": "integer", "minimum": 900, "maximum": 43200} in asked["properties"]["duration"]["anyOf"]
    for name, schema in document["components"]["schemas"].items():
        assert schema["type"] == "object", name
        assert schema["properties"], name


@pytest.mark.threat("C08")
@pytest.mark.parametrize("path", sorted({route.rule for route in NATIVE}))
def test_a_method_that_is_not_described_gets_405(rough: Rough, document: dict[str, Any], path: str) -> None:
    described = {method.upper() for method in document["paths"][path]}
    allowed = described | ({"HEAD"} if "GET" in described else set())
    visitor = rough.world.visitor()
    for method in sorted({*METHODS} - allowed):
        answer = visitor.call(method, path)
        assert answer.status == 405, method
        assert set(answer.headers["allow"].split(", ")) == allowed


def test_it_is_not_recorded(rough: Rough) -> None:
    before = len(rough.world.audit())
    visitor = rough.world.visitor()
    first, second = (visitor.call("GET", "/v1/openapi.json") for _ in range(2))
    assert first.body == second.body
    assert len(rough.world.audit()) == before
    assert visitor.call("GET", "/v1/openapi.jso").status == 404
    assert len(rough.world.audit()) == before + 1, "the control"


# schemathesis


def held(
    rough: Rough, visitor: Visitor, folder: Path, document: dict[str, Any], *more: str
) -> subprocess.CompletedProcess[str]:
    """Run schemathesis against the instance listener."""
    world = rough.world
    return held_to_it(world.site.instance, world.root, visitor, folder, document, *more)


def with_grants(document: dict[str, Any]) -> dict[str, Any]:
    """A copy that knows the grants of this gateway, so that some of what is asked for is given."""
    copy: dict[str, Any] = json.loads(json.dumps(document))
    copy["components"]["schemas"]["CredentialsRequest"]["properties"]["grant"] = {"enum": [GRANT, OTHER_GRANT]}
    return copy


@pytest.mark.timeout(3700)
@pytest.mark.threat("D06", "I06")
def test_D06_schemathesis_finds_nothing_with_a_certificate(
    rough: Rough, document: dict[str, Any], tmp_path: Path
) -> None:
    """Every operation but the watch, which only waits."""
    _, visitor = rough.enrolled()
    logged = rough.world.site.log.stat().st_size
    done = held(rough, visitor, tmp_path, with_grants(document), "--exclude-path", "/v1/watch")
    assert done.returncode == 0, done.stdout + done.stderr
    said = rough.world.site.log.read_bytes()[logged:].decode()
    assert "Traceback" not in said
    (uri,) = {row["subject"] for row in rough.world.rows("certificate", serial=serial_of(visitor))}
    assert rough.world.audit(subject=uri, reason="vended"), "some of it was given"


@pytest.mark.timeout(3700)
def test_schemathesis_finds_nothing_without_a_certificate(
    rough: Rough, document: dict[str, Any], tmp_path: Path
) -> None:
    done = held(rough, rough.world.visitor(), tmp_path, document)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("lie", ["a status less", "a field more", "another media type"])
def test_schemathesis_would_find_something(rough: Rough, document: dict[str, Any], tmp_path: Path, lie: str) -> None:
    """The control: of a document that is wrong in one thing, it says so."""
    wrong = with_grants(document)
    responses = wrong["paths"]["/v1/credentials"]["post"]["responses"]
    if lie == "a status less":
        del responses["403"]
    elif lie == "a field more":
        wrong["components"]["schemas"]["CredentialsAnswer"]["required"].append("region")
    else:
        responses["400"]["content"] = {"text/plain": {}}
    _, visitor = rough.enrolled()
    done = held(rough, visitor, tmp_path, wrong, "--include-path", "/v1/credentials")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "POST /v1/credentials" in done.stdout


def serial_of(visitor: Visitor) -> str:
    """The number of the visitor's certificate, as the store has it."""
    return f"{x509.load_pem_x509_certificate((visitor.certificate or '').encode()).serial_number:x}"
