"""A gateway with a fleet of machines, in two accounts and two regions, and operators with rights on some of them."""

from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import pytest

from gateway.adapters import clock
from gateway.adapters.secret_detector import SecretDetector
from gateway.core.audit import Name
from gateway.core.errors import Refusal
from gateway.core.model import Profile, UpstreamKey
from gateway.core.operator_document import role
from gateway.core.rights import Rights
from gateway.core.servers import Machine
from gateway.flows.journal import Call
from gateway.flows.launch import Launch, Launched, Order
from gateway.flows.publish import Publish
from gateway.flows.revocation_layers import CrlLayer
from gateway.flows.revoke import Revoke
from gateway.flows.servers import Servers, Wanted
from gateway.flows.vault import UpstreamKeys
from gateway.wire.messages import UserData, read_user_data, user_data_line
from gateway.wire.secret import Secret
from tests.contracts.fake_machines import FakeMachines
from tests.gateway.flows.conftest import ACCOUNT, PROFILE, REGION, Gateway

FAR = "eu-west-1"
OTHER, OTHER_KEY = "999988887777", "AKIAIOSFODNN7OTHER00"
LAUNCH: dict[str, Any] = {"image": "ami-0123456789abcdef0", "region": REGION, "type": "t3.micro", "tags": {"team": "a"}}
ANYTHING = Rights((role("all", {"permissions": ["operator:*:*"]}),))
ALICE = "spiffe://td/operator/alice"


def only(**place: Any) -> Rights:
    """All cloud actions, bound to accounts, regions or tags."""
    return Rights((role("some", {"permissions": ["operator:server:*"], **place}),))


@dataclass
class Fleet:
    """`fake` is EC2 of both accounts."""

    gateway: Gateway
    fake: FakeMachines
    servers: Servers
    launches: Launch
    known: dict[str, Machine] = field(default_factory=dict)

    def call(self, name: Name) -> Call:
        made = self.gateway.call(name)
        made.subject = ALICE
        return made

    def put(
        self, number: int, *, account: str = ACCOUNT, region: str = REGION, state: str = "running", **tags: str
    ) -> Machine:
        """A machine that somebody launched."""
        launched = self.gateway.time() - timedelta(hours=3)
        return self.fake.put(
            Machine(account, region, f"i-{number:017x}", state, launched, "ami-1", "t3.micro", "10.0.0.1", None, tags)
        )

    def ids(self, rights: Rights = ANYTHING, after: str | None = None, limit: int = 100, **wanted: str) -> list[str]:
        """The ids of a page."""
        call = self.call(Name.OPERATOR_SERVER_LIST)
        found = self.servers.all(call, rights, Wanted(**wanted), after=after, limit=limit)
        return [each.machine.id for each in found.servers]

    def launch(self, rights: Rights = ANYTHING, key: str | None = None, **order: Any) -> Launched:
        """`server launch`, as the gateway has it."""
        call = self.call(Name.OPERATOR_SERVER_LAUNCH)
        with self.gateway.journal.call(call.name, call.request_id, None) as opened:
            opened.subject = ALICE
            return self.launches.run(opened, rights, Order("web", **order), key)

    def refused(self, rights: Rights = ANYTHING, **order: Any) -> Refusal:
        """The refusal of a launch."""
        with pytest.raises(Refusal) as caught:
            self.launch(rights, **order)
        return caught.value

    def profile(self, **launch: Any) -> None:
        """Another `launch` table."""
        self.apply({**PROFILE, "launch": {**LAUNCH, **launch}})

    def apply(self, document: dict[str, Any]) -> None:
        def unit(tx: Any) -> bool:
            before = tx.profiles.get(name="web")
            return bool(
                tx.profiles.swap(before, Profile("web", before.version + 1, document, self.gateway.time(), ALICE))
            )

        assert self.gateway.store.write(unit)

    def key(self, name: str, **change: Any) -> None:
        """Another state, or purpose, of an upstream key."""

        def unit(tx: Any) -> bool:
            before = tx.upstream_keys.get(name=name)
            return bool(tx.upstream_keys.swap(before, replace(before, **change)))

        assert self.gateway.store.write(unit)

    def rows(self, kind: str) -> list[Any]:
        with self.gateway.store.read() as tx:
            return list(getattr(tx, kind).find())

    def told(self, name: Name) -> list[dict[str, Any]]:
        """The records of this name, oldest first."""
        return [each for each in self.gateway.records() if each["name"] == name]

    def tickets_sent(self) -> list[str]:
        """The tickets in the user-data that AWS was given."""
        found = [read_user_data(order.user_data.encode()) for order in self.fake.orders]
        return [each.ticket for each in found if each is not None and each.ticket is not None]


@pytest.fixture(name="fleet")
def fleet_fixture(gateway: Gateway) -> Fleet:
    keys = UpstreamKeys(gateway.journal, gateway.vault, gateway.aws, gateway.time)
    fake = FakeMachines(ACCOUNT, {OTHER_KEY: OTHER}, now=gateway.time)
    publish: Publish = gateway.publish
    revoke = Revoke(
        gateway.store, gateway.journal, [CrlLayer(gateway.store, publish)], gateway.time, clock.random_bytes
    )
    regions = (FAR, REGION)
    servers = Servers(gateway.store, gateway.journal, keys, fake, revoke, gateway.time, "td", regions)
    launches = Launch(
        gateway.store, gateway.journal, keys, fake, SecretDetector(), gateway.time, clock.random_bytes,
        Secret(b"a seed"), lambda ticket: user_data_line(UserData("gw.example:8443", "ab" * 32, ticket)), regions,
    )  # fmt: skip
    made = Fleet(gateway, fake, servers, launches)
    made.profile()
    other = UpstreamKey("other", OTHER, OTHER_KEY, b"", gateway.time(), "alice")
    assert gateway.store.write(lambda tx: tx.upstream_keys.add(other))
    return made
