"""POST /sessions of the instance listener, in the form of AWS IAM Roles Anywhere: what its own clients send and read.

AWS: "CreateSession" in the Roles Anywhere user guide. Its errors have a form of their own, too; docs/roles-anywhere.md.
"""

import json
import uuid
from typing import Any

from flask import Flask, Response, request

from gateway.core.audit import Name
from gateway.core.errors import Refusal
from gateway.core.rolesanywhere import PATH, Received
from gateway.flows.create_session import Created, CreateSession
from gateway.flows.journal import Journal
from gateway.ports import Throttle
from gateway.web.exchange import LONGEST_DETAIL, asked, peer, request_id
from gateway.wire.messages import instant
from gateway.wire.problems import PROBLEMS

JSON = "application/json"
# What makes an attempt count as failed: whoever is not proved, or sends what no client does.
_GUESSES = frozenset({"malformed_request", "proof_refused", "certificate_unknown"})
# AWS's clients repeat what gets 429 or 5xx, so a no is never one of those: only what may be a yes in a moment.
_LATER = frozenset({"upstream_unavailable", "store_unavailable", "clock_untrusted", "conflict"})


def add_sessions(app: Flask, journal: Journal, sessions: CreateSession, throttle: Throttle) -> None:
    """Give the instance listener's application this route. It asks for no client certificate: no client sends one."""

    @app.post(PATH)
    def create_session() -> Response:
        try:
            with asked(journal, Name.INSTANCE_SESSION_CREATE) as call:
                throttle.check(peer().address)
                try:
                    response = _created(sessions.create(call, _received()))
                except Refusal as refusal:
                    if refusal.code in _GUESSES:
                        throttle.failed(peer().address)
                    raise
        except Refusal as refusal:
            response = _failed(refusal)
        response.headers["x-amzn-RequestId"] = request_id()  # AWS's helper shows it, and the audit log has it
        return response


def _received() -> Received:
    headers = {name.lower(): value for name, value in request.headers.items()}
    return Received(request.environ["QUERY_STRING"], headers, request.get_data(cache=False))


def _created(created: Created) -> Response:
    order, instance = created.order, created.instance
    lease, session = created.vended.lease, created.vended.session
    # A name for the certificate's holder, as AWS has one: the same for the same machine.
    subject = uuid.uuid5(uuid.NAMESPACE_URL, instance.id)
    partition = order.role.split(":")[1]
    answer: dict[str, Any] = {
        "credentialSet": [
            {
                "assumedRoleUser": {"arn": session.principal, "assumedRoleId": session.principal_id},
                "credentials": {
                    "accessKeyId": session.access_key_id,
                    "secretAccessKey": session.secret_access_key,
                    "sessionToken": session.session_token,
                    "expiration": instant(lease.expires_at),
                },
                "packedPolicySize": session.packed_percent or 0,
                "roleArn": order.role,
                "sourceIdentity": instance.instance_id,
            }
        ],
        "subjectArn": f"arn:{partition}:rolesanywhere:{order.region}:{order.account}:subject/{subject}",
    }
    return Response(json.dumps(answer), 201, content_type=JSON)


def _failed(refusal: Refusal) -> Response:
    """A refusal as AWS writes it: `x-amzn-ErrorType` and a message. botocore: the errors of `rolesanywhere`."""
    status, kind = _kind(refusal.code)
    message = (refusal.detail or PROBLEMS[refusal.code].title)[:LONGEST_DETAIL]
    response = Response(json.dumps({"message": message}), status, content_type=JSON)
    response.headers["x-amzn-ErrorType"] = kind
    if refusal.retry_after is not None:
        response.headers["Retry-After"] = str(refusal.retry_after)
    return response


def _kind(code: str) -> tuple[int, str]:
    if code in _LATER:
        return 503, "ServiceUnavailableException"
    if code == "too_many_requests":
        return 429, "ThrottlingException"
    if code == "malformed_request":
        return 400, "ValidationException"
    if code == "internal_error":
        return 500, "InternalServerException"
    return 403, "AccessDeniedException"
