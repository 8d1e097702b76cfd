"""How Vault writes things: its durations, its answers, its errors. Nothing is decided here.

HashiCorp: "HTTP API", "Cert auth method (API)", "Token auth method (API)", "AWS secrets engine (API)".
"""

import json
import re
from datetime import datetime
from typing import Any

from flask import Response

from gateway.core.errors import Refusal
from gateway.core.identity import Identity
from gateway.core.model import BearerToken
from gateway.flows.bearer import accessor
from gateway.flows.vend import Vended
from gateway.wire.messages import instant

SHORTEST, LONGEST = 900, 43_200  # seconds that a session of AWS may last
EMULATED = "Emulated are auth/cert/login, auth/token/lookup-self and revoke-self, aws/creds, aws/sts and sys/health."

# Vault has no 401, and its clients try a 503 again.
_STATUS = {401: 403, 409: 503}
_HINT_IS_NATIVE = frozenset({"malformed_request", "not_found", "method_not_allowed"})
# Go's durations as far as whole seconds go, and Vault's bare numbers.
_DURATION = re.compile(r"([0-9]{1,9})|(?=[0-9])(?:([0-9]{1,9})h)?(?:([0-9]{1,9})m)?(?:([0-9]{1,9})s)?")


def seconds(ttl: object) -> int | None:
    """A `ttl` in seconds: 900 to 43200, as an integer or as text: `3600`, `3600s`, `15m`, `1h30m`. Raises Refusal."""
    if ttl is None:
        return None
    found = ttl if type(ttl) is int else None
    if isinstance(ttl, str) and (match := _DURATION.fullmatch(ttl)):
        bare, *parts = (int(part or 0) for part in match.groups())
        found = bare + sum(part * unit for part, unit in zip(parts, (3600, 60, 1), strict=True))
    if found is None or not SHORTEST <= found <= LONGEST:
        raise Refusal("malformed_request", "ttl: must be from 15m to 12h, as in 3600, 3600s or 1h30m")
    return found


def login_document(identity: Identity, row: BearerToken, secret: str, now: datetime) -> dict[str, Any]:
    """What a login answers with, under `auth`."""
    about = _about(identity, row)
    return {
        **about,
        "client_token": secret,
        "token_policies": about["policies"],
        "metadata": _whose(identity, row),
        "lease_duration": left(row.expires_at, now),
        "token_type": "service",
        "mfa_requirement": None,
    }


def token_document(identity: Identity, row: BearerToken, secret: str, now: datetime) -> dict[str, Any]:
    """What lookup-self answers with, under `data`."""
    return {
        **_about(identity, row),
        "id": secret,
        "path": "auth/cert/login",
        "meta": _whose(identity, row),
        "display_name": identity.instance.instance_id,
        "creation_time": int(row.created_at.timestamp()),
        "issue_time": instant(row.created_at),
        "creation_ttl": left(row.expires_at, row.created_at),
        "expire_time": instant(row.expires_at),
        "explicit_max_ttl": 0,
        "ttl": left(row.expires_at, now),
        "type": "service",
    }


def credentials_document(given: Vended, now: datetime) -> dict[str, Any]:
    """What credentials are answered with. They cannot be renewed, and the seconds are those that remain."""
    session, seconds_left = given.session, left(given.session.expires_at, now)
    return {
        "lease_id": f"aws/sts/{given.lease.grant}/{given.lease.id}",
        "lease_duration": seconds_left,
        "mount_type": "aws",
        "data": {
            "access_key": session.access_key_id,
            "secret_key": session.secret_access_key,
            "security_token": session.session_token,
            "session_token": session.session_token,
            "arn": session.principal,
            "ttl": seconds_left,
        },
    }


def answer(request_id: str, **parts: Any) -> Response:
    """Vault's document: everything stands in it, what is not meant is null."""
    nothing = {"lease_id": "", "renewable": False, "lease_duration": 0, "data": None, "wrap_info": None}
    return plain({"request_id": request_id, **nothing, "warnings": None, "auth": None, **parts})


def plain(document: dict[str, Any]) -> Response:
    """A document without Vault's envelope."""
    return Response(json.dumps(document), content_type="application/json")


def translated(problem: Response) -> Response:
    """A problem (RFC 9457) as Vault's clients read it: `{"errors": ["…"]}`, and a status that Vault has."""
    told = json.loads(problem.get_data())
    code = told["code"]
    said = f"{code}: {told.get('detail', told['title'])}"
    if code not in _HINT_IS_NATIVE and "detail" not in told:
        said += f". {told['hint']}"
    if code in ("not_found", "method_not_allowed"):
        said += f". {EMULATED}"
    problem.set_data(json.dumps({"errors": [said], "request_id": told["instance"].removeprefix("urn:uuid:")}))
    problem.content_type = "application/json"
    problem.status_code = _STATUS.get(problem.status_code, problem.status_code)
    return problem


def left(end: datetime, now: datetime) -> int:
    """Whole seconds until then, or 0."""
    return max(0, int((end - now).total_seconds()))


def _about(identity: Identity, row: BearerToken) -> dict[str, Any]:
    policies = [identity.instance.profile]
    return {
        "accessor": accessor(row), "policies": policies, "renewable": False, "entity_id": "", "num_uses": 0,
        "orphan": True,
    }  # fmt: skip


def _whose(identity: Identity, row: BearerToken) -> dict[str, str]:
    return {"instance": identity.instance.id, "serial_number": row.serial}
