"""One audit record in other people's words: OCSF 1.6.0 (schema.ocsf.io) and ECS 8.17 (Elastic Common Schema). Pure.

Every field is filled from the record, and nothing is invented: what a schema demands and the record does not know is
said to be unknown. The record itself goes along, letter by letter, with its hash: so the export can be held against the
log, and a record that was sent twice is known by its hash. A row that is no record any more goes out too, as an alarm:
one row that somebody broke must not hold up all that come behind it.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from gateway.core.audit import Kind, Name

OCSF_VERSION, ECS_VERSION = "1.6.0", "8.17.0"
PRODUCT = "TrustedGateway"


class Format(StrEnum):
    """How a record is written outside. RAW is the hash, a blank, and the line as the log has it."""

    OCSF = "ocsf"
    ECS = "ecs"
    RAW = "raw"


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One record on its way out: where it stands in the log, and `text`, one line in the sink's format."""

    chain: str
    seq: int
    name: str
    allowed: bool
    at: datetime
    text: str


def outgoing(row: tuple[str, int, str, str], form: Format) -> Outgoing:
    """A row of the log (chain, seq, line, hash) as it leaves."""
    chain, seq, line, hash_ = row
    body = _body(line)
    at = datetime.fromisoformat(body["at"])
    return Outgoing(chain, seq, body["name"], body["allowed"], at, written(line, hash_, form))


def written(line: str, hash_: str, form: Format) -> str:
    """A record in this format: one line, ASCII, without its end."""
    if form is Format.RAW:
        text = f"{hash_} {line}"  # what is not in this form does not verify as it is, nor escaped
        return text if text.isascii() and text.isprintable() else ascii(text)[1:-1]
    document = (ocsf if form is Format.OCSF else ecs)(line, hash_)
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


# What an event's verb is to the schemas: OCSF's activity (create, read, update, delete; 99 is "other", by its own
# name), and ECS's type.

_CREATE = ("add", "create", "enroll", "import", "initialize", "issue", "launch", "register", "vend")
_READ = ("ask", "export", "list", "metrics", "output", "read", "search", "status", "watch")
_UPDATE = ("apply", "certify", "change", "give", "reboot", "reenroll", "renew", "rollback", "rotate", "start", "stop")
_DELETE = ("compromise", "disable", "remove", "revoke", "terminate")
_ACTIVITIES = {
    **dict.fromkeys(_CREATE, (1, "Create", "creation")),
    **dict.fromkeys(_READ, (2, "Read", "access")),
    **dict.fromkeys(_UPDATE, (3, "Update", "change")),
    **dict.fromkeys(_DELETE, (4, "Delete", "deletion")),
}
_ACCOUNT = {"add": (1, "Create"), "revoke": (5, "Disable")}
_ALARMS = frozenset({Name.GATEWAY_USE_FIND, Name.INSTANCE_KEY_MISUSE})
_KEPT = frozenset(
    {"approval", "certificate", "everything", "grant", "instance", "key", "lease", "profile", "role", "ticket"}
)


def moment(line: str) -> datetime:
    """When the record was written; the beginning of time for what is no record."""
    return datetime.fromisoformat(_body(line)["at"])


_BROKEN: Mapping[str, Any] = {
    "chain": "unknown", "seq": 0, "at": datetime(1970, 1, 1, tzinfo=UTC).isoformat(timespec="microseconds"),
    "kind": Kind.FACT, "name": Name.GATEWAY_AUDIT_EXPORT, "allowed": False, "reason": "audit_broken",
    "request_id": "unknown", "subject": None, "object": None, "source": None, "facts": {},
}  # fmt: skip


