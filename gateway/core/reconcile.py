"""What AWS saw, held against what we know: calls and machines that did not go through this gateway. Pure.

Each event comes to one outcome, and what cannot be decided is counted as that, with the reason. A finding is the same
one whenever the same is seen again: merging is a union, so neither the order of events nor seeing one twice matters.
"""

import hashlib
import ipaddress
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from gateway.core.cloudtrail import Address, TrailEvent, address
from gateway.core.conditions import Network, within
from gateway.core.model import Lease
from gateway.core.operator_model import Finding
from gateway.core.servers import Machine

SKEW = timedelta(minutes=5)
"""How far AWS's clock and ours may differ, and how long what was begun may take to be on our record."""
ENROLS_WITHIN = timedelta(hours=1)
"""A machine that is younger may still come to enrol."""
MOST_EVENTS, MOST = 256, 20
"""How many event ids, and how many of anything else, a finding names."""
# RFC 1918, 4193 and 6598.
_PRIVATE = tuple(
    ipaddress.ip_network(each)
    for each in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")
)
_FEDERATED = re.compile(r"arn:[a-z-]+:sts::[0-9]{12}:federated-user/i-[0-9a-f]{8,17}\.[0-9a-f]{1,12}")
_SETS = ("what", "sources", "keys", "outcomes", "by")


class Found(StrEnum):
    """The kinds of findings."""

    KEY_ELSEWHERE = "key_elsewhere"
    SESSION_ELSEWHERE = "session_elsewhere"
    SESSION_AFTER_REVOCATION = "session_after_revocation"
    SESSION_UNKNOWN = "session_unknown"
    INSTANCE_UNKNOWN = "instance_unknown"


ADVICE: Mapping[Found, str] = {
    Found.KEY_ELSEWHERE: "Somebody else has the upstream key: 'trusted-gateway key compromised NAME'. If the address "
    "is this gateway's own, name it in the setting reconcile.addresses.",
    Found.SESSION_ELSEWHERE: "The session was taken from its instance: 'trusted-gateway revoke instance ID'. If its "
    "machines do come from there, name the network in the grant's conditions.source_addresses.",
    Found.SESSION_AFTER_REVOCATION: "Somebody goes on trying: see with 'trusted-gateway revocation show ID' whether "
    "AWS was told. Outcomes other than ok were refused.",
    Found.SESSION_UNKNOWN: "Somebody else may assume the role: look at who did, and at the role's trust policy, which "
    "should name the upstream user alone.",
    Found.INSTANCE_UNKNOWN: "Enrol it with a ticket, or find out who launched it: 'trusted-gateway server show ID'.",
}
"""What to do next."""


class Outcome(StrEnum):
    """What became of one event, the strongest first."""

    FOUND = "found"
    UNVERIFIABLE = "unverifiable"
    MATCHED = "matched"
    BY_SERVICE = "by_service"
    UNRELATED = "unrelated"


_STRENGTH = {outcome: i for i, outcome in enumerate(Outcome)}


@dataclass(frozen=True, slots=True)
class Ties:
    """What a grant says of where its sessions are used: whether AWS binds them, and the networks of its machines."""

    binds: bool = False
    networks: tuple[Network, ...] = ()


@dataclass(frozen=True, slots=True)
class Known:
    """What the gateway knows, as far as these events ask for it.

    `ours` are its own addresses, `keys` its upstream keys by access key id, former ones too, `roles` what was ever
    granted (account and name), `leases` by access key id, from `kept_since` on; `homes` the addresses of instances by
    SPIFFE ID; `ties` by profile and grant; `machines` the ids of those that were launched through us or enrolled.
    """

    now: datetime
    kept_since: datetime
    ours: tuple[Network, ...] = ()
    keys: Mapping[str, str] = field(default_factory=dict)
    accounts: Collection[str] = ()
    roles: Collection[tuple[str, str]] = ()
    leases: Mapping[str, Lease] = field(default_factory=dict)
    homes: Mapping[str, Collection[str]] = field(default_factory=dict)
    ties: Mapping[tuple[str, str], Ties] = field(default_factory=dict)
    machines: Collection[str] = ()


@dataclass(frozen=True, slots=True)
class Judged:
    """The outcome of one event or machine, and one word why; the findings that it makes."""

    outcome: Outcome
    why: str
    findings: tuple[Finding, ...] = ()


def access_key_ids(events: Iterable[TrailEvent]) -> set[str]:
    """Those of which the leases have to be known."""
    return {key for event in events for key in (event.access_key_id, event.made_key) if key}


def machine_ids(events: Iterable[TrailEvent]) -> set[str]:
    """The machines that these events launched, as `aws/<account>/<region>/<instance id>`."""
    return {_machine(event, each) for event in events for each in event.launched}


