"""What operators may do: roles, patterns, conditions, places, and who may give what to whom."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core import operator_document, presence, rights
from gateway.core.audit import Name
from gateway.core.errors import Refusal
from gateway.core.operator_document import OperatorRules, RoleRules, matches
from gateway.core.operator_model import Operator, OperatorState, Role
from gateway.core.rights import BUILT_IN, ROLES, Rights

NOON = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)  # a Monday; 13:00 in Berlin
HERE = "10.1.2.3"
NAMES = [name for name in Name if name.startswith("operator:")]
LAUNCH, STOP = Name.OPERATOR_SERVER_LAUNCH, Name.OPERATOR_SERVER_STOP


def role(name: str = "own", **document: Any) -> RoleRules:
    return operator_document.role(name, {"permissions": ["operator:server:*"], **document})


def operator(*roles: str, **document: Any) -> OperatorRules:
    return operator_document.operator({"roles": list(roles), **document})


def admitted(
    found: OperatorRules, permission: Name, *roles: RoleRules, source: str | None = HERE, now: datetime = NOON
) -> Rights:
    return rights.admit(found, {each.name: each for each in roles}, permission, source, now)


def reason_of(found: OperatorRules, permission: Name, *roles: RoleRules, **more: Any) -> str:
    with pytest.raises(Refusal) as refused:
        admitted(found, permission, *roles, **more)
    assert refused.value.code == "operator_forbidden"
    return refused.value.reason


# The built-in roles

MAY: Mapping[str, tuple[set[str], set[str]]] = {
    "administrator": ({name.value for name in NAMES}, set()),
    "operator": (
        {"operator:ticket:create", "operator:server:launch", "operator:server:start", "operator:server:stop",
         "operator:instance:revoke", "operator:lease:revoke", "operator:instance:reenroll"},
        {"operator:operator:add", "operator:role:apply", "operator:profile:apply", "operator:key:rotate",
         "operator:key:disable", "operator:audit:read", "operator:everything:revoke", "operator:operator:revoke",
         "operator:certificate:issue"},
    ),
    "monitor": (
        {"operator:gateway:status", "operator:gateway:metrics", "operator:server:list", "operator:instance:list"},
        {"operator:server:start", "operator:instance:revoke", "operator:audit:read", "operator:ticket:create",
         "operator:server:output", "operator:key:list", "operator:operator:list"},
    ),
    "auditor": (
        {"operator:audit:read", "operator:audit:export"},
        {"operator:instance:list", "operator:gateway:status", "operator:instance:revoke", "operator:audit:reconcile"},
    ),
    "revoker": (
        {"operator:instance:revoke", "operator:everything:revoke", "operator:key:disable", "operator:key:compromise"},
        {"operator:instance:list", "operator:ticket:create", "operator:key:rotate", "operator:audit:read",
         "operator:operator:add", "operator:instance:reenroll", "operator:server:stop"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ROLES)
def test_a_built_in_role_gives_what_its_name_says_and_no_more(name: str) -> None:
    may, may_not = MAY[name]
    mine = Rights((BUILT_IN[name],))
    assert {each for each in may if not mine.permits(Name(each))} == set()
    assert {each for each in may_not if mine.permits(Name(each))} == set()


@pytest.mark.threat("G15")
def test_G15_no_permission_reads_an_upstream_key() -> None:
    verbs = {name.split(":")[2] for name in NAMES if name.split(":")[1] == "key"}
    assert verbs == {"import", "list", "rotate", "disable", "compromise"}


# Patterns, and what they are of


@given(st.sampled_from(NAMES), st.sampled_from(NAMES))
def test_a_permission_is_only_given_by_a_pattern_that_is_listed(one: Name, other: Name) -> None:
    _, object_, verb = one.split(":")
    for pattern in (one.value, f"operator:{object_}:*", f"operator:*:{verb}", "operator:*:*"):
        assert matches(pattern, one)
        same = all(a in ("*", b) for a, b in zip(pattern.split(":"), other.split(":"), strict=True))
        assert Rights((role(permissions=[pattern]),)).permits(other) is same


@given(st.sampled_from(list(Name)))
def test_no_role_gives_nothing(permission: Name) -> None:
    assert not Rights().permits(permission)
    assert not Rights().permits_anywhere(permission)
    assert not Rights().covers(permission, "111122223333", "eu-central-1", {})
    assert reason_of(operator(), permission) == "permission_missing"
    assert reason_of(operator("nobody-made-this"), permission) == "permission_missing"


@pytest.mark.parametrize("permission", NAMES)
def test_an_operators_pattern_is_of_no_event_of_others(permission: Name) -> None:
    assert not matches("operator:*:*", "instance:credentials:vend")
    assert not matches("operator:*:*", "gateway:key:rotate")
    assert not matches("operator:*", permission)
    assert not matches("*", permission)


@pytest.mark.threat("G09")
@pytest.mark.parametrize(
    ("document", "fault"),
    [
        ({}, "permissions: is missing"),
        ({"permissions": []}, "permissions: name at least one"),
        ({"permissions": "operator:*:*"}, "permissions: must be a list"),
        ({"permissions": ["operator:key:read"]}, "permissions[0]: operator:key:read permits nothing that there is"),
        ({"permissions": ["operator:instnace:*"]}, "permissions[0]: operator:instnace:* permits nothing that there is"),
        ({"permissions": ["Operator:server:list"]}, "permissions[0]: does not have the required form"),
        ({"permissions": [" operator:server:list"]}, "permissions[0]: does not have the required form"),
        ({"permissions": ["operator:server:l*"]}, "permissions[0]: does not have the required form"),
        ({"permissions": ["gateway:key:rotate"]}, "permissions[0]: does not have the required form"),
        ({"permissions": ["*"]}, "permissions[0]: does not have the required form"),
        ({"permissions": ["operator:server:*"], "is_admin": True}, "is_admin: is not known here"),
        ({"permissions": ["operator:server:*"], "accounts": ["1"]}, "accounts[0]: does not have the required form"),
        ({"permissions": ["operator:server:*"], "regions": ["mars"]}, "regions[0]: does not have the required form"),
        ({"permissions": ["operator:server:*"], "tags": {"team": 1}}, "tags.team: must be a string"),
        ({"permissions": ["operator:server:*"], "tags": {"": "x"}}, "tags: a key has 1 to 128 letters"),
        ({"permissions": ["operator:server:*"], "source_addresses": ["10.0.0.1/8"]}, "without host bits"),
        ({"permissions": ["operator:server:*"], "hours": ["always"]}, "hours[0]: must be written like"),
        ({"permissions": ["operator:server:*"], "hours": ["mon-fri 08:00-18:00"]}, "hours[0]: must be written like"),
        ({"permissions": ["operator:server:*"], "hours": ["mon-xyz 08:00-18:00 UTC"]}, "hours[0]: days are mon,"),
        ({"permissions": ["operator:server:*"], "hours": ["daily 08:00-25:00 UTC"]}, "hours[0]: must be written like"),
        ({"permissions": ["operator:server:*"], "hours": ["daily 08:00-18:00 Mars/Base"]}, "time zone is not known"),
        ({"permissions": ["operator:server:*"], "hours": ["daily 08:00-18:00 ../../etc"]}, "must be written like"),
        ({"permissions": ["operator:server:*"] * 65}, "permissions: has more than 64"),
        ({"permissions": ["operator:*:*"], "regions": ["eu-central-1"]}, "has no account, region or tags"),
        ({"permissions": ["operator:profile:apply"], "accounts": ["111122223333"]}, "has no account, region or tags"),
    ],
)
def test_G09_a_role_that_is_not_exactly_right_is_refused(document: dict[str, Any], fault: str) -> None:
    with pytest.raises(Refusal) as refused:
        operator_document.role("own", document)
    assert refused.value.code == "role_invalid"
    assert any(fault in each for each in refused.value.faults), refused.value.faults


def test_all_faults_of_a_role_are_told_at_once() -> None:
    document = {"permissions": ["operator:key:read"], "hours": ["x"], "source_addresses": ["y"]}
    with pytest.raises(Refusal) as refused:
        operator_document.role("Own", document)
    assert len(refused.value.faults) == 4


@pytest.mark.threat("G09")
@pytest.mark.parametrize(
    "name", [" administrator", "ADMINISTRATOR", "administrator ", "Administrator", "аdministrator"]
)
def test_G09_a_role_is_named_exactly_or_not_at_all(name: str) -> None:
    with pytest.raises(Refusal) as refused:
        operator(name)
    assert refused.value.code == "operator_invalid"
    assert operator("administrator").roles == ("administrator",)


def test_a_role_that_was_written_under_other_rules_gives_nothing() -> None:
    rows = [Role("old", {"permissions": ["operator:removed:verb"]}, 1, NOON, ""), Role("new", {"permissions": [
        "operator:server:list"]}, 1, NOON, "")]  # fmt: skip
    assert set(rights.known(rows)) == {*ROLES, "new"}


@pytest.mark.threat("G09")
def test_G09_a_row_cannot_stand_in_for_a_built_in_role() -> None:
    row = Role("monitor", {"permissions": ["operator:*:*"]}, 1, NOON, "")
    assert rights.known([row])["monitor"] == BUILT_IN["monitor"]


# Conditions


@pytest.mark.parametrize(
    ("hours", "at", "opens"),
    [
        ("mon-fri 08:00-18:00 Europe/Berlin", "2026-11-23T07:00", True),
        ("mon-fri 08:00-18:00 Europe/Berlin", "2026-11-23T06:59", False),
        ("mon-fri 08:00-18:00 Europe/Berlin", "2026-11-23T16:59", True),
        ("mon-fri 08:00-18:00 Europe/Berlin", "2026-11-23T17:00", False),
        ("mon-fri 08:00-18:00 Europe/Berlin", "2026-07-20T06:00", True),  # summer time
        ("mon-fri 08:00-18:00 Europe/Berlin", "2026-11-22T12:00", False),  # a Sunday
        ("fri-mon 00:00-24:00 UTC", "2026-11-22T23:59", True),
        ("fri-mon 00:00-24:00 UTC", "2026-11-24T00:00", False),
        ("fri 22:00-06:00 UTC", "2026-11-28T05:59", True),
        ("fri 22:00-06:00 UTC", "2026-11-27T05:59", False),
        ("fri 22:00-06:00 UTC", "2026-11-28T22:00", False),
        ("mon,wed 12:00-13:00 UTC", "2026-11-25T12:30", True),
        ("mon,wed 12:00-13:00 UTC", "2026-11-24T12:30", False),
        ("daily 12:00-12:00 UTC", "2026-11-24T03:00", True),
        ("sun 02:00-03:00 Europe/Berlin", "2026-10-25T00:30", True),  # the hour that is there twice
        ("sun 02:00-03:00 Europe/Berlin", "2026-10-25T01:30", True),
        ("sun 02:00-03:00 Europe/Berlin", "2026-03-29T01:00", False),  # and the one that is not there
    ],
)
def test_hours_are_those_of_a_wall_clock(hours: str, at: str, opens: bool) -> None:
    now = datetime.fromisoformat(at).replace(tzinfo=UTC)
    (window,) = role(hours=[hours]).presence.hours
    assert window.open_at(now) is opens


@pytest.mark.parametrize("on", ["operator", "role"])
def test_a_condition_that_does_not_hold_takes_the_right_and_is_named(on: str) -> None:
    def reason(**condition: Any) -> str:
        of_role: dict[str, Any] = condition if on == "role" else {}
        of_operator: dict[str, Any] = condition if on == "operator" else {}
        return reason_of(operator("own", **of_operator), STOP, role(**of_role))

    assert reason(hours=["mon-fri 20:00-22:00 Europe/Berlin"]) == "outside_hours"
    assert reason(source_addresses=["10.2.0.0/16", "2001:db8::/32"]) == "source_address"
    held = {"hours": ["sat 08:00-09:00 UTC", "mon 11:00-13:00 UTC"], "source_addresses": ["10.1.0.0/16"]}
    of_role: dict[str, Any] = held if on == "role" else {}
    of_operator: dict[str, Any] = held if on == "operator" else {}
    assert admitted(operator("own", **of_operator), STOP, role(**of_role)).permits(STOP)
    assert admitted(operator("own", **of_operator), STOP, role(**of_role), source="::ffff:10.1.0.9").permits(STOP)
    assert reason_of(operator("own", **of_operator), STOP, role(**of_role), source=None) == "source_address"


def test_a_role_that_sleeps_leaves_the_others_awake() -> None:
    asleep = role("asleep", permissions=["operator:key:*"], hours=["sat 08:00-09:00 UTC"])
    found = admitted(operator("own", "asleep"), STOP, role(), asleep)
    assert not found.permits(Name.OPERATOR_KEY_ROTATE)
    assert reason_of(operator("own", "asleep"), Name.OPERATOR_KEY_ROTATE, role(), asleep) == "outside_hours"
    assert reason_of(operator("own", "asleep"), Name.OPERATOR_AUDIT_READ, role(), asleep) == "permission_missing"


CONDITIONS: list[dict[str, Any]] = [
    {"hours": ["mon-fri 08:00-18:00 Europe/Berlin"]}, {"hours": ["sat 08:00-18:00 UTC"]},
    {"source_addresses": ["10.1.0.0/16"]}, {"source_addresses": ["192.0.2.0/24"]},
    {"accounts": ["111122223333"]}, {"regions": ["eu-central-1"]}, {"tags": {"team": "web*"}},
]  # fmt: skip
PLACES = st.tuples(
    st.sampled_from(["111122223333", "444455556666"]), st.sampled_from(["eu-central-1", "us-east-1"]),
    st.dictionaries(st.sampled_from(["team", "env"]), st.sampled_from(["web", "web-1", "db"])),
)  # fmt: skip


@given(st.lists(st.sampled_from(CONDITIONS), max_size=4), st.sampled_from(CONDITIONS), PLACES, st.sampled_from(NAMES))
def test_a_condition_more_never_gives_more(
    before: list[dict[str, Any]], more: dict[str, Any], place: tuple[str, str, dict[str, str]], permission: Name
) -> None:
    merged: dict[str, Any] = {}
    for each in before:
        merged |= each
    narrow = merged | {name: value for name, value in more.items() if name not in merged}

    def covered(document: dict[str, Any]) -> bool:
        try:
            return admitted(operator("own"), permission, role(**document)).covers(permission, *place)
        except Refusal:
            return False

    assert covered(merged) or not covered(narrow)


@pytest.mark.threat("G10")
@pytest.mark.parametrize(
    ("restriction", "place", "covered"),
    [
        ({}, ("111122223333", "eu-central-1", {}), True),
        ({"accounts": ["111122223333"]}, ("111122223333", "eu-central-1", {}), True),
        ({"accounts": ["111122223333"]}, ("444455556666", "eu-central-1", {}), False),
        ({"regions": ["eu-central-1"]}, ("111122223333", "us-east-1", {}), False),
        ({"tags": {"team": "web*"}}, ("111122223333", "us-east-1", {"team": "web-1"}), True),
        ({"tags": {"team": "web*"}}, ("111122223333", "us-east-1", {"team": "db"}), False),
        ({"tags": {"team": "web*"}}, ("111122223333", "us-east-1", {"Team": "web"}), False),
        ({"tags": {"team": "*"}}, ("111122223333", "us-east-1", {}), False),
        ({"tags": {"team": "*"}}, ("111122223333", "us-east-1", {"team": ""}), True),
        ({"tags": {"team": "a*b*c"}}, ("111122223333", "us-east-1", {"team": "aXbYc"}), True),
        ({"tags": {"team": "a*b*c"}}, ("111122223333", "us-east-1", {"team": "abcb"}), False),
        ({"tags": {"team": "ab*ba"}}, ("111122223333", "us-east-1", {"team": "aba"}), False),
        ({"tags": {"team": "[a-z]"}}, ("111122223333", "us-east-1", {"team": "a"}), False),
    ],
)
def test_G10_a_role_that_is_bound_to_a_place_covers_nothing_elsewhere(
    restriction: dict[str, Any], place: tuple[str, str, dict[str, str]], covered: bool
) -> None:
    found = admitted(operator("own"), STOP, role(**restriction))
    assert found.covers(STOP, *place) is covered
    assert found.permits_anywhere(STOP) is (restriction == {})
    assert not found.covers(Name.OPERATOR_KEY_ROTATE, *place)


# Who may give what


@pytest.mark.parametrize(
    ("own", "given", "included"),
    [
        ([], [role()], False),
        ([role()], [], True),
        ([role()], [role(permissions=["operator:server:stop"])], True),
        ([role(permissions=["operator:server:stop"])], [role()], False),
        ([role(regions=["eu-central-1"])], [role()], False),
        ([role(regions=["eu-central-1"])], [role(regions=["eu-central-1"], tags={"team": "web"})], True),
        ([role(regions=["eu-central-1"])], [role(regions=["eu-central-1", "us-east-1"])], False),
        ([role(accounts=["111122223333"])], [role(regions=["eu-central-1"])], False),
        ([role(tags={"team": "web"})], [role(tags={"team": "db"})], False),
        ([role(hours=["mon 08:00-18:00 UTC"])], [role()], False),
        ([role(hours=["mon 08:00-18:00 UTC"])], [role(hours=["mon 08:00-18:00 UTC"])], True),
        ([role(source_addresses=["10.0.0.0/8"])], [role(source_addresses=["10.1.0.0/16"])], True),
        ([role(source_addresses=["10.1.0.0/16"])], [role(source_addresses=["10.0.0.0/8"])], False),
        ([role(source_addresses=["10.1.0.0/16"])], [role()], False),
        ([BUILT_IN["administrator"]], list(BUILT_IN.values()), True),
        ([BUILT_IN["operator"]], [BUILT_IN["monitor"]], False),  # metrics are not an operator's
        ([BUILT_IN["revoker"]], [BUILT_IN["operator"]], False),
    ],
)
def test_nobody_gives_what_they_do_not_have(own: list[RoleRules], given: list[RoleRules], included: bool) -> None:
    assert Rights(tuple(own)).include(Rights(tuple(given))) is included


LAN, CELLAR, ANYWHERE = (presence.read([each], [], []) for each in ("10.0.0.0/8", "10.1.0.0/16", "0.0.0.0/0"))


@pytest.mark.parametrize(
    ("own", "given", "included"),
    [
        (Rights((role(),), LAN), Rights((role(),)), False),
        (Rights((role(),), LAN), Rights((role(),), ANYWHERE), False),
        (Rights((role(),), LAN), Rights((role(),), LAN), True),
        (Rights((role(),), LAN), Rights((role(),), CELLAR), True),
        (Rights((role(),), LAN), Rights((role(source_addresses=["10.1.0.0/16"]),)), True),
        (Rights((role(source_addresses=["10.0.0.0/8"]),)), Rights((role(),), CELLAR), True),
        (Rights((role(source_addresses=["10.1.0.0/16"]),), LAN), Rights((role(),), LAN), False),
        (Rights((role(),)), Rights((role(),), LAN), True),
    ],
)
def test_a_condition_on_oneself_bounds_what_one_gives(own: Rights, given: Rights, included: bool) -> None:
    assert own.include(given) is included


def an_operator(name: str, *roles: str, state: OperatorState = OperatorState.ACTIVE, **document: Any) -> Operator:
    return Operator(name, {"roles": list(roles), **document}, 1, state, NOON, "")


A = an_operator("a", "administrator")
IDENTITY = {"issuer": "https://id.example", "subject": "7"}


def left(changed: list[Operator], rows: list[Operator]) -> bool:
    try:
        rights.demand_administrator(changed, rows)
    except Refusal as refused:
        return refused.reason != "last_administrator"
    return True


@pytest.mark.parametrize(
    ("rows", "enough"),
    [
        ([an_operator("b", "administrator")], True),
        ([an_operator("b", "auditor", "administrator"), an_operator("c", "operator")], True),
        ([], False),
        ([an_operator("b", "operator", "revoker")], False),
        ([an_operator("b", "administrator", state=OperatorState.REVOKED)], False),
        ([an_operator("b", "administrator", odd=True)], False),
        ([an_operator("b", "administrator", identity=IDENTITY)], False),
        ([an_operator("b", "administrator", identity=IDENTITY), an_operator("c", "administrator")], True),
        ([an_operator("b", "administrator", hours=["sat 08:00-09:00 UTC"])], True),
    ],
)
def test_one_administrator_is_left_who_can_let_others_in(rows: list[Operator], enough: bool) -> None:
    assert left([A], rows) is enough
    assert left([an_operator("x", "operator"), A], rows) is enough


@pytest.mark.parametrize(
    "other",
    [
        an_operator("x", "operator"),
        an_operator("x", "administrator", state=OperatorState.REVOKED),
        an_operator("x", "administrator", identity=IDENTITY),
    ],
)
def test_whoever_could_let_nobody_in_can_go_whoever_is_left(other: Operator) -> None:
    assert left([other], [])


@pytest.mark.parametrize(
    ("document", "could"),
    [
        ({}, True),
        ({"source_addresses": ["192.0.2.0/24"]}, False),
        ({"hours": ["sat 08:00-09:00 UTC"]}, False),
        ({"hours": ["mon 08:00-18:00 UTC"]}, True),
        ({"odd": True}, False),
    ],
)
def test_who_could_act_now(document: dict[str, Any], could: bool) -> None:
    assert rights.could_act(an_operator("a", "administrator", **document), HERE, NOON) is could
