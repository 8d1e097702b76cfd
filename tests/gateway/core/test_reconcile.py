"""What of AWS's records is a finding, and what is not."""

import ipaddress
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.cloudtrail import TrailEvent, read
from gateway.core.model import Lease
from gateway.core.operator_model import Finding
from gateway.core.reconcile import (
    ADVICE,
    MOST,
    MOST_EVENTS,
    Found,
    Judged,
    Known,
    Outcome,
    Tally,
    Ties,
    judge,
    judge_machine,
    merged,
    role_of,
    together,
)
from gateway.core.servers import Machine
from tests.gateway.core.test_cloudtrail import FILES, of

ACCOUNT, KEY, LEASED = "111122223333", "AKIAIOSFODNN7EXAMPLE", "ASIAIOSFODNN7LEASED0"
INSTANCE = f"spiffe://td/aws/{ACCOUNT}/us-east-1/i-0123456789abcdef0"
NOW = datetime(2030, 1, 1, 12, tzinfo=UTC)
LEASE = Lease(
    "ab" * 16, INSTANCE, "web", "reports", "main", f"arn:aws:iam::{ACCOUNT}:role/reader", "i-0123456789abcdef0", LEASED,
    NOW - timedelta(hours=1), NOW,
)  # fmt: skip
KNOWN = Known(
    now=NOW,
    kept_since=NOW - timedelta(days=400),
    ours=(ipaddress.ip_network("203.0.113.7/32"),),
    keys={KEY: "main"},
    accounts={ACCOUNT},
    roles={(ACCOUNT, "reader")},
    leases={LEASED: LEASE},
    homes={INSTANCE: ["192.0.2.10", "10.0.0.10"]},
)


def verdicts(name: str, known: Known = KNOWN) -> list[tuple[str, str]]:
    """Outcome and reason of each record of a vector."""
    judged = [judge(read(raw), known) for raw in of(name)]
    return [(each.outcome.value, each.why) for each in judged]


def findings(judged: Sequence[Judged]) -> dict[str, Finding]:
    return together(found for each in judged for found in each.findings)


def test_each_recorded_file_says_what_it_says() -> None:
    assert {file.stem: verdicts(file.stem) for file in FILES} == {
        "assume_role": [("matched", "key"), ("found", "session_unknown")],
        "assumed_role": [("matched", "session"), ("found", "session_elsewhere"), ("matched", "session")],
        "console_login": [("found", "session_unknown"), ("unrelated", "unrelated")],
        "errors": [("found", "session_elsewhere")],
        "federated_user": [("found", "session_unknown"), ("unrelated", "unrelated")],
        "iam_user": [("matched", "key"), ("found", "key_elsewhere")],
        "insight": [("unrelated", "unrelated")],
        "on_behalf": [("by_service", "by_service"), ("found", "session_unknown")],
        "run_instances": [("found", "instance_unknown")],
    }


def test_a_finding_says_who_from_where_when_and_what_next() -> None:
    (found,) = findings([judge(read(of("iam_user")[1]), KNOWN)]).values()
    assert (found.kind, found.subject) == ("key_elsewhere", f"{KEY} from 198.51.100.66")
    assert found.first_at == found.last_at == datetime(2030, 1, 1, 11, 2, tzinfo=UTC)
    assert found.document["about"] == {"upstream": "main", "access_key_id": KEY, "source": "198.51.100.66"}
    assert found.document["what"] == ["s3:ListBuckets"]
    assert found.document["events"] == ["86efdb25-0000-4000-8000-000000000002"]
    (denied,) = findings([judge(read(of("errors")[0]), KNOWN)]).values()
    assert denied.document["outcomes"] == ["AccessDenied"]
    assert denied.document["about"]["instance"] == INSTANCE
    made = findings([judge(read(of("assume_role")[1]), KNOWN)])
    signed_in = findings([judge(read(of("console_login")[0]), KNOWN)])
    assert made.keys() == signed_in.keys()  # who made the session, and who used it, are one finding
    assert next(iter(made.values())).document["by"] == [f"arn:aws:iam::{ACCOUNT}:user/mallory"]
    assert ADVICE.keys() == set(Found)


# What cannot be decided is counted as that, with the reason


