"""POST /sessions: AWS's own client for Roles Anywhere, unmodified, and everything that must not get in there."""

import json
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from http.client import HTTPException
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.name import _ASN1Type
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from deploy.demo.cloud import ACCOUNT, REGION, Cloud, Seeded
from deploy.demo.ec2_document import DocumentAuthority
from deploy.demo.visitor import Answer
from tests.end_to_end.anywhere import Anywhere, anywhere_fixture, holder_of  # noqa: F401  # a fixture
from tests.end_to_end.door import Reply
from tests.end_to_end.world import OTHER_PROFILE, PROFILE
from tests.end_to_end.world import world as make_world
from tests.foreign import (
    NO_SIGNATURES,
    SERVER,
    Asking,
    ForeignCa,
    Holder,
    common_name,
    ec_key,
    parameters,
    rsa_key,
)

ANY = ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE


# The real client


def test_awss_own_client_gets_what_the_grant_allows_with_the_instances_certificate(
    anywhere: Anywhere, tmp_path: Path
) -> None:
    world = anywhere.world
    launched, visitor = world.enrolled()
    holder = holder_of(visitor)
    said = anywhere.client(tmp_path / "own", holder, "instances")
    reports, payroll = world.seeded.prefixes
    assert said[reports] == [f"{reports}2026-10.csv", f"{reports}2026-11.csv"], said
    assert said[payroll] == "AccessDenied"
    asked = anywhere.door.asked[-1]
    assert asked.fields["SourceIdentity"] == launched.id
    again = anywhere.client(tmp_path / "own", holder, "instances")
    assert again["keys"] == said["keys"], "the session that is there is given again"

    world.site.cli("revoke", "instance", launched.id)
    refused = anywhere.client(tmp_path / "own", holder, "instances")
    assert refused["refused"] == [403, "The instance is revoked"], refused


@pytest.mark.parametrize("kind", ["RSA", "EC", "P-384 below an intermediate"])
def test_awss_own_client_gets_in_with_a_certificate_of_a_trust_anchor(
    anywhere: Anywhere, tmp_path: Path, kind: str
) -> None:
    world, name = anywhere.world, f"host-{kind.split()[0]}"
    if kind == "RSA":
        holder, anchor = anywhere.corp.leaf(name, rsa_key()), "corp"
    elif kind == "EC":
        holder, anchor = anywhere.plant.leaf(name), "plant"
    else:
        holder, anchor = anywhere.plant.intermediate(key=rsa_key()).leaf(name, ec_key(ec.SECP384R1())), "plant"
    said = anywhere.client(tmp_path / "foreign", holder, anchor, session_duration=900)
    reports, payroll = world.seeded.prefixes
    assert said.get(reports) == [f"{reports}2026-10.csv", f"{reports}2026-11.csv"], said
    assert said[payroll] == "AccessDenied"
    asked = anywhere.door.asked[-1].fields
    assert (asked["SourceIdentity"], asked["RoleSessionName"], asked["DurationSeconds"]) == (name, name, "900")
    (row,) = world.rows("instance", instance_id=name)
    assert row["id"] == f"spiffe://trusted-gateway.internal/anchor/{anchor}/{name}"
    assert json.loads(row["claims"])["checks"] == ["trust_anchor"]
    (certificate,) = world.rows("certificate", subject=row["id"])
    assert (certificate["der"], certificate["issuer"]) == (holder.der, f"anchor/{anchor}")
    kinds = [(each["kind"], each["reason"]) for each in anywhere.records() if each["subject"] == row["id"]]
    assert kinds[:4] == [
        ("fact", "anchor_machine_new"),
        ("decision", "ok"),
        ("intent", "asked"),
        ("outcome", "vended"),
    ]
    assert set(kinds[4:]) <= {("decision", "vended_again")}, "with 15 minutes it asks for every call"

    assert "never enrols" in world.site.cli("instance", "allow-reenroll", name, status=1)
    receipt = world.site.cli("revoke", "instance", f"anchor/{anchor}/{name}")
    assert "STILL HONOURS 1 session(s)" in receipt
    assert "revoked" in world.site.cli("instance", "show", name)
    another = anywhere.corp.leaf(name) if anchor == "corp" else anywhere.plant.leaf(name)
    for number, revoked in enumerate((holder, another)):
        refused = anywhere.client(tmp_path / f"revoked-{number}", revoked, anchor)
        assert refused["refused"] == [403, "The instance is revoked"]


