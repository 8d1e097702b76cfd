"""Calls by an instance that is not ours any more: it has its certificate and its dummy key, and sends what it likes."""

import base64
import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from gateway.core.audit import Name
from gateway.core.errors import Refusal
from gateway.core.model import InstanceState
from gateway.flows.dummy_keys import MOST
from gateway.wire import calls
from gateway.wire.sigv4 import SigV4Error, canonical_request, parse_authorization, verify
from tests.gateway.flows.calling import NOTHING, Caller, apply, request
from tests.gateway.flows.conftest import ACCOUNT, Gateway

JSON10 = "application/x-amz-json-1.0"
ALL: list[dict[str, Any]] = [{"Effect": "Allow", "Action": "*", "Resource": "*"}]


@pytest.fixture
def caller(gateway: Gateway) -> Caller:
    apply(gateway)
    made = Caller(gateway, gateway.enrolled())
    made.register()
    return made


def refusal(caller: Caller, call: calls.Call) -> Refusal:
    with pytest.raises(Refusal) as caught:
        caller.ask(call)
    assert not caller.decisions()[-1]["allowed"]
    return caught.value


def refused(caller: Caller, call: calls.Call) -> tuple[str, str]:
    found = refusal(caller, call)
    return found.code, found.reason


def form(caller: Caller, service: str, action: str, version: str) -> calls.Call:
    headers = (("content-type", "application/x-www-form-urlencoded; charset=utf-8"),)
    body = f"Action={action}&Version={version}".encode()
    return request(caller, "POST", "/", service=service, headers=headers, body=body)


def dynamodb(caller: Caller, operation: str, members: dict[str, Any]) -> calls.Call:
    headers = (("content-type", JSON10), ("x-amz-target", f"DynamoDB_20120810.{operation}"))
    return request(caller, "POST", "/", service="dynamodb", headers=headers, body=json.dumps(members).encode())


# What a header says


@pytest.mark.threat("F04")
@pytest.mark.parametrize("value", ["public-read", "public-read ", " public-read", "\tpublic-read"])
def test_F04_blanks_around_a_value_do_not_hide_it(caller: Caller, value: str) -> None:
    condition = {"StringEquals": {"s3:x-amz-acl": "public-read"}}
    denied = {"Effect": "Deny", "Action": "s3:*", "Resource": "*", "Condition": condition}
    apply(caller.gateway, statements=[*ALL, denied])
    assert refused(caller, request(caller, "PUT", headers=(("x-amz-acl", value),))) == ("call_denied", "denied")
    assert caller.ask(request(caller, "PUT", headers=(("x-amz-acl", "private"),))).way == "sign"


def test_two_services_of_one_name_go_each_to_its_own_host(caller: Caller) -> None:
    apply(caller.gateway, statements=ALL)
    control = "/v20180820/configuration/publicAccessBlock"
    headers = (("x-amz-account-id", ACCOUNT),)
    given = caller.ask(request(caller, target=control, headers=headers))
    assert given.origin == f"https://{ACCOUNT}.s3-control.us-east-1.amazonaws.com"
    elsewhere = request(caller, target=control, headers=headers, host="s3.us-east-1.amazonaws.com")
    assert refused(caller, elsewhere) == ("call_denied", "host_foreign")


# How it is decided


def test_a_signature_of_the_future_is_refused(caller: Caller) -> None:
    caller.gateway.time.passes(timedelta(minutes=6))
    call = request(caller)
    caller.gateway.time.passes(-timedelta(minutes=6))
    assert refused(caller, call) == ("signature_refused", "time_skewed")
    caller.gateway.time.passes(timedelta(minutes=2))
    assert caller.ask(call).way == "sign"


def test_each_policy_is_compiled_for_itself(caller: Caller) -> None:
    assert caller.ask(request(caller)).way == "sign"
    apply(caller.gateway, statements=[{"Effect": "Allow", "Action": "s3:*", "Resource": "arn:aws:s3:::other/*"}])
    assert refused(caller, request(caller)) == ("call_denied", "not_allowed")
    apply(caller.gateway)
    assert caller.ask(request(caller)).way == "sign"


def test_what_a_policy_asks_about_the_call_itself_is_as_the_instance_is(caller: Caller) -> None:
    """A tag in the request is no tag of the caller, whatever it is called."""
    condition = {"StringEquals": {"aws:PrincipalAccount": ACCOUNT, "aws:RequestedRegion": "us-east-1"}}
    allowed = {"Effect": "Allow", "Action": "s3:*", "Resource": "*", "Condition": condition}
    apply(caller.gateway, statements=[allowed])
    assert caller.ask(request(caller)).way == "sign"
    elsewhere = request(caller, region="eu-west-1")
    assert refused(caller, elsewhere) == ("call_denied", "not_allowed")


