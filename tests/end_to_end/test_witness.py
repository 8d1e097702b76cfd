"""A running gateway, an agent that is its witness, and what becomes of a log that somebody changes behind both."""

import json
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from threading import Thread

import pytest

from deploy.demo.machine import Machine
from gateway.core.audit import digest
from gateway.wire.checkpoint import CheckpointAnswer, break_between, read
from gateway.wire.secret import Secret
from gateway.wire.strict import decode
from tests.end_to_end.host import kill_workers
from tests.end_to_end.tour import VEND
from tests.end_to_end.world import World

OwnWorld = Callable[..., AbstractContextManager[World]]
# The gateway signs its log whenever a worker starts, and counts refusals beyond five.
TOP = {"audit.checkpoint_every": "1s", "audit.keep": "1d", "audit.refusals_per_minute": 5}


def another_checkpoint(world: World) -> None:
    """A worker looks when it starts; a second has to have passed since the last one."""
    before = checkpoints(world)
    deadline = time.monotonic() + 60
    while checkpoints(world) == before:
        assert time.monotonic() < deadline
        time.sleep(1.1)
        kill_workers(world.site)
        world.site.wait_ready()


def checkpoints(world: World) -> int:
    return len(world.rows("checkpoint"))


@contextmanager
def stopped(world: World) -> Iterator[sqlite3.Connection]:
    """The store, while the gateway is not there: whoever owns it does as he likes."""
    world.site.stop()
    with sqlite3.connect(world.site.database) as database:
        yield database
    database.close()
    world.site.start()


@pytest.mark.timeout(300)
@pytest.mark.threat("I04", "I05", "I08")
def test_I04_I05_I08_a_log_with_witnesses(own_world: OwnWorld, tmp_path: Path) -> None:
    with own_world(top=TOP) as world, Machine(tmp_path / "machine", world.cloud, world.authority) as machine:
        site = world.site
        ticket = world.ticket()
        machine.boot(world.user_data(ticket))
        machine.start_agent()
        machine.wait_ready()
        _, visitor = world.enrolled()

        # Where a ticket was made and used, without its being in the log
        assert ticket not in site.database.read_bytes().decode("latin-1")
        found = site.cli("audit", "search", "--ticket-file", "-", "--json", given=Secret(ticket)).splitlines()
        names = [json.loads(each)["name"] for each in found]
        assert names[:2] == [
            "operator:ticket:create",
            "instance:certificate:enroll",
        ]
        assert site.cli("audit", "search", "--ticket-file", "-", given=Secret("0" * 48)) == "nothing was found\n"

        # Searches and summaries
        assert visitor.call("POST", "/v1/credentials", VEND).status == 200
        vended = site.cli(
            "audit", "search", "--event", "instance:credentials:*", "--key", "main", "--json"
        ).splitlines()
        assert {json.loads(each)["reason"] for each in vended} == {"vended"}
        launched = machine.instance.instance_id
        summed = json.loads(site.cli("audit", "summary", "instance", launched, "--json"))
        assert summed["allowed"]["instance:certificate:enroll"] == 1
        assert json.loads(site.cli("audit", "summary", "key", "main", "--json"))["records"] >= 1
        request_id = json.loads(vended[0])["request_id"]
        of_one = site.cli("audit", "search", "--request-id", request_id, "--since", "1h", "--json").splitlines()
        assert [json.loads(each)["kind"] for each in of_one] == ["decision", "intent", "outcome"]
        assert "nothing was found" in site.cli("audit", "search", "--request-id", request_id, "--refused")

        # A flood
        stranger, seen = world.visitor(), len(world.audit(name="instance:grant:list", allowed=False))
        for _ in range(200):
            assert stranger.call("GET", "/v1/grants").code == "certificate_required"
        assert len(world.audit(name="instance:grant:list", allowed=False)) - seen <= 5 * 2, "of each worker"

        # Each checkpoint continues the one before, and an agent has seen them
        first = decode(CheckpointAnswer, visitor.call("GET", "/v1/checkpoint").body)
        deadline = time.monotonic() + 20
        while (held := machine.agent("witness")).returncode and time.monotonic() < deadline:
            time.sleep(0.2)
        assert held.returncode == 0, held.stderr
        (tmp_path / "web.json").write_text(held.stdout)
        visitor.close()  # it was connected to one that is killed
        stranger.close()
        another_checkpoint(world)
        number = read(first.statement).number
        later = decode(CheckpointAnswer, visitor.call("GET", f"/v1/checkpoint?after={number}").body)
        assert read(later.statement).number > number
        assert break_between(read(first.statement), read(later.statement), later.proofs) is None
        world.hang_up()  # who stops waits for them
        verified = site.cli("audit", "verify", "--witness", str(tmp_path / "web.json"))
        assert "verified" in verified
        assert "nothing is old enough" in site.cli("audit", "archive", "--to", str(tmp_path))

        # An archive: both halves are one log
        with stopped(world) as database:
            database.execute("UPDATE checkpoint SET at = at - 200000000000")
        archive = tmp_path / "archive"
        archive.mkdir()
        assert "archived" in site.cli("audit", "archive", "--to", str(archive))
        whole = ("audit", "verify", "--archive", str(archive), "--witness", str(tmp_path / "web.json"))
        assert "verified" in site.cli(*whole)
        assert "verified" in site.cli("audit", "verify")
        assert "is in an archive" in site.run("audit", "verify", "--witness", str(tmp_path / "web.json")).stdout
        packed = next(archive.glob("*.gz"))
        kept = packed.read_bytes()
        packed.write_bytes(kept[:-9])
        assert site.run(*whole).returncode == 1
        packed.write_bytes(kept)

        # Whoever owns the store writes the rest of the log anew, from its last but third record on: every hash fits.
        machine.stop()
        another_checkpoint(world)
        machine.start_agent()
        machine.wait_ready()
        deadline = time.monotonic() + 20
        while (status := machine.agent("witness")).stdout == held.stdout and time.monotonic() < deadline:
            time.sleep(0.2)
        (tmp_path / "late.json").write_text(status.stdout)
        assert "verified" in site.cli(
            "audit", "verify", "--archive", str(archive), "--witness", str(tmp_path / "late.json")
        )
        machine.stop()
        with stopped(world) as database:
            rewrite(database)
        said = site.run("audit", "verify", "--archive", str(archive), "--witness", str(tmp_path / "late.json"))
        assert (said.returncode, "written anew" in said.stdout) == (1, True), said
        assert "(audit_broken)" in said.stderr

        # A certificate of another gateway's proves nothing
        forged = json.loads((tmp_path / "late.json").read_text())
        forged["checkpoints"][0]["statement"] = forged["checkpoints"][0]["statement"].replace('"number":', '"number":1')
        (tmp_path / "forged.json").write_text(json.dumps(forged))
        assert "(witness_invalid)" in site.run("audit", "verify", "--witness", str(tmp_path / "forged.json")).stderr


