"""Which addresses AWS can have, and which it never has."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.web.upstream.addresses import in_networks, is_public, parse_origin

NEVER = [
    "127.0.0.1", "127.1.2.3", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "100.64.0.1", "169.254.169.254",
    "169.254.170.2", "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255", "192.0.0.1", "192.0.2.1", "198.18.0.1",
    "::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "ff02::1", "::ffff:169.254.169.254",
    "::ffff:93.184.215.14", "::ffff:a9fe:a9fe", "64:ff9b::a9fe:a9fe", "64:ff9b::7f00:1", "2002:a9fe:a9fe::1",
    "2001:db8::1", "2001:0:a9fe:a9fe::1", "s3.us-east-1.amazonaws.com", "2130706433", "0x7f.1", "0177.0.0.1", "",
]  # fmt: skip


@pytest.mark.threat("F01")
@pytest.mark.parametrize("address", NEVER)
def test_never(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["52.216.1.1", "3.5.1.1", "2600:1f18::1", "64:ff9b::34d8:101"])
def test_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.threat("F01")
@given(st.ip_addresses(v=4))
def test_an_address_is_not_made_public_by_how_it_is_written(address: ipaddress.IPv4Address) -> None:
    assert not is_public(f"::ffff:{address}")
    assert not is_public(str(ipaddress.IPv6Address((0x2002 << 112) + (int(address) << 80) + 1)))
    assert is_public(f"64:ff9b::{address}") == is_public(str(address))
    assert is_public(str(address)) <= address.is_global


def test_origins() -> None:
    assert parse_origin("https://s3.us-east-1.amazonaws.com") == (True, "s3.us-east-1.amazonaws.com", 443)
    assert parse_origin("http://[::1]:4566") == (False, "::1", 4566)
    for bad in ("https://a/", "https://a@b", "ftp://a", "https://", "a", "https://a?b", "https://a:x", "https://a#b"):
        with pytest.raises(ValueError, match=r"origin|[Pp]ort"):
            parse_origin(bad)


@pytest.mark.parametrize(
    ("address", "inside"),
    [("10.1.2.3", True), ("10.2.0.1", False), ("::ffff:10.1.2.3", False), ("169.254.169.254", False), ("x", False)],
)
def test_the_interface_endpoints_of_a_vpc_are_in_networks_that_are_named(address: str, inside: bool) -> None:
    assert in_networks(address, [ipaddress.ip_network("10.1.0.0/16")]) is inside
    assert not in_networks(address, [])
