"""A revocation's receipt, for people: what was cut off, each layer, and what remains valid."""

from collections.abc import Callable
from typing import Any

from gateway.cli import show

_NAMES = {"crl": "CRL", "aws": "AWS", "ocsp": "OCSP", "ssh": "SSH"}
_STATES = {"trying": "STILL TRYING", "waiting": "WAITS FOR AN OPERATOR", "not_served": "not served", "planned": "would"}
_WIDTH = 10


def tell(found: Any) -> None:
    """For people: what was cut off, each layer, and what remains valid."""
    planned = found["dry_run"]
    who = show.who(found["by"])
    _row("would cut" if planned else "revoked", f"{found['kind']} {found['name']}")
    if not planned:
        _row("", f"at {show.moment(found['revoked_at'])} by {who}, {found['id']}")
    if found["reason"]:
        _row("because", found["reason"])
    _row("cut off", counts(found))
    for layer in found["layers"]:
        _row(layer_name(layer), _layer(layer))
    _print_remains(found["remains"], planned)
    if planned:
        _row("", "this was a dry run: nothing was changed")
    elif running(found):
        _row("", f"the gateway goes on by itself: 'trusted-gateway revocation show {found['id']}' tells how far it is")


def _print_remains(remains: Any, planned: bool) -> None:
    sessions = [each for each in remains if each["what"] == "session"]
    signatures = [each for each in remains if each["what"] == "signatures"]
    unknown = [each for each in remains if each["what"] == "unknown"]
    if sessions:
        ends = show.moment(max(each["until"] for each in sessions))
        verb = "WOULD STILL HONOUR" if planned else "STILL HONOURS"
        _row("valid", f"AWS {verb} {len(sessions)} session(s), until {ends}:")
        for each in sessions:
            _row("", f"{each['access_key_id']} of grant {each['grant']} ({each['role']}, session "
                     f"{each['session_name']}) until {each['until']}")  # fmt: skip
    else:
        _row("valid", "AWS honours no session that was given away of it")
    for each in unknown:
        verb = "would honour" if planned else "honours"
        _row("", f"AWS still {verb} what others made with this key, if they did, until {show.moment(each['until'])}")
    if signatures:
        ends = show.moment(max(each["until"] for each in signatures))
        _row("", f"{len(signatures)} session(s) never left the gateway and are forgotten; what they signed is good for")
        _row("", f"15 minutes at most, a presigned URL until it ends, and nothing after {ends}")


def _layer(layer: Any) -> str:
    facts, state = layer["facts"], layer["state"]
    if state == "not_served":
        return f"not served here: {facts['why']}"
    said = "" if state == "waiting" else _SAYS.get(layer["layer"], lambda _: "")(facts)
    took = f"{_STATES.get(state, state)}" if layer["ms"] is None else f"done after {layer['ms']:.0f} ms"
    problem = f" (tried {layer['tries']} times; last: {layer['problem']})" if layer.get("problem") else ""
    waits = f": {facts['waits_for']}" if state == "waiting" and facts.get("waits_for") else ""
    return f"{took}{waits}{f': {said}' if said else ''}{problem}"


def _of_crl(facts: Any) -> str:
    if not facts:
        return "publish the revoked certificates"
    return f"number {facts['number']} is published" if facts["published"] else str(facts["why"])


def _of_agents(facts: Any) -> str:
    if not facts:
        return "tell the agents to drop it"
    if not facts["agents"]:
        return "none holds anything of it that still works"
    return (
        f"{facts['told']} of {facts['agents']} told; each drops it within {facts['stops_within_seconds']} s of that"
        + (f"; not yet: {', '.join(each.rpartition('/')[2] for each in facts['untold'])}" if facts["untold"] else "")
    )


def _of_aws(facts: Any) -> str:
    accounts = facts.get("accounts", [])
    if not accounts:
        return "" if facts else "deny its sessions at AWS"
    return "; ".join(
        f"account {each['account']} " + ("denies its sessions" if each["state"] == "fenced" else str(each.get("why")))
        for each in accounts
    )


def _of_key(facts: Any) -> str:
    if not facts:
        return "deactivate it at AWS"
    new = f"; {facts['replaced_by']} takes its place" if facts.get("replaced_by") else ""
    return f"{facts['access_key_id']} is {facts.get('state', 'still active')}{new}"


_SAYS: dict[str, Callable[[Any], str]] = {
    "gateway": lambda facts: f"refuses {facts['refuses']}" if facts else "",
    "crl": _of_crl,
    "agents": _of_agents,
    "aws": _of_aws,
    "key": _of_key,
}


def running(found: Any) -> list[Any]:
    """The layers of which something is still to be done."""
    return [each for each in found["layers"] if each["state"] in ("trying", "waiting")]


def counts(found: Any) -> str:
    """How many of each kind are cut off."""
    cut = found["cut"]
    words = {
        "instances": "instance(s)", "certificates": "certificate(s)", "tickets": "open ticket(s)",
        "operators": "operator(s)", "sessions": "session(s)",
    }  # fmt: skip
    said = [f"{len(cut[key])} {word}" for key, word in words.items() if cut.get(key)]
    return ", ".join(said) or "nothing that was not cut off before"


def layer_name(layer: Any) -> str:
    """As people call it."""
    return _NAMES.get(layer["layer"], str(layer["layer"]))


def _row(name: str, text: str) -> None:
    show.line(f"{name:<{_WIDTH}}{text}")
