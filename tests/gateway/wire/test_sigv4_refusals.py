"""SigV4: all that is refused, each with its reason. Every case is one that would be right, changed in one place."""

import hashlib
from typing import Any

import pytest
from botocore.auth import HmacV1Auth, HmacV1QueryAuth, SigV2Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from gateway.wire import sigv4, sigv4_authorization
from gateway.wire.sigv4 import Scope, SigV4Error

HOST = "queue.amazonaws.com"
KEY_ID, KEY = "AKIDEXAMPLE", b"secret"
STAMP = "20150830T123600Z"
SCOPE = Scope("20150830", "us-east-1", "sqs")
NOTHING = hashlib.sha256(b"").hexdigest()
KEYS: dict[str, Any] = {"access_key_id": KEY_ID, "secret": KEY, "scope": SCOPE, "stamp": STAMP}
Fields = list[tuple[str, str]]

GIVEN: Fields = [("host", HOST), ("content-type", "text/plain"), ("x-amz-target", "A.B")]
SENT = list(sigv4.sign("POST", "/a?b=c", GIVEN, NOTHING, token="token", **KEYS))
URL = sigv4.presign("GET", "/a?b=c", HOST, token="token", expires=900, **KEYS)
AUTHORIZATION = dict(SENT)["authorization"]


def judge(method: str, target: str, headers: Fields, payload: str = NOTHING) -> None:
    """What a gateway does. Raises SigV4Error."""
    sigv4.verify(sigv4.parse_authorization(method, target, headers), method, target, headers, payload, KEY)


def reason(method: str, target: str, headers: Fields, payload: str = NOTHING) -> str:
    with pytest.raises(SigV4Error) as refused:
        judge(method, target, headers, payload)
    assert str(refused.value).startswith(sigv4_authorization.REASONS[refused.value.reason])
    return refused.value.reason


def with_header(name: str, value: str) -> Fields:
    return [(each, value if each == name else old) for each, old in SENT]


def signed_by(authorization: str) -> Fields:
    return with_header("authorization", authorization)


def resigned(fields: Fields, names: str) -> Fields:
    """A request that is signed right over these header names, whatever we would say of them."""
    canonical = sigv4.canonical_request("POST", "/a?b=c", fields, names.split(";"), NOTHING, "sqs")
    made = sigv4.signature(sigv4.signing_key(KEY, SCOPE), sigv4.string_to_sign(canonical, STAMP, SCOPE))
    value = f"AWS4-HMAC-SHA256 Credential={KEY_ID}/{SCOPE}, SignedHeaders={names}, Signature={made}"
    return [*(field for field in fields if field[0] != "authorization"), ("authorization", value)]


def test_unchanged_both_are_right() -> None:
    judge("POST", "/a?b=c", SENT)
    judge("GET", URL, [("host", HOST)])
    names = AUTHORIZATION.partition("SignedHeaders=")[2].partition(",")[0]
    judge("POST", "/a?b=c", resigned(SENT, names))
    judge("POST", "/a?b=c", signed_by(AUTHORIZATION.replace(", ", ",")))  # as s3cmd writes it


@pytest.mark.parametrize(
    ("method", "target", "payload"),
    [
        ("PUT", "/a?b=c", NOTHING),
        ("POST", "/a?b=d", NOTHING),
        ("POST", "/A?b=c", NOTHING),
        ("POST", "/a?b=c&d", NOTHING),
        ("POST", "/a?b=c", hashlib.sha256(b"x").hexdigest()),
    ],
)
def test_another_request_is_another_signature(method: str, target: str, payload: str) -> None:
    assert reason(method, target, SENT, payload) == "signature_wrong"


@pytest.mark.parametrize("name", ["host", "content-type", "x-amz-target", "x-amz-security-token"])
def test_another_header_is_another_signature(name: str) -> None:
    assert reason("POST", "/a?b=c", with_header(name, "changed")) == "signature_wrong"


@pytest.mark.threat("E09")
@pytest.mark.parametrize(
    ("authorization", "why"),
    [
        (AUTHORIZATION.replace("AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256"), "sigv4a"),
        (AUTHORIZATION.replace("AWS4-HMAC-SHA256", "AWS4-HMAC-SHA1"), "hmac_sha1"),
        (AUTHORIZATION.replace("AWS4-HMAC-SHA256", "AWS4-HMAC-SHA512"), "algorithm_unknown"),
        (AUTHORIZATION.replace("AWS4-HMAC-SHA256", "aws4-hmac-sha256"), "algorithm_unknown"),
        ("AWS4-X509-RSA-SHA256 x", "algorithm_unknown"),
        ("Bearer x", "algorithm_unknown"),
        ("", "algorithm_unknown"),
        ("AWS AKIDEXAMPLE:c2ln", "sigv2"),
    ],
)
def test_other_algorithms_are_told_apart(authorization: str, why: str) -> None:
    assert reason("POST", "/a?b=c", signed_by(authorization)) == why


