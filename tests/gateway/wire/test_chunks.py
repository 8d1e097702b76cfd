"""Chunked bodies: AWS's own worked examples, botocore's writer, and every byte that may be wrong."""

import base64
import hashlib
import io
import re
import zlib
from collections.abc import Callable

import pytest
from botocore.httpchecksum import AwsChunkedWrapper
from hypothesis import given
from hypothesis import strategies as st

from gateway.wire import chunks, sigv4
from gateway.wire.chunks import ChunkError, SignedChunks, UnsignedChunks, UnsignedEncoder, encoded_length

SECRET = b"wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
STAMP = "20130524T000000Z"
SCOPE = sigv4.Scope("20130524", "us-east-1", "s3")
KEY = sigv4.signing_key(SECRET, SCOPE)
NOTHING = hashlib.sha256(b"").hexdigest()
BODY = b"a" * 65536, b"a" * 1024

# AWS: "Signature Calculations for the Authorization Header: Transferring Payload in Multiple Chunks", the example.
SEED = "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9"
SIGNATURES = (
    "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648",
    "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497",
    "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9",
)
# AWS: "… Transferring Payload in Multiple Chunks (Chunked Upload) with Trailing Headers", the example.
TRAILER_SEED = "106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e"
TRAILER_SIGNATURES = (
    "b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2",
    "1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7",
    "2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992",
)
TRAILER_SIGNATURE = "d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435"
TRAILER = b"x-amz-checksum-crc32c:sOO8/Q=="


def framed(parts: tuple[bytes, ...], signatures: tuple[str, ...]) -> bytes:
    heads = [
        b"%x;chunk-signature=%s\r\n" % (len(part), sig.encode()) for part, sig in zip(parts, signatures, strict=True)
    ]
    return b"".join(head + (part + b"\r\n" if part else b"") for head, part in zip(heads, parts, strict=True))


FIRST = len("10000;chunk-signature=") + 64 + 2 + 65536 + 2  # bytes of the first chunk, as it is framed
PLAIN = framed((*BODY, b""), SIGNATURES) + b"\r\n"
TRAILED = (
    framed((*BODY, b""), TRAILER_SIGNATURES)
    + TRAILER
    + b"\r\nx-amz-trailer-signature:"
    + TRAILER_SIGNATURE.encode()
    + b"\r\n\r\n"
)


def plain() -> SignedChunks:
    return SignedChunks(SEED, STAMP, SCOPE, KEY)


def trailed() -> SignedChunks:
    return SignedChunks(TRAILER_SEED, STAMP, SCOPE, KEY, ("x-amz-checksum-crc32c",))


def signed(parts: tuple[bytes, ...], trailers: tuple[bytes, ...] = ()) -> bytes:
    """A body that is signed right, by this test's own arithmetic."""
    previous, out = SEED, []
    for part in (*parts, b""):
        text = f"AWS4-HMAC-SHA256-PAYLOAD\n{STAMP}\n{SCOPE}\n{previous}\n{NOTHING}\n{hashlib.sha256(part).hexdigest()}"
        previous = sigv4.signature(KEY, text)
        out.append(previous)
    body = framed((*parts, b""), tuple(out))
    if trailers:
        digest = hashlib.sha256(b"".join(line + b"\n" for line in trailers)).hexdigest()
        last = sigv4.signature(KEY, f"AWS4-HMAC-SHA256-TRAILER\n{STAMP}\n{SCOPE}\n{previous}\n{digest}")
        body += b"".join(line + b"\r\n" for line in trailers) + f"x-amz-trailer-signature:{last}\r\n".encode()
    return body + b"\r\n"


def read(reader: SignedChunks | UnsignedChunks, body: bytes, step: int = 4096) -> bytes:
    out = b"".join(part for at in range(0, len(body), step) for part in reader.feed(body[at : at + step]))
    reader.finish()
    return out


# Signed chunks


@pytest.mark.parametrize(("reader", "body"), [(plain, PLAIN), (trailed, TRAILED)])
@pytest.mark.parametrize("step", [1, 7, 4096, 100_000])
def test_the_examples_of_aws(reader: Callable[[], SignedChunks], body: bytes, step: int) -> None:
    made = reader()
    assert read(made, body, step) == b"".join(BODY)
    assert made.done
    assert made.decoded == 66560
    assert made.trailers == ({"x-amz-checksum-crc32c": "sOO8/Q=="} if reader is trailed else {})


