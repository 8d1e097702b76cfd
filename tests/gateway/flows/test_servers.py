"""Machines, looked at and acted on: what an operator may see, what is recorded, and what a machine's end revokes."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from gateway.core.audit import Name
from gateway.core.errors import Refusal
from gateway.core.model import InstanceState, KeyPurpose, KeyState
from gateway.core.operator_document import role
from gateway.core.rights import Rights
from gateway.core.servers import Enrolment, Verb
from gateway.flows.servers import Wanted
from tests.gateway.flows.conftest import ACCOUNT, REGION
from tests.gateway.flows.fleet import ANYTHING, FAR, OTHER, Fleet, fleet_fixture, only  # noqa: F401  # a fixture

EVENT = {
    Verb.START: Name.OPERATOR_SERVER_START,
    Verb.STOP: Name.OPERATOR_SERVER_STOP,
    Verb.REBOOT: Name.OPERATOR_SERVER_REBOOT,
    Verb.TERMINATE: Name.OPERATOR_SERVER_TERMINATE,
}


def change(fleet: Fleet, named: str, verb: Verb, rights: Rights = ANYTHING, **more: Any) -> Any:
    """As the web does it: a refusal is recorded."""
    name = EVENT[verb]
    with fleet.gateway.journal.call(name, fleet.call(name).request_id, None) as call:
        return fleet.servers.change(call, rights, named, verb, **more)


def refused(fleet: Fleet, named: str, verb: Verb, rights: Rights = ANYTHING) -> Refusal:
    with pytest.raises(Refusal) as caught:
        change(fleet, named, verb, rights)
    return caught.value


def test_a_server_is_what_aws_says_and_what_we_know(fleet: Fleet) -> None:
    stranger = fleet.put(1, Name="old")
    identity = fleet.gateway.enrolled(fleet.put(2).instance_id)
    (launched,) = fleet.launch(name="web").servers
    gone = fleet.gateway.enrolled(fleet.put(4).instance_id)
    row = replace(gone.instance, state=InstanceState.REVOKED)
    assert fleet.gateway.store.write(lambda tx: tx.instances.swap(gone.instance, row))
    page = fleet.servers.all(fleet.call(Name.OPERATOR_SERVER_LIST), ANYTHING, Wanted(), after=None, limit=100)
    found = {each.machine.instance_id: (each.enrolment, each.profile, each.launched_by) for each in page.servers}
    assert found == {
        stranger.instance_id: (Enrolment.NEVER, None, None),
        identity.instance.instance_id: (Enrolment.ENROLLED, "web", None),
        launched.machine.instance_id: (Enrolment.NEVER, "web", "spiffe://td/operator/alice"),
        gone.instance.instance_id: (Enrolment.REVOKED, "web", None),
    }
    old = next(each for each in page.servers if each.machine.name == "old")
    assert old.uptime(fleet.gateway.time()) == timedelta(hours=3)


def test_pages_go_on_where_they_ended_across_regions(fleet: Fleet) -> None:
    everything = sorted(fleet.put(i, region=(FAR, REGION)[i % 2]).id for i in range(1, 12))
    found: list[str] = []
    after = None
    while page := fleet.ids(after=after, limit=3):
        found += page
        after = page[-1]
    assert found == everything
    assert len(fleet.told(Name.OPERATOR_SERVER_LIST)) == 5


def test_a_list_is_filtered(fleet: Fleet) -> None:
    here, there = fleet.put(1), fleet.put(2, region=FAR, state="stopped")
    enrolled = fleet.put(3)
    fleet.gateway.enrolled(enrolled.instance_id)
    assert fleet.ids(region=FAR) == [there.id]
    assert fleet.ids(state="stopped") == [there.id]
    assert fleet.ids(profile="web") == [enrolled.id]
    assert fleet.ids(enrolment="never", region=REGION) == [here.id]
    assert fleet.ids(region="mars-1") == []


def test_what_aws_does_not_tell_is_named_and_not_left_out(fleet: Fleet) -> None:
    here = fleet.put(1)

    def no(_: str, region: str) -> None:
        if region == FAR:
            raise Refusal("upstream_refused", aws_code="UnauthorizedOperation")

    fleet.fake.refuses = no
    page = fleet.servers.all(fleet.call(Name.OPERATOR_SERVER_LIST), ANYTHING, Wanted(), after=None, limit=100)
    assert {each.machine.id for each in page.servers} == {here.id}
    assert {(each["region"], each["code"]) for each in page.unseen} == {(FAR, "upstream_refused")}
    with pytest.raises(Refusal) as caught:
        fleet.ids(region=FAR)
    assert caught.value.code == "upstream_refused"


@pytest.mark.parametrize("change_", [{"state": KeyState.DISABLED}, {"purpose": KeyPurpose.REVOKE}])
def test_only_vending_keys_in_force_look_at_machines(fleet: Fleet, change_: dict[str, Any]) -> None:
    machine = fleet.put(1)
    assert fleet.ids() == [machine.id]
    for name in ("main", "other"):
        fleet.key(name, **change_)
    assert fleet.ids() == []
    assert refused(fleet, machine.instance_id, Verb.STOP).code == "server_unknown"
    assert fleet.fake.machines[machine.instance_id].state == "running"


@pytest.mark.threat("G10")
@pytest.mark.parametrize(
    ("place", "tags"),
    [({"regions": [FAR]}, {"team": "a"}), ({"tags": {"team": "b*"}}, {"team": "a"}), ({"tags": {"team": "a"}}, {}),
     ({"accounts": ["444455556666"]}, {"team": "a"})],
)  # fmt: skip
def test_G10_a_machine_outside_the_conditions_is_not_there(
    fleet: Fleet, place: dict[str, Any], tags: dict[str, str]
) -> None:
    machine, rights = fleet.put(1, **tags), only(**place)
    assert fleet.ids(rights) == []
    for verb in Verb:
        for named in (machine.instance_id, machine.id):
            refusal = refused(fleet, named, verb, rights)
            absent = refused(fleet, "i-0fedcba9876543210", verb, rights)
            assert (refusal.code, refusal.detail) == (absent.code, absent.detail) == ("server_unknown", None)
            assert fleet.told(EVENT[verb])[-2]["reason"] == "server_outside_conditions"
    for look in (fleet.servers.one, fleet.servers.output):
        with pytest.raises(Refusal) as caught:
            look(fleet.call(Name.OPERATOR_SERVER_LIST), rights, machine.id)
        assert caught.value.code == "server_unknown"
    assert fleet.fake.machines[machine.instance_id] == machine
    inside = only(regions=[REGION], accounts=[ACCOUNT], tags=dict.fromkeys(tags, "a"))
    assert fleet.ids(inside) == [machine.id]
    assert change(fleet, machine.id, Verb.STOP, inside).state == "stopped"


def test_each_account_is_looked_at_with_its_own_key(fleet: Fleet) -> None:
    here, there = fleet.put(1), fleet.put(2, account=OTHER)
    assert fleet.ids() == [here.id, there.id]
    assert fleet.ids(only(accounts=[OTHER])) == [there.id]
    assert change(fleet, there.instance_id, Verb.STOP, only(accounts=[OTHER])).state == "stopped"
    assert refused(fleet, f"aws/{ACCOUNT}/{REGION}/{there.instance_id}", Verb.STOP).code == "server_unknown"


def test_the_tags_are_those_of_this_moment(fleet: Fleet) -> None:
    machine, rights = fleet.put(1, team="a"), only(tags={"team": "a"})
    change(fleet, machine.id, Verb.STOP, rights)
    fleet.put(1, team="b")
    assert refused(fleet, machine.id, Verb.START, rights).code == "server_unknown"


def test_a_permission_covers_its_verb_only(fleet: Fleet) -> None:
    machine = fleet.put(1)
    rights = Rights((role("watch", {"permissions": ["operator:server:list"]}),))
    assert fleet.ids(rights) == [machine.id]
    for verb in Verb:
        assert refused(fleet, machine.id, verb, rights).code == "server_unknown"


@pytest.mark.parametrize("verb", list(Verb))
def test_each_change_is_decided_before_and_its_outcome_told_after(fleet: Fleet, verb: Verb) -> None:
    machine = fleet.put(1)
    done = change(fleet, machine.instance_id, verb)
    decision, intent, outcome = fleet.told(EVENT[verb])
    assert [each["kind"] for each in (decision, intent, outcome)] == ["decision", "intent", "outcome"]
    assert {each["object"] for each in (decision, intent, outcome)} == {machine.id}
    assert (outcome["facts"]["aws_request_id"], outcome["facts"]["state"]) == (done.request_id, done.state)


def test_what_aws_refuses_has_an_outcome(fleet: Fleet) -> None:
    machine = fleet.put(1)

    def no(what: str, _: str) -> None:
        if what == "stop":
            raise Refusal("upstream_refused", aws_code="UnauthorizedOperation", aws_request_id="r-1")

    fleet.fake.refuses = no
    assert refused(fleet, machine.id, Verb.STOP).code == "upstream_refused"
    *_, outcome = fleet.told(Name.OPERATOR_SERVER_STOP)
    assert (outcome["kind"], outcome["allowed"], outcome["facts"]["aws_request_id"]) == ("outcome", False, "r-1")


@pytest.mark.parametrize("keep", [False, True])
def test_a_machine_that_ends_is_revoked_first_unless_it_is_kept(fleet: Fleet, keep: bool) -> None:
    identity = fleet.gateway.enrolled(fleet.put(1).instance_id)
    states: list[str] = []

    def look(what: str, _: str) -> None:
        if what == "terminate":
            states.extend(row.state.value for row in fleet.rows("instances"))

    fleet.fake.refuses = look
    done = change(fleet, identity.instance.instance_id, Verb.TERMINATE, keep_enrolment=keep)
    assert done.state == "terminated"
    assert states == ["enrolled" if keep else "revoked"]
    assert [row.id for row in fleet.rows("revocations")] == ([] if keep else [done.revocation])
    records = fleet.told(Name.OPERATOR_SERVER_TERMINATE)
    assert [each["kind"] for each in records] == ["decision", "intent", "outcome"]


def test_who_may_end_a_machine_may_do_so_by_the_tags_of_this_moment(fleet: Fleet) -> None:
    """Its enrolment has on record that it had none."""
    identity = fleet.gateway.enrolled(fleet.put(1, team="a").instance_id)
    rights = only(tags={"team": "a"})
    with fleet.gateway.journal.call(Name.OPERATOR_SERVER_TERMINATE, "1" * 32, None) as call:
        call.sees = lambda _: False
        done = fleet.servers.change(call, rights, identity.instance.instance_id, Verb.TERMINATE)
    assert (done.state, [row.state for row in fleet.rows("instances")]) == ("terminated", [InstanceState.REVOKED])


def test_stopping_revokes_nothing(fleet: Fleet) -> None:
    identity = fleet.gateway.enrolled(fleet.put(1).instance_id)
    change(fleet, identity.instance.instance_id, Verb.STOP)
    assert [row.state for row in fleet.rows("instances")] == [InstanceState.ENROLLED]


def test_an_aws_that_does_not_answer_is_not_an_absent_machine(fleet: Fleet) -> None:
    machine = fleet.put(1)

    def no(_: str, __: str) -> None:
        raise Refusal("upstream_unavailable", retry_after=5)

    fleet.fake.refuses = no
    assert refused(fleet, machine.id, Verb.STOP).code == "upstream_unavailable"


@pytest.mark.parametrize("named", ["", "web", "i-xyz", "aws/1/us-east-1/i-0123456789abcdef0", "i-0123456789abcdef0/x"])
def test_a_name_that_is_none_asks_nobody(fleet: Fleet, named: str) -> None:
    def no(_: str, __: str) -> None:
        raise AssertionError("AWS was asked")

    fleet.fake.refuses = no
    assert refused(fleet, named, Verb.STOP).code == "server_unknown"


def test_the_output_is_harmless_and_short(fleet: Fleet) -> None:
    machine = fleet.put(1)
    fleet.fake.outputs[machine.instance_id] = "x" * 70_000 + "\x1b[2Jlogin:\n"
    _, found = fleet.servers.output(fleet.call(Name.OPERATOR_SERVER_OUTPUT), ANYTHING, machine.id)
    assert len(found.text) == 65536
    assert found.text.endswith("xlogin:\n")
    (record,) = fleet.told(Name.OPERATOR_SERVER_OUTPUT)
    assert "login" not in str(record)
