"""Syslog: messages as RFC 5424 has them, framed as RFC 5425 has it, over TLS with its checks, and to Unix sockets."""

import re
import socket
import ssl
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from gateway.adapters import audit_syslog
from gateway.adapters.audit_syslog import AuditSyslog, message
from gateway.core.audit_formats import Outgoing
from gateway.core.sinks import SinkFailed

AT = datetime(2030, 1, 1, 12, 0, 0, 5, tzinfo=UTC)
# RFC 5424 section 6: PRI, version, time, host, application, process, message id, no structured data, message.
FORM = re.compile(
    rb"<(\d{1,3})>1 (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{1,6}Z) ([!-~]{1,255}) ([!-~]{1,48}) "
    rb"([!-~]{1,128}) ([!-~]{1,32}) - (.*)"
)


def record(seq: int, allowed: bool = True) -> Outgoing:
    return Outgoing("node-1.worker-0", seq, "instance:credentials:vend", allowed, AT, f'{{"seq":{seq}}}')


def test_a_message() -> None:
    found = FORM.fullmatch(message(record(7), "gw"))
    assert found
    at = b"2030-01-01T12:00:00.000005Z"
    assert found.groups() == (
        b"109", at, b"gw", b"trusted-gateway", b"node-1.worker-0", b"instance:credentials:vend", b'{"seq":7}'
    )  # fmt: skip
    refused = FORM.fullmatch(message(record(7, allowed=False), "gw"))
    assert refused
    assert refused[1] == b"108", "a warning"


def unframed(raw: bytes) -> list[bytes]:
    found = []
    while raw:
        length, _, raw = raw.partition(b" ")
        found.append(raw[: int(length)])
        assert FORM.fullmatch(found[-1])
        raw = raw[int(length) :]
    return found


@pytest.fixture
def server_context(tmp_path: Path) -> ssl.SSLContext:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(7)
        .not_valid_before(now - timedelta(hours=1)).not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    (tmp_path / "ca.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (tmp_path / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "ca.pem", tmp_path / "key.pem")
    return context


class Server:
    """Accepts one connection after the other, and does `serve` with each."""

    def __init__(self, context: ssl.SSLContext, serve: Callable[[ssl.SSLSocket, bytearray], None]) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.address = f"localhost:{self._listening.getsockname()[1]}"
        self.got = bytearray()
        self._context, self._serve = context, serve
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                plain, _ = self._listening.accept()
                with plain, self._context.wrap_socket(plain, server_side=True) as line:
                    self._serve(line, self.got)
            except OSError:
                if self._listening.fileno() < 0:
                    return

    def close(self) -> None:
        self._listening.close()


def take_all(line: ssl.SSLSocket, got: bytearray) -> None:
    while piece := line.recv(65536):
        got += piece


def test_over_tls(server_context: ssl.SSLContext, tmp_path: Path) -> None:
    server = Server(server_context, take_all)
    sink = AuditSyslog(server.address, "gw", ssl.create_default_context(cafile=tmp_path / "ca.pem"))
    sink.deliver([record(seq) for seq in range(1, 500)])
    sink.deliver([record(500)])
    sink.close()
    end = time.monotonic() + 5
    while len(unframed(bytes(server.got))) < 500:
        assert time.monotonic() < end
    assert [m.rpartition(b" ")[2] for m in unframed(bytes(server.got))] == [b'{"seq":%d}' % n for n in range(1, 501)]
    server.close()


def test_a_server_whose_certificate_is_not_of_the_ca_gets_nothing(server_context: ssl.SSLContext) -> None:
    server = Server(server_context, take_all)
    sink = AuditSyslog(server.address, "gw", ssl.create_default_context())
    with pytest.raises(SinkFailed, match="sink_untrusted"):
        sink.deliver([record(1)])
    assert not server.got
    server.close()


@pytest.mark.threat("I02")
def test_I02_a_server_that_stops_reading(
    server_context: ssl.SSLContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_syslog, "PATIENCE", 0.5)
    release = threading.Event()

    def late(line: ssl.SSLSocket, got: bytearray) -> None:
        release.wait(30)
        take_all(line, got)

    server = Server(server_context, late)
    sink = AuditSyslog(server.address, "gw", ssl.create_default_context(cafile=tmp_path / "ca.pem"))
    big = [Outgoing("c", seq, "a:b:c", True, AT, "x" * 60_000) for seq in range(200)]
    with pytest.raises(SinkFailed, match="sink_slow"):
        sink.deliver(big)
    release.set()
    sink.deliver([record(1)])  # it recovers, on a new connection
    sink.close()
    server.close()


def test_a_server_that_hangs_up_is_noticed(server_context: ssl.SSLContext, tmp_path: Path) -> None:
    server = Server(server_context, lambda line, got: got.extend(line.recv(65536)))
    sink = AuditSyslog(server.address, "gw", ssl.create_default_context(cafile=tmp_path / "ca.pem"))
    for seq in range(20):
        for _ in range(50):
            try:
                sink.deliver([record(seq)])
                break
            except SinkFailed:
                continue
        else:
            raise AssertionError("it never recovered")
        time.sleep(0.02)  # for the end of the line to arrive: before that nobody can know
    arrived = {each.rpartition(b" ")[2] for each in unframed(bytes(server.got))}
    assert arrived == {b'{"seq":%d}' % seq for seq in range(20)}, "what counted as delivered has arrived"
    sink.close()
    server.close()


@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_STREAM])
def test_a_unix_socket_of_either_kind(tmp_path: Path, kind: socket.SocketKind) -> None:
    listening = socket.socket(socket.AF_UNIX, kind)
    listening.bind(str(tmp_path / "log"))
    got: list[bytes] = []

    def serve() -> None:
        if kind is socket.SOCK_DGRAM:
            got.extend(listening.recv(65536) for _ in range(3))
        else:
            line, _ = listening.accept()
            while piece := line.recv(65536):
                got.append(piece)
            line.close()

    if kind is socket.SOCK_STREAM:
        listening.listen()
    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    sink = AuditSyslog(str(tmp_path / "log"), "gw", None)
    sink.deliver([record(seq) for seq in (1, 2, 3)])
    sink.close()
    thread.join(5)
    found = got if kind is socket.SOCK_DGRAM else unframed(b"".join(got))
    assert [each.rpartition(b" ")[2] for each in found] == [b'{"seq":1}', b'{"seq":2}', b'{"seq":3}']
    listening.close()


def test_no_socket_is_a_failure(tmp_path: Path) -> None:
    with pytest.raises(SinkFailed, match="sink_failed"):
        AuditSyslog(str(tmp_path / "none"), "gw", None).deliver([record(1)])
