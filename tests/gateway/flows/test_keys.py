"""Upstream keys at an AWS that enforces: rotated through every crash, disabled, and in wrong hands."""

import os
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from random import SystemRandom
from typing import Any

import pytest

from deploy.demo.cloud import USER
from deploy.demo.revoker import REVOKER, documented
from gateway.adapters import clock
from gateway.core.audit import Name
from gateway.core.errors import Refusal
from gateway.core.model import KeyState
from gateway.core.operator_model import PlanState, Rotation
from gateway.core.receipt import receipt
from gateway.core.rotation import DRAIN, Progress, Step
from gateway.wire.secret import Secret
from tests.gateway.flows.at_aws import AtAws, allowing
from tests.gateway.flows.at_aws import at_aws as at_aws  # a fixture

ONE, OTHER = "i-0123456789abcdef0", "i-0123456789abcdef1"
KILLS = int(os.environ.get("ROTATION_KILLS", "3"))
AFTERWARDS = DRAIN + timedelta(seconds=2)
CHANCE = SystemRandom()


class Killed(BaseException):
    """kill -9, as far as a test in one process can."""


def rotate(site: AtAws, name: str = "main", **how: bool) -> Rotation:
    options = {"end_sessions": False, "dry_run": False} | how
    return site.see_to.rotate(site.call(), name, **options)


def disable(site: AtAws, *, compromised: bool = False, dry_run: bool = False) -> dict[str, Any]:
    name = Name.OPERATOR_KEY_COMPROMISE if compromised else Name.OPERATOR_KEY_DISABLE
    return site.see_to.disable(site.call(name), "main", compromised=compromised, dry_run=dry_run)


def layer(receipt: dict[str, Any], name: str) -> dict[str, Any]:
    (found,) = [each for each in receipt["layers"] if each["layer"] == name]
    return dict(found)


def states(receipt: dict[str, Any]) -> dict[str, str]:
    return {each["layer"]: each["state"] for each in receipt["layers"]}


def to_the_end(site: AtAws) -> Rotation:
    """As housekeeping goes on with it."""
    for _ in range(3):
        site.time.more += AFTERWARDS
        site.rotate.tend()
    with site.store.read() as tx:
        (row,) = tx.rotations.find()
    return row


def current(site: AtAws, name: str = "main") -> str:
    with site.store.read() as tx:
        found = tx.upstream_keys.get(name=name)
    assert found is not None
    return found.access_key_id


@pytest.mark.parametrize("revoker", [True, False])
def test_a_key_is_replaced_and_nobody_notices(at_aws: AtAws, *, revoker: bool) -> None:
    """By the revoker, or, with what the documents give its user, by itself."""
    old = at_aws.seeded.access_key_id
    if revoker:
        at_aws.import_revoker()
    else:
        own = allowing(*documented("Without a revoker", at_aws.account)["Statement"])
        at_aws.iam.put_user_policy(UserName=USER, PolicyName="own", PolicyDocument=own)
    before = at_aws.give(at_aws.enrolled(ONE))
    row = rotate(at_aws)
    assert Progress.of(row).step is Step.DRAIN, "what is under way may end first"
    new = current(at_aws)
    assert at_aws.access_keys() == {old: "Active", new: "Active"}
    assert at_aws.is_honoured(at_aws.give(at_aws.enrolled(OTHER))), "made with the new key"
    done = to_the_end(at_aws)
    assert done.state is PlanState.DONE
    assert at_aws.access_keys() == {new: "Active"}
    assert set(Progress.of(done).done) == set(Step)
    assert at_aws.is_honoured(before), "a session does not end with its key"
    assert at_aws.is_honoured(at_aws.give(at_aws.enrolled("i-00000000000000002")))
    told = at_aws.records(name="gateway:key:rotate")
    assert [(each["kind"], each["reason"]) for each in told] == [
        ("intent", "asked"), ("outcome", "create"), ("fact", "verify"), ("fact", "switch"), ("fact", "drain"),
        ("fact", "deactivate"), ("fact", "delete"),
    ]  # fmt: skip


def test_the_revoker_replaces_itself(at_aws: AtAws) -> None:
    old = at_aws.import_revoker()
    rotate(at_aws, "revoker")
    assert to_the_end(at_aws).state is PlanState.DONE
    assert at_aws.access_keys(REVOKER) == {current(at_aws, "revoker"): "Active"}
    assert current(at_aws, "revoker") != old


