"""The matrix: each client by each of its ways: what it gets, what it is refused, how often it asks, how it ends."""

import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deploy.demo.cloud import Cloud, Seeded, client, prefix_policy
from deploy.demo.ec2_document import DocumentAuthority
from gateway.wire.messages import parse_instant
from gateway.wire.secret import Secret
from tests.clients.running import Running
from tests.clients.table import CELLS, Client, Place, of
from tests.clients.ways import GRANT, STATIC, WAYS, OnInstance, Told
from tests.end_to_end.world import World
from tests.end_to_end.world import world as make_world
from tests.verifying_front import VerifyingFront

CALLS = 10
PARALLEL = 4
DOORS = ("container", "imds", "process", "file", "sessions", "vault")
Cell = dict[str, Any]
_AT_THE_GATEWAY = {"sessions": "instance:session:create", "vault": "instance:token:create"}


@dataclass
class Results:
    """What each cell showed: `first`, `refusal`, `calls`, `revoked`, and after a long run `refresh`."""

    versions: dict[str, str] = field(default_factory=dict)
    cells: dict[str, Cell] = field(default_factory=dict)
    refusals: list[str] = field(default_factory=list)


def version_of(each: Client) -> str | None:
    """What it says of itself; None when it is not there."""
    if not (each.needs.exists() and shutil.which(each.version[0])):
        return None
    done = subprocess.run(each.version, capture_output=True, text=True, timeout=60, check=False)
    return (done.stdout or done.stderr).splitlines()[0].strip() if done.returncode == 0 else None


@contextmanager
def site(folder: Path, cloud: Cloud, seeded: Seeded) -> Iterator[tuple[World, VerifyingFront]]:
    """A gateway before which the verifying front stands."""
    with VerifyingFront(cloud.endpoint) as front:
        authority = DocumentAuthority(seeded.region)
        with make_world(folder, cloud, seeded, authority, endpoint=front.endpoint) as world:
            yield world, front


@contextmanager
def instance(world: World, folder: Path, life: str) -> Iterator[OnInstance]:
    """An enrolled instance whose one grant gives sessions of this life by every way."""
    profile = folder.name
    path = folder.with_suffix(".toml")
    policy = prefix_policy(world.seeded.bucket, world.seeded.prefixes[0])
    path.write_text(
        f'name = "{profile}"\n[[grants]]\nname = "{GRANT}"\nrole = "{world.seeded.role_arn}"\n'
        f'region = "{world.seeded.region}"\nduration = "{life}"\ndoors = {list(DOORS)}\n'
        f"policy = '''{policy}'''\n"
    )
    world.site.cli("profile", "apply", str(path))
    with ExitStack() as stack:
        run = Path(stack.enter_context(tempfile.TemporaryDirectory(dir="/dev/shm"))) / "run"
        machine = stack.enter_context(OnInstance(folder, world.cloud, world.authority, run=run))
        machine.role = world.seeded.role_arn
        machine.boot(world.user_data(world.ticket(profile)))
        machine.start_agent()
        machine.wait_ready(60)
        yield machine


@dataclass
class Seat:
    """A cell at work: its client, told its way, with a front of its own to count and name what it sends."""

    cell: str
    client: Client
    told: Told
    front: VerifyingFront
    folder: Path
    place: Place

    @property
    def stays(self) -> bool:
        """Whether one process goes on from session to session."""
        return self.client.lines is not None and of(self.cell)[1] not in STATIC

    def run(self) -> Running:
        """A new process of the client."""
        return Running(self.client, self.told, self.place, self.folder)


