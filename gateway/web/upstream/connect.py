"""A new connection to an origin: the address that was checked is the address that is connected to (threat F01)."""

import asyncio
import socket
import ssl
from collections.abc import Callable, Sequence
from typing import Any

from gateway.web.upstream.addresses import parse_origin
from gateway.web.upstream.broken import Broken
from gateway.web.upstream.wire import Wire

_MOST_ADDRESSES = 4  # that are tried


def verifying_context() -> ssl.SSLContext:
    """TLS 1.2 or later, by the certificate authorities of the system, with the host's name checked."""
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context


async def connect(wire: Wire, tls: ssl.SSLContext, allowed: Callable[[str], bool] | None, seconds: float) -> None:
    """Connect the wire to its origin. `allowed` says which addresses it may have; None leaves them unchecked,
    and allows plain HTTP: for the endpoint of a development.

    Raises Broken, with nothing sent.
    """
    try:
        encrypted, host, port = parse_origin(wire.origin)
    except ValueError:
        raise Broken("bad_origin", unsent=True) from None
    if not encrypted and allowed is not None:
        raise Broken("not_encrypted", unsent=True)
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(seconds):
            sock = await _reach(await _resolve(host, port, allowed or _any))
            try:
                await loop.create_connection(
                    lambda: wire, sock=sock, ssl=tls if encrypted else None, server_hostname=host if encrypted else None
                )
            except BaseException:
                sock.close()
                raise
    except TimeoutError:
        raise Broken("connect_timeout", unsent=True) from None
    except ssl.SSLCertVerificationError:
        raise Broken("certificate", unsent=True) from None
    except OSError:  # an ssl.SSLError is of this kind
        raise Broken("connect", unsent=True) from None


def _any(_: str) -> bool:
    return True


async def _resolve(host: str, port: int, allowed: Callable[[str], bool]) -> Sequence[tuple[int, tuple[str, int]]]:
    """The addresses of the host, by family. One that is not allowed among them refuses them all: such a name is either
    attacked, or not AWS's.
    """
    found = await _names(host, port)
    addresses = list(dict.fromkeys((int(family), (str(address[0]), port)) for family, _, _, _, address in found))
    if not addresses or not all(allowed(address) for _, (address, _) in addresses):
        raise Broken("address_refused", unsent=True)
    return addresses[:_MOST_ADDRESSES]


async def _names(host: str, port: int) -> Sequence[Any]:
    """What the system's resolver says, as `socket.getaddrinfo`. Raises OSError."""
    return await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)


async def _reach(addresses: Sequence[tuple[int, tuple[str, int]]]) -> socket.socket:
    """A socket that is connected to the first of them that answers. Raises OSError: none does."""
    loop = asyncio.get_running_loop()
    for at, (family, address) in enumerate(addresses, 1):
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await loop.sock_connect(sock, address)
        except OSError:
            sock.close()
            if at == len(addresses):
                raise
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    raise OSError("no address")
