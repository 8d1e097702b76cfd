"""Who may reach which route of the admin listener: every cell of the committed matrix, asked of a running gateway.

The question is right in whom it shows and wrong in its query, so whoever is let in gets no further, whatever the route.
"""

import http.client
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any
from unittest.mock import patch

import pytest

from deploy.demo import REPOSITORY
from deploy.demo.site import Site
from deploy.demo.visitor import Visitor
from tests.end_to_end.bad_input import ROUTES
from tests.end_to_end.people import Crew, crew_fixture, gathered  # noqa: F401  # a fixture
from tests.end_to_end.world import World
from tests.matrix import FILE, WHO, committed, path_of

SHUT = re.compile(r"no handshake|401 certificate_\w+|403 (operator_forbidden|certificate_revoked)")
INSIDE = re.compile(r"400 malformed_request|404 not_found")  # the second: where nobody can sign in by a token


def asked(visitor: Visitor, route: str) -> str:
    """What comes of it."""
    method, path = route.split()
    body = None if method in ("GET", "DELETE") else b"{}"
    try:
        answer = visitor.call(method, re.sub(r"\{\w+\}", "absent", path) + "?for=the-matrix", body)
    except (OSError, http.client.HTTPException):
        return "no handshake"
    return f"{answer.status} {answer.code}"


def cells(crew: Crew) -> Iterator[tuple[str, str, bool, str]]:
    """Each route, each caller, whether the matrix lets that caller in, and what came of it."""
    for route, (_, let_in) in committed().items():
        for who in WHO:
            yield route, who, who in let_in, asked(crew[who], route)


@pytest.mark.threat("C21", "G11")
def test_C21_the_matrix_is_that_of_the_routes_and_roles_there_are() -> None:
    """A new route, or a changed role, without its row fails here: `python -m tests.matrix` writes it."""
    command = [sys.executable, "-m", "tests.matrix", "--print"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout == FILE.read_text()


@pytest.mark.threat("C21")
def test_C21_the_matrix_has_each_route_that_is_tried_with_bad_input() -> None:
    tried = {f"{route.method} {path_of(route.rule)}" for route in ROUTES if route.listener == "admin"}
    assert committed().keys() == tried


@pytest.mark.threat("C21", "G01", "G11")
@pytest.mark.timeout(300)
def test_C21_each_route_lets_in_whom_the_matrix_names_and_nobody_else(crew: Crew) -> None:
    wrong = []
    for route, who, let_in, found in cells(crew):
        if not (INSIDE if let_in else SHUT).fullmatch(found):
            wrong.append((route, who, let_in, found))
    assert wrong == []


@pytest.mark.threat("G11")
def test_G11_who_is_refused_leaves_a_decision_with_the_reason(crew: Crew) -> None:
    before = len(crew.world.audit())
    assert asked(crew["monitor"], "POST /v1/tickets") == "403 operator_forbidden"
    (record,) = crew.world.audit()[before:]
    assert (record["kind"], record["name"], record["allowed"]) == ("decision", "operator:ticket:create", False)
    assert record["reason"] == "permission_missing"
    assert record["subject"].endswith("/the-monitor")


_WITHOUT_A_CHECK = """
from gateway.core.operator_document import RoleRules
RoleRules.permits = lambda self, permission: True
from gateway.cli.main import main
main()
"""


@pytest.mark.threat("C21")
@pytest.mark.timeout(300)
def test_C21_a_gateway_that_does_not_check_permissions_is_found_out(
    own_world: Callable[..., AbstractContextManager[World]],
) -> None:
    """The control: the same cells, of a gateway whose roles permit everything."""
    command: Any = property(
        lambda site: [sys.executable, "-c", _WITHOUT_A_CHECK, "--settings", str(site.settings),
                      "--operator-dir", str(site.operator)]
    )  # fmt: skip
    with patch.object(Site, "command", command), patch.object(Site, "environment", _with_ours), own_world() as world:
        crew = gathered(world)
        read = [(who, let_in, said) for route, who, let_in, said in cells(crew) if route.startswith("GET ")]
    found = {who for who, let_in, said in read if let_in == bool(SHUT.fullmatch(said))}
    assert {"monitor", "auditor", "revoker"} <= found
    assert not {"anyone", "instance", "revoked"} & found


def _with_ours(site: Site) -> dict[str, str]:
    return {"PATH": "/usr/bin:/bin", "HOME": str(site.folder), "LANG": "C.UTF-8", "PYTHONPATH": str(REPOSITORY)}