def test_a_certificate_that_openssl_made_is_as_good(anywhere: Anywhere) -> None:
    """And so the control of what is refused for its SHA-1."""
    assert anywhere.send(anywhere.asking(_by_openssl(anywhere, "sha256"), "plant")).status == 201


def test_the_client_shows_why_it_was_refused(anywhere: Anywhere, tmp_path: Path) -> None:
    stranger = ForeignCa("Corp root", rsa_key()).leaf("host-stranger")
    said = anywhere.client(tmp_path / "a", stranger, "corp")
    assert said["refused"] == [403, "The certificate is not trusted by this trust anchor"]
    said = anywhere.client(tmp_path / "b", anywhere.corp.leaf("host-x"), "corp", "payroll")
    assert said["refused"] == [403, "The trust anchor has no such profile"]
    said = anywhere.client(tmp_path / "c", anywhere.corp.leaf("host-x"), "corp", role_session_name="admin")
    assert said["refused"][0] == 400
    assert "roleSessionName is not accepted" in said["refused"][1]


# The answer


def test_the_answer_has_awss_form(anywhere: Anywhere) -> None:
    answer = anywhere.send(anywhere.asking(anywhere.plant.leaf("host-form"), "plant"))
    assert (answer.status, answer.headers["content-type"]) == (201, "application/json")
    (given,) = answer.body["credentialSet"]
    assert set(given["credentials"]) == {"accessKeyId", "secretAccessKey", "sessionToken", "expiration"}
    assert given["credentials"]["expiration"].endswith("Z")
    assert given["roleArn"] == anywhere.world.seeded.role_arn
    assert given["sourceIdentity"] == "host-form"
    assert given["assumedRoleUser"]["arn"].endswith("/host-form")
    assert answer.body["subjectArn"].startswith(f"arn:aws:rolesanywhere:{REGION}:{ACCOUNT}:subject/")
    assert answer.headers["cache-control"] == "no-store"


def test_parameters_may_stand_in_the_query_or_in_the_body_or_in_both_alike(anywhere: Anywhere) -> None:
    asking = anywhere.asking(anywhere.plant.leaf("host-query"), "plant")
    in_query = asking.but(asked={"durationSeconds": 3600, "instanceProperties": {"a": "b"}, "odd": 1})
    keys = set()
    for each in (
        asking,
        in_query.but(query=asking.asked),
        asking.but(query=asking.asked),
        asking.but(query={**asking.asked, "durationSeconds": "3600"}, body=b""),
    ):
        answer = anywhere.send(each)
        assert answer.status == 201, answer.body
        keys.add(answer.body["credentialSet"][0]["credentials"]["accessKeyId"])
    assert len(keys) == 1, "all ask for the same"


def test_a_replayed_request_mints_nothing(anywhere: Anywhere) -> None:
    asking = anywhere.asking(anywhere.plant.leaf("host-replay"), "plant")
    headers, asked = asking.sign(), len(anywhere.door.asked)
    answers = [anywhere.post("/sessions", asking.raw, headers).body["credentialSet"] for _ in range(3)]
    assert answers[0] == answers[1] == answers[2]
    assert len(anywhere.door.asked) == asked + 1


def test_two_anchors_share_no_machine_and_each_is_revoked_alone(anywhere: Anywhere) -> None:
    world, name = anywhere.world, "host-shared"
    both = [(anywhere.corp, "corp"), (anywhere.plant, "plant")]
    for ca, anchor in both:
        assert anywhere.send(anywhere.asking(ca.leaf(name), anchor)).status == 201
    assert len(world.rows("instance", instance_id=name)) == 2
    assert "instance_ambiguous" in world.site.cli("revoke", "instance", name, status=1)
    world.site.cli("revoke", "instance", f"spiffe://trusted-gateway.internal/anchor/corp/{name}")
    assert anywhere.send(anywhere.asking(anywhere.corp.leaf(name), "corp")).status == 403
    assert anywhere.send(anywhere.asking(anywhere.plant.leaf(name), "plant")).status == 201
    renewed = world.rows("certificate", subject=f"spiffe://trusted-gateway.internal/anchor/plant/{name}")
    assert len(renewed) == 2


def test_a_machine_may_have_each_profile_of_its_anchor_and_time_is_cut_to_the_grant(anywhere: Anywhere) -> None:
    holder = anywhere.plant.leaf("host-profiles")
    grants = []
    for profile in (PROFILE, OTHER_PROFILE):
        asking = anywhere.asking(holder, "plant", profile)
        assert anywhere.send(asking.but(asked={**asking.asked, "durationSeconds": 43200})).status == 201
        assert anywhere.door.asked[-1].fields["DurationSeconds"] == "3600"
        grants.append(anywhere.records()[-1]["object"])
    assert grants == ["grant/reports", "grant/payroll"]


