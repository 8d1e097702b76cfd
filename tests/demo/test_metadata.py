"""The metadata service keeps IMDSv2's rules (threat J01), and says nothing of what passes through it."""

import http.client
import json
import socket
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from botocore.utils import InstanceMetadataRegionFetcher

from deploy.demo.ec2_document import DocumentAuthority, identity_document
from deploy.demo.metadata import TOKEN, TTL, Metadata, MetadataServer, resources

SIGNED = DocumentAuthority("eu-central-1").sign(
    identity_document(
        account="111122223333",
        region="eu-central-1",
        instance_id="i-0123456789abcdef0",
        image_id="ami-0abcdef1234567890",
        private_ip="10.0.1.2",
        launch_time=datetime(2026, 11, 22, 10, 0, 0, tzinfo=UTC),
    )
)


def found(user_data: str | None) -> dict[str, str]:
    return resources(
        instance_id="i-0123456789abcdef0",
        region="eu-central-1",
        private_ip="10.0.1.2",
        image_id="ami-0abcdef1234567890",
        signed=SIGNED,
        user_data=user_data,
    )


FOUND = found("#cloud-config\n#trusted-gateway {}\n")


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@contextmanager
def served(resources: dict[str, str]) -> Iterator[MetadataServer]:
    with MetadataServer(resources, clock=Clock()) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def server() -> Iterator[MetadataServer]:
    with served(FOUND) as server:
        yield server


def ask(port: int, method: str, path: str, **headers: str) -> tuple[int, str, dict[str, str]]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        return answer.status, answer.read().decode(), {name.lower(): value for name, value in answer.getheaders()}
    finally:
        connection.close()


def get(port: int, path: str, token: str | None, **headers: str) -> tuple[int, str]:
    return ask(port, "GET", path, **headers, **({} if token is None else {TOKEN: token}))[:2]


def token_of(port: int, ttl: int = 60) -> str:
    status, token, headers = ask(port, "PUT", "/latest/api/token", **{TTL: str(ttl)})
    assert (status, headers[TTL.lower()]) == (200, str(ttl))
    assert headers["content-type"] == "text/plain"
    return token


@pytest.mark.parametrize("resource", FOUND)
def test_every_resource_is_served_with_a_token_only(server: MetadataServer, resource: str) -> None:
    path = f"/latest/{resource}"
    assert get(server.server_port, path, token_of(server.server_port)) == (200, FOUND[resource])
    assert get(server.server_port, path, None) == (401, "")
    assert get(server.server_port, path, "AQAEAFoo") == (401, "")


def test_the_document_arrives_byte_for_byte(server: MetadataServer) -> None:
    path = "/latest/dynamic/instance-identity/document"
    assert get(server.server_port, path, token_of(server.server_port))[1].encode() == SIGNED.document


@pytest.mark.parametrize(
    "path", ["//latest/meta-data/ami-id", "/latest/meta-data/ami-id/", "/latest/meta-data/ami-id?x"]
)
def test_slashes_that_real_clients_send(server: MetadataServer, path: str) -> None:
    assert get(server.server_port, path, token_of(server.server_port)) == (200, "ami-0abcdef1234567890")
    assert get(server.server_port, path, None) == (401, "")


def test_an_unmodified_client_reads_it(server: MetadataServer) -> None:
    fetcher = InstanceMetadataRegionFetcher(config={"ec2_metadata_service_endpoint": server.endpoint})
    assert fetcher.retrieve_region() == "eu-central-1"


@pytest.mark.parametrize("path", ["/latest/meta-data/iam/security-credentials/", "/latest/", "/", "/meta-data/ami-id"])
def test_unknown_resources(server: MetadataServer, path: str) -> None:
    assert get(server.server_port, path, token_of(server.server_port)) == (404, "")


def test_an_instance_without_user_data() -> None:
    with served(found(user_data=None)) as server:
        assert get(server.server_port, "/latest/user-data", token_of(server.server_port)) == (404, "")


