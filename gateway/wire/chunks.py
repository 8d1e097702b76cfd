"""The two `aws-chunked` forms of a body: signed chunks are read, those with a checksum behind them read and written.

AWS: "Signature Calculations for the Authorization Header: Transferring Payload in Multiple Chunks", and "… Including
Trailing Headers" (S3 API reference). All are fed bytes as they come, and hold one chunk at the most. Pure.
"""

import base64
import hashlib
import hmac
import re
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection

from gateway.wire.sigv4 import NOTHING_SHA256, Scope, signature

LONGEST_CHUNK = 16 * 1024 * 1024
PIECE = 64 * 1024
"""Bytes of a chunk that is written. S3 demands 8 KiB at least of all but the last."""
CRC32 = "x-amz-checksum-crc32"

CHECKSUMS = {
    CRC32: 4, "x-amz-checksum-crc32c": 4, "x-amz-checksum-crc64nvme": 8, "x-amz-checksum-sha1": 20,
    "x-amz-checksum-sha256": 32,
}  # fmt: skip
"""What may stand behind a body, with the bytes of its value (which is sent in base64)."""

REASONS = {
    "chunk_malformed": "A chunk of the body is not as AWS writes it",
    "chunk_too_long": "A chunk of the body is longer than 16 MiB",
    "chunk_signature_wrong": "The signature of a chunk is not right",
    "trailer_malformed": "What stands behind the body is not what X-Amz-Trailer announces",
    "trailer_signature_wrong": "The signature of what stands behind the body is not right",
    "body_incomplete": "The body ends before its last chunk",
    "body_too_long": "Something stands behind the end of the body",
}
"""Every reason of a ChunkError, with its sentence."""

# 16 MiB are seven digits; more than eight are no length that anybody means.
_HEAD = re.compile(rb"([0-9a-fA-F]{1,8});chunk-signature=([0-9a-f]{64})")
_BARE_HEAD = re.compile(rb"[0-9a-fA-F]{1,12}")
_LONGEST_LINE = 8 + len(";chunk-signature=") + 64
_LONGEST_TRAILER = 256
_TRAILER = re.compile(rb"([a-z0-9-]{1,64}):([A-Za-z0-9+/]{1,88}={0,2})")
_SIGNATURE = b"x-amz-trailer-signature"
_END = b"\r\n"


class ChunkError(ValueError):
    """The body is not right. `reason` is one of `REASONS`."""

    def __init__(self, reason: str) -> None:
        super().__init__(REASONS[reason])
        self.reason = reason


class _Chunks(ABC):
    """What both readers have in common. `_read` is the next step: whether it could be done with what is there."""

    _sealed = False

    def __init__(self, trailer_names: Collection[str]) -> None:
        self._awaited = {name.encode() for name in trailer_names}
        self._unsealed = b""
        self._buffer = bytearray()
        self._read: Callable[[list[bytes]], bool] = self._read_head
        self.done = False
        self.decoded = 0
        """Bytes that were given out."""
        self.trailers: dict[str, str] = {}

    def feed(self, piece: bytes | bytearray | memoryview) -> list[bytes]:
        """What can be given out now. Raises ChunkError; after that nothing more may be fed."""
        self._buffer += piece
        chunks: list[bytes] = []
        while not self.done and self._read(chunks):
            pass
        if self.done and self._buffer:
            raise ChunkError("body_too_long")
        return chunks

    def finish(self) -> None:
        """Say that there is no more. Raises ChunkError when there should be."""
        if not self.done:
            raise ChunkError("body_incomplete")

    @abstractmethod
    def _read_head(self, chunks: list[bytes]) -> bool:
        """The first step."""

    def _check_trailers(self, signed: str) -> None:
        raise ChunkError("trailer_malformed")

    def _read_trailer(self, _: list[bytes]) -> bool:
        line = self._line(_LONGEST_TRAILER, "trailer_malformed")
        if line is None:
            return False
        name, _mark, value = line.partition(b":")
        if not line:
            if self._awaited or self._unsealed:
                raise ChunkError("trailer_malformed")
            self.done = True
        elif name == _SIGNATURE and self._unsealed and not self._awaited:
            self._check_trailers(value.decode("latin-1"))
            self._unsealed = b""
        elif name in self._awaited and _TRAILER.fullmatch(line):
            self._awaited.remove(name)
            self._unsealed += line + b"\n" if self._sealed else b""
            self.trailers[name.decode()] = value.decode()
        else:
            raise ChunkError("trailer_malformed")
        return True

    def _take(self, size: int, chunks: list[bytes]) -> None:
        self.decoded += size
        chunks.append(bytes(self._buffer[:size]))
        del self._buffer[:size]

    def _line(self, longest: int, reason: str) -> bytes | None:
        """The line at the front, without its end; None while it is incomplete."""
        end = self._buffer.find(_END, 0, longest + len(_END))
        if end < 0:
            if len(self._buffer) >= longest + len(_END):
                raise ChunkError(reason)
            return None
        line = bytes(self._buffer[:end])
        del self._buffer[: end + len(_END)]
        return line


