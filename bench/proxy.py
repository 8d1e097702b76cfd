"""What carrying a call costs the gateway beyond deciding it: small and large bodies, up and down, beside nginx as a
plain reverse proxy and the bare upstream, in one run.

Real processes: one worker of ours with the real route, TLS with client certificates in front of it and TLS behind it,
and an upstream that throws away what it gets. The decision is a fake that allows everything: `bench.sign` measures the
same with the real one.
"""

import asyncio
import contextlib
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import uvloop

from bench.reference import HEADINGS, PIECE, Row, connected, machine, nginx
from tests.gateway.web.carrying import ask, call, carrying
from tests.gateway.web_server.pki import Pki, make

KB, LARGE = 1024, 64 * 1024 * 1024
CLIENTS, ROUNDS, SECONDS = {KB: 4, LARGE: 1}, 5, 1.5


@dataclass(frozen=True)
class Subject:
    """What is measured: who it is, where, and how a request is put to it."""

    name: str
    pid: int
    port: int
    request: Callable[[str, int], bytes]  # of a direction and a size; the head only


def main() -> None:
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        pki = make(folder)
        upstream = stack.enter_context(_started(folder, "upstream", "0"))
        subjects = [Subject("upstream, bare", *upstream, _plain)]
        if plain := stack.enter_context(nginx(folder, upstream[1])):
            subjects.append(Subject("nginx", *plain, _plain))
        gateway = stack.enter_context(_started(folder, "gateway", str(upstream[1])))
        subjects.append(Subject("the gateway, deciding nothing", *gateway, _carried))
        print(machine())
        print(f"{ROUNDS} rounds of {SECONDS} s a row; {CLIENTS[KB]} clients with 1 KB, {CLIENTS[LARGE]} with 64 MB\n")
        for direction, size in (("up", KB), ("down", KB), ("up", LARGE), ("down", LARGE)):
            rows = [_row(subject, pki, direction, size) for subject in subjects]
            for _ in range(ROUNDS):
                for row in rows:
                    row.measure(SECONDS)
            print(f"{f'{size // KB} KB {direction}':34}{HEADINGS[34:]}{'x nginx':>8}")
            for row in rows:
                print(f"{row.told()}{f'{row.times(rows[1]):8.2f}' if plain else ''}", flush=True)


def _row(subject: Subject, pki: Pki, direction: str, size: int) -> Row:
    context = pki.client_context("client")
    return Row(
        subject.name,
        lambda: [subject.pid],
        lambda _: connected(context, subject.port),
        lambda _: subject.request(direction, size),
        CLIENTS[size],
        size if direction == "up" else 0,
    )


# The subjects


@contextlib.contextmanager
def _started(folder: Path, what: str, argument: str) -> Iterator[tuple[int, int]]:
    """This module in another process: its process id and port."""
    command = [sys.executable, "-m", "bench.proxy", what, str(folder), argument]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603  # ourselves
        assert process.stdout is not None
        try:
            yield process.pid, int(process.stdout.readline())
        finally:
            process.send_signal(signal.SIGKILL)


def _serve_upstream(folder: Path) -> None:
    """`GET /<size>` gives so many bytes; a body that is sent is thrown away."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                lengths = [line for line in head.split(b"\r\n") if line.startswith(b"content-length")]
                missing = int(lengths[0].split(b":")[1]) if lengths else 0
                while missing:
                    missing -= len(await reader.read(min(missing, len(PIECE))))
                size = int(head.split(b" ")[1][1:]) if head.startswith(b"get") else 0
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
                while size:
                    piece = PIECE[:size]
                    writer.write(piece)
                    await writer.drain()
                    size -= len(piece)
        writer.close()

    async def run() -> None:
        tls = Pki(folder).server_context()
        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls, limit=1024 * 1024)
        print(server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()

    uvloop.run(run())


def _serve_gateway(folder: Path, upstream: int) -> None:
    pki = Pki(folder)
    origin = f"https://127.0.0.1:{upstream}"
    with carrying(origin, server=pki.server_context(), upstream=pki.client_context()) as running:
        print(running.address[1], flush=True)
        threading.Event().wait()


# The clients


def _plain(direction: str, size: int) -> bytes:
    if direction == "up":
        return f"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n".encode()
    return f"GET /{size} HTTP/1.1\r\nHost: a\r\n\r\n".encode()


def _carried(direction: str, size: int) -> bytes:
    if direction == "up":
        return ask(call("PUT"), f"Content-Length: {size}")
    return ask(call("GET", f"/{size}"))


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["upstream", folder, _]:
            _serve_upstream(Path(folder))
        case ["gateway", folder, upstream]:
            _serve_gateway(Path(folder), int(upstream))
        case _:
            main()
