"""Everything that can be revoked: what is cut with it, what is not, and how it comes back."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from certs import keys
from certs.names import OperatorName
from certs.profiles import OPERATOR
from gateway.adapters import clock
from gateway.core.audit import Name
from gateway.core.errors import Refusal
from gateway.core.identity import Identity
from gateway.core.lease import Order
from gateway.core.model import CertificateState, InstanceState, Lease, Profile, TicketState
from gateway.core.operator_model import Operator, OperatorState, PlanState, Revocation
from gateway.core.receipt import layer_of
from gateway.core.revocation import Target
from gateway.flows import revocation_targets, vend
from gateway.flows.layers import Progress
from gateway.flows.operate import Operate
from gateway.flows.profiles import Profiles
from gateway.flows.revocation_layers import Telling
from gateway.flows.revoke import Order as Cut
from gateway.flows.revoke import Revoke
from gateway.flows.vault import SealedSessions
from tests.gateway.flows.conftest import PROFILE, Gateway

MINUTE = timedelta(minutes=1)


def give(gateway: Gateway, identity: Identity) -> Lease:
    with gateway.journal.call(Name.INSTANCE_CREDENTIALS_VEND, clock.request_id(), "127.0.0.1") as call:
        return gateway.vend().give(call, identity, Order("reports")).lease


def refused(do: Callable[..., object], *arguments: Any, **more: Any) -> tuple[str, str]:
    with pytest.raises(Refusal) as found:
        do(*arguments, **more)
    return found.value.code, found.value.reason


def lease_of(gateway: Gateway, lease: Lease) -> Lease:
    with gateway.store.read() as tx:
        found = tx.leases.get(id=lease.id)
    assert found is not None
    return found


def apply(gateway: Gateway) -> Profile:
    profiles = Profiles(gateway.store, gateway.journal, lambda _: (), gateway.time, source_address=False)
    return profiles.apply(gateway.call(Name.OPERATOR_PROFILE_APPLY), "web", PROFILE).profile


def ticket(gateway: Gateway, instance_id: str | None = None) -> str:
    operate = Operate(gateway.store, gateway.journal, gateway.time, clock.random_bytes)
    call = gateway.call(Name.OPERATOR_TICKET_CREATE)
    return operate.create_ticket(call, "web", instance_id, MINUTE).ticket.id


def operator(gateway: Gateway, name: str, *roles: str) -> str:
    """The serial number of its certificate."""
    key, named = keys.generate(), OperatorName("td", name)
    made = gateway.issue.certificate("services", OPERATOR, named, key.public_key(), gateway.time(), timedelta(hours=12))
    row = Operator(name, {"roles": list(roles)}, 1, OperatorState.ACTIVE, gateway.time(), "")
    assert gateway.store.write(lambda tx: tx.operators.add(row) and tx.certificates.add(made))
    return made.serial


# Leases: the session goes, the grant stands


@pytest.mark.parametrize("by", ["id", "access_key_id"])
def test_a_lease_is_not_given_again_and_the_grant_gives_another(gateway: Gateway, by: str) -> None:
    identity, other = gateway.enrolled(), gateway.enrolled("i-0123456789abcdef1")
    first, its = give(gateway, identity), give(gateway, other)
    assert give(gateway, identity).id == first.id, "the control: it is given again"
    receipt = gateway.revoke(getattr(first, by), Target.LEASE)
    assert [each["lease"] for each in receipt["cut"]["sessions"]] == [first.id]
    assert receipt["cut"]["certificates"] == []
    assert (lease_of(gateway, first).revoked_at, lease_of(gateway, first).sealed_session) == (gateway.time(), None)
    assert give(gateway, identity).id != first.id
    assert give(gateway, other).id == its.id
    with gateway.store.read() as tx:
        assert {(cut.principal, cut.value) for cut in tx.cuts.find()} == {(first.role, first.id)}
        assert tx.leases.revoked(identity.instance.id, gateway.time()) == [first.id]
        assert tx.leases.revoked(other.instance.id, gateway.time()) == []
        assert tx.leases.revoked_since(gateway.time()) == [identity.instance.id]
    gateway.time.passes(timedelta(hours=2))
    assert refused(gateway.revoke, first.id, Target.LEASE)[0] == "target_unknown", "it is over"


def test_a_lease_that_is_revoked_at_the_very_moment_is_not_given(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    identity = gateway.enrolled()
    give(gateway, identity)
    opened = SealedSessions.open

    def revoked_meanwhile(sealed: SealedSessions, lease: Lease) -> object:
        if lease_of(gateway, lease).revoked_at is None:
            gateway.revoke(lease.id, Target.LEASE)
        return opened(sealed, lease)

    monkeypatch.setattr(SealedSessions, "open", revoked_meanwhile)
    assert refused(give, gateway, identity) == ("conflict", "lease_revoked")
    assert give(gateway, identity), "and who asks again gets another"


# Grants and profiles: stopped, until they are applied anew


def test_a_grant_is_stopped_until_its_profile_is_applied_anew(gateway: Gateway) -> None:
    identity = gateway.enrolled()
    first = give(gateway, identity)
    receipt = gateway.revoke("web/reports", Target.GRANT)
    assert [each["lease"] for each in receipt["cut"]["sessions"]] == [first.id]
    assert refused(give, gateway, identity) == ("grant_refused", "grant_revoked")
    assert gateway.vend().grants(gateway.call(), identity).grants == ()
    with gateway.store.read() as tx:
        instance = tx.instances.get(id=identity.instance.id)
    assert instance is not None
    assert instance.state is InstanceState.ENROLLED
    assert gateway.revoke("web/reports", Target.GRANT)["id"] == receipt["id"], "the second time does nothing more"
    assert apply(gateway).version == 2, "the same document, and yet a new version"
    assert give(gateway, identity).id != first.id


@pytest.mark.parametrize("target", [Target.GRANT, Target.PROFILE])
@pytest.mark.parametrize("applied_anew", [True, False])
def test_a_mint_that_is_under_way_loses(gateway: Gateway, target: Target, applied_anew: bool) -> None:
    identity = gateway.enrolled()

    def meanwhile() -> None:
        gateway.revoke("web/reports" if target is Target.GRANT else "web", target)
        if applied_anew:
            apply(gateway)

    gateway.aws.meanwhile = meanwhile
    if applied_anew and target is Target.GRANT:
        assert give(gateway, identity), "an operator wants it again"
        return
    code = "instance_revoked" if target is Target.PROFILE else "grant_refused"
    assert refused(give, gateway, identity) == (code, vend.BEHIND_ITS_BACK)
    with gateway.store.read() as tx:
        (lease,) = tx.leases.find()
    assert lease.sealed_session is None
    assert lease.revoked_at is not None


def test_a_profile_takes_its_machines_tickets_and_sessions_along(gateway: Gateway) -> None:
    identity = gateway.enrolled()
    other = gateway.enrolled("i-0123456789abcdef1")
    batch = replace(other.instance, profile="batch")
    anchored = replace(
        other.instance, id="spiffe://td/anchor/ours/host-1", instance_id="host-1", claims={"anchor": "ours"}
    )
    change = [(other.instance, batch)]
    gateway.store.write(lambda tx: [tx.instances.swap(*pair) for pair in change] + [tx.instances.add(anchored)])
    first, mine = give(gateway, identity), ticket(gateway)
    receipt = gateway.revoke("web", Target.PROFILE)
    assert receipt["cut"]["instances"] == [identity.instance.id], "a machine of a trust anchor could not come back"
    assert receipt["cut"]["tickets"] == [mine]
    assert [each["lease"] for each in receipt["cut"]["sessions"]] == [first.id]
    assert refused(give, gateway, identity) == ("grant_refused", "profile_revoked")
    assert refused(ticket, gateway) == ("profile_unknown", "profile_revoked")
    assert refused(give, gateway, Identity(anchored, other.certificate)) == ("grant_refused", "profile_revoked")
    apply(gateway)
    assert ticket(gateway)
    assert refused(give, gateway, identity)[0] == "instance_revoked", "it has to enrol"


# Certificates, tickets, operators


def test_a_certificate_takes_its_key_along_and_leaves_the_machine_in(gateway: Gateway) -> None:
    identity = gateway.enrolled()
    first, its_ticket = give(gateway, identity), ticket(gateway, identity.instance.instance_id)
    twin = replace(identity.certificate, serial="abc", sha256="d" * 64, state=CertificateState.SUPERSEDED)
    another = replace(twin, serial="def", sha256="e" * 64, key_sha256="f" * 64)
    gateway.store.write(lambda tx: [tx.certificates.add(row) for row in (twin, another)])
    receipt = gateway.revoke(identity.certificate.serial.upper(), Target.CERTIFICATE)
    assert set(receipt["cut"]["certificates"]) == {identity.certificate.serial, "abc"}
    assert [each["lease"] for each in receipt["cut"]["sessions"]] == [first.id]
    assert (receipt["cut"]["instances"], receipt["cut"]["tickets"]) == ([], [])
    assert refused(give, gateway, identity)[0] == "instance_revoked"
    with gateway.store.read() as tx:
        instance, open_ticket = tx.instances.get(id=identity.instance.id), tx.tickets.get(id=its_ticket)
    assert instance is not None
    assert open_ticket is not None
    assert (instance.state, open_ticket.state) == (InstanceState.ENROLLED, TicketState.OPEN)


def test_a_key_that_was_replaced_takes_what_it_got_along(gateway: Gateway) -> None:
    """The machine has come in by another key since: what that one got stays."""
    former = gateway.enrolled()
    got = give(gateway, former)
    gateway.time.passes(timedelta(minutes=1))
    made = gateway.certified("i-0123456789abcdef0")
    row = replace(former.instance, key_sha256=made.key_sha256, enrolled_at=gateway.time())
    assert gateway.store.write(lambda tx: tx.instances.swap(former.instance, row) and tx.certificates.add(made))
    gets = give(gateway, Identity(row, made))
    cut = gateway.revoke(former.certificate.serial, Target.CERTIFICATE)["cut"]
    assert [each["lease"] for each in cut["sessions"]] == [got.id]
    assert lease_of(gateway, got).revoked_at is not None
    assert lease_of(gateway, gets).revoked_at is None


def test_many_machines_of_a_profile_go_as_few_do(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are looked for in another way, and changed many at a time: the very same is cut off."""
    machines = [gateway.enrolled(f"i-{number:017x}") for number in range(12)]
    leases = [give(gateway, each) for each in machines]
    few = gateway.revoke("web", Target.PROFILE, dry_run=True)["cut"]
    monkeypatch.setattr(revocation_targets, "_MANY", 5)
    many = gateway.revoke("web", Target.PROFILE)["cut"]

    def names(cut: dict[str, Any]) -> list[list[str]]:
        sessions = sorted(each["lease"] for each in cut["sessions"])
        return [sorted(cut["instances"]), sorted(cut["certificates"]), sessions]

    assert names(many) == names(few)
    assert len(many["instances"]) == len(many["sessions"]) == 12
    with gateway.store.read() as tx:
        assert {row.state for row in tx.instances.find()} == {InstanceState.REVOKED}
        assert {row.sealed_session for row in tx.leases.find()} == {None}
    assert all(lease_of(gateway, each).revoked_at == gateway.time() for each in leases)


