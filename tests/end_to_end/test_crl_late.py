"""B09 for real: no CRL can be made for two periods. Readiness says so long before the last one is over."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from typing import Any

import pytest

from gateway.flows.publish import EVERY, NEXT_UPDATE
from tests.end_to_end.rough import Rough, rough_fixture  # noqa: F401  # a fixture
from tests.end_to_end.test_observed import metrics, until
from tests.end_to_end.test_unrecorded import no_growth
from tests.end_to_end.tour import plain_get
from tests.end_to_end.world import World

LATE = 2 * EVERY + timedelta(minutes=10)


def readiness(world: World) -> tuple[int, dict[str, Any]]:
    answer = plain_get(f"http://{world.site.local}/readyz")
    return answer.status, answer.body if isinstance(answer.body, dict) else json.loads(answer.body)


def late(world: World, store: str = "good") -> tuple[int, dict[str, Any]] | None:
    """One answer that says so: another worker may have looked some seconds ago, and would still say something else."""
    answer = readiness(world)
    checks = answer[1]["checks"]
    return answer if (checks["crl"]["state"], checks["store"]["state"]) == ("degraded", store) else None


def change(world: World, statement: str, *values: Any) -> None:
    with closing(sqlite3.connect(world.site.database, timeout=10)) as database, database:
        database.execute(statement, values)


@contextmanager
def unopenable(world: World) -> Iterator[None]:
    """The sealed key of the instances' issuer is not what it was."""
    (kept,) = [row["sealed_key"] for row in world.rows("signer", name="instances")]
    change(world, "UPDATE signer SET sealed_key = ? WHERE name = 'instances'", kept[:-1] + bytes([kept[-1] ^ 1]))
    try:
        yield
    finally:
        change(world, "UPDATE signer SET sealed_key = ? WHERE name = 'instances'", kept)


def time_passes(world: World) -> None:
    """As if the latest list had been made so long ago: its times move back, and no clock has to lie."""
    late = int(LATE.total_seconds() * 1_000_000)
    change(world, "UPDATE crl SET this_update = this_update - ?, next_update = next_update - ?", late, late)


@pytest.mark.timeout(480)
@pytest.mark.threat("B09")
@pytest.mark.parametrize("why", ["the key cannot be opened", "the disk is full"])
def test_B09_readiness_is_degraded_before_the_crl_is_over_and_recovers_alone(rough: Rough, why: str) -> None:
    world = rough.world
    until(lambda: (found := readiness(world))[0] == 200 and found[1]["checks"]["crl"]["state"] == "good")  # the control
    number = world.rows("crl")[0]["number"]
    if why == "the key cannot be opened":
        with unopenable(world):
            time_passes(world)
            status, found = until(lambda: late(world))
            assert (status, found["status"]) == (200, "degraded"), "it serves, and somebody has to look"
            assert "due for 2 h" in found["checks"]["crl"]["says"]
            until(
                lambda: any(
                    name.endswith("crl_age_seconds") and value > 7200 for (name, _), value in metrics(world).items()
                )
            )
            left = next(
                value for (name, _), value in metrics(world).items() if name.endswith("crl_next_update_seconds")
            )
            assert 20 * 3600 < left < NEXT_UPDATE.total_seconds()
            until(lambda: "housekeeping" in world.site.log.read_text()[-20_000:], 60)
            assert world.rows("crl")[0]["number"] == number, "none was made"
            assert rough.operator.call("GET", "/v1/status").status == 200
    else:
        with no_growth(world):  # not for us
            time_passes(world)
            assert until(lambda: late(world, store="failing"))[0] == 503
    until(lambda: world.rows("crl")[0]["number"] > number, 90)
    until(lambda: readiness(world)[1]["checks"]["crl"]["state"] == "good")
    until(lambda: readiness(world)[0] == 200)
    assert rough.enrolled()[1].call("GET", "/v1/grants").status == 200
