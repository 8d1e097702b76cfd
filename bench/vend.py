"""What vending costs the gateway: a session that is there already, one that STS makes, and an audited read beside them.

Real processes, real TLS with client certificates on connections that are kept, the local AWS on the same machine. The
CPU is that of the gateway's processes alone, so it depends less than the times on what else the machine does.
"""

import itertools
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bench.reference import cpu_of
from deploy.demo.cloud import REGION, Cloud
from deploy.demo.ec2_document import DocumentAuthority
from deploy.demo.visitor import Visitor
from tests.end_to_end.crowd import launch, order_ticket
from tests.end_to_end.host import processes
from tests.end_to_end.world import GRANT, World, world

CLIENTS, SECONDS = 12, 6.0

Ask = Callable[[Visitor], int]


def main() -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        Cloud(Path(folder) / "cloud") as cloud,
        world(Path(folder) / "gateway", cloud, cloud.seed(), DocumentAuthority(REGION)) as gateway,
    ):
        visitors = list(_enrolled(gateway))
        durations = itertools.count(901)
        rows = [
            ("audited read (GET /v1/grants)", _measured(gateway, visitors, _grants)),
            ("session given again", _measured(gateway, visitors, lambda each: _credentials(each, 900))),
            ("session made by STS", _measured(gateway, visitors, lambda each: _credentials(each, next(durations)))),
        ]
        gateway.hang_up()
    print(f"{CLIENTS} clients, each on its own connection, {SECONDS:.0f} s a row; two workers and the local AWS here")
    print(f"{'':32}{'per second':>11}{'CPU ms':>8}{'p50 ms':>8}{'p99 ms':>8}")
    for name, (rate, cpu, median, slowest) in rows:
        print(f"{name:32}{rate:11.0f}{cpu:8.2f}{median:8.1f}{slowest:8.1f}")


def _enrolled(gateway: World) -> Iterator[Visitor]:
    operator = gateway.operator()
    for launched in launch(gateway, CLIENTS):
        visitor = gateway.visitor()
        answer = visitor.enroll(launched.document, order_ticket(operator)["ticket"])
        if answer.status != 201:
            raise SystemExit(f"enrolment failed: {answer.body}")
        yield visitor


def _grants(visitor: Visitor) -> int:
    return visitor.call("GET", "/v1/grants").status


def _credentials(visitor: Visitor, seconds: int) -> int:
    return visitor.call("POST", "/v1/credentials", {"grant": GRANT, "duration": seconds}).status


def _measured(gateway: World, visitors: list[Visitor], ask: Ask) -> tuple[float, float, float, float]:
    """Requests a second, CPU milliseconds of the gateway for each, and two quantiles of the time that each took."""
    for visitor in visitors:
        ask(visitor)
    over, times = threading.Event(), []

    def press(visitor: Visitor) -> None:
        while not over.is_set():
            begun = time.perf_counter()
            if ask(visitor) != 200:
                raise SystemExit("a request was refused")
            times.append(time.perf_counter() - begun)

    cpu, begun = cpu_of(processes(gateway.site)), time.perf_counter()
    with ThreadPoolExecutor(len(visitors)) as pool:
        pressing = [pool.submit(press, visitor) for visitor in visitors]
        over.wait(SECONDS)
        over.set()
        for each in pressing:
            each.result()
    elapsed = time.perf_counter() - begun
    cpu = cpu_of(processes(gateway.site)) - cpu
    slow = statistics.quantiles(times, n=100)
    return len(times) / elapsed, cpu * 1000 / len(times), slow[49] * 1000, slow[98] * 1000


if __name__ == "__main__":
    main()
