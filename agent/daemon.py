"""`run`: the settings become parts, the parts are put together, and all of it ends cleanly."""

import json
import logging
import os
import threading
import traceback
from contextlib import ExitStack
from typing import Any

from agent import process
from agent.evidence.ec2 import Metadata
from agent.identity import Directory, Memory, Store
from agent.lifecycle import Lifecycle
from agent.serve.doors import Doors
from agent.settings import Settings
from agent.standing import Standing
from agent.world import World

log = logging.getLogger("agent")


class Daemon:
    """A running agent. Raises Fault when it cannot start; whatever it opened is closed again by `close`."""

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
        self.doors = Doors(
            settings,
            self._world,
            lend=lambda grant, wait: self.lifecycle.credentials.lend(grant, wait),
            state=lambda: self.lifecycle.state,
            status=self._status,
            instance=lambda: self.lifecycle.identity.instance if self.lifecycle.identity else "",
            metadata=metadata.get,
        )
        self._closing.callback(self.doors.close)
        self.lifecycle = Lifecycle(
            self._world,
            Standing(self._world, store),
            metadata,
            publish=self.doors.publish,
            changed=self.doors.update,
            announce=self._announce,
        )

    def start(self) -> None:
        """Start the threads. A mistake in any of them ends the agent, and says so in one line."""
        threading.excepthook = self._fail
        self._closing.callback(self.lifecycle.stop)
        self._closing.callback(self.doors.shut)
        for name, work in (
            ("doors", self.doors.serve),
            ("lifecycle", self.lifecycle.run),
            ("watch", self.lifecycle.watch),
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

    def _status(self, his: list[str]) -> bytes:
        """The status document, with these grants: no secrets. `healthy` is what `status` exits by."""
        lifecycle = self.lifecycle
        identity = lifecycle.identity
        grants = [grant for grant in lifecycle.credentials.supplied() if grant.name in his]
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
            "problem": lifecycle.problem,
            "instance": identity.instance if identity else None,
            "profile": identity.profile if identity else None,
            "certificate_not_after": identity.not_after if identity else None,
            "grants": shown,
            "memory_locked": self._memory_locked,
            "pid": os.getpid(),
        }).encode()  # fmt: skip