def test_a_record_says_when_one_thing_of_many_was_not_known(caller: Caller) -> None:
    apply(caller.gateway, statements=ALL)
    source = (("x-amz-copy-source", "arn:aws:s3:us-east-1:111122223333:accesspoint/a/object/k"),)
    caller.ask(request(caller, "PUT", headers=source))
    assert caller.decisions()[-1]["facts"]["known"] is False
    caller.ask(request(caller, "PUT", headers=(("x-amz-copy-source", "data/b"),)))
    assert caller.decisions()[-1]["facts"]["known"] is True


# Revocation


@pytest.mark.threat("E08")
@pytest.mark.parametrize("deliver", ["sign", "proxy", {"default": "token", "proxy": ["dynamodb:*"]}])
def test_E08_a_session_that_is_there_already_is_of_no_use_to_whoever_was_revoked(
    caller: Caller, deliver: str | dict[str, Any]
) -> None:
    apply(caller.gateway, deliver=deliver)

    def ask() -> None:
        if deliver != "proxy":
            caller.ask(request(caller))
            return
        with caller.within(Name.INSTANCE_CALL_CARRY) as opened:
            caller.carry.begin(opened, caller.identity, request(caller), None)

    ask()
    assert caller.ask(request(caller)).origin == (None if deliver == "proxy" else "https://s3.us-east-1.amazonaws.com")
    before = caller.identity.instance
    revoked = replace(before, state=InstanceState.REVOKED)
    assert caller.gateway.store.write(lambda tx: tx.instances.swap(before, revoked))
    with pytest.raises(Refusal) as caught:
        ask()
    assert caught.value.code == "instance_revoked"


@pytest.mark.threat("E08")
def test_E08_the_record_names_the_very_request_that_was_signed(caller: Caller) -> None:
    given = caller.ask(request(caller, headers=(("range", "bytes=0-9"),)))
    headers = [(header.name, header.value) for header in given.headers]
    names = parse_authorization("GET", "/data/a", headers).signed_headers
    canonical = canonical_request("GET", "/data/a", headers, names, NOTHING, "s3")
    assert caller.decisions()[-1]["facts"]["canonical_sha256"] == hashlib.sha256(canonical.encode()).hexdigest()


# Presigned URLs


@pytest.mark.threat("F04")
def test_a_url_is_not_presigned_when_the_decision_lies_in_a_body_that_it_leaves_out(caller: Caller) -> None:
    condition = {"StringEquals": {"s3:RequestObjectTag/a": "b"}}
    tagging = {"Effect": "Allow", "Action": "s3:PutObjectTagging", "Resource": "*", "Condition": condition}
    apply(caller.gateway, statements=[tagging], presign="5m")
    body = b"<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>"
    asked = request(caller, "PUT", "/data/a?tagging", body=body, presign=60)
    assert refused(caller, asked) == ("presign_refused", "presign_body")
    assert caller.ask(replace(asked, presign=None)).target == "/data/a?tagging"


def test_only_s3_itself_is_presigned(caller: Caller) -> None:
    apply(caller.gateway, statements=ALL, presign="5m")
    target = "/v20180820/accessgrantsinstance/dataaccess?target=s3%3A%2F%2Fdata%2F*&permission=READ"
    asked = request(caller, target=target, headers=(("x-amz-account-id", ACCOUNT),), presign=60)
    assert refused(caller, asked) == ("presign_refused", "presign_other")
    assert caller.ask(replace(asked, presign=None)).target == target
    assert refused(caller, request(caller, "POST", "/data/a?uploads", presign=60)) == (
        "presign_refused",
        "presign_other",
    )
    apply(caller.gateway, statements=ALL, presign="5m", deliver="proxy")
    assert refused(caller, request(caller, presign=60)) == ("presign_refused", "presign_other")


def test_a_presigned_url_has_the_headers_that_were_decided_about(caller: Caller) -> None:
    apply(caller.gateway, statements=ALL, presign="5m")
    given = caller.ask(request(caller, "PUT", headers=(("x-amz-acl", "private"),), presign=60))
    headers = [(header.name, header.value) for header in given.headers]
    assert given.target is not None
    found = parse_authorization("PUT", given.target, headers)
    assert found.signed_headers == ("host", "x-amz-acl")
    verify(found, "PUT", given.target, headers, "UNSIGNED-PAYLOAD", b"a secret")
    with pytest.raises(SigV4Error):
        verify(found, "PUT", given.target, [("host", headers[0][1]), ("x-amz-acl", "public-read")],
               "UNSIGNED-PAYLOAD", b"a secret")  # fmt: skip


