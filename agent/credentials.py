"""Credentials, in memory only. Each grant has one `Supply`, and a supply has one thread that fetches: so there is never
more than one request in flight for a grant, however many local clients wait for it.
"""

import json
import logging
import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

from agent.errors import Fault, Problem
from agent.pace import Backoff
from agent.world import World
from gateway.wire.messages import CredentialsAnswer, parse_instant
from gateway.wire.secret import Secret

log = logging.getLogger("agent.credentials")

MARGIN = timedelta(minutes=30)
"""Refreshed when less remains, or less than half of a shorter life: below 15 minutes some SDKs ask for each call."""
LONGEST_WAIT = 1.5
"""Seconds that a local client waits for the first credentials; botocore gives up at 2."""
_LONGEST_SLEEP = 60.0  # seconds; a sleeping machine or a moved clock is noticed after as long as that

Fetch = Callable[[str], CredentialsAnswer]


class Unavailable(Fault):
    """There is nothing to serve. `retry_after` in seconds; `refused` when the gateway said no for good."""

    def __init__(self, code: str, detail: str, *, retry_after: float = 0.0, refused: bool = False) -> None:
        super().__init__(code, detail)
        self.retry_after = retry_after
        self.refused = refused


@dataclass(frozen=True, slots=True)
class Supplied:
    """One grant as `status` shows it: seconds that its credentials still live, and the code of the last failure."""

    name: str
    remaining_seconds: int
    problem: str | None


@dataclass(frozen=True, slots=True, repr=False)
class Lent:
    """Credentials as they are now, for the length of one answer: secrets. `updated` is when they came."""

    access_key_id: str
    secret_access_key: str
    session_token: str
    expires: datetime
    updated: datetime


class Supply:
    """The credentials of one grant, kept fresh. A failed refresh keeps the old ones for as long as they live.

    `changed` is told the grant's name after every attempt, and when it is over; then `settled` is called.
    """

    def __init__(
        self,
        grant: str,
        fetch: Fetch,
        world: World,
        changed: Callable[[str], None] = lambda _: None,
        settled: Callable[[], None] = lambda: None,
    ) -> None:
        self._grant, self._fetch, self._world = grant, fetch, world
        self._tell_change, self._tell_settled = changed, settled
        self._told = False
        self._changed = threading.Condition()
        self._backoff = Backoff(world.random)
        self._held: Secret | None = None
        self._since = self._updated = self._expires = self._due = world.now()
        self._failure: Fault | None = None
        self._tries = 0
        self._lease = ""
        self._dropped = False
        self._revoked: Collection[str] = ()
        self._stopped = False

    def lend(self, wait: float = LONGEST_WAIT) -> Lent:
        """The credentials; waits at most `wait` seconds for the first ones. Raises Unavailable.

        Never blank and never expired. Asking does not hasten the next attempt: a local client cannot make the agent
        press the gateway. Only what was dropped is fetched anew because somebody asks.
        """
        with self._changed:
            if self._dropped:
                self._dropped = False
                self._due = self._since = self._world.now()
                self._changed.notify_all()
            if not self._lives() and not self._stopped and self._seconds_left(self._due) < wait:
                tries = self._tries
                self._changed.wait_for(lambda: self._lives() or self._stopped or self._tries > tries, wait)
            if self._held is not None and self._lives():
                with self._held as plain:
                    key_id, secret, token = json.loads(plain)
                return Lent(key_id, secret, token, self._expires, self._updated)
            raise self._unavailable()

    def run(self) -> None:
        """Fetch whenever it is due, until `stop`. This is the supply's thread."""
        while not self._stopped:
            self.refresh()
            with self._changed:
                while not self._stopped and not self._is_due():
                    self._changed.wait(min(self._seconds_left(self._due), _LONGEST_SLEEP))

    def refresh(self) -> None:
        """One attempt; sets when the next is due."""
        failure: Fault | None = None
        try:
            answer = self._fetch(self._grant)
            expires = _moment(answer.expiration)
            if not (answer.access_key_id and answer.secret_access_key and answer.session_token):
                raise Fault("answer_malformed", "The gateway's answer holds credentials with a blank in them")
            if expires <= self._world.now():
                hint = "Set this machine's clock right."
                raise Fault("clock_skew", "The credentials that came are over already by this machine's clock", hint)
        except Fault as fault:
            failure = fault
        with self._changed:
            if self._stopped:
                return
            self._tries += 1
            self._since = self._world.now()
            if failure is None and answer.lease in self._revoked:
                failure = Fault("lease_revoked", "The credentials were revoked while they came")
            if failure is None:
                self._keep(answer, expires)
            else:
                self._fail(failure)
            self._changed.notify_all()
        self._tell_change(self._grant)
        self._told = True
        self._tell_settled()

    def drop(self, leases: Collection[str]) -> None:
        """If what is held is of one of these leases, which were revoked: wipe it. Nothing is fetched until somebody
        asks.
        """
        with self._changed:
            self._revoked = leases
            if self._held is None or self._lease not in leases:
                return
            self._wipe()
            self._dropped = True
            log.warning("credentials grant=%s lease=%s are revoked: dropped", self._grant, self._lease)
        self._tell_change(self._grant)

    def stop(self) -> None:
        """Serve no more, fetch no more, and wipe what is held."""
        with self._changed:
            self._stopped = True
            self._wipe()
            self._changed.notify_all()
        self._tell_change(self._grant)

    @property
    def settled(self) -> bool:
        """Whether there are credentials, or a refusal that will last, and `changed` knows it."""
        refused = isinstance(self._failure, Problem) and not self._failure.passing
        return self._told and (self._lives() or refused)

    def supplied(self) -> Supplied:
        """This grant for `status`."""
        with self._changed:
            remaining = self._seconds_left(self._expires) if self._held else 0.0
            return Supplied(self._grant, max(0, int(remaining)), self._failure.code if self._failure else None)

    def _keep(self, answer: CredentialsAnswer, expires: datetime) -> None:
        self._wipe()
        self._held = Secret(json.dumps([answer.access_key_id, answer.secret_access_key, answer.session_token]))
        life = expires - self._since
        early = min(MARGIN, life / 2)
        self._lease, self._dropped = answer.lease, False
        self._expires, self._updated = expires, self._since
        self._due = self._since + max(timedelta(seconds=1), (life - early) * (1 - self._world.random() / 10))
        self._failure = None
        self._backoff.reset()
        log.info("credentials grant=%s lease=%s until=%s", self._grant, answer.lease, answer.expiration)

    def _fail(self, failure: Fault) -> None:
        wait = self._backoff.failed(failure)
        self._failure = failure
        self._due = self._since + timedelta(seconds=wait)
        if failure.code == "grant_refused":
            self._wipe()  # taken away, not merely out of reach
        log.warning("refresh failed grant=%s again in %.1f s: %s", self._grant, wait, failure)

    def _wipe(self) -> None:
        if self._held is not None:
            self._held.wipe()
            self._held = None

    def _lives(self) -> bool:
        return self._held is not None and self._world.now() < self._expires

    def _is_due(self) -> bool:
        """By the clock; and at once when the clock was set back, for then nothing reckoned by it holds."""
        return not self._dropped and not self._since <= self._world.now() < self._due

    def _seconds_left(self, moment: datetime) -> float:
        return (moment - self._world.now()).total_seconds()

    def _unavailable(self) -> Unavailable:
        failure = self._failure
        if isinstance(failure, Problem) and not failure.passing:
            return Unavailable(failure.code, str(failure), refused=True)
        after = max(1.0, self._seconds_left(self._due))
        if failure is not None:
            return Unavailable(failure.code, str(failure), retry_after=after)
        return Unavailable("not_yet", "The credentials are not here yet", retry_after=after)


