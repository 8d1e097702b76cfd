"""A local AWS for one file of tests, for those that look at machines: the one of the whole run has thousands."""

from collections.abc import Iterator

import pytest

from deploy.demo.cloud import Cloud, Seeded
from tests.conftest import Known


@pytest.fixture(scope="module", name="cloud")
def cloud_fixture(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    """In place of the fixture of the same name in tests/conftest.py."""
    with Cloud(tmp_path_factory.mktemp("own-cloud")) as running:
        yield running


@pytest.fixture(scope="module", name="seeded")
def seeded_fixture(cloud: Cloud, known: Known) -> Seeded:
    """Its double-secret key, role and bucket."""
    found = cloud.seed()
    known.add(found.secret)
    return found
