"""SigV4, stage by stage: against AWS's suite (frozen vectors), and against botocore on whatever hypothesis finds.

What is refused is in `test_sigv4_refusals`.
"""

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth, SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from gateway.wire import sigv4
from gateway.wire.sigv4 import Scope, SigV4Error
from tests import vectors
from tests.vectors.sigv4 import CASES, HOST, SECRET, STAMP

VECTORS: dict[str, dict[str, Any]] = json.loads((Path(vectors.__file__).parent / "sigv4.json").read_text())
KEY_ID, KEY = "AKIDEXAMPLE", SECRET.encode()
NOW = datetime(2015, 8, 30, 12, 36, tzinfo=UTC)


def scope(service: str) -> Scope:
    return Scope("20150830", "us-east-1", service)


def hash_of(body: str) -> str:
    return hashlib.sha256(body.encode()).hexdigest()


def test_the_vectors_are_of_the_table() -> None:
    assert VECTORS.keys() == CASES.keys()
    assert all({**each, **CASES[name]} == each for name, each in VECTORS.items())
    assert len([name for name, each in CASES.items() if each["service"] == "service"]) == 29


@pytest.mark.threat("E01")
@pytest.mark.parametrize("name", VECTORS)
def test_each_stage_is_as_in_the_suite(name: str) -> None:
    each = VECTORS[name]
    headers = [(header, value) for header, value in each["headers"]]
    sent = sigv4.sign(
        each["method"], each["target"], headers, hash_of(each["body"]), access_key_id=KEY_ID, secret=KEY,
        token=each["token"], scope=scope(each["service"]), stamp=STAMP,
    )  # fmt: skip
    assert dict(sent)["authorization"] == each["authorization"]
    found = sigv4.parse_authorization(each["method"], each["target"], sent)
    canonical = sigv4.canonical_request(
        each["method"], each["target"], sent, found.signed_headers, hash_of(each["body"]), each["service"]
    )
    assert canonical == each["canonical_request"]
    assert sigv4.string_to_sign(canonical, STAMP, scope(each["service"])) == each["string_to_sign"]
    assert found.signature == each["authorization"].rpartition("=")[2]
    sigv4.verify(found, each["method"], each["target"], sent, hash_of(each["body"]), KEY)
    with pytest.raises(SigV4Error, match="not right"):
        sigv4.verify(found, each["method"], each["target"], sent, hash_of(each["body"]), KEY[:-1])


@pytest.mark.threat("E01")
@pytest.mark.parametrize("name", [name for name, each in VECTORS.items() if each["presigned"]])
def test_a_presigned_url_is_botocore_s(name: str) -> None:
    each = VECTORS[name]
    made = sigv4.presign(
        each["method"], each["target"], HOST, access_key_id=KEY_ID, secret=KEY, token=each["token"],
        scope=scope(each["service"]), stamp=STAMP, expires=900,
    )  # fmt: skip
    # botocore writes the operation's parameters again, in the one form that AWS signs.
    assert sorted(made.partition("?")[2].split("&")) == sorted(each["presigned"].partition("?")[2].split("&"))
    found = sigv4.parse_authorization(each["method"], each["presigned"], [("host", HOST)])
    assert (found.presigned, found.expires, found.stamp, found.token) == (True, 900, STAMP, each["token"])
    payload = "UNSIGNED-PAYLOAD" if each["service"] == "s3" else hash_of("")
    sigv4.verify(found, each["method"], each["presigned"], [("host", HOST)], payload, KEY)
    assert sigv4.without_signature(made) == each["target"]


# Against botocore, on what hypothesis finds

SEGMENT = st.text(
    st.one_of(st.sampled_from("ab.-_~%/+ :=&?#;,@!$'()*\u00fc\u4e2d\\|\"<>^`{}[]"), st.characters(codec="utf-8")),
    max_size=12,
)
VALUE = st.text(st.sampled_from("abc 012 \t=;,/\"'%+~"), max_size=20)
NAME = st.sampled_from(("x-amz-meta-a", "x-amz-meta-b", "content-type", "range", "my-header", "if-match", "user-agent"))


def quoted(text: str, safe: str) -> str:
    """As botocore's serializers write it."""
    from botocore.utils import percent_encode

    return str(percent_encode(text, safe))


TARGETS = st.builds(
    lambda path, query: "/" + quoted(path, "/~") + (f"?{'&'.join(query)}" if query else ""),
    SEGMENT,
    st.lists(st.builds(lambda k, v: f"{quoted('k' + k, '-._~')}={quoted(v, '-._~')}", SEGMENT, SEGMENT), max_size=4),
)


