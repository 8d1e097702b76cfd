"""CreateSession's signature: what AWS's clients sent is right, and whatever differs in one thing is refused."""

import base64
import json
import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from gateway.core import session_order
from gateway.core.errors import Refusal
from gateway.core.profile import read as read_profile
from gateway.core.rolesanywhere import Received, verify
from tests.foreign import Asking, ForeignCa, Holder, ec_key, parameters, rsa_key

FROZEN = Path(__file__).parents[2] / "vectors" / "rolesanywhere.json"
MORE = os.environ.get("ROLESANYWHERE_VECTORS")  # more requests that were captured, for whoever has them
NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
CA = ForeignCa(at=NOW)
HOLDER, OTHER = CA.leaf("host-1"), CA.leaf("host-2")
ASKED = parameters("corp", "web", "arn:aws:iam::111122223333:role/reader")


def received(asking: Asking, **changed: str) -> Received:
    return Received(asking.target, {**asking.sign(), **changed}, asking.raw)


RIGHT = Asking(HOLDER, ASKED, at=NOW, headers={"amz-sdk-request": "attempt=1; max=3"})


def captured() -> Iterator[tuple[str, Received]]:
    """Real requests: ours to make, and those that are there besides."""
    for client, cases in json.loads(FROZEN.read_text()).items():
        for name, case in cases.items():
            headers = {key.lower(): value for key, value in case["headers"].items()}
            yield f"{client}: {name}", Received(case["query"], headers, base64.b64decode(case["body"]))
    for case in json.loads(Path(MORE).read_text())["vectors"] if MORE else ():
        headers = {key.lower(): value for key, value in case["headers"]}
        query = case["raw_target"].partition("?")[2]
        yield f"more: {case['name']}", Received(query, headers, base64.b64decode(case["body_b64"]))


