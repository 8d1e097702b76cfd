"""The fence's documents: they deny every session that is meant, no other, allow nothing, and are never too long."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from gateway.core import fence
from gateway.core.fence import By
from gateway.core.model import Lease
from gateway.core.operator_model import Cut
from gateway.core.policy.document import faults
from gateway.core.policy.engine import DENIED, Question, compile_policy, decide
from gateway.wire.messages import instant
from tests.gateway.core.rows import NOW

ACCOUNT = "111122223333"
ROLES = [f"arn:aws:iam::{ACCOUNT}:role/{name}" for name in ("reader", "path/writer", "deployer")]
HOUR = timedelta(hours=1)
ALLOW = compile_policy({"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}}, "a")


@dataclass(frozen=True)
class Session:
    """What AWS knows of a session: of a role, or of a federated user when `role` is None."""

    lease: str
    machine: str
    name: str
    role: str | None
    issued: datetime
    upstream: str = "main"

    @property
    def context(self) -> dict[str, str]:
        """AWS: "AWS global condition context keys"."""
        common = {"aws:TokenIssueTime": instant(self.issued), "aws:PrincipalTag/gateway:lease": self.lease}
        if self.role is None:
            arn = f"arn:aws:sts::{ACCOUNT}:federated-user/{self.name}"
            return common | {
                "aws:userid": f"{ACCOUNT}:{self.name}", "aws:PrincipalArn": arn, "aws:PrincipalType": "FederatedUser",
            }  # fmt: skip
        return common | {
            "aws:userid": f"AROAEXAMPLE:{self.name}", "aws:PrincipalArn": self.role, "aws:SourceIdentity": self.machine,
            "aws:PrincipalType": "AssumedRole",
        }  # fmt: skip

    def row(self, **changes: Any) -> Lease:
        """As it is in our store."""
        role = self.role or f"arn:aws:sts::{ACCOUNT}:federated-user/{self.name}"
        made = Lease(self.lease, f"spiffe://td/aws/{ACCOUNT}/us-east-1/{self.machine}", "web", "reports", self.upstream,
                     role, self.name, "ASIA", self.issued, self.issued + HOUR)  # fmt: skip
        return replace(made, **changes)


def session(number: int, *, machine: int | None = None, role: int | None = 0, issued: datetime = NOW - HOUR) -> Session:
    of = f"i-{number if machine is None else machine:017x}"
    lease = f"{number:032x}"
    name = f"{of}.{lease[-12:]}" if role is None else of
    return Session(lease, of, name, ROLES[role] if role is not None else None, issued)


def denied_by_the_engine(document: str, who: Session) -> bool:
    """Our own engine, which asks about an action that is allowed otherwise."""
    context: dict[str, str | tuple[str, ...]] = {key.lower(): value for key, value in who.context.items()}
    question = Question("s3:GetObject", "arn:aws:s3:::b/k", context)
    return decide([ALLOW, compile_policy(json.loads(document), "fence")], question).kind == DENIED


def denied_by_hand(document: str, who: Session) -> bool:
    """The few operators that a fence has, read from AWS's page on them, by other code."""

    def holds(operator: str, key: str, wanted: Any) -> bool:
        given = {name.lower(): value for name, value in who.context.items()}.get(key.lower())
        if given is None:
            return False
        wanted = wanted if isinstance(wanted, list) else [wanted]
        if operator == "DateLessThan":
            return all(datetime.fromisoformat(given) < datetime.fromisoformat(each) for each in wanted)
        if operator in ("StringEquals", "ArnEquals"):
            return given in wanted
        assert operator == "StringLike"
        return any(fnmatchcase(given, each) for each in wanted)

    for statement in json.loads(document)["Statement"]:
        assert (statement["Effect"], statement["Action"], statement["Resource"]) == ("Deny", "*", "*")
        blocks = statement["Condition"].items()
        if all(holds(operator, key, wanted) for operator, keys in blocks for key, wanted in keys.items()):
            return True
    return False


def denied(document: str, who: Session) -> bool:
    engine, hand = denied_by_the_engine(document, who), denied_by_hand(document, who)
    assert engine == hand, (document, who)
    return engine


