"""The last resort, for programs that can do nothing but read a shared credentials file: one for each such grant, on
tmpfs or not at all, and gone with the agent, the grant or the credentials.
"""

import logging
import os
import threading
from collections.abc import Mapping
from pathlib import Path

from agent.errors import Fault
from agent.serve import documents
from agent.serve.access import Offer
from agent.serve.desk import Desk
from agent.serve.guard import Refused
from agent.serve.rundir import RunDirectory

log = logging.getLogger("agent.serve")

WAY = "file"
IN_MEMORY = frozenset({"tmpfs", "ramfs"})
MOUNTS = Path("/proc/self/mountinfo")


class CredentialFiles:
    """The files of all grants that may go by file. `problems` says for each what keeps its file from being there."""

    def __init__(self, directory: RunDirectory, desk: Desk) -> None:
        self._directory, self._desk = directory, desk
        self._lock = threading.Lock()
        self._owners: dict[str, int] = {}
        self.problems: dict[str, str | None] = {}

    def offer(self, offers: Mapping[str, Offer]) -> None:
        """From now on these grants. Files of others are taken away."""
        owners = {name: self._directory.first_owner(offer) for name, offer in offers.items() if WAY in offer.doors}
        with self._lock:
            for gone in self._owners.keys() - owners:
                self._directory.unlink(file_of(gone))
                del self.problems[gone]
            self._owners = owners
        for name in owners:
            self.update(name)

    def update(self, grant: str) -> None:
        """Write the grant's file anew, or take it away when there are no credentials. No error comes out of it."""
        with self._lock:
            if grant in self._owners:
                self._tell(grant, self._written(grant, self._owners[grant]))

    def close(self) -> None:
        """Take every file away."""
        self.offer({})

    def _written(self, grant: str, owner: int) -> str | None:
        try:
            if kind_of_disk(MOUNTS.read_text(), os.fstat(self._directory.fd).st_dev) not in IN_MEMORY:
                raise Fault("no_tmpfs", f"{self._directory.path} is not on tmpfs or ramfs")
            lent = self._desk.lend_to_bearer(grant, WAY, 0.0)
            self._directory.write(file_of(grant), documents.file(lent), owner)
        except (Fault, Refused) as error:
            self._directory.unlink(file_of(grant))
            return error.code
        return None

    def _tell(self, grant: str, problem: str | None) -> None:
        if problem == "no_tmpfs" and self.problems.get(grant) != problem:
            log.error("no credential file for grant=%s: the run directory is not on tmpfs (%s)", grant, problem)
        self.problems[grant] = problem


def file_of(grant: str) -> str:
    """The name of the grant's file in the run directory."""
    return f"{grant}.credentials"


def kind_of_disk(mounts: str, device: int) -> str | None:
    """The type of the file system that is this device (proc_pid_mountinfo(5)); None when it is not listed."""
    number = f"{os.major(device)}:{os.minor(device)}"
    for line in mounts.splitlines():
        fields, _, kind = line.partition(" - ")
        if fields.split()[2] == number:
            return kind.split()[0]
    return None