def test_a_dry_run_asks_and_changes_nothing(at_aws: AtAws) -> None:
    at_aws.import_revoker()
    before = at_aws.access_keys()
    assert Progress.of(rotate(at_aws, dry_run=True)).user == USER
    disable(at_aws, dry_run=True)
    assert at_aws.access_keys() == before
    with at_aws.store.read() as tx:
        assert (tx.rotations.find(), tx.revocations.find(), tx.cuts.find()) == ([], [], [])
    (record,) = at_aws.records(name="operator:key:rotate")
    assert record["facts"]["dry_run"] is True


def test_a_second_key_that_is_not_ours_is_named_and_left_alone(at_aws: AtAws) -> None:
    at_aws.import_revoker()
    foreign = at_aws.iam.create_access_key(UserName=USER)["AccessKey"]["AccessKeyId"]
    with pytest.raises(Refusal) as refused:
        rotate(at_aws)
    assert (refused.value.code, refused.value.reason) == ("conflict", "second_key")
    assert foreign in str(refused.value)
    assert set(at_aws.access_keys()) == {at_aws.seeded.access_key_id, foreign}
    with at_aws.store.read() as tx:
        assert tx.rotations.find() == []


def test_one_that_is_under_way_is_told_and_not_begun_again(at_aws: AtAws) -> None:
    at_aws.import_revoker()
    assert rotate(at_aws).id == rotate(at_aws).id
    assert len(at_aws.access_keys()) == 2


CALLS = ["ids", "create", "account", "last_used", "deactivate", "delete"]
"""What a rotation asks of AWS, in the order of its steps."""


def crash(site: AtAws, monkeypatch: pytest.MonkeyPatch, call: str, *, behind: bool) -> Callable[[], bool]:
    """The next such call never returns. True when it came to that."""
    thing = site.aws if call == "account" else site.rotate._access_keys
    real, died = getattr(thing, call), []

    def dies(*arguments: Any) -> Any:
        if behind:
            real(*arguments)
        died.append(call)
        raise Killed

    monkeypatch.setattr(thing, call, dies)
    return lambda: bool(died)


def kill_at(site: AtAws, monkeypatch: pytest.MonkeyPatch, call: str, *, behind: bool) -> None:
    """Begin a rotation, die in a call, and let another process end it."""
    with site.store.read() as tx:
        before = tx.upstream_keys.get(name="main")
    assert before is not None
    row = site.rotate.draft("main", "alice")
    site.store.write(lambda tx: site.rotate.begin(tx, row))
    died = crash(site, monkeypatch, call, behind=behind)
    with pytest.raises(Killed):
        carry_on(site, row)
    assert died(), "the control"
    monkeypatch.undo()
    site.time.more += timedelta(minutes=3)  # whoever held the turn counts as dead
    site.rotate.tend()
    site.time.more += AFTERWARDS
    site.rotate.tend()
    with site.store.read() as tx:
        done = tx.rotations.get(id=row.id)
    assert done is not None
    assert done.state is PlanState.DONE
    assert site.access_keys() == {current(site): "Active"}, "one key, and it is the one that we have"
    assert current(site) != before.access_key_id
    with site.store.read() as tx:
        assert site.aws.account(site.keys.openable(tx, "main")[0]) == site.account


@pytest.mark.parametrize("behind", [False, True])
@pytest.mark.parametrize("call", CALLS)
def test_a_crash_in_any_step_leaves_one_key_that_works(
    at_aws: AtAws, monkeypatch: pytest.MonkeyPatch, call: str, *, behind: bool
) -> None:
    at_aws.import_revoker()
    kill_at(at_aws, monkeypatch, call, behind=behind)
    assert at_aws.is_honoured(at_aws.give(at_aws.enrolled(ONE)))


