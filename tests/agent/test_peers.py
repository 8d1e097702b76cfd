"""The user behind a TCP connection: found by both ends, among thousands, and never guessed."""

import os
import socket
import subprocess
import sys

import pytest

from agent.serve import peers

# From /proc/net/tcp, of a little-endian machine.
TABLE = b"""\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:26B8 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1456 1 0000000000000000 100
   1: 0100007F:26B8 0100007F:D431 01 00000000:00000000 00:00000000 00000000     0        0 2000 1 0000000000000000 20
   2: 0100007F:D431 0100007F:26B8 01 00000000:00000000 00:00000000 00000000    33        0 2001 1 0000000000000000 20
   3: 0100007F:D432 0100007F:26B8 06 00000000:00000000 03:00001735 00000000     0        0 0 3 0000000000000000
   4: 0100007F:D433 0100007F:26B8 05 00000000:00000000 00:00000000 00000000     0        0 0 1 0000000000000000
   5: 0100007F:D434 0100007F:26B8 01 00000000:00000000 00:00000000 00000000     0        0 0 1 0000000000000000
"""
US = ("127.0.0.1", 0x26B8)


def test_it_is_the_peers_line_that_counts() -> None:
    assert peers.find(TABLE, ("127.0.0.1", 0xD431), US) == 33
    assert peers.find(TABLE, US, ("127.0.0.1", 0xD431)) == 0, "which is the other end's"


@pytest.mark.parametrize(
    ("what", "port"), [("not there", 0xD430), ("waiting", 0xD432), ("closed", 0xD433), ("nobody's", 0xD434)]
)
def test_a_connection_that_no_process_holds_is_nobodys(what: str, port: int) -> None:
    assert peers.find(TABLE, ("127.0.0.1", port), US) is None, f"{what}: its uid reads 0, and it is not root's"


def test_another_address_with_the_same_port_is_another() -> None:
    assert peers.find(TABLE, ("127.0.0.2", 0xD431), US) is None
    assert peers.find(TABLE, ("127.0.0.1", 0xD431), ("127.0.0.2", US[1])) is None


CALL = """
import socket, sys
with socket.socket(int(sys.argv[1])) as client:
    client.connect((sys.argv[2], int(sys.argv[3])))
    sys.stdin.readline()
"""


@pytest.mark.parametrize(
    ("listening", "calling", "address"),
    [
        (socket.AF_INET, socket.AF_INET, "127.0.0.1"),
        (socket.AF_INET6, socket.AF_INET6, "::1"),
        (socket.AF_INET, socket.AF_INET6, "::ffff:127.0.0.1"),  # as Java does
    ],
)
def test_real_connections(listening: socket.AddressFamily, calling: socket.AddressFamily, address: str) -> None:
    with socket.socket(listening) as server:
        server.bind((address.removeprefix("::ffff:"), 0))
        server.listen()
        words = [sys.executable, "-c", CALL, str(int(calling)), address, str(server.getsockname()[1])]
        with subprocess.Popen(words, stdin=subprocess.PIPE) as client:
            accepted, _ = server.accept()
            with accepted:
                ends = accepted.getpeername()[:2], accepted.getsockname()[:2]
                assert peers.uid_of(*ends) == os.getuid()
                client.communicate(b"\n")
                assert peers.uid_of(*ends) is None, "it has gone"