class SignedChunks(_Chunks):
    """Reads STREAMING-AWS4-HMAC-SHA256-PAYLOAD, and …-PAYLOAD-TRAILER when `trailer_names` are given.

    `seed_signature`, `stamp` and `scope` are the request's, `key` is the signing key of the scope. Nothing of a chunk
    is given out before its signature was found right.
    """

    _sealed = True

    def __init__(
        self, seed_signature: str, stamp: str, scope: Scope, key: bytes, trailer_names: Collection[str] = ()
    ) -> None:
        super().__init__(trailer_names)
        self._previous, self._stamp, self._scope, self._key = seed_signature, stamp, scope, key
        self._chunk: tuple[int, str] = (0, "")

    def _read_head(self, _: list[bytes]) -> bool:
        line = self._line(_LONGEST_LINE, "chunk_malformed")
        if line is None:
            return False
        match = _HEAD.fullmatch(line)
        if match is None:
            raise ChunkError("chunk_malformed")
        size, signed = int(match[1], 16), match[2].decode()
        if size > LONGEST_CHUNK:
            raise ChunkError("chunk_too_long")
        if size:
            self._chunk, self._read = (size, signed), self._read_chunk
        else:
            self._check("PAYLOAD", f"{NOTHING_SHA256}\n{NOTHING_SHA256}", signed, "chunk_signature_wrong")
            self._read = self._read_trailer
        return True

    def _read_chunk(self, chunks: list[bytes]) -> bool:
        size, signed = self._chunk
        if len(self._buffer) < size + len(_END):
            return False
        if self._buffer[size : size + len(_END)] != _END:
            raise ChunkError("chunk_malformed")
        self._take(size, chunks)
        del self._buffer[: len(_END)]
        digest = hashlib.sha256(chunks[-1]).hexdigest()
        self._check("PAYLOAD", f"{NOTHING_SHA256}\n{digest}", signed, "chunk_signature_wrong")
        self._read = self._read_head
        return True

    def _check_trailers(self, signed: str) -> None:
        self._check("TRAILER", hashlib.sha256(self._unsealed).hexdigest(), signed, "trailer_signature_wrong")

    def _check(self, kind: str, statement: str, signed: str, reason: str) -> None:
        right = signature(
            self._key, f"AWS4-HMAC-SHA256-{kind}\n{self._stamp}\n{self._scope}\n{self._previous}\n{statement}"
        )
        if not hmac.compare_digest(right.encode(), signed.encode("latin-1")):
            raise ChunkError(reason)
        self._previous = right


class UnsignedChunks(_Chunks):
    """Reads STREAMING-UNSIGNED-PAYLOAD-TRAILER. Chunks are given out as they come, however long they are; whether the
    checksum behind them is theirs is not looked at.
    """

    def __init__(self, trailer: str) -> None:
        super().__init__((trailer,))
        self._left = 0

    def _read_head(self, _: list[bytes]) -> bool:
        line = self._line(_LONGEST_LINE, "chunk_malformed")
        if line is None:
            return False
        if not _BARE_HEAD.fullmatch(line):
            raise ChunkError("chunk_malformed")
        self._left = int(line, 16)
        self._read = self._read_some if self._left else self._read_trailer
        return True

    def _read_some(self, chunks: list[bytes]) -> bool:
        size = min(self._left, len(self._buffer))
        if size:
            self._left -= size
            self._take(size, chunks)
        if self._left or len(self._buffer) < len(_END):
            return False
        self._line(0, "chunk_malformed")
        self._read = self._read_head
        return True


class UnsignedEncoder:
    """Writes STREAMING-UNSIGNED-PAYLOAD-TRAILER, in chunks of `piece` bytes whatever is fed.

    `trailer` is one of `CHECKSUMS`; a CRC-32 is computed here, every other value is given to `finish`.
    """

    def __init__(self, trailer: str = CRC32, piece: int = PIECE) -> None:
        self._trailer, self._piece = trailer, piece
        self._buffer = bytearray()
        self._crc = 0

    def feed(self, decoded: bytes) -> bytes:
        """The whole chunks that there are now."""
        self._buffer += decoded
        if self._trailer == CRC32:
            self._crc = zlib.crc32(decoded, self._crc)
        out = bytearray()
        while len(self._buffer) >= self._piece:
            out += _framed(self._buffer[: self._piece])
            del self._buffer[: self._piece]
        return bytes(out)

    def finish(self, checksum: str | None = None) -> bytes:
        """The last chunk, and the trailer: of what was fed, or this value (base64)."""
        if checksum is None and self._trailer != CRC32:
            raise ValueError("a checksum that is not CRC-32 has to be given")
        value = base64.b64encode(self._crc.to_bytes(4, "big")).decode() if checksum is None else checksum
        rest = _framed(self._buffer) if self._buffer else b""
        return rest + f"0\r\n{self._trailer}:{value}\r\n\r\n".encode()


def encoded_length(decoded: int, piece: int = PIECE, trailer: str = CRC32) -> int:
    """How many bytes `UnsignedEncoder` makes of so many: what Content-Length has to say."""
    whole, rest = divmod(decoded, piece)
    chunks = whole * (piece + _frame(piece)) + (rest + _frame(rest) if rest else 0)
    return chunks + len(f"0\r\n{trailer}:\r\n\r\n") + (CHECKSUMS[trailer] + 2) // 3 * 4


def _framed(chunk: bytearray) -> bytes:
    return b"%x\r\n%b\r\n" % (len(chunk), bytes(chunk))


def _frame(size: int) -> int:
    return len(f"{size:x}") + 2 * len(_END)
