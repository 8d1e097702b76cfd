"""What a witness keeps, and what it says, whatever the gateway answers and whatever lies in its directory.

With the checkpoints of real flows: tests/gateway/flows/test_agent_witness.py.
"""

import base64
import json
import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from agent import witness as module
from agent.errors import Fault, Problem
from agent.identity import LONGEST_NOTE, Directory, Identity
from agent.witness import Witness, held
from agent.world import World
from certs import keys, statement
from gateway.wire.checkpoint import LONGEST, ChainHashes, ChainState, CheckpointAnswer, read, signed, write
from tests.agent.conftest import full_disk
from tests.certs.made import NOW, ROOT, SERVICES, der, leaf

KEY = keys.generate()
CERTIFICATE = leaf("audit", public_key=KEY.public_key(), crl_url=None).public_bytes(Encoding.PEM).decode()
ISSUER = SERVICES.certificate.public_bytes(Encoding.PEM).decode()
IDENTITY = cast(
    Identity,
    SimpleNamespace(root_der=der(ROOT.certificate), root_sha256=sha256(der(ROOT.certificate)).hexdigest()),
)
NAME = f"witness-{IDENTITY.root_sha256[:16]}.json"


def shown(number: int, chains: Mapping[str, int], *proofs: ChainHashes) -> CheckpointAnswer:
    """Checkpoint `number`, signed, of chains of these lengths. Equal lengths are equal chains."""
    states = {name: ChainState(size, f"{size:064x}", f"{size:064x}") for name, size in chains.items()}
    return sealed(write(number, NOW.isoformat(timespec="microseconds"), states), *proofs)


def sealed(text: str, *proofs: ChainHashes) -> CheckpointAnswer:
    """A statement, signed by whoever has the audit key."""
    signature = base64.b64encode(statement.sign(KEY, signed(text))).decode()
    return CheckpointAnswer(text, signature, CERTIFICATE, ISSUER, proofs)


def padded(answer: CheckpointAnswer) -> CheckpointAnswer:
    """The same, with what nobody has signed: proofs of chains that nobody has."""
    return replace(answer, proofs=tuple(ChainHashes(f"{n:0255}", ("0" * 64,) * 8) for n in range(200)))


class Place:
    """A state directory, and an agent that looks into it: started again, it is another witness of the same."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.directory = Directory(path)
        self.answer: Callable[[str], CheckpointAnswer] = lambda _: shown(5, {"a": 9})
        self.start()

    def start(self) -> None:
        world = World(lambda: NOW, lambda: 0.5, lambda: "token")
        self.witness = Witness(
            world, self.directory, lambda path: self.answer(path), lambda: IDENTITY, threading.Event()
        )

    def attempt(self) -> str | None:
        self.witness.attempt()
        return self.witness.problem

    def numbers(self) -> list[int]:
        kept = json.loads((self.path / NAME).read_bytes())
        return [read(each["statement"]).number for each in [*kept["pins"], *kept["checkpoints"]]]

    def refuses(self, fault: Fault) -> None:
        def answer(_: str) -> CheckpointAnswer:
            raise fault

        self.answer = answer


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path / "state")
    yield place
    place.directory.close()


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.getMessage() for each in caplog.records if each.levelno >= logging.ERROR]


# ── what is held is not let go


def test_a_log_that_was_rolled_back_cannot_make_it_forget(place: Place) -> None:
    assert place.attempt() is None
    place.answer = lambda _: padded(shown(4, {"a": 7}))
    for _ in range(3):
        assert place.attempt() == "checkpoint_inconsistent"
        place.start()
    assert place.numbers() == [5]
    printed = json.loads(held(place.path))
    assert [read(each["statement"]).number for each in printed["refused"]] == [4]


def test_of_a_thousand_chains_it_keeps_what_it_must(place: Place) -> None:
    """None of them can be proved: each is pinned, and then there is one that is inconsistent."""
    chains = {f"node-{n}.worker-0": 1_000_000 + n for n in range(1000)}
    for number in range(1, module.PINS + 3):

        def answer(path: str, number: int = number) -> CheckpointAnswer:
            if "after" in path:
                raise Problem("checkpoint_unknown", 404)
            return shown(number, chains)

        place.answer = answer
        assert place.attempt() is None
    place.answer = lambda _: padded(shown(1, chains))
    assert place.attempt() == "checkpoint_inconsistent"
    place.start()
    assert place.attempt() == "checkpoint_inconsistent"
    assert place.numbers() == [*range(1, module.PINS + 1), module.PINS + 2]
    assert json.loads(held(place.path))["refused"]


def test_no_answer_is_so_long_that_what_is_kept_of_it_does_not_fit(place: Place) -> None:
    longest = CheckpointAnswer('"' * LONGEST, "A" * 256, "\x1c" * 8192, "\x1c" * 8192)
    kept = module._Kept()
    kept.checkpoints, kept.pins, kept.refused = [longest] * 20, [longest] * module.PINS, longest
    raw = kept.dump()
    assert len(kept.checkpoints) == 1
    place.directory.note(NAME, raw)
    assert place.directory.noted(NAME) == raw


def test_what_could_not_be_read_again_is_not_written(place: Place) -> None:
    place.directory.note(NAME, b"old")
    with pytest.raises(Fault, match="write_failed"):
        place.directory.note(NAME, b" " * (LONGEST_NOTE + 1))
    assert place.directory.noted(NAME) == b"old"


def test_letters_that_take_more_room_are_none_of_the_gateways(place: Place) -> None:
    """Not even with the audit key's signature: of a statement of such letters, six would not fit."""
    as_written = shown(1, {"é": 1})
    place.answer = lambda _: sealed(as_written.statement.replace("\\u00e9", "é"))
    assert place.attempt() == "checkpoint_forged"
    place.answer = lambda _: as_written
    assert place.attempt() is None


