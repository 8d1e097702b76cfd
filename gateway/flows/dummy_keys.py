"""Dummy keys: what an agent gives the clients on its machine, so that their calls can be told from anybody else's.

A dummy key opens nothing at AWS, and nothing here without the certificate of its own machine. So whoever shows one from
elsewhere, or after its time, has stolen it: that is recorded as a fact of its own, and counted.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from gateway.core.audit import Event, Kind, Name
from gateway.core.delivery import TOKEN
from gateway.core.errors import Refusal
from gateway.core.identity import Identity
from gateway.core.model import DummyKey
from gateway.flows.applied import Applied
from gateway.flows.identify import demand_standing
from gateway.flows.journal import Call, Journal
from gateway.ports import Clock, Store, Transaction, Vault
from gateway.wire import calls
from gateway.wire.messages import instant
from gateway.wire.secret import Secret
from gateway.wire.sigv4 import Authorization, SigV4Error, parse_authorization

MOST = 64
"""Dummy keys of one instance that are remembered; of more, the oldest go."""
REMEMBERED = timedelta(days=30)
"""How long after its end a key is still known for what it was."""
_STRANGERS = frozenset({"certificate_required", "certificate_unknown", "instance_revoked"})


@dataclass(slots=True)
class Counters:
    """What was counted in this process since its start."""

    misused: int = 0  # dummy keys that were shown from elsewhere, or after their time


class DummyKeys:
    """Registers dummy keys, and opens one for whoever may use it. Raises Refusal."""

    def __init__(self, store: Store, journal: Journal, vault: Vault, clock: Clock) -> None:
        self._store = store
        self._journal = journal
        self._vault = vault
        self._clock = clock
        self._applied = Applied()
        self.counters = Counters()

    def register(self, call: Call, identity: Identity, told: calls.DummyKey) -> calls.DummyKeyAnswer:
        """Know this key from now on as one of this machine, for this grant, until its certificate is over."""
        call.object = f"key/{told.access_key_id}"
        row = DummyKey(
            access_key_id=told.access_key_id,
            instance=identity.instance.id,
            key_sha256=identity.instance.key_sha256,
            grant=told.grant,
            sealed_secret=self._vault.seal(_context(told.access_key_id, identity), Secret(told.secret_access_key)),
            created_at=self._clock(),
            expires_at=identity.certificate.not_after,
        )

        with self._store.read() as tx:
            known = tx.dummy_keys.get(access_key_id=told.access_key_id)
        if known is not None and known.instance != row.instance:
            self._notice(call, known, "dummy_key_of_another")

        def unit(tx: Transaction) -> None:
            demand_standing(tx, identity)
            grant = self._applied.rules(tx, identity).grants.get(told.grant)
            if grant is None or grant.deliver.ways == (TOKEN,):
                raise Refusal("grant_refused", reason="way" if grant else None, grant=told.grant)
            known = tx.dummy_keys.get(access_key_id=row.access_key_id)
            if known is not None and known.instance != row.instance:
                raise Refusal("conflict", reason="dummy_key_of_another")
            if not (tx.dummy_keys.swap(known, row) if known else tx.dummy_keys.add(row)):
                raise Refusal("conflict")
            mine = sorted(tx.dummy_keys.find(instance=row.instance), key=lambda each: each.created_at)
            for old in mine[:-MOST]:
                tx.dummy_keys.remove(old)
            tx.audit.append(call.event(Kind.DECISION, grant=row.grant, expires_at=instant(row.expires_at)))

        self._journal.write(call, unit)
        return calls.DummyKeyAnswer(instant(row.expires_at))

    def authorization(self, call: Call, identity: Identity, asked: calls.Call) -> tuple[Authorization, Secret]:
        """What a call says about its signature, and the secret that it must have been made with.

        Raises Refusal `signature_refused`.
        """
        try:
            found = parse_authorization(asked.method, asked.target, pairs(asked))
        except SigV4Error as error:
            raise Refusal("signature_refused", str(error), reason=error.reason) from None
        with self._store.read() as tx:
            row = tx.dummy_keys.get(access_key_id=found.access_key_id)
        if row is None:
            raise Refusal("signature_refused", "The call is not signed with a key of this agent", reason="key_unknown")
        if fault := _fault(row, identity, asked.grant, self._clock()):
            self._notice(call, row, fault)
            raise Refusal("signature_refused", "The dummy key is not for this call", reason=fault, owner=row.instance)
        return found, self._vault.open(_context(row.access_key_id, identity), row.sealed_secret)

    def notice(self, call: Call, refused: Refusal, asked: calls.Call) -> None:
        """Who asks was `refused` as nobody, or as nobody any more: if a dummy key that is known is shown, record that.

        A certificate that ran out or was replaced is its own instance's: that is no theft.
        """
        if refused.code not in _STRANGERS:
            return
        try:
            found = parse_authorization(asked.method, asked.target, pairs(asked))
        except SigV4Error:
            return
        with self._store.read() as tx:
            row = tx.dummy_keys.get(access_key_id=found.access_key_id)
        if row is not None:
            self._notice(call, row, "dummy_key_without_identity")

    def _notice(self, call: Call, row: DummyKey, fault: str) -> None:
        self.counters.misused += 1
        facts = {"owner": row.instance, "grant": row.grant}
        event = Event(
            Kind.FACT, Name.INSTANCE_KEY_MISUSE, False, fault, call.request_id, call.subject,
            f"key/{row.access_key_id}", call.source, facts,
        )  # fmt: skip
        self._store.write(lambda tx: tx.audit.append(event))


def pairs(asked: calls.Call) -> list[tuple[str, str]]:
    """The headers of a call as pairs."""
    return [(header.name, header.value) for header in asked.headers]


def _context(access_key_id: str, identity: Identity) -> str:
    return f"dummy_key/{access_key_id}/{identity.instance.id}/secret"


def _fault(row: DummyKey, identity: Identity, grant: str, now: datetime) -> str | None:
    if row.instance != identity.instance.id:
        return "dummy_key_elsewhere"
    if row.key_sha256 != identity.instance.key_sha256 or row.expires_at <= now:
        return "dummy_key_outdated"
    return "dummy_key_of_another_grant" if row.grant != grant else None