def test_what_awss_clients_sent_is_right_and_changed_it_is_not() -> None:
    cases = dict(captured())
    assert len([name for name in cases if not name.startswith("more")]) == 10
    for name, request in cases.items():
        at = datetime.strptime(request.headers["x-amz-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        signed = verify(request, at)
        assert signed.region == "us-east-1", name
        assert len(signed.chain) == ("x-amz-x509-chain" in request.headers)
        order = session_order.read(request)
        assert order.role.startswith("arn:aws:iam::"), name
        _, _, names = request.headers["authorization"].partition("SignedHeaders=")
        for each in names.partition(",")[0].split(";"):
            with pytest.raises(Refusal):
                verify(
                    Received(request.query, {**request.headers, each: request.headers[each] + "x"}, request.body), at
                )
        for other in (
            Received(request.query + "&a=b", request.headers, request.body),
            Received(request.query, request.headers, request.body + b" "),
        ):
            with pytest.raises(Refusal) as refused:
                verify(other, at)
            assert refused.value.reason == "signature_invalid", name


@pytest.mark.parametrize("key", [rsa_key(), rsa_key(3072), ec_key(), ec_key(ec.SECP384R1())])
@pytest.mark.parametrize("digest", ["256", "384", "512"])
def test_every_label_stands_for_sha256(key: Any, digest: str) -> None:
    family = "RSA" if isinstance(key, rsa.RSAPrivateKey) else "ECDSA"
    asking = RIGHT.but(holder=CA.leaf("host-1", key), label=f"AWS4-X509-{family}-SHA{digest}")
    assert verify(received(asking), NOW).der == asking.holder.der


@pytest.mark.parametrize("seconds", [-300, 0, 300])
def test_within_five_minutes_either_way_the_time_is_right(seconds: int) -> None:
    assert verify(received(RIGHT), NOW + timedelta(seconds=seconds)).leaf == HOLDER.certificate


def test_the_query_is_read_as_it_is_signed() -> None:
    for query in ({"b": "1", "a": "2"}, {"a": "x y+z/~%"}, {"ä": "ö"}, {"a": ""}):
        assert verify(received(RIGHT.but(query=query)), NOW)
    spelled = received(RIGHT.but(query={"a": "~"}))
    assert verify(Received("a=%7e", spelled.headers, spelled.body), NOW), "another spelling of the same"


def _b64(holder: Holder) -> str:
    return base64.b64encode(holder.der).decode()


def _ed25519() -> Holder:
    key = ed25519.Ed25519PrivateKey.generate()
    return Holder(CA.sign(OTHER.certificate.subject, key.public_key()), key)


def _authorization(change: Callable[[str], str]) -> Received:
    request = received(RIGHT)
    return Received(
        request.query, {**request.headers, "authorization": change(request.headers["authorization"])}, request.body
    )


def _without(name: str) -> Received:
    request = received(RIGHT)
    return Received(request.query, {k: v for k, v in request.headers.items() if k != name}, request.body)


CHAINED = RIGHT.but(holder=Holder(HOLDER.certificate, HOLDER.key, (CA.certificate,)))
WRONG: dict[str, tuple[Received, str]] = {
    "no Authorization": (_without("authorization"), "authorization_missing"),
    "another key": (received(RIGHT.but(holder=Holder(HOLDER.certificate, OTHER.key))), "signature_invalid"),
    "another certificate": (received(RIGHT, **{"x-amz-x509": _b64(OTHER)}), "serial_differs"),
    "another certificate, and its serial number": (
        Received("", {**received(RIGHT).headers, "x-amz-x509": _b64(OTHER),
                      "authorization": received(RIGHT).headers["authorization"].replace(
                          str(HOLDER.certificate.serial_number), str(OTHER.certificate.serial_number))},
                 RIGHT.raw), "signature_invalid"),
    "the same serial number, another certificate": (
        received(RIGHT, **{"x-amz-x509": _b64(CA.leaf("host-2", serial=HOLDER.certificate.serial_number))}),
        "signature_invalid"),
    "a foreign serial number": (received(RIGHT.but(serial="1")), "serial_differs"),
    "a serial number with a zero before it": (
        received(RIGHT.but(serial=f"0{HOLDER.certificate.serial_number}")), "authorization_malformed"),
    "a serial number in hex": (
        received(RIGHT.but(serial=f"{HOLDER.certificate.serial_number:x}a")), "authorization_malformed"),
    "another body": (Received("", received(RIGHT).headers, b"{}"), "signature_invalid"),
    "another query": (Received("a=b", received(RIGHT).headers, RIGHT.raw), "signature_invalid"),
    "another host": (received(RIGHT, host="other.test"), "signature_invalid"),
    "another header that was signed": (received(RIGHT, **{"amz-sdk-request": "attempt=2"}), "signature_invalid"),
    "another path": (received(RIGHT.but(signed_path="/v1/sessions")), "signature_invalid"),
    "too old": (received(RIGHT.but(at=NOW - timedelta(seconds=301))), "request_date_skewed"),
    "too new": (received(RIGHT.but(at=NOW + timedelta(seconds=301))), "request_date_skewed"),
    "another day in the scope": (received(RIGHT.but(day="20261122")), "request_date_differs"),
    "a date of another form": (received(RIGHT, **{"x-amz-date": "2026-11-23T12:00:00Z"}), "request_date_malformed"),
    "a date in full-width digits": (received(RIGHT, **{"x-amz-date": "２0261123T120000Z"}), "request_date_malformed"),
    "a date that is none": (received(RIGHT, **{"x-amz-date": "20261123T250000Z"}), "request_date_malformed"),
    "two dates": (
        received(RIGHT, **{"x-amz-date": "20261123T120000Z,20261123T120000Z"}), "request_date_malformed"),
    "no date": (_without("x-amz-date"), "request_date_malformed"),
    "another service": (received(RIGHT.but(service="sts")), "authorization_malformed"),
    "a region that is none": (received(RIGHT.but(region="us-east-1/x")), "authorization_malformed"),
    "headers unsorted": (
        received(RIGHT.but(names="host;content-type;x-amz-date;x-amz-x509")), "signed_headers_unsorted"),
    "a header twice": (
        received(RIGHT.but(names="content-type;host;host;x-amz-date;x-amz-x509")), "signed_headers_unsorted"),
    "a header in capitals": (
        received(RIGHT.but(names="content-type;Host;x-amz-date;x-amz-x509")), "authorization_malformed"),
    "host unsigned": (received(RIGHT.but(names="content-type;x-amz-date;x-amz-x509")), "signed_headers_missing"),
    "the date unsigned": (received(RIGHT.but(names="content-type;host;x-amz-x509")), "signed_headers_missing"),
    "the certificate unsigned": (received(RIGHT.but(names="content-type;host;x-amz-date")), "signed_headers_missing"),
    "the media type unsigned": (received(RIGHT.but(names="host;x-amz-date;x-amz-x509")), "signed_headers_missing"),
    "the chain unsigned": (
        received(CHAINED.but(names="content-type;host;x-amz-date;x-amz-x509")), "signed_headers_missing"),
    "a chain that came later": (received(RIGHT, **{"x-amz-x509-chain": _b64(OTHER)}), "signed_headers_missing"),
    "a signed header that is not there": (
        received(RIGHT.but(names="content-type;host;odd;x-amz-date;x-amz-x509")), "signed_headers_missing"),
    "base64 with a line end": (received(RIGHT, **{"x-amz-x509": _b64(HOLDER) + "\n"}), "certificate_base64"),
    "base64 with a blank": (received(RIGHT, **{"x-amz-x509": " " + _b64(HOLDER)}), "certificate_base64"),
    "base64 with other last bits": (
        received(RIGHT.but(headers={"x-amz-x509": "QUJ="})), "certificate_base64"),
    "base64 without its end": (received(RIGHT.but(headers={"x-amz-x509": "QUI"})), "certificate_base64"),
    "base64url": (received(RIGHT.but(headers={"x-amz-x509": "-_-_"})), "certificate_base64"),
    "two certificates": (
        received(RIGHT.but(headers={"x-amz-x509": f"{_b64(HOLDER)},{_b64(HOLDER)}"})), "certificate_base64"),
    "no certificate": (received(RIGHT.but(headers={"x-amz-x509": ""})), "certificate_base64"),
    "DER that is no certificate": (received(RIGHT.but(headers={"x-amz-x509": "MAA="})), "certificate_unreadable"),
    "DER with bytes behind it": (
        received(RIGHT.but(headers={"x-amz-x509": base64.b64encode(HOLDER.der + b"\0").decode()})),
        "certificate_unreadable"),
    "a chain of five": (
        received(RIGHT.but(holder=Holder(HOLDER.certificate, HOLDER.key, (CA.certificate,) * 5))), "chain_too_long"),
    "an empty place in the chain": (
        received(CHAINED.but(headers={"x-amz-x509-chain": f"{_b64(HOLDER)},"})), "certificate_base64"),
    "RSA of 1,024 bits": (received(RIGHT.but(holder=CA.leaf("host-1", rsa_key(1024)))), "key_refused"),
    "P-521": (received(RIGHT.but(holder=CA.leaf("host-1", ec_key(ec.SECP521R1())))), "key_refused"),
    "P-224": (received(RIGHT.but(holder=CA.leaf("host-1", ec_key(ec.SECP224R1())))), "key_refused"),
    "secp256k1": (received(RIGHT.but(holder=CA.leaf("host-1", ec_key(ec.SECP256K1())))), "key_refused"),
    "Ed25519": (received(RIGHT.but(holder=_ed25519(), label="AWS4-X509-ECDSA-SHA256")), "key_refused"),
    "the label of the other family": (received(RIGHT.but(label="AWS4-X509-RSA-SHA256")), "key_refused"),
    **{
        f"the label {label}": (received(RIGHT.but(label=label)), reason)
        for label, reason in (
            ("AWS4-X509-ECDSA-SHA1", "algorithm_refused"),
            ("AWS4-X509-RSA-SHA1", "algorithm_refused"),
            ("AWS4-X509-MLDSA", "algorithm_refused"),
            ("AWS4-HMAC-SHA256", "algorithm_refused"),
            ("AWS4-X509-RSASSA-PSS-SHA256", "algorithm_refused"),
            ("aws4-x509-ecdsa-sha256", "algorithm_refused"),
        )
    },
    "something behind it": (_authorization(lambda text: text + " "), "authorization_malformed"),
    "something before it": (_authorization(lambda text: " " + text), "algorithm_refused"),
    "a second scope": (
        _authorization(lambda text: text.replace(" Sig", " Credential=1, Sig")), "authorization_malformed"),
    "a signature in capitals": (
        _authorization(lambda text: text.partition("Signature=")[0] + "Signature=" + "AB" * 70),
        "authorization_malformed"),
    "half a byte of signature": (_authorization(lambda text: text[:-1]), "authorization_malformed"),
    "no signature": (
        _authorization(lambda text: text.partition("Signature=")[0] + "Signature="), "authorization_malformed"),
}  # fmt: skip


@pytest.mark.threat("A07", "A08")
@pytest.mark.parametrize("case", WRONG)
def test_what_differs_in_one_thing_is_refused(case: str) -> None:
    request, reason = WRONG[case]
    with pytest.raises(Refusal) as refused:
        verify(request, NOW)
    assert (refused.value.code, refused.value.reason) == ("proof_refused", reason)


def test_the_control_all_of_them_differ_from_a_right_one() -> None:
    assert verify(received(RIGHT), NOW).leaf == HOLDER.certificate
    assert verify(received(CHAINED), NOW).chain == (CA.certificate,)
    assert verify(_authorization(str), NOW)


def test_a_certificate_of_version_1_is_no_certificate_here() -> None:
    der = bytearray(HOLDER.der)
    at = der.index(b"\xa0\x03\x02\x01\x02")
    der[at + 4] = 7  # a version that there is not
    with pytest.raises(Refusal) as refused:
        verify(received(RIGHT.but(headers={"x-amz-x509": base64.b64encode(bytes(der)).decode()})), NOW)
    assert refused.value.reason == "certificate_unreadable"


# What is asked for


def order(**changed: Any) -> session_order.SessionOrder:
    return session_order.read(Received("", {}, json.dumps({**ASKED, **changed}).encode()))


def test_an_order_is_read() -> None:
    found = order(durationSeconds=900, roleSessionName="x", instanceProperties={"a": 1}, odd=[1])
    assert (found.anchor, found.profile, found.grant, found.seconds, found.session_name) == (
        *("corp", "web", None, 900, "x"),
    )
    place = "arn:aws:rolesanywhere:us-east-1:111122223333"
    assert order(profileArn=f"{place}:profile/web/reports").grant == "reports"
    assert order().seconds is None


def mixed(query: str, **body: Any) -> session_order.SessionOrder:
    return session_order.read(Received(query, {}, json.dumps({**ASKED, **body}).encode()))


def test_what_stands_in_query_and_body_must_be_the_same() -> None:
    assert mixed("durationSeconds=900&odd=1", durationSeconds=900) == mixed("durationSeconds=900")
    role = ASKED["roleArn"]
    assert mixed(f"roleArn={role}").role == role
    for query, body in (
        ("durationSeconds=900", {"durationSeconds": 901}),
        (f"roleArn={role}2", {}),
        (f"roleArn={role}&roleArn={role}", {}),
        ("odd=1&odd=1", {}),
        ("roleArn=", {}),
        ("roleSessionName=a", {"sessionName": "b"}),
        ("durationSeconds=%FF", {}),
    ):
        with pytest.raises(Refusal) as refused:
            mixed(query, **body)
        assert refused.value.code == "malformed_request", query


@pytest.mark.threat("D06")
@pytest.mark.parametrize(
    "odd", [0, -1, 899, 43201, 10**400, "900", 900.5, 900.0, True, "９００", " 900", "9_00", None, [900]], ids=repr
)
def test_D06_odd_durations_are_refused(odd: Any) -> None:
    with pytest.raises(Refusal, match="durationSeconds must be an integer from 900 to 43200"):
        order(durationSeconds=odd)


def test_both_arns_are_of_one_place() -> None:
    for part, other in (("us-east-1", "eu-central-1"), ("111122223333", "999999999999"), ("aws:", "aws-cn:")):
        with pytest.raises(Refusal):
            order(profileArn=ASKED["profileArn"].replace(part, other, 1))


@pytest.mark.threat("A24")
@pytest.mark.parametrize("key", ["profileArn", "roleArn", "trustAnchorArn"])
def test_arns_of_another_form_are_refused(key: str) -> None:
    for change in (str.upper, lambda arn: arn + "//?", lambda arn: arn + "*", lambda arn: "x" + arn,
                   lambda arn: arn.replace("1111", "１１１１"), lambda arn: arn.replace("aws", "a.*"),
                   lambda arn: arn + "\n", lambda arn: arn.rpartition("/")[0], lambda arn: ""):  # fmt: skip
        with pytest.raises(Refusal):
            order(**{key: change(ASKED[key])})


def _profile(*grants: dict[str, Any]) -> Any:
    policy = '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:GetObject","Resource":"*"}]}'
    usual = {"role": ASKED["roleArn"], "region": "us-east-1", "policy": policy}
    return read_profile({"name": "web", "grants": [{**usual, **each} for each in grants]}, source_address=True)


def test_one_grant_is_meant_or_the_answer_says_how_to_name_it() -> None:
    several = _profile({"name": "a"}, {"name": "b"}, {"name": "c", "role": ASKED["roleArn"] + "2"})
    with pytest.raises(Refusal) as refused:
        session_order.choose(several, order())
    assert refused.value.code == "malformed_request"
    assert "profile/web/GRANT, one of a, b" in (refused.value.detail or "")
    named = order(profileArn=ASKED["profileArn"] + "/b")
    assert session_order.choose(several, named).name == "b"
    with pytest.raises(Refusal) as refused:
        session_order.choose(several, order(profileArn=ASKED["profileArn"] + "/c"))
    assert refused.value.reason == "role_not_granted"


def test_a_grant_that_is_not_delivered_so_is_not_given() -> None:
    with pytest.raises(Refusal) as refused:
        session_order.choose(_profile({"name": "a", "doors": ["container"]}), order())
    assert refused.value.reason == "door"
    both = _profile({"name": "a", "doors": ["container"]}, {"name": "b"})
    assert session_order.choose(both, order()).name == "b"
