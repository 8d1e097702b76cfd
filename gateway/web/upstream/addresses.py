"""Which addresses AWS can have: public ones. A name is no proof, whoever answered for it (threat F01)."""

import ipaddress
from collections.abc import Collection
from urllib.parse import urlsplit

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052: the last 32 bits are an IPv4 address
_6TO4 = ipaddress.IPv6Network("2002::/16")  # RFC 3056, given up by RFC 7526; it holds one, too
_TEREDO = ipaddress.IPv6Network("2001::/32")  # RFC 4380


def is_public(address: str) -> bool:
    """Whether this is an address of the public Internet: not loopback, link-local (the metadata service), private,
    shared, reserved or multicast, nor one of these written as an IPv6 address. False for what is no address.
    """
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        if ip in _NAT64:  # where there is only IPv6, AWS is reached by it
            return is_public(str(ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)))
        if ip.ipv4_mapped is not None or ip.scope_id is not None or ip in _6TO4 or ip in _TEREDO:
            return False
    return ip.is_global and not (ip.is_multicast or ip.is_reserved)


def in_networks(address: str, networks: Collection[Network]) -> bool:
    """Whether the address, as it is written, is in one of the networks."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    return any(ip.version == network.version and ip in network for network in networks)


def parse_origin(origin: str) -> tuple[bool, str, int]:
    """Whether it is TLS, the host, the port. Raises ValueError: an origin is a scheme, a host and perhaps a port."""
    parts = urlsplit(origin)
    if parts.scheme not in ("http", "https") or not parts.hostname or origin != f"{parts.scheme}://{parts.netloc}":
        raise ValueError("not an origin")
    if parts.username is not None or parts.password is not None:
        raise ValueError("not an origin")
    tls = parts.scheme == "https"
    return tls, parts.hostname, parts.port or (443 if tls else 80)
