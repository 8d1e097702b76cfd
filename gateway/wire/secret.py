"""`Secret`: bytes that do not print, do not pickle, and are open only for the length of a `with`."""

import hmac
from types import TracebackType
from typing import NoReturn


class Secret:
    """Secret bytes. `with secret as plain:` lends them; `wipe()` overwrites them.

    Python cannot promise that no copy was ever made; it can promise that none is made by printing, logging, comparing,
    pickling or keeping this object after `wipe()`.
    """

    __slots__ = ("_buffer", "_wiped")

    def __init__(self, plain: bytes | bytearray | str) -> None:
        self._buffer = bytearray(plain.encode() if isinstance(plain, str) else plain)
        self._wiped = False

    def __enter__(self) -> bytes:
        if self._wiped:
            raise ValueError("this secret was wiped")
        return bytes(self._buffer)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def wipe(self) -> None:
        """Overwrite the bytes with zeros; the secret cannot be opened afterwards."""
        self._buffer[:] = bytes(len(self._buffer))
        self._wiped = True

    def __del__(self) -> None:
        if hasattr(self, "_buffer"):
            self.wipe()

    def __repr__(self) -> str:
        return "Secret(…)"

    __str__ = __repr__

    def __format__(self, _: str) -> str:
        return repr(self)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._buffer, other._buffer)

    __hash__ = None  # type: ignore[assignment]  # a hash of a secret would end up in a dict's repr or a log

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret is never pickled or copied")
