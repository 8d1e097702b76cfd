"""The messages about calls to AWS: what an agent asks the gateway to sign or to carry, and what comes back.

A call is carried by POST /v1/calls: its head (`Call`, base64 JSON) is in the header `HEAD`, its body is the request's.
The answer's head (`Answer`) is in `HEAD` of a response 200, its body is the response's. So nothing that is said to AWS,
or by AWS, is ever taken for something that is said to the gateway: no length, no encoding, no connection header.
"""

import base64
from dataclasses import dataclass
from typing import TypeVar

from gateway.wire.messages import BASE64, NAME, WAYS, encode
from gateway.wire.strict import Malformed, decode, integer, loads, text

HEAD = "Trusted-Gateway-Head"
"""The header that holds the head of a call, or of its answer."""
LONGEST_BODY = 1024 * 1024
"""Bytes of a body that the gateway looks into."""
LONGEST_TARGET = 8192

ACCESS_KEY_ID = r"TGDK[A-Z2-7]{16}"
SECRET = r"[A-Za-z0-9+/]{40}"  # noqa: S105  # the form of one
SERVICE = r"[a-z0-9][a-z0-9-]{0,62}"
REGION = r"[a-z]{2}(?:-[a-z]+){1,3}-[0-9]{1,2}"
# A hash in hex, or what S3 takes instead. AWS: "Signature Calculations for the Authorization Header".
PAYLOAD = r"[0-9a-f]{64}|UNSIGNED-PAYLOAD|STREAMING-UNSIGNED-PAYLOAD-TRAILER"

T = TypeVar("T")


@dataclass(frozen=True, slots=True, repr=False)
class Header:
    """One header field: the name in lower case, the value as it is sent."""

    name: str = text(pattern=r"[a-z0-9!#$%&'*+.^_`|~-]{1,128}")
    value: str = text(longest=8192)


@dataclass(frozen=True, slots=True, repr=False)
class Call:
    """A call to AWS, without its body: POST /v1/signatures, and the head of POST /v1/calls.

    `headers` are those of the request to AWS, an `authorization` by the grant's dummy key among them (RFC 9110 field
    order kept; no hop-by-hop fields). `host`, for a client that speaks to AWS itself, is the one that it will use.
    `body` is base64, where the gateway has to look into it. `presign` asks for a URL that lives so many seconds.
    """

    grant: str = text(pattern=NAME)
    service: str = text(pattern=SERVICE)
    region: str = text(pattern=REGION)
    method: str = text(pattern=r"[A-Z]{1,16}")
    target: str = text(pattern=r"/[!-~]*", longest=LONGEST_TARGET)
    payload_sha256: str = text(pattern=PAYLOAD)
    headers: tuple[Header, ...] = ()
    host: str | None = text(pattern=r"[a-z0-9.-]{1,253}(?::[0-9]{1,5})?", default=None)
    body: str | None = text(pattern=rf"(?:{BASE64})?", longest=LONGEST_BODY * 4 // 3 + 4, default=None)
    presign: int | None = integer(low=1, high=604800, default=None)


@dataclass(frozen=True, slots=True, repr=False)
class Signature:
    """POST /v1/signatures: by which way the call goes, and for `sign` what has to be sent, to the letter.

    `origin` is `https://host` (with a port where it is not the usual one), `target` the path and query, `headers` all
    that are signed, Host included; the sender adds only framing (Content-Length or Transfer-Encoding), Connection,
    Expect and User-Agent. For a presigned URL `target` holds the signature. For `token` and `proxy` the rest is empty.
    """

    way: str = text(pattern="|".join(WAYS))
    origin: str | None = text(pattern=r"https?://[a-z0-9.:\[\]-]{1,260}", default=None)
    target: str | None = text(pattern=r"/[!-~]*", longest=2 * LONGEST_TARGET, default=None)
    headers: tuple[Header, ...] = ()


@dataclass(frozen=True, slots=True, repr=False)
class Answer:
    """The head of AWS's answer to a call that was carried. `headers` without hop-by-hop fields."""

    status: int = integer(low=200, high=599)
    headers: tuple[Header, ...] = ()


@dataclass(frozen=True, slots=True, repr=False)
class DummyKey:
    """POST /v1/dummy-keys: a key pair that the agent made for the clients of one grant on its machine.

    It is no key of AWS: it says to the gateway that a call was signed on this machine, and is good for nothing else.
    """

    grant: str = text(pattern=NAME)
    access_key_id: str = text(pattern=ACCESS_KEY_ID)
    secret_access_key: str = text(pattern=SECRET)


@dataclass(frozen=True, slots=True)
class DummyKeyAnswer:
    """Until when the gateway knows the key: as long as the certificate of the connection lasts (RFC 3339)."""

    expiration: str = text(longest=32)


def in_header(head: Call | Answer) -> str:
    """The head as the value of `HEAD`."""
    return base64.b64encode(encode(head)).decode("ascii")


def from_header(kind: type[T], value: str) -> T:
    """The inverse of `in_header`. Raises Malformed."""
    try:
        raw = base64.b64decode(value, validate=True)
    except ValueError:
        raise Malformed(f"{HEAD}: is not base64") from None
    return decode(kind, loads(raw))
