from datetime import UTC, datetime

import pytest

from gateway.wire import problems
from gateway.wire.messages import (
    CredentialsAnswer,
    CredentialsRequest,
    EnrollRequest,
    Evidence,
    KeyProof,
    UserData,
    decode,
    encode,
    instant,
    loads,
    parse_instant,
    read_user_data,
    user_data_line,
)
from gateway.wire.strict import Malformed

EVIDENCE = Evidence("aws-ec2-identity-document", "e30=", "AAAA")


@pytest.mark.parametrize(
    "message",
    [
        EnrollRequest("csr", EVIDENCE, ticket="abc"),
        EnrollRequest("csr", EVIDENCE, proof=KeyProof("n", "AAAA")),
        CredentialsRequest("reports"),
        CredentialsRequest("reports", 900),
        CredentialsAnswer("l", "A", "S", "T", "2026-11-23T00:00:00Z"),
    ],
)
def test_messages_survive_the_wire(message: object) -> None:
    assert decode(type(message), loads(encode(message))) == message


@pytest.mark.threat("D06")
@pytest.mark.parametrize("duration", [0, -1, 899, 43201, "900", 900.5, True, "９００", " 900\n", "9_00", [900]])
def test_D06_durations_are_integers_in_range(duration: object) -> None:
    with pytest.raises(Malformed):
        decode(CredentialsRequest, {"grant": "reports", "duration": duration})
    assert decode(CredentialsRequest, {"grant": "reports", "duration": 900}).duration == 900


def test_what_holds_secrets_does_not_print() -> None:
    answer = CredentialsAnswer("l", "AKIA", "very-secret", "token-secret", "2026-11-23T00:00:00Z")
    assert "secret" not in repr(answer)
    assert "tick" not in repr(UserData("h:1", "0" * 64, "tick"))


USER_DATA = UserData("10.0.0.5:8443", "ab" * 32, "dGlja2V0")


@pytest.mark.parametrize(
    "around",
    ["{}", "#cloud-config\n{}\nruncmd: []\n", "#!/bin/sh\n{}\necho hello\n", "﻿\n\n{}", "binary \x00\xff\n{}\n"],
)
def test_user_data_of_any_kind_can_hold_the_line(around: str) -> None:
    raw = around.replace("{}", user_data_line(USER_DATA), 1).encode("utf-8", "surrogateescape")
    assert read_user_data(raw) == USER_DATA


def test_user_data_without_the_line_configures_nothing() -> None:
    assert read_user_data(b"#cloud-config\nruncmd: []\n") is None


@pytest.mark.parametrize(
    "raw",
    [
        b"#trusted-gateway {}",
        b"#trusted-gateway not json",
        b'#trusted-gateway {"gateway":"h:1","ca_sha256":"short"}',
        (user_data_line(USER_DATA) + "\n" + user_data_line(USER_DATA)).encode(),
    ],
)
def test_a_wrong_line_is_an_error(raw: bytes) -> None:
    with pytest.raises(Malformed):
        read_user_data(raw)


def test_instants_have_one_form() -> None:
    moment = datetime(2026, 11, 22, 2, 31, 10, 999, UTC)
    assert instant(moment) == "2026-11-22T02:31:10Z"
    assert parse_instant("2026-11-22T02:31:10Z") == moment.replace(microsecond=0)
    with pytest.raises(ValueError, match="does not match"):
        parse_instant("2026-11-22T02:31:10+00:00")


def test_problem_documents_are_rfc_9457() -> None:
    document = problems.document("ticket_used", detail="d", instance="urn:uuid:1")
    assert document["type"] == "urn:trusted-gateway:problem:ticket_used"
    assert (document["status"], document["code"], document["detail"]) == (409, "ticket_used", "d")
    with pytest.raises(KeyError):
        problems.document("no_such_code")
    assert all(p.code == code and 400 <= p.status < 600 and p.hint for code, p in problems.PROBLEMS.items())
