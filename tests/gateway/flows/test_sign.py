"""Remote signing: a signature for exactly what the policy allows, and for nothing else."""

import base64
import hashlib
import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from gateway.core.audit import Name
from gateway.core.errors import Refusal
from gateway.core.lease import Order
from gateway.core.model import InstanceState
from gateway.wire import calls
from gateway.wire.sigv4 import SigV4Error, parse_authorization, verify
from tests.gateway.flows.calling import NOTHING, STATEMENTS, Caller, apply, request
from tests.gateway.flows.conftest import ACCOUNT, Gateway


@pytest.fixture
def caller(gateway: Gateway) -> Caller:
    apply(gateway)
    made = Caller(gateway, gateway.enrolled())
    made.register()
    return made


def refused(caller: Caller, call: calls.Call) -> tuple[str, str]:
    before = len(caller.decisions())
    with pytest.raises(Refusal) as caught:
        caller.ask(call)
    after = caller.decisions()
    assert len(after) == before + 1
    assert not after[-1]["allowed"]
    return caught.value.code, after[-1]["reason"]


# What is signed


def test_a_call_that_is_allowed_gets_a_signature_that_aws_takes(caller: Caller) -> None:
    given = caller.ask(request(caller, headers=(("range", "bytes=0-9"), ("x-amz-meta-a", "b"))))
    headers = [(header.name, header.value) for header in given.headers]
    assert (given.way, given.origin, given.target) == ("sign", "https://s3.us-east-1.amazonaws.com", "/data/a")
    fields = dict(headers)
    assert fields["host"] == "s3.us-east-1.amazonaws.com"
    assert fields["x-amz-security-token"] == "a token"
    assert fields["range"] == "bytes=0-9"
    found = parse_authorization("GET", "/data/a", headers)
    assert found.access_key_id == "ASIA1"
    verify(found, "GET", "/data/a", headers, NOTHING, b"a secret")
    with pytest.raises(SigV4Error):
        verify(found, "GET", "/data/b", headers, NOTHING, b"a secret")


def test_the_session_is_bound_by_the_grants_policy_and_never_leaves(caller: Caller) -> None:
    given = caller.ask(request(caller))
    (asked,) = caller.gateway.aws.asked
    assert asked.source_identity == caller.identity.instance.instance_id
    assert asked.policy is not None
    assert "arn:aws:s3:::data/*" in asked.policy
    assert "a secret" not in repr(given) + "".join(header.value for header in given.headers)
    with pytest.raises(Refusal) as caught, caller.within(Name.INSTANCE_CREDENTIALS_VEND) as call:
        caller.vend.give(call, caller.identity, Order("data"))
    assert (caught.value.code, caught.value.reason) == ("grant_refused", "way")


def test_one_session_signs_for_an_hour_and_each_call_is_one_decision(caller: Caller) -> None:
    for key in "abc":
        caller.ask(request(caller, target=f"/data/{key}"))
    assert len(caller.gateway.aws.asked) == 1
    decisions = caller.decisions()
    assert [each["allowed"] for each in decisions] == [True] * 3
    assert [each["facts"]["needs"][0]["resource"] for each in decisions] == [
        f"arn:aws:s3:::data/{key}" for key in "abc"
    ]
    kinds = [each["kind"] for each in caller.gateway.records() if each["name"] == "instance:call:sign"]
    assert kinds == ["intent", "outcome", "decision", "decision", "decision"]


@pytest.mark.threat("E08")
def test_E08_every_signature_has_a_record_with_the_canonical_request(caller: Caller) -> None:
    caller.ask(request(caller))
    (record,) = caller.decisions()
    facts = record["facts"]
    assert len(facts["canonical_sha256"]) == 64
    assert facts["needs"] == [
        {"action": "s3:GetObject", "resource": "arn:aws:s3:::data/a", "context": facts["needs"][0]["context"],
         "decision": "allowed"}
    ]  # fmt: skip
    assert facts["statements"] == ["grant data, Statement[0] (Read)"]
    assert (facts["operation"], facts["way"], facts["known"], facts["payload"]) == ("GetObject", "sign", True, "hash")
    assert facts["lease"]