# Identity


@pytest.mark.parametrize(
    ("service", "headers", "target"),
    [
        ("ecr", (("content-type", "application/x-amz-json-1.1"),
                 ("x-amz-target", "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken")), "/"),
        ("ecr-public", (("content-type", "application/x-amz-json-1.1"),
                        ("x-amz-target", "SpencerFrontendService.GetAuthorizationToken")), "/"),
        ("codeartifact", (), "/v1/authorization-token?domain=d"),
    ],
)  # fmt: skip
def test_a_token_for_half_a_day_is_given_by_token_alone(
    caller: Caller, service: str, headers: tuple[tuple[str, str], ...], target: str
) -> None:
    def ask() -> calls.Call:
        return request(caller, "POST", target, service=service, headers=headers, body=b"{}" if headers else None)

    for deliver in ("sign", "proxy"):
        apply(caller.gateway, statements=ALL, deliver=deliver)
        assert refused(caller, ask()) == ("call_denied", "identity_call")
        assert caller.decisions()[-1]["facts"]["operation"] == "GetAuthorizationToken"
    apply(caller.gateway, statements=ALL, deliver={"default": "sign", "token": [f"{service}:GetAuthorizationToken"]})
    assert caller.ask(ask()).way == "token"


def test_a_session_for_a_directory_bucket_is_a_session(caller: Caller) -> None:
    apply(caller.gateway, statements=ALL)
    assert refused(caller, request(caller, target="/data?session")) == ("call_denied", "identity_call")


@pytest.mark.parametrize("action", ["AssumeRole", "AssumeRoot", "GetSessionToken", "GetFederationToken",
                                    "GetWebIdentityToken", "GetDelegatedAccessToken", "OfTomorrow"])  # fmt: skip
def test_whatever_sts_gives_out_is_kept_in(caller: Caller, action: str) -> None:
    for deliver in ("sign", "proxy"):
        apply(caller.gateway, statements=ALL, deliver=deliver)
        assert refused(caller, form(caller, "sts", action, "2011-06-15")) == ("call_denied", "identity_call")
    assert caller.ask(form(caller, "sts", "GetCallerIdentity", "2011-06-15")).way == "proxy"


# Records


def test_a_record_stays_small_whatever_is_asked(caller: Caller) -> None:
    apply(caller.gateway, statements=ALL)
    many = {f"#a{i}": f"attribute-{i}-" + "x" * 40 for i in range(9000)}
    text = " AND ".join(f"{name} = :v" for name in many)
    caller.ask(
        dynamodb(
            caller,
            "PutItem",
            {
                "TableName": "orders",
                "Item": {"id": {"S": "y" * 200_000}},
                "ConditionExpression": text,
                "ExpressionAttributeNames": many,
            },
        )
    )
    objects = "".join(f"<Object><Key>{i}{'k' * 900}</Key></Object>" for i in range(1000))
    long = f"<Object><Key>{'z' * 30_000}</Key></Object>"
    body = f"<Delete>{long}{objects}</Delete>".encode()
    caller.ask(request(caller, "POST", "/data?delete", body=body))
    agent = request(caller, unsigned=(("user-agent", "u" * 8000),))
    caller.ask(agent)
    put, delete, read = caller.decisions()
    assert put["facts"]["needs"][0]["resource"].endswith(":table/orders")
    assert put["facts"]["needs"][0]["context"]["cut"] == "true"
    assert (delete["facts"]["needs_total"], len(delete["facts"]["needs"])) == (1001, 20)
    assert "cut" not in read["facts"]["context"]
    for each in (put, delete, read):
        assert len(json.dumps(each)) < 64 * 1024


def test_a_refusal_says_no_more_than_one_can_read(caller: Caller) -> None:
    body = f"<Delete><Object><Key>{'z' * 30_000}</Key></Object></Delete>".encode()
    found = refusal(caller, request(caller, "POST", "/data?delete", body=body))
    assert found.detail is not None
    assert found.detail.startswith("s3:DeleteObject on arn:aws:s3:::data/zzz")
    assert len(found.detail) < 2000


