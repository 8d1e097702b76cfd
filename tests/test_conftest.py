"""The guards themselves."""

import socket
from pathlib import Path

import pytest

from tests.conftest import Known


def test_the_network_guard_stops_other_machines_and_lets_loopback_through() -> None:
    with socket.socket() as outward, pytest.raises(AssertionError, match=r"192\.0\.2\.1"):
        outward.connect(("192.0.2.1", 80))
    with pytest.raises(AssertionError, match="aws"):
        socket.getaddrinfo("sts.amazonaws.com", 443)
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()):
        pass


def test_a_known_secret_is_found_in_text_and_in_a_growing_log(tmp_path: Path) -> None:
    known, log = Known(), tmp_path / "x.log"
    known.add("hunter2-hunter2")
    known.watch(log)
    assert not known.leaked("nothing here")
    assert known.leaked("it is hunter2-hunter2.")
    log.write_text("first line\n")
    assert not known.leaked("")
    with log.open("a") as file:
        file.write("then hunter2-hunter2\n")
    assert known.leaked("")
