"""The run directory: a token file for each grant, and `agent.json`, by which `exec` and `status` find the agent.

Everything in it is for the agent's own user. Another user's service gets its token through systemd's `LoadCredential=`,
so no file need be open to others; and who may not read a token has no use for the list of tokens: `agent.json` is 0600.
"""

import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from agent.errors import Fault
from agent.files import open_directory, read_private, replace_file
from agent.settings import Address
from agent.world import World
from gateway.wire.secret import Secret
from gateway.wire.strict import Malformed, decode, integer, loads, text

AGENT = "agent.json"
STATUS = "_status"  # no grant can have this name


@dataclass(frozen=True, slots=True)
class Running:
    """A running agent: its process, where it listens, and the token file of each grant."""

    pid: int = integer(low=1, high=2**31 - 1)
    listen: str = text()
    status_token: str = text(longest=4096)
    tokens: dict[str, str] = field(default_factory=dict, metadata={"longest": 4096})


class RunDirectory:
    """The files of one run. Raises Fault `directory_refused`."""

    def __init__(self, path: Path, listen: Address, world: World) -> None:
        self._path, self._listen, self._world = path, listen, world
        self._fd = open_directory(path, closed_to_others=0o022)
        self.tokens: dict[str, Secret] = {}
        self.status_token = self._new(STATUS)
        self.publish(())

    def publish(self, grants: tuple[str, ...]) -> None:
        """Have a token file for exactly these grants; those that stay keep their token. Raises OSError."""
        for gone in self.tokens.keys() - set(grants):
            del self.tokens[gone]
            self._unlink(_file(gone))
        for grant in grants:
            if grant not in self.tokens:
                self.tokens[grant] = self._new(grant)
        paths = {grant: str(self._path / _file(grant)) for grant in grants}
        running = Running(os.getpid(), str(self._listen), str(self._path / _file(STATUS)), paths)
        replace_file(AGENT, json.dumps(asdict(running)).encode(), self._fd)

    def remove(self) -> None:
        """Take away every file of this run."""
        for name in [AGENT, *(_file(grant) for grant in (*self.tokens, STATUS))]:
            self._unlink(name)
        fd, self._fd = self._fd, -1  # a late publish must not hit whatever has this number next
        os.close(fd)

    def _new(self, name: str) -> Secret:
        """A new token in its file, without a newline: no client strips one."""
        token = self._world.token()
        replace_file(_file(name), token.encode(), self._fd, mode=0o400)
        return Secret(token)

    def _unlink(self, name: str) -> None:
        with suppress(OSError):
            os.unlink(name, dir_fd=self._fd)


def find(path: Path) -> Running:
    """The agent that runs with this run directory. Raises Fault."""
    hint = f"Start it with 'trusted-gateway-agent run', or name its run directory; {path} was looked at."
    try:
        running = decode(Running, loads(read_private(path / AGENT)))
        with suppress(PermissionError):  # alive, and another user's
            os.kill(running.pid, 0)
        return running
    except (FileNotFoundError, ProcessLookupError):
        raise Fault("agent_not_running", "No agent runs here", hint) from None
    except (OSError, Malformed) as error:
        why = error.strerror if isinstance(error, OSError) else "is not what an agent writes"
        raise Fault("agent_not_found", f"{path / AGENT}: {why}", "Run this as the agent's own user.") from None


def _file(name: str) -> str:
    return f"{name}.token"