class Credentials:
    """The supplies of all grants that this instance has now."""

    def __init__(
        self,
        fetch: Fetch,
        world: World,
        changed: Callable[[str], None] = lambda _: None,
        settled: Callable[[], None] = lambda: None,
    ) -> None:
        self._fetch, self._world, self._changed, self._settled = fetch, world, changed, settled
        self._supplies: dict[str, Supply] = {}
        self._lock = threading.Lock()

    def offer(self, grants: tuple[str, ...]) -> None:
        """Supply exactly these grants from now on: new ones start, missing ones stop at once."""
        with self._lock:
            old, self._supplies = self._supplies, {}
            for grant in grants:
                self._supplies[grant] = old.pop(grant) if grant in old else self._start(grant)
        for supply in old.values():
            supply.stop()

    def lend(self, grant: str, wait: float = LONGEST_WAIT) -> Lent:
        """As `Supply.lend`. Raises Unavailable, also for a grant that there is not."""
        supply = self._supplies.get(grant)
        if supply is None:
            raise Unavailable("grant_refused", "The instance has no such grant", refused=True)
        return supply.lend(wait)

    def drop(self, leases: Collection[str]) -> None:
        """As `Supply.drop`, of every grant."""
        for supply in list(self._supplies.values()):
            supply.drop(leases)

    def settled(self) -> bool:
        """Whether every grant has credentials, or a refusal that will last."""
        return all(supply.settled for supply in list(self._supplies.values()))

    def supplied(self) -> list[Supplied]:
        """Every grant for `status`, by name."""
        return [self._supplies[name].supplied() for name in sorted(self._supplies)]

    def _start(self, grant: str) -> Supply:
        supply = Supply(grant, self._fetch, self._world, self._changed, self._settled)
        threading.Thread(target=supply.run, name=f"supply-{grant}", daemon=True).start()
        return supply


def _moment(written: str) -> datetime:
    try:
        return parse_instant(written)
    except ValueError:
        raise Fault("answer_malformed", "The gateway's answer has no moment at which the credentials end") from None
