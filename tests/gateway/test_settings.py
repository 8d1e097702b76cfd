from datetime import timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from gateway.core.approval import ApprovalRules
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


OIDC: dict[str, Any] = {
    "issuer": "https://login.example/realms/x", "client_id": "gateway", "roles": {"/admins": "administrator"},
}  # fmt: skip


def test_an_openid_provider() -> None:
    assert read(LEAST, {}).provider is None
    found = read(LEAST | {"oidc": OIDC | {"life": "30m", "name_suffix": "@example.com"}}, {}).provider
    assert found is not None
    assert (found.audience, found.client_id, found.roles) == ("gateway", "gateway", {"/admins": "administrator"})
    assert (found.life, found.max_age) == (timedelta(minutes=30), timedelta(hours=1))
    environ = {"TRUSTED_GATEWAY_OIDC_AUDIENCE": "api"}
    other = read(LEAST | {"oidc": OIDC}, environ).provider
    assert other is not None
    assert other.audience == "api"


@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        ({"issuer": "http://login.example"}, "oidc.issuer: must be an https URL"),
        ({"issuer": "http://127.0.0.1:8080"}, "oidc.issuer"),  # in development, too
        ({"issuer": "https://login.example?x=1"}, "oidc.issuer"),
        ({"issuer": "https://login.example#x"}, "oidc.issuer"),
        ({"issuer": "https://user@login.example"}, "oidc.issuer"),
        ({"issuer": "https://"}, "oidc.issuer"),
        ({"issuer": "https://login.example:0"}, "oidc.issuer"),
        ({"issuer": "https://login.example:99999"}, "oidc.issuer"),
        ({"issuer": None}, "oidc.client_id: means nothing without oidc.issuer"),
        ({"client_id": None}, "oidc.audience"),
        ({"roles": {}}, "oidc.roles"),
        ({"roles": {"x": " admin"}}, "oidc.roles.x"),
        ({"roles": {"x": "ADMIN"}}, "oidc.roles.x"),
        ({"life": "61m"}, "oidc.life"),
        ({"life": "59s"}, "oidc.life"),
        ({"max_age": "25h"}, "oidc.max_age"),
        ({"scopes": "openid  profile"}, "oidc.scopes"),
        ({"secret": "x"}, "oidc.secret: is not known"),
    ],
)
@pytest.mark.parametrize("environment", ["production", "development"])
def test_faults_of_an_openid_provider(changed: dict[str, Any], fault: str, environment: str) -> None:
    written = {name: value for name, value in (OIDC | changed).items() if value is not None}
    assert fault in faults(LEAST | {"environment": environment, "oidc": written})


def test_servers_are_seen_at_home_unless_regions_are_named() -> None:
    assert read(LEAST | {"aws": {"region": "eu-west-1"}}, {}).server_regions == ("eu-west-1",)
    named = read(LEAST, {"TRUSTED_GATEWAY_SERVERS_REGIONS": "us-east-1,eu-west-1,us-east-1"})
    assert named.server_regions == ("eu-west-1", "us-east-1")
    with pytest.raises(SettingsError):
        read(LEAST | {"servers": {"regions": ["Mars"]}}, {})


def test_approvals_are_asked_for_what_is_named() -> None:
    assert not read(LEAST, {}).approvals.permissions
    named = {"count": 3, "permissions": ["operator:key:*"], "life": "30m"}
    assert read(LEAST | {"approvals": named}, {}).approvals == ApprovalRules(
        3, ("operator:key:*",), timedelta(minutes=30)
    )
    variables = {"PERMISSIONS": "operator:key:rotate,operator:*:revoke", "COUNT": "4"}
    found = read(LEAST, {f"TRUSTED_GATEWAY_APPROVALS_{name}": value for name, value in variables.items()}).approvals
    assert (found.count, found.permissions) == (4, ("operator:key:rotate", "operator:*:revoke"))


@pytest.mark.parametrize(
    ("named", "fault"),
    [
        ({"count": 1}, "approvals.count: must be from 2 to 9"),
        ({"permissions": ["operator:key:read"]}, "approvals.permissions[0]: operator:key:read permits nothing"),
        ({"permissions": ["*"]}, "approvals.permissions[0]: does not have"),
        ({"permissions": "operator:key:*"}, "approvals.permissions: must be a list"),
        ({"life": "59s"}, "approvals.life: from 1m"),
        ({"life": "169h"}, "approvals.life: from 1m"),
        ({"odd": 1}, "approvals.odd: is not known here"),
    ],
)
def test_faults_of_approvals(named: dict[str, Any], fault: str) -> None:
    assert fault in faults(LEAST | {"approvals": named})
