"""Cloud actions under the upstream keys, by operators who never see them: look at machines, and do something to one.

Whoever may do something may do it by account, region and tag: the tags are those that AWS reports at that moment. A
machine outside the conditions is answered as one that is not there.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from certs.names import InstanceName
from gateway.core.attest.ec2 import REGION
from gateway.core.audit import Kind, Name
from gateway.core.errors import Refusal
from gateway.core.model import Instance, InstanceState, KeyPurpose, KeyState
from gateway.core.revocation import Target
from gateway.core.rights import Rights
from gateway.core.servers import Enrolment, Machine, Output, Server, Verb, readable
from gateway.flows.journal import Call, Journal, all_of_them
from gateway.flows.revoke import Order, Revoke
from gateway.flows.vault import UpstreamKeys
from gateway.ports import Clock, Machines, OpenableKey, Store, Transaction

NAMED = re.compile(rf"(?:aws/([0-9]{{12}})/({REGION})/)?(i-[0-9a-f]{{8,17}})")


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which servers of a list; None: any."""

    region: str | None = None
    state: str | None = None
    profile: str | None = None
    enrolment: str | None = None

    def of(self, server: Server) -> bool:
        """Whether this is one."""
        return (
            self.state in (None, server.machine.state)
            and self.profile in (None, server.profile)
            and self.enrolment in (None, server.enrolment.value)
        )


