"""Profiles have versions: what is kept, what is refused, and what the audit log says of it."""

import json
from datetime import timedelta
from typing import Any

import pytest

from gateway.adapters.secret_detector import SecretDetector
from gateway.core.audit import Name
from gateway.core.errors import Refusal
from gateway.core.model import Profile
from gateway.core.precondition import Expected
from gateway.flows.profiles import Profiles
from tests.gateway.flows.conftest import PROFILE, Gateway

ONLY: Any = PROFILE["grants"][0]


def changed(**change: Any) -> dict[str, Any]:
    """The profile that is in force as version 1, with another grant."""
    return {**PROFILE, "grants": [{**ONLY, **change}]}


@pytest.fixture
def profiles(gateway: Gateway) -> Profiles:
    made = Profiles(gateway.store, gateway.journal, SecretDetector(), gateway.time, source_address=True)
    made.apply(gateway.call(Name.OPERATOR_PROFILE_APPLY), "web", changed(duration="30m"))
    return made


def rows(gateway: Gateway) -> tuple[list[Any], list[Any]]:
    with gateway.store.read() as tx:
        return list(tx.profiles.find()), list(tx.profile_versions.find())


def refused(gateway: Gateway, profiles: Profiles, *arguments: Any, **options: Any) -> Refusal:
    """Apply, and be refused: nothing changed, and one record."""
    before, count = rows(gateway), len(gateway.records())
    with pytest.raises(Refusal) as caught, gateway.journal.call(Name.OPERATOR_PROFILE_APPLY, "id", None) as call:
        profiles.apply(call, *arguments, **options)
    assert rows(gateway) == before
    (record,) = gateway.records()[count:]
    assert (record["kind"], record["allowed"], record["object"]) == ("decision", False, "profile/web")
    return caught.value


def test_each_change_is_a_version(gateway: Gateway, profiles: Profiles) -> None:
    """The fixture applied the second, over a first that has no row of its own: it is not lost either."""
    call = gateway.call(Name.OPERATOR_PROFILE_APPLY)
    call.subject = "bob"
    gateway.time.passes(timedelta(minutes=1))
    applied = profiles.apply(call, "web", changed(duration="45m"))
    assert (applied.profile.version, applied.changed, applied.previous) == (3, True, 2)
    assert (applied.profile.applied_by, applied.profile.applied_at) == ("bob", gateway.time())
    assert [each.version for each in profiles.versions(call, "web")] == [3, 2]
    for version, duration in ((2, "30m"), (3, "45m"), (None, "45m")):
        found = profiles.one(call, "web", version)
        assert found.version == (version or 3)
        assert found.document["grants"][0]["duration"] == duration
    with gateway.store.read() as tx:
        kept = tx.profiles.get(name="web")
    assert kept == applied.profile


def test_the_same_again_is_no_version(gateway: Gateway, profiles: Profiles) -> None:
    """Also when the policy is written otherwise."""
    before = rows(gateway)
    same = (changed(duration="30m"), changed(duration="30m", policy=json.dumps(json.loads(ONLY["policy"]), indent=4)),
            changed(duration="30m", policy=json.loads(ONLY["policy"])))  # fmt: skip
    for document in same:
        applied = profiles.apply(gateway.call(Name.OPERATOR_PROFILE_APPLY), "web", document)
        assert (applied.profile.version, applied.changed, applied.previous) == (2, False, 2)
    assert rows(gateway) == before
    assert gateway.records()[-1]["facts"] == {"version": 2, "grants": ["reports"], "changed": False}


def test_what_was_kept_before_policies_were_kept_alike_is_the_same_too(gateway: Gateway) -> None:
    spread = json.dumps(json.loads(ONLY["policy"]), indent=4)
    old = Profile("old", 1, changed(policy=spread) | {"name": "old"}, gateway.time(), "alice")
    gateway.store.write(lambda tx: tx.profiles.add(old))
    profiles = Profiles(gateway.store, gateway.journal, SecretDetector(), gateway.time, source_address=True)
    applied = profiles.apply(gateway.call(Name.OPERATOR_PROFILE_APPLY), "old", changed() | {"name": "old"})
    assert (applied.changed, applied.profile) == (False, old)


def test_a_dry_run_checks_everything_and_changes_nothing(gateway: Gateway, profiles: Profiles) -> None:
    before = rows(gateway)
    call = gateway.call(Name.OPERATOR_PROFILE_APPLY)
    applied = profiles.apply(call, "web", changed(duration="45m"), dry_run=True)
    assert (applied.profile.version, applied.changed, applied.previous) == (3, True, 2)
    applied = profiles.apply(call, "new", changed() | {"name": "new"}, dry_run=True)
    assert (applied.profile.version, applied.changed, applied.previous) == (1, True, None)
    assert rows(gateway) == before
    assert gateway.records()[-1]["facts"] == {"version": 1, "grants": ["reports"], "changed": True, "dry_run": True}
    for wrong, code in (
        (changed(duration="13h"), "profile_invalid"),
        (changed() | {"upstream": "absent"}, "upstream_key_unknown"),
    ):
        assert refused(gateway, profiles, "web", wrong, dry_run=True).code == code