# What does not get in


def refused(anywhere: Anywhere, answer: Answer, status: int, reason: str) -> None:
    """A refusal in AWS's form, its one record, and nothing asked of AWS or written to the store."""
    kinds = {400: "ValidationException", 403: "AccessDeniedException", 429: "ThrottlingException"}
    assert (answer.status, answer.headers.get("x-amzn-errortype")) == (status, kinds[status]), answer
    assert answer.headers["content-type"] == "application/json"
    assert list(answer.body) == ["message"]
    assert not any(word in answer.body["message"] for word in ("depth", "Traceback", "spiffe"))
    (record,) = anywhere.world.audit(answer.headers["x-amzn-requestid"])
    found = (record["name"], record["kind"], record["allowed"], record["reason"])
    assert found == ("instance:session:create", "decision", False, reason)


@pytest.fixture
def quiet(anywhere: Anywhere) -> Iterator[Anywhere]:
    """For tests in which nothing may happen: neither at AWS nor in the store."""
    before, asked = anywhere.world.everything_but_the_log(), len(anywhere.door.asked)
    yield anywhere
    assert len(anywhere.door.asked) == asked
    assert anywhere.world.everything_but_the_log() == before


@pytest.mark.threat("A07", "A08")
def test_what_is_not_what_was_signed_is_refused(quiet: Anywhere) -> None:
    """Here what the server makes of it; tests/gateway/core/test_rolesanywhere.py has all of the cases."""
    holder, other = quiet.plant.leaf("host-a"), quiet.plant.leaf("host-b")
    right = quiet.asking(holder, "plant")
    headers = right.sign()
    for changed, reason in (
        (right.but(holder=Holder(holder.certificate, other.key)).sign(), "signature_invalid"),
        ({**headers, "content-type": "text/plain"}, "signature_invalid"),
        ({**headers, "host": "localhost"}, "signature_invalid"),
        ({**headers, "x-amz-x509": right.but(holder=other).sign()["x-amz-x509"]}, "serial_differs"),
        (right.but(at=right.at - timedelta(minutes=6)).sign(), "request_date_skewed"),
        (right.but(label="AWS4-X509-MLDSA").sign(), "algorithm_refused"),
        ({name: value for name, value in headers.items() if name != "authorization"}, "authorization_missing"),
    ):
        refused(quiet, quiet.post("/sessions", right.raw, changed), 403, reason)
    refused(quiet, quiet.post("/sessions", right.raw + b" ", headers), 403, "signature_invalid")
    refused(quiet, quiet.post("/sessions?a=b", right.raw, headers), 403, "signature_invalid")


@pytest.mark.threat("A07")
def test_A07_a_header_that_stands_twice_is_refused(quiet: Anywhere) -> None:
    asking = quiet.asking(quiet.plant.leaf("host-twice"), "plant")
    headers = asking.sign()
    for name in ("authorization", "host", "x-amz-date", "x-amz-x509", "content-type"):
        connection = quiet.world.visitor().connect()
        connection.putrequest("POST", "/sessions", skip_host=True, skip_accept_encoding=True)
        for each, value in [*headers.items(), (name, headers[name]), ("content-length", str(len(asking.raw)))]:
            connection.putheader(each, value)
        connection.endheaders(asking.raw)
        answer = connection.getresponse()
        assert answer.status in (400, 403), name
        assert json.loads(answer.read()).keys() & {"message", "code"}
        connection.close()


def _without(kind: type[x509.ExtensionType]) -> dict[str, Any]:
    return {"other": {kind: None}}