# What is not


@pytest.mark.parametrize(
    ("method", "target", "reason"),
    [
        ("GET", "/other/a", "not_allowed"),
        ("GET", "/data/secret/a", "denied"),
        ("DELETE", "/data/a", "not_allowed"),
        ("GET", "/data/a?acl", "not_allowed"),
        ("GET", "/data", "not_allowed"),
    ],
)
def test_what_the_policy_does_not_allow_is_not_signed_and_aws_is_not_asked(
    caller: Caller, method: str, target: str, reason: str
) -> None:
    assert refused(caller, request(caller, method, target)) == ("call_denied", reason)
    assert caller.gateway.aws.asked == []
    assert caller.ask(request(caller)).way == "sign"


@pytest.mark.threat("E02")
@pytest.mark.parametrize(
    ("change", "code", "reason"),
    [
        ({"service": "sqs"}, "signature_refused", "scope_differs"),
        ({"region": "eu-west-1"}, "signature_refused", "scope_differs"),
        ({"method": "PUT"}, "signature_refused", "signature_wrong"),
        ({"target": "/data/b"}, "signature_refused", "signature_wrong"),
        ({"host": "evil.example"}, "call_denied", "host_foreign"),
        ({"host": "s3.eu-west-1.amazonaws.com"}, "call_denied", "host_foreign"),
        ({"host": "sqs.us-east-1.amazonaws.com"}, "call_denied", "host_foreign"),
        ({"payload_sha256": "0" * 64}, "signature_refused", None),
    ],
)
def test_E02_what_was_not_signed_so_on_the_machine(
    caller: Caller, change: dict[str, Any], code: str, reason: str | None
) -> None:
    found = refused(caller, replace(request(caller), **change))
    assert found == (code, reason or found[1])


@pytest.mark.threat("E02")
def test_E02_a_host_of_the_service_itself_is_taken(caller: Caller) -> None:
    given = caller.ask(request(caller, host="s3.us-east-1.amazonaws.com"))
    assert given.origin == "https://s3.us-east-1.amazonaws.com"
    given = caller.ask(request(caller, target="/a", host="data.s3.us-east-1.amazonaws.com"))
    assert (given.origin, given.target) == ("https://data.s3.us-east-1.amazonaws.com", "/a")
    assert caller.decisions()[-1]["facts"]["needs"][0]["resource"] == "arn:aws:s3:::data/a"
    assert refused(caller, request(caller, target="/a", host="other.s3.us-east-1.amazonaws.com")) == (
        "call_denied",
        "not_allowed",
    )


def test_what_its_signer_did_not_sign_is_not_sent(caller: Caller) -> None:
    given = caller.ask(request(caller, unsigned=(("if-match", "x"), ("user-agent", "curl"))))
    names = [header.name for header in given.headers]
    assert "if-match" not in names
    assert "user-agent" in names


def test_an_amz_header_that_was_not_signed_is_refused(caller: Caller) -> None:
    smuggled = request(caller, unsigned=(("x-amz-copy-source", "/other/a"),))
    assert refused(caller, smuggled)[0] == "signature_refused"


@pytest.mark.parametrize("minutes", [6, 600])
def test_a_signature_of_another_time_is_refused(caller: Caller, minutes: int) -> None:
    call = request(caller)
    caller.gateway.time.passes(timedelta(minutes=minutes))
    assert refused(caller, call) == ("signature_refused", "time_skewed")


# Dummy keys


def misused(caller: Caller) -> list[str]:
    return [each["reason"] for each in caller.gateway.records() if each["name"] == "instance:key:misuse"]


