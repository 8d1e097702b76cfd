"""The state directory: one file, whole or not at all, for this user's eyes only (J06, J07)."""

import base64
import errno
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from agent.client import Client
from agent.enrollment import new_key
from agent.errors import Fault
from agent.identity import FILE, Directory, Identity, Memory, Pending, Revoked
from agent.settings import Address
from certs import csr, keys
from tests.agent.conftest import ROOT
from tests.agent.fake_gateway import FakeGateway
from tests.agent.pki import Pki

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
NOBODY = 65534


def identity(pki: Pki, **changes: Any) -> Identity:
    """A key with a certificate that fits."""
    key = new_key()
    answer = json.loads(FakeGateway(pki)._issue(csr.make(keys.load_private(base64.b64decode(key)))))
    root = base64.b64encode(pki.root.certificate.public_bytes(Encoding.DER)).decode()
    made = Identity(gateway="127.0.0.1:1", root=root, key=key, issued="2026-01-01T00:00:00Z", **answer)
    return replace(made, **changes)


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Directory]:
    directory = Directory(tmp_path / "state")
    yield directory
    directory.close()


def test_what_is_saved_is_loaded(directory: Directory, pki: Pki) -> None:
    assert directory.load() is None
    for state in (Pending("a2V5"), identity(pki), Revoked("2026-01-01T00:00:00Z", "0" * 64), Revoked("x")):
        directory.save(state)
        assert directory.load() == state


def test_no_state_prints_its_key(pki: Pki) -> None:
    held = identity(pki)
    assert held.key in held.bundle.replace("\n", "")
    assert held.key not in repr(held) + repr(Pending(held.key))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b'{"state":"enrolled"}',
        b'{"state":"other","key":"a2V5"}',
        b'{"state":"pending","key":"canary key"}',
    ],
)
def test_a_damaged_file_is_refused_and_not_quoted(directory: Directory, tmp_path: Path, content: bytes) -> None:
    directory.save(Pending("a2V5"))
    (tmp_path / "state" / FILE).write_bytes(content)
    with pytest.raises(Fault) as told:
        directory.load()
    assert told.value.code == "state_refused"
    assert "canary" not in str(told.value) + told.value.hint


def test_j06_a_half_copied_file_is_refused(directory: Directory, tmp_path: Path, pki: Pki) -> None:
    directory.save(identity(pki))
    whole = (tmp_path / "state" / FILE).read_bytes()
    (tmp_path / "state" / FILE).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(Fault, match="state_refused"):
        directory.load()
    (tmp_path / "state" / FILE).write_bytes(whole)
    assert isinstance(directory.load(), Identity)


def test_j06_key_and_certificate_match_after_kill_9(tmp_path: Path, pki: Pki) -> None:
    pairs = json.dumps([asdict(identity(pki, instance=name)) for name in ("first", "second")])
    command = [sys.executable, "-m", "tests.agent.killed_writer", str(tmp_path / "state"), "60"]
    done = subprocess.run(command, input=pairs, cwd=ROOT, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["seen"] == ["first", "second"]
    assert told["cut"] > 0, "no round was killed while it wrote: the test proves nothing"


def test_j06_control_a_pair_that_does_not_match_is_found(pki: Pki) -> None:
    one, other = identity(pki), identity(pki)
    Client(Address("127.0.0.1", 1), one.root_der, one.bundle).close()
    with pytest.raises(Fault, match="certificate_unusable"):
        Client(Address("127.0.0.1", 1), one.root_der, replace(one, certificate=other.certificate).bundle)


@pytest.mark.parametrize("step", ["fsync", "rename", "fchmod"])
def test_j06_a_full_disk_leaves_the_old_state(
    directory: Directory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    directory.save(Pending("b2xk"))

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, step, full)
        with pytest.raises(Fault, match="No space left"):
            directory.save(Pending("bmV3"))
    assert directory.load() == Pending("b2xk")
    assert os.listdir(tmp_path / "state") == [FILE]
    directory.save(Pending("bmV3"))
    assert directory.load() == Pending("bmV3")


def test_j07_modes_hold_under_umask_000(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        directory = Directory(tmp_path / "state")
        directory.save(Pending("a2V5"))
        directory.close()
        (tmp_path / "control").write_text("")
    finally:
        os.umask(before)
    assert (tmp_path / "control").stat().st_mode & 0o777 == 0o666
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "state" / FILE).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("mode", [0o755, 0o750, 0o701, 0o770])
def test_j07_a_directory_open_to_others_is_refused(tmp_path: Path, mode: int) -> None:
    tmp_path.joinpath("state").mkdir()
    tmp_path.joinpath("state").chmod(mode)
    with pytest.raises(Fault, match="directory_refused"):
        Directory(tmp_path / "state")
    tmp_path.joinpath("state").chmod(0o700)
    Directory(tmp_path / "state").close()


def test_j07_a_link_in_place_of_the_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(0o700)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    (tmp_path / "file").write_text("")
    for name in ("link", "dangling", "file"):
        with pytest.raises(Fault, match="directory_refused"):
            Directory(tmp_path / name)
    assert not (tmp_path / "nowhere").exists()
    Directory(tmp_path / "real").close()


@as_root
def test_j07_a_directory_of_another_user_is_refused(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir(0o700)
    os.chown(tmp_path / "state", NOBODY, NOBODY)
    with pytest.raises(Fault, match="directory_refused"):
        Directory(tmp_path / "state")


def test_j07_a_file_that_was_opened_to_others_or_linked_is_refused(directory: Directory, tmp_path: Path) -> None:
    file = tmp_path / "state" / FILE
    directory.save(Pending("a2V5"))
    file.chmod(0o640)
    with pytest.raises(Fault, match="state_refused"):
        directory.load()
    file.chmod(0o600)
    assert directory.load() == Pending("a2V5")
    file.rename(tmp_path / "elsewhere")
    file.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Fault, match="state_refused"):
        directory.load()


@as_root
def test_j07_a_file_of_another_user_is_refused(directory: Directory, tmp_path: Path) -> None:
    directory.save(Pending("a2V5"))
    os.chown(tmp_path / "state" / FILE, NOBODY, NOBODY)
    with pytest.raises(Fault, match="state_refused"):
        directory.load()


def test_j07_a_link_at_the_temporary_name_is_not_followed(directory: Directory, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    (tmp_path / "state" / f".{FILE}.new").symlink_to(victim)
    directory.save(Pending("a2V5"))
    assert victim.read_text() == "untouched"
    assert directory.load() == Pending("a2V5")


def test_one_agent_to_a_directory(directory: Directory, tmp_path: Path) -> None:
    with pytest.raises(Fault, match="state_dir_in_use"):
        Directory(tmp_path / "state")
    Directory(tmp_path / "other").close()


def test_memory_forgets() -> None:
    memory = Memory()
    memory.save(Pending("a2V5"))
    assert memory.load() == Pending("a2V5")
    assert Memory().load() is None