def cuts_of(revocation: str, kind: str, leases: Sequence[Lease], now: datetime) -> tuple[Cut, ...]:
    """Of machines, it is these that are revoked."""
    machines = {each.instance for each in leases} if kind in ("instance", "profile") else ()
    return fence.cuts(revocation, kind, leases, now, machines)


def policy(cuts: Iterable[Cut], resting: Iterable[str] = ()) -> str:
    """Each document is one that IAM takes."""
    document = fence.policy(cuts, frozenset(resting))
    assert not list(faults(json.loads(document)))
    assert not any(letter.isspace() for letter in document)
    return document


@pytest.mark.parametrize("kind", ["instance", "profile"])
def test_a_revoked_machine_is_denied_by_identity_and_by_name_until_it_comes_back(kind: str) -> None:
    old, other = session(1), session(2)
    back, elsewhere = replace(old, lease="b" * 32, issued=NOW + timedelta(seconds=1)), replace(old, role=ROLES[1])
    document = policy(cuts_of("r", kind, [old.row()], NOW))
    assert denied(document, old)
    assert denied(document, elsewhere), "the machine is revoked, whatever role it has"
    assert not denied(document, other)
    assert not denied(document, back), "it has come back by enrolling"
    conditions = [each["Condition"] for each in json.loads(document)["Statement"]]
    assert all(each["DateLessThan"] == {"aws:TokenIssueTime": "2026-11-23T12:00:01Z"} for each in conditions)
    keys = {key for each in conditions for block in each.values() for key in block}
    assert keys == {"aws:TokenIssueTime", "aws:SourceIdentity", "aws:userid"}


def test_a_machine_that_has_another_profile_by_now_keeps_its_other_sessions() -> None:
    """A profile is revoked by which it came in once: it has a session of that, and is not revoked itself."""
    once, now_it_has = session(1), session(2, machine=1)
    document = policy(fence.cuts("r", "profile", [once.row()], NOW, machines=()))
    assert denied(document, once)
    assert not denied(document, now_it_has)


@pytest.mark.parametrize("kind", ["lease", "grant", "certificate"])
def test_a_single_session_is_denied_by_its_tag_and_no_other_of_the_machine(kind: str) -> None:
    meant, other = session(1), session(2, machine=1)
    document = policy(cuts_of("r", kind, [meant.row()], NOW))
    assert denied(document, meant)
    assert denied(document, replace(meant, issued=NOW + timedelta(minutes=4))), "AWS's clock may be ahead of ours"
    assert not denied(document, other)


def test_the_latest_sessions_of_a_machine_are_denied_though_clocks_differ() -> None:
    """A session that AWS dates after the cut, and no machine that comes back."""
    fresh = session(1, issued=NOW - timedelta(seconds=30))
    document = policy(cuts_of("r", "instance", [fresh.row()], NOW))
    assert denied(document, replace(fresh, issued=NOW + timedelta(minutes=2)))
    assert not denied(document, replace(fresh, lease="b" * 32, issued=NOW + timedelta(minutes=2)))


def test_machines_of_a_trust_anchor_are_not_known_by_their_names() -> None:
    mine, theirs = session(1), session(2, machine=1)
    row = mine.row(instance=f"spiffe://td/anchor/one/{mine.machine}")
    document = policy(cuts_of("r", "instance", [row], NOW))
    assert denied(document, mine)
    assert not denied(document, theirs), "a machine of another anchor may have this name"


def test_a_federated_session_is_denied_on_the_user_of_its_key() -> None:
    meant, other = session(1, role=None), session(2, role=None)
    (cut,) = cuts_of("r", "instance", [meant.row()], NOW)
    assert (cut.principal, cut.account) == ("upstream/main", ACCOUNT)
    assert denied(policy([cut]), meant)
    assert not denied(policy([cut]), other)


def test_where_everything_is_revoked_a_time_is_enough() -> None:
    all_of_them = [session(n, role=n % 3) for n in range(500)] + [session(n, role=None) for n in range(500, 600)]
    cuts = cuts_of("r", "everything", [each.row() for each in all_of_them], NOW)
    document = policy(cuts)
    assert len(cuts) == 4
    assert len(document) < 300
    assert all(denied(document, each) for each in all_of_them)
    assert not any(denied(document, replace(each, issued=NOW + timedelta(seconds=1))) for each in all_of_them)


