"""How the agent stands: the state that it holds, the file that keeps it, and the client that presents its certificate.

The three change together, under one lock, from whichever thread hears the news first.
"""

import logging
import threading
from contextlib import suppress

from agent.client import Client
from agent.enrollment import address_of
from agent.errors import Fault
from agent.identity import Identity, Pending, Revoked, State, Store
from agent.world import World
from gateway.wire.messages import instant

log = logging.getLogger("agent.standing")


class Standing:
    """`held` and `client` may be read at any time; `presenting` is set while there is a client.

    Raises what `Store.load` raises.
    """

    def __init__(self, world: World, store: Store) -> None:
        self.lock = threading.RLock()
        self.held: State | None = store.load()
        self.client: Client | None = None
        self.presenting = threading.Event()
        self._world, self._store = world, store
        self._saved = True

    def present(self, identity: Identity) -> None:
        """Take up the certificate that is held. Raises Fault when its key does not fit."""
        self._replace_client(Client(address_of(identity.gateway), identity.root_der, identity.bundle))

    def keep(self, pending: Pending) -> Pending:
        """Hold a key that has no certificate yet; it is saved before anything depends on it. Raises Fault."""
        with self.lock:
            self.held, self._saved = pending, False
            self.save()
        return pending

    def adopt(self, identity: Identity, instead_of: State) -> None:
        """Hold and present a new certificate, unless a revocation came first. Raises Fault when they do not fit."""
        client = Client(address_of(identity.gateway), identity.root_der, identity.bundle)
        with self.lock:
            if self.held is not instead_of:
                client.close()
                return
            self.held, self._saved = identity, False
            self._replace_client(client)
            with suppress(Fault):  # whoever calls `save` next tells; what is held is good all the same
                self.save()
        log.info("certificate instance=%s profile=%s until=%s", identity.instance, identity.profile, identity.not_after)

    def revoke(self, ticket_sha256: str | None) -> None:
        """Forget key and certificate, and remember that, with the ticket that shall not do again."""
        with self.lock:
            self.held, self._saved = Revoked(instant(self._world.now()), ticket_sha256), False
            self.withdraw()
            with suppress(Fault):
                self.save()

    def withdraw(self) -> None:
        """Present no certificate."""
        self._replace_client(None)

    def save(self) -> None:
        """Save what is held, if it is not yet. Raises Fault, and can be tried again."""
        with self.lock:
            if not self._saved and self.held is not None:
                self._store.save(self.held)
            self._saved = True

    def _replace_client(self, client: Client | None) -> None:
        with self.lock:
            old, self.client = self.client, client
            if client is None:
                self.presenting.clear()
            else:
                self.presenting.set()
        if old is not None:
            old.close()
