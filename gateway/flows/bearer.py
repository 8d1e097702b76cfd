"""Bearer tokens for programs that log in before they ask, as Vault's clients do. Each is bound to a certificate.

A token opens nothing by itself: it counts on a connection with the very certificate that it was given to, for as long
as that certificate does. Who has stolen it has nothing. The store knows it by its SHA-256, so that looking for a wrong
one takes as long as for any other.
"""

import base64
import hashlib
import re
from dataclasses import dataclass
from datetime import datetime, timedelta

from gateway.core.audit import Kind
from gateway.core.errors import Refusal
from gateway.core.identity import Identity
from gateway.core.model import BearerToken
from gateway.flows.identify import demand_standing
from gateway.flows.journal import Call, Journal
from gateway.ports import Clock, RandomBytes, Store, Transaction
from gateway.wire.messages import instant
from gateway.wire.secret import Secret

LIFE = timedelta(hours=1)
MOST = 16  # live tokens of one instance: one for each of its programs, not one for each of their requests
_FORM = re.compile(rb"s\.[A-Za-z0-9_-]{43}")


@dataclass(frozen=True, slots=True, repr=False)
class Given:
    """A new token: the secret, which is shown this once, and the record of it."""

    secret: Secret
    row: BearerToken


class Bearer:
    """Gives out, looks up and takes back tokens. Raises Refusal, `token_refused` for what is no valid token here."""

    def __init__(self, store: Store, journal: Journal, clock: Clock, random: RandomBytes) -> None:
        self._store = store
        self._journal = journal
        self._clock = clock
        self._random = random

    def create(self, call: Call, identity: Identity) -> Given:
        """A new token, for an hour at most and never beyond the certificate. Of too many, the oldest go."""
        plain = b"s." + base64.urlsafe_b64encode(self._random(32)).rstrip(b"=")
        now = self._clock()
        row = BearerToken(
            sha256=hashlib.sha256(plain).hexdigest(),
            serial=identity.certificate.serial,
            instance=identity.instance.id,
            created_at=now,
            expires_at=min(now + LIFE, identity.certificate.not_after),
        )
        call.object = f"token/{accessor(row)}"
        call.present("token", plain)

        def unit(tx: Transaction) -> None:
            demand_standing(tx, identity, superseded_too=False)
            for old in _too_many(tx, identity, now):
                tx.bearer_tokens.remove(old)
            if not tx.bearer_tokens.add(row):
                raise Refusal("conflict")
            tx.audit.append(call.event(Kind.DECISION, serial=row.serial, expires_at=instant(row.expires_at)))

        self._journal.write(call, unit)
        return Given(Secret(plain), row)

    def check(self, call: Call, identity: Identity, presented: Secret) -> BearerToken:
        """The record of the token that was presented, which must be of this instance and of this certificate."""
        _name(call, presented)
        with self._store.read() as tx:
            return self._found(tx, identity, presented)

    def read(self, call: Call, identity: Identity, presented: Secret) -> BearerToken:
        """`check`, recorded: for who wants to know what a token is good for."""
        row = self.check(call, identity, presented)
        call.object = f"token/{accessor(row)}"
        self._journal.allow(call)
        return row

    def revoke(self, call: Call, identity: Identity, presented: Secret) -> None:
        """Forget the token that was presented."""
        _name(call, presented)

        def unit(tx: Transaction) -> None:
            row = self._found(tx, identity, presented)
            call.object = f"token/{accessor(row)}"
            tx.bearer_tokens.remove(row)
            tx.audit.append(call.event(Kind.DECISION))

        self._journal.write(call, unit)

    def _found(self, tx: Transaction, identity: Identity, presented: Secret) -> BearerToken:
        with presented as plain:
            if not plain:
                raise Refusal("token_refused", "No token was sent", reason="token_missing")
            row = tx.bearer_tokens.get(sha256=hashlib.sha256(plain).hexdigest()) if _FORM.fullmatch(plain) else None
        if row is None:
            raise Refusal("token_refused", reason="token_unknown")
        if (row.serial, row.instance) != (identity.certificate.serial, identity.instance.id):
            raise Refusal("token_refused", reason="token_of_another_certificate", token=accessor(row))
        if row.expires_at <= self._clock():
            raise Refusal("token_refused", reason="token_expired", token=accessor(row))
        return row


def _name(call: Call, presented: Secret) -> None:
    with presented as plain:
        if plain:
            call.present("token", plain)


def accessor(row: BearerToken) -> str:
    """How a token is called where its secret must not stand: in the log, and in Vault's words."""
    return row.sha256[:16]


def _too_many(tx: Transaction, identity: Identity, now: datetime) -> list[BearerToken]:
    """What has to go before one more comes: the tokens that are over, and the oldest of the others."""
    rows = tx.bearer_tokens.find(instance=identity.instance.id)
    alive = sorted((row for row in rows if row.expires_at > now), key=lambda row: row.created_at)
    return [*(row for row in rows if row.expires_at <= now), *alive[: max(0, len(alive) - MOST + 1)]]
