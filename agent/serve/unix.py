"""The Unix socket: one line asks, one answer comes, and the kernel says who asks (SO_PEERCRED, unix(7)).

    credentials [GRANT]    what `credential_process` prints
    where [GRANT]          by which addresses and files this user reaches the grant
    status                 how the agent is, with the grants that this user may have

`ok` and a JSON document on the next line, or `error CODE message`. Without GRANT: the only one that there is.
"""

import io
import json
import math
import re
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from agent.credentials import Unavailable
from agent.errors import Fault
from agent.serve import documents, listener
from agent.serve.access import Offer
from agent.serve.desk import Desk
from agent.serve.guard import Refused
from gateway.wire.messages import NAME

NAME_OF_SOCKET = "agent.sock"
WAY = "process"
LONGEST_WAIT = 5.0
"""Seconds for the first credentials: no SDK that starts a process gives it less."""

_LINE = re.compile(rf"(credentials|where|status)(?: ({NAME}))?\n")


@dataclass(frozen=True, slots=True)
class Asked:
    """`where` describes a grant for a uid, `status` the agent and these grants."""

    desk: Desk
    where: Callable[[Offer, int], dict[str, Any]]
    status: Callable[[list[str]], bytes]

    def converse(self, connection: socket.socket) -> None:
        """One line, one answer. Raises OSError."""
        uid = listener.uid_of_unix_peer(connection)
        line = io.BufferedReader(listener.Head(connection)).readline(256)
        answer = self.answer(line, uid)
        connection.settimeout(listener.LONGEST_HEAD)
        connection.sendall(answer)

    def answer(self, line: bytes, uid: int) -> bytes:
        """The answer to one line. Never raises for what a client sent."""
        try:
            return b"ok\n" + self._answer(line, uid) + b"\n"
        except Fault as fault:
            return f"error {fault.code} {' '.join(fault.detail.split())}\n".encode()

    def _answer(self, line: bytes, uid: int) -> bytes:
        match = _LINE.fullmatch(line.decode("utf-8", "replace"))
        if match is None:
            raise Fault("request_malformed", "The agent does not understand the request")
        word, grant = match.groups()
        try:
            if word == "status":
                return self.status([name for name, offer in self.desk.offers.items() if self.desk.may(offer, uid)])
            if not self.desk.offers:
                self.desk.check_state()
                raise Fault("not_ready", "The agent has no grants yet")
            offer = self.desk.find(grant, WAY if word == "credentials" else None, uid)
            if word == "where":
                return json.dumps(self.where(offer, uid)).encode()
            return documents.process(self.desk.lend(offer.name, WAY, uid, LONGEST_WAIT))
        except Refused as refused:
            if refused.status == 404:
                raise Fault("grant_unknown", str(refused)) from None
            raise Fault("access_denied", str(refused)) from None
        except Unavailable as none:
            when = "" if none.refused else f"; asked again in {math.ceil(none.retry_after)} s"
            raise Fault(none.code, none.detail + when) from None
