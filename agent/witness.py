"""Every agent is a witness of the gateway's audit log: it keeps the signed checkpoints that it is shown.

A checkpoint must continue the one before (RFC 9162, section 2.1.4), and the gateway has to prove it. One that does not
is kept as evidence and never believed, and what was held before is not let go: with `trusted-gateway-agent witness` and
`trusted-gateway audit verify --witness` an auditor finds out what was done to the log.
"""

import base64
import json
import logging
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from agent.errors import Fault, Problem
from agent.files import LONGEST, read_private
from agent.identity import LONGEST_NOTE, Identity, Store
from agent.world import World
from gateway.wire.checkpoint import CheckpointAnswer, Statement, break_between, read, signed
from gateway.wire.strict import Malformed, decode, loads

log = logging.getLogger("agent.witness")

SOON, EVERY = timedelta(seconds=5), timedelta(minutes=5)
STEPS = 100  # checkpoints in one look, for who was away for long
NEWEST = 12
PINS = 4  # older ones, of which the gateway could not prove that the newer ones continue them

ALARMS = frozenset({"checkpoint_inconsistent", "checkpoint_forged", "witness_unreadable"})
"""The codes that mean tampering. Any other says that nothing was learned about the log, this time."""

Ask = Callable[[str], CheckpointAnswer]


class Witness:
    """`ask` is GET by path with the certificate in use, `identity` whose it is. `problem`: what was seen, as a code."""

    def __init__(
        self,
        world: World,
        store: Store,
        ask: Ask,
        identity: Callable[[], Identity | None],
        presenting: threading.Event,
    ) -> None:
        self._world, self._store, self._ask, self._identity = world, store, ask, identity
        self._presenting, self._stop = presenting, threading.Event()
        self.problem: str | None = None

    def run(self) -> None:
        """Look at the latest checkpoint soon, and then every five minutes, until `stop`."""
        self._presenting.wait()
        self._stop.wait(SOON.total_seconds() * (1 + self._world.random()))
        while self._presenting.wait() and not self._stop.is_set():
            self.attempt()
            self._stop.wait(EVERY.total_seconds() * (0.9 + self._world.random() / 5))

    def attempt(self) -> None:
        """Look, and say in the log and as `problem` what is wrong."""
        try:
            self.look()
        except Fault as fault:
            if fault.code not in ALARMS or isinstance(fault, Problem):  # a Problem has the code that the gateway chose
                log.info("no checkpoint: %s", fault)
                return
            if fault.code == "checkpoint_inconsistent" or self.problem is None:  # the gravest, and then the first
                self.problem = fault.code
            log.error("THE GATEWAY'S AUDIT LOG: %s", fault)

    def stop(self) -> None:
        """Let `run` end."""
        self._stop.set()
        self._presenting.set()

    def look(self) -> None:
        """Ask for the latest checkpoint and keep it. Raises Problem, and Fault, of which some are `ALARMS`."""
        identity = self._identity()
        if identity is None:
            return
        name = _file(identity)
        kept, aside = self._load(name)
        known = "checkpoint_inconsistent" if kept.refused else "witness_unreadable" if aside else None
        self.problem = known or self.problem  # now: the gateway may be away for long
        for _ in range(STEPS):
            moved = self._step(identity, kept)
            self._store.note(name, kept.dump())
            if not moved:
                break
        self.problem = known

    def _load(self, name: str) -> tuple["_Kept", bool]:
        """What is held, and whether a file lies aside that was no witness's: somebody has to look into that.

        A file that cannot even be opened stays where it is, and the gateway is not asked: it may still be good.
        """
        try:
            raw = self._store.noted(name)
            try:
                kept = _Kept.load(raw)
            except Malformed:
                self._store.set_aside(name)
                log.error(
                    "THE GATEWAY'S AUDIT LOG: what was seen of it cannot be read (witness_unreadable). Set aside: %s",
                    name,
                )
                kept = _Kept()
            return kept, self._store.aside(name)
        except OSError as error:
            hint = "It must be a file of the agent's user, which nobody else can read."
            raise Fault("witness_unreadable", f"{name} cannot be read: {error.strerror}", hint) from None

    def _step(self, identity: Identity, kept: "_Kept") -> bool:
        """One answer. Whether there may be more."""
        held = read(kept.checkpoints[-1].statement) if kept.checkpoints else None
        try:
            answer = self._ask("/v1/checkpoint" + (f"?after={held.number}" if held else ""))
            proved = True
        except Problem as problem:
            if problem.code != "checkpoint_unknown" or held is None:
                raise
            answer, proved = self._ask("/v1/checkpoint"), False
        new = _demand_signed(answer, identity)
        if held is None:
            kept.checkpoints.append(answer)
            return False
        said = break_between(held, new, answer.proofs) if proved or new.number <= held.number else None
        if said is not None:
            kept.refused = kept.refused or answer
            raise self._inconsistent(identity, kept, said)
        if new.number == held.number:
            return False
        if not proved:
            kept.pins = [*kept.pins, kept.checkpoints[-1]][:PINS]
        kept.checkpoints.append(answer)
        return proved

    def _inconsistent(self, identity: Identity, kept: "_Kept", said: str) -> Fault:
        try:
            self._store.note(_file(identity), kept.dump())
        except Fault as fault:  # a full disk must not keep us from saying the rest
            log.error("the checkpoint that was refused cannot be kept: %s", fault)
        hint = "Keep what 'trusted-gateway-agent witness' prints, and have an auditor verify the log with it."
        return Fault("checkpoint_inconsistent", f"It was changed behind what this machine has seen: {said}", hint)