def theirs(signer: Any, request: AWSRequest) -> None:
    with mock.patch("botocore.auth.get_current_datetime", return_value=NOW):
        signer.add_auth(request)


@pytest.mark.threat("E01")
@given(
    TARGETS,
    st.dictionaries(NAME, VALUE, max_size=5),
    st.sampled_from(("GET", "PUT", "POST", "DELETE", "HEAD")),
    st.binary(max_size=50),
    st.none() | st.text(st.sampled_from("ab+/="), min_size=1),
    st.booleans(),
)
def test_every_request_is_signed_as_botocore_signs_it(
    target: str, fields: dict[str, str], method: str, body: bytes, token: str | None, of_s3: bool
) -> None:
    service = "s3" if of_s3 else "execute-api"
    request = AWSRequest(method, f"https://{HOST}{target}", headers={"host": HOST, **fields}, data=body)
    signer = (S3SigV4Auth if of_s3 else SigV4Auth)(Credentials(KEY_ID, SECRET, token), service, "us-east-1")
    theirs(signer, request)
    headers = [(name.lower(), value) for name, value in request.headers.items()]
    payload = hashlib.sha256(body).hexdigest()
    found = sigv4.parse_authorization(method, target, headers)
    canonical = sigv4.canonical_request(method, target, headers, found.signed_headers, payload, service)
    del request.headers["Authorization"]  # botocore would sign it
    assert canonical == signer.canonical_request(request)
    assert sigv4.string_to_sign(canonical, STAMP, found.scope) == signer.string_to_sign(request, canonical)
    sigv4.verify(found, method, target, headers, payload, KEY)
    ours = sigv4.sign(
        method, target, [("host", HOST), *fields.items()], payload,
        access_key_id=KEY_ID, secret=KEY, token=token, scope=found.scope, stamp=STAMP,
    )  # fmt: skip
    assert sorted(ours) == sorted(headers)


@given(TARGETS, st.integers(1, 604800), st.none() | st.text(st.sampled_from("ab+/="), min_size=1), st.booleans())
def test_every_url_is_presigned_as_botocore_does_it(target: str, expires: int, token: str | None, of_s3: bool) -> None:
    service = "s3" if of_s3 else "sts"
    request = AWSRequest("GET", f"https://{HOST}{target}", headers={"host": HOST})
    signer = (S3SigV4QueryAuth if of_s3 else SigV4QueryAuth)(
        Credentials(KEY_ID, SECRET, token), service, "us-east-1", expires=expires
    )
    theirs(signer, request)
    url = str(request.url).removeprefix(f"https://{HOST}")
    payload = "UNSIGNED-PAYLOAD" if of_s3 else hash_of("")
    sigv4.verify(sigv4.parse_authorization("GET", url, [("host", HOST)]), "GET", url, [("host", HOST)], payload, KEY)
    names = [part.partition("=")[0] for part in target.partition("?")[2].split("&")]
    if len(names) == len(set(names)):  # botocore keeps one value of each name
        made = sigv4.presign(
            "GET", target, HOST, access_key_id=KEY_ID, secret=KEY, token=token, scope=scope(service), stamp=STAMP,
            expires=expires,
        )  # fmt: skip
        assert made == url


@given(TARGETS, st.sampled_from(("s3", "lambda")), st.integers(0, 500), st.characters(codec="ascii"))
def test_no_byte_of_a_target_can_be_changed(target: str, service: str, at: int, letter: str) -> None:
    """But for what two targets mean alike: then what was signed is the same, too."""
    sent = sigv4.sign("GET", target, [("host", HOST)], hash_of(""), access_key_id=KEY_ID, secret=KEY, token=None,
                      scope=scope(service), stamp=STAMP)  # fmt: skip
    found = sigv4.parse_authorization("GET", target, sent)
    at %= len(target)
    changed = target[:at] + letter + target[at + 1 :]
    same = False
    try:
        canonical = [
            sigv4.canonical_request("GET", each, sent, found.signed_headers, hash_of(""), service)
            for each in (target, changed)
        ]
        same = canonical[0] == canonical[1]
        sigv4.verify(found, "GET", changed, sent, hash_of(""), KEY)
    except SigV4Error:
        assert not same
    else:
        assert same


# What else is known


