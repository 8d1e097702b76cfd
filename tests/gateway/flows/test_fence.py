"""The fence at an AWS that enforces: what was cut off is refused by AWS itself, and nothing else is."""

import json
import time
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from deploy.demo.cloud import USER
from gateway.adapters import clock
from gateway.core import fence as core
from gateway.core.audit import Name
from gateway.core.errors import Refusal
from gateway.core.operator_model import PlanState, Revocation
from gateway.core.revocation import Target
from gateway.flows.revoke import Order
from gateway.ports import OpenableKey
from tests.gateway.flows.at_aws import AtAws
from tests.gateway.flows.at_aws import at_aws as at_aws  # a fixture

ONE, OTHER = "i-0123456789abcdef0", "i-0123456789abcdef1"


def revoke(site: AtAws, target: Target, name: str, **more: Any) -> dict[str, Any]:
    return site.revoke.revoke(site.call(Name.OPERATOR_INSTANCE_REVOKE), Order(target, name, **more))


def layer(receipt: dict[str, Any], name: str = "aws") -> dict[str, Any]:
    (found,) = [each for each in receipt["layers"] if each["layer"] == name]
    return dict(found)


def test_a_revoked_machine_is_refused_by_aws_itself_and_no_other(at_aws: AtAws) -> None:
    at_aws.import_revoker()
    one, other = at_aws.enrolled(ONE), at_aws.enrolled(OTHER)
    mine, theirs = at_aws.give(one), at_aws.give(other)
    assert at_aws.is_honoured(mine), "the control"
    assert at_aws.is_honoured(theirs), "the control"
    receipt = revoke(at_aws, Target.INSTANCE, ONE)
    assert layer(receipt)["state"] == "done", receipt
    assert receipt["remains"] == []
    assert not at_aws.is_honoured(mine)
    assert at_aws.is_honoured(theirs)
    document = at_aws.policy()
    assert document
    meant = [each["Condition"].get("StringEquals", {}).get("aws:SourceIdentity") for each in document["Statement"]]
    assert [ONE] in meant or ONE in meant, "which the local AWS does not look at, and AWS does"
    (record,) = at_aws.records(name="gateway:fence:apply")
    assert (record["kind"], record["reason"], record["object"]) == ("fact", "applied", f"account/{at_aws.account}")
    assert record["facts"]["attached"] == ["role/reader"]

    until_the_cut_is_past(at_aws)
    assert at_aws.is_honoured(at_aws.give(at_aws.enrolled(ONE))), "it has come back by enrolling"
    assert not at_aws.is_honoured(mine)


def test_one_session_of_a_machine_is_refused_and_its_others_are_not(at_aws: AtAws) -> None:
    at_aws.import_revoker()
    machine = at_aws.enrolled(ONE)
    meant, other = at_aws.give(machine), at_aws.give(machine, "federated")
    assert at_aws.is_honoured(meant)
    assert layer(revoke(at_aws, Target.LEASE, meant.lease.id))["state"] == "done"
    assert not at_aws.is_honoured(meant)
    again = at_aws.give(machine)
    assert again.lease.id != meant.lease.id
    assert at_aws.is_honoured(again), "the grant stands: another session, at once"
    with at_aws.store.read() as tx:
        assert tx.leases.get(id=other.lease.id) == other.lease


def test_a_federated_session_is_denied_on_the_user_whose_key_made_it(at_aws: AtAws) -> None:
    at_aws.import_revoker()
    vended, other = at_aws.give(at_aws.enrolled(ONE), "federated"), at_aws.give(at_aws.enrolled(OTHER), "federated")
    assert at_aws.is_honoured(vended), "the control"
    assert layer(revoke(at_aws, Target.LEASE, vended.lease.id))["state"] == "done"
    assert at_aws.attached() == [f"user/{USER}"]
    assert not at_aws.is_honoured(vended)
    assert at_aws.is_honoured(other)
    assert at_aws.aws.account(key_of(at_aws)) == at_aws.account, "the key itself goes on"


def test_everything_is_one_time_for_all(at_aws: AtAws) -> None:
    at_aws.import_revoker()
    given = [at_aws.give(at_aws.enrolled(f"i-{number:017x}")) for number in range(3)]
    assert all(map(at_aws.is_honoured, given))
    revoke(at_aws, Target.EVERYTHING, "")
    assert not any(map(at_aws.is_honoured, given))
    until_the_cut_is_past(at_aws)
    assert at_aws.is_honoured(at_aws.give(at_aws.enrolled(ONE)))


