"""Manual pages: one for every command, and groff has nothing to say against them."""

import subprocess
import sys
from pathlib import Path

import pytest

from gateway.cli import man
from tests.documents import commands

PAGES = man.pages()


def test_every_command_has_a_page(tmp_path: Path) -> None:
    ours = {name for name in commands() if not name.startswith("trusted-gateway-agent")}
    assert set(PAGES) == {f"{name.replace(' ', '-')}.1" for name in ours}
    subprocess.run([sys.executable, "-m", "gateway.cli.man", tmp_path / "man1"], check=True)
    assert {path.name: path.read_text() for path in (tmp_path / "man1").iterdir()} == PAGES


def test_groff_takes_them_all() -> None:
    shown = groff("".join(PAGES.values()))
    assert "EXIT STATUS" in shown
    assert "Go on? It's 'this' `that` ~/.config a\\b" in groff(f".TH A 1\n{man._text(OWN)}\n")


OWN = "Go on? It's 'this' `that` ~/.config a\\b"


@pytest.mark.parametrize("line", [".so /etc/passwd", "'so /etc/passwd", "\\fBbold", "--option"])
def test_no_text_is_a_request_to_groff(line: str) -> None:
    assert line in groff(f".TH A 1\n{man._text(line)}\n")


def test_what_groff_does_not_like_is_noticed() -> None:
    """The control."""
    with pytest.raises(subprocess.CalledProcessError):
        groff(".TH A 1\n.ODD\n")


def groff(page: str) -> str:
    """As a terminal would show it. Raises CalledProcessError for any warning."""
    done = subprocess.run(
        ["groff", "-man", "-Tutf8", "-ww", "-K", "utf8", "-P-c", "-P-b", "-P-u"],
        input=page, capture_output=True, text=True, check=True,
    )  # fmt: skip
    if done.stderr:
        raise subprocess.CalledProcessError(1, done.args, done.stdout, done.stderr)
    return done.stdout
