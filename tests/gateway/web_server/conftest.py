from collections.abc import Iterator
from datetime import timedelta

import pytest

from gateway.web.server.service import Limits
from tests.gateway.web_server.pki import Pki, make
from tests.gateway.web_server.serving import Serving, serving
from tests.gateway.web_server.toy import Toy, listener

QUICK = Limits(body_time=timedelta(seconds=0.5), closing=timedelta(seconds=0.1), settle=timedelta(seconds=0.1))


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return make(tmp_path_factory.mktemp("pki"))


@pytest.fixture
def toy() -> Toy:
    return Toy()


@pytest.fixture
def plain(toy: Toy) -> Iterator[Serving]:
    """The toy on a listener without TLS."""
    with serving(listener(toy), limits=QUICK) as running:
        yield running


@pytest.fixture
def secure(toy: Toy, pki: Pki) -> Iterator[Serving]:
    """The toy on a listener with TLS."""
    with serving(listener(toy, tls=pki.server_context()), limits=QUICK) as running:
        yield running
