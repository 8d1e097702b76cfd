"""The Unix socket: one line asks, one answer comes, and the kernel says who asks (SO_PEERCRED, unix(7)).

    credentials [GRANT]    what `credential_process` prints
    where [GRANT]          by which addresses and files this user reaches the grant
    status                 how the agent is, with the grants that this user may have
    sign GRANT LENGTH      what a call to AWS has to be sent with; its description follows, so many bytes of JSON

`ok` and a JSON document on the next line, or `error CODE message`. Without GRANT, or with
`-` where more follows it: the only one that there is.
"""

import io
import json
import math
import re
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO

from agent.credentials import Unavailable
from agent.errors import Fault
from agent.serve import access, documents, listener
from agent.serve.access import Offer
from agent.serve.desk import Desk
from agent.serve.guard import Refused
from agent.serve.signatures import LONGEST_DOCUMENT, Signatures
from gateway.wire.messages import NAME

NAME_OF_SOCKET = "agent.sock"
WAY = "process"
LONGEST_WAIT = 5.0
"""Seconds for the first credentials: no SDK that starts a process gives it less."""

_LINE = re.compile(rf"(credentials|where|status)(?: ({NAME}))?\n")
_SIGN = re.compile(rf"sign (-|{NAME}) ([1-9][0-9]{{0,6}})\n")


@dataclass(frozen=True, slots=True)
class Asked:
    """`where` describes a grant for a uid, `status` the agent and these grants; `signatures`, if calls are served."""

    desk: Desk
    where: Callable[[Offer, int], dict[str, Any]]
    status: Callable[[list[str]], bytes]
    signatures: Signatures | None = None

    def converse(self, connection: socket.socket) -> None:
        """One line (and what it announces), one answer. Raises OSError."""
        uid = listener.uid_of_unix_peer(connection)
        coming = io.BufferedReader(listener.Head(connection))
        answer = self.answer(coming.readline(256), uid, coming)
        connection.settimeout(listener.LONGEST_HEAD)
        connection.sendall(answer)

    def answer(self, line: bytes, uid: int, coming: BinaryIO) -> bytes:
        """The answer to one line, and to what comes behind it. Never raises for what a client sent, but OSError."""
        try:
            return b"ok\n" + self._answer(line.decode("utf-8", "replace"), uid, coming) + b"\n"
        except Refused as refused:
            code = "grant_unknown" if refused.status == 404 else "access_denied"
            return _error(Fault(code, str(refused)))
        except Unavailable as none:
            when = "" if none.refused else f"; asked again in {math.ceil(none.retry_after)} s"
            return _error(Fault(none.code, none.detail + when))
        except Fault as fault:
            return _error(fault)

    def _answer(self, line: str, uid: int, coming: BinaryIO) -> bytes:
        if match := _LINE.fullmatch(line):
            return self._about_grant(match[1], match[2], uid)
        if match := _SIGN.fullmatch(line):
            return self._sign(None if match[1] == "-" else match[1], int(match[2]), uid, coming)
        raise Fault("request_malformed", "The agent does not understand the request")

    def _about_grant(self, word: str, grant: str | None, uid: int) -> bytes:
        if word == "status":
            return self.status([name for name, offer in self.desk.offers.items() if self.desk.may(offer, uid)])
        offer = self._find(grant, WAY if word == "credentials" else None, uid)
        if word == "where":
            return json.dumps(self.where(offer, uid)).encode()
        return documents.process(self.desk.lend(offer.name, WAY, uid, LONGEST_WAIT))

    def _sign(self, grant: str | None, length: int, uid: int, coming: BinaryIO) -> bytes:
        if length > LONGEST_DOCUMENT:
            raise Fault("request_malformed", "The description of the call is too long")
        document = coming.read(length)
        if len(document) < length:
            raise Fault("request_malformed", "The description of the call is shorter than its line says")
        if self.signatures is None:
            raise Fault("calls_off", "The agent signs no calls: it has no 'calls' in its settings")
        offer = self._find(grant, WAY, uid)
        self.desk.check_state()
        access.check_door(offer, WAY)
        return self.signatures.answer(offer.name, document)

    def _find(self, grant: str | None, way: str | None, uid: int) -> Offer:
        if not self.desk.offers:
            self.desk.check_state()
            raise Fault("not_ready", "The agent has no grants yet")
        return self.desk.find(grant, way, uid)


def _error(fault: Fault) -> bytes:
    return f"error {fault.code} {' '.join(fault.detail.split())}\n".encode()
