import json
import logging
import socket
import ssl

import pytest

from tests.gateway.web_server.client import connected, get, read_all, read_one, send, until
from tests.gateway.web_server.pki import Pki
from tests.gateway.web_server.serving import Serving


def _certificate(secure: Serving, context: ssl.SSLContext) -> bytes | None:
    with connected(secure.address, context) as sock:
        sock.sendall(get("/peer"))
        found = json.loads(read_one(sock).body)["certificate"]
    return None if found is None else bytes.fromhex(found)


@pytest.mark.threat("C01")
def test_the_certificate_is_that_of_the_socket(secure: Serving, pki: Pki) -> None:
    assert _certificate(secure, pki.client_context("client")) == pki.certificate("client")
    assert _certificate(secure, pki.client_context()) is None


def test_a_resumed_session_shows_the_same_certificate(secure: Serving, pki: Pki) -> None:
    context = pki.client_context("client")
    with connected(secure.address, context) as first:
        assert isinstance(first, ssl.SSLSocket)
        first.sendall(get("/inline"))
        read_one(first)  # and with it the ticket
        session = first.session
    bare = socket.create_connection(secure.address)
    with context.wrap_socket(bare, server_hostname="127.0.0.1", session=session) as second:
        assert second.session_reused
        second.sendall(get("/peer"))
        assert bytes.fromhex(json.loads(read_one(second).body)["certificate"]) == pki.certificate("client")


def test_a_certificate_of_another_ca_is_refused(secure: Serving, pki: Pki, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        with pytest.raises((ssl.SSLError, ConnectionError)):
            _certificate(secure, pki.client_context("stranger"))
        until(lambda: secure.counters.handshake_failures == 1)
    assert caplog.records == []
    assert secure.counters.connections == 0
    assert _certificate(secure, pki.client_context("client")) is not None


def test_tls_1_2_is_refused(secure: Serving, pki: Pki) -> None:
    context = pki.client_context("client")
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises((ssl.SSLError, ConnectionError)):
        _certificate(secure, context)


@pytest.mark.threat("C20")
@pytest.mark.parametrize("raw", [get("/inline"), b"PROXY TCP4 1.2.3.4 1.2.3.4 1 1\r\n", bytes(500)])
def test_what_is_no_tls_is_not_answered(secure: Serving, raw: bytes) -> None:
    with connected(secure.address) as sock:
        sock.sendall(raw)
        assert b"HTTP" not in read_all(sock)
    until(lambda: secure.counters.handshake_failures == 1)


def test_tls_on_the_plain_listener_is_refused_at_once(plain: Serving, pki: Pki) -> None:
    with pytest.raises(ssl.SSLError):
        send(plain.address, get("/inline"), pki.client_context())
    assert plain.counters.refused == 1


def test_a_connection_is_ended_with_close_notify(secure: Serving, pki: Pki) -> None:
    bare, context = socket.create_connection(secure.address), pki.client_context()
    with context.wrap_socket(bare, server_hostname="127.0.0.1", suppress_ragged_eofs=False) as sock:
        sock.sendall(get("/last"))
        read_one(sock)
        assert sock.recv(1) == b""
