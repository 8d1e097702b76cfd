"""What the measurements of requests share: whose CPU, on which machine, clients that press, and nginx beside us."""

import os
import platform
import shutil
import socket
import ssl
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from tests.gateway.web_server.client import until

PIECE = bytes(256 * 1024)
_TICKS = os.sysconf("SC_CLK_TCK")

_NGINX = """
worker_processes 1; daemon off; master_process off; pid {folder}/pid; error_log stderr crit;
events {{ worker_connections 1024; }}
http {{
  access_log off; client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s; client_max_body_size 0; keepalive_requests 1000000;
  upstream aws {{ server 127.0.0.1:{upstream}; keepalive 32; keepalive_requests 1000000; }}
  server {{
    listen 127.0.0.1:{port} ssl; ssl_certificate {folder}/server.pem; ssl_certificate_key {folder}/server.pem;
    ssl_client_certificate {folder}/ca.pem; ssl_verify_client on; ssl_protocols TLSv1.3;
    location = /livez {{ return 204; }}
    location / {{
      proxy_pass {scheme}://aws; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off;
      proxy_set_header Host $http_host; proxy_request_buffering off; proxy_ssl_protocols TLSv1.2 TLSv1.3;
    }}
  }}
}}
"""


@dataclass
class Row:
    """One kind of request: to which processes it goes, how a client (by its number) connects, and what it sends.

    `request` is made anew for each measurement, since a signature is good for minutes; `body` is how many bytes of
    nothing follow it. After measurements `rates` are requests a second, `costs` seconds of CPU for each request.
    """

    name: str
    pids: Callable[[], Sequence[int]]
    connect: Callable[[int], ssl.SSLSocket]
    request: Callable[[int], bytes]
    clients: int = 1
    body: int = 0
    rates: list[float] = field(default_factory=list)
    costs: list[float] = field(default_factory=list)

    def measure(self, seconds: float) -> None:
        """Press for so long, after one request of each client that warms everything up."""
        over, done = threading.Event(), list[None]()
        ready, begun = threading.Barrier(self.clients + 1), threading.Event()

        def press(number: int) -> None:
            request = self.request(number)
            with self.connect(number) as sock:
                one(sock, request, self.body)
                ready.wait(60)
                begun.wait()
                while not over.is_set():
                    one(sock, request, self.body)
                    done.append(None)

        failed: list[BaseException] = []
        threads = [threading.Thread(target=_keeping, args=(press, n, failed, ready)) for n in range(self.clients)]
        for each in threads:
            each.start()
        try:
            ready.wait(60)
        except threading.BrokenBarrierError:
            raise SystemExit(f"{self.name}: {failed}") from None
        cpu, since = cpu_of(self.pids()), time.perf_counter()
        begun.set()
        over.wait(seconds)
        over.set()
        for each in threads:
            each.join()
        elapsed = time.perf_counter() - since
        if failed:
            raise SystemExit(f"{self.name}: {failed}")
        self.rates.append(len(done) / elapsed)
        self.costs.append((cpu_of(self.pids()) - cpu) / len(done))

    @property
    def cost(self) -> float:
        """Seconds of CPU of a request: the median of the measurements."""
        return statistics.median(self.costs)

    def told(self) -> str:
        """The row, in milliseconds, with the least and the most of the measurements."""
        ms = [1000 * each for each in (self.cost, min(self.costs), max(self.costs))]
        return f"{self.name:34}{statistics.median(self.rates):9.1f}{ms[0]:10.3f}  {f'{ms[1]:.3f}-{ms[2]:.3f}':18}"

    def times(self, other: "Row") -> float:
        """How many times what the other costs: the median of the rounds, each with what was measured next to it."""
        return statistics.median(one / two for one, two in zip(self.costs, other.costs, strict=True))


HEADINGS = f"{'':34}{'per s':>9}{'CPU ms':>10}  {'least-most':18}"


def _keeping(press: Callable[[int], None], number: int, failed: list[BaseException], ready: threading.Barrier) -> None:
    try:
        press(number)
    except BaseException as error:
        failed.append(error)
        ready.abort()


def one(sock: ssl.SSLSocket, head: bytes, body: int) -> None:
    """One request, and its whole answer. Raises ConnectionError for an answer that is not 2xx, or cut off."""
    if body <= len(PIECE):
        sock.sendall(head + PIECE[:body])
    else:
        sock.sendall(head)
        while body:
            piece = PIECE[:body]
            sock.sendall(piece)
            body -= len(piece)
    raw = b""
    while b"\r\n\r\n" not in raw:
        raw += _some(sock)
    found, _, rest = raw.partition(b"\r\n\r\n")
    if not found.startswith(b"HTTP/1.1 2"):
        raise ConnectionError(f"refused: {raw!r}")
    lengths = [line for line in found.lower().split(b"\r\n") if line.startswith(b"content-length")]
    missing = int(lengths[0].split(b":")[1]) - len(rest) if lengths else 0
    while missing:
        missing -= len(_some(sock, min(missing, len(PIECE))))


def _some(sock: ssl.SSLSocket, most: int = 65_536) -> bytes:
    piece = sock.recv(most)
    if not piece:
        raise ConnectionError("the answer was cut off")
    return piece


def connected(context: ssl.SSLContext, port: int) -> ssl.SSLSocket:
    """A connection to a server on loopback."""
    plain = socket.create_connection(("127.0.0.1", port), 60)
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return context.wrap_socket(plain, server_hostname="127.0.0.1")


def cpu_of(pids: Sequence[int]) -> float:
    """Seconds that the processes have used, proc(5)."""
    fields = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in pids]
    return sum(int(user) + int(system) for user, system in (each[11:13] for each in fields)) / _TICKS


@contextmanager
def nginx(folder: Path, upstream: int, *, scheme: str = "https") -> Iterator[tuple[int, int] | None]:
    """A plain reverse proxy with one worker; `folder` has the keys. Its process id and port; None where it is missing.

    TLS with client certificates in front; it keeps connections. (It does not verify an upstream by TLS: it cannot,
    where a certificate names an address.)
    """
    if not shutil.which("nginx"):
        print("no nginx to compare with (apt-get install nginx-light)")
        yield None
        return
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port: int = sock.getsockname()[1]
    (folder / "nginx.conf").write_text(_NGINX.format(folder=folder, port=port, upstream=upstream, scheme=scheme))
    with subprocess.Popen(["nginx", "-p", str(folder), "-c", "nginx.conf"]) as process:  # noqa: S603, S607
        try:
            until(lambda: _listens(port))
            yield process.pid, port
        finally:
            process.terminate()


def _listens(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def machine() -> str:
    """What it was measured on, and what else that does."""
    cpus = Path("/proc/cpuinfo").read_text().split("\n")
    model = next((line.partition(":")[2].strip() for line in cpus if line.startswith("model name")), platform.machine())
    parts = [f"Python {platform.python_version()}", ssl.OPENSSL_VERSION.rsplit(" ", 3)[0]]
    parts += [f"{name} {version(name)}" for name in ("gunicorn", "uvloop", "Flask", "SQLAlchemy")]
    if program := shutil.which("nginx"):
        said = subprocess.run([program, "-v"], capture_output=True, text=True, check=True)  # noqa: S603
        parts.append(said.stderr.partition(":")[2].strip().replace("/", " "))
    load = " ".join(f"{each:.1f}" for each in os.getloadavg())
    return f"{os.cpu_count()} x {model}; {', '.join(parts)}; load average {load}"
