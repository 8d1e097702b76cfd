"""The demo fails loudly: the step is named, there is a hint, the status is not 0, and nothing stays."""

import subprocess
import sys
from pathlib import Path

import pytest

from deploy.demo import __main__ as demo
from deploy.demo import cloud
from deploy.demo.story import StepFailed, Story, demand


def test_a_step_that_is_as_told_is_one_line_and_its_notes(capsys: pytest.CaptureFixture[str]) -> None:
    with Story().telling("do it") as notes:
        demand(True, "never said")
        notes.append("it was done")
    assert capsys.readouterr().out == "✓  1  do it\n      it was done\n"


def test_a_step_that_is_not_as_told_is_named_with_a_hint(capsys: pytest.CaptureFixture[str]) -> None:
    story = Story()

    def tell() -> None:
        with story.telling("do it"):
            demand(False, "it was not done", "Do it yourself.")

    with pytest.raises(StepFailed) as caught:
        tell()
    assert story.failed(caught.value) == 1
    said = capsys.readouterr().out
    assert "✗  1  do it" in said
    assert "error: step 1 (do it): it was not done" in said
    assert "hint: Do it yourself." in said


def test_the_demo_stops_at_a_cloud_that_does_not_enforce(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo, "FOLDER", tmp_path / "demo")
    monkeypatch.setattr(sys, "argv", ["demo"])
    monkeypatch.setitem(cloud.SETTINGS, "AUTH", "false")
    assert demo.main() == 1
    said = capsys.readouterr().out
    assert "✗  1  start a local AWS that enforces" in said
    assert "does not enforce" in said
    assert "as told" not in said
    assert subprocess.run(["pgrep", "-f", str(tmp_path)], check=False, capture_output=True).stdout == b""