def test_a_ticket_is_taken_back_unless_it_was_used(gateway: Gateway) -> None:
    mine, used = ticket(gateway), ticket(gateway)
    with gateway.store.read() as tx:
        row = tx.tickets.get(id=used)
    assert row is not None
    gateway.store.write(lambda tx: tx.tickets.swap(row, replace(row, state=TicketState.REDEEMED, redeemed_by="i")))
    assert gateway.revoke(mine, Target.TICKET)["cut"]["tickets"] == [mine]
    assert refused(gateway.revoke, used, Target.TICKET) == ("conflict", "ticket_used")
    with gateway.store.read() as tx:
        states = {each.id: each.state for each in tx.tickets.find()}
    assert states == {mine: TicketState.REVOKED, used: TicketState.REDEEMED}


def test_an_operator_goes_with_its_certificates_and_the_last_administrator_stays(gateway: Gateway) -> None:
    bob, carol = operator(gateway, "bob", "operator"), operator(gateway, "carol", "administrator")
    assert gateway.revoke("bob", Target.OPERATOR)["cut"]["certificates"] == [bob]
    gateway.revoke("carol", Target.OPERATOR)
    assert refused(gateway.revoke, "alice", Target.OPERATOR) == ("conflict", "last_administrator")
    with gateway.store.read() as tx:
        states = {each.name: each.state for each in tx.operators.find()}
        certificates = {each.serial: each.state for each in tx.certificates.find(kind="operator")}
    assert states == {
        "alice": OperatorState.ACTIVE, "bob": OperatorState.REVOKED, "carol": OperatorState.REVOKED,
    }  # fmt: skip
    assert (certificates[bob], certificates[carol]) == (CertificateState.REVOKED,) * 2
    assert sum(state is CertificateState.ACTIVE for state in certificates.values()) == 1, "alice's"


