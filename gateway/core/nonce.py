"""Nonces that cost nothing to give: a time and random bytes under a MAC. The store remembers only spent ones."""

import base64
import hashlib
import hmac
import struct
from datetime import UTC, datetime, timedelta

from gateway.core.errors import Refusal
from gateway.wire.secret import Secret

LIFE = timedelta(seconds=60)
RANDOM = 16
_MAC = 16


def make(key: Secret, random: bytes, now: datetime) -> str:
    """A nonce good until `LIFE` from now. `random` is 16 fresh bytes. Returns base64url, 54 characters."""
    body = struct.pack(">d", now.timestamp()) + random
    return base64.urlsafe_b64encode(body + _mac(key, body)).decode().rstrip("=")


def check(key: Secret, nonce: str, now: datetime) -> tuple[str, datetime]:
    """Return the nonce's SHA-256 and its end, for the store to spend it once. Raises Refusal `proof_refused`."""
    try:
        raw = base64.b64decode(nonce + "=" * (-len(nonce) % 4), altchars=b"-_", validate=True)
    except ValueError:
        raw = b""
    body, mac = raw[:-_MAC], raw[-_MAC:]
    if len(body) != 8 + RANDOM or not hmac.compare_digest(mac, _mac(key, body)):
        raise Refusal("proof_refused", reason="nonce_unknown")
    made = datetime.fromtimestamp(struct.unpack(">d", body[:8])[0], UTC)
    if not made - LIFE <= now <= made + LIFE:
        raise Refusal("proof_refused", reason="nonce_expired")
    # The digest is of the bytes, not of the text: base64 has more than one spelling of the same nonce.
    return hashlib.sha256(raw).hexdigest(), made + LIFE


def _mac(key: Secret, body: bytes) -> bytes:
    with key as plain:
        return hmac.digest(plain, b"trusted-gateway nonce v1\n" + body, "sha256")[:_MAC]
