"""Operators of every role, as they reach the admin listener: each with a certificate of its own."""

import tomllib
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace

import pytest

from certs import csr, keys
from deploy.demo.cloud import Cloud, Seeded
from deploy.demo.ec2_document import DocumentAuthority
from deploy.demo.visitor import Visitor
from gateway import ceremonies
from gateway.adapters import clock
from gateway.adapters.sql.store import SqlStore
from gateway.core.operator_model import Operator, OperatorState
from gateway.flows.issue import pem
from gateway.settings import read
from tests.conftest import Known
from tests.end_to_end.world import Launched, World
from tests.end_to_end.world import world as make_world
from tests.matrix import ROLES, WHO


def person(world: World, name: str, *roles: str, state: OperatorState = OperatorState.ACTIVE) -> Visitor:
    """An operator with these roles, with the certificate that the gateway's host gives."""
    store = SqlStore(f"sqlite:///{world.site.database}", "test", clock.now)
    row = Operator(name, {"roles": list(roles)}, 1, OperatorState.ACTIVE, clock.now(), "a test")
    settings, key = read(tomllib.loads(world.site.settings.read_text()), {}), keys.generate()
    try:
        assert store.write(lambda tx: tx.operators.add(row))
        made = ceremonies.certify_operator(settings, world.site.passphrase, name, csr.make(key))
        assert store.write(lambda tx: tx.operators.swap(row, replace(row, state=state)))
    finally:
        store.close()
    visitor = world.visitor(world.site.admin)
    visitor.present(pem(made.operator) + pem(made.issuer), key)
    return visitor


@dataclass(frozen=True, slots=True)
class Crew:
    """A gateway, and whoever may come to its admin listener: one of each column of the matrix."""

    world: World
    callers: dict[str, Visitor]
    instance: Launched

    def __getitem__(self, who: str) -> Visitor:
        return self.callers[who]


_CREW = pytest.StashKey[Crew]()


@pytest.fixture(name="crew")
def crew_fixture(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    cloud: Cloud,
    seeded: Seeded,
    authority: DocumentAuthority,
    known: Known,
) -> Iterator[Crew]:
    """One for all modules that ask for it."""
    if _CREW not in request.session.stash:
        stack = ExitStack()
        request.session.addfinalizer(stack.close)
        world = stack.enter_context(make_world(tmp_path_factory.mktemp("crew"), cloud, seeded, authority))
        known.add(world.site.passphrase)
        known.watch(world.site.log)
        request.session.stash[_CREW] = gathered(world)
    made = request.session.stash[_CREW]
    yield made
    for visitor in made.callers.values():
        visitor.close()


def gathered(world: World) -> Crew:
    """Everybody."""
    launched, instance = world.enrolled()
    callers = {name: person(world, f"the-{name}", name) for name in ROLES}
    callers["anyone"] = world.visitor(world.site.admin)
    callers["revoked"] = person(world, "the-revoked", "administrator", state=OperatorState.REVOKED)
    callers["instance"] = world.visitor(world.site.admin)
    callers["instance"].present(instance.certificate or "", instance.key)
    assert callers.keys() == set(WHO)
    return Crew(world, callers, launched)