def test_without_a_revoker_the_receipt_says_so_and_goes_on_when_there_is_one(at_aws: AtAws) -> None:
    mine = at_aws.give(at_aws.enrolled(ONE))
    receipt = revoke(at_aws, Target.INSTANCE, ONE)
    aws = layer(receipt)
    assert (aws["state"], receipt["state"]) == ("waiting", "running")
    assert aws["facts"]["accounts"][0]["state"] == "no_revoker"
    assert "--purpose revoke" in aws["facts"]["waits_for"]
    assert [each["lease"] for each in receipt["remains"]] == [mine.lease.id]
    assert at_aws.is_honoured(mine), "which is what the receipt says"
    at_aws.revoke.resume()
    with at_aws.store.read() as tx:
        (row,) = tx.revocations.find()
    assert layer(dict(row.document))["tries"] == 1, "nothing is tried, nothing is written"
    at_aws.import_revoker()
    at_aws.revoke.resume()
    assert not at_aws.is_honoured(mine)


def test_purposes_are_kept_apart(at_aws: AtAws) -> None:
    at_aws.import_revoker()
    with at_aws.store.read() as tx:
        assert at_aws.keys.openable(tx, "main")
        with pytest.raises(Refusal) as refused:
            at_aws.keys.openable(tx, "revoker")
        assert (refused.value.code, refused.value.reason) == ("upstream_key_unknown", "key_purpose")
        revoker = at_aws.keys.revoker(tx, at_aws.account)
    assert revoker is not None
    assert revoker.name == "revoker"


def test_the_revoker_may_do_what_the_documents_say_and_nothing_else(at_aws: AtAws) -> None:
    at_aws.import_revoker()
    with at_aws.store.read() as tx:
        revoker = at_aws.keys.revoker(tx, at_aws.account)
    assert revoker is not None
    foreign = f"arn:aws:iam::{at_aws.account}:policy/somebody-elses"
    at_aws.iam.create_policy(PolicyName="somebody-elses", PolicyDocument=json.dumps(ALLOW))
    for forbidden in (
        lambda: at_aws.fence._policies.put(revoker, foreign, json.dumps(ALLOW)),
        lambda: at_aws.fence._access_keys.create(revoker, "root"),
        lambda: at_aws.fence._access_keys.ids(revoker, "another"),
        lambda: at_aws.aws.instance(revoker, "us-east-1", ONE),
    ):
        with pytest.raises(Refusal) as refused:
            forbidden()
        assert refused.value.context["aws_code"] in ("AccessDenied", "UnauthorizedOperation")


@pytest.mark.parametrize("step", ["attached", "detach", "document", "put", "attach", "user"])
@pytest.mark.parametrize("behind", [False, True])
def test_a_crash_at_any_step_is_resumed(
    at_aws: AtAws, monkeypatch: pytest.MonkeyPatch, step: str, behind: bool
) -> None:
    """The process dies before, or right behind, a call to AWS; another one finds the plan."""
    at_aws.import_revoker()
    machine = at_aws.enrolled(ONE)
    mine, federated = at_aws.give(machine), at_aws.give(machine, "federated")
    if step == "detach":
        at_aws.fence._policies.put(revoker_of(at_aws), arn_of(at_aws), json.dumps(ALLOW))
        at_aws.iam.create_role(RoleName="stale", AssumeRolePolicyDocument="{}")
        at_aws.iam.attach_role_policy(RoleName="stale", PolicyArn=arn_of(at_aws))
    iam = at_aws.fence._policies
    died = crash(monkeypatch, iam, step, behind=behind)
    with pytest.raises(Killed):
        at_aws.fence.carry(cut(at_aws, [mine, federated]))
    assert died, "the control"
    monkeypatch.undo()
    at_aws.time.more += timedelta(minutes=3)  # whoever held the turn counts as dead
    at_aws.fence.tend()
    assert not at_aws.is_honoured(mine)
    assert at_aws.attached() == ["role/reader", f"user/{USER}"]


