from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import pytest

from gateway.web.server.service import Limits
from tests.gateway.web.carrying import Carrying, carrying
from tests.gateway.web.rude import Rude, Script, rude
from tests.gateway.web_server.conftest import QUICK
from tests.gateway.web_server.pki import Pki, make

Carry = Callable[..., AbstractContextManager[Carrying]]
Aws = Callable[[Script], Rude]


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return make(tmp_path_factory.mktemp("pki"))


@pytest.fixture
def aws(pki: Pki) -> Iterator[Aws]:
    """Starts an upstream with TLS that follows a script; it is gone with the test."""
    started: list[AbstractContextManager[Rude]] = []

    def start(script: Script) -> Rude:
        context = pki.server_context()
        started.append(rude(script, context))
        return started[-1].__enter__()

    yield start
    for each in started:
        each.__exit__(None, None, None)


@pytest.fixture
def gateway(pki: Pki) -> Carry:
    """Starts a gateway that carries everything to an origin."""

    def start(origin: str, **more: Any) -> AbstractContextManager[Carrying]:
        more.setdefault("limits", Limits(closing=QUICK.closing, settle=QUICK.settle))
        return partial(carrying, server=pki.server_context(), upstream=pki.client_context())(origin, **more)

    return start
