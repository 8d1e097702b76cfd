"""The user behind a TCP connection on this machine, as the kernel knows him (proc(5): /proc/net/tcp).

A socket's uid is there for as long as its process holds it; afterwards it reads 0, which must not be taken for root.
"""

import ipaddress
import sys
from pathlib import Path

TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))

_ESTABLISHED = b"01"
_End = tuple[str, int]


def uid_of(peer: _End, local: _End) -> int | None:
    """The uid of the process at the other end of a connection between `peer` and `local`; None when it is not found.

    Twice, because the table is read in parts, and may lose a line when others come and go meanwhile. Raises OSError.
    """
    for _ in range(2):
        for table in TABLES:
            if table.exists() and (uid := find(table.read_bytes(), peer, local)) is not None:
                return uid
    return None


def find(table: bytes, peer: _End, local: _End) -> int | None:
    """The same in the text of one table. The peer's own line begins with its address and names ours second."""
    for write in (_written, _mapped):
        pair = b" %b %b %b " % (write(peer), write(local), _ESTABLISHED)
        at = table.find(pair)
        if at >= 0:
            fields = table[at : table.find(b"\n", at)].split()
            uid, inode = int(fields[6]), fields[8]
            return uid if inode != b"0" else None
    return None


def _written(end: _End) -> bytes:
    return _hexadecimal(ipaddress.ip_address(end[0]).packed, end[1])


def _mapped(end: _End) -> bytes:
    """An IPv4 address as a program has it that speaks IPv6 only, such as Java: ::ffff:127.0.0.1."""
    packed = ipaddress.ip_address(end[0]).packed
    return _hexadecimal(packed if len(packed) == 16 else bytes(10) + b"\xff\xff" + packed, end[1])


def _hexadecimal(packed: bytes, port: int) -> bytes:
    """Words of four bytes, each as a number of this machine."""
    words = (packed[i : i + 4] for i in range(0, len(packed), 4))
    return b"%b:%04X" % (b"".join(b"%08X" % int.from_bytes(word, sys.byteorder) for word in words), port)
