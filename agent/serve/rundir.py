"""The run directory: the socket, a token file for each user of a grant, `agent.json`, and credential files on tmpfs.

Everybody may pass through, since users find the socket and their own files here; nobody may list it. A file is for one
user: the agent's own, or the one that it belongs to.
"""

import json
import logging
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from agent.files import open_directory, replace_file
from agent.process import may_chown
from agent.serve.access import Offer
from agent.settings import Address
from agent.world import World
from gateway.wire.secret import Secret

log = logging.getLogger("agent.serve")

AGENT = "agent.json"
OPEN_TO_OTHERS = 0o711


@dataclass(frozen=True, slots=True)
class Running:
    """`agent.json`: a running agent's process, where it listens, and the first token file of each grant."""

    pid: int
    listen: str
    imds: str | None
    calls: str | None = None
    tokens: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Token:
    grant: str
    owner: int
    secret: Secret


class RunDirectory:
    """The files of one run. Raises Fault `directory_refused`."""

    def __init__(self, path: Path, world: World) -> None:
        self.path, self._world = path, world
        self.fd = open_directory(path, closed_to_others=0o022)
        os.fchmod(self.fd, OPEN_TO_OTHERS)
        self._tokens: dict[str, _Token] = {}  # by the name of the file
        self._may_chown = may_chown()
        self._warned = False

    def publish(
        self, offers: Mapping[str, Offer], way: str, listen: Address, imds: Address | None, calls: Address | None
    ) -> None:
        """Have token files for exactly these grants and users; those that stay keep their token. Raises OSError."""
        wanted = {
            name: (offer.name, uid)
            for offer in offers.values()
            if way in offer.doors
            for name, uid in self._owners(offer)
        }
        for name, token in list(self._tokens.items()):
            if wanted.get(name) != (token.grant, token.owner):
                del self._tokens[name]
                self.unlink(name)
        for name, (grant, uid) in wanted.items():
            if name not in self._tokens:
                secret = self._world.token()
                self.write(name, secret.encode(), uid)  # without a newline: no client strips one
                self._tokens[name] = _Token(grant, uid, Secret(secret))
        paths = {token.grant: str(self.path / f"{token.grant}.token") for token in self._tokens.values()}
        running = Running(os.getpid(), str(listen), str(imds) if imds else None, str(calls) if calls else None, paths)
        self.write(AGENT, json.dumps(asdict(running)).encode(), mode=0o600)

    def tokens(self, grant: str) -> Iterable[Secret]:
        """Those that open this grant."""
        return [token.secret for token in list(self._tokens.values()) if token.grant == grant]

    def token_file(self, grant: str, uid: int) -> str | None:
        """The file with this user's token; for those who may read all files, the first."""
        his = [name for name, token in list(self._tokens.items()) if token.grant == grant and token.owner == uid]
        if not his and uid in (0, os.geteuid()):
            his = [name for name in (f"{grant}.token",) if name in self._tokens]
        return str(self.path / his[0]) if his else None

    def write(self, name: str, content: bytes, owner: int | None = None, *, mode: int = 0o400) -> None:
        """Put a file there, which belongs to this user. Raises Fault."""
        replace_file(name, content, self.fd, mode=mode, owner=owner)

    def unlink(self, name: str) -> None:
        """Take a file away, if it is there."""
        with suppress(OSError):
            os.unlink(name, dir_fd=self.fd)

    def first_owner(self, offer: Offer) -> int:
        """To whom the grant's first file belongs: the first of its users, or else the agent's own."""
        return self._owners(offer)[0][1]

    def _owners(self, offer: Offer) -> list[tuple[str, int]]:
        """The name of each token file of this grant, and to whom it belongs."""
        users = [(user, uid) for user, uid in offer.users if self._may_chown or uid == os.geteuid()]
        if offer.users and not users and not self._warned:
            log.warning("token files stay the agent's own, for it may not chown: users have the socket")
            self._warned = True
        if not users:
            return [(f"{offer.name}.token", os.geteuid())]
        (_, first), *others = users
        return [(f"{offer.name}.token", first), *((f"{offer.name}.{user}.token", uid) for user, uid in others)]

    def close(self) -> None:
        """Take away every file of this run."""
        for name in [AGENT, *self._tokens]:
            self.unlink(name)
        fd, self.fd = self.fd, -1  # a late publish must not hit whatever has this number next
        os.close(fd)