@pytest.mark.threat("J01")
class TestJ01:
    @pytest.mark.parametrize("ttl", ["0", "21601", "-1", "", "60s", "１２", "99999999999999999999"])
    def test_time_to_live_out_of_range(self, server: MetadataServer, ttl: str) -> None:
        assert ask(server.server_port, "PUT", "/latest/api/token", **{TTL: ttl.encode().decode("latin-1")})[0] == 400

    @pytest.mark.parametrize("ttl", [1, 21600])
    def test_time_to_live_at_the_limits(self, server: MetadataServer, ttl: int) -> None:
        assert token_of(server.server_port, ttl)

    def test_time_to_live_missing(self, server: MetadataServer) -> None:
        assert ask(server.server_port, "PUT", "/latest/api/token")[0] == 400

    def test_token_ends(self, server: MetadataServer) -> None:
        token = token_of(server.server_port, ttl=60)
        clock = server.clock
        assert isinstance(clock, Clock)
        clock.now += 59.9
        assert get(server.server_port, "/latest/meta-data/ami-id", token)[0] == 200
        clock.now += 0.1
        assert get(server.server_port, "/latest/meta-data/ami-id", token)[0] == 401

    def test_forwarded_requests(self, server: MetadataServer) -> None:
        forwarded = {"X-Forwarded-For": "203.0.113.9"}
        assert ask(server.server_port, "PUT", "/latest/api/token", **{TTL: "60"}, **forwarded)[0] == 403
        token = token_of(server.server_port)
        assert get(server.server_port, "/latest/meta-data/ami-id", token, **forwarded) == (403, "")

    def test_get_for_a_token(self, server: MetadataServer) -> None:
        assert ask(server.server_port, "GET", "/latest/api/token", **{TTL: "60"})[0] == 405

    @pytest.mark.parametrize("path", ["/2021-03-23/api/token", "/latest/meta-data/ami-id", "/api/token"])
    def test_put_elsewhere(self, server: MetadataServer, path: str) -> None:
        assert ask(server.server_port, "PUT", path, **{TTL: "60"})[0] == 403

    def test_hop_limit_and_loopback(self, server: MetadataServer) -> None:
        assert server.socket.getsockopt(socket.IPPROTO_IP, socket.IP_TTL) == 1
        assert server.socket.getsockname()[0] == "127.0.0.1"


def test_as_a_process_of_its_own_it_leaves_nothing_and_prints_nothing(tmp_path: Path) -> None:
    with Metadata(FOUND, tmp_path) as metadata:
        port = int(metadata.endpoint.removeprefix("http://127.0.0.1:").removesuffix("/"))
        token = token_of(port)
        assert get(port, "/latest/user-data", token) == (200, FOUND["user-data"])
        assert get(port, "/latest/user-data", None) == (401, "")
        assert [path.name for path in tmp_path.iterdir()] == ["metadata.log"]
    assert (tmp_path / "metadata.log").read_bytes() == b""
    with pytest.raises(ConnectionRefusedError):
        token_of(port)


def test_it_stays_when_it_is_to_be_kept(tmp_path: Path) -> None:
    with Metadata(FOUND, tmp_path, keep=True) as metadata:
        port = int(metadata.endpoint.removeprefix("http://127.0.0.1:").removesuffix("/"))
    assert token_of(port)
    metadata.stop()
    with pytest.raises(ConnectionRefusedError):
        token_of(port)


def test_configuration_is_for_its_owner_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It holds a ticket. A service that does not start says so, and where to look."""
    monkeypatch.setattr("deploy.demo.metadata.__name__", "deploy.demo.absent")
    seen: list[int] = []
    unlink = Path.unlink

    def watched(path: Path) -> None:
        seen.append(stat.S_IMODE(path.stat().st_mode))
        assert json.loads(path.read_bytes()) == FOUND
        unlink(path)

    monkeypatch.setattr(Path, "unlink", watched)
    with pytest.raises(RuntimeError, match=r"did not start; see .*metadata\.log"):
        Metadata(FOUND, tmp_path).__enter__()
    assert seen == [0o600]
    assert "deploy.demo.absent" in (tmp_path / "metadata.log").read_text()