def test_a_key_that_lasts_is_never_hit() -> None:
    """It has no time of issue, and what is absent is before nothing: the user whose key it is can still be used."""
    cuts = [
        fence.all_of("r", ROLES[0], ROLES[0], NOW, NOW + HOUR),
        fence.all_of("r", ROLES[0], "upstream/main", NOW, NOW),
    ]
    for document in (policy(cuts), policy(cuts[1:]), policy(cuts_of("r", "lease", [session(1).row()], NOW))):
        user = Question("s3:GetObject", "*", {"aws:userid": "AIDAEXAMPLE", "aws:principaltype": "User"})
        assert decide([ALLOW, compile_policy(json.loads(document), "fence")], user)


def test_a_session_of_the_user_itself_is_hit_when_its_key_is_cut_off() -> None:
    """GetSessionToken: whoever has the key may ask for it."""
    user = {"aws:userid": "AIDAEXAMPLE", "aws:principaltype": "User", "aws:tokenissuetime": instant(NOW)}
    cuts = [
        fence.all_of("r", ROLES[0], "upstream/main", NOW, NOW + HOUR),
        *cuts_of("r", "lease", [session(1).row()], NOW),
    ]
    question = Question("s3:GetObject", "*", user)
    assert not decide([ALLOW, compile_policy(json.loads(policy(cuts)), "fence")], question)
    assert decide([ALLOW, compile_policy(json.loads(policy(cuts[1:])), "fence")], question)


ISSUED = st.integers(0, 200).map(lambda minutes: NOW - timedelta(minutes=minutes))
SESSIONS = st.builds(
    session,
    st.integers(0, 10**6),
    machine=st.integers(0, 30),
    role=st.sampled_from([0, 1, 2, None]),
    issued=ISSUED,
)
MANY = st.lists(SESSIONS, min_size=1, max_size=40, unique_by=lambda each: each.lease)
KINDS = st.sampled_from(["instance", "lease"])
REVOCATIONS = st.lists(st.tuples(MANY, KINDS, st.integers(0, 100)), min_size=1, max_size=6)


@settings(max_examples=60, deadline=None)
@given(REVOCATIONS, SESSIONS, st.data())
def test_every_revoked_session_is_denied_and_no_other(
    revocations: list[tuple[list[Session], str, int]], other: Session, data: st.DataObject
) -> None:
    """Revocations at different times; some of the machines have come back since."""
    cuts: list[Cut] = []
    meant: list[Session] = []
    machines: dict[str, datetime] = {}
    for number, (sessions, kind, minutes) in enumerate(revocations):
        now = NOW - timedelta(minutes=minutes)
        before = [each for each in sessions if each.issued <= now]
        cuts += cuts_of(f"r{number}", kind, [each.row() for each in before], now)
        meant += before
        if kind == "instance":
            machines |= {e.machine: max(now, machines.get(e.machine, now)) for e in before if e.role is not None}
    resting = data.draw(st.sets(st.sampled_from(sorted(machines)))) if machines else set()
    added = fence.overflow("r", cuts, resting)
    assume(cuts)  # without one there is no policy
    document = policy([*cuts, *added], resting)
    assert len(document) <= fence.LONGEST_POLICY
    assert all(denied(document, each) for each in meant)
    if not denied(document, other):
        return
    collateral = any(fence.is_hit(other.row(), cut) for cut in added)
    tagged = any(other.lease == each.lease for each in meant)
    by_machine = other.role is not None and other.machine in machines and (
        other.issued <= machines[other.machine] or other.machine in resting
    )  # fmt: skip
    assert collateral or tagged or by_machine


@settings(max_examples=30, deadline=None)
@given(st.integers(100, 400), st.integers(1, 3), KINDS)
def test_a_policy_that_would_be_too_long_gives_a_role_one_time(count: int, roles: int, kind: str) -> None:
    sessions = [session(n, role=n % roles) for n in range(count)]
    cuts = cuts_of("r", kind, [each.row() for each in sessions], NOW)
    assert len(policy(cuts)) > fence.LONGEST_POLICY or not fence.overflow("r", cuts)
    added = fence.overflow("r", cuts)
    document = policy([*cuts, *added])
    assert len(document) <= fence.LONGEST_POLICY
    assert all(denied(document, each) for each in sessions)
    stranger = session(10**6, role=0)
    assert denied(document, stranger) == any(fence.is_hit(stranger.row(), cut) for cut in added)
    assert not denied(document, replace(stranger, issued=NOW + timedelta(seconds=1)))
    assert fence.overflow("r", [*cuts, *added]) == (), "it is short enough now"