def test_what_somebody_takes_away_is_put_back(at_aws: AtAws) -> None:
    at_aws.import_revoker()
    mine = at_aws.give(at_aws.enrolled(ONE))
    revoke(at_aws, Target.INSTANCE, ONE)
    at_aws.iam.detach_role_policy(RoleName="reader", PolicyArn=arn_of(at_aws))
    assert at_aws.is_honoured(mine), "the control"
    at_aws.fence.tend()
    assert at_aws.is_honoured(mine), "it is not asked each time"
    at_aws.time.more += timedelta(minutes=6)
    at_aws.fence.tend()
    assert not at_aws.is_honoured(mine)


def test_what_is_over_is_dropped_and_detached(at_aws: AtAws) -> None:
    at_aws.import_revoker()
    at_aws.give(at_aws.enrolled(ONE))
    revoke(at_aws, Target.INSTANCE, ONE)
    assert at_aws.attached() == ["role/reader"]
    at_aws.time.more += timedelta(hours=1, minutes=4)
    at_aws.fence.tend()
    assert at_aws.attached() == ["role/reader"], "AWS's clock may be behind"
    at_aws.time.more += timedelta(minutes=2)
    at_aws.fence.tend()
    assert at_aws.attached() == []
    with at_aws.store.read() as tx:
        assert tx.cuts.find() == []
        assert tx.fences.find()[0].attached == {}


def test_versions_make_room_for_each_other(at_aws: AtAws) -> None:
    at_aws.import_revoker()
    for number in range(8):
        machine = f"i-{number:017x}"
        given = at_aws.give(at_aws.enrolled(machine))
        revoke(at_aws, Target.INSTANCE, machine)
        assert not at_aws.is_honoured(given)
    versions = at_aws.iam.list_policy_versions(PolicyArn=arn_of(at_aws))["Versions"]
    assert len(versions) == 5


def test_a_role_that_is_gone_keeps_nobody_waiting(at_aws: AtAws) -> None:
    at_aws.import_revoker()
    mine = at_aws.give(at_aws.enrolled(ONE))
    at_aws.iam.delete_role_policy(RoleName="reader", PolicyName="reads")
    at_aws.iam.delete_role(RoleName="reader")
    assert layer(revoke(at_aws, Target.INSTANCE, ONE))["state"] == "done"
    assert not at_aws.is_honoured(mine)


