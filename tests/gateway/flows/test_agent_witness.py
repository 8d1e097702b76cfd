"""The agent as a witness of the audit log, with the checkpoints of real flows."""

import base64
import hashlib
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from agent import witness as module
from agent.errors import Fault, Problem
from agent.identity import Directory, Identity, Memory, Store
from agent.witness import Witness, held
from agent.world import World
from certs import keys, statement
from gateway.core import checkpoint
from gateway.core.errors import Refusal
from gateway.flows.checkpoint import CONTEXT, Checkpoints, latest
from gateway.wire import checkpoint as wire
from gateway.wire.checkpoint import CheckpointAnswer, read
from gateway.wire.merkle import tree_of
from tests.gateway.flows.conftest import Gateway
from tests.gateway.flows.test_checkpoint import checkpoints, happen, tamper


@dataclass
class Line:
    """What the agent asks over: the gateway's own flow, or whatever a test puts in its place."""

    flow: Checkpoints
    instead: Callable[[str], CheckpointAnswer] | None = None

    def __call__(self, path: str) -> CheckpointAnswer:
        if self.instead:
            return self.instead(path)
        _, _, after = path.partition("?after=")
        try:
            return self.flow.show(int(after) if after else None)
        except Refusal as refusal:
            raise Problem(refusal.code, 404) from None


def identity_of(gateway: Gateway) -> Identity:
    root = gateway.issue.certificate_of("root")
    found = SimpleNamespace(root_der=root, root_sha256=hashlib.sha256(root).hexdigest())
    return cast(Identity, found)


def witness(gateway: Gateway, line: Line, store: Store) -> Witness:
    world = World(gateway.time, lambda: 0.5, lambda: "token")
    return Witness(world, store, line, lambda: identity_of(gateway), threading.Event())


def numbers(store: Store, gateway: Gateway) -> list[int]:
    raw = store.noted(f"witness-{identity_of(gateway).root_sha256[:16]}.json")
    kept = json.loads(raw or b"{}")
    return [read(each["statement"]).number for each in [*kept["pins"], *kept["checkpoints"]]]


@pytest.mark.threat("I04")
def test_I04_it_keeps_what_continues_what_it_has(gateway: Gateway, tmp_path: Path) -> None:
    line, store = Line(checkpoints(gateway)), Directory(tmp_path / "state")
    ours = witness(gateway, line, store)
    with pytest.raises(Problem):
        ours.look()
    for count in (1, 5, 2):
        happen(gateway, count)
        line.flow.make()
        ours.look()
    ours.look()
    assert numbers(store, gateway) == [1, 2, 3]
    assert ours.problem is None
    store.close()
    again = Directory(tmp_path / "state")
    happen(gateway, 2)
    line.flow.make()
    witness(gateway, line, again).look()
    assert numbers(again, gateway) == [1, 2, 3, 4], "also over a restart"
    printed = json.loads(held(tmp_path / "state"))
    assert [read(each["statement"]).number for each in printed["checkpoints"]] == [1, 2, 3, 4]
    again.close()


@pytest.mark.threat("I04")
@pytest.mark.parametrize("lost", ["rolled back", "cut", "rewritten"])
def test_I04_it_lets_nothing_go_for_a_log_that_was_changed(gateway: Gateway, lost: str) -> None:
    flow, store = checkpoints(gateway), Memory()
    happen(gateway, 4)
    flow.make()
    old = flow.show(None)
    happen(gateway, 4)
    flow.make()
    line = Line(flow)
    ours = witness(gateway, line, store)
    ours.look()
    if lost == "rolled back":  # the store of yesterday: it knows no number 2
        line.instead = lambda path: old if "after" not in path else _unknown()
    else:
        forged = _signed_anew(gateway, cut=lost == "cut")
        line.instead = lambda path: forged
    for _ in range(2):
        with pytest.raises(Fault) as found:
            ours.look()
        assert found.value.code == "checkpoint_inconsistent"
    assert numbers(store, gateway) == [2]
    line.instead = None
    ours.look()
    assert ours.problem == "checkpoint_inconsistent", "once seen, it is told until somebody has looked into it"


def _unknown() -> CheckpointAnswer:
    raise Problem("checkpoint_unknown", 404)


def _signed_anew(gateway: Gateway, *, cut: bool) -> CheckpointAnswer:
    """Checkpoint 3 of somebody who has the gateway's keys, too."""
    with gateway.store.read() as tx:
        last, signer = latest(tx), tx.signers.get(name="audit")
    assert last is not None
    assert signer is not None
    size = last.size - 3 if cut else last.size + 5
    tree = tree_of(bytes([n]) * 32 for n in range(size))
    made = checkpoint.make(last, {"test": (tree, "0" * 64)}, gateway.time())
    with gateway.vault.open(CONTEXT, signer.sealed_key) as key:
        signature = statement.sign(keys.load_private(key), wire.signed(made.text))
    shown = checkpoints(gateway).show(None)
    return replace(shown, statement=made.text, signature=base64.b64encode(signature).decode())


@pytest.mark.threat("I04")
def test_I04_what_the_audit_key_did_not_sign_is_no_checkpoint(gateway: Gateway) -> None:
    flow, store = checkpoints(gateway), Memory()
    flow.make()
    good = flow.show(None)
    line = Line(flow, lambda path: replace(good, statement=good.statement.replace('"number":1', '"number":7')))
    with pytest.raises(Fault) as found:
        witness(gateway, line, store).look()
    assert found.value.code == "checkpoint_forged"


def test_what_the_gateway_can_no_longer_prove_is_pinned(gateway: Gateway) -> None:
    """Its records were archived meanwhile: neither believed to be continued, nor let go."""
    flow, store = checkpoints(gateway), Memory()
    happen(gateway, 3)
    flow.make()
    ours = witness(gateway, Line(flow), store)
    ours.look()
    happen(gateway, 3)
    flow.make()
    tamper(gateway, "DELETE FROM audit_record WHERE seq <= (SELECT max(seq) - 2 FROM audit_record)")
    ours.look()
    assert numbers(store, gateway) == [1, 1, 2]
    assert ours.problem is None


def test_what_fits_in_its_file_is_kept(gateway: Gateway, tmp_path: Path) -> None:
    flow, store = checkpoints(gateway), Directory(tmp_path / "state")
    ours = witness(gateway, Line(flow), store)
    for _ in range(module.NEWEST + 3):
        gateway.time.passes(timedelta(minutes=5))
        happen(gateway, 2)
        flow.make()
        ours.look()
    assert numbers(store, gateway) == list(range(4, module.NEWEST + 4))
    store.close()


def test_nothing_to_print(tmp_path: Path) -> None:
    with pytest.raises(Fault, match="witness_missing"):
        held(tmp_path)
    (tmp_path / "witness-x.json").write_bytes(b"\xff")
    (tmp_path / "witness-x.json").chmod(0o600)
    with pytest.raises(Fault, match="witness_unreadable"):
        held(tmp_path)
