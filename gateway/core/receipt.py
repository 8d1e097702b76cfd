"""What a revocation says of itself: each layer, how far it is and after how long, and what remains valid, where, until
when. Pure. A `Revocation.document` is what was cut, and the layers; the receipt is made of it when it is read.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from gateway.core.fence import LONGEST_OF_USER
from gateway.core.model import Lease
from gateway.core.operator_model import PlanState, Revocation
from gateway.core.revocation import Plan, Target
from gateway.wire.messages import instant, parse_instant

GATEWAY = "gateway"
DONE, TRYING, WAITING, UNSERVED, PLANNED = "done", "trying", "waiting", "not_served", "planned"
"""How a layer is. `waiting`: for an operator; `not_served`: this gateway has no such thing; `planned`: a dry run."""
SIGNATURE = "for 15 minutes at most"  # how long AWS takes a signature: docs/calls.md
MOST = 100
"""Of what was cut, how many are named in a record; the counts are whole."""

_REFUSES = {
    Target.LEASE: "to give this session again, or to sign with it",
    Target.GRANT: "this grant, until the profile is applied anew",
    Target.PROFILE: "its machines, its tickets, and every grant of it, until it is applied anew",
    Target.TICKET: "this ticket",
    Target.OPERATOR: "every request of this operator begun after this answer",
    Target.CERTIFICATE: "every request with this certificate, or its key, begun after this answer",
    Target.EVERYTHING: "every machine, on open connections too, until it enrols anew",
}
_OF_OTHERS = "every request begun after this answer, on open connections too"


def opened(plan: Plan, kind: str, layers: Sequence[str], facts: Mapping[str, Any]) -> dict[str, Any]:
    """The document of a plan that begins: `facts` are what layers have to know, or the receipt to say."""
    waits: list[dict[str, Any]]
    waits = [{"layer": name, "state": TRYING, "tries": 0, "ms": None, "facts": {}} for name in layers]
    gateway = {"layer": GATEWAY, "state": TRYING, "tries": 1, "ms": None, "facts": {"refuses": refuses(kind)}}
    return {"cut": cut(plan), "agents": list(plan.agents), "layers": [gateway, *waits], **facts}


def refuses(kind: str) -> str:
    """What the gateway refuses from now on, in words."""
    if kind == "key":
        return "to make anything with this key, or to give again what was made with it"
    return _REFUSES.get(Target(kind), _OF_OTHERS) if kind in list(Target) else _OF_OTHERS


def cut(plan: Plan) -> dict[str, Any]:
    """What was cut, by name."""
    return {
        "instances": [after.id for before, after in plan.instances if before != after],
        "certificates": [after.serial for _, after in plan.certificates],
        "tickets": [after.id for _, after in plan.tickets],
        "operators": [after.name for _, after in plan.operators],
        "tokens": len(plan.tokens),
        "keys": len(plan.keys),
        "sessions": [_session(after) for _, after in plan.leases],
    }


def counted(document: Mapping[str, Any]) -> dict[str, Any]:
    """What was cut, as the record of the decision says it: no more than `MOST` names of each kind."""
    found = document["cut"]
    leases = [each["lease"] for each in found["sessions"]]
    named = {key: found[key] for key in ("instances", "certificates", "tickets", "operators")} | {"leases": leases}
    return {key: names[:MOST] for key, names in named.items() if names} | {
        "counts": {key: len(names) for key, names in named.items() if names}
    }


def has_layer(revocation: Revocation, name: str) -> bool:
    """Whether the plan has this layer."""
    return any(each["layer"] == name for each in revocation.document["layers"])


def layer_of(revocation: Revocation, name: str) -> Mapping[str, Any]:
    """One layer of the document."""
    found: Mapping[str, Any] = next(each for each in revocation.document["layers"] if each["layer"] == name)
    return found


def advanced(
    revocation: Revocation, name: str, state: str, facts: Mapping[str, Any], now: datetime, problem: str | None = None
) -> Revocation:
    """The row with a layer as it is now; the very same row when that is nothing new."""
    before = layer_of(revocation, name)
    begun = revocation.document.get("begun")
    since = datetime.fromisoformat(begun) if begun else revocation.at
    after = {
        "layer": name,
        "state": state,
        "tries": before["tries"] + 1,
        "ms": round((now - since).total_seconds() * 1000, 1) if state == DONE else None,
        "facts": dict(facts) or before["facts"],
    } | ({"problem": problem} if problem else {})
    if problem is None and (before["state"], before["facts"]) == (state, after["facts"]) and "problem" not in before:
        return revocation
    layers = [after if each["layer"] == name else each for each in revocation.document["layers"]]
    over = all(each["state"] in (DONE, UNSERVED) for each in layers)
    return replace(
        revocation,
        document={**revocation.document, "layers": layers},
        state=PlanState.DONE if over else PlanState.RUNNING,
    )


def cut_again(revocation: Revocation, by: Revocation) -> Revocation:
    """The row of a key's revocation when AWS takes the key no more: what was made with it since the decision is cut off
    `by` another one. The layer `aws` is not done before AWS denies that, too.
    """
    key = {**revocation.document["key"], "works": False, "cut_again": by.id, "until": by.document["key"]["until"]}
    layers = [
        {**each, "state": TRYING, "ms": None} if (each["layer"], each["state"]) == ("aws", DONE) else each
        for each in revocation.document["layers"]
    ]
    state = revocation.state if layers == revocation.document["layers"] else PlanState.RUNNING
    return replace(revocation, state=state, document={**revocation.document, "key": key, "layers": layers})


def receipt(revocation: Revocation, now: datetime, *, dry_run: bool = False) -> dict[str, Any]:
    """The receipt as it is at this moment. Of a dry run nothing is done, and nothing has an id."""
    document = revocation.document
    layers = [dict(each) for each in document["layers"]]
    if dry_run:
        layers = [each | {"state": PLANNED, "tries": 0} if each["state"] != UNSERVED else each for each in layers]
    remains = _remains(document, layers, now)
    return {
        "id": None if dry_run else revocation.id,
        "kind": revocation.kind,
        "name": revocation.name,
        "by": revocation.by,
        "revoked_at": instant(revocation.at),
        "at": instant(now),
        "reason": document.get("reason"),
        "dry_run": dry_run,
        "state": PLANNED if dry_run else revocation.state.value,
        "cut": document["cut"],
        "layers": layers,
        "remains": remains,
        "until": max((each["until"] for each in remains), default=None),
    }


def _remains(document: Mapping[str, Any], layers: Sequence[Mapping[str, Any]], now: datetime) -> list[dict[str, Any]]:
    """What is still valid somewhere, however much of it nobody may have any more."""
    aws: Mapping[str, Any]
    aws = next((each for each in layers if each["layer"] == "aws"), {"state": TRYING, "facts": {}})
    told = {each["account"] for each in aws["facts"].get("accounts", ()) if each["state"] == "fenced"}
    found = []
    for session in document["cut"].get("sessions", ()):
        fenced = aws["state"] == DONE or session["role"].split(":")[4] in told
        if parse_instant(session["until"]) <= now:
            continue
        if session["held"]:
            why = f"it never left the gateway; what it signed is good {SIGNATURE}, a presigned URL until it ends"
            found.append({**session, "where": "AWS", "what": "signatures", "why": why})
        elif not fenced:
            why = "AWS honours it until it is denied there"
            found.append({**session, "where": "AWS", "what": "session", "why": why})
    key: Mapping[str, Any] = document.get("key", {})
    until, unknown = key.get("until"), {"lease": "", "where": "AWS", "what": "unknown"}
    if key.get("works"):
        why = "AWS still takes the key: who has it may go on making sessions, which last for 36 hours at most"
        found.append({**unknown, "until": instant(now + LONGEST_OF_USER), "why": why})
    elif until and aws["state"] != DONE and parse_instant(until) > now:
        why = "who had the key may have made sessions that nobody knows: AWS honours them until they are denied there"
        found.append({**unknown, "until": until, "why": why})
    return sorted(found, key=lambda each: (each["what"], each["until"], each["lease"]))


def _session(lease: Lease) -> dict[str, Any]:
    return {
        "lease": lease.id,
        "instance": lease.instance,
        "grant": lease.grant,
        "role": lease.role,
        "session_name": lease.session_name,
        "access_key_id": lease.access_key_id,
        "until": instant(lease.expires_at),
        "held": lease.held is not None,
    }
