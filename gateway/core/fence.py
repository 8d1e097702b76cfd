"""The fence: what AWS is told so that it stops honouring sessions that it gave. Pure: rows in, a policy document out.

A `Cut` names sessions of one principal that were issued before a time. The policy of an account denies everything to
all of them, and nothing to anybody else: AWS evaluates permissions at each request, so a session is over as soon as the
policy stands (AWS: "Disabling permissions for temporary security credentials"). One policy is attached to every
principal of the account that has cuts, so each statement has to say by itself whom it means.
"""

import hashlib
import json
import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from gateway.core.lease import LEASE_TAG
from gateway.core.model import Lease
from gateway.core.operator_model import Cut
from gateway.core.policy.document import VERSION
from gateway.wire.messages import instant

LONGEST_POLICY = 6144
"""AWS: "IAM and AWS STS quotas", of a customer managed policy: white space is not counted, and we write none."""
SKEW = timedelta(minutes=5)
"""How far AWS's clock and ours may differ. Where a cut means exactly one session, its time has this much to spare."""
LONGEST_OF_ROLE, LONGEST_OF_USER = timedelta(hours=12), timedelta(hours=36)
"""AWS: the longest that a session may last, of a role, and of a user (API_AssumeRole, API_GetFederationToken)."""
ROUGH = "rough"
"""As the value of a cut by time: it stands for cuts of exact sessions that do not fit, without the time to spare that
they have. (With that, nobody could have a session of this role for five minutes.)
"""
EVERYBODY = "*"
"""As a principal: whoever the policy is attached to."""
_OF_AWS = "/aws/"  # in the SPIFFE ID: elsewhere a machine's name need not be its own alone


class By(StrEnum):
    """How a cut says which sessions it means. `value` is, in this order: an instance's id at AWS; that, a slash and the
    name of a session of it; the id of a lease; what `aws:userid` is of a federated user; nothing, or `ROUGH`.
    """

    SOURCE_IDENTITY = "source_identity"
    SESSION_NAME = "session_name"
    LEASE = "lease"
    FEDERATED = "federated"
    ISSUED_BEFORE = "issued_before"


OF_MACHINES = (By.SOURCE_IDENTITY, By.SESSION_NAME)
_EXACT = (By.LEASE, By.FEDERATED)  # one session each, so there is time to spare


def cuts(
    revocation_id: str, kind: str, leases: Sequence[Lease], now: datetime, machines: Collection[str] = ()
) -> tuple[Cut, ...]:
    """What has to be cut at AWS so that these leases, which are live and were given away, are over.

    `machines` are the ids of the instances that are revoked as a whole: their sessions are known by source identity and
    by name; the latest ones by their lease as well, since AWS's clock may be ahead of ours. Where all is revoked, a
    time is enough for each role.
    """
    latest: dict[tuple[str, str, By, str], Lease] = {}

    def add(lease: Lease, by: By, value: str) -> None:
        meant = (lease.role.split(":")[4], principal_of(lease), by, value)
        former = latest.setdefault(meant, lease)
        latest[meant] = lease if lease.expires_at > former.expires_at else former

    for lease in leases:
        machine = lease.instance.rpartition("/")[2]
        if kind == "everything":
            add(lease, By.ISSUED_BEFORE, "")
        elif is_federated(lease.role):
            add(lease, By.FEDERATED, f"{lease.role.split(':')[4]}:{lease.session_name}")
        elif lease.instance in machines and _OF_AWS in lease.instance:
            add(lease, By.SOURCE_IDENTITY, machine)
            add(lease, By.SESSION_NAME, f"{machine}/{lease.session_name}")
            if lease.issued_at > now - SKEW:
                add(lease, By.LEASE, lease.id)
        else:
            add(lease, By.LEASE, lease.id)
    return tuple(
        _cut(revocation_id, lease.role, principal, by, value, before(now), lease.expires_at)
        for (_, principal, by, value), lease in latest.items()
    )


def all_of(revocation_id: str, arn: str, principal: str, now: datetime, until: datetime) -> Cut:
    """Every session of a principal that was issued until now. `arn` is of its account."""
    return _cut(revocation_id, arn, principal, By.ISSUED_BEFORE, "", before(now), until)


