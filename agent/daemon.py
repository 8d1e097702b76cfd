"""`run`: the settings become parts, the parts are put together, and all of it ends cleanly."""

import json
import logging
import os
import threading
import traceback
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from agent import process
from agent.calls.door import CallsDoor
from agent.calls.dummy import Dummies
from agent.calls.signing import Signing
from agent.credentials import Lent, Supplied, Unavailable
from agent.evidence.ec2 import Metadata
from agent.identity import Directory, Memory, Store
from agent.lifecycle import Lifecycle
from agent.serve.doors import Doors
from agent.settings import Settings
from agent.standing import Standing
from agent.witness import Witness
from agent.world import World
from gateway.wire.checkpoint import CheckpointAnswer

log = logging.getLogger("agent")


class Daemon:
    """A running agent. Raises Fault when it cannot start; whatever it opened is closed again by `close`."""

    doors: Doors
    lifecycle: Lifecycle

    def __init__(
        self, settings: Settings, world: World, *, notify_socket: str | None = None, memory_locked: bool = False
    ) -> None:
        self._world, self._notify_socket, self._memory_locked = world, notify_socket, memory_locked
        self._closing = ExitStack()
        self.ended = threading.Event()
        self.failed = False
        try:
            self._open(settings)
        except BaseException:
            self._closing.close()
            raise

    def _open(self, settings: Settings) -> None:
        store: Store = Memory()
        if not settings.in_memory:
            store = directory = Directory(settings.state_dir)
            self._closing.callback(directory.close)
        metadata = Metadata(settings.metadata)
        self.dummies = Dummies(self._world)
        signing = Signing(self.dummies, lambda *asked: self.lifecycle.ask_for(*asked), self._world.now)
        self.calls = CallsDoor(
            settings.calls,
            settings.run_dir,
            dummies=self.dummies,
            signing=signing,
            vended=lambda grant, wait: self.lifecycle.credentials.lend(grant, wait),
            client=lambda: self.lifecycle.client(),
            report=lambda problem, client: self.lifecycle.report(problem, client),
            check_state=lambda: self.doors.desk.check_state(),
            now=self._world.now,
        )
        self._closing.callback(self.calls.close)
        self.doors = Doors(
            settings,
            self._world,
            lend=self._lend,
            state=lambda: self.lifecycle.state,
            status=self._status,
            instance=lambda: self.lifecycle.identity.instance if self.lifecycle.identity else "",
            metadata=metadata.get,
            calls=self.calls,
            sign=signing.ask,
        )
        self._closing.callback(self.doors.close)
        standing = Standing(self._world, store)
        self.lifecycle = Lifecycle(
            self._world,
            standing,
            metadata,
            self.dummies,
            publish=self.doors.publish,
            changed=self.doors.update,
            announce=self._announce,
        )

        self.witness = Witness(
            self._world,
            store,
            lambda path: self.lifecycle.ask_for(CheckpointAnswer, "GET", path),
            lambda: self.lifecycle.identity,
            standing.presenting,
        )

    def start(self) -> None:
        """Start the threads. A mistake in any of them ends the agent, and says so in one line."""
        threading.excepthook = self._fail
        self._closing.callback(self.lifecycle.stop)
        self._closing.callback(self.witness.stop)
        self._closing.callback(self.doors.shut)
        for name, work in (
            ("doors", self.doors.serve),
            ("lifecycle", self.lifecycle.run),
            ("watch", self.lifecycle.watch),
            ("witness", self.witness.run),
        ):
            threading.Thread(target=work, name=name, daemon=True).start()
        log.info(
            "listening address=%s imds=%s pid=%d memory_locked=%s",
            self.doors.address, self.doors.imds_address, os.getpid(), self._memory_locked,
        )  # fmt: skip

    def close(self) -> None:
        """End everything, take the run directory's files away, and wipe the secrets."""
        process.notify(self._notify_socket, "STOPPING=1")
        self._closing.close()

    def _fail(self, args: threading.ExceptHookArgs) -> None:
        where = traceback.extract_tb(args.exc_traceback)[-1]  # the place and not the text, which could hold anything
        log.error("internal error: %s at %s:%d", args.exc_type.__name__, where.filename, where.lineno or 0)
        self.failed = True
        self.ended.set()

    def _announce(self, state: str) -> None:
        """A revoked agent has started too: it answers everyone, with no."""
        log.info("ready" if state == "enrolled" else state)
        process.notify(self._notify_socket, f"READY=1\nSTATUS={state}")

    def _lend(self, grant: str, wait: float) -> Lent:
        """The dummy key of a grant that has one, and no session beside it that could be had instead."""
        if not self.dummies.has(grant):
            return self.lifecycle.credentials.lend(grant, wait)
        if problem := self.calls.problem:
            raise Unavailable(problem, f"The grant {grant} goes by the endpoint for calls, which is not there")
        return self.dummies.lend(grant)

    def _supplied(self) -> list[Supplied]:
        """Every grant once, with what its programs are lent."""
        found = {each.name: each for each in self.lifecycle.credentials.supplied()}
        for each in self.dummies.supplied():
            beside = found.get(each.name)
            problem = each.problem or self.calls.problem or (beside.problem if beside else None)
            remaining = 0 if self.calls.problem else each.remaining_seconds
            found[each.name] = replace(each, remaining_seconds=remaining, problem=problem)
        return [found[name] for name in sorted(found)]

    def _status(self, his: list[str]) -> bytes:
        """The status document, with these grants: no secrets. `healthy` is what `status` exits by."""
        lifecycle = self.lifecycle
        identity = lifecycle.identity
        grants = [grant for grant in self._supplied() if grant.name in his]
        valid = identity is not None and identity.ends > self._world.now()
        shown: list[dict[str, Any]] = [
            {
                "name": grant.name,
                "remaining_seconds": grant.remaining_seconds,
                "problem": grant.problem,
                **self.doors.describe(grant.name),
            }
            for grant in grants
        ]
        return json.dumps({
            "state": lifecycle.state,
            "healthy": lifecycle.state == "enrolled" and valid and all(grant.remaining_seconds > 0 for grant in grants),
            "problem": lifecycle.problem or self.witness.problem,
            "instance": identity.instance if identity else None,
            "profile": identity.profile if identity else None,
            "certificate_not_after": identity.not_after if identity else None,
            "grants": shown,
            "memory_locked": self._memory_locked,
            "pid": os.getpid(),
        }).encode()  # fmt: skip