def test_only_who_may_cut_operators_off_cuts_their_certificates_off(gateway: Gateway) -> None:
    serial = operator(gateway, "bob", "administrator")
    forbidden = ("operator_forbidden", "permission_missing")
    assert refused(gateway.revoke, serial, Target.CERTIFICATE, of_operators=False) == forbidden
    assert refused(gateway.revoke, "", Target.EVERYTHING, operators_too=True, of_operators=False) == forbidden
    assert refused(gateway.revoke, serial, Target.CERTIFICATE, of_operators=False, dry_run=True) == forbidden
    machine = gateway.enrolled().certificate.serial
    assert gateway.revoke(machine, Target.CERTIFICATE, of_operators=False)["cut"]["certificates"] == [machine]
    assert gateway.revoke(serial, Target.CERTIFICATE)["cut"]["certificates"] == [serial]


@pytest.mark.parametrize("operators_too", [False, True])
def test_everything_is_every_machine_ticket_and_session(gateway: Gateway, operators_too: bool) -> None:
    operator(gateway, "bob", "administrator")
    identities = [gateway.enrolled(f"i-0123456789abcdef{n}") for n in range(3)]
    leases = {give(gateway, identity).id for identity in identities}
    mine = ticket(gateway)
    receipt = gateway.revoke("", Target.EVERYTHING, operators_too=operators_too)
    assert set(receipt["cut"]["instances"]) == {identity.instance.id for identity in identities}
    assert {each["lease"] for each in receipt["cut"]["sessions"]} == leases
    assert receipt["cut"]["tickets"] == [mine]
    assert receipt["cut"]["operators"] == (["bob"] if operators_too else []), "never who asks"
    for identity in identities:
        assert refused(give, gateway, identity)[0] == "instance_revoked"
    assert gateway.enrolled("i-0123456789abcdef9"), "who comes later is not meant"


