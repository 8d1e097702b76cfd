"""The doors of the agent: sockets that listen, one thread that waits at all of them, a thread for each conversation.

A door has room for `MOST` conversations, so that whoever crowds one leaves the others open.
"""

import io
import logging
import os
import selectors
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Hashable, Iterable
from contextlib import suppress
from typing import Any

from agent.errors import Fault
from agent.settings import Address

log = logging.getLogger("agent.serve")

LONGEST_HEAD = 5.0
"""Seconds in which a request's head must have come, and an answer must have been taken."""
MOST = 128
"""Conversations at one time at one door; more are closed at once."""
MOST_EACH = 32
"""Of these, for one user, where the door knows who comes."""


def listen(address: Address, setting: str) -> socket.socket:
    """A TCP socket that listens there. `setting` names the setting, for the hint. Raises Fault `listen_failed`."""
    listening = socket.socket(socket.AF_INET6 if ":" in address.host else socket.AF_INET)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((address.host, address.port))
        listening.listen(MOST)
    except OSError as failure:
        listening.close()
        hint = f"Another agent may run here; set '{setting}' to another port, or to port 0."
        raise Fault("listen_failed", f"{address}: {failure.strerror}", hint) from None
    return listening


def listen_unix(name: str, directory: int) -> socket.socket:
    """A Unix socket of this name in the directory, open to every user: who asks is known by SO_PEERCRED (unix(7)).

    Raises Fault `listen_failed`.
    """
    listening = socket.socket(socket.AF_UNIX)
    path = f"/proc/self/fd/{directory}/{name}"  # the directory that was checked, and a path that is never too long
    try:
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=directory)
        listening.bind(path)
        os.chmod(path, 0o666)  # noqa: S103  # the kernel says who asks
        listening.listen(MOST)
    except OSError as failure:
        listening.close()
        raise Fault("listen_failed", f"{name}: {failure.strerror}", "Check the run directory.") from None
    return listening


def uid_of_unix_peer(connection: socket.socket) -> int:
    """Who connected, as the kernel knows him. Raises OSError."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("iII"))
    return int(struct.unpack("iII", credentials)[1])


class Door:
    """A listening socket, and the conversation that is had with each who comes: `talk` may raise OSError.

    `who`, where there is one, tells comers apart, each of whom gets a part of the room. It may raise OSError. `most`
    conversations have room at one time (None: `MOST`).
    """

    def __init__(
        self,
        listening: socket.socket,
        talk: Callable[[socket.socket], None],
        who: Callable[[socket.socket], Hashable] | None = None,
        most: int | None = None,
    ) -> None:
        self.socket, self._talk, self._who, self._most = listening, talk, who, most
        self._inside: Counter[Hashable] = Counter()
        self._lock = threading.Lock()
        listening.setblocking(False)

    @property
    def inside(self) -> int:
        """How many conversations there are now."""
        with self._lock:
            return self._inside.total()

    def admit(self) -> None:
        """Begin the conversation with whoever waits, if there is room."""
        try:
            connection, _ = self.socket.accept()
        except BlockingIOError:  # gone again
            return
        except OSError as error:
            log.error("no connection can be accepted: %s", error.strerror)
            time.sleep(0.1)  # out of descriptors: this would fail again at once
            return
        try:
            caller = self._who(connection) if self._who else None
        except OSError:
            connection.close()
            return
        with self._lock:
            full = self._inside.total() >= (self._most or MOST) or (self._who and self._inside[caller] >= MOST_EACH)
            if not full:
                self._inside[caller] += 1
        if full:
            connection.close()
            return
        try:
            threading.Thread(target=self._converse, args=(connection, caller), daemon=True).start()
        except RuntimeError:  # the system has no thread left for us
            self._converse(None, caller)
            connection.close()

    def _converse(self, connection: socket.socket | None, caller: Hashable) -> None:
        try:
            if connection is not None:
                self._talk(connection)
                connection.shutdown(socket.SHUT_WR)
        except OSError:
            """A client that went away is no news."""
        except Exception as error:  # a mistake of ours ends one conversation, and is told in one line
            log.error("loopback request failed: %s", type(error).__name__)
        finally:
            with self._lock:
                self._inside -= Counter([caller])  # which drops whom it leaves with none
            if connection is not None:
                connection.close()


class Porter:
    """Waits at all doors, in one thread, until it is told to end."""

    def __init__(self) -> None:
        self._bell, self._rope = socket.socketpair()
        self._serving = threading.Lock()

    def serve(self, doors: Iterable[Door]) -> None:
        """Admit whoever comes, until `close`."""
        with self._serving, selectors.DefaultSelector() as selector:
            if self._bell.fileno() < 0:  # closed before it began
                return
            selector.register(self._bell, selectors.EVENT_READ)
            for door in doors:
                selector.register(door.socket, selectors.EVENT_READ, door)
            while True:
                for key, _ in selector.select():
                    if key.data is None:
                        return
                    key.data.admit()

    def close(self) -> None:
        """Let `serve` end, and wait until it has."""
        self._rope.close()
        with self._serving:
            self._bell.close()


class Head(io.RawIOBase):
    """A socket that is read until a deadline, however slowly it drips."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection, self._deadline = connection, time.monotonic() + LONGEST_HEAD

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._connection.settimeout(left)
        return self._connection.recv_into(buffer)
