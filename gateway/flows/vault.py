"""The upstream keys: taken in and sealed, lent to an adapter for the length of a signature, never read out."""

from dataclasses import replace

from gateway.core.audit import Kind
from gateway.core.errors import Refusal
from gateway.core.model import UpstreamKey
from gateway.flows.journal import Call, Journal
from gateway.ports import Clock, Cloud, OpenableKey, Store, Transaction, Vault
from gateway.wire.secret import Secret


def context_of(key: UpstreamKey) -> str:
    """Where a sealed secret stands. The access key id is in it: a row rolled back to an older secret does not open."""
    return f"upstream_key/{key.name}/{key.access_key_id}/secret"


class UpstreamKeys:
    """The vault's shelf of upstream keys."""

    def __init__(self, store: Store, journal: Journal, vault: Vault, cloud: Cloud, clock: Clock) -> None:
        self._store = store
        self._journal = journal
        self._vault = vault
        self._cloud = cloud
        self._clock = clock

    def openable(self, name: str) -> tuple[OpenableKey, str]:
        """The key of this name, closed, and its account. Raises Refusal `upstream_key_unknown`."""
        with self._store.read() as tx:
            key = tx.upstream_keys.get(name=name)
        if key is None:
            raise Refusal("upstream_key_unknown", f"No upstream key is named {name!r}", key=name)
        return self._openable(key), key.account

    def take_in(self, call: Call, name: str, access_key_id: str, secret: Secret, by: str) -> UpstreamKey:
        """Seal the key, ask AWS whose it is, and keep it. A name that is taken is refused (`conflict`)."""
        draft = UpstreamKey(name, "", access_key_id, b"", self._clock(), by)
        sealed = replace(draft, sealed_secret=self._vault.seal(context_of(draft), secret))
        key = replace(sealed, account=self._cloud.account(self._openable(sealed)))

        def unit(tx: Transaction) -> None:
            if not tx.upstream_keys.add(key):
                raise Refusal("conflict", f"An upstream key named {name!r} is here already", key=name)
            tx.audit.append(call.event(Kind.DECISION, key=name, account=key.account, access_key_id=access_key_id))

        self._journal.write(call, unit)
        return key

    def _openable(self, key: UpstreamKey) -> OpenableKey:
        return OpenableKey(key.name, key.access_key_id, lambda: self._vault.open(context_of(key), key.sealed_secret))
