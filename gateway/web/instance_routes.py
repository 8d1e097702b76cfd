"""The native routes of the instance listener, as its OpenAPI document describes them; docs/api.md says it in words."""

import json
from functools import cache
from importlib.metadata import version

from gateway.web.checkpoint_api import After
from gateway.web.openapi import JSON, Route, document
from gateway.web.watch import Known
from gateway.wire import calls, messages
from gateway.wire.checkpoint import CheckpointAnswer

UPSTREAM = ("upstream_key_unknown", "upstream_key_disabled", "upstream_refused", "upstream_unavailable")

ROUTES = (
    Route("GET", "/livez", "Whether the worker answers", status=204),
    Route("GET", "/v1/openapi.json", "This document", text=JSON),
    Route("GET", "/v1/ca", "The root certificate", text="application/pem-certificate-chain"),
    Route("POST", "/v1/nonces", "A nonce for the proof of a key", answers=messages.NonceAnswer),
    Route(
        "POST", "/v1/enroll", "A certificate for a machine, by ticket or by proof of its key",
        asks=messages.EnrollRequest, answers=messages.CertificateAnswer, status=201,
        codes=(
            "csr_refused", "evidence_malformed", "evidence_refused", "ticket_invalid", "ticket_used", "proof_refused",
            "instance_enrolled", "instance_revoked", "conflict", "too_many_requests", *UPSTREAM,
        ),
    ),
    Route(
        "POST", "/v1/renew", "A new certificate for the same key", asks=messages.RenewRequest,
        answers=messages.CertificateAnswer, certificate=True, codes=("csr_refused", "conflict"),
    ),
    Route("GET", "/v1/grants", "What the instance may ask for", answers=messages.GrantsAnswer, certificate=True,
          codes=("grant_refused",)),
    Route(
        "POST", "/v1/credentials", "Credentials of AWS for one grant", asks=messages.CredentialsRequest,
        answers=messages.CredentialsAnswer, certificate=True,
        codes=("grant_refused", "policy_refused", "conflict", "too_many_requests", *UPSTREAM),
    ),
    Route(
        "POST", "/v1/dummy-keys", "A key pair that the agent made for the clients of a grant", asks=calls.DummyKey,
        answers=calls.DummyKeyAnswer, status=201, certificate=True, codes=("grant_refused", "conflict"),
    ),
    Route(
        "POST", "/v1/signatures", "A signature for one call to AWS", asks=calls.Call, answers=calls.Signature,
        certificate=True,
        codes=(
            "call_malformed", "call_ambiguous", "call_denied", "signature_refused", "payload_unsigned",
            "presign_refused", "body_required", "grant_refused", "conflict", "too_many_requests", *UPSTREAM,
        ),
    ),
    Route("GET", "/v1/checkpoint", "The latest checkpoint of the audit log", answers=CheckpointAnswer, certificate=True,
          codes=("checkpoint_unknown",), query=After),
    Route("GET", "/v1/watch", "Waits for at most 25 seconds for what is revoked of the instance", status=204,
          certificate=True, query=Known, drops=messages.WatchAnswer),
)  # fmt: skip


@cache
def instance_document() -> bytes:
    """The OpenAPI document of the instance listener's native API; it is made once in each process."""
    found = document("TrustedGateway, instance listener", version("trusted-gateway"), ROUTES)
    return json.dumps(found, separators=(",", ":")).encode()
