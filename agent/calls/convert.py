"""Uploads in `aws-chunked`, with a checksum behind them. Chunks that the client signed were signed with a dummy key, so
that AWS could not check them: they are checked here, and go on without signatures (S3 API: "Signature Calculations …
Including Trailing Headers"; Content-Encoding `aws-chunked`, x-amz-content-sha256 `STREAMING-UNSIGNED-PAYLOAD-TRAILER`).
"""

import re
from collections.abc import Iterator

from agent.calls.admit import CHUNKS, CHUNKS_TRAILER, CONTENT, TRAILER, Claim, Fields
from agent.calls.body import Body, Piece, Streamed
from agent.errors import Fault
from gateway.wire import sigv4
from gateway.wire.chunks import (
    CHECKSUMS,
    CRC32,
    ChunkError,
    SignedChunks,
    UnsignedChunks,
    UnsignedEncoder,
    encoded_length,
)

_DECODED = "x-amz-decoded-content-length"
_ALGORITHM = "x-amz-sdk-checksum-algorithm"
_CODING = "content-encoding"


class Chunked:
    """The body of such an upload as it goes on: written anew if its chunks were signed, else to the letter."""

    again = False

    def __init__(
        self, source: Body, chunks: SignedChunks | UnsignedChunks, decoded: int, trailer: str, checksum: str | None
    ) -> None:
        self._source, self._chunks, self._decoded = source, chunks, decoded
        self._trailer, self._checksum = trailer, checksum
        self._signed = isinstance(chunks, SignedChunks)
        self.length = encoded_length(decoded, trailer=trailer) if self._signed else source.length

    @property
    def begun(self) -> bool:
        """Whether pieces were taken."""
        return self._source.begun

    def pieces(self) -> Iterator[Piece]:
        """All of it, in pieces. Raises Fault before the last one, when a signature or the length is not right."""
        if not self._signed:
            yield from self._source.pieces()
            return
        encoder = UnsignedEncoder(self._trailer)
        for chunk in self._plain():
            if encoded := encoder.feed(chunk):
                yield encoded
        yield encoder.finish(self._checksum or self._chunks.trailers.get(self._trailer))

    def plain(self) -> Body:
        """What is in the chunks. It can be taken instead of `pieces`, and raises the same."""
        return Streamed(self._plain(), self._decoded)

    def plain_headers(self, headers: Fields) -> Fields:
        """The headers for `plain`, once it was read: the checksum stands before it, if the client said one."""
        checksum = self._checksum or self._chunks.trailers.get(self._trailer)
        kept = [(n, v) for n, v in headers if n not in (_CODING, _DECODED, CONTENT, "x-amz-trailer", "content-length")]
        if others := _other_codings(headers):
            kept.append((_CODING, ",".join(others)))
        if checksum:
            kept.append((self._trailer, checksum))
        return tuple(kept)

    def _plain(self) -> Iterator[bytes]:
        try:
            for piece in self._source.pieces():
                for chunk in self._chunks.feed(piece):
                    if self._chunks.decoded > self._decoded:
                        raise _length()
                    yield chunk
            self._chunks.finish()
        except ChunkError as error:
            wrong = error.reason.endswith("signature_wrong")
            raise Fault("signature_refused" if wrong else "call_malformed", str(error)) from None
        if self._chunks.decoded != self._decoded:
            raise _length()


def chunked(claim: Claim, headers: Fields, source: Body) -> tuple[Fields, Body]:
    """The headers and the body that go on in place of these. Raises Fault."""
    try:
        decoded, trailers = _said(claim, dict(headers))
    except Fault:
        if claim.payload == TRAILER:  # to the letter: S3 may know more than this
            return headers, source
        raise
    if claim.payload == TRAILER:
        return headers, Chunked(source, UnsignedChunks(trailers[0]), decoded, trailers[0], None)
    known = next(((name, value) for name, value in headers if name in CHECKSUMS), None)
    trailer, checksum = (trailers[0], None) if trailers else known or (CRC32, None)
    return _headers(headers, trailer), Chunked(source, _signed(claim, trailers), decoded, trailer, checksum)


def is_chunked(payload: str | None) -> bool:
    """Whether a body that is announced by this word has chunks in it."""
    return payload in (CHUNKS, CHUNKS_TRAILER, TRAILER)


def _signed(claim: Claim, trailers: tuple[str, ...]) -> SignedChunks:
    authorization = claim.authorization
    try:
        with claim.dummy.secret as secret:
            key = sigv4.signing_key(secret, authorization.scope)
    except ValueError:  # it was wiped meanwhile
        raise Fault("key_unknown", "The grant is gone") from None
    return SignedChunks(authorization.signature, authorization.stamp, authorization.scope, key, trailers)


def _said(claim: Claim, named: dict[str, str]) -> tuple[int, tuple[str, ...]]:
    """How long the body is without its chunks, and what stands behind it."""
    decoded = named.get(_DECODED, "")
    if not re.fullmatch(r"[0-9]{1,15}", decoded):
        raise Fault("call_malformed", f"{_DECODED} must be there, and a number")
    if claim.payload == CHUNKS:
        return int(decoded), ()
    trailer = named.get("x-amz-trailer", "").strip().lower()
    if trailer not in CHECKSUMS:
        raise Fault("call_malformed", "X-Amz-Trailer must name one checksum that S3 knows")
    return int(decoded), (trailer,)


def _headers(headers: Fields, trailer: str) -> Fields:
    """A checksum stands behind the body or before it, and the algorithm that is named is that one's."""
    algorithm = trailer.removeprefix("x-amz-checksum-")
    replaced = {_CODING, CONTENT, "x-amz-trailer", *CHECKSUMS}
    kept = [(n, v) for n, v in headers if n not in replaced and (n != _ALGORITHM or v.strip().lower() == algorithm)]
    codings = ",".join(["aws-chunked", *_other_codings(headers)])
    kept += [(_CODING, codings), (CONTENT, TRAILER), ("x-amz-trailer", trailer)]
    return tuple(kept)


def _other_codings(headers: Fields) -> list[str]:
    codings = [word.strip() for name, value in headers if name == _CODING for word in value.split(",")]
    return [word for word in codings if word and word.lower() != "aws-chunked"]


def _length() -> Fault:
    return Fault("call_malformed", f"The body is not as long as {_DECODED} says")