@pytest.mark.parametrize(
    ("service", "target", "path", "query"),
    [
        ("s3", "/b/a%2Fb//c/./../d", "/b/a%2Fb//c/./../d", ""),
        ("s3", "/b/a+b", "/b/a+b", ""),
        ("lambda", "/a%2Fb//c/./../d/", "/a%252Fb/d/", ""),
        ("lambda", "/a:b/%3A", "/a%3Ab/%253A", ""),
        ("lambda", "/../..", "/", ""),
        ("lambda", "/a/..//", "/", ""),
        ("s3", "/?a+b=c+d", "/", "a%2Bb=c%2Bd"),
        ("s3", "/?a=%2b&a=%7e&A", "/", "A=&a=%2B&a=~"),
        ("s3", "/?a=b=c&&a=b!&", "/", "a=b%21&a=b%3Dc"),
        ("s3", "/?a-b=1&a=2&a.=3", "/", "a=2&a-b=1&a.=3"),
        ("s3", "/?x?y/z", "/", "x%3Fy%2Fz="),
        ("s3", "/?", "/", ""),
        ("s3", "/?a=1&X-Amz-Signature=0", "/", "a=1"),
        ("s3", "/?a=%FF%00", "/", "a=%FF%00"),
    ],
)
def test_the_canonical_target(service: str, target: str, path: str, query: str) -> None:
    lines = sigv4.canonical_request("GET", target, [("host", HOST)], ("host",), "x", service).split("\n")
    assert lines[1:3] == [path, query]


def test_blanks_and_bytes_of_headers() -> None:
    headers = [("a", "  x \t y  "), ("b", "\u00fc"), ("c", ""), ("a", "z"), ("host", HOST)]
    canonical = sigv4.canonical_request("GET", "/", headers, ("a", "b", "c"), "x", "s3")
    assert canonical.split("\n")[3:6] == ["a:x y,z", "b:\u00fc", "c:"]
    sigv4.string_to_sign(canonical, STAMP, scope("s3"))


def test_what_is_signed_and_what_is_replaced() -> None:
    given_ = [
        ("host", HOST), ("user-agent", "x"), ("connection", "close"), ("expect", "100-continue"), ("x-amz-date", "old"),
        ("authorization", "old"), ("x-amz-security-token", "old"), ("date", "old"), ("x-amz-meta-a", "1"),
    ]  # fmt: skip
    common = {"access_key_id": KEY_ID, "secret": KEY, "stamp": STAMP}
    sent = sigv4.sign("GET", "/", given_, hash_of(""), token=None, scope=scope("sqs"), **common)  # type: ignore[arg-type]
    assert [name for name, _ in sent] == [
        "host", "user-agent", "connection", "expect", "x-amz-meta-a", "x-amz-date", "authorization",
    ]  # fmt: skip
    assert "SignedHeaders=host;x-amz-date;x-amz-meta-a," in sent[-1][1]
    for headers, payload, service in (
        (given_, hash_of(""), "s3"),
        (given_, "UNSIGNED-PAYLOAD", "sqs"),
        ([*given_, ("x-amz-content-sha256", "old")], hash_of(""), "sqs"),
    ):
        sent = sigv4.sign("GET", "/", headers, payload, token="new", scope=scope(service), **common)  # type: ignore[arg-type]
        assert [each for each in sent if "amz-c" in each[0] or "token" in each[0]] == [
            ("x-amz-security-token", "new"), ("x-amz-content-sha256", payload),
        ]  # fmt: skip
        sigv4.verify(sigv4.parse_authorization("GET", "/", sent), "GET", "/", sent, payload, KEY)


def test_a_date_header_is_as_good() -> None:
    """AWS takes Date where X-Amz-Date is missing; botocore signs so when Date is there."""
    request = AWSRequest("GET", f"https://{HOST}/", headers={"host": HOST, "date": "x"})
    theirs(SigV4Auth(Credentials(KEY_ID, SECRET), "sqs", "us-east-1"), request)
    headers = [(name.lower(), value) for name, value in request.headers.items()]
    assert ("date", "Sun, 30 Aug 2015 12:36:00 -0000") in headers
    found = sigv4.parse_authorization("GET", "/", headers)
    assert found.stamp == STAMP
    assert sigv4.parse_authorization("GET", "/", [(n, v.replace("-0000", "GMT")) for n, v in headers]) == found
    sigv4.verify(found, "GET", "/", headers, hash_of(""), KEY)


def test_what_is_printed_holds_no_signature_and_no_token() -> None:
    sent = sigv4.sign("GET", "/", [("host", HOST)], hash_of(""), access_key_id=KEY_ID, secret=KEY, token="to-ken",
                      scope=scope("sqs"), stamp=STAMP)  # fmt: skip
    found = sigv4.parse_authorization("GET", "/", sent)
    assert found.token == "to-ken"
    assert found.signature not in repr(found)
    assert "to-ken" not in repr(found)
