from dataclasses import replace
from datetime import timedelta

from gateway.core.model import CertificateState, InstanceState, TicketState
from gateway.core.revocation import plan, receipt
from tests.gateway.core.rows import CERTIFICATE, INSTANCE, LEASE, NOW, TICKET


def test_a_plan_changes_all_that_could_still_be_used_and_nothing_else() -> None:
    superseded = replace(CERTIFICATE, serial="2f", state=CertificateState.SUPERSEDED)
    gone = replace(CERTIFICATE, serial="3f", not_after=NOW - timedelta(seconds=1))
    revoked = replace(CERTIFICATE, serial="4f", state=CertificateState.REVOKED)
    used = replace(TICKET, id="t-2", state=TicketState.REDEEMED)
    done = plan(INSTANCE, [CERTIFICATE, superseded, gone, revoked], [TICKET, used], [LEASE], "alice", NOW)
    assert done.instance[1].state is InstanceState.REVOKED
    assert (done.instance[1].revoked_at, done.instance[1].revoked_by) == (NOW, "alice")
    assert [after.serial for _, after in done.certificates] == ["1f", "2f"]
    assert {after.state for _, after in done.certificates} == {CertificateState.REVOKED}
    assert [(after.id, after.state) for _, after in done.tickets] == [("t-1", TicketState.REVOKED)]


def test_doing_it_again_keeps_the_first_time() -> None:
    first = plan(INSTANCE, [], [], [], "alice", NOW).instance[1]
    again = plan(first, [], [], [], "bob", NOW + timedelta(hours=1))
    assert again.instance == (first, first)


def test_the_receipt_says_what_remains_and_until_when() -> None:
    later = replace(LEASE, id="l2", expires_at=NOW + timedelta(hours=2))
    said = receipt(plan(INSTANCE, [CERTIFICATE], [], [LEASE, later], "alice", NOW), 7, NOW)
    assert said["crl"] == {"published": True, "number": 7}
    assert [lease["until"] for lease in said["aws"]["still_honours"]] == [
        "2026-11-23T13:00:00Z",
        "2026-11-23T14:00:00Z",
    ]
    assert said["aws"]["until"] == "2026-11-23T14:00:00Z"
    nothing = receipt(plan(INSTANCE, [], [], [], "alice", NOW), None, NOW)
    assert nothing["aws"] == {"still_honours": [], "until": None, "forgotten": []}
    assert not nothing["crl"]["published"]
