"""An AWS that does what a test tells it to, byte for byte: over real sockets, with TLS or without."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from tests.gateway.web_server.client import Address

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@dataclass
class Line:
    """One accepted connection. `number` counts them from 0."""

    sock: socket.socket
    number: int
    received: bytes = b""

    def head(self) -> bytes | None:
        """The next request's head, None when the other side has closed."""
        while b"\r\n\r\n" not in self.received:
            if not self._more():
                return None
        head, _, self.received = self.received.partition(b"\r\n\r\n")
        return head

    def body(self, head: bytes) -> bytes:
        """Its body, by Content-Length or in chunks."""
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
        if fields.get(b"transfer-encoding") == b"chunked":
            out = b""
            while size := int(self._until(b"\r\n"), 16):
                out += self._exactly(size)
                self._exactly(2)
            self._exactly(2)
            return out
        return self._exactly(int(fields.get(b"content-length", b"0")))

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def ended(self) -> bool:
        """Wait for the other side to close."""
        try:
            while self._more():
                self.received = b""
        except OSError:
            pass
        return True

    def _until(self, end: bytes) -> bytes:
        while end not in self.received:
            self._must()
        line, _, self.received = self.received.partition(end)
        return line

    def _exactly(self, size: int) -> bytes:
        while len(self.received) < size:
            self._must()
        out, self.received = self.received[:size], self.received[size:]
        return out

    def _must(self) -> None:
        if not self._more():
            raise ConnectionError("cut off")

    def _more(self) -> bool:
        piece = self.sock.recv(65_536)
        self.received += piece
        return bool(piece)


Script = Callable[[Line], None]


def polite(answer: bytes = OK) -> Script:
    """Answers every request with these bytes."""

    def script(line: Line) -> None:
        while (head := line.head()) is not None:
            line.body(head)
            line.send(answer)

    return script


@dataclass
class Rude:
    """The server. `connections` counts what was accepted."""

    script: Script
    address: Address
    tls: bool
    connections: int = 0
    failures: list[BaseException] = field(default_factory=list)

    @property
    def origin(self) -> str:
        return f"http{'s' * self.tls}://{self.address[0]}:{self.address[1]}"


@contextlib.contextmanager
def rude(script: Script, context: ssl.SSLContext | None = None) -> Iterator[Rude]:
    """Serve by the script, each connection in a thread of its own."""
    listening = socket.create_server(("127.0.0.1", 0), backlog=128)
    server = Rude(script, listening.getsockname(), context is not None)
    lines: list[socket.socket] = []

    def serve(sock: socket.socket, number: int) -> None:
        try:
            with sock, context.wrap_socket(sock, server_side=True) if context else sock as used:
                lines.append(used)
                server.script(Line(used, number))
        except OSError:  # the other side broke off; what a test wants to know of that it asks for
            pass
        except BaseException as error:
            server.failures.append(error)

    def accept() -> None:
        while True:
            try:
                sock, _ = listening.accept()
            except OSError:
                return
            number, server.connections = server.connections, server.connections + 1
            threading.Thread(target=serve, args=(sock, number), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield server
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        for line in lines:
            with contextlib.suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)
    assert server.failures == []