@pytest.mark.parametrize(
    ("name", "number", "change", "expected"),
    [
        ("iam_user", 1, {"ours": ()}, "addresses_unknown"),
        ("assumed_role", 1, {"homes": {INSTANCE: ["10.0.0.10"]}}, "address_not_attested"),
        ("assumed_role", 1, {"homes": {}}, "address_not_attested"),
        ("assume_role", 1, {"now": datetime(2030, 1, 1, 11, 6, tzinfo=UTC)}, "too_fresh"),
        ("assume_role", 1, {"kept_since": NOW}, "older_than_leases"),
        ("assume_role", 0, {"leases": {}}, "mint_without_lease"),
        ("run_instances", 0, {"now": datetime(2030, 1, 1, 10, 0, tzinfo=UTC)}, "may_still_enrol"),
    ],
)
def test_what_cannot_be_decided_says_why(name: str, number: int, change: dict[str, Any], expected: str) -> None:
    judged = judge(read(of(name)[number]), replace(KNOWN, **change))
    assert (judged.outcome, judged.why, judged.findings) == (Outcome.UNVERIFIABLE, expected, ())


def test_a_profile_that_says_where_its_machines_are_can_be_checked_behind_nat() -> None:
    nat = replace(KNOWN, homes={INSTANCE: ["10.0.0.10"]})
    here, elsewhere = (ipaddress.ip_network(each) for each in ("198.51.100.0/24", "192.0.2.0/24"))
    for ties, expected in (
        (Ties(networks=(here,)), "session"),
        (Ties(networks=(elsewhere,)), "session_elsewhere"),
        (Ties(binds=True), "session_elsewhere"),
    ):
        assert judge(read(of("assumed_role")[1]), replace(nat, ties={("web", "reports"): ties})).why == expected


def test_a_session_that_we_keep_may_be_used_by_us_and_by_its_instance() -> None:
    held = replace(KNOWN, leases={LEASED: replace(LEASE, held="calls")})
    event = read(of("assumed_role")[1])
    assert judge(replace(event, source="203.0.113.7"), held).why == "session_held"
    assert judge(replace(event, source="192.0.2.10"), held).why == "session"
    assert judge(event, held).why == "session_elsewhere"
    assert judge(replace(event, presigned=True), held).why == "presigned"
    assert judge(replace(event, presigned=True), KNOWN).why == "session_elsewhere"  # a thief can presign, too
    assert judge(replace(event, source="203.0.113.7"), KNOWN).why == "session_elsewhere"  # given away, it is not ours
    assert judge(event, replace(held, ours=())).why == "addresses_unknown"


@pytest.mark.parametrize(("later", "expected"), [(299, []), (301, ["session_after_revocation"])])
def test_a_session_is_not_used_after_its_revocation(later: int, expected: list[str]) -> None:
    event = read(of("assumed_role")[0])
    revoked = replace(LEASE, revoked_at=event.at - timedelta(seconds=later))
    judged = judge(event, replace(KNOWN, leases={LEASED: revoked}))
    assert [each.kind for each in judged.findings] == expected
    elsewhere = judge(replace(event, source="198.51.100.66"), replace(KNOWN, leases={LEASED: revoked}))
    assert [each.kind for each in elsewhere.findings] == ["session_elsewhere", *expected]


def test_the_key_of_before_a_rotation_is_still_ours_to_watch() -> None:
    event = replace(read(of("iam_user")[1]), access_key_id="AKIAIOSFODNN7FORMER0")
    assert judge(event, KNOWN).outcome is Outcome.UNRELATED
    assert judge(event, replace(KNOWN, keys={**KNOWN.keys, "AKIAIOSFODNN7FORMER0": "main"})).why == "key_elsewhere"


def test_machines_that_we_neither_launched_nor_enrolled_are_found() -> None:
    launched = NOW - timedelta(hours=2)
    machine = Machine(ACCOUNT, "us-east-1", "i-0feedfacefeedface", "running", launched, "ami-1", "t3.micro", "10.0.0.9")
    found = judge_machine(machine, KNOWN)
    assert (found.outcome, found.why) == (Outcome.FOUND, "instance_unknown")
    by_event = judge(read(of("run_instances")[0]), KNOWN)
    assert found.findings[0].id == by_event.findings[0].id
    assert judge_machine(machine, replace(KNOWN, machines={machine.id})).outcome is Outcome.MATCHED
    assert judge_machine(replace(machine, launched_at=NOW - timedelta(minutes=59)), KNOWN).why == "may_still_enrol"
    assert judge_machine(replace(machine, state="terminated"), KNOWN).outcome is Outcome.UNRELATED
    foreign = replace(KNOWN, accounts=())
    assert judge(read(of("run_instances")[0]), foreign).outcome is Outcome.UNRELATED


@pytest.mark.parametrize(
    ("arn", "role"),
    [
        (f"arn:aws:iam::{ACCOUNT}:role/reader", (ACCOUNT, "reader")),
        (f"arn:aws:iam::{ACCOUNT}:role/a/b/reader", (ACCOUNT, "reader")),
        (f"arn:aws-cn:sts::{ACCOUNT}:assumed-role/reader/i-0", (ACCOUNT, "reader")),
        (f"arn:aws:iam::{ACCOUNT}:user/reader", None),
        ("", None),
    ],
)
def test_a_role_is_named_by_account_and_name(arn: str, role: tuple[str, str] | None) -> None:
    assert role_of(arn) == role