@pytest.mark.threat("E01")
@pytest.mark.parametrize("at", [5, 40, 100, 65000, 65700, len(PLAIN) - 20])
def test_one_wrong_byte_is_found_and_its_chunk_is_not_given_out(at: int) -> None:
    body = bytearray(PLAIN)
    body[at] ^= 1
    reader, given_out = plain(), bytearray()

    def drip() -> None:
        for byte in body:
            given_out.extend(b"".join(reader.feed(bytes([byte]))))

    with pytest.raises(ChunkError) as refused:
        drip()
    assert refused.value.reason in ("chunk_malformed", "chunk_signature_wrong")
    assert len(given_out) == (0 if at < FIRST else 65536 if at < len(PLAIN) - 90 else 66560)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (PLAIN[:-1], "body_incomplete"),
        (PLAIN[: -len("\r\n")], "body_incomplete"),
        (PLAIN[:60000], "body_incomplete"),
        (b"", "body_incomplete"),
        (PLAIN + b"x", "body_too_long"),
        (PLAIN.replace(b"\r\n", b"\n"), "chunk_malformed"),
        (PLAIN[: FIRST - 2] + b"\n\n" + PLAIN[FIRST:], "chunk_malformed"),
        (b"0x" + PLAIN, "chunk_malformed"),
        (b" " + PLAIN, "chunk_malformed"),
        (b"+" + PLAIN, "chunk_malformed"),
        (b"1_0" + PLAIN[5:], "chunk_malformed"),
        (b"5\r\nhello\r\n0\r\n\r\n", "chunk_malformed"),
        (PLAIN.replace(b";chunk-signature", b";x=y;chunk-signature"), "chunk_malformed"),
        (b"1" * 5000, "chunk_malformed"),
        (b"1000001;chunk-signature=" + b"0" * 64 + b"\r\n", "chunk_too_long"),
        (b"ffffffff;chunk-signature=" + b"0" * 64 + b"\r\n", "chunk_too_long"),
        (signed((b"one", b"two"))[: -len("\r\n")] + TRAILER + b"\r\n\r\n", "trailer_malformed"),
        (signed((b"two", b"one")).replace(b"two", b"one", 1), "chunk_signature_wrong"),
        # What was signed for the end is not good in the middle, and a body does not end early.
        (PLAIN[:FIRST] + framed((b"",), (SIGNATURES[2],)) + b"\r\n", "chunk_signature_wrong"),
    ],
)
def test_what_is_not_to_the_letter_is_refused(body: bytes, reason: str) -> None:
    with pytest.raises(ChunkError) as refused:
        read(plain(), body)
    assert refused.value.reason == reason
    assert str(refused.value) == chunks.REASONS[reason]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (TRAILED.replace(b"sOO8/Q==", b"sOO8/A=="), "trailer_signature_wrong"),
        (TRAILED[:-4] + b"0\r\n\r\n", "trailer_signature_wrong"),
        (TRAILED.replace(b"crc32c:", b"crc32:"), "trailer_malformed"),
        (TRAILED.replace(TRAILER, TRAILER + b"\r\n" + TRAILER), "trailer_malformed"),
        (TRAILED.replace(TRAILER + b"\r\n", b""), "trailer_malformed"),
        (TRAILED[: TRAILED.index(TRAILER) + len(TRAILER)] + b"\r\n\r\n", "trailer_malformed"),
        (TRAILED[: TRAILED.index(TRAILER)] + b"\r\n", "trailer_malformed"),
        (TRAILED[: TRAILED.index(TRAILER)] + b"x" * 5000, "trailer_malformed"),
        (TRAILED[:-2], "body_incomplete"),
        (TRAILED + b"\r\n", "body_too_long"),
    ],
)
def test_a_trailer_is_read_to_the_letter(body: bytes, reason: str) -> None:
    with pytest.raises(ChunkError) as refused:
        read(trailed(), body)
    assert refused.value.reason == reason


@given(st.lists(st.binary(min_size=1, max_size=200), max_size=5).map(tuple), st.integers(1, 400), st.booleans())
def test_what_was_signed_comes_out_however_it_comes_in(parts: tuple[bytes, ...], step: int, with_trailer: bool) -> None:
    names = ("x-amz-checksum-crc32",) if with_trailer else ()
    lines = (b"x-amz-checksum-crc32:AAAAAA==",) if with_trailer else ()
    reader = SignedChunks(SEED, STAMP, SCOPE, KEY, names)
    assert read(reader, signed(parts, lines), step) == b"".join(parts)
    assert reader.decoded == sum(map(len, parts))


@pytest.mark.parametrize(
    ("stamp", "scope", "key"),
    [
        ("20130524T000001Z", SCOPE, KEY),
        (STAMP, sigv4.Scope("20130524", "us-east-2", "s3"), KEY),
        (STAMP, SCOPE, sigv4.signing_key(b"another", SCOPE)),
    ],
)
def test_another_request_s_chunks_are_refused(stamp: str, scope: sigv4.Scope, key: bytes) -> None:
    with pytest.raises(ChunkError, match="signature of a chunk"):
        read(SignedChunks(SEED, stamp, scope, key), PLAIN)


# Unsigned chunks


class Crc32:
    """What botocore's wrapper takes for its checksum."""

    def __init__(self) -> None:
        self._value = 0

    def update(self, chunk: bytes) -> None:
        self._value = zlib.crc32(chunk, self._value)

    def b64digest(self) -> str:
        return base64.b64encode(self._value.to_bytes(4, "big")).decode()


