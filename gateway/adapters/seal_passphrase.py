"""The passphrase seal: scrypt (RFC 7914) makes the key that wraps the master key. There is no plaintext mode."""

import base64
import logging
from collections.abc import Callable

from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from gateway.core import envelope
from gateway.core.errors import Refusal
from gateway.core.model import SealRecord
from gateway.wire.secret import Secret

log = logging.getLogger("trusted_gateway.seal")

KIND = "passphrase"
SHORTEST = 12
# 128 MiB and about half a second: paid once a start, and once a guess.
COST, BLOCK, PARALLEL = 2**17, 8, 1
_CONTEXT = "seal/master"


class MasterKey:
    """The unsealed master key: `ports.Vault`."""

    def __init__(self, key: Secret, random: Callable[[int], bytes]) -> None:
        self._key = key
        self._random = random

    def seal(self, context: str, plain: Secret) -> bytes:
        return envelope.seal(self._key, context, plain, self._random(envelope.SALT + envelope.NONCE))

    def open(self, context: str, sealed: bytes) -> Secret:
        try:
            return envelope.open_sealed(self._key, context, sealed)
        except envelope.Unsealable:
            log.error("%s does not open: it was altered, or moved here from another row", context)
            raise Refusal("internal_error", reason="sealed_value_altered", sealed=context) from None

    def derive(self, purpose: str) -> Secret:
        """A key for something that is never stored, the same in every process that has unsealed."""
        return envelope.derive(self._key, purpose)


def create(passphrase: Secret, random: Callable[[int], bytes]) -> tuple[SealRecord, MasterKey]:
    """Make a new master key and wrap it. Raises ValueError for a passphrase that is too short."""
    with passphrase as plain:
        if len(plain) < SHORTEST:
            raise ValueError(f"the passphrase needs at least {SHORTEST} characters")
    salt, master = random(32), Secret(random(envelope.KEY))
    parameters = {"salt": base64.b64encode(salt).decode(), "n": COST, "r": BLOCK, "p": PARALLEL}
    wrapping = _derive(passphrase, salt, COST, BLOCK, PARALLEL)
    wrapped = envelope.seal(wrapping, _CONTEXT, master, random(envelope.SALT + envelope.NONCE))
    return SealRecord("master", KIND, parameters, wrapped), MasterKey(master, random)


def unseal(record: SealRecord, passphrase: Secret, random: Callable[[int], bytes]) -> MasterKey:
    """Open the master key. Raises envelope.Unsealable for a wrong passphrase or an altered record."""
    try:
        salt = base64.b64decode(record.parameters["salt"], validate=True)
        n, r, p = (int(record.parameters[name]) for name in "nrp")
    except (KeyError, ValueError, TypeError):
        raise envelope.Unsealable("the seal's record is not readable") from None
    # Whoever can write the store must not be able to make the next unsealing cheap to guess, or endless.
    if record.kind != KIND or (n, r, p) != (COST, BLOCK, PARALLEL) or len(salt) != 32:
        raise envelope.Unsealable("the seal's record has parameters that this gateway does not use")
    return MasterKey(envelope.open_sealed(_derive(passphrase, salt, n, r, p), _CONTEXT, record.wrapped), random)


def _derive(passphrase: Secret, salt: bytes, n: int, r: int, p: int) -> Secret:
    with passphrase as plain:
        return Secret(Scrypt(salt=salt, length=envelope.KEY, n=n, r=r, p=p).derive(plain))
