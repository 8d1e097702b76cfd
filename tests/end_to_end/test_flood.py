"""I08: a flood of refusals over real sockets grows the log by a bounded number of records, and no count is lost."""

import json
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from math import ceil

import pytest

from gateway.flows.repeats import OVERALL, SOURCES
from tests.end_to_end.tour import VEND
from tests.end_to_end.world import World

Own = Callable[..., AbstractContextManager[World]]
FLOOD = float(os.environ.get("FLOOD", "5"))  # seconds; `make long` has 60
MOST, WORKERS, CALLERS = 20, 2, 8


@pytest.mark.timeout(180 + 3 * FLOOD)
@pytest.mark.threat("I08")
def test_I08_a_flood_over_sockets_is_bounded_and_counted_to_the_last_also_when_workers_stop(own_world: Own) -> None:
    with own_world(top={"audit.refusals_per_minute": MOST}, workers=WORKERS) as world:
        visitor = world.enrolled()[1]
        begun, size = len(world.audit()), world.site.database.stat().st_size

        def flood(number: int) -> int:
            """Everything that nobody needs a certificate for, each on a connection of its own as much as on one."""
            asked, end = 0, time.monotonic() + FLOOD
            stranger = world.visitor(world.site.admin if number % 2 else None)
            while time.monotonic() < end:
                answer = stranger.call("GET", ("/v1/grants", "/v1/nothing", "/v1/status", "/v1/watch")[asked % 4])
                assert answer.status in (401, 404), answer
                asked += 1
                if asked % 50 == 0:
                    stranger.close()
            stranger.close()
            return asked

        with ThreadPoolExecutor(CALLERS) as pool:
            floods = [pool.submit(flood, number) for number in range(CALLERS)]
            real = 0
            while not all(each.done() for each in floods):
                assert visitor.call("GET", "/v1/grants").status == 200
                assert visitor.call("POST", "/v1/credentials", VEND).status == 200
                real += 2
            asked = sum(each.result() for each in floods)
        world.hang_up()
        minutes = ceil(FLOOD / 60) + 1
        world.site.stop()  # SIGTERM: what was only counted is not lost

        records = world.audit()[begun:]
        refused = [each for each in records if each["source"] == "127.0.0.1" and not each["allowed"]]
        counts = [each["facts"]["count"] for each in refused if each["kind"] == "fact"]
        assert len(refused) - len(counts) + sum(counts) == asked, "each was recorded or counted, and none twice"
        assert len(refused) <= minutes * WORKERS * (MOST * OVERALL + SOURCES)
        assert asked > 3 * len(refused), "else this was no flood"
        decided = [each for each in records if each["kind"] == "decision" and each["allowed"] and each["subject"]]
        assert len([each for each in decided if each["name"].startswith("instance:")]) == real, "none is missing"
        print(f"{asked} refusals in {FLOOD:.0f} s: {len(refused)} records, of {json.dumps(counts)} among them")
        print(f"the store grew by {world.site.database.stat().st_size - size} bytes, with {real} that were served")
        world.site.start()
        world.site.cli("audit", "verify")
