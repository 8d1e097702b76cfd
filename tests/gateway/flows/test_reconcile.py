"""Unmediated use, on a real store: what is found is remembered once, recorded once, and read on where it was left."""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import pytest

from gateway.adapters import clock
from gateway.core.audit import Name
from gateway.core.errors import Refusal
from gateway.core.lease import Order as LeaseOrder
from gateway.core.model import Instance, Lease
from gateway.core.reconcile_document import Schedule
from gateway.core.trail import Bucket, Portion, Stretch
from gateway.flows.reconcile import Order, Reconcile, Report
from gateway.flows.reconcile_known import Knowledge
from gateway.flows.reconcile_schedule import ReconcileSchedule
from gateway.flows.vault import UpstreamKeys
from gateway.ports import OpenableKey
from gateway.wire.messages import instant
from tests.gateway.flows.conftest import ACCOUNT, REGION, Gateway
from tests.gateway.flows.fleet import ALICE, FAR, Fleet, fleet_fixture  # noqa: F401  # a fixture

HERE, HOME, AWAY = "203.0.113.7", "192.0.2.10", "198.51.100.66"
KEEP = timedelta(days=400)


@dataclass
class FakeTrail:
    """`ports.Trail`: `portions` are given one after the other in each stretch."""

    portions: list[list[Any]] = field(default_factory=list)
    asked: list[tuple[Stretch, str | None]] = field(default_factory=list)
    away: bool = False

    def portion(self, key: OpenableKey, stretch: Stretch, after: str | None) -> Portion:
        if self.away:
            raise Refusal("upstream_unavailable", retry_after=5)
        self.asked.append((stretch, after))
        number = int(after or 0)
        there = self.portions if stretch.region == REGION else []
        following = str(number + 1) if number + 1 < len(there) else None
        return Portion(iter(there[number] if number < len(there) else []), following)


@dataclass
class Watched:
    """The flow, on a gateway with machines."""

    fleet: Fleet
    trail: FakeTrail
    reconcile: Reconcile

    @property
    def gateway(self) -> Gateway:
        return self.fleet.gateway

    def given(self, *records: Any) -> Report:
        with self.gateway.journal.call(Name.OPERATOR_AUDIT_RECONCILE, clock.request_id(), None) as call:
            call.subject = ALICE
            return self.reconcile.given(call, records)

    def read(self, after: str | None = None, trail: str = "lookup", regions: Sequence[str] = ()) -> Report:
        now = self.gateway.time()
        order = Order(trail, "main", regions, now - timedelta(hours=1), now, after)
        with self.gateway.journal.call(Name.OPERATOR_AUDIT_RECONCILE, clock.request_id(), None) as call:
            return self.reconcile.read(call, order)

    def record(self, number: int, key: str, source: str, **more: Any) -> dict[str, Any]:
        """A record of CloudTrail's, ten minutes ago."""
        at = more.pop("at", self.gateway.time() - timedelta(minutes=10))
        role = f"arn:aws:iam::{ACCOUNT}:role/reader"
        identity = {
            "type": "AssumedRole", "arn": f"arn:aws:sts::{ACCOUNT}:assumed-role/reader/x", "accountId": ACCOUNT,
            "accessKeyId": key, "sessionContext": {"sessionIssuer": {"arn": role}},
        }  # fmt: skip
        return {
            "eventVersion": "1.09", "eventID": f"e-{number}", "eventTime": instant(at), "eventName": "GetObject",
            "eventSource": "s3.amazonaws.com", "awsRegion": REGION, "sourceIPAddress": source,
            "recipientAccountId": ACCOUNT, "userIdentity": identity, **more,
        }  # fmt: skip

    def lease(self) -> Lease:
        """What an instance with addresses was vended, half an hour ago."""
        identity = self.gateway.enrolled()

        def attested(tx: Any) -> Instance:
            row = tx.instances.get(id=identity.instance.id)
            enrolled: Instance = replace(row, claims={"private_ip": "10.0.0.10", "public_ip": HOME})
            assert tx.instances.swap(row, enrolled)
            return enrolled

        row: Instance = self.gateway.store.write(attested)
        self.gateway.vend().give(self.gateway.call(), replace(identity, instance=row), LeaseOrder("reports"))
        self.gateway.time.passes(timedelta(minutes=30))
        return self.fleet.rows("leases")[-1]  # type: ignore[no-any-return]

    def schedule(self, trail: str = "lookup") -> ReconcileSchedule:
        schedule = Schedule(timedelta(minutes=15), trail, "main")
        gateway = self.gateway
        return ReconcileSchedule(gateway.store, gateway.time, clock.random_bytes, self.reconcile, schedule, KEEP)