@dataclass(frozen=True, slots=True)
class _Written:
    """What lies in the file. `refused` is the first checkpoint that did not continue what is held."""

    checkpoints: tuple[CheckpointAnswer, ...]
    pins: tuple[CheckpointAnswer, ...]
    refused: CheckpointAnswer | None = None


class _Kept:
    """The same in memory, where it grows."""

    def __init__(self) -> None:
        self.checkpoints: list[CheckpointAnswer] = []
        self.pins: list[CheckpointAnswer] = []
        self.refused: CheckpointAnswer | None = None

    @classmethod
    def load(cls, raw: bytes | None) -> "_Kept":
        """What `dump` wrote; None when there is no file yet. Raises Malformed."""
        kept = cls()
        if raw is not None:
            file = decode(_Written, loads(raw))
            for each in file.checkpoints:
                read(each.statement)
            kept.checkpoints, kept.pins, kept.refused = [*file.checkpoints], [*file.pins], file.refused
        return kept

    def dump(self) -> bytes:
        """The newest, as many as fit. Proofs have done their work, and are not kept: how long they are, who makes the
        answer chooses. So the newest one, the pins and what was refused always fit into a note (`LONGEST_NOTE`).
        """
        self.checkpoints = self.checkpoints[-NEWEST:]
        while True:
            plain = {
                "checkpoints": [_bare(each) for each in self.checkpoints],
                "pins": [_bare(each) for each in self.pins],
                "refused": _bare(self.refused) if self.refused else None,
            }
            raw = json.dumps(plain).encode()
            if len(raw) < LONGEST or len(self.checkpoints) <= 1:
                return raw
            del self.checkpoints[0]


def held(state_dir: Path) -> str:
    """What `trusted-gateway-agent witness` prints, of the gateway that was last seen: a witness for `audit verify`.

    Raises Fault `witness_missing`, and `witness_unreadable` when the file is not what an agent writes.
    """
    try:
        newest = max(state_dir.glob("witness-*.json"), key=lambda path: path.stat().st_mtime, default=None)
        raw = read_private(newest, longest=LONGEST_NOTE) if newest else None
    except OSError as error:
        raise Fault("witness_missing", f"{state_dir}: {error.strerror}", "Run it as the agent's user.") from None
    try:
        kept = _Kept.load(raw)
    except Malformed:
        raise Fault("witness_unreadable", f"{newest} is not what an agent writes", "Keep it for an auditor.") from None
    if not kept.checkpoints:
        raise Fault("witness_missing", "No checkpoint was seen yet", "The agent asks within five minutes.")
    found = {"checkpoints": [_bare(each) for each in (*kept.pins, *kept.checkpoints)]}
    if kept.refused:
        found["refused"] = [_bare(kept.refused)]
    return json.dumps(found)


def _bare(answer: CheckpointAnswer) -> dict[str, Any]:
    return asdict(answer) | {"proofs": []}


def _file(identity: Identity) -> str:
    """One for each gateway, known by its root: another gateway's log is another log."""
    return f"witness-{identity.root_sha256[:16]}.json"


def _demand_signed(answer: CheckpointAnswer, identity: Identity) -> Statement:
    """The statement. Raises Fault `checkpoint_forged` unless the gateway's audit key has signed it."""
    # Slow to load, and large: an agent that is started again is ready without it.
    from cryptography import x509

    from certs import statement
    from certs.errors import CertificateError

    try:
        if not answer.statement.isascii():  # as `write` makes it: in JSON, two letters for one are then the most
            raise Malformed("statement: is not ASCII")
        said = read(answer.statement)
        certificates = (answer.certificate, answer.issuer)
        leaf, issuer = (x509.load_pem_x509_certificate(each.encode()) for each in certificates)
        root = x509.load_der_x509_certificate(identity.root_der)
        signature = base64.b64decode(answer.signature, validate=True)
        statement.verify(signed(answer.statement), signature, leaf, issuer, root, datetime.fromisoformat(said.at))
        return said
    except (CertificateError, Malformed, ValueError, TypeError):
        raise Fault("checkpoint_forged", "A checkpoint came that the gateway's audit key has not signed") from None