@pytest.mark.parametrize("step", list(Step))
def test_a_crash_before_a_step_is_recorded_leaves_one_key_that_works(
    at_aws: AtAws, monkeypatch: pytest.MonkeyPatch, step: Step
) -> None:
    """The other half: what was done at AWS is on no record yet."""
    at_aws.import_revoker()
    move = at_aws.rotate._move

    def dies(tx: Any, before: Rotation, *rest: Any) -> None:
        if Progress.of(before).step is step:
            raise Killed
        move(tx, before, *rest)

    row = at_aws.rotate.draft("main", "alice")
    at_aws.store.write(lambda tx: at_aws.rotate.begin(tx, row))
    monkeypatch.setattr(at_aws.rotate, "_move", dies)
    with pytest.raises(Killed):
        carry_on(at_aws, row)
    monkeypatch.undo()
    at_aws.time.more += timedelta(minutes=3)
    assert to_the_end(at_aws).state is PlanState.DONE
    assert at_aws.access_keys() == {current(at_aws): "Active"}
    assert at_aws.is_honoured(at_aws.give(at_aws.enrolled(ONE)))


@pytest.mark.timeout(60 + 5 * KILLS)
def test_many_random_crashes_leave_one_key_that_works(at_aws: AtAws, monkeypatch: pytest.MonkeyPatch) -> None:
    at_aws.import_revoker()
    for _ in range(KILLS):
        kill_at(at_aws, monkeypatch, CHANCE.choice(CALLS), behind=CHANCE.random() < 0.5)


def test_a_key_that_aws_does_not_know_yet_is_not_switched_to(at_aws: AtAws, monkeypatch: pytest.MonkeyPatch) -> None:
    """AWS tells its servers one by one: one yes among several is not enough."""
    at_aws.import_revoker()
    account, answers = at_aws.aws.account, iter([True, False])

    def sometimes(key: Any) -> str:
        if not next(answers, False):
            raise Refusal("upstream_refused", reason="aws_refused", aws_code="InvalidClientTokenId")
        return account(key)

    monkeypatch.setattr(at_aws.aws, "account", sometimes)
    row = at_aws.rotate.draft("main", "alice")
    at_aws.store.write(lambda tx: at_aws.rotate.begin(tx, row))
    assert Progress.of(at_aws.rotate.carry(row)).step is Step.VERIFY
    assert current(at_aws) == at_aws.seeded.access_key_id
    monkeypatch.undo()
    assert Progress.of(at_aws.rotate.carry(row)).step is Step.DRAIN
    assert current(at_aws) != at_aws.seeded.access_key_id


def test_a_new_key_that_somebody_deletes_is_made_again(at_aws: AtAws, monkeypatch: pytest.MonkeyPatch) -> None:
    at_aws.import_revoker()
    row = at_aws.rotate.draft("main", "alice")
    at_aws.store.write(lambda tx: at_aws.rotate.begin(tx, row))
    crash(at_aws, monkeypatch, "account", behind=False)
    with pytest.raises(Killed):
        at_aws.rotate.carry(row)
    monkeypatch.undo()
    (lost,) = set(at_aws.access_keys()) - {at_aws.seeded.access_key_id}
    at_aws.iam.delete_access_key(UserName=USER, AccessKeyId=lost)
    at_aws.time.more += timedelta(minutes=3)
    assert to_the_end(at_aws).state is PlanState.DONE
    assert at_aws.access_keys() == {current(at_aws): "Active"}


def test_no_client_of_the_old_key_is_used_after_the_switch(at_aws: AtAws) -> None:
    """A worker that served with the old one: its clients are kept by the key's id."""
    at_aws.import_revoker()
    at_aws.give(at_aws.enrolled(ONE))
    with at_aws.store.read() as tx:
        before, _ = at_aws.keys.openable(tx, "main")
    rotate(at_aws)
    with at_aws.store.read() as tx:
        after, _ = at_aws.keys.openable(tx, "main")
    assert at_aws.aws._client(before, "sts", "us-east-1") is not at_aws.aws._client(after, "sts", "us-east-1")
    to_the_end(at_aws)
    assert at_aws.is_honoured(at_aws.give(at_aws.enrolled(OTHER)))
    with pytest.raises(Refusal) as refused:
        at_aws.aws.account(before)
    assert refused.value.context["aws_code"] == "InvalidClientTokenId", "the control"