def rewrite(database: sqlite3.Connection) -> None:
    """The longest chain, from the middle of what the store has: consistent in itself, with the head to match."""
    (chain,) = database.execute(
        "SELECT chain FROM audit_record GROUP BY chain ORDER BY count(*) DESC LIMIT 1"
    ).fetchone()
    rows = database.execute(
        "SELECT seq, line, hash FROM audit_record WHERE chain = ? ORDER BY seq", (chain,)
    ).fetchall()
    prev = rows[0][2]
    for seq, line, _ in rows[1:]:
        body = json.loads(line) | {"prev": prev, "source": "192.0.2.66"}
        text = json.dumps(body, sort_keys=True, separators=(",", ":"))
        prev = digest(text)
        database.execute(
            "UPDATE audit_record SET line = ?, hash = ? WHERE chain = ? AND seq = ?", (text, prev, chain, seq)
        )
    database.execute("UPDATE audit_head SET hash = ? WHERE chain = ?", (prev, chain))


@pytest.mark.timeout(300)
def test_tail_follows_over_a_restart_and_leaves_nothing_out(own_world: OwnWorld) -> None:
    with own_world() as world:
        command = [*world.site.command, "audit", "tail", "-f", "-n", "1", "--json"]
        following = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=world.site.environment())
        heard: list[str] = []
        assert following.stdout is not None
        hearing = Thread(target=lambda: heard.extend(following.stdout or ()), daemon=True)
        hearing.start()
        try:
            deadline = time.monotonic() + 60
            while not heard:
                assert time.monotonic() < deadline
                time.sleep(0.1)
            tickets = [world.ticket()]
            world.site.stop()
            world.site.start()
            tickets.append(world.ticket())
            assert all(tickets)
            deadline = time.monotonic() + 60
            while sum("operator:ticket:create" in line for line in heard) < 2:
                assert time.monotonic() < deadline, heard
                time.sleep(0.1)
        finally:
            following.terminate()
            following.wait(10)
            hearing.join(10)
            following.stdout.close()
        names = [json.loads(line)["name"] for line in heard[1:]]
        assert names.count("operator:ticket:create") == 2
        assert "operator:audit:read" not in names, "it does not show itself"
        assert "gateway:worker:start" in names