@given(st.binary(max_size=5000), st.integers(1, 3000), st.integers(16, 2000))
def test_the_encoder_writes_what_botocore_writes(body: bytes, step: int, piece: int) -> None:
    theirs = AwsChunkedWrapper(
        io.BytesIO(body), checksum_cls=Crc32, checksum_name="x-amz-checksum-crc32", chunk_size=piece
    ).read()
    encoder = UnsignedEncoder(piece=piece)
    ours = b"".join(encoder.feed(body[at : at + step]) for at in range(0, len(body), step)) + encoder.finish()
    assert ours == theirs
    assert len(ours) == encoded_length(len(body), piece)


@pytest.mark.parametrize("name", chunks.CHECKSUMS)
def test_a_checksum_of_the_client_s_is_passed_on(name: str) -> None:
    value = base64.b64encode(bytes(chunks.CHECKSUMS[name])).decode()
    encoder = UnsignedEncoder(name)
    body = encoder.feed(b"hello") + encoder.finish(value)
    assert body == f"5\r\nhello\r\n0\r\n{name}:{value}\r\n\r\n".encode()
    assert len(body) == encoded_length(5, trailer=name)


def test_only_a_crc_32_is_computed_here() -> None:
    encoder = UnsignedEncoder("x-amz-checksum-sha256")
    with pytest.raises(ValueError, match="has to be given"):
        encoder.finish()
    assert re.fullmatch(rb"0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n", UnsignedEncoder().finish())


@given(st.binary(max_size=5000), st.integers(1, 3000), st.integers(16, 2000))
def test_what_botocore_writes_comes_out_however_it_comes_in(body: bytes, step: int, piece: int) -> None:
    checksum = Crc32()
    checksum.update(body)
    theirs = AwsChunkedWrapper(
        io.BytesIO(body), checksum_cls=Crc32, checksum_name="x-amz-checksum-crc32", chunk_size=piece
    ).read()
    reader = UnsignedChunks(chunks.CRC32)
    assert read(reader, theirs, step) == body
    assert (reader.decoded, reader.trailers) == (len(body), {chunks.CRC32: checksum.b64digest()})


END = b"0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "body_incomplete"),
        (b"5\r\nhello", "body_incomplete"),
        (b"5\r\nhello\r\n", "body_incomplete"),
        (b"5\r\nhello\r\n" + END[:-1], "body_incomplete"),
        (b"5\r\nhello\r\n" + END + b"x", "body_too_long"),
        (b"5\r\nhello\r\n" + END + END, "body_too_long"),
        (b"4\r\nhello\r\n" + END, "chunk_malformed"),
        (b"6\r\nhello\r\n" + END, "chunk_malformed"),
        (b"5\r\nhello\n\n" + END, "chunk_malformed"),
        (b"5;x=y\r\nhello\r\n" + END, "chunk_malformed"),
        (f"5;chunk-signature={'0' * 64}\r\nhello\r\n".encode() + END, "chunk_malformed"),
        (b"-5\r\nhello\r\n" + END, "chunk_malformed"),
        (b"0x5\r\nhello\r\n" + END, "chunk_malformed"),
        (b"5_0\r\nhello\r\n" + END, "chunk_malformed"),
        (b"\r\n" + END, "chunk_malformed"),
        (b"1" * 13 + b"\r\n", "chunk_malformed"),
        (b"1" * 200, "chunk_malformed"),
        (b"0\r\n\r\n", "trailer_malformed"),
        (b"0\r\nx-amz-checksum-crc32c:AAAAAA==\r\n\r\n", "trailer_malformed"),
        (END[:-2] + END[3:], "trailer_malformed"),
        (END[:-2] + b"x-amz-trailer-signature:" + b"0" * 64 + b"\r\n\r\n", "trailer_malformed"),
    ],
)
@pytest.mark.parametrize("step", [1, 1000])
def test_unsigned_chunks_are_read_to_the_letter(body: bytes, reason: str, step: int) -> None:
    with pytest.raises(ChunkError) as refused:
        read(UnsignedChunks(chunks.CRC32), body, step)
    assert refused.value.reason == reason


def test_an_unsigned_chunk_of_any_length_is_given_out_as_it_comes() -> None:
    reader = UnsignedChunks(chunks.CRC32)
    assert reader.feed(b"fffffffffff\r\n") == []
    for _ in range(3):
        assert reader.feed(bytes(70_000)) == [bytes(70_000)]
        assert len(reader._buffer) == 0


def test_neither_end_holds_more_than_a_chunk() -> None:
    reader, encoder = SignedChunks(SEED, STAMP, SCOPE, KEY), UnsignedEncoder()
    body, most = signed((bytes(65536),) * 40), 0
    for at in range(0, len(body), 10_000):
        for part in reader.feed(body[at : at + 10_000]):
            encoder.feed(part)
        most = max(most, len(reader._buffer), len(encoder._buffer))
    assert most < 65536 + 10_000 + 200
    reader.finish()