@pytest.mark.threat("G15")
def test_G15_no_secret_of_a_key_is_on_record(at_aws: AtAws, monkeypatch: pytest.MonkeyPatch) -> None:
    at_aws.import_revoker()
    made: list[Secret] = []
    create = at_aws.rotate._access_keys.create

    def create_and_tell(*arguments: Any) -> Any:
        new, secret = create(*arguments)
        with secret as plain:
            at_aws.known.add(plain.decode())
            made.append(Secret(plain))
            return new, Secret(plain)

    monkeypatch.setattr(at_aws.rotate._access_keys, "create", create_and_tell)
    rotate(at_aws)
    done = to_the_end(at_aws)
    with made[0] as plain, at_aws.store.read() as tx:
        everything = repr([tx.rotations.find(), tx.upstream_keys.find(), at_aws.records()]).encode()
        assert plain not in everything
    assert Progress.of(done).sealed is None, "not even sealed, once it is in force"


def test_a_disabled_key_makes_nothing_and_what_it_made_is_refused_by_aws(at_aws: AtAws) -> None:
    at_aws.import_revoker()
    mine = at_aws.give(machine := at_aws.enrolled(ONE))
    assert at_aws.is_honoured(mine), "the control"
    receipt = disable(at_aws)
    assert (receipt["kind"], receipt["name"]) == ("key", "main")
    assert states(receipt) == {"gateway": "done", "key": "done", "aws": "done", "agents": "trying"}, "nobody watches"
    assert [each["lease"] for each in receipt["cut"]["sessions"]] == [mine.lease.id]
    assert not at_aws.is_honoured(mine)
    assert at_aws.access_keys() == {at_aws.seeded.access_key_id: "Inactive"}
    with pytest.raises(Refusal) as refused:
        at_aws.give(machine)
    assert refused.value.code == "upstream_key_disabled"
    assert at_aws.attached() == ["role/reader", f"user/{USER}"], "a stolen key makes sessions of the user, too"

    rotate(at_aws)
    assert to_the_end(at_aws).state is PlanState.DONE
    with at_aws.store.read() as tx:
        key = tx.upstream_keys.get(name="main")
    assert key is not None
    assert key.state is KeyState.ACTIVE
    while clock.now() < cut_at(at_aws):
        pass  # AWS counts whole seconds, and by its own clock
    assert at_aws.is_honoured(at_aws.give(machine)), "good again"


def test_a_key_that_is_disabled_again_while_it_is_made_good_stays_disabled(at_aws: AtAws) -> None:
    """Who disabled it last means this rotation, too."""
    at_aws.import_revoker()
    disable(at_aws)
    at_aws.store.write(lambda tx: at_aws.rotate.begin(tx, at_aws.rotate.draft("main", "alice")))
    disable(at_aws)
    assert to_the_end(at_aws).state is PlanState.DONE
    at_aws.revoke.resume()
    with at_aws.store.read() as tx:
        key = tx.upstream_keys.get(name="main")
    assert key is not None
    assert (key.state, key.access_key_id != at_aws.seeded.access_key_id) == (KeyState.DISABLED, True)
    assert at_aws.access_keys() == {key.access_key_id: "Inactive"}


@pytest.mark.parametrize("compromised", [False, True])
def test_what_the_thief_makes_until_the_key_is_inactive_ends_as_well(
    at_aws: AtAws, monkeypatch: pytest.MonkeyPatch, *, compromised: bool
) -> None:
    """IAM is away when it is decided: the cut is made, and AWS takes the key for a while longer."""
    at_aws.import_revoker()
    thief = at_aws.aws._client(key_of(at_aws), "sts", "us-east-1")
    away = Refusal("upstream_unavailable", reason="aws_away")
    deactivate = at_aws.rotate._access_keys.deactivate

    def fails(*_: Any) -> None:
        raise away

    monkeypatch.setattr(at_aws.rotate._access_keys, "deactivate", fails)
    receipt = disable(at_aws, compromised=compromised)
    assert (states(receipt)["key"], states(receipt)["aws"]) == ("trying", "done")
    assert [each["what"] for each in receipt["remains"]] == ["unknown"], "the key works, so that is not all"
    wait_for_the_cut(at_aws)
    stolen = thief.assume_role(RoleArn=at_aws.seeded.role_arn, RoleSessionName="thief")["Credentials"]
    at_aws.fence.tend()
    assert honours(at_aws, stolen), "the control: it is younger than the decision"

    monkeypatch.setattr(at_aws.rotate._access_keys, "deactivate", deactivate)
    key = next(each for each in at_aws.revoke._layers if each.name == "key")
    with at_aws.store.read() as tx:
        (row,) = tx.revocations.find()
    assert key.carry(row).done
    first, again = receipts(at_aws)
    assert (states(first)["aws"], states(again)["aws"]) == ("trying", "trying"), "there is more to be denied"
    assert [each["what"] for each in (*first["remains"], *again["remains"])] == ["unknown", "unknown"]
    assert first["until"] == again["until"]
    at_aws.revoke.resume()
    assert not honours(at_aws, stolen)
    first, again = receipts(at_aws)
    assert layer(first, "key")["facts"]["cut_again"] == again["id"]
    assert first["id"] in again["reason"]
    assert (first["remains"], again["remains"]) == ([], [])
    assert (first["state"], again["state"]) == ("done", "done")