@pytest.mark.parametrize("role", [0, None])
def test_a_cut_by_time_takes_nothing_from_an_exact_one(role: int | None) -> None:
    """An exact cut has five minutes to spare, and a later one by time has none: AWS's clock may be ahead of ours."""
    meant = session(1, role=role)
    ahead = replace(meant, issued=NOW + timedelta(minutes=2))
    exact = cuts_of("r", "lease", [meant.row()], NOW)
    by_time = fence.all_of("k", ROLES[0], exact[0].principal, NOW + timedelta(minutes=1), NOW + HOUR)
    assert denied(policy(exact), ahead), "the control"
    assert denied(policy([*exact, by_time]), ahead)
    late = replace(by_time, before=NOW + fence.SKEW + timedelta(seconds=1))
    assert policy([*exact, late]) == policy([late]), "that one reaches as far"


def test_a_policy_that_was_too_long_keeps_what_is_exact_and_fresh_if_it_fits() -> None:
    old = [session(n) for n in range(300)]
    fresh = session(1000)
    cuts = [
        *cuts_of("r1", "lease", [each.row() for each in old], NOW - timedelta(minutes=10)),
        *cuts_of("r2", "lease", [fresh.row()], NOW),
    ]
    added = fence.overflow("r", cuts)
    document = policy([*cuts, *added])
    assert [(cut.value, cut.before) for cut in added] == [("", fence.before(NOW))]
    assert all(denied(document, each) for each in old)
    assert denied(document, replace(fresh, issued=NOW + timedelta(minutes=2)))
    assert not denied(document, session(2000, issued=NOW + timedelta(minutes=2))), "nobody waits for five minutes"


def test_many_fresh_exact_cuts_get_one_time_without_any_to_spare() -> None:
    cuts = cuts_of("r", "lease", [session(n).row() for n in range(300)], NOW)
    added = fence.overflow("r", cuts)
    document = policy([*cuts, *added])
    assert [cut.value for cut in added] == [fence.ROUGH]
    assert len(document) <= fence.LONGEST_POLICY
    assert not denied(document, session(2000, issued=NOW + timedelta(minutes=2))), "nobody waits for five minutes"


def test_where_roles_alone_are_too_many_everybody_gets_the_time() -> None:
    roles = [f"arn:aws:iam::{ACCOUNT}:role/{'x' * 60}{number}" for number in range(120)]
    sessions = [replace(session(n, issued=NOW - timedelta(minutes=n + 5)), role=role) for n, role in enumerate(roles)]
    cuts = [
        cut
        for n, each in enumerate(sessions)
        for cut in cuts_of(f"r{n}", "everything", [each.row()], NOW - timedelta(minutes=n))
    ]
    added = fence.overflow("r", cuts)
    document = policy([*cuts, *added])
    assert [cut.principal for cut in added] == [fence.EVERYBODY]
    assert len(document) <= fence.LONGEST_POLICY
    assert all(denied(document, each) for each in sessions)


def test_a_cut_is_kept_until_its_last_session_is_over_by_every_clock() -> None:
    (cut,) = cuts_of("r", "lease", [session(1).row(expires_at=NOW)], NOW - HOUR)
    assert not fence.is_over(cut, NOW + fence.SKEW - timedelta(seconds=1))
    assert fence.is_over(cut, NOW + fence.SKEW)


def test_one_cut_lasts_as_long_as_the_last_session_that_it_means() -> None:
    one, other = session(1).row(expires_at=NOW + HOUR), session(2, machine=1).row(expires_at=NOW + 2 * HOUR)
    for leases in ([one, other], [other, one]):
        found = {cut.kind: cut.until for cut in cuts_of("r", "instance", leases, NOW)}
        assert found[By.SOURCE_IDENTITY] == NOW + 2 * HOUR


def test_no_cut_denies_nobody() -> None:
    assert json.loads(fence.policy([]))["Statement"] == []
    assert fence.overflow("r", []) == ()
