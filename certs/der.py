"""As much strict DER (X.690 section 10) as `csr` and `lint` need: one-byte tags, definite and shortest lengths.

Ours on purpose: `cryptography` builds our certificates, so what checks them does not read them with `cryptography`.
Nothing recurses, so nesting costs nothing.
"""

INTEGER, BIT_STRING, OCTET_STRING, OID, UTF8_STRING = 0x02, 0x03, 0x04, 0x06, 0x0C
UTC_TIME, GENERALIZED_TIME, SEQUENCE, SET = 0x17, 0x18, 0x30, 0x31


def wrap(tag: int, *parts: bytes) -> bytes:
    """One element: its tag, its length, and the parts put together."""
    body = b"".join(parts)
    if len(body) < 0x80:
        return bytes([tag, len(body)]) + body
    length = len(body).to_bytes((len(body).bit_length() + 7) // 8)
    return bytes([tag, 0x80 | len(length)]) + length + body


def split(encoded: bytes) -> tuple[int, bytes, bytes]:
    """The first element's tag and body, and all the bytes behind it. Raises ValueError when it is not strict DER."""
    if len(encoded) < 2 or encoded[0] & 0x1F == 0x1F:
        raise ValueError("no element, or a tag of more than one byte")
    start, length = 2, encoded[1]
    if length >= 0x80:
        start += length & 0x7F
        length = int.from_bytes(encoded[2:start])
    body, rest = encoded[start : start + length], encoded[start + length :]
    if len(body) != length or not encoded.startswith(wrap(encoded[0], body)):
        raise ValueError("a length that is indefinite, not the shortest, or beyond the end")
    return encoded[0], body, rest


def children(body: bytes) -> list[tuple[int, bytes]]:
    """The tags and bodies of all the elements in a body. Raises ValueError."""
    found = []
    while body:
        tag, inner, body = split(body)
        found.append((tag, inner))
    return found


def only(encoded: bytes, tag: int) -> bytes:
    """The body of the one element that `encoded` is, which has this tag. Raises ValueError."""
    found, body, rest = split(encoded)
    if found != tag or rest:
        raise ValueError("another tag, or bytes behind the element")
    return body
