"""The gateway is one for all tests that leave it as they found it."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from deploy.demo.cloud import REGION, Cloud, Seeded
from deploy.demo.ec2_document import DocumentAuthority
from tests.conftest import Known
from tests.end_to_end.world import World
from tests.end_to_end.world import world as make_world


@pytest.fixture(scope="session")
def authority() -> DocumentAuthority:
    return DocumentAuthority(REGION)


@pytest.fixture(scope="session")
def world(
    tmp_path_factory: pytest.TempPathFactory, cloud: Cloud, seeded: Seeded, authority: DocumentAuthority, known: Known
) -> Iterator[World]:
    with make_world(tmp_path_factory.mktemp("gateway"), cloud, seeded, authority) as running:
        known.add(running.site.passphrase)
        known.watch(running.site.log)
        yield running


@pytest.fixture(autouse=True)
def hang_up(request: pytest.FixtureRequest) -> Iterator[None]:
    """Callers of one test do not stay on the line during the next."""
    yield
    if "world" in request.fixturenames:
        request.getfixturevalue("world").hang_up()


@pytest.fixture
def own_world(
    tmp_path: Path, cloud: Cloud, seeded: Seeded, authority: DocumentAuthority
) -> Callable[..., AbstractContextManager[World]]:
    """For tests that stop, starve or limit a gateway: one of their own."""

    def make(**options: Any) -> AbstractContextManager[World]:
        return make_world(tmp_path / "gateway", cloud, options.pop("seeded", seeded), authority, **options)

    return make
