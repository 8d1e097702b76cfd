"""From boot to revocation. One thread runs `Lifecycle.run`, another `watch`; any thread may `report` what it heard.

starting ──ticket──▶ enrolled ──renewed at half life; when it ran out, proof of the key──▶ enrolled
                        │
revoked ◀───────────────┘ 403 instance_revoked, on any route; from here only another ticket leads on
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar

from agent import enrollment
from agent.calls.dummy import Dummies
from agent.client import Client
from agent.credentials import Credentials
from agent.enrollment import REVOKED
from agent.errors import Fault, Problem
from agent.evidence.ec2 import Metadata
from agent.identity import Identity, Pending, Revoked, State
from agent.pace import Backoff, part_of_life
from agent.standing import Standing
from agent.world import World
from gateway.wire.calls import DummyKeyAnswer
from gateway.wire.messages import (
    CredentialsAnswer,
    CredentialsRequest,
    GrantsAnswer,
    GrantSummary,
    WatchAnswer,
    decode,
    loads,
)
from gateway.wire.strict import Malformed

log = logging.getLogger("agent.lifecycle")

GRANTS_EVERY = timedelta(minutes=5)
"""How often the list of grants is read again."""
WATCH_CAP = 4.0
"""The longest wait before watching again, in seconds: with the gateway up, a revocation is heard within 5 s."""

_WATCH = 40.0  # seconds; the gateway answers a watch after 25 at most
_LONGEST_SLEEP = 60.0  # seconds; a machine that slept, or whose clock was set, is noticed after as long as that
_YOUNG = timedelta(seconds=5)  # a certificate that is refused when this young will fare no better when replaced

_SUPERSEDED = "certificate_superseded"
_CUT_OFF = "certificate_revoked"
_LOST = frozenset({"certificate_expired", "certificate_unknown", _CUT_OFF})

T = TypeVar("T")


class Lifecycle:
    """The state machine of one agent. `publish` is told the grants whenever they may have changed, `changed` the name
    of a grant whose credentials may have; `announce` is told the state, once: when every grant was fetched or refused
    for good, or the instance found revoked. `dummies` are offered, and told to the gateway, with the grants.
    """

    def __init__(
        self,
        world: World,
        standing: Standing,
        metadata: Metadata,
        dummies: Dummies,
        publish: Callable[[tuple[GrantSummary, ...]], None],
        changed: Callable[[str], None],
        announce: Callable[[str], None],
    ) -> None:
        self._world, self._standing, self._metadata = world, standing, metadata
        self._dummies, self._publish, self._changed, self._announce = dummies, publish, changed, announce
        self.credentials = Credentials(self.vend, world, changed, self._nudge)
        self.problem: str | None = None
        self._refused: str | None = None  # the code with which the gateway refused the certificate in use
        self._resumed = self._offered = self._announced = False
        self._renew_at = self._grants_at = world.now()
        self._wake, self._stop = threading.Event(), threading.Event()

    @property
    def state(self) -> str:
        """`starting` (the grants are not known yet), `enrolled` or `revoked`."""
        if isinstance(self._standing.held, Revoked):
            return "revoked"
        return "enrolled" if self._offered else "starting"

    @property
    def identity(self) -> Identity | None:
        """The identity that is held, whether or not its certificate is still good."""
        held = self._standing.held
        return held if isinstance(held, Identity) else None

    def run(self) -> None:
        """Do what is due, until `stop`; wait longer after each failure in a row."""
        backoff = Backoff(self._world.random)
        while not self._stop.is_set():
            try:
                wait = self.step()
            except Fault as fault:
                self.problem = fault.code
                wait = backoff.failed(fault)
                log.warning("%s: again in %.1f s. %s", fault, wait, fault.hint)
                self._stop.wait(wait)
            else:
                self.problem = None
                backoff.reset()
                self._wake.wait(min(wait, _LONGEST_SLEEP))
                self._wake.clear()

    def watch(self) -> None:
        """Hear of a revocation the moment it happens, by a long poll, until `stop`."""
        backoff = Backoff(self._world.random, cap=WATCH_CAP, lasting_cap=WATCH_CAP)
        after = ""  # of an agent that has dropped nothing yet
        while self._standing.presenting.wait() and not self._stop.is_set():
            began = time.monotonic()
            heard: Fault | None = None
            try:
                raw = self._ask(partial(Client.call, method="GET", path=f"/v1/watch?after={after}", timeout=_WATCH))
                if raw:
                    after = self._drop(raw)
            except Fault as fault:
                heard = fault
            if heard is None and time.monotonic() - began >= 1.0:
                backoff.reset()
            else:  # also when the answer came too soon to be one: this loop never spins
                self._stop.wait(backoff.failed(heard))

    def _drop(self, raw: bytes) -> str:
        """Drop the credentials that the gateway names, and look which grants are left. What to say to it next time."""
        try:
            told = decode(WatchAnswer, loads(raw))
        except Malformed as error:
            raise Fault("answer_malformed", f"/v1/watch: the gateway's answer is not understood: {error}") from None
        self.credentials.drop(told.drop)
        self._grants_at = self._world.now()
        self._nudge()
        return told.after

    def stop(self) -> None:
        """Let `run` and `watch` end, and forget every secret."""
        self._stop.set()
        self._nudge()
        with self._standing.lock:  # whoever is publishing grants has done so now, and nobody will again
            self._offer(())
            self._standing.withdraw()
            self._standing.presenting.set()

    def ask_for(self, answer: type[T], method: str, path: str, message: Any = None) -> T:
        """The gateway's answer to a wire message, by the certificate in use. Raises Problem and Fault."""
        return self._ask(lambda client: client.ask(answer, method, path, message))

    def client(self) -> Client:
        """The client of the certificate in use. Raises Fault."""
        client = self._standing.client
        if client is None:
            raise Fault("not_enrolled", "The agent has no certificate in use")
        return client

    def vend(self, grant: str) -> CredentialsAnswer:
        """Credentials for one grant, from the gateway. Raises Problem and Fault."""
        return self.ask_for(CredentialsAnswer, "POST", "/v1/credentials", CredentialsRequest(grant=grant))

    def report(self, problem: Problem, client: Client) -> None:
        """Hear what the gateway refused to `client`. A word about a certificate no longer in use means nothing."""
        with self._standing.lock:
            held = self._standing.held
            if client is not self._standing.client or not isinstance(held, Identity):
                return
            if problem.code == REVOKED:
                self._purge(held.ticket_sha256)
            elif problem.code == _SUPERSEDED or problem.code in _LOST:
                self._refused = problem.code
                if problem.code == _CUT_OFF:
                    self._serve_nothing()
                self._nudge()

    def step(self) -> float:
        """Do what is due. Seconds until something else is. Raises Fault."""
        wait = self._do_what_is_due()
        self._standing.save()
        return wait

    def _do_what_is_due(self) -> float:
        held = self._standing.held
        if isinstance(held, Identity) and not self._resumed:
            held = self._heed_user_data(held)
        self._resumed = True
        if isinstance(held, Identity):
            self._keep_certificate(held)
        elif not self._enroll(held):
            self._announce_once("revoked")
            return GRANTS_EVERY.total_seconds()
        if not self._offered or self._world.now() >= self._grants_at:
            self._read_grants()
        self._register_keys()
        if self.credentials.settled():
            self._announce_once("enrolled")
        return max(0.1, (min(self._renew_at, self._grants_at) - self._world.now()).total_seconds())

    def _heed_user_data(self, identity: Identity) -> Identity | None:
        """Since the certificate was kept, user-data may have moved the gateway, or sent this machine to another one."""
        try:
            told = self._metadata.user_data()
        except Fault as fault:
            log.warning("going on without user-data: %s", fault)
            return identity
        if told is not None and told.ca_sha256 == identity.root_sha256:
            self._standing.held = replace(identity, gateway=told.gateway)
        elif told is not None and told.ticket:
            log.warning("user-data names a gateway with another root: enrolling anew")
            self._standing.held = None
        return self.identity

    def _keep_certificate(self, identity: Identity) -> None:
        """Take the certificate up; renew it at half life or when told to; come back by proof when it is of no use."""
        now, client = self._world.now(), self._standing.client
        if self._refused and now - identity.begins < _YOUNG:
            raise Fault(self._refused, "The gateway refuses the certificate that it has just given")
        if now >= identity.ends or self._refused in _LOST:
            self._come_back(identity)
        elif client is None:
            self._standing.present(identity)
            self._reckon_renewal(identity)
        elif now >= self._renew_at or self._refused == _SUPERSEDED:
            self._adopt(self._ask(lambda client: enrollment.renew(client, identity, now)), identity)

    def _come_back(self, identity: Identity) -> None:
        """Prove the key that was enrolled. If that is refused for good, a ticket that is new may still do."""
        self._standing.withdraw()
        try:
            self._adopt(enrollment.come_back(identity, self._metadata.evidence(), self._world.now()), identity)
        except Problem as problem:
            if problem.code == REVOKED:
                self._purge(identity.ticket_sha256)
            elif not problem.passing and self._another_ticket(identity.ticket_sha256):
                self._standing.keep(Pending(identity.key))
            raise

    def _enroll(self, held: State | None) -> bool:
        """Enrol by the ticket in user-data. False when the instance is revoked, and has no other ticket since."""
        if isinstance(held, Revoked) and not self._another_ticket(held.ticket_sha256):
            return False
        told = self._metadata.user_data()
        if told is None or told.ticket is None:
            hint = "Launch the instance with the line that 'trusted-gateway ticket create' prints."
            raise Fault("ticket_missing", "User-data holds no ticket for this machine", hint)
        pending = held if isinstance(held, Pending) else self._standing.keep(Pending(enrollment.new_key()))
        evidence = self._metadata.evidence()
        try:
            self._adopt(enrollment.enroll(told, told.ticket, pending.key, evidence, self._world.now()), pending)
        except Problem as problem:
            if problem.code == REVOKED:
                self._purge(enrollment.sha256(told.ticket))
            raise
        return True

    def _another_ticket(self, ticket_sha256: str | None) -> bool:
        told = self._metadata.user_data()
        return told is not None and told.ticket is not None and enrollment.sha256(told.ticket) != ticket_sha256

    def _adopt(self, identity: Identity, instead_of: State) -> None:
        self._standing.adopt(identity, instead_of)
        self._refused = None
        self._reckon_renewal(identity)

    def _reckon_renewal(self, identity: Identity) -> None:
        self._renew_at = part_of_life(identity.begins, identity.ends, 0.5 + self._world.random() / 10)

    def _purge(self, ticket_sha256: str | None) -> None:
        """The instance is revoked: serve nothing from this moment, and keep nothing."""
        with self._standing.lock:
            self._serve_nothing()
            self._standing.revoke(ticket_sha256)
        log.error("the instance is revoked: credentials, key and certificate are gone (%s)", REVOKED)
        self._nudge()

    def _serve_nothing(self) -> None:
        self._offer(())
        self._offered = False

    def _offer(self, grants: tuple[GrantSummary, ...]) -> None:
        """Sessions for grants that may go by token, dummy keys for those that may go otherwise."""
        self.credentials.offer(tuple(sorted({grant.name for grant in grants if "token" in grant.ways})))
        calling = [grant for grant in grants if any(way != "token" for way in grant.ways)]
        self._dummies.offer({each.name: each.ways for each in calling}, {each.name: each.users for each in calling})

    def _register_keys(self) -> None:
        """Tell the gateway the keys for calls, again with each certificate: it knows them for as long as that lasts."""
        client = self._standing.client
        if client is not None and self._offered:
            tell = partial(self.ask_for, DummyKeyAnswer, "POST", "/v1/dummy-keys")
            for grant in self._dummies.register(client, tell):
                self._changed(grant)

    def _read_grants(self) -> None:
        again = self._world.now() + GRANTS_EVERY * (0.9 + self._world.random() / 5)
        answer = self.ask_for(GrantsAnswer, "GET", "/v1/grants")
        with self._standing.lock:
            if self._standing.client is not None and not self._stop.is_set():
                self._offer(answer.grants)
                self._publish(answer.grants)
                self._offered = True
                self._grants_at = again

    def _ask(self, ask: Callable[[Client], T]) -> T:
        """Ask with the certificate in use, and heed what a refusal says about it. Raises Problem and Fault."""
        client = self.client()
        try:
            return ask(client)
        except Problem as problem:
            self.report(problem, client)
            raise

    def _announce_once(self, state: str) -> None:
        if not self._announced:
            self._announced = True
            self._announce(state)

    def _nudge(self) -> None:
        self._wake.set()
