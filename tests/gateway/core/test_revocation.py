"""What a revocation changes, and what its receipt says of the rest."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from gateway.core.model import BearerToken, CertificateState, DummyKey, InstanceState, Profile, TicketState
from gateway.core.operator_model import PlanState, Revocation
from gateway.core.receipt import DONE, GATEWAY, PLANNED, TRYING, UNSERVED, WAITING, advanced, opened, receipt
from gateway.core.revocation import Found, is_stopped, key_revoked_at, plan
from tests.gateway.core.rows import CERTIFICATE, ID, INSTANCE, KEY, LEASE, NOW, OTHER_KEY, TICKET

LATER = NOW + timedelta(minutes=5)
WEB = Profile("web", 1, {"grants": [{"name": "reports"}, {"name": "logs"}]}, NOW, "alice")


def found(**rows: Any) -> Found:
    return Found(ID, **rows)


def test_a_plan_changes_all_that_could_still_be_used_and_nothing_else() -> None:
    superseded = replace(CERTIFICATE, serial="2f", state=CertificateState.SUPERSEDED)
    gone = replace(CERTIFICATE, serial="3f", not_after=NOW - timedelta(seconds=1))
    revoked = replace(CERTIFICATE, serial="4f", state=CertificateState.REVOKED)
    used = replace(TICKET, id="t-2", state=TicketState.REDEEMED)
    pending = replace(INSTANCE, reenroll_until=LATER)
    key = DummyKey("AKIA", ID, KEY, "reports", b"", NOW, LATER)
    over = replace(key, access_key_id="AKIB", expires_at=NOW)
    token = BearerToken("a", "1f", ID, NOW, LATER)
    rows = found(
        instances=(pending,), certificates=(CERTIFICATE, superseded, gone, revoked), tickets=(TICKET, used),
        leases=(replace(LEASE, sealed_session=b"x"),), keys=(key, over), tokens=(token,),
    )  # fmt: skip
    done = plan(rows, "alice", NOW)
    ((_, instance),) = done.instances
    assert (instance.state, instance.revoked_at, instance.revoked_by) == (InstanceState.REVOKED, NOW, "alice")
    assert instance.reenroll_until is None, "a pending enrolment is gone, too"
    assert [after.serial for _, after in done.certificates] == ["1f", "2f"]
    assert {after.state for _, after in done.certificates} == {CertificateState.REVOKED}
    assert [(after.id, after.state) for _, after in done.tickets] == [("t-1", TicketState.REVOKED)]
    ((_, lease),) = done.leases
    assert (lease.revoked_at, lease.sealed_session) == (NOW, None)
    assert [(after.access_key_id, after.expires_at) for _, after in done.keys] == [("AKIA", NOW)]
    assert done.tokens == (token,)
    assert done.changes
    assert done.agents == (ID,)


def test_doing_it_again_keeps_the_first_time_and_changes_nothing() -> None:
    rows = found(instances=(INSTANCE,), leases=(LEASE,))
    first = plan(rows, "alice", NOW)
    rows = found(instances=(first.instances[0][1],), leases=(first.leases[0][1],))
    again = plan(rows, "bob", LATER)
    assert not again.changes
    assert again.given == first.given, "AWS honours it all the same"


def test_what_the_gateway_kept_to_itself_no_agent_holds() -> None:
    done = plan(found(leases=(replace(LEASE, held="calls"),)), "alice", NOW)
    assert (done.given, done.agents) == ((), ())
    assert done.changes


def test_a_grant_or_all_of_a_profile_stops_once() -> None:
    assert not is_stopped(WEB)
    ((_, grant),) = plan(found(profiles=(WEB,), stops="reports"), "alice", NOW).profiles
    assert is_stopped(grant, "reports")
    assert not is_stopped(grant, "logs")
    assert not is_stopped(grant)
    ((_, whole),) = plan(found(profiles=(grant,)), "alice", LATER).profiles
    assert is_stopped(whole)
    assert is_stopped(whole, "logs")
    assert not plan(found(profiles=(whole,), stops="logs"), "bob", LATER).changes


def test_the_key_of_a_revoked_certificate_is_known_until_the_machine_is_in_by_another() -> None:
    revoked = replace(CERTIFICATE, state=CertificateState.REVOKED, revoked_at=LATER)
    assert key_revoked_at([revoked], INSTANCE) == LATER
    assert key_revoked_at([CERTIFICATE], INSTANCE) is None
    assert key_revoked_at([replace(revoked, key_sha256=OTHER_KEY)], INSTANCE) is None
    back = replace(INSTANCE, enrolled_at=LATER + timedelta(seconds=1))
    assert key_revoked_at([revoked], back) is None, "it was let in since"
    assert key_revoked_at([revoked], replace(INSTANCE, state=InstanceState.REVOKED)) is None, "more than its key is"


def row(*leases: Any, layers: tuple[str, ...] = ("crl", "agents", "aws")) -> Revocation:
    done = plan(found(instances=(INSTANCE,), certificates=(CERTIFICATE,), leases=leases), "alice", NOW)
    document = opened(done, "instance", layers, {"reason": "stolen"})
    return Revocation("r-1", "instance", ID, "spiffe://td/operator/alice", NOW, PlanState.RUNNING, document)


def test_a_plan_is_done_when_each_layer_is_and_the_time_is_measured() -> None:
    made = row(LEASE)
    for name, after in ((GATEWAY, 4), ("crl", 30)):
        made = advanced(made, name, DONE, {}, NOW + timedelta(milliseconds=after))
        assert made.state is PlanState.RUNNING
    failed = advanced(made, "agents", TRYING, {}, NOW, "store_slow")
    assert [each["tries"] for each in failed.document["layers"]] == [2, 1, 1, 0]
    assert failed.document["layers"][2]["problem"] == "store_slow"
    made = advanced(failed, "agents", DONE, {"told": 1}, NOW + timedelta(milliseconds=200))
    made = advanced(made, "aws", UNSERVED, {"why": "none"}, NOW)
    assert made.state is PlanState.DONE
    shown = [(each["layer"], each["state"], each["ms"]) for each in receipt(made, NOW)["layers"]]
    assert shown == [(GATEWAY, DONE, 4.0), ("crl", DONE, 30.0), ("agents", DONE, 200.0), ("aws", UNSERVED, None)]


def test_nothing_new_is_no_change_of_the_row() -> None:
    waiting = advanced(row(LEASE), "aws", WAITING, {"waits_for": "a key"}, NOW)
    assert advanced(waiting, "aws", WAITING, {"waits_for": "a key"}, LATER) is waiting
    assert waiting.state is PlanState.RUNNING
    assert advanced(waiting, "aws", TRYING, {}, LATER, "away") is not waiting


def test_the_receipt_says_what_remains_where_and_until_when() -> None:
    later = replace(LEASE, id="l2", expires_at=NOW + timedelta(hours=2))
    held = replace(LEASE, id="l3", held="calls")
    made = row(LEASE, later, held)
    said = receipt(made, NOW)
    assert (said["revoked_at"], said["by"], said["reason"]) == ("2026-11-23T12:00:00Z", made.by, "stolen")
    assert [(each["lease"], each["what"], each["where"], each["until"]) for each in said["remains"]] == [
        ("l1", "session", "AWS", "2026-11-23T13:00:00Z"),
        ("l2", "session", "AWS", "2026-11-23T14:00:00Z"),
        ("l3", "signatures", "AWS", "2026-11-23T13:00:00Z"),
    ]
    assert said["until"] == "2026-11-23T14:00:00Z"
    after_an_hour = receipt(made, NOW + timedelta(hours=1))
    assert [each["lease"] for each in after_an_hour["remains"]] == ["l2"]
    nothing = receipt(row(), NOW)
    assert (nothing["remains"], nothing["until"]) == ([], None)


@pytest.mark.parametrize("done", [True, False])
def test_what_the_fence_denies_does_not_remain(done: bool) -> None:
    elsewhere = replace(LEASE, id="l2", role="arn:aws:iam::444455556666:role/r")
    held = replace(LEASE, id="l3", held="calls")
    accounts = [{"account": "111122223333", "state": "fenced"}, {"account": "444455556666", "state": "trying"}]
    made = advanced(row(LEASE, elsewhere, held), "aws", DONE if done else TRYING, {"accounts": accounts}, NOW)
    left = [each["lease"] for each in receipt(made, NOW)["remains"]]
    assert left == (["l3"] if done else ["l2", "l3"]), "account by account"


def test_what_others_made_with_a_key_remains_until_it_is_denied() -> None:
    """Whoever had the key may have made sessions that we never heard of."""
    made = row()
    made = replace(made, kind="key", document={**made.document, "key": {"until": "2026-11-24T23:00:00Z"}})
    said = receipt(made, NOW)
    assert [(each["what"], each["until"]) for each in said["remains"]] == [("unknown", "2026-11-24T23:00:00Z")]
    assert receipt(advanced(made, "aws", DONE, {"accounts": []}, NOW), NOW)["remains"] == []
    assert receipt(made, NOW + timedelta(days=3))["remains"] == []


def test_a_dry_run_has_no_id_and_has_done_nothing() -> None:
    said = receipt(row(LEASE), NOW, dry_run=True)
    assert (said["id"], said["state"], said["dry_run"]) == (None, PLANNED, True)
    assert {each["state"] for each in said["layers"]} == {PLANNED}
    assert [each["lease"] for each in said["remains"]] == ["l1"]