def test_a_dummy_key_is_good_on_its_own_machine_only_and_who_shows_it_elsewhere_is_noticed(caller: Caller) -> None:
    thief = Caller(caller.gateway, caller.gateway.enrolled("i-0aaaaaaaaaaaaaaaa"))
    assert refused(thief, request(thief)) == ("signature_refused", "dummy_key_elsewhere")
    (fact,) = [each for each in caller.gateway.records() if each["name"] == "instance:key:misuse"]
    assert fact["subject"] is None or fact["subject"] == thief.identity.instance.id
    assert (fact["facts"]["owner"], fact["object"]) == (caller.identity.instance.id, f"key/{caller.access_key_id}")
    assert thief.keys.counters.misused == 1
    assert caller.ask(request(caller)).way == "sign"


def test_a_dummy_key_is_for_one_grant(gateway: Gateway) -> None:
    grants = [{"name": name, "role": f"arn:aws:iam::{ACCOUNT}:role/x", "region": "us-east-1", "deliver": "sign",
               "policy": {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}}
              for name in ("data", "more")]  # fmt: skip
    with gateway.store.read() as tx:
        before = tx.profiles.get(name="web")
    assert before is not None
    after = replace(before, version=2, document={"name": "web", "grants": grants})
    assert gateway.store.write(lambda tx: tx.profiles.swap(before, after))
    caller = Caller(gateway, gateway.enrolled())
    caller.register("more")
    assert refused(caller, request(caller)) == ("signature_refused", "dummy_key_of_another_grant")
    assert caller.ask(request(caller, grant="more")).way == "sign"


def test_a_dummy_key_ends_with_the_certificate_and_with_the_enrolment(caller: Caller) -> None:
    caller.gateway.time.passes(timedelta(hours=25))
    assert refused(caller, request(caller)) == ("signature_refused", "dummy_key_outdated")
    assert misused(caller) == ["dummy_key_outdated"]


def test_a_key_that_nobody_registered_is_unknown_and_a_wrong_secret_is_wrong(caller: Caller) -> None:
    call = request(caller)
    caller.access_key_id = "TGDK" + "B" * 16
    assert refused(caller, request(caller)) == ("signature_refused", "key_unknown")
    caller.access_key_id = "TGDK" + "A" * 16
    assert refused(caller, request(caller, secret="e" * 40)) == ("signature_refused", "signature_wrong")
    assert caller.ask(call).way == "sign"
    assert misused(caller) == []


def test_nobody_can_register_the_key_of_another(caller: Caller) -> None:
    thief = Caller(caller.gateway, caller.gateway.enrolled("i-0aaaaaaaaaaaaaaaa"))
    with pytest.raises(Refusal) as caught:
        thief.register()
    assert (caught.value.code, caught.value.reason) == ("conflict", "dummy_key_of_another")
    assert misused(caller) == ["dummy_key_of_another"]
    with pytest.raises(Refusal) as caught:
        thief.register("another", "TGDK" + "C" * 16)
    assert caught.value.code == "grant_refused"


# Bodies


def items(table: str) -> bytes:
    return json.dumps({"TableName": table, "Key": {"id": {"S": "1"}}}).encode()


DYNAMODB: dict[str, Any] = {
    "service": "dynamodb",
    "headers": (("content-type", "application/x-amz-json-1.0"), ("x-amz-target", "DynamoDB_20120810.GetItem")),
}


def test_the_body_comes_only_where_the_decision_is_in_it(caller: Caller) -> None:
    put = request(caller, "PUT", payload=hashlib.sha256(b"a body that stays").hexdigest())
    assert caller.ask(put).way == "sign"
    body = items("orders")
    digest = hashlib.sha256(body).hexdigest()
    without = request(caller, "POST", "/", payload=digest, **DYNAMODB)
    assert refused(caller, without)[0] == "body_required"
    assert caller.ask(request(caller, "POST", "/", body=body, **DYNAMODB)).way == "sign"
    assert refused(caller, request(caller, "POST", "/", body=items("users"), **DYNAMODB)) == (
        "call_denied",
        "not_allowed",
    )


