"""All doors of one agent, put together: the run directory, who may have what, and everything that listens."""

import logging
import os
import pwd
import socket
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from agent.calls.door import CallsDoor
from agent.serve import access, container, guard, http, imds, listener, peers, unix
from agent.serve.access import Offer
from agent.serve.container import Container
from agent.serve.credential_file import CredentialFiles
from agent.serve.desk import Desk, Lend
from agent.serve.guard import Refused
from agent.serve.iceberg import Iceberg
from agent.serve.imds import Imds
from agent.serve.listener import Door, Porter
from agent.serve.rundir import RunDirectory
from agent.serve.signatures import Ask, Signatures
from agent.serve.unix import Asked
from agent.settings import Address, Settings
from agent.world import World
from gateway.wire.messages import GrantSummary
from gateway.wire.secret import Secret

log = logging.getLogger("agent.serve")


class Doors:
    """Listens at once, answers from `serve` on. Raises Fault `listen_failed` and `directory_refused`."""

    def __init__(
        self,
        settings: Settings,
        world: World,
        *,
        lend: Lend,
        state: Callable[[], str],
        status: Callable[[list[str]], bytes],
        instance: Callable[[], str],
        metadata: Callable[[str], bytes | None],
        calls: CallsDoor,
        sign: Ask,
    ) -> None:
        self.desk = Desk(lend, state, os.geteuid())
        self.doors: dict[str, Door] = {}
        self.calls = calls
        self.imds_address: Address | None = None
        self._imds_grant = settings.imds_grant
        self._unknown: frozenset[str] = frozenset()
        self._porter = Porter()
        self._closing = ExitStack()
        self._closing.callback(self._porter.close)
        self._closing.callback(calls.close)
        try:
            self._open(settings, world)
        except BaseException:
            self._closing.close()
            raise
        served = Container(self.desk, self._directory.tokens, guard.hosts(self.address))
        self.doors[container.WAY] = Door(self._tcp, http.conversation(served.answer))
        asked = Asked(self.desk, self.where, status, Signatures(sign))
        self.doors[unix.WAY] = Door(self._unix, asked.converse, listener.uid_of_unix_peer)
        calls.iceberg = Iceberg(self.desk, self._directory.tokens, sign).answer
        if self.imds_address:
            look_alike = Imds(
                desk=self.desk,
                key=Secret(world.token()),
                hosts=guard.hosts(self.imds_address) | imds.OF_AWS,
                grant=settings.imds_grant,
                now=world.now,
                instance=instance,
                uid_of=peers.uid_of,
                real=metadata,
                passed_on=settings.imds_passthrough,
            )
            self.doors[imds.WAY] = Door(self._imds, http.conversation(look_alike.answer))

    def _open(self, settings: Settings, world: World) -> None:
        self._tcp, self.address = self._listen(settings.listen, "listen")
        if settings.imds:
            self._imds, self.imds_address = self._listen(settings.imds, "imds")
            v6 = self._imds.family == socket.AF_INET6
            hops = (socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS) if v6 else (socket.IPPROTO_IP, socket.IP_TTL)
            self._imds.setsockopt(*hops, 1)  # as EC2 has it: the next hop drops an answer
        self._directory = RunDirectory(settings.run_dir, world)
        self._closing.callback(self._directory.close)
        self._unix = self._closing.enter_context(listener.listen_unix(unix.NAME_OF_SOCKET, self._directory.fd))
        self._closing.callback(self._directory.unlink, unix.NAME_OF_SOCKET)
        self._files = CredentialFiles(self._directory, self.desk)
        self._closing.callback(self._files.close)
        self.publish(())

    def _listen(self, address: Address, setting: str) -> tuple[socket.socket, Address]:
        listening = self._closing.enter_context(listener.listen(address, setting))
        return listening, Address(address.host, listening.getsockname()[1])

    def serve(self) -> None:
        """Answer, until `shut`."""
        self._porter.serve(self.doors.values())

    def shut(self) -> None:
        """Answer nobody any more."""
        self._porter.close()
        self.calls.close()

    def close(self) -> None:
        """Take everything away."""
        self._closing.close()

    def publish(self, grants: tuple[GrantSummary, ...]) -> None:
        """From now on these grants, for whom they are. Raises Fault."""
        offers, unknown = access.resolve(grants, _uid_of)
        for user in sorted(unknown - self._unknown):
            log.warning("user %s is not known on this machine: it allows nobody", user)
        self._unknown = unknown
        if any(offer.has_calls for offer in offers.values()):
            self.calls.open()
        self._directory.publish(offers, container.WAY, self.address, self.imds_address, self.calls.address)
        self.desk.offer(offers)
        self._files.offer(offers)

    def update(self, grant: str) -> None:
        """The credentials of this grant may have changed."""
        self._files.update(grant)

    def describe(self, grant: str) -> dict[str, Any]:
        """What `status` says of the grant's doors and ways."""
        offer = self.desk.offers.get(grant)
        return {
            "doors": sorted(offer.doors) if offer else [],
            "ways": list(offer.ways) if offer else [],
            "calls": self.calls.counts(grant),
            "users": [user for user, _ in offer.users] if offer else [],
            "answers": self.desk.answers(grant),
            "file_problem": self._files.problems.get(grant),
        }

    def where(self, offer: Offer, uid: int) -> dict[str, Any]:
        """How this user reaches the grant: for each door what a program has to be told, or None and why. `calls` is
        None without a reason for a grant whose calls go straight to AWS.
        """
        told: dict[str, Any] = {"grant": offer.name, "why_not": {}}
        doors = {container.WAY: self._by_container, imds.WAY: self._by_imds, unix.WAY: self._by_socket}
        for door, describe in doors.items():
            try:
                access.check_door(offer, door)
                told[door] = describe(offer, uid)
            except Refused as refused:
                told[door] = None
                told["why_not"][door] = str(refused)
        told["calls"] = None
        if offer.has_calls and self.calls.address:
            told["calls"] = f"http://{self.calls.address}"
        elif offer.has_calls:
            told["why_not"]["calls"] = f"There is no endpoint for calls ({self.calls.problem})"
        return told

    def _by_container(self, offer: Offer, uid: int) -> dict[str, str]:
        file = self._directory.token_file(offer.name, uid)
        if file is None:
            raise Refused(403, "AccessDenied", f"The user with uid {uid} has no token file: the agent may not make one")
        return {"uri": f"http://{self.address}/v1/credentials/{offer.name}", "token_file": file}

    def _by_imds(self, offer: Offer, uid: int) -> str:
        if self.imds_address is None:
            raise Refused(404, "NotFound", "The metadata look-alike is off (setting 'imds')")
        if self.desk.find(self._imds_grant, imds.WAY, uid) != offer:
            raise Refused(404, "NotFound", f"The metadata look-alike gives {self._imds_grant} (setting 'imds_grant')")
        return f"http://{self.imds_address}/"  # with the slash: older releases of AWS CLI 2 need it

    def _by_socket(self, offer: Offer, uid: int) -> str:
        del offer, uid
        return str(self._directory.path / unix.NAME_OF_SOCKET)


def _uid_of(user: str) -> int | None:
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError:
        return None
