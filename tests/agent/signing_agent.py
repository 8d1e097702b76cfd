"""An agent's Unix socket behind which signatures are made with a known key, as the gateway would make them."""

import hashlib
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from agent.credentials import Lent, Unavailable
from agent.errors import Problem
from agent.serve.access import Offer
from agent.serve.desk import Desk
from agent.serve.listener import Door, Porter, listen_unix, uid_of_unix_peer
from agent.serve.signatures import Signatures
from agent.serve.unix import Asked
from gateway.wire import sigv4
from gateway.wire.calls import Call, Header, Signature

KEY_ID, SECRET, TOKEN = "ASIAEXAMPLE", b"session-secret", "session-token"
DOORS = ("container", "process")


class FakeSigning:
    """Instead of `agent.calls.signing`: signs what it is asked for, or raises `refusal`."""

    def __init__(self) -> None:
        self.asked: list[tuple[Call, bytes | None]] = []
        self.refusal: Exception | None = None
        self.way = "sign"
        self.wants_body = False
        self.origin: str | None = None
        self.target: str | None = None

    def ask(self, call: Call, body: bytes | None) -> Signature:
        self.asked.append((call, body))
        if self.refusal:
            raise self.refusal
        if self.wants_body and body is None:
            raise Problem("body_required", 422)
        assert body is None or hashlib.sha256(body).hexdigest() == call.payload_sha256
        if self.way != "sign":
            return Signature(self.way)
        now = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        scope = sigv4.Scope(now[:8], call.region, call.service)
        headers = [(each.name, each.value) for each in call.headers]
        origin = self.origin or f"https://{call.host}"
        if call.presign:
            target = sigv4.presign(
                call.method, call.target, str(call.host), access_key_id=KEY_ID, secret=SECRET, token=TOKEN, scope=scope,
                stamp=now, expires=call.presign, headers=[each for each in headers if each[0] != "host"],
            )  # fmt: skip
            return Signature("sign", origin, target, ())
        made = sigv4.sign(
            call.method, call.target, headers, call.payload_sha256, access_key_id=KEY_ID, secret=SECRET, token=TOKEN,
            scope=scope, stamp=now,
        )  # fmt: skip
        return Signature("sign", origin, self.target or call.target, tuple(Header(*each) for each in made))


def desk(*offers: Offer, state: str = "enrolled") -> Desk:
    """A desk with these grants, which lends nothing."""

    def lend(*_: object) -> Lent:
        raise Unavailable("starting", "nothing to lend")

    made = Desk(lend, lambda: state, os.geteuid())
    made.offer({offer.name: offer for offer in offers})
    return made


@contextmanager
def serving(folder: Path, at: Desk, signing: FakeSigning | None) -> Iterator[str]:
    """The path of a socket that is answered as the agent's is."""
    directory = os.open(folder, os.O_PATH)
    asked = Asked(at, lambda *_: {}, lambda _: b"{}", Signatures(signing.ask) if signing else None)
    porter = Porter()
    listening: socket.socket = listen_unix("agent.sock", directory)
    thread = threading.Thread(target=porter.serve, args=([Door(listening, asked.converse, uid_of_unix_peer)],))
    thread.start()
    try:
        yield str(folder / "agent.sock")
    finally:
        porter.close()
        thread.join()
        listening.close()
        os.close(directory)