def test_what_is_refused_is_told_though_it_comes_last(caller: Caller) -> None:
    allowed = {"Effect": "Allow", "Action": "s3:DeleteObject", "Resource": "arn:aws:s3:::data/a*"}
    apply(caller.gateway, statements=[allowed])
    keys = [*(f"a{i}" for i in range(30)), "b"]
    body = f"<Delete>{''.join(f'<Object><Key>{key}</Key></Object>' for key in keys)}</Delete>".encode()
    assert refused(caller, request(caller, "POST", "/data?delete", body=body)) == ("call_denied", "not_allowed")
    needs = caller.decisions()[-1]["facts"]["needs"]
    assert (needs[0]["resource"], needs[0]["decision"]) == ("arn:aws:s3:::data/b", "not_allowed")
    assert (needs[1]["resource"], needs[1]["decision"]) == ("arn:aws:s3:::data/a0", "allowed")


# Bodies


def test_a_hash_of_digits_alone_is_a_hash(caller: Caller) -> None:
    apply(caller.gateway, deliver="proxy")
    call = request(caller, "PUT", payload="0" * 64)
    with caller.within(Name.INSTANCE_CALL_CARRY) as opened:
        passage = caller.carry.begin(opened, caller.identity, call, None)
    assert passage.payload_sha256 == "0" * 64
    assert caller.decisions("instance:call:carry")[-1]["facts"]["payload"] == "hash"


def test_what_the_gateway_sends_it_frames_itself(caller: Caller) -> None:
    apply(caller.gateway, statements=ALL, deliver="proxy")
    found = []
    for call in (put(caller, 3000), request(caller, "POST", "/2015-03-31/functions/f/invocations", service="lambda")):
        with caller.within(Name.INSTANCE_CALL_CARRY) as opened:
            found.append(caller.carry.begin(opened, caller.identity, call, None))
    assert [("content-length" in dict(each.headers), each.expect) for each in found] == [(False, True), (False, False)]


def test_a_compressed_body_that_would_have_to_be_read_is_refused(caller: Caller) -> None:
    apply(caller.gateway, statements=ALL)
    body = b"<Delete><Object><Key>a</Key></Object></Delete>"
    call = request(caller, "POST", "/data?delete", headers=(("content-encoding", "gzip"),), body=body)
    assert refused(caller, call)[0] == "body_required"
    call = replace(call, body=base64.b64encode(b"<Delete/>").decode())
    assert refused(caller, call) == ("signature_refused", "payload_differs")


def test_a_body_that_is_not_base64_is_malformed(caller: Caller) -> None:
    call = dynamodb(caller, "GetItem", {"TableName": "orders"})
    assert refused(caller, replace(call, body="AAA=AAAA")) == ("call_malformed", "body_malformed")


# Limits


def put(caller: Caller, announced: int | None = None, **more: Any) -> calls.Call:
    length = () if announced is None else (("content-length", str(announced)),)
    payload = more.pop("payload", hashlib.sha256(b"x").hexdigest())
    return request(caller, "PUT", headers=(*length, *more.pop("headers", ())), payload=payload, **more)


def test_what_is_announced_is_signed_and_what_is_not_is_not_uploaded(caller: Caller) -> None:
    given = caller.ask(put(caller, 3000))
    headers = [(header.name, header.value) for header in given.headers]
    assert ("content-length", "3000") in headers
    assert "content-length" in parse_authorization("PUT", "/data/a", headers).signed_headers
    assert caller.ask(put(caller)).way == "sign"  # without a limit nobody has to say it
    apply(caller.gateway, limits={"bytes": "10KB/minute"})
    assert refused(caller, put(caller)) == ("signature_refused", "length_missing")
    unsigned = put(caller, unsigned=(("content-length", "1"),))
    assert refused(caller, unsigned) == ("signature_refused", "length_missing")
    assert refused(caller, put(caller, headers=(("content-length", "1e3"),)))[1] == "length_missing"
    lied = put(caller, headers=(("x-amz-decoded-content-length", "1"),))
    assert refused(caller, lied) == ("signature_refused", "length_missing")
    assert caller.ask(request(caller)).way == "sign"
    assert caller.ask(request(caller, payload="UNSIGNED-PAYLOAD")).way == "sign"
    caller.ask(put(caller, payload=NOTHING))
    caller.ask(dynamodb(caller, "GetItem", {"TableName": "orders"}))
    assert [each["facts"]["bytes"] for each in caller.decisions()[-4:]] == [0, 0, 0, 23]