def role_of(arn: str) -> tuple[str, str] | None:
    """Account and name of the role that an ARN is of: the role's own, or that of a session of it."""
    match = re.fullmatch(r"arn:[a-z-]+:(?:iam|sts)::([0-9]{12}):(?:role/(?:.*/)?|assumed-role/)([^/]+)(?:/.*)?", arn)
    if match is None:
        return None
    name = arn.rpartition("/")[2] if ":role/" in arn else match[2]
    return match[1], name


def judge(event: TrailEvent, known: Known) -> Judged:
    """What this event says."""
    several = [*_used(event, known), *_made(event, known), *_launched(event, known)]
    strongest = min(several, key=lambda each: _STRENGTH[each.outcome])
    return Judged(strongest.outcome, strongest.why, tuple(each for one in several for each in one.findings))


def judge_machine(machine: Machine, known: Known) -> Judged:
    """What a machine of EC2's inventory says."""
    if machine.state in ("terminated", "shutting-down"):
        return Judged(Outcome.UNRELATED, "machine_gone")
    if machine.id in known.machines:
        return Judged(Outcome.MATCHED, "machine")
    if machine.launched_at > known.now - ENROLS_WITHIN:
        return Judged(Outcome.UNVERIFIABLE, "may_still_enrol")
    about = {"machine": machine.id, "name": machine.name}
    document = _document(about) | {
        "sources": sorted({each for each in (machine.private_ip, machine.public_ip) if each})
    }
    return _finds(_finding(Found.INSTANCE_UNKNOWN, machine.id, machine.launched_at, document))


def merged(one: Finding, other: Finding) -> Finding:
    """Both sightings of the same, as one: a union, cut to the smallest, whichever came first."""
    a, b = one.document, other.document
    ids = sorted({*a["events"], *b["events"]})
    document = {
        "about": {**b["about"], **a["about"]},
        "events": ids[:MOST_EVENTS],
        "more": a["more"] or b["more"] or len(ids) > MOST_EVENTS,
        **{name: sorted({*a[name], *b[name]})[:MOST] for name in _SETS},
    }
    first, last = min(one.first_at, other.first_at), max(one.last_at, other.last_at)
    return Finding(one.id, one.kind, one.subject, first, last, document)


def together(findings: Iterable[Finding]) -> dict[str, Finding]:
    """Each finding once, by its id."""
    found: dict[str, Finding] = {}
    for each in findings:
        found[each.id] = merged(found[each.id], each) if each.id in found else each
    return found


@dataclass(slots=True)
class Tally:
    """What was looked at. `unread` are records that could not be read; `outcomes` counts every other one."""

    events: int = 0
    machines: int = 0
    unread: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    unverifiable: Counter[str] = field(default_factory=Counter)

    def count(self, judged: Judged) -> None:
        """One event or machine more."""
        self.outcomes[judged.outcome] += 1
        if judged.outcome is Outcome.UNVERIFIABLE:
            self.unverifiable[judged.why] += 1

    def verdict(self, found: int) -> str:
        """In one word. Where nothing was looked at, nothing is well."""
        if found:
            return "found"
        if not self.events and not self.machines:
            return "nothing_read"
        return "undecided" if self.unverifiable or self.unread else "clear"

    def document(self) -> dict[str, Any]:
        """In plain values, every outcome among them."""
        return {
            "events": self.events,
            "machines": self.machines,
            "unread": self.unread,
            "outcomes": {each.value: self.outcomes[each] for each in Outcome},
            "unverifiable": dict(sorted(self.unverifiable.items())),
        }


def _used(event: TrailEvent, known: Known) -> Sequence[Judged]:
    """Who used which credentials, from where."""
    key = event.access_key_id or ""
    lease = known.leases.get(key)
    if event.by_service:
        theirs = lease is not None or key in known.keys or _is_vended(event, known)
        return [Judged(Outcome.BY_SERVICE if theirs else Outcome.UNRELATED, "by_service")]
    if key in known.keys:
        return [_key_used(event, known, known.keys[key])]
    if lease is not None:
        return _session_used(event, known, lease)
    if _is_vended(event, known):
        return [_stranger(event, known, event.arn or "", key, event.arn or "")]
    return [Judged(Outcome.UNRELATED, "unrelated")]


def _key_used(event: TrailEvent, known: Known, name: str) -> Judged:
    if within(event.source, known.ours):
        return Judged(Outcome.MATCHED, "key")
    if not known.ours:
        return Judged(Outcome.UNVERIFIABLE, "addresses_unknown")
    about = {"upstream": name, "access_key_id": event.access_key_id, "source": event.source}
    return _finds(_sighting(Found.KEY_ELSEWHERE, f"{event.access_key_id} from {event.source}", event, about))


def _session_used(event: TrailEvent, known: Known, lease: Lease) -> Sequence[Judged]:
    about = {
        "lease": lease.id, "instance": lease.instance, "profile": lease.profile, "grant": lease.grant,
        "upstream": lease.upstream,
    }  # fmt: skip
    several = [_session_from(event, known, lease, about)]
    if lease.revoked_at is not None and event.at > lease.revoked_at + SKEW:
        several.append(_finds(_sighting(Found.SESSION_AFTER_REVOCATION, f"lease/{lease.id}", event, about)))
    return several


