"""What the command line writes is its operator's alone, whatever the umask, and never goes through a link."""

import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gateway.cli import files
from gateway.cli.failure import Failure

pytestmark = pytest.mark.threat("G17")


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_file_and_its_folder_are_private_under_any_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        files.private(tmp_path / "a")
        files.write(tmp_path / "a" / "secret", "x")
    finally:
        os.umask(before)
    assert (_mode(tmp_path / "a"), _mode(tmp_path / "a" / "secret")) == (0o700, 0o600)
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["secret"]


def test_a_file_that_was_open_to_all_is_replaced_by_a_private_one(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("old")
    (tmp_path / "secret").chmod(0o666)
    with (tmp_path / "secret").open() as held:
        files.write(tmp_path / "secret", "new")
        assert held.read() == "old"
    assert (_mode(tmp_path / "secret"), (tmp_path / "secret").read_text()) == (0o600, "new")


@pytest.mark.parametrize("name", ["secret", ".secret.new"])
def test_a_link_is_not_followed(tmp_path: Path, name: str) -> None:
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    (tmp_path / name).symlink_to(victim)
    if name == "secret":
        with pytest.raises(Failure, match="symbolic link"):
            files.write(tmp_path / "secret", "x")
    else:
        files.write(tmp_path / "secret", "x")
        assert not (tmp_path / "secret").is_symlink()
    assert victim.read_text() == "untouched"


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702])
def test_a_folder_that_others_can_write_to_is_refused(tmp_path: Path, mode: int) -> None:
    tmp_path.chmod(mode)
    with pytest.raises(Failure, match="not yours alone"):
        files.private(tmp_path)
    tmp_path.chmod(0o755)
    files.private(tmp_path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_folder_of_another_is_refused(tmp_path: Path) -> None:
    os.chown(tmp_path, 65534, 65534)
    with pytest.raises(Failure, match="not yours alone"):
        files.private(tmp_path)


def test_what_cannot_be_written_is_a_failure(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    calls: tuple[Callable[[], None], ...] = (
        lambda: files.private(tmp_path / "file"),
        lambda: files.private(tmp_path / "file" / "below"),
        lambda: files.write(tmp_path / "absent" / "x", ""),
        lambda: files.write(tmp_path / "folder", ""),
    )
    for call in calls:
        with pytest.raises(Failure) as failed:
            call()
        assert failed.value.code == "file_unwritable"
        assert failed.value.hint


def test_an_error_while_lines_are_made_leaves_the_old_file(tmp_path: Path) -> None:
    def lines() -> Iterator[str]:
        yield "new\n"
        raise KeyboardInterrupt

    (tmp_path / "file").write_text("old")
    with pytest.raises(KeyboardInterrupt):
        files.write(tmp_path / "file", lines())
    assert (tmp_path / "file").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    files.write(tmp_path / "file", ["new\n", "er"])
    assert (tmp_path / "file").read_text() == "new\ner"


def test_a_crash_in_between_leaves_the_old_file(tmp_path: Path) -> None:
    """The process is killed at the moment at which the new content is on disk and not yet in its place."""
    (tmp_path / "secret").write_text("old")
    code = (
        "import os, sys; from pathlib import Path; from gateway.cli import files\n"
        "Path.replace = lambda *_: os.kill(os.getpid(), 9)\n"
        "files.write(Path(sys.argv[1]), 'new')"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "secret"], check=False)
    assert done.returncode == -9
    assert (tmp_path / "secret").read_text() == "old"
    files.write(tmp_path / "secret", "newer")
    assert [path.name for path in tmp_path.iterdir()] == ["secret"]