@pytest.mark.threat("E09")
@pytest.mark.parametrize(
    ("algorithm", "why"),
    [("AWS4-ECDSA-P256-SHA256", "sigv4a"), ("AWS4-HMAC-SHA1", "hmac_sha1"), ("MD5", "algorithm_unknown")],
)
def test_other_algorithms_of_presigned_urls_too(algorithm: str, why: str) -> None:
    assert reason("GET", URL.replace("AWS4-HMAC-SHA256", algorithm), [("host", HOST)]) == why


@pytest.mark.threat("E09")
def test_what_botocore_presigns_by_default_is_refused_with_the_setting_that_helps() -> None:
    request = AWSRequest("GET", f"https://{HOST}/b/k", headers={"host": HOST})
    HmacV1QueryAuth(Credentials(KEY_ID, "s")).add_auth(request)
    target = str(request.url).removeprefix(f"https://{HOST}")
    assert reason("GET", target, [("host", HOST)]) == "sigv2_presigned"
    with pytest.raises(SigV4Error, match="signature_version = s3v4"):
        sigv4.parse_authorization("GET", target, [("host", HOST)])
    signed = AWSRequest("GET", f"https://{HOST}/b/k", headers={"host": HOST})
    HmacV1Auth(Credentials(KEY_ID, "s")).add_auth(signed)
    assert reason("GET", "/b/k", [(n.lower(), v) for n, v in signed.headers.items()]) == "sigv2"
    form = AWSRequest("GET", f"https://{HOST}/", params={"Action": "X"}, headers={"host": HOST})
    SigV2Auth(Credentials(KEY_ID, "s")).add_auth(form)
    assert reason("GET", f"/?{'&'.join(f'{k}=x' for k in form.params)}", [("host", HOST)]) == "sigv2_presigned"


@pytest.mark.threat("E04")
@pytest.mark.parametrize("name", ["host", "x-amz-date", "x-amz-security-token", "authorization", "x-amz-target",
                                  "content-type"])  # fmt: skip
def test_what_may_stand_only_once(name: str) -> None:
    again = (name, dict(SENT)[name])
    assert reason("POST", "/a?b=c", [*SENT, again]) == "header_repeated"
    assert reason("POST", "/a?b=c", [again, *SENT]) == "header_repeated"
    if name in ("authorization", "x-amz-date", "x-amz-security-token"):  # what is read before anything is verified
        with pytest.raises(SigV4Error, match=name):
            sigv4.parse_authorization("POST", "/a?b=c", [*SENT, again])


@pytest.mark.threat("E04")
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("x-meta", "a\r\nx-amz-acl: public-read"), ("x-meta", "a\nb"), ("x-meta", "a\rb"), ("x-meta", "a\0b"),
        ("x-meta", "\x7f"), ("x-meta", "\u0100"), ("x-meta\r\nhost", "a"), ("x meta", "a"), ("x-meta:", "a"), ("", "a"),
        ("X-Amz-Acl", "private"),
    ],
)  # fmt: skip
def test_headers_that_http_does_not_allow(name: str, value: str) -> None:
    assert reason("POST", "/a?b=c", [*SENT, (name, value)]) == "header_malformed"


@pytest.mark.threat("E04")
@pytest.mark.parametrize("name", ["authorization", "connection", "keep-alive", "te", "trailer", "transfer-encoding",
                                  "upgrade", "proxy-authorization"])  # fmt: skip
def test_headers_that_cannot_be_signed(name: str) -> None:
    fields = [(each, value) for each, value in SENT if each != "authorization"]
    if name != "authorization":
        fields.append((name, "x"))
    known = {each for each, _ in fields}
    names = ";".join(sorted(known | {name}))
    over = resigned([*fields, ("authorization", "x")] if name == "authorization" else fields, names)
    assert reason("POST", "/a?b=c", over) == "signed_headers_refused"


@pytest.mark.threat("E02", "E04")
@pytest.mark.parametrize("name", ["host", "content-type", "x-amz-target", "x-amz-security-token", "x-amz-date"])
def test_what_aws_acts_on_must_be_signed(name: str) -> None:
    names = AUTHORIZATION.partition("SignedHeaders=")[2].partition(",")[0].split(";")
    over = resigned(SENT, ";".join(each for each in names if each != name))
    assert reason("POST", "/a?b=c", over) == "header_unsigned"


