"""Credentials, in memory only. Each grant has one `Supply`, and a supply has one thread that fetches: so there is never
more than one request in flight for a grant, however many local clients wait for it.
"""

import json
import logging
import threading
from collections.abc import Callable
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


class Supply:
    """The credentials of one grant, kept fresh. A failed refresh keeps the old ones for as long as they live.

    `settled` is called after every attempt.
    """

    def __init__(self, grant: str, fetch: Fetch, world: World, settled: Callable[[], None] = lambda: None) -> None:
        self._grant, self._fetch, self._world, self._settled = grant, fetch, world, settled
        self._changed = threading.Condition()
        self._backoff = Backoff(world.random)
        self._body: Secret | None = None
        self._since = self._expires = self._due = world.now()
        self._failure: Fault | None = None
        self._tries = 0
        self._stopped = False

    def body(self, wait: float = LONGEST_WAIT) -> bytes:
        """The container provider's JSON; waits at most `wait` seconds for it. Raises Unavailable.

        Never blank and never expired. Asking does not hasten the next attempt: a local client cannot make the agent
        press the gateway.
        """
        with self._changed:
            if not self._lives() and not self._stopped and self._seconds_left(self._due) < wait:
                tries = self._tries
                self._changed.wait_for(lambda: self._lives() or self._stopped or self._tries > tries, wait)
            if self._body is not None and self._lives():
                with self._body as plain:
                    return plain
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
            if failure is None:
                self._keep(answer, expires)
            else:
                self._fail(failure)
            self._changed.notify_all()
        self._settled()

    def stop(self) -> None:
        """Serve no more, fetch no more, and wipe what is held."""
        with self._changed:
            self._stopped = True
            self._wipe()
            self._changed.notify_all()

    @property
    def settled(self) -> bool:
        """Whether there are credentials, or a refusal that will last."""
        return self._lives() or (isinstance(self._failure, Problem) and not self._failure.passing)

    def supplied(self) -> Supplied:
        """This grant for `status`."""
        with self._changed:
            remaining = self._seconds_left(self._expires) if self._body else 0.0
            return Supplied(self._grant, max(0, int(remaining)), self._failure.code if self._failure else None)

    def _keep(self, answer: CredentialsAnswer, expires: datetime) -> None:
        self._wipe()
        self._body = Secret(json.dumps({
            "AccessKeyId": answer.access_key_id,
            "SecretAccessKey": answer.secret_access_key,
            "Token": answer.session_token,
            "Expiration": answer.expiration,
        }))  # fmt: skip
        life = expires - self._since
        early = min(MARGIN, life / 2)
        self._expires = expires
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
        if self._body is not None:
            self._body.wipe()
            self._body = None

    def _lives(self) -> bool:
        return self._body is not None and self._world.now() < self._expires

    def _is_due(self) -> bool:
        """By the clock; and at once when the clock was set back, for then nothing reckoned by it holds."""
        return not self._since <= self._world.now() < self._due

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

    def __init__(self, fetch: Fetch, world: World, settled: Callable[[], None] = lambda: None) -> None:
        self._fetch, self._world, self._settled = fetch, world, settled
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

    def body(self, grant: str, wait: float = LONGEST_WAIT) -> bytes:
        """As `Supply.body`. Raises Unavailable, also for a grant that there is not."""
        supply = self._supplies.get(grant)
        if supply is None:
            raise Unavailable("grant_refused", "The instance has no such grant", refused=True)
        return supply.body(wait)

    def settled(self) -> bool:
        """Whether every grant has credentials, or a refusal that will last."""
        return all(supply.settled for supply in list(self._supplies.values()))

    def supplied(self) -> list[Supplied]:
        """Every grant for `status`, by name."""
        return [self._supplies[name].supplied() for name in sorted(self._supplies)]

    def _start(self, grant: str) -> Supply:
        supply = Supply(grant, self._fetch, self._world, self._settled)
        threading.Thread(target=supply.run, name=f"supply-{grant}", daemon=True).start()
        return supply


def _moment(written: str) -> datetime:
    try:
        return parse_instant(written)
    except ValueError:
        raise Fault("answer_malformed", "The gateway's answer has no moment at which the credentials end") from None
