"""What a request's body brings, in each form in which S3 lets it be signed: hashed, counted, and gone."""

import base64
import hashlib
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from tests.sink.signatures import Chain, Signed, Unsigned
from tests.sink.wire import Broken, Source, size_of

PIECE = 1 << 20
LONGEST_MD5 = 16 * PIECE
"""Bytes up to which a body's ETag is its MD5, as S3 has it: clients compare that. It is half of the work."""
NOTHING = hashlib.sha256(b"").hexdigest()
_BLOCK = hashlib.shake_128(b"the same in every run").digest(PIECE)
_TWICE = _BLOCK + _BLOCK


def generated(start: int, length: int) -> Iterator[memoryview]:
    """Bytes of the one object that the sink can give: without end, and the same at the same place."""
    while length:
        at = start % PIECE
        piece = memoryview(_TWICE)[at : at + min(PIECE, length)]
        yield piece
        start, length = start + len(piece), length - len(piece)


@dataclass(slots=True)
class Payload:
    """What came. `generated`: whether these are the bytes that `generated` gives, from a whole number of MiB on."""

    length: int = 0
    crc: int = 0
    generated: bool = True
    checksum: str = ""
    sha: "hashlib._Hash" = field(default_factory=hashlib.sha256)
    md5: "hashlib._Hash" = field(default_factory=lambda: hashlib.md5(usedforsecurity=False))

    @property
    def sha256(self) -> str:
        """In hex."""
        return self.sha.hexdigest()

    @property
    def etag(self) -> str:
        """In quotes."""
        return f'"{(self.md5 if self.length <= LONGEST_MD5 else self.sha).hexdigest()[:32]}"'

    def add(self, piece: memoryview, *, checksum: bool) -> None:
        """A piece more, of 1 MiB at most."""
        at = self.length % PIECE
        self.generated = self.generated and _TWICE.startswith(piece, at)
        self.length += len(piece)
        self.sha.update(piece)
        if self.length <= LONGEST_MD5:
            self.md5.update(piece)
        if checksum:
            self.crc = zlib.crc32(piece, self.crc)


def receive(body: Source, headers: Mapping[str, str], signed: Signed) -> Payload:
    """Read a body to its end and check all that its request says of it. Raises Unsigned and Broken."""
    payload, mode = Payload(), signed.payload
    if mode.startswith("STREAMING-"):
        if headers.get("content-encoding", "").split(",")[0] != "aws-chunked":
            raise Broken("it says to be aws-chunked only in one of two places")
        _chunks(body, headers, payload, signed)
        if str(payload.length) != headers.get("x-amz-decoded-content-length"):
            raise Broken("x-amz-decoded-content-length is another")
    else:
        while piece := body.some(PIECE):
            payload.add(piece, checksum="x-amz-checksum-crc32" in headers)
        if mode != "UNSIGNED-PAYLOAD" and mode != payload.sha256:
            raise Unsigned("the hash of the body is another one")
        _check(payload, headers.get("x-amz-checksum-crc32"))
    said = headers.get("content-md5")
    if said and payload.length <= LONGEST_MD5 and base64.b64decode(said) != payload.md5.digest():
        raise Broken("Content-MD5 is another")
    return payload


def _chunks(body: Source, headers: Mapping[str, str], payload: Payload, signed: Signed) -> None:
    chain = Chain(signed) if signed.payload.startswith("STREAMING-AWS4-HMAC-SHA256-PAYLOAD") else None
    trailing = signed.payload.endswith("-TRAILER")
    size = -1
    while size:
        line = body.line()
        size = left = size_of(line)
        sha = hashlib.sha256()
        while left:
            piece = body.some(min(left, PIECE))
            if not piece:
                raise Broken("a chunk of aws-chunked is not whole")
            left -= len(piece)
            payload.add(piece, checksum=trailing)
            if chain:
                sha.update(piece)
        if chain:
            said = line.decode().partition(";chunk-signature=")[2]
            chain.check("PAYLOAD", said, NOTHING, sha.hexdigest())
        if size and body.line():
            raise Broken("a chunk of aws-chunked is longer than it says")
    trailers: dict[str, str] = {}
    while line := body.line():
        name, _, value = line.decode().partition(":")
        if name == "x-amz-trailer-signature" and chain:
            lines = "".join(f"{each}:{text}\n" for each, text in trailers.items())
            chain.check("TRAILER", value, hashlib.sha256(lines.encode()).hexdigest())
            chain = None
        else:
            trailers[name] = value.strip()
    if body.some(1):
        raise Broken("bytes behind the last chunk")
    if list(trailers) != [name for name in headers.get("x-amz-trailer", "").split(",") if name]:
        raise Broken(f"other trailers than announced: {list(trailers)}")
    if trailing and signed.payload.startswith("STREAMING-AWS4") and chain:
        raise Unsigned("the trailers are not signed")
    _check(payload, trailers.get("x-amz-checksum-crc32"))


def _check(payload: Payload, said: str | None) -> None:
    if said is None:
        return
    payload.checksum = said
    if said != base64.b64encode(payload.crc.to_bytes(4, "big")).decode():
        raise Broken("the CRC-32 is another one")