@pytest.mark.threat("E02", "E04")
@pytest.mark.parametrize("name", ["x-amz-acl", "x-amz-copy-source", "x-amz-meta-a", "x-amz-"])
def test_what_was_added_on_the_way_is_refused(name: str) -> None:
    assert reason("POST", "/a?b=c", [*SENT, (name, "x")]) == "header_unsigned"
    assert reason("GET", URL, [("host", HOST), (name, "x")]) == "header_unsigned"
    judge("POST", "/a?b=c", [*SENT, ("x-forwarded-for", "x"), ("x-amzn-trace-id", "x"), ("user-agent", "x")])


@pytest.mark.threat("E02")
def test_the_host_must_be_signed_and_there() -> None:
    without = [(name, value) for name, value in SENT if name != "host"]
    assert reason("POST", "/a?b=c", without) == "signed_header_missing"
    assert reason("GET", URL, []) == "signed_header_missing"
    with pytest.raises(SigV4Error, match="host"):
        sigv4.sign("GET", "/", [], NOTHING, token=None, **KEYS)


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("Credential=", "Credential= ", "authorization_malformed"),
        ("/sqs/", "/", "authorization_malformed"),
        ("aws4_request", "aws4_x", "authorization_malformed"),
        ("Signature=", "Signature=0", "authorization_malformed"),
        (AUTHORIZATION[-64:], AUTHORIZATION[-64:].upper(), "authorization_malformed"),
        (AUTHORIZATION[-64:], AUTHORIZATION[-64:] + "\n", "authorization_malformed"),
        ("content-type;host", "host;content-type", "signed_headers_malformed"),
        ("content-type;host", "content-type;content-type;host", "signed_headers_malformed"),
        ("content-type;host", "Content-Type;host", "signed_headers_malformed"),
        ("content-type;host", ";content-type;host", "signed_headers_malformed"),
        ("content-type;host", "content-type;host;host2", "signed_header_missing"),
        ("20150830/", "20150831/", "date_differs"),
        ("us-east-1", "us-east-2", "signature_wrong"),
        ("/sqs/", "/sns/", "signature_wrong"),
        (KEY_ID, "AKIDEXAMPL\u00c9", "authorization_malformed"),
    ],
)
def test_the_authorization_is_read_to_the_letter(old: str, new: str, why: str) -> None:
    changed = AUTHORIZATION.replace(old, new)
    assert changed != AUTHORIZATION
    assert reason("POST", "/a?b=c", signed_by(changed)) == why


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("X-Amz-Expires=900", "X-Amz-Expires=604801", "expires_malformed"),
        ("X-Amz-Expires=900", "X-Amz-Expires=0", "expires_malformed"),
        ("X-Amz-Expires=900", "X-Amz-Expires=-1", "expires_malformed"),
        ("X-Amz-Expires=900", "X-Amz-Expires=%2B900", "expires_malformed"),
        ("X-Amz-Expires=900", "X-Amz-Expires=0900", "expires_malformed"),
        ("X-Amz-Expires=900", "X-Amz-Expires=901", "signature_wrong"),
        ("X-Amz-Expires=900", "X-Amz-Expires=900&X-Amz-Expires=900", "parameter_repeated"),
        ("X-Amz-Expires=900", "X-Amz-Expires=900&x-amz-expires=900", "parameter_malformed"),
        ("X-Amz-Expires=900", "X%2DAmz-Expires=900", "parameter_malformed"),
        ("X-Amz-Expires=900&", "", "parameter_missing"),
        ("X-Amz-Signature=", "X-Amz-Signature=0", "parameter_malformed"),
        ("X-Amz-Credential=", "X-Amz-Credential=%20", "parameter_malformed"),
        ("X-Amz-SignedHeaders=host", "X-Amz-SignedHeaders=", "signed_headers_malformed"),
        ("X-Amz-SignedHeaders=host", "X-Amz-SignedHeaders=connection", "signed_headers_refused"),
        ("X-Amz-Security-Token=token", "X-Amz-Security-Token=other", "signature_wrong"),
        ("&X-Amz-Security-Token=token", "", "signature_wrong"),
        ("20150830T123600Z", "20150832T123600Z", "date_malformed"),
        ("20150830T123600Z", "20150831T123600Z", "date_differs"),
        ("b=c", "b=c&AWSAccessKeyId=x", "sigv2_presigned"),
    ],
)
def test_a_presigned_url_is_read_to_the_letter(old: str, new: str, why: str) -> None:
    assert old in URL
    assert reason("GET", URL.replace(old, new), [("host", HOST)]) == why