def _body(line: str) -> Mapping[str, Any]:
    """The record; `_BROKEN` in the place of what `core.audit` cannot have written, or no format can say: a number that
    JSON has not (Python reads NaN and 1e999), a moment that is in no year when it is told in UTC.
    """
    try:
        body = json.loads(line)
        words = all(isinstance(body[key], str) for key in ("chain", "kind", "reason", "request_id"))
        maybe = all(body[key] is None or isinstance(body[key], str) for key in ("subject", "object", "source"))
        rest = type(body["seq"]) is int and type(body["allowed"]) is bool and isinstance(body["facts"], dict)
        aware = datetime.fromisoformat(body["at"]).tzinfo is not None
        json.dumps(body, allow_nan=False), _moment(body["at"]), _milliseconds(body["at"])
        return body if words and maybe and rest and aware and Name(body["name"]) else _BROKEN
    except (ValueError, KeyError, TypeError, RecursionError, OverflowError):
        return _BROKEN


def _is_alarm(body: Mapping[str, Any]) -> bool:
    return body["name"] in _ALARMS or body["reason"] == "audit_broken"


def _activity(verb: str) -> tuple[int, str, str]:
    return _ACTIVITIES.get(verb, (99, verb, "info"))


# OCSF


def ocsf(line: str, hash_: str) -> dict[str, Any]:
    """A record as an OCSF event. docs/audit-export.md has the table of classes."""
    body = _body(line)
    who, thing, verb = body["name"].split(":")
    user = _user(body)
    found: dict[str, Any] = {
        "time": _milliseconds(body["at"]),
        "severity_id": 4 if _is_alarm(body) else 1 if body["allowed"] else 2,
        "status_id": 1 if body["allowed"] else 2,
        "status": "Success" if body["allowed"] else "Failure",
        "status_code": body["reason"],
        "message": f"{body['name']} {'allowed' if body['allowed'] else 'refused'}: {body['reason']}",
        "metadata": {
            "version": OCSF_VERSION,
            "product": {"name": PRODUCT, "vendor_name": PRODUCT},
            "profiles": ["security_control"],
            "uid": hash_,
            "correlation_uid": body["request_id"],
            "event_code": body["name"],
            "log_name": body["chain"],
            "sequence": body["seq"],
            "original_time": body["at"],
        },
        "raw_data": line,
        # Not of the line alone: hence not "SHA-256", which a reader would compare with his own.
        "raw_data_hash": {"algorithm_id": 99, "algorithm": "SHA-256, trusted-gateway audit v1", "value": hash_},
        "unmapped": {"kind": body["kind"], "facts": body["facts"]},
    }
    if body["kind"] == Kind.DECISION:
        found |= {"action_id": 1, "action": "Allowed"} if body["allowed"] else {"action_id": 2, "action": "Denied"}
    actor = {"user": user} if user else {"app_name": PRODUCT} if who == "gateway" else {"user": _UNKNOWN}
    source = {"ip": body["source"]} if body["source"] else {"svc_name": PRODUCT, "instance_uid": body["chain"]}
    activity = _activity(verb)[:2]
    if _is_alarm(body):
        identity = (2004, "Detection Finding", 2, "Findings")
        activity = (1, "Create")
        found |= {"finding_info": {"uid": hash_, "title": body["name"], "desc": body["reason"]}, "is_alert": True}
    elif thing == "session" and verb == "create" and user:
        identity, activity = (3002, "Authentication", 3, "Identity & Access Management"), (1, "Logon")
        found |= {"user": user, "service": {"name": PRODUCT}, "src_endpoint": source}
    elif thing == "operator" and verb not in _READ and body["object"]:
        identity = (3001, "Account Change", 3, "Identity & Access Management")
        activity = _ACCOUNT.get(verb, (99, verb))
        found |= {"user": {"uid": body["object"], "name": _last(body["object"])}, "actor": actor}
        found["src_endpoint"] = source
    elif thing in _KEPT and verb not in _READ and body["object"] and who != "instance":
        identity = (3004, "Entity Management", 3, "Identity & Access Management")
        found |= {"entity": {"uid": body["object"], "type": thing}, "actor": actor, "src_endpoint": source}
    elif body["name"] == Name.GATEWAY_WORKER_START:
        identity, activity = (6002, "Application Lifecycle", 6, "Application Activity"), (3, "Start")
        found["app"] = {"name": PRODUCT, "vendor_name": PRODUCT}
    else:
        identity = (6003, "API Activity", 6, "Application Activity")
        found |= {"actor": actor, "src_endpoint": source, "api": _api(body)}
        if body["object"]:
            found["resources"] = [{"uid": body["object"], "type": thing}]
    class_uid, class_name, category_uid, category_name = identity
    return found | {
        "category_uid": category_uid,
        "category_name": category_name,
        "class_uid": class_uid,
        "class_name": class_name,
        "activity_id": activity[0],
        "activity_name": activity[1],
        "type_uid": class_uid * 100 + activity[0],
    }