def test_of_a_body_with_a_trailer_the_decoded_length_counts(caller: Caller) -> None:
    apply(caller.gateway, limits={"bytes": "10KB/minute"}, unsigned_payload=True)
    trailer = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
    caller.ask(put(caller, 10_200, headers=(("x-amz-decoded-content-length", "9000"),), payload=trailer))
    assert caller.decisions()[-1]["facts"]["bytes"] == 9000
    assert refused(caller, put(caller, 1, payload=trailer)) == ("signature_refused", "length_missing")


def test_a_thousand_keys_are_a_thousand_deletions(caller: Caller) -> None:
    allowed = {"Effect": "Allow", "Action": ["s3:DeleteObject", "ec2:*", "iam:*"], "Resource": "*"}
    apply(caller.gateway, statements=[allowed], limits={"actions": {"s3:Delete*": "6/hour", "s3:Put*": "1/day"}})

    def delete(count: int) -> calls.Call:
        keys = "".join(f"<Object><Key>{i}</Key></Object>" for i in range(count))
        return request(caller, "POST", "/data?delete", body=f"<Delete>{keys}</Delete>".encode())

    caller.ask(delete(4))
    assert refused(caller, delete(3)) == ("too_many_requests", "limit_reached")
    caller.ask(delete(2))
    assert refused(caller, request(caller, "DELETE")) == ("too_many_requests", "limit_reached")
    caller.gateway.time.passes(timedelta(minutes=10))
    caller.ask(request(caller, "DELETE"))


def test_another_call_is_one_though_it_takes_an_action_of_many_things(caller: Caller) -> None:
    apply(caller.gateway, statements=ALL, limits={"actions": {"ssm:*": "2/hour"}})
    headers = (("content-type", "application/x-amz-json-1.1"), ("x-amz-target", "AmazonSSM.GetParameters"))
    body = json.dumps({"Names": [f"/{i}" for i in range(10)]}).encode()
    for _ in range(2):
        caller.ask(request(caller, "POST", "/", service="ssm", headers=headers, body=body))
    assert caller.decisions()[-1]["facts"]["needs_total"] == 10


def test_what_cannot_be_known_counts_for_every_limit(caller: Caller) -> None:
    apply(caller.gateway, statements=ALL, limits={"actions": {"s3:*": "1/hour"}})
    caller.ask(dynamodb(caller, "OfTomorrow", {}))
    assert refused(caller, dynamodb(caller, "OfTomorrow", {})) == ("too_many_requests", "limit_reached")
    caller.ask(dynamodb(caller, "GetItem", {"TableName": "orders"}))


def test_callers_at_one_moment_share_a_limit_and_none_of_them_fails_otherwise(caller: Caller) -> None:
    apply(caller.gateway, limits={"requests": "20/hour", "bytes": "1GB/hour"})
    caller.ask(request(caller))
    workers = [Caller(caller.gateway, caller.identity) for _ in range(6)]

    def work(worker: Caller) -> list[str]:
        found = []
        for _ in range(5):
            try:
                worker.ask(put(worker, 10))
                found.append("ok")
            except Refusal as refusal:
                found.append(refusal.code)
        return found

    with ThreadPoolExecutor(len(workers)) as pool:
        found = [each for outcomes in pool.map(work, workers) for each in outcomes]
    assert sorted(found) == ["ok"] * 19 + ["too_many_requests"] * 11


# Dummy keys


def test_of_too_many_keys_the_oldest_go(caller: Caller) -> None:
    first = caller.access_key_id
    names = [f"TGDK{'B' * 14}{tens}{ones}" for tens in "ABCDEFGH" for ones in "ABCDEFGH"]
    assert len(names) == MOST
    for name in names:
        caller.gateway.time.passes(timedelta(seconds=1))
        caller.register(access_key_id=name)
    assert refused(caller, request(caller)) == ("signature_refused", "key_unknown")
    for name in (names[0], names[-1]):
        caller.access_key_id = name
        assert caller.ask(request(caller)).way == "sign"
    caller.access_key_id = first
    caller.register()
    assert caller.ask(request(caller)).way == "sign"


def test_a_dummy_key_is_of_one_key_of_its_machine(caller: Caller) -> None:
    instance = caller.identity.instance
    renewed = Caller(caller.gateway, replace(caller.identity, instance=replace(instance, key_sha256="e" * 64)))
    assert refused(renewed, request(renewed)) == ("signature_refused", "dummy_key_outdated")
    assert caller.ask(request(caller)).way == "sign"
