"""CBOR (RFC 8949), as much of it as Smithy's RPC v2 sends, read strictly.

A reader of our own, since what is decided here must not hang on how a library reads doubtful input: keys are texts and
stand once, lengths are true, nothing follows the value. Tags are read through: 1 is a time, and stays its number.
"""

import struct
from typing import Any, Final

from gateway.wire.strict import Malformed

DEEPEST: Final = 128
_BREAK: Final = object()
_SIMPLE: Final = {20: False, 21: True, 22: None, 23: None}
_FLOATS: Final = {25: ">e", 26: ">f", 27: ">d"}


def loads(raw: bytes) -> Any:
    """Parse one value. Integers, floats, booleans, None, str, bytes, lists, and dicts with texts as keys.

    Raises Malformed.
    """
    reader = _Reader(raw)
    value = reader.value(0)
    if value is _BREAK or reader.place != len(raw):
        raise Malformed("body: not one CBOR value")
    return value


class _Reader:
    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self.place = 0

    def _take(self, length: int) -> bytes:
        end = self.place + length
        if end > len(self._raw):
            raise Malformed("body: CBOR that ends early")
        taken = self._raw[self.place : end]
        self.place = end
        return taken

    def value(self, depth: int) -> Any:
        """The value that begins here; _BREAK where an indefinite one ends."""
        if depth > DEEPEST:
            raise Malformed("body: nested too deeply")
        head = self._take(1)[0]
        major, information = head >> 5, head & 31
        if major == 7:
            return self._simple(information)
        length = self._argument(information)
        if length is None and major in (0, 1, 6):
            raise Malformed("body: CBOR that is not well-formed")
        if major == 0:
            return length
        if major == 1 and length is not None:
            return -1 - length
        if major in (2, 3):
            return self._text(major, length)
        if major == 4:
            return self._list(length, depth)
        if major == 5:
            return self._map(length, depth)
        inner = self.value(depth + 1)
        if inner is _BREAK:
            raise Malformed("body: CBOR that is not well-formed")
        return inner

    def _argument(self, information: int) -> int | None:
        """RFC 8949 §3: the number in the head or behind it; None for an indefinite length."""
        if information < 24:
            return information
        if information < 28:
            return int.from_bytes(self._take(1 << (information - 24)), "big")
        if information == 31:
            return None
        raise Malformed("body: CBOR that is not well-formed")

    def _simple(self, information: int) -> Any:
        if information in _SIMPLE:
            return _SIMPLE[information]
        if information in _FLOATS:
            form = _FLOATS[information]
            return struct.unpack(form, self._take(struct.calcsize(form)))[0]
        if information == 31:
            return _BREAK
        raise Malformed("body: a CBOR simple value that Smithy does not have")

    def _text(self, major: int, length: int | None) -> str | bytes:
        raw = self._take(length) if length is not None else self._pieces(major)
        if major == 2:
            return raw
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError:
            raise Malformed("body: a CBOR text that is not UTF-8") from None

    def _pieces(self, major: int) -> bytes:
        pieces = []
        while (head := self._take(1)[0]) != 0xFF:
            length = self._argument(head & 31)
            if head >> 5 != major or length is None:
                raise Malformed("body: CBOR that is not well-formed")
            pieces.append(self._take(length))
        return b"".join(pieces)

    def _list(self, length: int | None, depth: int) -> list[Any]:
        out: list[Any] = []
        while length is None or len(out) < length:
            item = self.value(depth + 1)
            if item is _BREAK:
                if length is None:
                    break
                raise Malformed("body: CBOR that is not well-formed")
            out.append(item)
        return out

    def _map(self, length: int | None, depth: int) -> dict[str, Any]:
        out: dict[str, Any] = {}
        while length is None or len(out) < length:
            key = self.value(depth + 1)
            if key is _BREAK and length is None:
                break
            if not isinstance(key, str):
                raise Malformed("body: a CBOR key that is no text")
            if key in out:
                raise Malformed("body: a key stands twice in one object")
            if (item := self.value(depth + 1)) is _BREAK:
                raise Malformed("body: CBOR that is not well-formed")
            out[key] = item
        return out