def test_nothing_read_is_never_well() -> None:
    assert Tally().verdict(0) == "nothing_read"
    assert Tally(unread=1).verdict(0) == "nothing_read"
    tally = Tally(events=1)
    assert (tally.verdict(0), tally.verdict(1)) == ("clear", "found")
    tally.count(Judged(Outcome.UNVERIFIABLE, "too_fresh"))
    assert tally.verdict(0) == "undecided"
    assert Tally(events=1, unread=1).verdict(0) == "undecided"


# Properties

OURS = ["203.0.113.7"]
HOME = ["192.0.2.10", "10.0.0.10"]
BASE = read(of("assumed_role")[0])
numbers = st.integers(0, 10**6)
moments = st.integers(0, 3500).map(lambda seconds: LEASE.issued_at + timedelta(seconds=seconds))


def used(number: int, at: datetime, source: str, **more: Any) -> TrailEvent:
    return replace(BASE, id=f"event-{number}", at=at, source=source, **more)


own = st.one_of(
    st.builds(used, numbers, moments, st.sampled_from(HOME), name=st.sampled_from(["GetObject", "PutObject"])),
    st.builds(used, numbers, moments, st.just("athena.amazonaws.com")),
    st.builds(used, numbers, moments, st.just("198.51.100.1"), invoked_by=st.just("s3.amazonaws.com")),
    st.builds(
        used, numbers, moments, st.sampled_from(OURS), identity=st.just("IAMUser"), access_key_id=st.just(KEY),
        arn=st.just(f"arn:aws:iam::{ACCOUNT}:user/upstream"), issuer=st.none(),
    ),
)  # fmt: skip
FOREIGN = {
    "key_elsewhere": used(-1, NOW, "198.51.100.1", identity="IAMUser", access_key_id=KEY, issuer=None),
    "session_elsewhere": used(-2, NOW - timedelta(minutes=30), "198.51.100.2"),
    "session_unknown": used(-3, NOW - timedelta(minutes=30), "192.0.2.10", access_key_id="ASIASTRANGER"),
}


@given(st.lists(own, max_size=30))
def test_nothing_that_goes_by_the_gateway_is_ever_a_finding(events: list[TrailEvent]) -> None:
    judged = [judge(event, KNOWN) for event in events]
    assert {each.outcome for each in judged} <= {Outcome.MATCHED, Outcome.BY_SERVICE}
    assert findings(judged) == {}


@given(st.lists(own, max_size=20), st.sets(st.sampled_from(sorted(FOREIGN))), st.randoms(use_true_random=False))
def test_each_foreign_event_is_found_once_in_any_order_and_however_often_it_is_seen(
    events: list[TrailEvent], kinds: set[str], dice: Any
) -> None:
    mixed = [*events, *(FOREIGN[kind] for kind in kinds)] * 2
    dice.shuffle(mixed)
    found = findings([judge(event, KNOWN) for event in mixed])
    assert sorted(each.kind for each in found.values()) == sorted(kinds)
    assert all(each.document["events"] == [FOREIGN[each.kind].id] for each in found.values())


@given(st.lists(st.tuples(numbers, moments), min_size=1, max_size=12), st.data())
def test_what_is_remembered_does_not_depend_on_order_batches_or_repetition(
    seen: list[tuple[int, datetime]], data: st.DataObject
) -> None:
    events = [used(number, at, "198.51.100.1") for number, at in seen]
    (whole,) = findings([judge(event, KNOWN) for event in events]).values()
    again = data.draw(st.permutations(events + events[:3]))
    cut = data.draw(st.integers(0, len(again)))
    parts = [findings([judge(event, KNOWN) for event in part]) for part in (again[cut:], again[:cut]) if part]
    (other,) = together(found for part in parts for found in part.values()).values()
    assert other == whole
    assert whole.first_at == min(at for _, at in seen)
    assert whole.last_at == max(at for _, at in seen)


def test_a_finding_stays_small_however_often_it_is_seen() -> None:
    event = FOREIGN["session_unknown"]
    several = [
        judge(replace(event, id=f"e{i:04}", name=f"N{i:04}", source=f"10.1.{i // 256}.{i % 256}"), KNOWN)
        for i in range(600)
    ]
    (found,) = findings(several).values()
    assert len(found.document["events"]) == MOST_EVENTS
    assert found.document["more"]
    assert len(found.document["sources"]) == len(found.document["what"]) == MOST
    assert merged(found, found) == found
