"""Settings: parsed once, valid afterwards, and every fault is told at once."""

from pathlib import Path

import pytest

from agent import settings
from agent.errors import Fault
from agent.settings import Address


def test_defaults_are_those_of_the_design() -> None:
    found = settings.parse({})
    assert found.state_dir == Path("/var/lib/trusted-gateway-agent")
    assert found.run_dir == Path("/run/trusted-gateway-agent")
    assert found.metadata == Address("169.254.169.254", 80)
    assert found.listen == Address("127.0.0.1", 9911)
    assert found.imds == Address("127.0.0.1", 9912)
    assert (found.imds_grant, found.imds_passthrough) == (None, ())
    assert not found.in_memory


def test_flags_win_over_the_environment_and_that_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "agent.toml"
    file.write_text('run_dir = "/file"\nstate_dir = "/file"\nlisten = "127.0.0.1:1"\n')
    environ = {"TRUSTED_GATEWAY_AGENT_RUN_DIR": "/env", "TRUSTED_GATEWAY_AGENT_STATE_DIR": "/env", "HOME": "/root"}
    found = settings.load(file, environ, {"run_dir": "/flag"})
    assert (found.run_dir, found.state_dir, found.listen.port) == (Path("/flag"), Path("/env"), 1)


def test_every_fault_is_told_at_once() -> None:
    written = {"listen": "0.0.0.0:9911", "metadata": "https://169.254.169.254/", "key_storage": "cloud", "port": 1}
    with pytest.raises(Fault) as told:
        settings.parse(written)
    assert told.value.code == "settings_invalid"
    assert all(key in str(told.value) for key in written)
    assert "run_dir" not in str(told.value)


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "127.9.9.9:80", "[::1]:9911"])
def test_listens_on_loopback(listen: str) -> None:
    assert str(settings.parse({"listen": listen}).listen) == listen


@pytest.mark.parametrize(
    "listen", ["0.0.0.0:9911", "[::]:9911", "10.0.0.1:9911", "localhost:9911", "127.0.0.1", "127.0.0.1:65536", ":1", ""]
)
def test_listens_nowhere_else(listen: str) -> None:
    with pytest.raises(Fault, match="listen"):
        settings.parse({"listen": listen})


@pytest.mark.parametrize("url", ["http://169.254.169.254", "http://[fd00:ec2::254]/", "http://127.0.0.1:8000/"])
def test_metadata_is_on_this_machine(url: str) -> None:
    settings.parse({"metadata": url})


@pytest.mark.parametrize(
    "url", ["http://10.0.0.1/", "http://example.com/", "http://u@127.0.0.1/", "http://127.0.0.1/x/", "ftp://127.0.0.1/"]
)
def test_metadata_is_nowhere_else(url: str) -> None:
    with pytest.raises(Fault, match="metadata"):
        settings.parse({"metadata": url})


def test_an_unknown_variable_of_ours_is_a_fault_and_another_is_not() -> None:
    settings.load(None, {"TRUSTED_GATEWAY_DATABASE": "x", "TRUSTED_GATEWAY_AGENT_CONFIG": "/x"}, {})
    with pytest.raises(Fault, match="statedir"):
        settings.load(None, {"TRUSTED_GATEWAY_AGENT_STATEDIR": "/x"}, {})


def test_a_file_that_is_named_must_be_there_and_be_toml(tmp_path: Path) -> None:
    with pytest.raises(Fault, match="not there"):
        settings.load(tmp_path / "none.toml", {}, {})
    (tmp_path / "bad.toml").write_bytes(b"listen = \xff")
    with pytest.raises(Fault, match="not TOML"):
        settings.load(tmp_path / "bad.toml", {}, {})


@pytest.mark.parametrize(
    ("written", "address"),
    [
        ("gateway.internal:8443", Address("gateway.internal", 8443)),
        ("gateway.internal", Address("gateway.internal", 443)),
        ("[2001:DB8::1]:1", Address("2001:db8::1", 1)),
        ("192.0.2.1:8443", Address("192.0.2.1", 8443)),
    ],
)
def test_addresses(written: str, address: Address) -> None:
    assert Address.parse(written, 443) == address


@pytest.mark.parametrize(
    "written",
    ["a:b", "a:1:2", "[::1", "::1:80", "[::g]:1", "a:123456", "a..b:1", "a" * 64 + ":1", "a b:1", "user@a:1", "a:1\n"],
)
def test_what_is_no_address(written: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        Address.parse(written, 443)


# ── the metadata look-alike


def test_off_and_one_grant() -> None:
    found = settings.parse({"imds": "off", "imds_grant": "app", "imds_passthrough": ["meta-data/placement/"]})
    assert (found.imds, found.imds_grant, found.imds_passthrough) == (None, "app", ("meta-data/placement/",))


def test_paths_come_with_commas_from_the_environment() -> None:
    environ = {"TRUSTED_GATEWAY_AGENT_IMDS_PASSTHROUGH": "meta-data/placement/,dynamic/instance-identity/"}
    assert settings.load(None, environ, {}).imds_passthrough == ("meta-data/placement/", "dynamic/instance-identity/")
    assert settings.load(None, environ, {"imds_passthrough": "off"}).imds_passthrough == ()


@pytest.mark.parametrize(
    "written",
    [
        {"imds": "0.0.0.0:9912"},
        {"imds": "169.254.169.254:80"},
        {"imds": "on"},
        {"imds": "127.0.0.1:9911"},
        {"imds_grant": "A"},
        {"imds_grant": ""},
        {"imds_passthrough": ["user-data"]},
        {"imds_passthrough": "meta-data/placement/,user-data"},
        {"imds_passthrough": ["meta-data/iam/"]},
        {"imds_passthrough": ["meta-data/identity-credentials/"]},
        {"imds_passthrough": [1]},
    ],
)
def test_a_look_alike_that_would_give_too_much(written: dict[str, object]) -> None:
    with pytest.raises(Fault, match=next(iter(written))):
        settings.parse(written)