@pytest.mark.threat("E04")
def test_one_request_has_one_signature() -> None:
    query = URL.partition("?")[2]
    assert reason("POST", f"/a?{query}", SENT) == "two_signatures"
    assert reason("POST", "/a?b=c&X-Amz-Security-Token=x", SENT) == "two_signatures"
    assert reason("POST", "/a?b=c&x-amz-date=x", SENT) == "parameter_malformed"
    assert reason("GET", URL, [("host", HOST), ("x-amz-security-token", "token")]) == "two_signatures"
    assert reason("GET", URL, [("host", HOST), ("x-amz-date", STAMP)]) == "two_signatures"
    assert reason("GET", "/", [("host", HOST)]) == "unsigned"
    with pytest.raises(SigV4Error, match="in its headers and in its query"):
        sigv4.sign("GET", URL, [("host", HOST)], NOTHING, token=None, **KEYS)
    with pytest.raises(SigV4Error, match="in its headers and in its query"):
        sigv4.presign("GET", URL, HOST, token=None, expires=1, **KEYS)


@pytest.mark.parametrize(
    ("written", "why"),
    [
        ("20150830T123600", "date_malformed"),
        ("20150230T123600Z", "date_malformed"),
        ("20150830T126000Z", "date_malformed"),
        ("2015-08-30T12:36:00Z", "date_malformed"),
        ("20150831T000000Z", "date_differs"),
        ("", "date_malformed"),
    ],
)
def test_dates_that_are_none(written: str, why: str) -> None:
    assert reason("POST", "/a?b=c", with_header("x-amz-date", written)) == why


def test_a_date_header_must_be_one_and_signed() -> None:
    without = [(name, value) for name, value in SENT if name != "x-amz-date"]
    names = "content-type;date;host;x-amz-security-token;x-amz-target"
    date = ("date", "Sun, 30 Aug 2015 12:36:00 GMT")
    judge("POST", "/a?b=c", resigned([*without, date], names))
    assert reason("POST", "/a?b=c", resigned([*without, date], names.replace("date;", ""))) == "header_unsigned"
    assert reason("POST", "/a?b=c", resigned(without, names.replace("date;", ""))) == "date_missing"
    for written in ("Sun, 30 Aug 2015 12:36:00 CET", "30 Aug 2015 12:36:00 GMT", "Sun, 30 Foo 2015 12:36:00 GMT"):
        assert reason("POST", "/a?b=c", resigned([*without, ("date", written)], names)) == "date_malformed"


def test_the_payload_is_what_the_header_says() -> None:
    given_ = [*GIVEN, ("x-amz-content-sha256", "x")]
    sent = list(sigv4.sign("POST", "/", given_, "UNSIGNED-PAYLOAD", token=None, **KEYS))
    judge("POST", "/", sent, "UNSIGNED-PAYLOAD")
    assert reason("POST", "/", sent, NOTHING) == "payload_differs"


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("GET", ""), ("GET", "a"), ("GET", "/a b"), ("GET", "/a#b"), ("GET", "/%"), ("GET", "/%2"), ("GET", "/?a=%zz"),
        ("GET", "/\u00fc"), ("GET", "/\r\nx"), ("GET", "*"), ("GET", "http://x/"), ("get", "/"), ("", "/"),
        ("GE T", "/"), ("GET\n", "/"), ("GET", "/" + "a" * 5000 + " "),
    ],
)  # fmt: skip
def test_targets_that_http_does_not_allow(method: str, target: str) -> None:
    with pytest.raises(SigV4Error) as refused:
        sigv4.sign(method, target, [("host", HOST)], NOTHING, token=None, **KEYS)
    assert refused.value.reason == "target_malformed"


@pytest.mark.parametrize("expires", [0, -1, 604801])
def test_a_url_lives_at_most_a_week(expires: int) -> None:
    with pytest.raises(SigV4Error, match="604800"):
        sigv4.presign("GET", "/", HOST, token=None, expires=expires, **KEYS)


def test_a_stamp_is_of_the_scope_s_day() -> None:
    with pytest.raises(SigV4Error, match="day"):
        sigv4.sign("GET", "/", [("host", HOST)], NOTHING, token=None, **{**KEYS, "stamp": "20150831T123600Z"})


def test_no_value_of_a_request_is_in_an_error() -> None:
    with pytest.raises(SigV4Error) as refused:
        judge("POST", "/a?b=c", [*SENT, ("x-amz-security-token", "to-ken-2")])
    assert "to-ken" not in str(refused.value)
    assert refused.value.reason == "header_repeated"
