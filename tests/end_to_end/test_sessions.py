"""docs/sessions.md is executed as it stands: ten jobs, each command, and what each of them says."""

import re
from pathlib import Path

import pytest

from tests.conftest import Known
from tests.documents import blocks
from tests.end_to_end.sessions import PAGE, executed, stage, without_what_varies


@pytest.mark.timeout(400)
def test_the_ten_sessions(tmp_path: Path, known: Known) -> None:
    text = PAGE.read_text()
    with stage(tmp_path, known.add) as made:
        now = executed(text, made)
    assert without_what_varies(now) == without_what_varies(text)
    assert not known.leaked(now)


def test_there_are_ten_of_them_and_each_says_something() -> None:
    parts = re.split(r"(?m)^## ", PAGE.read_text())[1:]
    assert [part.partition(".")[0] for part in parts] == [str(number) for number in range(1, 11)]
    for part in parts:
        assert any(len(block.splitlines()) > 2 for block in blocks(part, "console")), part[:30]


@pytest.mark.parametrize(
    ("here", "there"),
    [
        ("STILL TRYING: 0 of 1 told", "done after 3 ms: 1 of 1 told"),
        ("1 instance(s), 1 session(s)", "1 instance(s), 2 session(s)"),
        ("i-18711e66f3a326768  enrolled", "i-18711e66f3a326768  revoked"),
        ("error: stopped (aborted)", "error: stopped (failed)"),
    ],
)
def test_what_matters_is_compared(here: str, there: str) -> None:
    """The control."""
    assert without_what_varies(here) != without_what_varies(there)