@pytest.mark.threat("B01", "B02", "B20", "B22")
def test_a_certificate_that_is_not_a_right_one_of_the_anchor_is_refused(quiet: Anywhere) -> None:
    plant, hour = quiet.plant, timedelta(hours=1)
    enemy = ForeignCa("Plant root")
    leaf = plant.leaf("host-signer")
    below_leaf = ForeignCa("host-signer", leaf.key)
    weak, authority = plant.intermediate("Weak", rsa_key(1024)), x509.BasicConstraints(True, None)
    uri = "spiffe://trusted-gateway.internal/aws/111122223333/us-east-1/i-0123456789abcdef0"
    names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)])
    email = x509.NameAttribute(NameOID.EMAIL_ADDRESS, "admin@example.test")
    homoglyph = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "hоst-1", _ASN1Type.BMPString)])  # it is meant
    cases: dict[str, tuple[Holder, str]] = {
        "another CA of the same name": (enemy.leaf("host-1"), "chain_refused"),
        "another CA of the same name, with the chain": (
            Holder((made := enemy.leaf("host-1")).certificate, made.key, (enemy.certificate,)),
            "chain_refused",
        ),
        "another anchor's": (quiet.corp.leaf("host-1"), "chain_refused"),
        "a leaf as CA": (
            Holder((made := below_leaf.leaf("host-1")).certificate, made.key, (leaf.certificate,)),
            "chain_refused",
        ),
        "a CA as leaf": (plant.leaf("host-1", other={x509.BasicConstraints: authority}), "chain_refused"),
        "an intermediate with a weak key": (weak.leaf("host-1"), "chain_refused"),
        "for servers only": (plant.leaf("host-1", usages=[SERVER]), "chain_refused"),
        "for anything": (plant.leaf("host-1", usages=[ANY]), "chain_refused"),
        "for nothing that it says": (plant.leaf("host-1", usages=None), "chain_refused"),
        "no basicConstraints": (plant.leaf("host-1", **_without(x509.BasicConstraints)), "chain_refused"),
        "no keyUsage": (plant.leaf("host-1", **_without(x509.KeyUsage)), "chain_refused"),
        "not for signatures": (plant.leaf("host-1", other={x509.KeyUsage: NO_SIGNATURES}), "chain_refused"),
        "over": (plant.leaf("host-1", life=(-2 * hour, -hour)), "chain_refused"),
        "not yet": (plant.leaf("host-1", life=(hour, 2 * hour)), "chain_refused"),
        "RSA of 1,024 bits": (plant.leaf("host-1", rsa_key(1024)), "key_refused"),
        "P-521": (plant.leaf("host-1", ec_key(ec.SECP521R1())), "key_refused"),
        "signed with SHA-1": (_by_openssl(quiet, "sha1"), "chain_refused"),
        "no common name": (plant.leaf(x509.Name([email])), "machine_name_refused"),
        "two common names": (plant.leaf(common_name("host-1", "host-2")), "machine_name_refused"),
        "a name of one letter": (plant.leaf("x"), "machine_name_refused"),
        "dots": (plant.leaf(".."), "machine_name_refused"),
        "a path": (plant.leaf("a/b"), "machine_name_refused"),
        "NUL": (plant.leaf("host-1\0"), "machine_name_refused"),
        "a pattern": (plant.leaf("host-*"), "machine_name_refused"),
        "a homoglyph": (plant.leaf(homoglyph), "machine_name_refused"),
        "an EC2 instance's name": (plant.leaf("i-0123456789abcdef0"), "machine_name_ours"),
        "an EC2 instance's name in capitals": (plant.leaf("I-0123456789ABCDEF0"), "machine_name_ours"),
        "a SPIFFE ID of ours": (plant.leaf("host-1", other={x509.SubjectAlternativeName: names}), "machine_name_ours"),
    }
    for what, (holder, reason) in cases.items():
        try:
            refused(quiet, quiet.send(quiet.asking(holder, "plant")), 403, reason)
        except AssertionError as error:
            raise AssertionError(what) from error


def _by_openssl(anywhere: Anywhere, digest: str) -> Holder:
    """A certificate of plant's made by another program: `cryptography` signs nothing with SHA-1 any more."""
    folder = anywhere.world.site.folder / digest
    folder.mkdir(exist_ok=True)
    key = ec_key()
    ca = Holder(anywhere.plant.certificate, anywhere.plant.key)
    extensions = "basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\nextendedKeyUsage=clientAuth\n"
    extensions += "subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n"
    files = {"leaf.key": Holder(ca.certificate, key).key_pem, "ca.pem": ca.pem, "ca.key": ca.key_pem}
    for name, text in {**files, "extensions": extensions.encode()}.items():
        (folder / name).write_bytes(text)
    made = b""
    for command in (
        "openssl req -new -key leaf.key -subj /CN=host-1 -out leaf.csr",
        f"openssl x509 -req -in leaf.csr -CA ca.pem -CAkey ca.key -{digest} -days 1 -set_serial 77 -extfile extensions",
    ):
        made = subprocess.run(command.split(), cwd=folder, capture_output=True, check=True).stdout
    return Holder(x509.load_pem_x509_certificate(made), key)


