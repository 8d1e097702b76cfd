"""Request ids."""

import os
from collections.abc import Iterator

_AT_ONCE = 64  # a system call for each would cost more than all the rest
_VARIANT = dict(zip("0123456789abcdef", "89ab" * 4, strict=True))


def request_ids() -> Iterator[str]:
    """Version 4 UUIDs (RFC 9562 section 5.4) without end. Start it after the fork: it holds random bytes in advance."""
    while True:
        digits = os.urandom(16 * _AT_ONCE).hex()  # noqa: TID251  # ids are the server's own, as its sockets are
        for at in range(0, len(digits), 32):
            d = digits[at : at + 32]
            yield f"{d[:8]}-{d[8:12]}-4{d[13:16]}-{_VARIANT[d[16]]}{d[17:20]}-{d[20:]}"
