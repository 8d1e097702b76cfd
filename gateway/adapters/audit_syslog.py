"""A sink that is a syslog server: RFC 5424 messages, over TLS (RFC 5425) or to a Unix socket of this host.

Syslog has no acknowledgement. What comes nearest is waited for: that the other side's system has taken every byte, and
that it has not hung up. Only then does a batch count as delivered.
"""

import errno
import fcntl
import socket
import ssl
import struct
import termios
import time
from collections.abc import Sequence

from gateway.core.audit_formats import Outgoing
from gateway.core.sinks import SinkFailed

PATIENCE = 5.0  # seconds: to connect, to send a batch, and for it to be taken
_FACILITY = 13 * 8  # log audit
_NOTICE, _WARNING = 5, 4
_LOOK = 0.01


def message(each: Outgoing, host: str) -> bytes:
    """One record as a message (RFC 5424 section 6). The text is ASCII already, and has no line end."""
    severity = _NOTICE if each.allowed else _WARNING
    at = each.at.isoformat(timespec="microseconds").replace("+00:00", "Z")
    head = f"<{_FACILITY + severity}>1 {at} {host[:255]} trusted-gateway {each.chain[:128]} {each.name[:32]} - "
    return head.encode("ascii") + each.text.encode("ascii")


class AuditSyslog:
    """`ports.Sink`. `address` is `host:port`, with TLS by `context`; or the path of a Unix socket."""

    def __init__(self, address: str, node: str, context: ssl.SSLContext | None) -> None:
        self._address = address
        self._node = node
        self._context = context
        self._socket: socket.socket | None = None

    def deliver(self, batch: Sequence[Outgoing]) -> None:
        """Send, and wait until it is taken. Raises SinkFailed."""
        messages = [message(each, self._node) for each in batch]
        try:
            line = self._connected()
            if line.type == socket.SOCK_DGRAM:
                for each in messages:
                    line.send(each)
            else:
                # RFC 5425 section 4.3.1: the length in octets, a blank, the message.
                line.sendall(b"".join(b"%d %s" % (len(each), each) for each in messages))
            self._await_taken(line)
        except TimeoutError:
            self.close()
            raise SinkFailed("sink_slow", self._address) from None
        except ssl.SSLCertVerificationError as error:
            self.close()
            raise SinkFailed("sink_untrusted", f"{self._address}: {error.verify_message}") from None
        except OSError as error:
            self.close()
            raise SinkFailed("sink_failed", f"{self._address}: {error.strerror or type(error).__name__}") from None

    def close(self) -> None:
        """The next delivery connects again."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _connected(self) -> socket.socket:
        if self._socket is not None and not _hung_up(self._socket):
            return self._socket
        self.close()
        if self._address.startswith("/"):
            self._socket = _unix(self._address)
        else:
            host, _, port = self._address.rpartition(":")
            plain = socket.create_connection((host.strip("[]"), int(port)), timeout=PATIENCE)
            try:
                context = self._context or ssl.create_default_context()
                self._socket = context.wrap_socket(plain, server_hostname=host.strip("[]"))
            except BaseException:
                plain.close()
                raise
        return self._socket

    def _await_taken(self, line: socket.socket) -> None:
        end = time.monotonic() + PATIENCE
        while struct.unpack("i", fcntl.ioctl(line, termios.TIOCOUTQ, bytes(4)))[0]:  # SIOCOUTQ: not yet taken
            if time.monotonic() > end:
                raise TimeoutError
            time.sleep(_LOOK)
        if _hung_up(line):
            raise ConnectionResetError("hung up")


def _unix(path: str) -> socket.socket:
    """Most daemons take datagrams, some a stream."""
    for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
        line = socket.socket(socket.AF_UNIX, kind)
        line.settimeout(PATIENCE)
        try:
            line.connect(path)
            return line
        except OSError as error:
            line.close()
            if kind is socket.SOCK_STREAM or error.errno != errno.EPROTOTYPE:
                raise
    raise AssertionError


def _hung_up(line: socket.socket) -> bool:
    """Nothing is ever said to us: if there is something to read, it is the end."""
    if line.type == socket.SOCK_DGRAM:
        return False
    line.settimeout(0)
    try:
        return line.recv(1) == b""
    except (BlockingIOError, ssl.SSLWantReadError):
        return False
    except OSError:
        return True
    finally:
        line.settimeout(PATIENCE)