@pytest.mark.parametrize(
    ("name", "target", "code"),
    [
        ("i-0fedcba9876543210", Target.INSTANCE, "instance_unknown"),
        ("0", Target.CERTIFICATE, "target_unknown"),
        ("nothing", Target.LEASE, "target_unknown"),
        ("web/nothing", Target.GRANT, "target_unknown"),
        ("nothing/reports", Target.GRANT, "profile_unknown"),
        ("nothing", Target.PROFILE, "profile_unknown"),
        ("t-0", Target.TICKET, "target_unknown"),
        ("nobody", Target.OPERATOR, "operator_unknown"),
    ],
)
def test_what_is_not_there_is_refused_and_recorded(gateway: Gateway, name: str, target: Target, code: str) -> None:
    assert refused(gateway.revoke, name, target)[0] == code
    last = gateway.records()[-1]
    assert (last["name"], last["kind"], last["allowed"]) == (f"operator:{target}:revoke", "decision", False)


def test_the_certificates_of_the_gateway_itself_are_no_target(gateway: Gateway) -> None:
    gateway.identities("127.0.0.1").current()
    with gateway.store.read() as tx:
        (server,) = tx.certificates.find(kind="server")
    assert refused(gateway.revoke, server.serial, Target.CERTIFICATE)[0] == "target_unknown"


