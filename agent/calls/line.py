"""A connection on which no wait is without end, and none goes on when whoever it is for has gone."""

import select
import socket
import ssl
import time
from collections.abc import Callable

PIECE = 256 * 1024
"""Bytes of a body that are in hand at one time."""


class Gone(ConnectionError):
    """The partner of a connection has gone."""


class Line:
    """A TCP or TLS connection. Waits end after the seconds given (TimeoutError), and at once when `partner`, the
    connection on whose behalf this one is used, is closed by its other end (Gone). Raises OSError besides.
    """

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self.partner: socket.socket | None = None
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def receive_into(self, buffer: memoryview, wait: float) -> int:
        """How many bytes came; 0 at the end."""
        deadline = time.monotonic() + wait
        while True:
            try:
                return self.socket.recv_into(buffer)
            except (BlockingIOError, ssl.SSLWantReadError):
                self._wait(select.POLLIN, deadline)
            except ssl.SSLWantWriteError:
                self._wait(select.POLLOUT, deadline)

    def receive_now(self, buffer: memoryview) -> int | None:
        """How many bytes are there at this moment, 0 at the end, None for none."""
        try:
            return self.socket.recv_into(buffer)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return None

    def send(self, piece: bytes | bytearray | memoryview, wait: float, heed: Callable[[], bool] | None = None) -> bool:
        """Send all of it; `wait` is for each step. `heed` is asked when the other end speaks meanwhile: True ends the
        sending, and then the answer is False.
        """
        left = memoryview(piece).cast("B")
        while left:
            try:
                left = left[self.socket.send(left) :]
            except (BlockingIOError, ssl.SSLWantWriteError):
                ready = self._wait(select.POLLOUT | (select.POLLIN if heed else 0), time.monotonic() + wait)
                if heed and ready & select.POLLIN and heed():
                    return False
            except ssl.SSLWantReadError:
                self._wait(select.POLLIN, time.monotonic() + wait)
        return True

    @property
    def quiet(self) -> bool:
        """Whether it is open, and nothing came that was not asked for."""
        if isinstance(self.socket, ssl.SSLSocket) and self.socket.pending():
            return False
        poll = select.poll()
        poll.register(self.socket, select.POLLIN | select.POLLRDHUP)
        return not poll.poll(0)

    def reset(self) -> None:
        """Close so that the other end cannot take it for a clean end (tcp(7): SO_LINGER with no time)."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        self.socket.close()

    def close(self) -> None:
        """Close it."""
        self.socket.close()

    def _wait(self, events: int, deadline: float) -> int:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        poll = select.poll()
        poll.register(self.socket, events)
        partner = self.partner.fileno() if self.partner else -1
        if partner >= 0:
            poll.register(partner, select.POLLRDHUP)
        ready = dict(poll.poll(left * 1000 + 1))
        if partner in ready:
            raise Gone("the client has gone")
        return ready.get(self.socket.fileno(), 0)
