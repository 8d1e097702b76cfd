"""Opens the endpoint for calls when the first grant needs it: whoever has none of that kind listens nowhere more, and
does not load h11.
"""

import importlib.util
import logging
import resource
import threading
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from agent.calls.dummy import Dummies
from agent.calls.signing import Signing
from agent.client import Client
from agent.credentials import Lent
from agent.errors import Fault, Problem
from agent.serve import listener
from agent.settings import Address

if TYPE_CHECKING:
    from agent.calls.endpoint import AskIceberg, Endpoint
    from agent.calls.pool import Pool

log = logging.getLogger("agent.calls")

MOST = 512
"""Connections at one time: programs that load many files hold some hundred."""
_EACH = 4  # descriptors for one: it, what is behind it, a question to the gateway, and as many for the other doors


class CallsDoor:
    """`wanted` None: there shall be no endpoint. `address` is where it listens, once it does; `problem` says why not.

    `vended`, `client` and `report` are as `Relay` has them, `check_state` and `iceberg` as `Endpoint`.
    """

    def __init__(
        self,
        wanted: Address | None,
        directory: Path,
        *,
        dummies: Dummies,
        signing: Signing,
        vended: Callable[[str, float], Lent],
        client: Callable[[], Client],
        report: Callable[[Problem, Client], None],
        check_state: Callable[[], None],
        now: Callable[[], datetime],
    ) -> None:
        self._wanted, self._directory = wanted, directory
        self._dummies, self._signing, self._vended = dummies, signing, vended
        self._client, self._report, self._check_state, self._now = client, report, check_state, now
        self._porter = listener.Porter()
        self._opening = threading.Lock()
        self._closed = False
        self._endpoint: Endpoint | None = None
        self._pool: Pool | None = None
        self.iceberg: AskIceberg | None = None
        self.address: Address | None = None
        self.problem: str | None = None if wanted else "calls_off"

    def open(self) -> None:
        """Listen, if that is not so yet. What keeps it from that is logged, and in `problem`; call again later."""
        with self._opening:
            if self.address or self._closed or self._wanted is None:
                return
            try:
                self._open(self._wanted)
                self.problem = None
                log.info("listening for calls address=%s", self.address)
            except Fault as fault:
                if self.problem != fault.code:
                    log.error("no endpoint for calls: %s. %s", fault, fault.hint)
                self.problem = fault.code

    def counts(self, grant: str) -> dict[str, int]:
        """How many calls of a grant went by which way, for `status`."""
        return self._endpoint.counts(grant) if self._endpoint else {}

    def close(self) -> None:
        """Answer nobody any more."""
        with self._opening:
            self._closed = True
            self._porter.close()
            if self._pool:
                self._pool.close()

    def _open(self, wanted: Address) -> None:
        if importlib.util.find_spec("h11") is None:
            hint = "Install trusted-gateway[calls], or h11, or set 'calls' to 'off'."
            raise Fault("calls_unavailable", "The library h11 is not installed", hint)
        from agent.calls.body import Spool
        from agent.calls.endpoint import Endpoint
        from agent.calls.pool import Pool
        from agent.calls.relay import Relay

        listening = listener.listen(wanted, "calls")
        address = Address(wanted.host, listening.getsockname()[1])
        self._pool = Pool()
        relay = Relay(
            signing=self._signing, pool=self._pool, vended=self._vended, client=self._client,
            report=self._report, now=self._now,
        )  # fmt: skip
        spool = Spool(self._directory)
        self._endpoint = Endpoint(address, self._dummies, relay, self._check_state, self._now, spool, self.iceberg)
        door = listener.Door(listening, self._endpoint.converse, most=_room())
        threading.Thread(target=self._serve, args=(door,), name="calls", daemon=True).start()
        self.address = address

    def _serve(self, door: listener.Door) -> None:
        with door.socket:
            self._porter.serve([door])


def _room() -> int:
    """How many connections there is room for, so that no crowd here takes the descriptors of the other doors."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return min(MOST, hard // _EACH)