class Table:
    """The seats of one machine."""

    def __init__(self, world: World, machine: OnInstance, cells: Sequence[str], stack: ExitStack) -> None:
        self.world, self.machine, self._stack = world, machine, stack
        self.granted, self.other = world.seeded.prefixes
        self.seats = [self._seat(cell) for cell in cells]

    def _seat(self, cell: str) -> Seat:
        each, way = of(cell)
        front = self._stack.enter_context(VerifyingFront(self.world.cloud.endpoint))
        name = "".join(letter if letter.isalnum() else "-" for letter in cell)
        place = Place(front.endpoint, self.world.seeded.bucket)
        told = WAYS[way](self.machine, each)
        return Seat(cell, each, told, front, self.machine.folder.parent / f"{self.machine.folder.name}-{name}", place)

    def short(self, results: Results) -> None:
        """What is allowed, what is refused, how often the agent is asked; then the instance is revoked."""
        self._by_way(lambda seat: self._calls(seat, results))
        self.world.site.cli("revoke", "instance", self.machine.instance.instance_id)
        end = time.monotonic() + 30
        while self.machine.ask_loopback(GRANT)[0] == 200:
            assert time.monotonic() < end, "the agent did not hear of it"
            time.sleep(0.1)
        _all(self.seats, lambda seat: self._revoked(seat, results))

    def _by_way(self, work: Callable[[Seat], Any]) -> None:
        """The agent counts its answers by way: so in each way, one client after the other."""
        groups: dict[str, list[Seat]] = {}
        for seat in self.seats:
            groups.setdefault(seat.told.counted, []).append(seat)
        _all(groups.values(), lambda group: [work(seat) for seat in group])

    def _calls(self, seat: Seat, results: Results) -> None:
        cell = results.cells.setdefault(seat.cell, {})
        calls = CALLS if seat.client.lines else 1
        with seat.run() as running:
            before = self.answers(seat.told.counted)
            first = running.list(self.granted)
            again = [running.list(self.granted).ok for _ in range(calls - 1)] if first.ok else []
            asked = self.answers(seat.told.counted) - before
            refused = running.list(self.other)
        cell["first"] = {"ok": first.ok, "shown": first.text}
        cell["calls"] = {"calls": calls, "ok": first.ok and all(again), "answers": asked}
        cell["refusal"] = {"refused": not refused.ok, "shown": refused.text}
        results.refusals += [str(each) for each in seat.front.refusals]

    def _revoked(self, seat: Seat, results: Results) -> None:
        with seat.run() as running:
            said = running.list(self.granted)
        results.cells[seat.cell]["revoked"] = {"refused": not said.ok, "shown": said.text, "seconds": said.seconds}

    def answers(self, way: str) -> int:
        """How many answers the agent has given in this way; or the gateway, where it is asked itself."""
        if way in _AT_THE_GATEWAY:
            ends = f"/{self.machine.instance.instance_id}"
            found = self.world.audit(name=_AT_THE_GATEWAY[way], kind="decision", allowed=True)
            return sum(str(record["subject"]).endswith(ends) for record in found)
        status = self.machine.status()
        assert status is not None
        return int(status["grants"][0]["answers"].get(way, 0))

    @contextmanager
    def refresh(self, results: Results) -> Iterator[Callable[[], None]]:
        """Every client makes a call. What is given waits for the end of the sessions, and has each make another."""
        with ExitStack() as stack:
            running = {seat.cell: stack.enter_context(seat.run()) for seat in self.seats}
            firsts = dict(_all(self.seats, lambda seat: (seat.cell, running[seat.cell].list(self.granted))))
            used = {seat.cell: seat.front.keys_used() for seat in self.seats}
            ends = self._sessions_end()

            def again() -> None:
                while (left := ends - time.time()) >= 0:
                    time.sleep(min(left + 1, 30))
                for seat in self.seats:
                    if not seat.stays:
                        running[seat.cell] = stack.enter_context(seat.run())
                seconds = dict(_all(self.seats, lambda seat: (seat.cell, running[seat.cell].list(self.granted))))
                for seat in self.seats:
                    before, after = firsts[seat.cell], seconds[seat.cell]
                    new = [key for key in seat.front.keys_used() if key not in used[seat.cell]]
                    results.cells.setdefault(seat.cell, {})["refresh"] = {
                        "ok": before.ok and after.ok,
                        "other_key": len(new) > 0 and len(used[seat.cell]) > 0,
                        "same_process": seat.stays,
                        "shown": (after if before.ok else before).text,
                    }
                self._by_way(lambda seat: self._brief_calls(seat, running[seat.cell], results))

            yield again

    def _brief_calls(self, seat: Seat, running: Running, results: Results) -> None:
        """How often one process asks that has sessions of 15 minutes only."""
        if seat.stays:
            before = self.answers(seat.told.counted)
            ok = all(running.list(self.granted).ok for _ in range(CALLS))
            asked = self.answers(seat.told.counted) - before
            results.cells[seat.cell]["brief"] = {"calls": CALLS, "ok": ok, "answers": asked}

    def _sessions_end(self) -> float:
        """When the last session that the agent has given has ended, and a second more. The clock's seconds."""
        _, body = self.machine.ask_loopback(GRANT)
        self.first_session = body
        return parse_instant(body["Expiration"]).timestamp() + 1

    def first_session_is_over(self) -> bool:
        """The control: AWS does not honour what the first calls were made with any more."""
        body = self.first_session
        keys = body["AccessKeyId"], Secret(body["SecretAccessKey"]), Secret(body["Token"])
        s3 = client(self.world.cloud.endpoint, "s3", *keys)
        try:
            s3.list_objects_v2(Bucket=self.world.seeded.bucket, Prefix=self.granted)
        except s3.exceptions.ClientError as error:
            return bool(error.response["Error"]["Code"] == "ExpiredToken")
        return False


