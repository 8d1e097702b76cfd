"""What every cell has to show."""

import re
from collections.abc import Iterator
from typing import Any

from tests.clients.lines import DEADLINE
from tests.clients.table import of

MOST_ANSWERS = 2  # for ten calls: one, and for those who look twice before the first
REFUSAL = re.compile(r"AccessDenied|Access Denied|\b403\b")


def faults(name: str, cell: dict[str, Any]) -> Iterator[str]:
    """In words, what a cell that ran did not show."""
    if "not_run" in cell:
        return
    client, _ = of(name)
    if not cell["first"]["ok"]:
        yield f"{name}: the first call failed: {cell['first']['shown']}"
    if not (cell["refusal"]["refused"] and REFUSAL.search(cell["refusal"]["shown"])):
        yield f"{name}: it does not show AWS's refusal: {cell['refusal']['shown']}"
    if not cell["calls"]["ok"]:
        yield f"{name}: one of its calls failed"
    if cell["calls"]["answers"] > (MOST_ANSWERS if client.lines else 1):
        yield f"{name}: it asked {cell['calls']['answers']} times"
    if not cell["revoked"]["refused"]:
        yield f"{name}: it has credentials, and the instance is revoked"
    if not cell["revoked"]["shown"] or cell["revoked"]["seconds"] >= DEADLINE:
        yield f"{name}: revoked, it says nothing"
    if "refresh" in cell and not (cell["refresh"]["ok"] and cell["refresh"]["other_key"]):
        yield f"{name}: it did not go on across an expiry: {cell['refresh']['shown']}"
