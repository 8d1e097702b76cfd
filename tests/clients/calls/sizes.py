"""Bodies of any size through the agent's endpoint, into the sink: nothing on the way may keep them."""

import http.client
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from deploy.demo.cloud import REGION, Cloud, Seeded
from deploy.demo.ec2_document import DocumentAuthority
from tests.clients.calls import ways
from tests.clients.calls.account import Callers
from tests.clients.calls.ways import Caller
from tests.end_to_end.world import World
from tests.end_to_end.world import world as make_world
from tests.sink.payloads import PIECE, generated
from tests.sink.server import Sink
from tests.sink.signatures import Key

BUCKET = "calls-sink"
LONGEST_PUT = 5 << 30
"""Bytes of one PUT. Amazon S3: "Uploading objects"."""


class Generated:
    """A file of bytes that the sink can compute, which are nowhere whole."""

    def __init__(self, length: int) -> None:
        self._length, self._at = length, 0

    def read(self, size: int = -1) -> bytes:
        """As of a file."""
        size = min(size if size >= 0 else self._length, self._length - self._at)
        piece = b"".join(generated(self._at, size))
        self._at += size
        return piece

    def tell(self) -> int:
        """As of a file."""
        return self._at

    def seek(self, offset: int, whence: int = 0) -> int:
        """As of a file."""
        self._at = (0, self._at, self._length)[whence] + offset
        return self._at


@dataclass(frozen=True, slots=True)
class Measured:
    """How it went: MB/s, and by how much a process's memory has grown at most meanwhile (MiB)."""

    rate: float
    grown: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Place:
    """A sink in AWS's place, and for each way a machine whose calls go there."""

    sink: Sink
    world: World
    machines: Mapping[str, Caller]


@contextmanager
def place(folder: Path, cloud: Cloud, seeded: Seeded, callers: Callers) -> Iterator[Place]:
    """STS and EC2 stay the local AWS's, behind the sink; S3 is the sink itself."""
    with ExitStack() as stack:
        sink = stack.enter_context(Sink(cloud.endpoint))
        authority = DocumentAuthority(seeded.region)
        world = stack.enter_context(make_world(folder / "gateway", cloud, seeded, authority, endpoint=sink.endpoint))
        machines = {}
        for deliver in ("sign", "proxy"):
            _, machines[deliver] = stack.enter_context(ways.through(world, callers, None, folder / deliver, deliver))
        yield Place(sink, world, machines)


def storage(endpoint: str, keys: Mapping[str, str]) -> Any:
    """boto3, with these keys."""
    return boto3.client(
        "s3",
        region_name=REGION,
        endpoint_url=endpoint,
        aws_access_key_id=keys["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=keys["AWS_SECRET_ACCESS_KEY"],
        aws_session_token=keys.get("AWS_SESSION_TOKEN"),
        config=Config(signature_version="s3v4", retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}),
    )


def upload(s3: Any, length: int) -> None:
    """In parts, as `upload_fileobj` does it."""
    s3.upload_fileobj(Generated(length), BUCKET, f"long/{length}")


def put(s3: Any, length: int) -> None:
    """In one request, whose body is not signed for."""
    url = s3.generate_presigned_url("put_object", Params={"Bucket": BUCKET, "Key": f"one/{length}"}, ExpiresIn=600)
    scheme, _, rest = url.partition("://")
    address, _, target = rest.partition("/")
    connection = http.client.HTTPConnection(address, timeout=60)
    connection.putrequest("PUT", f"/{target}")
    connection.putheader("Content-Length", str(length))
    connection.endheaders()
    for piece in generated(0, length):
        connection.send(piece)
    answer = connection.getresponse()
    text = answer.read()
    connection.close()
    assert answer.status == 200, (scheme, answer.status, text)


def download(s3: Any, key: str, length: int) -> None:
    """All of it, each byte compared."""
    body = s3.get_object(Bucket=BUCKET, Key=key)["Body"]
    expected, seen = Generated(length), 0
    while piece := body.read(PIECE):
        assert piece == expected.read(len(piece)), f"another byte behind {seen}"
        seen += len(piece)
    assert seen == length


@contextmanager
def measured(pids: Mapping[str, int], length: int) -> Iterator[list[Measured]]:
    """Meanwhile, look at the memory of these processes ten times a second. The list gets what was measured."""
    found: list[Measured] = []
    before = {name: _memory(pid) for name, pid in pids.items()}
    most, over = dict(before), threading.Event()

    def look() -> None:
        while not over.wait(0.1):
            for name, pid in pids.items():
                most[name] = max(most[name], _memory(pid))

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    begun = time.monotonic()
    try:
        yield found
    finally:
        seconds = time.monotonic() - begun
        over.set()
        watcher.join()
        grown = {name: round((most[name] - before[name]) / PIECE, 1) for name in pids}
        found.append(Measured(round(length / seconds / 1e6, 1), grown))


def _memory(pid: int) -> int:
    """Bytes of a process and its children that are in memory. proc(5)."""
    total = 0
    for each in [pid, *_children(pid)]:
        try:
            total += int(Path(f"/proc/{each}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        except OSError:
            continue  # it has ended
    return total


def _children(pid: int) -> list[int]:
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def direct_key(sink: Sink) -> Mapping[str, str]:
    """A key that the sink knows."""
    sink.keys["AKIASINKSINKSINKSINK"] = Key("made up for this")
    return {"AWS_ACCESS_KEY_ID": "AKIASINKSINKSINKSINK", "AWS_SECRET_ACCESS_KEY": "made up for this"}


def through(place: Place, machine: Caller, length: int) -> dict[str, Measured]:
    """One upload in parts, one in one request, and both read back, through a machine's agent."""
    s3 = storage(f"http://{machine.calls}", machine.lent())
    pids = {"agent": machine.agent_pid, "gateway": place.world.site.pid}
    found = {}
    jobs: Mapping[str, Callable[[], None]] = {
        "upload in parts": lambda: upload(s3, length),
        "download": lambda: download(s3, f"long/{length}", length),
        "upload in one request": lambda: put(s3, min(length, LONGEST_PUT)),
    }
    for what, work in jobs.items():
        with measured(pids, length) as one:
            work()
        found[what] = one[0]
    return found
