"""Sealed values: AES-256-GCM under a key of their own, derived from the master key, bound to where they stand.

`context` names table, row, column and version ("upstream_key/main/secret"). It goes into the key derivation and the
associated data, so a ciphertext moved to another row does not open. A fresh 32-byte salt a value makes a fresh key, so
no nonce can ever meet the same key twice, whatever forks or restores happen.
"""

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from gateway.wire.secret import Secret

VERSION = b"\x01"
SALT = 32
KEY = 32
NONCE = 12


class Unsealable(Exception):
    """The value does not open: wrong master key, altered, or moved here from another place."""


def seal(master: Secret, context: str, plain: Secret, randomness: bytes) -> bytes:
    """Seal `plain`; `randomness` is 44 fresh random bytes. Returns version ‖ salt ‖ nonce ‖ ciphertext."""
    if len(randomness) != SALT + NONCE:
        raise ValueError("seal needs 44 random bytes")
    salt, nonce = randomness[:SALT], randomness[SALT:]
    with plain as value:
        return VERSION + randomness + _cipher(master, context, salt).encrypt(nonce, value, _bound(context))


def open_sealed(master: Secret, context: str, sealed: bytes) -> Secret:
    """The inverse of `seal`. Raises Unsealable."""
    if sealed[:1] != VERSION or len(sealed) < 1 + SALT + NONCE:
        raise Unsealable(f"{context}: not a sealed value")
    salt, nonce, ciphertext = sealed[1 : 1 + SALT], sealed[1 + SALT : 1 + SALT + NONCE], sealed[1 + SALT + NONCE :]
    try:
        return Secret(_cipher(master, context, salt).decrypt(nonce, ciphertext, _bound(context)))
    except InvalidTag:
        raise Unsealable(f"{context}: the sealed value does not open") from None


def derive(master: Secret, purpose: str) -> Secret:
    """A 32-byte key for `purpose` (HKDF-SHA-256, RFC 5869)."""
    with master as key:
        return Secret(HKDF(SHA256(), KEY, None, b"trusted-gateway derived v1\n" + purpose.encode()).derive(key))


def _cipher(master: Secret, context: str, salt: bytes) -> AESGCM:
    with master as key:
        if len(key) != KEY or not any(key):
            raise Unsealable("the master key is not a key")
        return AESGCM(HKDF(SHA256(), KEY, salt, _bound(context)).derive(key))


def _bound(context: str) -> bytes:
    return b"trusted-gateway sealed v1\n" + context.encode()