_UNKNOWN = {"name": "Unknown", "type_id": 0, "type": "Unknown"}


def _api(body: Mapping[str, Any]) -> dict[str, Any]:
    found = {"operation": body["name"], "service": {"name": PRODUCT}, "request": {"uid": body["request_id"]}}
    return found if body["allowed"] else {**found, "response": {"error": body["facts"].get("code", body["reason"])}}


def _user(body: Mapping[str, Any]) -> dict[str, Any] | None:
    """Whom the certificate proved, or None."""
    subject = body["subject"]
    if not subject:
        return None
    person = body["name"].startswith("operator:")
    kind = {"type_id": 1, "type": "User"} if person else {"type_id": 4, "type": "Service"}
    return {"uid": subject, "name": _last(subject), **kind}


# ECS


def ecs(line: str, hash_: str) -> dict[str, Any]:
    """A record as an ECS document. What ECS has no field for is under `trusted_gateway`, to be mapped as flattened."""
    body = _body(line)
    _, thing, verb = body["name"].split(":")
    types = ["start" if (thing, verb) == ("session", "create") else _activity(verb)[2]]
    if body["kind"] == Kind.DECISION:
        types.append("allowed" if body["allowed"] else "denied")
    found: dict[str, Any] = {
        "@timestamp": _moment(body["at"]),
        "ecs": {"version": ECS_VERSION},
        "message": f"{body['name']} {'allowed' if body['allowed'] else 'refused'}: {body['reason']}",
        "event": {
            "kind": "alert" if _is_alarm(body) else "event",
            "category": ["api", *_categories(thing, verb)],
            "type": types,
            "action": body["name"],
            "outcome": "success" if body["allowed"] else "failure",
            "reason": body["reason"],
            "id": hash_,
            "hash": hash_,
            "sequence": body["seq"],
            "original": line,
            "module": "trusted_gateway",
            "dataset": "trusted_gateway.audit",
            "provider": body["chain"],
        },
        "http": {"request": {"id": body["request_id"]}},
        "service": {"type": "trusted-gateway", "node": {"name": body["chain"]}},
        "trusted_gateway": {"kind": body["kind"], "object": body["object"], "facts": body["facts"]},
    }
    related: dict[str, list[str]] = {}
    if body["source"]:
        found["source"] = {"address": body["source"], "ip": body["source"]}
        related["ip"] = [body["source"]]
    if body["subject"]:
        found["user"] = {"id": body["subject"], "name": _last(body["subject"])}
        related["user"] = [body["subject"]]
    if thing == "operator" and body["object"]:
        found.setdefault("user", {})["target"] = {"id": body["object"], "name": _last(body["object"])}
        related.setdefault("user", []).append(body["object"])
    if not body["allowed"]:
        found["error"] = {"code": body["facts"].get("code", body["reason"])}
    return found | ({"related": related} if related else {})


def _categories(thing: str, verb: str) -> list[str]:
    """Beside `api`."""
    if thing == "session":
        return ["session"]
    if thing in ("operator", "role", "approval", "certificate", "ticket"):
        return ["iam"]
    return ["configuration"] if thing in ("profile", "key") and verb not in _READ else []


def _last(name: str) -> str:
    return name.rpartition("/")[2]


def _moment(at: str) -> str:
    return datetime.fromisoformat(at).astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _milliseconds(at: str) -> int:
    return int(datetime.fromisoformat(at).timestamp() * 1000)