# The plan


@pytest.mark.parametrize("target", list(Target))
def test_a_dry_run_tells_and_changes_nothing(gateway: Gateway, target: Target) -> None:
    identity = gateway.enrolled()
    lease, mine = give(gateway, identity), ticket(gateway)
    operator(gateway, "bob", "operator")
    name = {
        Target.INSTANCE: identity.instance.instance_id, Target.CERTIFICATE: identity.certificate.serial,
        Target.LEASE: lease.id, Target.GRANT: "web/reports", Target.PROFILE: "web", Target.TICKET: mine,
        Target.OPERATOR: "bob", Target.EVERYTHING: "",
    }[target]  # fmt: skip
    before = everything_in(gateway)
    said = gateway.revoke(name, target, dry_run=True)
    assert everything_in(gateway) == before
    assert (said["id"], said["state"]) == (None, "planned")
    record = gateway.records()[-1]
    assert (record["kind"], record["facts"]["dry_run"]) == ("decision", True)
    done = gateway.revoke(name, target)
    assert done["cut"] == said["cut"], "and then it does what it told"
    assert everything_in(gateway) != before


def everything_in(gateway: Gateway) -> list[Any]:
    tables = ("instances", "certificates", "tickets", "leases", "operators", "profiles", "revocations", "cuts", "crls")
    with gateway.store.read() as tx:
        return [getattr(tx, name).find() for name in tables]


class Odd:
    """A layer that does as it is told."""

    name = "aws"
    looks = False

    def __init__(self, *answers: Progress | BaseException) -> None:
        self.answers = list(answers)

    def carry(self, revocation: Revocation) -> Progress:
        answer = self.answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return answer


def test_a_plan_goes_on_where_a_crash_left_it(gateway: Gateway) -> None:
    identity = gateway.enrolled()
    odd = Odd(
        Refusal("upstream_unavailable", reason="aws_away"), Progress(False, {}, "a key"), Progress(True, {"a": 1})
    )
    revoke = gateway.revoking(None, odd)
    with gateway.journal.call(Name.OPERATOR_INSTANCE_REVOKE, "r", None) as call:
        order = Cut(Target.INSTANCE, identity.instance.instance_id, "stolen")
        row = gateway.journal.write(call, lambda tx: revoke._cut(tx, call, order, gateway.time()))
    # The worker is killed here: the transaction stands, nothing else was done.
    assert refused(give, gateway, identity)[0] == "instance_revoked"
    states, now = [], row
    for _ in range(3):
        gateway.time.passes(timedelta(seconds=1))
        revoke.resume()
        with gateway.store.read() as tx:
            (now,) = tx.revocations.find()
        states.append([(each["layer"], each["state"]) for each in now.document["layers"]][:4])
    assert states[0] == [("gateway", "done"), ("crl", "done"), ("agents", "done"), ("aws", "trying")]
    assert (states[1][3], states[2][3]) == (("aws", "waiting"), ("aws", "done"))
    assert now.state is PlanState.DONE
    revoke.resume()
    assert odd.answers == [], "what is done is not asked again"
    told = [each["facts"] for each in gateway.records() if each["name"] == "gateway:revocation:carry"]
    assert [(each["layer"], each["state"]) for each in told] == [
        ("gateway", "done"), ("crl", "done"), ("agents", "done"), ("aws", "waiting"), ("aws", "done"),
    ]  # fmt: skip