def before(now: datetime) -> datetime:
    """The next whole second: AWS counts a session's time of issue in these, and what is of this one is meant too."""
    return datetime.fromtimestamp(math.floor(now.timestamp()) + 1, UTC)


def principal_of(lease: Lease) -> str:
    """What the policy is attached to: the role; or, of a federated user, `upstream/<name>` of the key whose user it is
    of, since it has that user's permissions at most.
    """
    return f"upstream/{lease.upstream}" if is_federated(lease.role) else lease.role


def is_federated(arn: str) -> bool:
    """Whether a lease's `role` is a federated user (AWS: GetFederationToken)."""
    return ":federated-user/" in arn


def is_over(cut: Cut, now: datetime) -> bool:
    """Whether the last session that it means has ended, by AWS's clock too."""
    return cut.until + SKEW <= now


def policy(cuts: Iterable[Cut], resting: Collection[str] = ()) -> str:
    """The policy document for these cuts of one account, without white space; maybe longer than AWS takes.

    `resting` are ids of instances that have not come back since they were revoked. What they have is all issued before
    any of these times, so they share the latest: one statement for all of them.
    """
    live = list(cuts)
    wide = _wide(live)
    needed = _uncovered(live)
    latest = max((cut.before for cut in needed if _machine(cut) in resting), default=None)
    exact: dict[By, set[str]] = defaultdict(set)
    exact_before = max((_reach(cut) for cut in needed if cut.kind in _EXACT), default=None)
    named: dict[tuple[By, str], datetime] = {}
    for cut in needed:
        if cut.kind in _EXACT:
            exact[By(cut.kind)].add(cut.value)
            continue
        value = cut.value.partition("/")[2] if cut.kind == By.SESSION_NAME else cut.value
        time = latest if latest is not None and _machine(cut) in resting else cut.before
        key = (By(cut.kind), value)
        named[key] = max(time, named.get(key, time))
    groups: dict[tuple[datetime, By], set[str]] = defaultdict(set)
    for (by, value), time in named.items():
        groups[time, by].add(value)
    statements = [_deny(_meant(by, values), time) for (time, by), values in sorted(groups.items())]
    statements += [_deny(_meant(by, values), exact_before) for by, values in sorted(exact.items()) if exact_before]
    return json.dumps({"Version": VERSION, "Statement": [*statements, *_by_time(live, wide)]}, separators=(",", ":"))


def overflow(revocation_id: str, cuts: Sequence[Cut], resting: Collection[str] = ()) -> tuple[Cut, ...]:
    """The cuts that make the policy short enough, to be added to `cuts`; none when it is.

    A principal with very many cuts gets one time for all its sessions: first the one with most, and, when roles alone
    are too many, whoever the policy is attached to. Then sessions are over that nobody revoked (`is_hit`). The cuts of
    the last minutes that mean one session exactly reach beyond that time, and go on as they are, if that is enough.
    """
    added: list[Cut] = []
    while len(policy([*cuts, *added], resting)) > LONGEST_POLICY:
        several: dict[str, list[Cut]] = defaultdict(list)
        for cut in _uncovered([*cuts, *added]):
            several[cut.principal].append(cut)
        most = max(several, key=lambda principal: (len(several[principal]), principal), default=EVERYBODY)
        meant = several.get(most, cuts)
        before, until = max(cut.before for cut in meant), max(cut.until for cut in meant)
        value = ROUGH if most in several and _wide([*cuts, *added]).get(most, before - SKEW) >= before else ""
        added = [cut for cut in added if cut.principal != most]  # it was not enough
        added.append(_cut(revocation_id, f"::::{meant[0].account}", most, By.ISSUED_BEFORE, value, before, until))
    return tuple(added)


def is_hit(lease: Lease, cut: Cut) -> bool:
    """Whether a cut by time ends this lease, which is live and in the cut's account.

    A lease is recorded after its session was issued, and by our clock: what may be meant is.
    """
    if cut.kind != By.ISSUED_BEFORE or lease.role.split(":")[4] != cut.account:
        return False
    federated = is_federated(lease.role) and cut.principal.startswith("upstream/")  # the statement means all users
    return (federated or cut.principal in (EVERYBODY, lease.role)) and lease.issued_at < cut.before + SKEW


