"""Whatever happens, in whatever order: what an instance is given was made for it, for this order, under the profile
that is in force, is alive, and is not given to who was revoked.
"""

import json
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from itertools import count, product
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.adapters.sql.store import SqlStore
from gateway.core.errors import Refusal
from gateway.core.identity import Identity
from gateway.core.lease import SHORTEST_LIFE, Order
from gateway.core.model import InstanceState, Lease, Profile, Session, SessionRequest
from gateway.flows.journal import Journal
from gateway.ports import OpenableKey
from tests.gateway.flows.conftest import PROFILE, Gateway

NUMBERS = count()  # the examples share a gateway, but no instance
SECONDS = (None, 900, 1800)
NARROW = (None, '{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"s3:GetObject","Resource":"*"}}')
VARIANTS: tuple[dict[str, Any], ...] = (
    {},
    {"tags": {"v": "1"}},
    {"external_id": "x1"},
    {"session_name": "${instance.id}-v"},
)

# One thing that happens: a word, and what it is about.
EVENTS = st.one_of(
    st.tuples(st.just("ask"), st.integers(0, 2), st.sampled_from(SECONDS), st.sampled_from(NARROW), st.integers(0, 1)),
    st.tuples(st.just("pass"), st.sampled_from([1, 7, 20, 45, 59.5])),
    st.tuples(st.just("apply"), st.integers(0, len(VARIANTS) - 1)),
    st.tuples(st.just("revoke"), st.integers(0, 2)),
    st.tuples(st.just("enrol again"), st.integers(0, 2)),
    st.tuples(st.just("aws"), st.sampled_from(["answers", "away", "says no"])),
    st.tuples(st.just("move"), st.integers(0, 2), st.integers(0, 2)),
)


@dataclass
class Telling:
    """An STS whose sessions hold what was asked for; `mood` is how it answers."""

    now: Any
    mood: str = "answers"
    made: int = 0

    def session(self, key: OpenableKey, request: SessionRequest) -> Session:
        if self.mood != "answers":
            raise Refusal("upstream_unavailable" if self.mood == "away" else "upstream_refused")
        self.made += 1
        token = json.dumps(asdict(request), default=str)
        ends: datetime = (self.now() + request.duration).replace(microsecond=0)
        return Session(f"ASIA{self.made}", f"secret {self.made}", token, ends, "arn", "id")


@dataclass
class Course:
    """The gateway and the second node on its store, as the events leave them."""

    gateway: Gateway
    nodes: tuple[Gateway, Gateway]
    sts: Telling
    variant: int = 0
    instances: list[Identity] = field(default_factory=list)

    def ask(self, which: int, seconds: int | None, policy: str | None, node: int) -> None:
        identity, there = self.instances[which], self.nodes[node]
        call = there.call()
        given, why = None, ""
        try:
            with there.journal.call(call.name, call.request_id, call.source) as opened:
                given = there.vend().give(opened, identity, Order("reports", seconds=seconds, policy=policy))
        except Refusal as refusal:
            why = refusal.reason
        if given is None:
            revoked = self._row(which).state is InstanceState.REVOKED
            assert revoked or self.sts.mood != "answers" or why == "sealed_value_altered", why
            return
        told = json.loads(given.session.session_token)
        name = identity.instance.instance_id
        variant = VARIANTS[self.variant]
        assert self._row(which).state is InstanceState.ENROLLED
        assert told["source_identity"] == name
        assert told["session_name"] == variant.get("session_name", "${instance.id}").replace("${instance.id}", name)
        assert told["external_id"] == variant.get("external_id")
        assert told["tags"] == {**variant.get("tags", {}), "gateway:instance": name, "gateway:lease": given.lease.id}
        assert told["duration"] == str(timedelta(seconds=seconds or 3600))
        assert ("s3:ListBucket" in told["policy"]) == (policy is None)
        assert given.lease.issued_at >= identity.instance.enrolled_at
        assert given.session.expires_at == given.lease.expires_at >= self.gateway.time() + SHORTEST_LIFE
        assert given.session.access_key_id == given.lease.access_key_id == "ASIA" + given.session.secret_access_key[7:]

    def apply(self, variant: int) -> None:
        (grant,) = PROFILE["grants"]
        document = {**PROFILE, "grants": [{**grant, **VARIANTS[variant]}]}
        with self.gateway.store.read() as tx:
            before = tx.profiles.get(name="web")
        assert before is not None
        after = Profile("web", before.version + 1, document, self.gateway.time(), "alice")
        assert self.gateway.store.write(lambda tx: tx.profiles.swap(before, after))
        self.variant = variant

    def revoke(self, which: int) -> None:
        self.gateway.revoke(self.instances[which].instance.instance_id)

    def enrol_again(self, which: int) -> None:
        row = self._row(which)
        self.gateway.time.passes(timedelta(seconds=1))
        back = replace(row, state=InstanceState.ENROLLED, enrolled_at=self.gateway.time())
        fresh = self.gateway.certified(row.instance_id)
        assert self.gateway.store.write(lambda tx: tx.instances.swap(row, back) and tx.certificates.add(fresh))
        self.instances[which] = Identity(back, fresh)

    def move(self, source: int, target: int) -> None:
        """A thief of the store puts one lease's session into another's."""
        with self.gateway.store.read() as tx:
            ours, theirs = (self._leases(tx, each) for each in (source, target))
        if ours and theirs and ours[-1].id != theirs[-1].id:
            moved = replace(theirs[-1], sealed_session=ours[-1].sealed_session)
            self.gateway.store.write(lambda tx: tx.leases.swap(theirs[-1], moved))
            for seconds, policy in product(SECONDS, NARROW):
                self.ask(target, seconds, policy, 0)

    def _leases(self, tx: Any, which: int) -> list[Lease]:
        found = tx.leases.find(instance=self.instances[which].instance.id)
        return [lease for lease in found if lease.sealed_session]

    def _row(self, which: int) -> Any:
        with self.gateway.store.read() as tx:
            return tx.instances.get(id=self.instances[which].instance.id)


@pytest.mark.threat("D01", "D02", "D05", "D15", "K01")
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(events=st.lists(EVENTS, min_size=5, max_size=40))
def test_D02_whatever_happens_nobody_gets_what_is_anothers(gateway: Gateway, events: list[tuple[Any, ...]]) -> None:
    sts = Telling(gateway.time)
    second = SqlStore(gateway.url, "second", gateway.time)
    here = replace(gateway, aws=sts)  # type: ignore[arg-type]  # an Upstream, which is all that vending needs
    course = Course(gateway, (here, replace(here, store=second, journal=Journal(second))), sts)
    course.apply(0)
    course.instances += [gateway.enrolled(f"i-{next(NUMBERS):017x}") for _ in range(3)]
    try:
        for which in range(3):  # each has something that can be mixed up
            course.ask(which, None, None, 0)
        for what, *about in events:
            match what:
                case "ask":
                    course.ask(*about)
                case "pass":
                    gateway.time.passes(timedelta(minutes=about[0]))
                case "apply":
                    course.apply(*about)
                case "revoke":
                    course.revoke(*about)
                case "enrol again":
                    course.enrol_again(*about)
                case "aws":
                    (sts.mood,) = about
                case "move":
                    course.move(*about)
    finally:
        second.close()