def test_agents_are_told_when_they_were(gateway: Gateway) -> None:
    identity, other = gateway.enrolled(), gateway.enrolled("i-0123456789abcdef1")
    leases = [give(gateway, each) for each in (identity, other)]
    telling = Telling(gateway.store, gateway.time)
    telling.told(identity.instance.id, ["another"])  # of something else, before
    gateway.time.passes(MINUTE)
    revoke = gateway.revoking()
    gateway.revoke("web/reports", Target.GRANT)

    def told() -> tuple[str, int, list[str]]:
        revoke.resume()
        with gateway.store.read() as tx:
            (row,) = tx.revocations.find()
        found = next(each for each in row.document["layers"] if each["layer"] == "agents")
        return found["state"], found["facts"]["told"], found["facts"]["untold"]

    assert told() == ("trying", 0, sorted([identity.instance.id, other.instance.id]))
    assert telling.to_drop(identity.instance.id) == (leases[0].id,)
    telling.told(identity.instance.id, [leases[0].id])
    assert told() == ("trying", 1, [other.instance.id])
    gateway.time.passes(timedelta(hours=1))
    assert told() == ("done", 1, [other.instance.id]), "nothing that it may hold is good any more"
    assert telling.to_drop(identity.instance.id) == ()


def untold(gateway: Gateway, revoke: Revoke) -> list[list[str]]:
    """Of each revocation, in order, the agents that were not told."""
    revoke.resume()
    with gateway.store.read() as tx:
        rows = sorted(tx.revocations.find(), key=lambda row: row.at)
    return [layer_of(row, "agents")["facts"]["untold"] for row in rows]


@pytest.mark.threat("H01")
def test_H01_an_agent_was_told_of_what_it_heard_and_not_of_what_was_revoked_meanwhile(gateway: Gateway) -> None:
    identity, other = gateway.enrolled(), gateway.enrolled("i-0123456789abcdef1")
    mine, _ = give(gateway, identity), give(gateway, other)
    gateway.revoke(mine.id, Target.LEASE)
    telling, revoke, agent = Telling(gateway.store, gateway.time), gateway.revoking(), identity.instance.id
    heard = telling.to_drop(agent)
    gateway.time.passes(timedelta(seconds=1))
    second = give(gateway, identity)
    gateway.revoke(second.id, Target.LEASE)  # behind the look, before the note
    gateway.time.passes(timedelta(seconds=1))
    telling.told(agent, heard)
    assert untold(gateway, revoke) == [[], [agent]]
    telling.told(agent, telling.to_drop(agent))
    assert untold(gateway, revoke) == [[], []]
    gateway.revoke("web", Target.PROFILE)
    assert untold(gateway, revoke)[2] == [other.instance.id], "of the same leases it need not be told again"
    telling.told_revoked(other.instance.id)
    assert untold(gateway, revoke)[2] == [], "who hears that its machine is revoked, drops all that it has"


def test_what_was_told_counts_when_a_later_word_leaves_out_what_is_over(gateway: Gateway) -> None:
    identity, other = gateway.enrolled(), gateway.enrolled("i-0123456789abcdef1")
    give(gateway, identity)
    gateway.time.passes(MINUTE * 30)
    give(gateway, other)
    gateway.revoke("web/reports", Target.GRANT)
    telling, revoke = Telling(gateway.store, gateway.time), gateway.revoking()
    telling.told(identity.instance.id, telling.to_drop(identity.instance.id))
    gateway.time.passes(MINUTE * 40)
    assert telling.to_drop(identity.instance.id) == ()
    telling.told(identity.instance.id, ())
    assert untold(gateway, revoke) == [[other.instance.id]]
    gateway.time.passes(timedelta(days=3))
    telling.told(identity.instance.id, ["another"])
    with gateway.store.read() as tx:
        cursor = tx.cursors.get(name=f"told/{identity.instance.id}")
    assert cursor
    assert list(cursor.positions["drop"]) == ["another"], "and it is forgotten when nobody can ask any more"