def test_faults_are_named_with_their_place(gateway: Gateway, profiles: Profiles) -> None:
    refusal = refused(gateway, profiles, "web", changed() | {"upstream": "absent"})
    assert (refusal.code, refusal.faults) == ("upstream_key_unknown", ("upstream: no upstream key is named 'absent'",))
    refusal = refused(gateway, profiles, "web", changed() | {"name": "batch"})
    assert (refusal.code, refusal.faults) == ("profile_invalid", ("name: differs from the name in the path",))
    refusal = refused(gateway, profiles, "web", changed(duration="13h", tags={"aws:x": ""}))
    assert [fault.split(":")[0] for fault in refusal.faults] == ["grants[0].duration", "grants[0].tags.aws"]


@pytest.mark.threat("G18")
@pytest.mark.parametrize(
    ("expected", "holds"),
    [
        (Expected(), True),
        (Expected(frozenset({2})), True),
        (Expected(frozenset({1, 2})), True),
        (Expected(frozenset({None})), True),
        (Expected(frozenset({1})), False),
        (Expected(frozenset({3})), False),
        (Expected(absent=True), False),
        (Expected(frozenset({2}), absent=True), False),
    ],
)
def test_who_expects_another_version_changes_nothing(
    gateway: Gateway, profiles: Profiles, expected: Expected, holds: bool
) -> None:
    if holds:
        call = gateway.call(Name.OPERATOR_PROFILE_APPLY)
        assert profiles.apply(call, "web", changed(duration="45m"), expected).profile.version == 3
    else:
        for dry_run in (False, True):
            refusal = refused(gateway, profiles, "web", changed(duration="45m"), expected, dry_run=dry_run)
            assert (refusal.code, refusal.detail) == ("precondition_failed", "Version 2 is in force")


@pytest.mark.threat("G18")
def test_a_new_profile_may_be_expected_to_be_new(gateway: Gateway, profiles: Profiles) -> None:
    call, document = gateway.call(Name.OPERATOR_PROFILE_APPLY), changed() | {"name": "new"}
    for expected in (Expected(frozenset({1})), Expected(frozenset({None}))):
        with pytest.raises(Refusal, match="No version is in force"):
            profiles.apply(call, "new", document, expected)
    assert profiles.apply(call, "new", document, Expected(absent=True)).previous is None


@pytest.mark.threat("G18")
def test_of_two_who_saw_the_same_version_one_wins(gateway: Gateway, profiles: Profiles) -> None:
    saw = Expected(frozenset({2}))
    profiles.apply(gateway.call(Name.OPERATOR_PROFILE_APPLY), "web", changed(duration="45m"), saw)
    assert refused(gateway, profiles, "web", changed(duration="50m"), saw).code == "precondition_failed"


def test_going_back_is_a_new_version(gateway: Gateway, profiles: Profiles) -> None:
    call = gateway.call(Name.OPERATOR_PROFILE_ROLLBACK)
    profiles.apply(call, "web", changed(duration="45m"))
    applied = profiles.roll_back(call, "web", 2, Expected(frozenset({3})))
    assert (applied.profile.version, applied.changed, applied.previous) == (4, True, 3)
    assert applied.profile.document["grants"][0]["duration"] == "30m"
    assert gateway.records()[-1]["facts"] == {"version": 4, "grants": ["reports"], "changed": True, "from_version": 2}
    assert [each.version for each in profiles.versions(call, "web")] == [4, 3, 2]
    again = profiles.roll_back(call, "web", 2)
    assert (again.profile.version, again.changed) == (4, False)
    with pytest.raises(Refusal) as caught:
        profiles.roll_back(call, "web", 3, Expected(frozenset({3})))
    assert caught.value.code == "precondition_failed"


def test_what_was_valid_once_is_judged_by_todays_rules(gateway: Gateway, profiles: Profiles) -> None:
    old = profiles.one(gateway.call(Name.OPERATOR_PROFILE_READ), "web", 2)
    lax = Profile("lax", 2, {**old.document, "name": "lax"}, old.applied_at, "alice")
    row = type(old)("lax/00000001", "lax", 1, {"name": "lax", "grants": [{**ONLY, "session_name": "all-the-same"}]},
                    old.applied_at, "alice")  # fmt: skip
    gateway.store.write(lambda tx: tx.profiles.add(lax) and tx.profile_versions.add(row))
    with pytest.raises(Refusal) as caught:
        profiles.roll_back(gateway.call(Name.OPERATOR_PROFILE_ROLLBACK), "lax", 1)
    assert caught.value.code == "profile_invalid"


def test_what_is_not_there(gateway: Gateway, profiles: Profiles) -> None:
    call = gateway.call(Name.OPERATOR_PROFILE_READ)
    for ask in (
        lambda: profiles.one(call, "absent", None),
        lambda: profiles.one(call, "web", 3),
        lambda: profiles.one(call, "web", 1),  # from before there was a history, in this store of a test only
        lambda: profiles.versions(call, "absent"),
        lambda: profiles.roll_back(call, "web", 9),
        lambda: profiles.roll_back(call, "absent", 1),
    ):
        with pytest.raises(Refusal) as caught:
            ask()
        assert caught.value.code == "profile_unknown"
    assert [each.name for each in profiles.all(call)] == ["web"]