@pytest.fixture
def watched(fleet: Fleet) -> Watched:
    gateway, trail = fleet.gateway, FakeTrail()
    knowledge = Knowledge(gateway.time, "td", (ipaddress.ip_network(HERE),), KEEP)
    keys = UpstreamKeys(gateway.journal, gateway.vault, gateway.aws, gateway.time)
    reconcile = Reconcile(
        gateway.store, gateway.journal, keys, trail, fleet.fake, fleet.servers, gateway.time, clock.random_bytes,
        knowledge, (FAR, REGION),
    )  # fmt: skip
    return Watched(fleet, trail, reconcile)


def kinds(report: Report) -> list[str]:
    return sorted(each.kind for each in report.findings.values())


def test_a_session_is_known_by_its_access_key_id_and_its_instance_by_its_addresses(watched: Watched) -> None:
    key = watched.lease().access_key_id
    good = watched.given(watched.record(1, key, HOME), watched.record(2, key, "10.0.0.10"))
    assert (good.tally.verdict(0), good.findings) == ("clear", {})
    assert good.tally.outcomes == {"matched": 2}
    assert kinds(watched.given(watched.record(3, key, AWAY))) == ["session_elsewhere"]
    assert kinds(watched.given(watched.record(4, "ASIASTRANGER", HOME))) == ["session_unknown"]
    assert kinds(watched.given(watched.record(5, "AKIAIOSFODNN7EXAMPLE", AWAY))) == ["key_elsewhere"]
    assert watched.given(watched.record(6, "AKIAIOSFODNN7EXAMPLE", HERE)).findings == {}


def test_one_request_is_one_decision_and_a_new_finding_one_fact(watched: Watched) -> None:
    key = watched.lease().access_key_id
    first = watched.given(watched.record(1, key, AWAY), watched.record(2, key, AWAY))
    again = watched.given(watched.record(2, key, AWAY), watched.record(3, key, AWAY))
    (finding,) = again.findings.values()
    assert (len(first.new), len(again.new)) == (1, 0)
    assert finding.document["events"] == ["e-1", "e-2", "e-3"]
    (fact,) = watched.fleet.told(Name.GATEWAY_USE_FIND)
    assert (fact["kind"], fact["reason"], fact["facts"]["sources"]) == ("fact", "session_elsewhere", [AWAY])
    decisions = watched.fleet.told(Name.OPERATOR_AUDIT_RECONCILE)
    assert [each["kind"] for each in decisions] == ["decision", "decision"]
    assert [each["facts"]["new"] for each in decisions] == [1, 0]
    assert [row.id for row in watched.fleet.rows("findings")] == [finding.id]


def test_a_revoked_session_that_goes_on_is_found(watched: Watched) -> None:
    lease = watched.lease()
    watched.gateway.revoke(lease.instance.rpartition("/")[2])
    before = watched.given(watched.record(1, lease.access_key_id, HOME))
    watched.gateway.time.passes(timedelta(minutes=20))
    after = watched.given(watched.record(2, lease.access_key_id, HOME))
    assert (kinds(before), kinds(after)) == ([], ["session_after_revocation"])


def test_a_machine_that_has_another_public_address_since_its_start_is_not_elsewhere(watched: Watched) -> None:
    lease = watched.lease()
    machine = watched.fleet.put(0x0123456789ABCDEF0)
    assert machine.instance_id == lease.instance.rpartition("/")[2]
    watched.fleet.fake.put(replace(machine, public_ip=AWAY))
    assert watched.given(watched.record(1, lease.access_key_id, AWAY)).findings == {}
    assert kinds(watched.given(watched.record(2, lease.access_key_id, "198.51.100.67"))) == ["session_elsewhere"]


def test_machines_are_held_against_launches_and_enrolments(watched: Watched) -> None:
    stranger, fleet = watched.fleet.put(1), watched.fleet
    fleet.gateway.enrolled(fleet.put(2).instance_id)
    (launched,) = fleet.launch().servers
    with fleet.gateway.journal.call(Name.OPERATOR_AUDIT_RECONCILE, clock.request_id(), None) as call:
        report = watched.reconcile.inventory(call)
    assert [each.subject for each in report.findings.values()] == [stranger.id]
    assert report.tally.machines == 3
    assert report.tally.outcomes == {"found": 1, "matched": 2}
    assert launched.machine.id != stranger.id


def test_records_that_cannot_be_read_are_counted_and_nothing_is_not_well(watched: Watched) -> None:
    report = watched.given({}, None, 7, {"eventVersion": "1.0"})
    assert (report.tally.unread, report.tally.events, report.tally.verdict(0)) == (4, 0, "nothing_read")
    assert watched.given().tally.verdict(0) == "nothing_read"


