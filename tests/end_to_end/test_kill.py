"""A17: the gateway is killed, again and again, while instances enrol. What it leaves behind is whole."""

import os
import signal
import sqlite3
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from random import SystemRandom

import pytest

from tests.end_to_end.aftermath import faults
from tests.end_to_end.applicant import Applicant
from tests.end_to_end.crowd import OwnWorld, launch, order_ticket
from tests.end_to_end.host import kill_all, workers
from tests.end_to_end.world import World

KILLS = int(os.environ.get("KILLS", "40"))
APPLICANTS = 3  # to each kill
WARM = 3  # rounds without a kill, before
WHOLE = 20  # one kill in so many takes the master too
CHANCE = SystemRandom()


@pytest.mark.threat("A17")
@pytest.mark.timeout(120 + 3 * KILLS)
def test_A17_kills_leave_no_ticket_used_twice_and_no_certificate_off_the_record(own_world: OwnWorld) -> None:
    with own_world() as world:
        crowd = applicants(world, (WARM + KILLS) * APPLICANTS)
        burglar = launch(world, 1)[0]
        with ThreadPoolExecutor(2 * APPLICANTS) as pool:

            def begin(number: int) -> list[Future[None]]:
                some = crowd[number * APPLICANTS : (number + 1) * APPLICANTS]
                bound = [each for each in some if each.ticket["instance_id"]]
                persist = [pool.submit(each.persist) for each in some]
                return persist + [pool.submit(each.rob, burglar.document, 401, "ticket_invalid") for each in bound]

            warm = [wait_all(begin(number)) for number in range(WARM)]
            undisturbed = warm[-1] - warm[-2]
            for number in range(WARM, WARM + KILLS):
                futures = begin(number)
                if CHANCE.random() < 0.5:
                    time.sleep(CHANCE.uniform(0, undisturbed))  # a random moment
                else:
                    wait_for_commits(world, CHANCE.randint(1, 2 * APPLICANTS), futures)  # or just behind a commit
                kill(world, whole=number % WHOLE == WHOLE - 1)
                ended = wait_all(futures)

        lost, cut = (sum(getattr(each, name) for each in crowd) for name in ("lost", "cut"))
        print(f"{KILLS} kills in {ended - warm[-1]:.0f} s: {lost} answers lost, {cut} with the ticket used up")
        assert cut or KILLS < 50  # else this has tried nothing
        with world.database() as store, closing(sqlite3.connect(":memory:", isolation_level=None)) as copy:
            assert faults(store, crowd) == []
            store.backup(copy)
            for damage in DAMAGES:
                copy.execute("BEGIN")
                copy.execute(damage)
                assert faults(copy, crowd), damage
                copy.execute("ROLLBACK")
            assert faults(copy, crowd) == []
        assert world.enrolled()[1].call("GET", "/v1/grants").status == 200


# What must never be found, and would be: the negative control.
DAMAGES = (
    "DELETE FROM certificate WHERE serial = (SELECT max(serial) FROM certificate WHERE kind = 'instance')",
    "UPDATE certificate SET subject = (SELECT max(subject) FROM certificate) WHERE kind = 'instance'",
    "UPDATE certificate SET der = x'00' WHERE kind = 'instance'",
    "UPDATE certificate SET state = 'superseded' WHERE kind = 'instance'",
    "UPDATE ticket SET key_sha256 = (SELECT max(key_sha256) FROM ticket)",
    "UPDATE ticket SET state = 'open' WHERE id = (SELECT max(id) FROM ticket)",
    "DELETE FROM audit_record WHERE line LIKE '%\"outcome\"%'",
    "UPDATE audit_record SET line = replace(line, '\"allowed\":true', '\"allowed\":false')",
)


def applicants(world: World, count: int) -> list[Applicant]:
    """Every third has a ticket in its name."""
    operator, out = world.operator(), []
    for number, launched in enumerate(launch(world, count)):
        named = {} if number % 3 else {"instance_id": launched.id}
        out.append(Applicant(world, launched, order_ticket(operator, life=86400, **named)))
    return out


def wait_all(futures: Sequence[Future[None]]) -> float:
    """Raise what any of them has raised. When all were done."""
    for future in futures:
        future.result()
    return time.monotonic()


def wait_for_commits(world: World, count: int, futures: Sequence[Future[None]]) -> None:
    """Return the moment that so many transactions more are in the store, or that nobody is left to make one."""
    with world.database() as store:
        seen = store.execute("PRAGMA data_version").fetchone()
        while count and not all(future.done() for future in futures):
            now = store.execute("PRAGMA data_version").fetchone()
            count -= now != seen
            seen = now
            time.sleep(0.0002)


def kill(world: World, *, whole: bool) -> None:
    """SIGKILL: to a worker, or to both; or to the master and all, and then it is started again."""
    if whole:
        kill_all(world.site)
        world.site.start()
        return
    pids = workers(world.site)
    CHANCE.shuffle(pids)
    for pid in pids[: 2 if CHANCE.random() < 0.3 else 1]:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
