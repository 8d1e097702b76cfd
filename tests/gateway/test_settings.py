from datetime import timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from gateway.core.errors import SettingsError
from gateway.settings import read, variables

LEAST: dict[str, Any] = {"names": ["gateway.internal", "10.0.0.5"]}


def faults(document: dict[str, Any], environ: dict[str, str] | None = None) -> str:
    with pytest.raises(SettingsError) as caught:
        read(document, environ or {})
    return "\n".join(caught.value.faults)


def test_the_least_that_must_be_said() -> None:
    settings = read(LEAST, {"PATH": "/bin"})
    assert not settings.development
    assert settings.certificate_life == timedelta(hours=24)
    assert settings.identity_certificates == Path("/etc/trusted-gateway/aws")
    assert settings.crl_url == "http://gateway.internal:8080/crl/instances.crl"


def test_all_faults_are_told_at_once() -> None:
    told = faults({"names": [], "workers": 0, "colour": "red", "listen": {"admin": "here"}}, {"TRUSTED_GATEWAY_X": "1"})
    for fault in ("workers: must be from", "colour: is not known", "listen.admin: does not have", "TRUSTED_GATEWAY_X"):
        assert fault in told


@pytest.mark.parametrize(
    ("document", "fault"),
    [
        ({}, "names: is missing"),
        (LEAST | {"names": []}, "at least one"),
        (LEAST | {"names": ["*.evil"]}, "no DNS name"),
        (LEAST | {"names": ["UPPER.test"]}, "no DNS name"),
        (LEAST | {"listen": {"local": "0.0.0.0:8081"}}, "loopback"),
        (LEAST | {"listen": {"admin": "0.0.0.0:99999"}}, "no port"),
        (LEAST | {"listen": {"admin": "999.0.0.1:1"}}, "no address"),
        (LEAST | {"store": "mysql://x"}, "SQLite"),
        (LEAST | {"aws": {"endpoint": "https://10.0.0.9:4566"}}, "only with environment"),
        (LEAST | {"environment": "development", "aws": {"endpoint": "http://10.0.0.9:4566"}}, "plain HTTP only"),
        (LEAST | {"environment": "testing"}, "environment: does not have"),
        (LEAST | {"enrollment": {"certificate_life": "25h"}}, "from 2s to 24h"),
        (LEAST | {"trust_domain": "Upper"}, "trust_domain"),
    ],
)
def test_faults(document: dict[str, Any], fault: str) -> None:
    assert fault in faults(document)


def test_variables_win_over_the_file() -> None:
    environ = {
        "TRUSTED_GATEWAY_NAMES": "a.test,b.test",
        "TRUSTED_GATEWAY_WORKERS": "5",
        "TRUSTED_GATEWAY_LISTEN_ADMIN": "127.0.0.1:9",
        "TRUSTED_GATEWAY_SETTINGS": "/elsewhere",
    }
    settings = read(LEAST | {"listen": {"admin": "0.0.0.0:1"}}, environ)
    assert settings.names == ("a.test", "b.test")
    assert settings.workers == 5
    assert settings.listen.admin == "127.0.0.1:9"
    assert "TRUSTED_GATEWAY_AWS_IDENTITY_CERTIFICATES" in variables()


def test_a_variable_of_the_wrong_form_is_a_fault() -> None:
    assert "workers: must be an integer" in faults(LEAST, {"TRUSTED_GATEWAY_WORKERS": "many"})


def test_where_the_gateway_is_found() -> None:
    """The admin listener has an address of its own unless told otherwise; the server certificate has to name it."""
    settings = read(LEAST, {})
    assert settings.instance_address == "gateway.internal:8443"
    assert settings.admin_address == "127.0.0.1:8444"
    assert settings.server_names == ("gateway.internal", "10.0.0.5", "127.0.0.1")
    anywhere = read({"names": ["fd00::5"], "listen": {"admin": "[::]:9000", "instance": "[::]:9001"}}, {})
    assert anywhere.admin_address == "[fd00::5]:9000"
    assert anywhere.instance_address == "[fd00::5]:9001"
    assert anywhere.server_names == ("fd00::5",)
    assert read(LEAST | {"listen": {"admin": "10.0.0.5:8444"}}, {}).server_names == ("gateway.internal", "10.0.0.5")


def test_trust_anchors() -> None:
    anchor = {"certificates": "/etc/corp.pem", "profiles": ["web"]}
    far = {**anchor, "crl": "/etc/corp.crl", "region": "eu-central-1"}
    found = read({"names": ["a.example"], "trust_anchors": {"corp": anchor, "far": far}}, {}).trust_anchors
    assert [(each.name, each.crl, each.region) for each in found] == [
        ("corp", None, "us-east-1"),
        ("far", "/etc/corp.crl", "eu-central-1"),
    ]
    for name, changed, fault in (
        ("instances", {}, "trust_anchors.instances"),
        ("a/b", {}, "trust_anchors.a/b"),
        ("Corp", {}, "trust_anchors.Corp"),
        ("corp", {"profiles": []}, "trust_anchors.corp.profiles"),
        ("corp", {"profiles": ["*"]}, "trust_anchors.corp.profiles[0]"),
        ("corp", {"odd": 1}, "trust_anchors.corp.odd"),
        ("corp", {"region": "mars"}, "trust_anchors.corp.region"),
    ):
        document = {"names": ["a.example"], "trust_anchors": {name: {**anchor, **changed}}}
        assert fault in faults(document)
    assert not any("ANCHOR" in name for name in variables())


def test_private_networks_in_which_aws_may_be() -> None:
    read_ = read({"names": ["a"], "aws": {"private_networks": ["10.1.0.0/16", "fd00:1::/64"]}}, {})
    assert read_.aws_private_networks == (ip_network("10.1.0.0/16"), ip_network("fd00:1::/64"))
    assert read({"names": ["a"]}, {}).aws_private_networks == ()


@pytest.mark.parametrize(
    "written",
    ["0.0.0.0/0", "127.0.0.0/8", "169.254.0.0/16", "10.0.0.1/8", "10.0.0.0/7", "8.8.8.0/24", "::/0", "x", "fe80::/64"],
)
def test_only_what_is_private_can_be_opened(written: str) -> None:
    with pytest.raises(SettingsError, match=r"aws\.private_networks\[0\]: must be a private network"):
        read({"names": ["a"], "aws": {"private_networks": [written]}}, {})
