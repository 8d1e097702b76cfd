from dataclasses import replace
from datetime import timedelta

import pytest

from gateway.core.errors import Refusal
from gateway.core.identity import check_certificate, check_instance, check_operator
from gateway.core.model import (
    Certificate,
    CertificateState,
    Instance,
    InstanceState,
)
from gateway.core.operator_model import (
    Operator,
    OperatorState,
)
from tests.gateway.core.rows import CERTIFICATE, INSTANCE, NOW

SHA = CERTIFICATE.sha256
SUPERSEDED = replace(CERTIFICATE, state=CertificateState.SUPERSEDED)


@pytest.mark.threat("B01", "B02")
@pytest.mark.parametrize(
    ("row", "sha256", "seconds", "code"),
    [
        (None, SHA, 0, "certificate_unknown"),
        (CERTIFICATE, "d" * 64, 0, "certificate_unknown"),
        (replace(CERTIFICATE, kind="operator"), SHA, 0, "certificate_unknown"),
        (CERTIFICATE, SHA, -301, "certificate_expired"),
        (CERTIFICATE, SHA, 24 * 3600 + 1, "certificate_expired"),
        (SUPERSEDED, SHA, 0, "certificate_superseded"),
        (replace(CERTIFICATE, state=CertificateState.REVOKED), SHA, 0, "instance_revoked"),
        (replace(CERTIFICATE, kind="operator", state=CertificateState.REVOKED), SHA, 0, "certificate_unknown"),
    ],
)
def test_B01_B02_certificates_that_are_refused(row: Certificate | None, sha256: str, seconds: int, code: str) -> None:
    with pytest.raises(Refusal) as caught:
        check_certificate(row, "instance", sha256, NOW + timedelta(seconds=seconds))
    assert caught.value.code == code


@pytest.mark.threat("B02")
@pytest.mark.parametrize("seconds", [-300, 0, 24 * 3600])
def test_B02_both_ends_of_the_validity_are_inclusive(seconds: int) -> None:
    assert check_certificate(CERTIFICATE, "instance", SHA, NOW + timedelta(seconds=seconds)) is CERTIFICATE


def test_a_superseded_certificate_opens_one_door_and_an_expired_one_none() -> None:
    assert check_certificate(SUPERSEDED, "instance", SHA, NOW, superseded_too=True) is SUPERSEDED
    with pytest.raises(Refusal, match="not valid"):
        check_certificate(SUPERSEDED, "instance", SHA, NOW + timedelta(days=2), superseded_too=True)


@pytest.mark.parametrize(
    ("instance", "code"),
    [(None, "certificate_unknown"), (replace(INSTANCE, state=InstanceState.REVOKED), "instance_revoked")],
)
def test_instances_that_are_refused(instance: Instance | None, code: str) -> None:
    with pytest.raises(Refusal) as caught:
        check_instance(instance, CERTIFICATE)
    assert caught.value.code == code
    assert check_instance(INSTANCE, CERTIFICATE).instance is INSTANCE


def test_operators_must_be_known() -> None:
    alice = Operator("alice", {"roles": ["administrator"]}, 1, OperatorState.ACTIVE, NOW, "")
    assert check_operator(alice) is alice
    with pytest.raises(Refusal):
        check_operator(None)
