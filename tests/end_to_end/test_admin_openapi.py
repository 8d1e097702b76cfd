"""The admin listener's OpenAPI document: complete, and true by schemathesis over mutual TLS."""

import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from gateway.web.openapi import ANY
from tests.end_to_end.bad_input import ROUTES, Route, rows
from tests.end_to_end.held import held_to_it
from tests.end_to_end.people import Crew, crew_fixture, gathered  # noqa: F401  # a fixture
from tests.end_to_end.test_openapi import codes, operations
from tests.end_to_end.world import PROFILE, World
from tests.matrix import committed, path_of

ADMIN = [route for route in ROUTES if route.listener == "admin"]
FEW = os.environ.get("OPENAPI_EXAMPLES", "3")  # of each operation: there are many
# What would end the run: the certificate that it is made with, or everybody's.
ENDS = r"^/v1/(logout|operators/self/renew|revocations/everything)$"


@pytest.fixture
def document(crew: Crew) -> dict[str, Any]:
    """As an auditor gets it."""
    answer = crew["auditor"].call("GET", "/v1/openapi.json")
    assert answer.status == 200
    found: dict[str, Any] = answer.body
    return found


def test_every_route_is_described_and_no_other(document: dict[str, Any]) -> None:
    assert {f"{method} {path}" for method, path in operations(document)} == committed().keys()
    assert document["openapi"].startswith("3.1.")
    ids = [operation["operationId"] for operation in operations(document).values()]
    assert len(ids) == len(set(ids))
    for (_, path), operation in operations(document).items():
        named = {each["name"] for each in operation.get("parameters", ()) if each["in"] == "path"}
        assert named == set(re.findall(r"\{(\w+)\}", path)), path


def test_every_change_takes_an_idempotency_key_and_an_approval(document: dict[str, Any]) -> None:
    for (method, path), operation in operations(document).items():
        if "x-permission" not in operation:
            continue
        headers = {each["name"] for each in operation.get("parameters", ()) if each["in"] == "header"}
        assert ({"Idempotency-Key", "Approval"} <= headers) == (method != "GET"), (method, path)
        assert ("422" in operation["responses"]) == (method != "GET"), (method, path)


@pytest.mark.parametrize("route", ADMIN, ids=lambda route: f"{route.method} {route.rule}")
def test_the_answers_of_the_table_of_bad_input_are_described(document: dict[str, Any], route: Route) -> None:
    described = codes(operations(document)[route.method, path_of(route.rule)])
    for row in rows(route):
        status, code = row.answer.split()
        if code not in ("not_found", "method_not_allowed"):  # that is another path, or another method
            assert code in described[status], row.fault
    assert {code for found in described.values() for code in found} >= set(ANY)


# schemathesis


@pytest.fixture
def fuzzed(own_world: Callable[..., AbstractContextManager[World]]) -> Iterator[Crew]:
    """A gateway that an administrator does anything to."""
    with own_world() as world:
        yield gathered(world)


def with_names(document: dict[str, Any], crew: Crew) -> dict[str, Any]:
    """A copy that knows a profile and an instance of this gateway, for what only looks."""
    copy: dict[str, Any] = json.loads(json.dumps(document))
    for (method, path), operation in operations(copy).items():
        for each in operation.get("parameters", ()):
            if method != "GET" or each["in"] != "path":
                continue
            if path.startswith("/v1/instances/"):
                each["schema"] = {"enum": [crew.instance.id]}
            elif path.startswith("/v1/profiles/"):
                each["schema"] = {"enum": [PROFILE]}
    copy["components"]["schemas"]["TicketOrder"]["properties"]["profile"] = {"enum": [PROFILE]}
    return copy


@pytest.mark.timeout(3700)
@pytest.mark.threat("C19", "G13", "G14")
def test_schemathesis_finds_nothing_as_an_administrator(fuzzed: Crew, document: dict[str, Any], tmp_path: Path) -> None:
    world = fuzzed.world
    logged = world.site.log.stat().st_size
    found = with_names(document, fuzzed)
    done = held_to_it(
        world.site.admin, world.root, fuzzed["administrator"], tmp_path, found, "--exclude-path-regex", ENDS,
        "--max-examples", FEW, "--workers", "2",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in world.site.log.read_bytes()[logged:].decode()
    assert world.rows("ticket", created_by=_spiffe(world)), "some of it was given"


def _spiffe(world: World) -> str:
    (found,) = {
        row["subject"] for row in world.rows("certificate", kind="operator") if "the-administrator" in row["subject"]
    }
    return str(found)


@pytest.mark.timeout(3700)
@pytest.mark.parametrize("who", ["monitor", "anyone"])
def test_schemathesis_finds_nothing_as_who_may_do_little(
    crew: Crew, document: dict[str, Any], tmp_path: Path, who: str
) -> None:
    world = crew.world
    done = held_to_it(
        world.site.admin, world.root, crew[who], tmp_path, document, "--exclude-path-regex", ENDS,
        "--max-examples", FEW, "--phases", "fuzzing", "--mode", "positive",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("lie", ["a status less", "a field more", "another media type"])
def test_schemathesis_would_find_something(crew: Crew, document: dict[str, Any], tmp_path: Path, lie: str) -> None:
    """The control: of a document that is wrong in one thing, it says so."""
    wrong = with_names(document, crew)
    responses = wrong["paths"]["/v1/instances"]["get"]["responses"]
    if lie == "a status less":
        del responses["400"]
    elif lie == "a field more":
        wrong["components"]["schemas"]["InstanceShown"]["required"].append("colour")
    else:
        responses["400"]["content"] = {"text/plain": {}}
    world = crew.world
    done = held_to_it(world.site.admin, world.root, crew["monitor"], tmp_path, wrong, "--include-path", "/v1/instances")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "GET /v1/instances" in done.stdout