def test_what_was_made_meanwhile_is_cut_off_once_whoever_dies(at_aws: AtAws, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed when the key is inactive, and nothing of that is on record; then tried again and again."""
    at_aws.import_revoker()
    layer_of_key = next(each for each in at_aws.revoke._layers if each.name == "key")
    again = at_aws.rotate._end_sessions.again

    def dies(*_: Any) -> None:
        raise Killed

    with at_aws.store.read() as tx:
        key = tx.upstream_keys.get(name="main")
    assert key is not None
    row = at_aws.store.write(lambda tx: at_aws.rotate._end_sessions.open(tx, key, "alice", does="disable"))
    monkeypatch.setattr(at_aws.rotate._end_sessions, "again", dies)
    with pytest.raises(Killed):
        layer_of_key.carry(row)
    assert at_aws.access_keys() == {at_aws.seeded.access_key_id: "Inactive"}
    assert len(receipts(at_aws)) == 1
    monkeypatch.setattr(at_aws.rotate._end_sessions, "again", again)
    for _ in range(3):
        layer_of_key.carry(row)
    assert len(receipts(at_aws)) == 2
    (record,) = at_aws.records(name="gateway:revocation:carry", reason="cut_again")
    assert (record["facts"]["of"], record["object"]) == (row.id, "main")


def test_a_key_that_is_disabled_while_the_one_before_drains_leaves_none_that_works(at_aws: AtAws) -> None:
    """Both are of this name, and who has the earlier one makes sessions as well."""
    at_aws.import_revoker()
    rotate(at_aws)
    assert set(at_aws.access_keys().values()) == {"Active"}, "the control"
    disable(at_aws)
    assert at_aws.access_keys() == {at_aws.seeded.access_key_id: "Inactive", current(at_aws): "Inactive"}
    assert to_the_end(at_aws).state is PlanState.DONE
    at_aws.revoke.resume()
    assert at_aws.access_keys() == {current(at_aws): "Inactive"}


def test_a_session_that_the_thief_made_ends_as_well(at_aws: AtAws) -> None:
    """We have never seen it: only a time can mean it."""
    at_aws.import_revoker()
    sts = at_aws.aws._client(key_of(at_aws), "sts", "us-east-1")
    stolen = sts.assume_role(RoleArn=at_aws.seeded.role_arn, RoleSessionName="thief")["Credentials"]
    assert honours(at_aws, stolen), "the control"
    disable(at_aws, compromised=True)
    assert not honours(at_aws, stolen)


def test_a_key_in_wrong_hands_is_cut_off_and_replaced_at_once(at_aws: AtAws) -> None:
    at_aws.import_revoker()
    mine = at_aws.give(machine := at_aws.enrolled(ONE))
    receipt = disable(at_aws, compromised=True)
    assert states(receipt) == {"gateway": "done", "key": "done", "aws": "done", "agents": "trying"}
    assert layer(receipt, "key")["facts"]["state"] == "deleted"
    assert at_aws.access_keys() == {current(at_aws): "Active"}
    assert current(at_aws) != at_aws.seeded.access_key_id
    assert not at_aws.is_honoured(mine)
    while at_aws.time() < cut_at(at_aws):
        pass  # AWS counts whole seconds
    assert at_aws.is_honoured(at_aws.give(machine))


def test_a_key_in_wrong_hands_with_a_second_one_waits_for_an_operator(at_aws: AtAws) -> None:
    at_aws.import_revoker()
    foreign = at_aws.iam.create_access_key(UserName=USER)["AccessKey"]["AccessKeyId"]
    receipt = disable(at_aws, compromised=True)
    key = layer(receipt, "key")
    assert (key["state"], key["facts"]["state"]) == ("waiting", "deactivated")
    assert foreign in key["facts"]["waits_for"]
    assert at_aws.access_keys() == {at_aws.seeded.access_key_id: "Inactive", foreign: "Active"}
    at_aws.iam.delete_access_key(UserName=USER, AccessKeyId=foreign)
    at_aws.revoke.resume()
    assert at_aws.access_keys() == {current(at_aws): "Active"}


def test_what_is_rotated_when_it_turns_out_to_be_stolen_is_hurried(at_aws: AtAws) -> None:
    at_aws.import_revoker()
    row = at_aws.rotate.draft("main", "alice")
    at_aws.store.write(lambda tx: at_aws.rotate.begin(tx, row))
    assert states(disable(at_aws, compromised=True))["key"] == "done", "without waiting for what uses it"
    assert at_aws.access_keys() == {current(at_aws): "Active"}
    with at_aws.store.read() as tx:
        assert [each.state for each in tx.rotations.find()] == [PlanState.DONE]


def test_a_key_that_is_disabled_while_it_is_rotated_stays_so(at_aws: AtAws) -> None:
    """The new key is no way around it: the store does not use it, and AWS has it inactive."""
    at_aws.import_revoker()
    at_aws.store.write(lambda tx: at_aws.rotate.begin(tx, at_aws.rotate.draft("main", "alice")))
    assert layer(disable(at_aws), "key")["state"] == "trying", "there will be another key to see to"
    assert to_the_end(at_aws).state is PlanState.DONE
    with at_aws.store.read() as tx:
        key = tx.upstream_keys.get(name="main")
    assert key is not None
    assert (key.state, key.access_key_id != at_aws.seeded.access_key_id) == (KeyState.DISABLED, True)
    at_aws.revoke.resume()
    assert at_aws.access_keys() == {key.access_key_id: "Inactive"}
    first, _ = receipts(at_aws)
    assert states(first)["key"] == "done"
    rotate(at_aws)
    with at_aws.store.read() as tx:
        key = tx.upstream_keys.get(name="main")
    assert key is not None
    assert key.state is KeyState.ACTIVE, "to rotate it anew makes it good again"


def test_how_far_a_rotation_is_tells_who_may_rotate(at_aws: AtAws) -> None:
    at_aws.import_revoker()
    row = rotate(at_aws)
    assert at_aws.see_to.rotation(at_aws.call(), "main", row.id).id == row.id
    for name, rotation_id in (("revoker", row.id), ("main", "x")):
        with pytest.raises(Refusal) as refused:
            at_aws.see_to.rotation(at_aws.call(), name, rotation_id)
        assert refused.value.code == "target_unknown"


@pytest.mark.parametrize("ends", [True, False])
def test_sessions_end_with_a_rotation_only_when_that_is_asked_for(at_aws: AtAws, *, ends: bool) -> None:
    at_aws.import_revoker()
    mine = at_aws.give(at_aws.enrolled(ONE))
    rotate(at_aws, end_sessions=ends)
    at_aws.revoke.resume()
    assert at_aws.is_honoured(mine) is not ends


def test_sessions_end_with_a_rotation_until_the_old_key_is_inactive(at_aws: AtAws) -> None:
    """For as long as it drains, who has it can make more of them."""
    at_aws.import_revoker()
    thief = at_aws.aws._client(key_of(at_aws), "sts", "us-east-1")
    rotate(at_aws, end_sessions=True)
    at_aws.revoke.resume()
    (first,) = receipts(at_aws)
    assert [each["what"] for each in first["remains"]] == ["unknown"]
    wait_for_the_cut(at_aws)
    stolen = thief.assume_role(RoleArn=at_aws.seeded.role_arn, RoleSessionName="thief")["Credentials"]
    assert honours(at_aws, stolen), "the control"
    assert to_the_end(at_aws).state is PlanState.DONE
    at_aws.revoke.resume()
    assert not honours(at_aws, stolen)
    first, again = receipts(at_aws)
    assert (first["remains"], again["remains"]) == ([], [])
    (record,) = at_aws.records(name="gateway:key:rotate", reason="deactivate")
    assert record["facts"]["revocation"] == again["id"]


def test_a_rotation_that_was_drafted_before_another_one_is_not_begun(at_aws: AtAws) -> None:
    """It would take the key that is in force for one that was lost, and delete it."""
    at_aws.import_revoker()
    late = at_aws.rotate.draft("main", "bob")
    rotate(at_aws)
    assert to_the_end(at_aws).state is PlanState.DONE
    inherited = replace(late, id="begun by an older version")
    assert at_aws.store.write(lambda tx: tx.rotations.add(inherited))
    with pytest.raises(Refusal) as refused:
        at_aws.rotate.carry(inherited)
    assert (refused.value.code, refused.value.reason) == ("conflict", "key_changed")
    over = replace(inherited, state=PlanState.DONE)
    assert at_aws.store.write(lambda tx: tx.rotations.swap(inherited, over))
    with pytest.raises(Refusal) as refused:
        at_aws.store.write(lambda tx: at_aws.rotate.begin(tx, late))
    assert (refused.value.code, refused.value.reason) == ("conflict", "key_changed")
    assert at_aws.access_keys() == {current(at_aws): "Active"}


def test_without_a_revoker_a_key_cannot_be_cut_off_at_aws_and_the_receipt_says_so(at_aws: AtAws) -> None:
    mine = at_aws.give(at_aws.enrolled(ONE))
    receipt = disable(at_aws)
    assert receipt["state"] == "running"
    assert layer(receipt, "key")["state"] == "trying"
    assert layer(receipt, "aws")["state"] == "waiting"
    assert [(each["what"], each["lease"]) for each in receipt["remains"]] == [
        ("session", mine.lease.id), ("unknown", ""),
    ], "and what the thief made"  # fmt: skip
    assert at_aws.is_honoured(mine), "which is what it says"
    at_aws.import_revoker()
    at_aws.revoke.resume()
    assert not at_aws.is_honoured(mine)
    assert at_aws.access_keys() == {at_aws.seeded.access_key_id: "Inactive"}


@pytest.mark.threat("D15")
def test_D15_a_key_that_is_disabled_while_a_session_is_made_gives_it_to_nobody(
    at_aws: AtAws, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine, session = at_aws.enrolled(ONE), at_aws.aws.session

    def meanwhile(*arguments: Any) -> Any:
        made = session(*arguments)
        disable(at_aws)
        return made

    monkeypatch.setattr(at_aws.aws, "session", meanwhile)
    with pytest.raises(Refusal) as refused:
        at_aws.give(machine)
    assert refused.value.code == "upstream_key_disabled"


def receipts(site: AtAws) -> list[dict[str, Any]]:
    """The oldest first."""
    with site.store.read() as tx:
        rows = sorted(tx.revocations.find(), key=lambda row: row.at)
    return [receipt(row, site.time()) for row in rows]


def wait_for_the_cut(site: AtAws) -> None:
    """AWS counts whole seconds, and by its own clock."""
    while clock.now() < cut_at(site):
        time.sleep(0.05)


def carry_on(site: AtAws, row: Rotation) -> None:
    """Until all is done."""
    site.rotate.carry(row)
    site.time.more += AFTERWARDS
    site.rotate.carry(row)


def key_of(site: AtAws) -> Any:
    with site.store.read() as tx:
        return site.keys.openable(tx, "main")[0]


def cut_at(site: AtAws) -> Any:
    with site.store.read() as tx:
        return max(cut.before for cut in tx.cuts.find())


def honours(site: AtAws, credentials: dict[str, Any]) -> bool:
    from botocore.exceptions import ClientError

    from deploy.demo.cloud import client

    site.known.add(credentials["SecretAccessKey"])
    secrets = Secret(credentials["SecretAccessKey"]), Secret(credentials["SessionToken"])
    s3 = client(site.cloud.endpoint, "s3", credentials["AccessKeyId"], *secrets)
    try:
        s3.list_objects_v2(Bucket=site.seeded.bucket)
    except ClientError:
        return False
    return True
