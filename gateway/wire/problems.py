"""The problems that gateway and agent can name: one table of code → status, title, hint; and their RFC 9457 form."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

MEDIA_TYPE = "application/problem+json"
URN = "urn:trusted-gateway:problem:"


@dataclass(frozen=True, slots=True)
class ProblemType:
    """One kind of problem. `hint` tells the reader what to do next."""

    code: str
    status: int
    title: str
    hint: str


def _table(*rows: tuple[str, int, str, str]) -> dict[str, ProblemType]:
    return {code: ProblemType(code, status, title, hint) for code, status, title, hint in rows}


# fmt: off
PROBLEMS = _table(
    ("malformed_request", 400, "The request does not have the required form", "Compare the request with docs/api.md."),
    ("csr_refused", 400, "The certificate request cannot be accepted", "Send one PEM PKCS#10 request, signed by a P-256 key, with nothing but the key in it."),
    ("evidence_malformed", 400, "The evidence cannot be read", "Send the identity document and its rsa2048 signature as the metadata service gives them."),
    ("profile_invalid", 400, "The profile is not valid", "Mend the faults that are named, and apply again."),
    ("call_malformed", 400, "The call is not one that AWS would understand", "Compare the call with AWS's documentation; docs/calls.md tells what is not taken."),
    ("call_ambiguous", 400, "The call can be read in more than one way", "Send what AWS's own SDKs send; docs/calls.md lists what is refused, and why."),
    ("certificate_required", 401, "A client certificate is required", "Connect with the certificate that enrolment gave."),
    ("certificate_unknown", 401, "The client certificate is not one that this gateway issued", "Enrol again."),
    ("certificate_expired", 401, "The client certificate is not valid at this time", "Enrol again; check the clock."),
    ("certificate_superseded", 401, "The client certificate was replaced by a newer one", "Ask /v1/renew for it again with the same key."),
    ("certificate_revoked", 403, "The client certificate is revoked", "Ask an operator."),
    ("ticket_invalid", 401, "The ticket is not valid", "Ask an operator for a new ticket: it may be unknown, expired or revoked, or made for another instance."),
    ("ticket_used", 409, "The ticket was used already", "A ticket serves one key once. Ask an operator for a new one."),
    ("proof_refused", 403, "The proof of the enrolled key was refused", "Ask for a new nonce and sign with the enrolled key; if that key is lost, ask for 'instance allow-reenroll'."),
    ("evidence_refused", 403, "The evidence does not prove an instance that may enrol", "See the audit log for the reason."),
    ("instance_unknown", 404, "No such instance is enrolled", "List them with 'trusted-gateway instance list'."),
    ("instance_ambiguous", 409, "More than one instance has this id", "Name it by its SPIFFE ID."),
    ("instance_enrolled", 409, "The instance is enrolled with another key", "If that key is lost: 'trusted-gateway instance allow-reenroll'."),
    ("instance_revoked", 403, "The instance is revoked", "A revoked instance comes back only by a new ticket made for it by name."),
    ("grant_refused", 403, "The instance's profile has no such grant", "List its grants with GET /v1/grants."),
    ("token_refused", 403, "The token is not valid on this connection", "Log in again, with the certificate of this connection."),
    ("call_denied", 403, "The grant's policy does not allow this call", "See the audit record for the statement, or run 'trusted-gateway policy explain'."),
    ("signature_refused", 403, "The call's signature is not right", "Sign with the dummy key that the agent gave for this grant; check the clock."),
    ("payload_unsigned", 403, "The body would not be signed", "Have the client sign its payload, or set unsigned_payload = true in the grant."),
    ("presign_refused", 403, "The grant does not allow such a presigned URL", "Set 'presign' in the grant, or ask for a shorter life."),
    ("policy_refused", 400, "The policy that was sent cannot narrow the grant", "Send an IAM policy that allows a part of what the grant allows."),
    ("sign_in_refused", 403, "The sign-in was refused", "Sign in at the provider again: a token is good once, and not for long. The audit log has the reason."),
    ("operator_forbidden", 403, "The operator may not do this", "Ask an administrator."),
    ("operator_invalid", 400, "The operator's roles or conditions are not valid", "Mend the faults that are named; docs/operators.md says what may be in them."),
    ("operator_unknown", 404, "There is no such operator", "List them with 'trusted-gateway operator list'."),
    ("role_invalid", 400, "The role is not valid", "Mend the faults that are named, and apply again; docs/operators.md says what may be in a role."),
    ("role_unknown", 404, "There is no such role", "List them with 'trusted-gateway role list'."),
    ("approval_refused", 403, "The approval does not cover this request", "Send exactly the request that was approved, once, in time; or send it without an approval, to ask anew."),
    ("approval_unknown", 404, "No such approval is waiting", "List them with 'trusted-gateway approval list'."),
    ("target_unknown", 404, "Nothing of this name can be revoked", "Look it up: 'instance list', 'lease list', 'ticket list', 'revocation list', or the audit log."),
    ("profile_unknown", 404, "No such profile", "Apply it with 'trusted-gateway profile apply'."),
    ("upstream_key_unknown", 404, "No such upstream key", "Import it with 'trusted-gateway key import'."),
    ("upstream_key_disabled", 403, "The upstream key is disabled", "Import another or rotate it: 'trusted-gateway key list' shows them."),
    ("server_unknown", 404, "No such machine is here, or none that you may see", "List them with 'trusted-gateway server list'."),
    ("launch_missing", 409, "The profile does not say how its machines are launched", "Give it a [launch] table; docs/profiles.md says what is in it."),
    ("user_data_refused", 400, "The user-data holds what looks like a secret", "Take it out: a machine gets what it may have from the gateway, by its grants. docs/servers.md says what is refused."),
    ("archive_unusable", 409, "The archive cannot be written or read", "Name a directory that the gateway's user can write to, with room in it."),
    ("archive_undelivered", 409, "A sink has not delivered what would be archived", "Mend the sink; when it is no more, name it with --without-sink."),
    ("archive_broken", 409, "What was archived does not verify", "Run 'trusted-gateway audit verify'; the records are still in the store."),
    ("checkpoint_unknown", 404, "There is no such checkpoint, or none that continues it", "Keep the one that you have, and ask for the latest without naming it."),
    ("not_found", 404, "Nothing is here", "Compare the path with docs/api.md."),
    ("method_not_allowed", 405, "The method is not allowed here", "Compare the method with docs/api.md."),
    ("request_timeout", 408, "The request did not arrive in time", "Send it again, faster."),
    ("conflict", 409, "Someone else changed this at the same moment", "Read again, then try again."),
    ("precondition_failed", 412, "Another version is in force than the one that was named", "Look at what changed meanwhile, then apply again."),
    ("body_too_large", 413, "The body is too large", "docs/api.md says how large a body may be; most have at most 64 KiB."),
    ("unsupported_media_type", 415, "The body's media type is not accepted", "Send application/json, uncompressed."),
    ("misdirected_request", 421, "The Host header names another server", "Use an address that the gateway's settings name."),
    ("body_required", 422, "The gateway has to look into the body of this call", "Send the call again, with its body."),
    ("idempotency_mismatch", 422, "The idempotency key was used for another request", "Use a new key for each request that is not sent again."),
    ("too_many_requests", 429, "Too many attempts", "Wait for as long as Retry-After says."),
    ("head_too_large", 431, "The request head is too large", "A head has at most 16 KiB, that of a call 32 KiB."),
    ("internal_error", 500, "The gateway failed", "Look for the request id in the gateway's log."),
    ("not_implemented", 501, "This form of request is not accepted", "Use HTTP/1.1 with Content-Length."),
    ("upstream_refused", 502, "AWS refused what the gateway asked for", "See the audit log; check the upstream key's and the role's policies."),
    ("upstream_broken", 502, "AWS's answer could not be passed on", "The call may have had its effect: look before it is sent again."),
    ("provider_unavailable", 503, "The OpenID provider did not answer as it has to", "Try again; or use a certificate that 'operator add' gave."),
    ("upstream_unavailable", 503, "AWS did not answer", "Try again; what was presented is not used up."),
    ("store_unavailable", 503, "The store or the audit log did not answer", "Try again; nothing was given."),
    ("audit_behind", 503, "The audit log is not exported as its settings demand", "See 'trusted-gateway status' and the gateway's health: a required sink does not take records."),
    ("clock_untrusted", 503, "The gateway's clock cannot be trusted", "Set the gateway's clock right."),
    ("upstream_timeout", 504, "AWS began no answer in time", "The call may have had its effect: look before it is sent again."),
    ("overloaded", 503, "The gateway has too much to do at this moment", "Try again shortly."),
    ("draining", 503, "The gateway is stopping", "Try again at once: another worker will answer."),
)
# fmt: on


def document(
    code: str, *, detail: str | None = None, instance: str | None = None, faults: Sequence[str] = ()
) -> dict[str, Any]:
    """The RFC 9457 document of a problem; `instance` is `urn:uuid:<request id>`, `faults` each of several, with its place.

    Raises KeyError for an unknown code.
    """
    problem = PROBLEMS[code]
    out = {"type": URN + code, "title": problem.title, "status": problem.status, "code": code, "hint": problem.hint}
    if detail:
        out["detail"] = detail
    if instance:
        out["instance"] = instance
    if faults:
        out["faults"] = list(faults)
    return out


def encode(code: str, *, detail: str | None = None, instance: str | None = None, faults: Sequence[str] = ()) -> bytes:
    """`document` as JSON bytes."""
    return json.dumps(document(code, detail=detail, instance=instance, faults=faults)).encode()