@pytest.mark.threat("B01")
def test_our_own_certificates_and_an_anchors_never_stand_in_for_each_other(anywhere: Anywhere) -> None:
    world = anywhere.world
    launched, visitor = world.enrolled()
    own = holder_of(visitor)
    serial = own.certificate.serial_number
    twin = anywhere.plant.leaf("host-twin", serial=serial)
    before = len(anywhere.door.asked)
    refused(anywhere, anywhere.send(anywhere.asking(own, "plant")), 403, "chain_refused")
    refused(anywhere, anywhere.send(anywhere.asking(twin, "instances")), 403, "certificate_unknown")
    assert len(anywhere.door.asked) == before
    assert anywhere.send(anywhere.asking(twin, "plant")).status == 201, (
        "the same serial number, another CA: another row"
    )
    assert anywhere.send(anywhere.asking(own, "instances")).status == 201
    world.site.cli("revoke", "instance", "host-twin")
    assert anywhere.send(anywhere.asking(own, "instances")).status == 201, "and it is not revoked with it"
    renewed = visitor.renew()
    assert renewed.status == 200
    refused(anywhere, anywhere.send(anywhere.asking(own, "instances")), 403, "certificate_superseded")
    world.site.cli("revoke", "instance", launched.id)
    refused(anywhere, anywhere.send(anywhere.asking(holder_of(visitor), "instances")), 403, "instance_revoked")


def test_the_anchors_revocation_list_is_kept_and_without_one_nobody_comes_in(anywhere: Anywhere) -> None:
    corp = anywhere.corp
    good, bad = corp.leaf("host-good"), corp.leaf("host-bad")
    before = anywhere.crl.read_bytes()

    def publish(pem: bytes | None) -> None:
        new = anywhere.crl.with_suffix(".new")
        if pem is None:
            anywhere.crl.unlink()
        else:
            new.write_bytes(pem)
            new.replace(anywhere.crl)

    def ask(holder: Holder) -> Answer:
        return anywhere.send(anywhere.asking(holder))

    try:
        assert (ask(good).status, ask(bad).status) == (201, 201)
        publish(corp.crl(bad.certificate))
        refused(anywhere, ask(bad), 403, "chain_refused")
        assert "revoked" in anywhere.records()[-1]["facts"]["why"]
        assert ask(good).status == 201
        publish(corp.crl(life=-timedelta(minutes=1)))
        refused(anywhere, ask(good), 403, "chain_refused")
        publish(anywhere.plant.crl())
        refused(anywhere, ask(good), 403, "chain_refused")
        for unreadable in (None, b"", b"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n"):
            publish(unreadable)
            refused(anywhere, ask(good), 403, "crl_unreadable")
    finally:
        publish(before)
    assert ask(good).status == 201


@pytest.mark.threat("D01", "A24")
def test_D01_what_the_request_names_only_selects(quiet: Anywhere) -> None:
    """Run with an instance that is there already, so that nothing at all changes."""
    world = quiet.world
    holder = quiet.plant.leaf("host-selects")
    role = world.seeded.role_arn
    right = quiet.asking(holder, "plant")

    def asked(**changed: str) -> Asking:
        return right.but(asked={**right.asked, **changed})

    place = f"arn:aws:rolesanywhere:{REGION}:{ACCOUNT}"
    elsewhere = parameters("plant", PROFILE, role, region="eu-central-1", account=ACCOUNT)
    foreign = parameters("plant", PROFILE, role, region=REGION, account="999999999999")
    for asking, status, reason in (
        (quiet.asking(quiet.corp.leaf("host-corp"), "corp", OTHER_PROFILE), 403, "profile_foreign"),
        (quiet.asking(holder, "plant", "denied"), 403, "profile_foreign"),
        (quiet.asking(holder, "nobodys"), 403, "anchor_unknown"),
        (asked(roleArn=f"arn:aws:iam::{ACCOUNT}:role/admin"), 403, "role_not_granted"),
        (asked(roleArn=role.upper()), 400, "malformed_request"),
        (asked(roleArn=role + "*"), 400, "malformed_request"),
        (asked(profileArn=f"{place}:profile/{PROFILE}/payroll"), 403, "role_not_granted"),
        (asked(profileArn=f"{place}:profile/{PROFILE}/../x"), 400, "malformed_request"),
        (asked(profileArn=f"{place}:trust-anchor/{PROFILE}"), 400, "malformed_request"),
        (asked(**{"profileArn": elsewhere["profileArn"]}), 400, "malformed_request"),
        (right.but(asked=elsewhere), 400, "arn_of_another_place"),
        (right.but(asked=elsewhere, region="eu-central-1"), 400, "arn_of_another_place"),
        (right.but(region="eu-central-1"), 400, "arn_of_another_place"),
        (right.but(asked=foreign), 400, "arn_of_another_place"),
        (asked(roleSessionName="admin"), 400, "session_name_chosen"),
        (right.but(query={"roleArn": role + "2"}), 400, "malformed_request"),
        (right.but(query={"durationSeconds": "900"}, asked={**right.asked, "durationSeconds": 901}), 400,
         "malformed_request"),
        (right.but(body=b'{"roleArn": "a", "roleArn": "b"}'), 400, "malformed_request"),
        (right.but(body=b"[]"), 400, "malformed_request"),
        (right.but(body=b""), 400, "malformed_request"),
    ):  # fmt: skip
        refused(quiet, quiet.send(asking), status, reason)


