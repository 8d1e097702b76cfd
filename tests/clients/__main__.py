"""The long run of the matrix, 20 minutes: writes results.json and docs/clients.md. Status 1 when something failed."""

import json
import sys
import tempfile
import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from deploy.demo.cloud import Cloud
from tests.clients import matrix
from tests.clients.calls.__main__ import long
from tests.clients.calls.__main__ import wrong as faults_of_calls
from tests.clients.page import PAGE, RESULTS, render
from tests.clients.verdict import faults


def main() -> int:
    """Run, write, and name what did not hold."""
    begun = time.monotonic()

    def tell(line: str) -> None:
        print(f"{(time.monotonic() - begun) / 60:5.1f} min  {line}", file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with Cloud(folder / "cloud") as cloud:
            found = matrix.long(folder, cloud, cloud.seed(), tell)
    written = {
        "run": datetime.now(UTC).strftime("%Y-%m-%d"),
        "minutes": round((time.monotonic() - begun) / 60),
        **asdict(found),
        "calls": long(tell),
    }
    RESULTS.write_text(json.dumps(written, indent=1, ensure_ascii=False, sort_keys=True) + "\n")
    PAGE.write_text(render(written))
    wrong = [fault for cell in found.cells for fault in faults(cell, found.cells[cell])] + found.refusals
    wrong += faults_of_calls(written["calls"])
    for line in [*wrong, *(f"{cell}: {each['not_run']}" for cell, each in found.cells.items() if "not_run" in each)]:
        tell(line)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
