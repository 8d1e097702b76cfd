"""A call that may pass: what the gateway sends to AWS for it, and what became of that."""

from dataclasses import dataclass
from typing import Protocol

from gateway.core.errors import Refusal
from gateway.core.identity import Identity
from gateway.flows.journal import Call as JournalCall
from gateway.wire.calls import Call


@dataclass(frozen=True, slots=True, repr=False)
class Passage:
    """A request that was decided, recorded and signed.

    `origin` is `https://host`, with a port where it is not the usual one (`http` only in development). `headers` are
    all that are signed, Host included; the sender adds framing and Expect. `payload_sha256` is the hash, in hex, that
    the body must have, or None; the body's last byte does not leave before that is sure. `expect` asks AWS for its
    100 Continue before a large body is sent; `idempotent` allows to send the whole once more when it certainly had no
    effect.
    """

    origin: str
    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    payload_sha256: str | None
    expect: bool
    idempotent: bool


@dataclass(frozen=True, slots=True)
class Ended:
    """What became of a passage. `status` is AWS's, None when it gave none. `sent` and `received` are bytes of bodies.

    `problem` is None when the whole answer reached the agent, else a short stable word.
    """

    status: int | None
    sent: int
    received: int
    aws_request_id: str | None
    problem: str | None


class Carrier(Protocol):
    """Decides about calls, and records what became of them. Its methods may block, but for `wants_body`."""

    def wants_body(self, call: Call) -> bool:
        """Whether the decision depends on what is in the body. Pure. Raises Refusal."""

    def notice(self, journal_call: JournalCall, refused: Refusal, call: Call) -> None:
        """Whoever asks was refused as nobody (any more): if that is by a stolen key, record it."""

    def begin(self, journal_call: JournalCall, identity: Identity, call: Call, body: bytes | None) -> Passage:
        """Decide, record, sign; `body` is there when it was wanted. Raises Refusal."""

    def end(self, passage: Passage, ended: Ended) -> None:
        """Record what became of it: exactly once for every passage that was begun."""