def _all(items: Iterable[Any], work: Callable[[Any], Any]) -> list[Any]:
    with ThreadPoolExecutor(PARALLEL) as pool:
        return list(pool.map(work, items))


def installed(results: Results, cells: Iterable[str] = CELLS) -> list[str]:
    """The cells whose clients are there; their versions are noted, and of the others that they did not run."""
    for name in dict.fromkeys(of(cell)[0].name for cell in cells):
        version = version_of(of(f"{name} | ")[0])
        if version:
            results.versions[name] = version
    for cell in cells:
        if of(cell)[0].name not in results.versions:
            results.cells[cell] = {"not_run": f"not installed: {of(cell)[0].install}"}
    return [cell for cell in cells if cell not in results.cells]


def short(folder: Path, cloud: Cloud, seeded: Seeded, cells: Iterable[str] = CELLS) -> Results:
    """All but waiting for an expiry."""
    results = Results()
    there = installed(results, cells)
    with site(folder / "gateway", cloud, seeded) as (world, front), ExitStack() as stack:
        machine = stack.enter_context(instance(world, folder / "hour", "1h"))
        Table(world, machine, there, stack).short(results)
        results.refusals += [str(each) for each in front.refusals]
    return results


def long(folder: Path, cloud: Cloud, seeded: Seeded, tell: Callable[[str], None]) -> Results:
    """The short form, and across an expiry: sessions of 15 minutes, all clients at the same time. 20 minutes."""
    results = Results()
    there = installed(results)
    with site(folder / "gateway", cloud, seeded) as (world, front), ExitStack() as stack:
        brief = stack.enter_context(instance(world, folder / "quarter", "15m"))
        lasting = Table(world, brief, there, stack)
        with lasting.refresh(results) as again:
            tell("each client has made a call in a session of 15 minutes; it goes on while these run out")
            machine = stack.enter_context(instance(world, folder / "hour", "1h"))
            Table(world, machine, there, stack).short(results)
            tell("the short form is done; waiting for the end of the sessions")
            again()
            assert lasting.first_session_is_over(), "the local AWS does not enforce expiry"
        results.refusals += [str(each) for each in front.refusals]
    return results