@pytest.mark.threat("D01")
def test_D01_another_instances_profile_is_refused_to_our_own_certificate_too(anywhere: Anywhere) -> None:
    _, visitor = anywhere.world.enrolled()
    before = len(anywhere.door.asked)
    asking = anywhere.asking(holder_of(visitor), "instances", OTHER_PROFILE)
    refused(anywhere, anywhere.send(asking), 403, "profile_foreign")
    assert len(anywhere.door.asked) == before


@pytest.mark.threat("D06")
def test_D06_odd_durations_are_refused(quiet: Anywhere) -> None:
    right = quiet.asking(quiet.plant.leaf("host-odd"), "plant")
    for odd in (0, -1, 899, 43201, "900", 900.5, 900.0, True, "９００", " 900\n", "9_00", None, [900]):
        refused(quiet, quiet.send(right.but(asked={**right.asked, "durationSeconds": odd})), 400, "malformed_request")
    for odd in ("0900", "899", "43201", "+900", "９００", "900 ", "9_00", "9e2", ""):
        refused(quiet, quiet.send(right.but(query={"durationSeconds": odd})), 400, "malformed_request")


@pytest.mark.threat("B20")
def test_B20_large_chains_are_refused_unread(quiet: Anywhere) -> None:
    holder = quiet.plant.leaf("host-large")
    five = Holder(holder.certificate, holder.key, (quiet.plant.certificate,) * 5)
    refused(quiet, quiet.send(quiet.asking(five, "plant")), 403, "chain_too_long")
    seen = len(quiet.records())
    for size in (20_000, 10_000_000):
        try:
            answer = quiet.send(quiet.asking(holder, "plant"), **{"x-amz-x509-chain": "A" * size})
        except (OSError, HTTPException):
            assert size > 1_000_000, "only who goes on sending does not hear why"
        else:
            assert (answer.status, answer.body["code"]) == (431, "head_too_large")
    assert len(quiet.records()) == seen


def test_a_gateway_that_cannot_ask_aws_says_later(anywhere: Anywhere) -> None:
    asking = anywhere.asking(anywhere.plant.leaf("host-later"), "plant")
    sorry = Reply(503, b"<ErrorResponse><Error><Code>ServiceUnavailable</Code></Error></ErrorResponse>")
    with anywhere.door.answering(lambda asked: sorry if asked.action == "AssumeRole" else None):
        answer = anywhere.send(asking)
    assert (answer.status, answer.headers["x-amzn-errortype"]) == (503, "ServiceUnavailableException")
    assert int(answer.headers["retry-after"]) > 0
    assert list(answer.body) == ["message"]


@pytest.mark.threat("A16")
def test_who_only_fails_is_told_to_wait(
    tmp_path: Path, cloud: Cloud, seeded: Seeded, authority: DocumentAuthority
) -> None:
    limits = {"failures_per_minute": 3, "failures_per_minute_overall": 100}
    with make_world(tmp_path / "g", cloud, seeded, authority, enrollment=limits, workers=1) as world:
        own = Anywhere(world, None, ForeignCa(), ForeignCa(), tmp_path)  # type: ignore[arg-type]  # nobody listens in
        asking = own.asking(ForeignCa().leaf("host-1"), "instances")
        assert [own.send(asking).status for _ in range(5)] == [403, 403, 403, 429, 429]
        assert own.records()[-1]["reason"] == "too_many_requests"