def digest(document: str) -> str:
    """SHA-256 in hex, to tell documents apart."""
    return hashlib.sha256(document.encode()).hexdigest()


def _cut(revocation_id: str, arn: str, principal: str, by: By, value: str, before: datetime, until: datetime) -> Cut:
    name = hashlib.sha256(json.dumps([revocation_id, arn.split(":")[4], principal, by, value]).encode()).hexdigest()
    return Cut(name[:32], arn.split(":")[4], principal, by.value, value, before, until, revocation_id)


def _machine(cut: Cut) -> str | None:
    """The instance that a cut is about, where it is about one."""
    return cut.value.partition("/")[0] if cut.kind in OF_MACHINES else None


def _wide(cuts: Iterable[Cut]) -> Mapping[str, datetime]:
    found: dict[str, datetime] = {}
    for cut in cuts:
        if cut.kind == By.ISSUED_BEFORE:
            found[cut.principal] = max(cut.before, found.get(cut.principal, cut.before))
    return found


def _reach(cut: Cut) -> datetime:
    """Before which time, by AWS's clock, a session was issued that this cut denies."""
    return cut.before + SKEW if cut.kind in _EXACT else cut.before


def _uncovered(cuts: Collection[Cut]) -> list[Cut]:
    """The cuts that deny what none by time does."""
    wide, rough = _wide(cuts), _wide(cut for cut in cuts if cut.value == ROUGH)

    def is_covered(cut: Cut) -> bool:
        names = (cut.principal, EVERYBODY)
        if any(name in wide and wide[name] >= _reach(cut) for name in names):
            return True
        return any(name in rough and rough[name] >= cut.before for name in names)

    return [cut for cut in cuts if cut.kind != By.ISSUED_BEFORE and not is_covered(cut)]


def _by_time(cuts: Sequence[Cut], wide: Mapping[str, datetime]) -> list[dict[str, Any]]:
    times = {wide.get(cut.principal) for cut in cuts if cut.principal != EVERYBODY}
    alike = times if len(times) == 1 else set()  # the policy is attached to nobody else: no need to name them
    everybody = max((time for time in (*alike, wide.get(EVERYBODY)) if time), default=None)
    statements = [_deny({}, everybody)] if everybody else []
    roles: dict[datetime, set[str]] = defaultdict(set)
    for principal, time in wide.items():
        if everybody and time <= everybody:
            continue
        if principal.startswith("upstream/"):
            # Of a user there are federated sessions, and those of GetSessionToken, which every key may ask for.
            statements.append(_deny({"StringEquals": {"aws:PrincipalType": ["FederatedUser", "User"]}}, time))
        else:
            roles[time].add(principal)
    return statements + [
        _deny({"ArnEquals": {"aws:PrincipalArn": sorted(arns)}}, time) for time, arns in sorted(roles.items())
    ]


def _meant(by: By, values: Collection[str]) -> dict[str, dict[str, list[str]]]:
    """AWS: "AWS global condition context keys". A role's session has the `aws:userid` `<role id>:<session name>`."""
    if by is By.SOURCE_IDENTITY:
        return {"StringEquals": {"aws:SourceIdentity": sorted(values)}}
    if by is By.SESSION_NAME:
        return {"StringLike": {"aws:userid": [f"*:{value}" for value in sorted(values)]}}
    if by is By.FEDERATED:
        return {"StringEquals": {"aws:userid": sorted(values)}}
    return {"StringEquals": {f"aws:PrincipalTag/{LEASE_TAG}": sorted(values)}}


def _deny(meant: Mapping[str, Mapping[str, Any]], before: datetime) -> dict[str, Any]:
    """A Deny for sessions only: a key that lasts has no time of issue, and an absent key matches no DateLessThan."""
    condition = {**meant, "DateLessThan": {"aws:TokenIssueTime": instant(before)}}
    return {"Effect": "Deny", "Action": "*", "Resource": "*", "Condition": condition}
