"""Carrying: what may pass, and what is written down about it."""

import json
from datetime import timedelta
from typing import Any

import pytest

from gateway.core.audit import Name
from gateway.core.errors import Refusal
from gateway.core.verification import verify as verify_log
from gateway.flows.passage import Ended, Passage
from gateway.wire import calls
from gateway.wire.sigv4 import parse_authorization, verify
from tests.gateway.flows.calling import NOTHING, Caller, apply, request
from tests.gateway.flows.conftest import Gateway

CARRIED = "instance:call:carry"


@pytest.fixture
def caller(gateway: Gateway) -> Caller:
    apply(gateway, deliver="proxy")
    made = Caller(gateway, gateway.enrolled())
    made.register()
    return made


def begin(caller: Caller, call: calls.Call, body: bytes | None = None) -> Passage:
    with caller.within(Name.INSTANCE_CALL_CARRY) as opened:
        return caller.carry.begin(opened, caller.identity, call, body)


def refused(caller: Caller, call: calls.Call, body: bytes | None = None) -> tuple[str, str]:
    with pytest.raises(Refusal) as caught:
        begin(caller, call, body)
    return caught.value.code, caught.value.reason


def outcomes(caller: Caller) -> list[dict[str, Any]]:
    return [each for each in caller.gateway.records() if (each["name"], each["kind"]) == (CARRIED, "outcome")]


def test_what_may_pass_is_signed_for_aws_and_its_end_is_recorded(caller: Caller) -> None:
    passage = begin(caller, request(caller, headers=(("range", "bytes=0-9"),)))
    assert (passage.origin, passage.method, passage.target) == ("https://s3.us-east-1.amazonaws.com", "GET", "/data/a")
    assert (passage.payload_sha256, passage.idempotent) == (NOTHING, True)
    found = parse_authorization("GET", passage.target, passage.headers)
    verify(found, "GET", passage.target, passage.headers, NOTHING, b"a secret")
    caller.carry.end(passage, Ended(200, 0, 10, "REQ1", None))
    (decision,) = caller.decisions(CARRIED)
    (_, outcome) = outcomes(caller)
    kinds = [each["kind"] for each in caller.gateway.records() if each["request_id"] == decision["request_id"]]
    assert kinds == ["intent", "outcome", "decision", "intent", "outcome"]  # of the session, then of the call
    assert decision["request_id"] == outcome["request_id"]
    assert (outcome["allowed"], outcome["reason"]) == (True, "carried")
    assert outcome["facts"] == {"status": 200, "sent": 0, "received": 10, "aws_request_id": "REQ1"}
    assert decision["facts"]["way"] == "proxy"


def test_a_call_whose_end_was_never_written_is_found(caller: Caller) -> None:
    begin(caller, request(caller))
    with caller.gateway.store.read() as tx:
        rows = [(line, digest) for _, _, line, digest in tx.audit.lines({}, 1000)]
    assert verify_log(rows).open_intents == 1


@pytest.mark.threat("F05")
def test_F05_what_broke_off_says_so(caller: Caller) -> None:
    passage = begin(caller, request(caller))
    caller.carry.end(passage, Ended(200, 0, 5, None, "client_gone"))
    outcome = outcomes(caller)[-1]
    assert (outcome["allowed"], outcome["reason"], outcome["facts"]["received"]) == (False, "client_gone", 5)
    assert (caller.carry.counters.carried, caller.carry.counters.broken, caller.carry.counters.received) == (1, 1, 5)


def test_what_is_signed_elsewhere_is_not_carried(caller: Caller) -> None:
    apply(caller.gateway, deliver={"default": "proxy", "sign": ["s3:GetObject"]})
    assert refused(caller, request(caller)) == ("call_denied", "way")
    assert begin(caller, request(caller, "PUT")).method == "PUT"


def test_what_is_not_allowed_does_not_pass(caller: Caller) -> None:
    assert refused(caller, request(caller, target="/other/a")) == ("call_denied", "not_allowed")
    assert caller.gateway.aws.asked == []


@pytest.mark.threat("F02")
def test_F02_nothing_of_the_clients_own_signature_passes(caller: Caller) -> None:
    sent = dict(begin(caller, request(caller, headers=(("x-amz-security-token", "mine"),))).headers)
    assert "mine" not in sent.values()
    assert caller.access_key_id not in sent["authorization"]
    assert sent["host"] == "s3.us-east-1.amazonaws.com"


def test_a_body_is_wanted_only_where_it_decides(caller: Caller) -> None:
    body = json.dumps({"TableName": "orders", "Key": {"id": {"S": "1"}}}).encode()
    headers = (("content-type", "application/x-amz-json-1.0"), ("x-amz-target", "DynamoDB_20120810.GetItem"))
    item = request(caller, "POST", "/", service="dynamodb", headers=headers, body=body)
    assert caller.carry.wants_body(item)
    assert not caller.carry.wants_body(request(caller, "PUT", payload="a" * 64))
    passage = begin(caller, item, body)
    assert (passage.origin, passage.idempotent) == ("https://dynamodb.us-east-1.amazonaws.com", False)
    assert refused(caller, item)[0] == "body_required"
    assert refused(caller, item, body + b" ") == ("signature_refused", "payload_differs")


def test_a_body_that_is_not_signed_may_pass_here(caller: Caller) -> None:
    passage = begin(caller, request(caller, "PUT", payload="STREAMING-UNSIGNED-PAYLOAD-TRAILER"))
    assert passage.payload_sha256 is None
    assert ("x-amz-content-sha256", "STREAMING-UNSIGNED-PAYLOAD-TRAILER") in passage.headers


def test_bytes_are_counted_when_they_have_passed(caller: Caller) -> None:
    apply(caller.gateway, deliver="proxy", limits={"bytes": "10KB/minute"})
    passage = begin(caller, request(caller))
    caller.carry.end(passage, Ended(200, 0, 20_000, None, None))
    assert refused(caller, request(caller)) == ("too_many_requests", "limit_reached")
    caller.gateway.time.passes(timedelta(minutes=1, seconds=1))
    begin(caller, request(caller))