def test_a_role_that_takes_no_more_policies_keeps_no_other_waiting(
    at_aws: AtAws, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does a user whose key is gone: each is told of for itself, and the rest is fenced."""
    at_aws.import_revoker()
    one, other = at_aws.enrolled(ONE), at_aws.enrolled(OTHER)
    mine, federated = at_aws.give(one), at_aws.give(other, "federated")
    iam = at_aws.fence._policies
    attach = iam.attach

    def full(caller: OpenableKey, arn: str, to: str) -> bool:
        if to.startswith("role/"):
            raise Refusal("upstream_refused", reason="aws_refused", aws_code="LimitExceeded")
        return attach(caller, arn, to)

    monkeypatch.setattr(iam, "attach", full)
    assert layer(revoke(at_aws, Target.INSTANCE, ONE))["facts"]["accounts"][0]["aws_code"] == "LimitExceeded"
    assert layer(revoke(at_aws, Target.INSTANCE, OTHER))["state"] == "done"
    assert at_aws.attached() == [f"user/{USER}"]
    assert not at_aws.is_honoured(federated)
    monkeypatch.undo()

    def unknown(caller: OpenableKey, access_key_id: str) -> str:
        raise Refusal("upstream_refused", reason="aws_refused", aws_code="NoSuchEntity")

    monkeypatch.setattr(iam, "user", unknown)
    at_aws.fence.tend()
    assert at_aws.attached() == ["role/reader", f"user/{USER}"], "what was found out before is remembered"
    assert not at_aws.is_honoured(mine)
    assert not at_aws.is_honoured(federated)


def test_who_was_overtaken_looks_again_at_once(at_aws: AtAws, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that stood still for longer than its turn writes an older policy over a newer one."""
    at_aws.import_revoker()
    mine, theirs = at_aws.give(at_aws.enrolled(ONE)), at_aws.give(at_aws.enrolled(OTHER))
    iam = at_aws.fence._policies
    put = iam.put

    def overtaken(*arguments: Any) -> None:
        monkeypatch.undo()
        with at_aws.store.read() as tx:
            (turn,) = tx.flights.find()
        assert at_aws.store.write(lambda tx: tx.flights.remove(turn))
        assert layer(revoke(at_aws, Target.INSTANCE, OTHER))["state"] == "done"
        put(*arguments)

    monkeypatch.setattr(iam, "put", overtaken)
    assert layer(revoke(at_aws, Target.INSTANCE, ONE))["state"] == "trying"
    assert at_aws.is_honoured(theirs), "the older policy stands"
    at_aws.fence.tend()
    assert not at_aws.is_honoured(theirs)
    assert not at_aws.is_honoured(mine)


def test_a_policy_that_would_be_too_long_ends_the_whole_role_in_the_store_first(at_aws: AtAws) -> None:
    """The leases that it hits besides are emptied, so that nobody is given a session that AWS denies."""
    at_aws.import_revoker()
    revoked, bystander = at_aws.give(at_aws.enrolled(ONE)), at_aws.give(at_aws.enrolled(OTHER))
    revoke(at_aws, Target.LEASE, revoked.lease.id)
    with at_aws.store.read() as tx:
        (cut,) = tx.cuts.find()
    many = [replace(cut, id=f"{number:032x}", value=f"{number:032x}") for number in range(200)]
    assert at_aws.store.write(lambda tx: all([tx.cuts.add(each) for each in many]))  # noqa: C419  # each is to be added
    assert at_aws.is_honoured(bystander), "the control"
    at_aws.time.more += timedelta(minutes=1)
    at_aws.fence.tend()
    assert not at_aws.is_honoured(bystander)
    with at_aws.store.read() as tx:
        emptied = tx.leases.get(id=bystander.lease.id)
    assert emptied is not None
    assert emptied.sealed_session is None
    assert emptied.revoked_at is not None
    (record,) = at_aws.records(reason="overflow")
    assert record["facts"]["leases"] == [bystander.lease.id]


@pytest.mark.threat("D15")
def test_D15_a_session_that_was_under_way_when_all_were_cut_is_given_to_nobody(
    at_aws: AtAws, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = at_aws.enrolled(ONE)
    session = at_aws.aws.session

    def meanwhile(*arguments: Any) -> Any:
        made = session(*arguments)
        role = at_aws.seeded.role_arn
        wide = core.all_of("r", role, role, at_aws.time(), at_aws.time() + timedelta(hours=1))
        assert at_aws.store.write(lambda tx: tx.cuts.add(wide))
        return made

    monkeypatch.setattr(at_aws.aws, "session", meanwhile)
    with pytest.raises(Refusal) as refused:
        at_aws.give(machine)
    assert refused.value.code == "conflict"
    with at_aws.store.read() as tx:
        (lease,) = tx.leases.find()
    assert lease.sealed_session is None
    monkeypatch.undo()
    until_the_cut_is_past(at_aws)
    assert at_aws.is_honoured(at_aws.give(machine))


ALLOW = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}


class Killed(BaseException):
    """kill -9, as far as a test in one process can."""


def crash(monkeypatch: pytest.MonkeyPatch, iam: Any, step: str, *, behind: bool) -> list[str]:
    died: list[str] = []
    real = getattr(iam, step)

    def dies(*arguments: Any) -> Any:
        if behind:
            real(*arguments)
        died.append(step)
        raise Killed

    monkeypatch.setattr(iam, step, dies)
    return died


def cut(site: AtAws, vended: list[Any]) -> Revocation:
    """What the first transaction of a revocation leaves: the row, and its cuts."""
    now = site.time()
    row = Revocation("r-1", "lease", "several", "alice", now, PlanState.RUNNING, {})
    cuts = core.cuts(row.id, row.kind, [each.lease for each in vended], now)
    assert site.store.write(lambda tx: tx.revocations.add(row) and all(tx.cuts.add(each) for each in cuts))
    return row


def key_of(site: AtAws) -> OpenableKey:
    with site.store.read() as tx:
        return site.keys.openable(tx, "main")[0]


def revoker_of(site: AtAws) -> OpenableKey:
    with site.store.read() as tx:
        found = site.keys.revoker(tx, site.account)
    assert found
    return found


def arn_of(site: AtAws) -> str:
    return f"arn:aws:iam::{site.account}:policy/trusted-gateway-fence-td"


def until_the_cut_is_past(site: AtAws) -> None:
    """AWS counts whole seconds: what is issued in the next one is not meant."""
    with site.store.read() as tx:
        before = max(cut.before for cut in tx.cuts.find())
    while clock.now() < before:
        time.sleep(0.01)