def test_the_body_that_is_looked_at_is_the_one_that_is_signed(caller: Caller) -> None:
    shown = base64.b64encode(items("orders")).decode()
    forged = request(caller, "POST", "/", body=items("users"), **DYNAMODB)
    assert refused(caller, replace(forged, body=shown)) == ("signature_refused", "payload_differs")


@pytest.mark.parametrize("payload", ["UNSIGNED-PAYLOAD", "STREAMING-UNSIGNED-PAYLOAD-TRAILER"])
def test_a_signature_that_leaves_out_the_body_takes_a_word_in_the_grant(caller: Caller, payload: str) -> None:
    def put() -> Any:
        return request(caller, "PUT", payload=payload)

    assert refused(caller, put()) == ("payload_unsigned", "payload_unsigned")
    apply(caller.gateway, unsigned_payload=True)
    given = caller.ask(put())
    assert ("x-amz-content-sha256", payload) in [(each.name, each.value) for each in given.headers]


def test_where_there_is_no_body_its_absence_is_signed(caller: Caller) -> None:
    given = caller.ask(request(caller, payload="UNSIGNED-PAYLOAD"))
    assert ("x-amz-content-sha256", NOTHING) in [(each.name, each.value) for each in given.headers]


# Ways


FORM = (("content-type", "application/x-www-form-urlencoded; charset=utf-8"),)


def sts(caller: Caller, action: str) -> Any:
    body = f"Action={action}&Version=2011-06-15".encode()
    return request(caller, "POST", "/", service="sts", headers=FORM, body=body)


@pytest.mark.parametrize("action", ["AssumeRole", "GetSessionToken", "GetFederationToken", "AssumeRoot"])
def test_no_session_is_given_away_whatever_the_policy_says(caller: Caller, action: str) -> None:
    more = "&RoleArn=arn:aws:iam::111122223333:role/x&RoleSessionName=x" if action == "AssumeRole" else ""
    body = f"Action={action}&Version=2011-06-15{more}".encode()
    call = request(caller, "POST", "/", service="sts", headers=FORM, body=body)
    code, reason = refused(caller, call)
    assert (code, reason in ("identity_call", "not_allowed")) == ("call_denied", True)


def test_a_proof_of_identity_is_never_signed_but_carried(caller: Caller) -> None:
    given = caller.ask(sts(caller, "GetCallerIdentity"))
    assert (given.way, given.headers, given.target) == ("proxy", (), None)


def test_each_action_goes_its_own_way(caller: Caller) -> None:
    apply(caller.gateway, deliver={"default": "token", "sign": ["s3:PutObject"], "proxy": ["dynamodb:*"]})
    got = caller.ask(request(caller))
    assert (got.way, got.origin, got.headers) == ("token", "https://s3.us-east-1.amazonaws.com", ())
    assert caller.ask(request(caller, "PUT")).way == "sign"
    assert caller.ask(request(caller, "POST", "/", body=items("orders"), **DYNAMODB)).way == "proxy"
    assert [each["reason"] for each in caller.decisions()] == ["by_token", "ok", "by_proxy"]
    with caller.within(Name.INSTANCE_CREDENTIALS_VEND) as opened:
        caller.vend.give(opened, caller.identity, Order("data"))
    policy = caller.gateway.aws.asked[-1].policy
    assert policy is not None
    assert json.loads(policy)["Statement"][-1] == {
        "Effect": "Deny", "Action": ["s3:PutObject", "dynamodb:*"], "Resource": "*",
    }  # fmt: skip


# Presigned URLs


def test_presigning_is_a_grant_of_its_own_and_its_life_is_capped(caller: Caller) -> None:
    assert refused(caller, request(caller, presign=60)) == ("presign_refused", "presign_never")
    apply(caller.gateway, presign="5m")
    assert refused(caller, request(caller, presign=301)) == ("presign_refused", "presign_longest")
    given = caller.ask(request(caller, presign=300))
    assert given.target is not None
    found = parse_authorization("GET", given.target, [("host", "s3.us-east-1.amazonaws.com")])
    assert (found.presigned, found.expires, found.access_key_id) == (True, 300, "ASIA1")
    verify(found, "GET", given.target, [("host", "s3.us-east-1.amazonaws.com")], "UNSIGNED-PAYLOAD", b"a secret")
    assert refused(caller, request(caller, "DELETE", presign=60)) == ("call_denied", "not_allowed")
    assert refused(caller, request(caller, target="/data/secret/a", presign=60)) == ("call_denied", "denied")
    assert caller.decisions()[-3]["facts"]["presigned_seconds"] == 300


