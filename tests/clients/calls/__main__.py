"""The long run of calls: all jobs, and bodies of gigabytes. Writes its part of results.json and of docs/clients.md."""

import json
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from deploy.demo.cloud import Cloud
from tests.clients.calls import account, matrix, sizes
from tests.clients.calls.differences import canonical
from tests.clients.page import PAGE, RESULTS, render

GIB = int(os.environ.get("GIB", "5"))
"""GiB of the bodies that go through. Environment: GIB."""


def long(tell: Callable[[str], None]) -> dict[str, Any]:
    """All jobs of all clients by all ways, then the sizes."""
    with tempfile.TemporaryDirectory() as name, Cloud(Path(name) / "cloud") as cloud:
        folder, seeded, callers = Path(name), cloud.seed(), account.prepare(cloud)
        with matrix.places(folder, cloud, seeded, callers) as found:
            results = matrix.run(folder / "clients", cloud, found, matrix.ALL)
        tell("each client has done its jobs by each way")
        rows = []
        with sizes.place(folder / "sizes", cloud, seeded, callers) as place:
            for way, machine in place.machines.items():
                for what, one in sizes.through(place, machine, GIB << 30).items():
                    rows.append({"what": what, "way": way, **asdict(one)})
                    tell(f"{what} of {GIB} GiB by {way}: {one}")
    written = asdict(results) | {"run": datetime.now(UTC).strftime("%Y-%m-%d"), "sizes": {"gib": GIB, "rows": rows}}
    plain: dict[str, Any] = json.loads(canonical(json.dumps(written | {"run": ""})))
    return plain | {"run": written["run"]}


def wrong(found: dict[str, Any]) -> list[str]:
    """What did not hold, in words."""
    return [
        f"{client}: {job} by {way}: {fault}"
        for client, jobs in found["faults"].items()
        for job, by_way in jobs.items()
        for way, faults in by_way.items()
        for fault in faults
    ] + [f"{client}: {why}" for client, why in found["not_run"].items()]


def main() -> int:
    """Run, write, and name what did not hold."""
    found = long(lambda line: print(line, file=sys.stderr, flush=True))
    results = json.loads(RESULTS.read_text()) | {"calls": found}
    RESULTS.write_text(json.dumps(results, indent=1, ensure_ascii=False, sort_keys=True) + "\n")
    PAGE.write_text(render(results))
    faults = wrong(found)
    print("\n".join(faults), file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