@dataclass(frozen=True, slots=True)
class Listed:
    """A page of servers by id. `unseen` are accounts and regions that AWS did not tell about, and why."""

    servers: Sequence[Server]
    unseen: Sequence[Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class Changed:
    """What came of it: the server as it was, its state now, and the revocation of its enrolment, if there was one."""

    server: Server
    state: str
    request_id: str
    revocation: str | None


@dataclass(frozen=True, slots=True)
class Place:
    """An account and a region, and the key to look there with: of an account's vending keys, the first by name."""

    account: str
    region: str
    key: OpenableKey

    @property
    def prefix(self) -> str:
        """How the ids of its machines begin."""
        return f"aws/{self.account}/{self.region}/"


class Servers:
    """Raises Refusal."""

    def __init__(
        self,
        store: Store,
        journal: Journal,
        keys: UpstreamKeys,
        machines: Machines,
        revoke: Revoke,
        clock: Clock,
        trust_domain: str,
        regions: Sequence[str],
    ) -> None:
        self._store = store
        self._journal = journal
        self._keys = keys
        self._machines = machines
        self._revoke = revoke
        self._clock = clock
        self._trust_domain = trust_domain
        self._regions = regions

    def all(self, call: Call, rights: Rights, wanted: Wanted, *, after: str | None, limit: int) -> Listed:
        """A page of what the operator may see, behind the id `after`. What AWS does not tell is named, not left out.

        Raises Refusal when AWS tells nothing at all.
        """
        self._journal.allow(call)
        found: list[Server] = []
        unseen: list[Mapping[str, str]] = []
        refused, tried = None, 0
        for place in self.places(None, wanted.region):
            if after is not None and after > place.prefix and not after.startswith(place.prefix):
                continue
            tried += 1
            try:
                machines = self._machines.all(place.key, place.region)
            except Refusal as refusal:
                refused = refusal
                unseen.append({"account": place.account, "region": place.region, "code": refusal.code})
                continue
            seen = sorted((each for each in machines if _covers(rights, call.name, each)), key=lambda each: each.id)
            found += self._joined([each for each in seen if each.id > (after or "")], wanted, limit - len(found))
            if len(found) == limit:
                break
        if refused and len(unseen) == tried:
            raise refused
        return Listed(found, unseen)

    def one(self, call: Call, rights: Rights, named: str) -> Server:
        """One machine, as AWS has it now."""
        _, machine = self._find(call, rights, named)
        self._journal.allow(call)
        return self._server(machine)

    def change(self, call: Call, rights: Rights, named: str, verb: Verb, *, keep_enrolment: bool = False) -> Changed:
        """Start, stop, reboot or terminate a machine.

        One that is to be terminated is revoked first, unless `keep_enrolment`: what it holds is worth nothing when AWS
        has ended it, and if AWS refuses, it is revoked all the same.
        """
        place, machine = self._find(call, rights, named)
        server = self._server(machine)
        revocation = None
        if verb is Verb.TERMINATE and server.enrolment is Enrolment.ENROLLED and not keep_enrolment:
            call.sees = all_of_them  # what covers the machine covers its enrolment, whatever tags that has on record
            cut = self._revoke.revoke(call, Order(Target.INSTANCE, machine.id, "terminated"))  # it leaves the decision
            revocation, call.object = str(cut["id"]), machine.id
            intent = call.event(Kind.INTENT, reason="asked", state=machine.state)
            self._store.write(lambda tx: tx.audit.append(intent))
        else:
            self._journal.intend(call, state=machine.state, enrolment=server.enrolment.value)
        done = self._machines.change(place.key, place.region, machine.instance_id, verb)
        outcome = call.event(Kind.OUTCOME, state=done.state, aws_request_id=done.request_id)
        self._store.write(lambda tx: tx.audit.append(outcome))
        return Changed(server, done.state, done.request_id, revocation)

    def output(self, call: Call, rights: Rights, named: str) -> tuple[Machine, Output]:
        """The last 64 KiB that a machine wrote to its console, harmless for a terminal."""
        place, machine = self._find(call, rights, named)
        self._journal.allow(call)
        output = self._machines.output(place.key, place.region, machine.instance_id)
        return machine, Output(readable(output.text), output.at)

    def _find(self, call: Call, rights: Rights, named: str) -> tuple[Place, Machine]:
        """The machine of this id, if the operator's permission covers it. Raises Refusal `server_unknown`."""
        match = NAMED.fullmatch(named)
        if not match:
            raise Refusal("server_unknown")
        refused = None
        for place in self.places(match[1], match[2]):
            try:
                machine = self._machines.one(place.key, place.region, match[3])
            except Refusal as refusal:
                refused = refusal
                continue
            if machine is not None:
                call.object = machine.id
                if not _covers(rights, call.name, machine):
                    raise Refusal("server_unknown", reason="server_outside_conditions")
                return place, machine
        raise refused or Refusal("server_unknown")

    def places(self, account: str | None, region: str | None) -> Iterator[Place]:
        """Where there can be machines, by id."""
        with self._store.read() as tx:
            rows = tx.upstream_keys.find()
            usable = [row for row in rows if row.purpose is KeyPurpose.VEND and row.state is KeyState.ACTIVE]
            first = {row.account: row.name for row in sorted(usable, key=lambda row: row.name, reverse=True)}
            keys = {each: self._keys.openable(tx, name)[0] for each, name in first.items()}
        places = [Place(each, there, key) for each, key in keys.items() for there in self._regions]
        yield from sorted(
            (each for each in places if account in (None, each.account) and region in (None, each.region)),
            key=lambda each: each.prefix,
        )

    def _joined(self, machines: Sequence[Machine], wanted: Wanted, most: int) -> list[Server]:
        found: list[Server] = []
        with self._store.read() as tx:
            for machine in machines:
                server = self._of(tx, machine)
                if wanted.of(server):
                    found.append(server)
                    if len(found) == most:
                        break
        return found

    def _server(self, machine: Machine) -> Server:
        with self._store.read() as tx:
            return self._of(tx, machine)

    def _of(self, tx: Transaction, machine: Machine) -> Server:
        name = InstanceName(self._trust_domain, machine.account, machine.region, machine.instance_id)
        return server_of(machine, tx.instances.get(id=name.uri), tx)


def server_of(machine: Machine, instance: Instance | None, tx: Transaction) -> Server:
    """What AWS says of a machine, and what we know."""
    launch = tx.launches.get(id=machine.id)
    if instance is None:
        enrolment = Enrolment.NEVER
    else:
        enrolment = Enrolment.ENROLLED if instance.state is InstanceState.ENROLLED else Enrolment.REVOKED
    profile: Any = instance or launch
    return Server(machine, enrolment, profile.profile if profile else None, launch.by if launch else None)


def _covers(rights: Rights, permission: Name, machine: Machine) -> bool:
    return rights.covers(permission, machine.account, machine.region, machine.tags)
