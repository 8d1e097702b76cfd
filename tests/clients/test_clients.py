"""The short form of the matrix, and the page that the long form wrote."""

import copy
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy.demo.cloud import Cloud, Seeded
from tests.clients import matrix
from tests.clients.page import NOT_RUN, PAGE, RESULTS, render
from tests.clients.running import plain
from tests.clients.table import CELLS, CLIENTS, of
from tests.clients.verdict import faults
from tests.clients.ways import WAYS


@pytest.fixture(scope="module")
def results(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, cloud: Cloud, seeded: Seeded
) -> matrix.Results:
    """One run for all cells that were picked."""
    specs = [getattr(item, "callspec", None) for item in request.session.items]
    picked = {spec.params["cell"] for spec in specs if spec and "cell" in spec.params}
    return matrix.short(tmp_path_factory.mktemp("clients"), cloud, seeded, [cell for cell in CELLS if cell in picked])


@pytest.mark.timeout(600)
@pytest.mark.parametrize("cell", CELLS)
def test_a_client_gets_what_its_grant_allows_and_shows_what_is_refused(results: matrix.Results, cell: str) -> None:
    found = results.cells[cell]
    if "not_run" in found:
        pytest.skip(found["not_run"])
    assert list(faults(cell, found)) == []


@pytest.mark.timeout(600)
def test_the_verifying_front_had_nothing_against_what_was_sent(results: matrix.Results) -> None:
    assert results.refusals == []


# What was written down


def written() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(RESULTS.read_text())
    return found


def test_the_page_shows_the_results() -> None:
    assert PAGE.read_text() == render(written()), "python -m tests.clients.page writes it anew"


def test_the_results_have_no_fault_and_every_cell() -> None:
    found = written()
    assert set(found["cells"]) == set(CELLS), "make clients: a cell is missing, or is no more"
    assert [fault for cell in CELLS for fault in faults(cell, found["cells"][cell])] == []
    assert found["refusals"] == []
    assert all("refresh" in each or "not_run" in each for each in found["cells"].values()), "of a long run"


def test_the_results_show_nobodys_keys_and_no_place_of_the_run() -> None:
    assert not re.search(r"A[KS]IA[0-9A-Z]{8}|/tmp/|/home/|(127\.0\.0\.1|localhost):\d", RESULTS.read_text())


def test_every_way_is_tried_and_every_way_of_an_sdk_is_tried_or_its_lack_said() -> None:
    assert {of(cell)[1] for cell in CELLS} == set(WAYS)
    for client in CLIENTS:
        assert not set(client.ways) & set(client.lacks)
        assert (client.lines is None) != (client.once is None)


def broken() -> Iterator[tuple[str, dict[str, Any]]]:
    """A cell that is right but for one thing."""
    right: dict[str, Any] = {
        "first": {"ok": True, "shown": "['a.csv']"},
        "calls": {"calls": 10, "ok": True, "answers": 1},
        "refusal": {"refused": True, "shown": "AccessDenied"},
        "revoked": {"refused": True, "shown": "no credentials", "seconds": 1.0},
        "refresh": {"ok": True, "other_key": True, "same_process": True, "shown": "['a.csv']"},
    }
    assert list(faults("boto3 | container", right)) == []
    for path, value in (
        ("first.ok", False),
        ("calls.ok", False),
        ("calls.answers", 10),
        ("refusal.refused", False),
        ("refusal.shown", "NoCredentials"),
        ("revoked.refused", False),
        ("revoked.shown", ""),
        ("revoked.seconds", 90.0),
        ("refresh.ok", False),
        ("refresh.other_key", False),
    ):
        outer, inner = path.split(".")
        wrong = copy.deepcopy(right)
        wrong[outer][inner] = value
        yield path, wrong


@pytest.mark.parametrize("wrong", [pytest.param(cell, id=path) for path, cell in broken()])
def test_a_cell_that_does_not_hold_is_a_fault(wrong: dict[str, Any]) -> None:
    """The control."""
    assert list(faults("boto3 | container", wrong)) != []


def test_a_cell_that_did_not_run_is_shown_as_such() -> None:
    found = written()
    cell = f"| {CLIENTS[0].name} | {CLIENTS[0].ways[0]} |"
    found["cells"].pop(CELLS[0], None)
    assert f"{cell} {NOT_RUN} |" in render(found)
    found["cells"][CELLS[0]] = {"not_run": "not installed"}
    assert f"{cell} not installed |" in render(found)


def test_what_differs_from_run_to_run_is_not_shown(tmp_path: Path) -> None:
    said = f"{tmp_path}/x i-0123456789abcdef0 ASIAABCDEFGHIJKLMNOP 127.0.0.1:4711 2026-11-23T08:00:00Z"
    assert plain(said, tmp_path) == "…/x i-… ASIA… 127.0.0.1:… …"