def _session_from(event: TrailEvent, known: Known, lease: Lease, about: Mapping[str, Any]) -> Judged:
    """Whether the session was used where it may be: by its instance, or, of one that we keep, by us as well."""
    homes = {each for written in known.homes.get(lease.instance, ()) if (each := address(written))}
    source, ties = address(event.source), known.ties.get((lease.profile, lease.grant), Ties())
    if source in homes or within(event.source, ties.networks):
        return Judged(Outcome.MATCHED, "session")
    if lease.held and within(event.source, known.ours):
        return Judged(Outcome.MATCHED, "session_held")
    if lease.held and event.presigned:  # we signed it, for whoever the instance gave it to
        return Judged(Outcome.UNVERIFIABLE, "presigned")
    if lease.held and not known.ours:
        return Judged(Outcome.UNVERIFIABLE, "addresses_unknown")
    comparable = source is not None and any(
        each.version == source.version and _is_private(each) == _is_private(source) for each in homes
    )
    if not (comparable or ties.binds or ties.networks):
        return Judged(Outcome.UNVERIFIABLE, "address_not_attested")
    about = {**about, "source": event.source}
    return _finds(_sighting(Found.SESSION_ELSEWHERE, f"lease/{lease.id} from {event.source}", event, about))


def _is_private(found: Address) -> bool:
    return any(found in network for network in _PRIVATE)


def _made(event: TrailEvent, known: Known) -> Sequence[Judged]:
    """Who made a session of a role that we vend."""
    if not (event.made_key and event.made_role and role_of(event.made_role) in known.roles):
        return []
    if event.made_key in known.leases:
        return [Judged(Outcome.MATCHED, "mint")]
    if event.access_key_id in known.keys and within(event.source, known.ours):
        return [Judged(Outcome.UNVERIFIABLE, "mint_without_lease")]  # we asked, and did not live to record it
    return [_stranger(event, known, event.made_arn or event.made_role, event.made_key, event.arn or event.source)]


def _stranger(event: TrailEvent, known: Known, principal: str, key: str, by: str) -> Judged:
    """A session of what we vend that is on no record of ours."""
    if event.at < known.kept_since:
        return Judged(Outcome.UNVERIFIABLE, "older_than_leases")
    if event.at > known.now - SKEW:
        return Judged(Outcome.UNVERIFIABLE, "too_fresh")
    made = _sighting(Found.SESSION_UNKNOWN, principal, event, {"principal": principal}, [key] if key else [])
    return _finds(_with(made, by=[by]))


def _launched(event: TrailEvent, known: Known) -> Sequence[Judged]:
    """Who launched which machines."""
    several = []
    for instance_id in event.launched if event.account in known.accounts else ():
        machine = _machine(event, instance_id)
        if machine in known.machines:
            several.append(Judged(Outcome.MATCHED, "machine"))
        elif event.at > known.now - ENROLS_WITHIN:
            several.append(Judged(Outcome.UNVERIFIABLE, "may_still_enrol"))
        else:
            made = _sighting(Found.INSTANCE_UNKNOWN, machine, event, {"machine": machine})
            several.append(_finds(_with(made, by=[event.arn or event.source])))
    return several


def _is_vended(event: TrailEvent, known: Known) -> bool:
    """Whether these credentials are a session of a role that we vend, or of a federated user with a name like ours."""
    if event.identity == "AssumedRole":
        return role_of(event.issuer or event.arn or "") in known.roles
    ours = event.identity == "FederatedUser" and event.identity_account in known.accounts
    return ours and _FEDERATED.fullmatch(event.arn or "") is not None


def _machine(event: TrailEvent, instance_id: str) -> str:
    return f"aws/{event.account}/{event.region}/{instance_id}"


def _finds(finding: Finding) -> Judged:
    return Judged(Outcome.FOUND, finding.kind, (finding,))


def _sighting(
    kind: Found, subject: str, event: TrailEvent, about: Mapping[str, Any], keys: Sequence[str] | None = None
) -> Finding:
    document = _document(about) | {
        "events": [event.id],
        "what": [event.what],
        "sources": [event.source],
        "keys": list(keys) if keys is not None else [key for key in (event.access_key_id,) if key],
        "outcomes": [event.error or "ok"],
    }
    return _finding(kind, subject, event.at, document)


def _finding(kind: Found, subject: str, at: datetime, document: Mapping[str, Any]) -> Finding:
    return Finding(hashlib.sha256(f"{kind}\n{subject}".encode()).hexdigest()[:32], kind, subject, at, at, document)


def _with(finding: Finding, **more: Any) -> Finding:
    document = {**finding.document, **more}
    return Finding(finding.id, finding.kind, finding.subject, finding.first_at, finding.last_at, document)


def _document(about: Mapping[str, Any]) -> dict[str, Any]:
    return {"about": dict(about), "events": [], "more": False, **{name: [] for name in _SETS}}