# ── a file that is no witness's


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"{}", b"\xff", b'{"checkpoints":[{}],"pins":[]}', b" " * (LONGEST_NOTE - 1)],
    ids=["empty", "half", "list", "nothing", "bytes", "no checkpoint", "blanks"],
)
def test_a_file_that_is_none_is_kept_aside_and_told_of(
    place: Place, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    place.directory.note(NAME, content)
    with pytest.raises(Fault, match="witness_unreadable"):
        held(place.path)
    assert place.attempt() == "witness_unreadable"
    assert len(errors(caplog)) == 1
    assert (place.path / f"{NAME}.unreadable.1").read_bytes() == content
    assert place.numbers() == [5], "it goes on as a witness"
    place.start()
    assert place.attempt() == "witness_unreadable", "also after a restart"
    (place.path / f"{NAME}.unreadable.1").unlink()
    assert place.attempt() is None, "until somebody has looked into it"


def test_a_broken_statement_in_the_file(place: Place) -> None:
    assert place.attempt() is None
    raw = (place.path / NAME).read_bytes()
    place.directory.note(NAME, raw.replace(b'size\\":9', b'size\\":8'))
    assert place.attempt() == "witness_unreadable"


def test_a_second_one_does_not_replace_the_first(place: Place) -> None:
    for content in (b"first", b"second"):
        place.directory.note(NAME, content)
        place.attempt()
    assert [(place.path / f"{NAME}.unreadable.{n}").read_bytes() for n in (1, 2)] == [b"first", b"second"]


def test_the_gateway_may_be_away_when_it_is_found(place: Place) -> None:
    place.directory.note(NAME, b"{")
    place.refuses(Fault("gateway_unreachable", "down"))
    assert place.attempt() == "witness_unreadable"
    place.start()
    assert place.attempt() == "witness_unreadable"


@pytest.mark.parametrize("spoil", ["mode", "length"])
def test_a_file_that_cannot_be_opened_stays_where_it_is(place: Place, spoil: str) -> None:
    assert place.attempt() is None
    file = place.path / NAME
    before = file.read_bytes()
    if spoil == "mode":
        file.chmod(0o640)
    else:
        file.write_bytes(before + b" " * LONGEST_NOTE)
    place.answer = lambda _: shown(4, {"a": 7})
    assert place.attempt() == "witness_unreadable"
    assert place.numbers() == [5], "and what comes from the gateway does not replace it"
    file.chmod(0o600)
    file.write_bytes(before)
    assert place.attempt() == "checkpoint_inconsistent", "what it holds is as good as ever"


def test_where_there_is_no_file_there_is_no_problem(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    assert place.attempt() is None
    assert errors(caplog) == []


# ── what is no tampering


NOTHING_LEARNED = [
    Fault("gateway_unreachable", "down"),
    Fault("gateway_untrusted", "another"),
    Fault("not_enrolled", "not yet"),
    Fault("answer_malformed", "too long"),
    Fault("write_failed", "full"),
    Problem("store_unavailable", 503),
    Problem("checkpoint_forged", 400),  # a word of the gateway's own choice
]


@pytest.mark.parametrize("fault", NOTHING_LEARNED, ids=lambda fault: fault.code)
def test_a_hiccup_is_no_alarm(place: Place, caplog: pytest.LogCaptureFixture, fault: Fault) -> None:
    caplog.set_level(logging.INFO)
    place.refuses(fault)
    assert place.attempt() is None
    assert errors(caplog) == []
    assert f"({fault.code})" in caplog.text


@pytest.mark.parametrize("fault", NOTHING_LEARNED, ids=lambda fault: fault.code)
@pytest.mark.parametrize("real", ["checkpoint_inconsistent", "checkpoint_forged"])
def test_a_hiccup_hides_no_alarm(place: Place, caplog: pytest.LogCaptureFixture, fault: Fault, real: str) -> None:
    assert place.attempt() is None
    bad = shown(4, {"a": 7})
    place.answer = lambda _: bad if real == "checkpoint_inconsistent" else replace(bad, signature="AAAA")
    assert place.attempt() == real
    assert len(errors(caplog)) == 1
    place.refuses(fault)
    assert place.attempt() == real
    assert len(errors(caplog)) == 1


def test_what_is_forged_does_not_hide_what_is_inconsistent(place: Place) -> None:
    assert place.attempt() is None
    place.answer = lambda _: shown(4, {"a": 7})
    assert place.attempt() == "checkpoint_inconsistent"
    place.answer = lambda _: replace(shown(6, {"a": 9}), signature="AAAA")
    assert place.attempt() == "checkpoint_inconsistent"


def test_a_full_disk_does_not_hide_it_either(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    assert place.attempt() is None
    place.answer = lambda _: shown(4, {"a": 7})
    full_disk(monkeypatch)
    assert place.attempt() == "checkpoint_inconsistent"