# Limits


def test_a_stolen_instance_cannot_read_the_world(caller: Caller) -> None:
    apply(caller.gateway, limits={"requests": "3/minute", "actions": {"s3:PutObject": "1/hour"}})
    caller.ask(request(caller, "PUT"))
    assert refused(caller, request(caller, "PUT")) == ("too_many_requests", "limit_reached")
    again = Caller(caller.gateway, caller.identity)  # another worker
    again.ask(request(again))
    caller.ask(request(caller))
    assert refused(again, request(again)) == ("too_many_requests", "limit_reached")
    other = Caller(caller.gateway, caller.gateway.enrolled("i-0aaaaaaaaaaaaaaaa"), "TGDK" + "C" * 16)
    other.register()
    other.ask(request(other))
    caller.gateway.time.passes(timedelta(seconds=20))
    caller.ask(request(caller))


def test_uploads_count_by_their_size(caller: Caller) -> None:
    apply(caller.gateway, limits={"bytes": "10KB/minute"})

    def put(size: int) -> Any:
        return request(caller, "PUT", headers=(("content-length", str(size)),), payload="a" * 64)

    caller.ask(put(9000))
    assert refused(caller, put(2000)) == ("too_many_requests", "limit_reached")
    caller.ask(put(1000))


# Revocation


@pytest.mark.threat("E08")
def test_E08_an_instance_that_is_revoked_meanwhile_gets_nothing(caller: Caller) -> None:
    def cut() -> None:
        before = caller.identity.instance
        revoked = replace(before, state=InstanceState.REVOKED)
        assert caller.gateway.store.write(lambda tx: tx.instances.swap(before, revoked))

    caller.gateway.aws.meanwhile = cut
    assert refused(caller, request(caller))[0] == "instance_revoked"


@pytest.mark.threat("D15")
def test_D15_held_sessions_go_with_the_instance(caller: Caller) -> None:
    caller.ask(request(caller))
    gateway = caller.gateway
    receipt = gateway.revoke(caller.identity.instance.instance_id)
    assert [(each["grant"], each["what"]) for each in receipt["remains"]] == [("data", "signatures")]
    with gateway.store.read() as tx:
        (lease,) = tx.leases.find(instance=caller.identity.instance.id)
    assert lease.held == "calls"
    assert lease.sealed_session is None


def test_a_profile_that_is_applied_meanwhile_is_not_passed_by(caller: Caller) -> None:
    """The mint takes its time; what was decided by the profile before it counts no more when that has ended."""
    call = request(caller)
    caller.gateway.aws.meanwhile = lambda: apply(caller.gateway, statements=[STATEMENTS[2]])
    assert refused(caller, call) == ("conflict", "profile_changed")
    caller.gateway.aws.meanwhile = lambda: None
    assert refused(caller, call) == ("call_denied", "not_allowed")


@pytest.mark.parametrize(
    ("code", "noticed"),
    [
        ("certificate_required", True),
        ("certificate_unknown", True),
        ("instance_revoked", True),
        ("certificate_expired", False),  # of the instance itself, on its way to the next
        ("certificate_superseded", False),
    ],
)
def test_only_who_is_nobody_is_taken_for_a_thief(caller: Caller, code: str, noticed: bool) -> None:
    with caller.within(Name.INSTANCE_CALL_SIGN) as opened:
        caller.keys.notice(opened, Refusal(code), request(caller))
    assert misused(caller) == ["dummy_key_without_identity"] * noticed
