"""Dummy keys: what programs sign with when the grant's real credentials do not come to this machine.

A pair for each such grant, made here, in memory only, and told to the gateway over the connection that is bound to this
instance. Nowhere else does it open anything; AWS does not know it.
"""

import base64
import hashlib
import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from agent.credentials import Lent, Supplied, Unavailable
from agent.errors import Fault, Problem
from agent.world import World
from gateway.wire.calls import DummyKey
from gateway.wire.secret import Secret

log = logging.getLogger("agent.calls")

LIFE = timedelta(hours=1)
"""What a client is told that its key still lives; it has it again by asking again."""


@dataclass(frozen=True, slots=True, repr=False)
class Dummy:
    """A key pair and its session token, for the calls of one grant by these ways (of `messages.WAYS`), known to these
    users.
    """

    grant: str
    ways: tuple[str, ...]
    users: frozenset[str]
    access_key_id: str
    secret: Secret
    token: Secret
    made: datetime


class Dummies:
    """The dummy keys of all grants that have other ways than a vended session. Any thread may call."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._lock = threading.Lock()
        self._by_grant: dict[str, Dummy] = {}
        self._by_id: dict[str, Dummy] = {}
        self._known: dict[str, object] = {}  # grant → the client that told the gateway, or was refused
        self._problems: dict[str, Fault] = {}

    def offer(self, ways: Mapping[str, tuple[str, ...]], users: Mapping[str, tuple[str, ...]] | None = None) -> None:
        """From now on the keys of exactly these grants. A key stays with its grant; that of a missing one is wiped, and
        so is one that somebody knows who is no user of the grant any more.
        """
        with self._lock:
            old, self._by_grant = self._by_grant, {}
            for grant, by in ways.items():
                known_to = frozenset((users or {}).get(grant, ()))
                if grant in old and old[grant].users <= known_to:
                    self._by_grant[grant] = replace(old.pop(grant), ways=by, users=known_to)
                else:
                    self._by_grant[grant] = self._new(grant, by, known_to)
            self._by_id = {dummy.access_key_id: dummy for dummy in self._by_grant.values()}
            for grant in [*self._problems, *old]:  # what was refused is tried again
                self._known.pop(grant, None)
            self._problems.clear()
        for gone in old.values():
            gone.secret.wipe()
            gone.token.wipe()

    def find(self, access_key_id: str) -> Dummy | None:
        """The key of this id."""
        return self._by_id.get(access_key_id)

    def of(self, grant: str) -> Dummy:
        """The grant's key, once the gateway knows it. Raises Unavailable."""
        with self._lock:
            dummy, problem = self._by_grant.get(grant), self._problems.get(grant)
            known = grant in self._known
        if dummy is None:
            why = "The instance has no such grant, or one whose calls are neither signed nor carried by the gateway"
            raise Unavailable("grant_refused", why, refused=True)
        if problem is not None:
            raise Unavailable(problem.code, str(problem), refused=True)
        if not known:
            raise Unavailable("not_yet", "The gateway does not know the key yet", retry_after=1.0)
        return dummy

    def lend(self, grant: str) -> Lent:
        """The grant's key in the form of credentials. Raises Unavailable."""
        dummy = self.of(grant)
        with dummy.secret as secret, dummy.token as token:
            expires = self._world.now() + LIFE
            return Lent(dummy.access_key_id, secret.decode(), token.decode(), expires, dummy.made)

    def has(self, grant: str) -> bool:
        """Whether the grant has a dummy key."""
        return grant in self._by_grant

    def register(self, client: object, tell: Callable[[DummyKey], object]) -> list[str]:
        """Tell the gateway each key that it has not heard from this `client`; the grants that it was told of.

        What it refuses for good stays refused until `offer`. Raises Fault for what may pass, to be called again, when
        all others are told.
        """
        with self._lock:
            waiting = [each for each in self._by_grant.values() if self._known.get(each.grant) is not client]
        passing: Problem | None = None
        for dummy in waiting:
            problem: Fault | None = None
            try:
                with dummy.secret as secret:
                    tell(DummyKey(dummy.grant, dummy.access_key_id, secret.decode()))
            except Problem as refused:
                if refused.passing or refused.code == "conflict":  # with another request at the same moment
                    passing = refused
                    continue
                problem = refused
                log.warning("the gateway refuses the key for calls grant=%s: %s", dummy.grant, refused)
            except ValueError:  # wiped meanwhile: the grant is gone
                continue
            with self._lock:
                if dummy.grant in self._by_grant:
                    self._known[dummy.grant] = client
                    self._problems.pop(dummy.grant, None)
                    if problem is not None:
                        self._problems[dummy.grant] = problem
        if passing is not None:
            raise passing
        return [dummy.grant for dummy in waiting]

    def supplied(self) -> list[Supplied]:
        """Every grant for `status`, by name."""
        with self._lock:
            found = []
            for grant in sorted(self._by_grant):
                problem = self._problems.get(grant)
                ready = grant in self._known and problem is None
                found.append(Supplied(grant, int(LIFE.total_seconds()) * ready, problem.code if problem else None))
            return found

    def _new(self, grant: str, ways: tuple[str, ...], users: frozenset[str]) -> Dummy:
        identity = base64.b32encode(_bytes(self._world)[:10]).decode()
        secret = base64.b64encode(_bytes(self._world)[:30])
        token = Secret(self._world.token())
        return Dummy(grant, ways, users, f"TGDK{identity}", Secret(secret), token, self._world.now())


def _bytes(world: World) -> bytes:
    """32 bytes that nobody can guess, of a word that nobody can."""
    return hashlib.sha256(world.token().encode()).digest()