def test_a_trail_is_read_in_parts_through_all_regions(watched: Watched) -> None:
    watched.trail.portions = [[watched.record(1, "ASIASTRANGER", HOME)], [watched.record(2, "ASIASTRANGER", HOME)]]
    events, after, parts = 0, None, 0
    while parts == 0 or after is not None:
        report = watched.read(after)
        after, events, parts = report.next, events + report.tally.events, parts + 1
    assert (events, parts) == (2, 3)
    assert [(stretch.region, place) for stretch, place in watched.trail.asked] == [
        (FAR, None), (REGION, None), (REGION, "1"),
    ]  # fmt: skip
    (finding,) = watched.fleet.rows("findings")
    assert finding.document["events"] == ["e-1", "e-2"]
    records = watched.fleet.told(Name.OPERATOR_AUDIT_RECONCILE)
    assert [each["kind"] for each in records] == ["decision", "intent", "outcome"] * 3


@pytest.mark.parametrize("after", ["", "x", "[]", "[9, null]", "[-1, null]", "[true, null]", "[0, 7]", "[" * 5000])
def test_a_place_that_no_answer_named_is_refused(watched: Watched, after: str) -> None:
    with pytest.raises(Refusal) as caught:
        watched.read(after)
    assert caught.value.code == "malformed_request"
    assert watched.trail.asked == []


def test_a_bucket_is_read_for_every_account(watched: Watched) -> None:
    watched.read(trail="s3://logs/org", regions=[REGION])
    ((stretch, _),) = watched.trail.asked
    assert stretch.bucket == Bucket("logs", "org/AWSLogs/")
    assert stretch.prefix == f"org/AWSLogs/{ACCOUNT}/CloudTrail/{REGION}/"
    assert Bucket.of("s3://logs") == Bucket("logs", "AWSLogs/")
    assert Bucket.of("s3://logs/x/AWSLogs/o-1") == Bucket("logs", "x/AWSLogs/o-1/")
    assert Bucket.of("lookup") is None


# Scheduled


def test_the_schedule_runs_when_it_is_due_and_goes_on_where_it_was(watched: Watched) -> None:
    scheduled, time = watched.schedule(), watched.gateway.time
    watched.trail.portions = [[watched.record(1, "ASIASTRANGER", HOME)]]
    scheduled.tick()
    asked = len(watched.trail.asked)
    first = watched.trail.asked[-1][0]
    scheduled.tick()
    assert len(watched.trail.asked) == asked == 2  # both regions, once
    time.passes(timedelta(minutes=16))
    watched.schedule().tick()  # another worker
    second = watched.trail.asked[-1][0]
    assert second.since == first.until - timedelta(minutes=30)
    assert second.until == time() - timedelta(minutes=1)
    facts = watched.fleet.told(Name.GATEWAY_USE_FIND)
    assert [each["reason"] for each in facts] == ["session_unknown", "reconciled", "reconciled"]
    assert facts[1]["facts"]["outcomes"]["found"] == 1
    assert facts[1]["object"] == "trail/lookup"


def test_one_worker_at_a_time_and_a_failure_is_tried_again(watched: Watched) -> None:
    scheduled = watched.schedule()
    watched.trail.away = True
    with pytest.raises(Refusal):
        scheduled.tick()
    watched.trail.away = False
    inner = watched.schedule()
    taken = watched.trail.portion

    def meanwhile(key: OpenableKey, stretch: Stretch, after: str | None) -> Portion:
        inner.tick()  # its turn is taken
        return taken(key, stretch, after)

    watched.trail.portion = meanwhile  # type: ignore[method-assign]
    scheduled.tick()
    assert len(watched.trail.asked) == 2
    assert [each["reason"] for each in watched.fleet.told(Name.GATEWAY_USE_FIND)] == ["reconciled"]


def test_leases_are_kept_for_as_long_as_their_events_may_come(watched: Watched) -> None:
    lease, scheduled = watched.lease(), watched.schedule()
    watched.gateway.time.passes(lease.expires_at + KEEP - watched.gateway.time())
    scheduled.tick()
    assert [each.id for each in watched.fleet.rows("leases")] == [lease.id]
    watched.gateway.time.passes(timedelta(seconds=1))
    scheduled.tick()
    assert watched.fleet.rows("leases") == []


def test_a_lease_that_is_changed_while_it_is_forgotten_is_judged_anew(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a session that is given anew does: its events may come yet."""
    lease, scheduled, store = watched.lease(), watched.schedule(), watched.gateway.store
    watched.gateway.time.passes(lease.expires_at + KEEP + timedelta(seconds=1) - watched.gateway.time())
    longer, write = replace(lease, expires_at=lease.expires_at + timedelta(hours=1)), store.write

    def meanwhile(unit: Any) -> Any:
        monkeypatch.undo()
        assert write(lambda tx: tx.leases.swap(lease, longer))
        return write(unit)

    monkeypatch.setattr(store, "write", meanwhile)
    scheduled._leases.tick(store, watched.gateway.time())
    assert store.write == write, "the control: it was about to be removed"
    assert watched.fleet.rows("leases") == [longer]
