"""The metadata service (IMDSv2) of one pretended instance, as a process of its own on loopback.

AWS: "Use the Instance Metadata Service to access instance metadata" (configuring-instance-metadata-service.html,
instancedata-data-retrieval.html). Version 1 is off: nothing is answered without a token.

    python -m deploy.demo.metadata --config FILE.json --port 0 [--ready-fd N]

FILE.json maps paths below /latest/ to texts (see `resources`). Nothing that it serves is ever printed.
"""

import argparse
import json
import os
import re
import secrets
import socket
import sys
import time
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from subprocess import Popen
from types import TracebackType
from typing import Self

from deploy.demo import REPOSITORY, end, spawn
from deploy.demo.ec2_document import SignedDocument

TTL = "X-aws-ec2-metadata-token-ttl-seconds"
TOKEN = "X-aws-ec2-metadata-token"  # noqa: S105 (the name of a header)
LONGEST_TTL = 21600


def resources(
    *,
    instance_id: str,
    region: str,
    private_ip: str,
    image_id: str,
    signed: SignedDocument,
    user_data: str | None = None,
) -> dict[str, str]:
    """What an instance finds below /latest/. There is no IAM role: this instance has no credentials."""
    identity = "dynamic/instance-identity"
    found = {
        "meta-data/instance-id": instance_id,
        "meta-data/ami-id": image_id,
        "meta-data/local-ipv4": private_ip,
        "meta-data/placement/region": region,
        "meta-data/placement/availability-zone": f"{region}a",
        f"{identity}/document": signed.document.decode(),
        f"{identity}/rsa2048": signed.rsa2048,
        f"{identity}/signature": signed.signature,
    }
    return found if user_data is None else {**found, "user-data": user_data}


class MetadataServer(ThreadingHTTPServer):
    """Serves `resources` on 127.0.0.1; `clock` (seconds) ends the tokens."""

    def __init__(
        self, resources: Mapping[str, str], port: int = 0, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        # The hop limit of 1: an answer does not leave the machine. Accepted sockets inherit it.
        self.socket.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 1)
        self.resources = dict(resources)
        self.clock = clock
        self.tokens: dict[str, float] = {}

    @property
    def endpoint(self) -> str:
        """For AWS_EC2_METADATA_SERVICE_ENDPOINT, with the slash at the end that the AWS CLI needs."""
        return f"http://127.0.0.1:{self.server_port}/"


class _Handler(BaseHTTPRequestHandler):
    server: MetadataServer
    server_version, sys_version = "EC2ws", ""
    timeout = 5

    def do_PUT(self) -> None:
        ttl = self.headers.get(TTL, "")
        if self._is_forwarded() or self._resource() != "api/token":
            self._answer(403)
        elif not re.fullmatch("[0-9]{1,5}", ttl) or not 1 <= int(ttl) <= LONGEST_TTL:
            self._answer(400)
        else:
            token = secrets.token_urlsafe(42)
            self.server.tokens[token] = self.server.clock() + int(ttl)
            self._answer(200, token, ttl)

    def do_GET(self) -> None:
        resource = self._resource()
        if self._is_forwarded():
            self._answer(403)
        elif resource == "api/token":
            self._answer(405)
        elif self.server.tokens.get(self.headers.get(TOKEN, ""), float("-inf")) <= self.server.clock():
            self._answer(401)
        elif resource not in self.server.resources:
            self._answer(404)
        else:
            self._answer(200, self.server.resources[resource])

    def _is_forwarded(self) -> bool:
        return "X-Forwarded-For" in self.headers

    def _resource(self) -> str:
        """What is asked below /latest/. Java's SDK asks for //latest/…, and slashes at the end say nothing."""
        version, _, resource = self.path.partition("?")[0].strip("/").partition("/")
        return resource if version == "latest" else ""

    def _answer(self, status: int, text: str = "", ttl: str | None = None) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        if ttl:
            self.send_header(TTL, ttl)  # the Go SDK reads no token without it
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: what passes here holds tickets and tokens."""


class Metadata:
    """A metadata service in a process of its own: `with Metadata(resources(…), folder) as metadata: metadata.endpoint`.

    It ends with the `with`, or with us, unless `keep`; then `stop()` ends it.
    """

    def __init__(self, resources: Mapping[str, str], folder: Path, *, keep: bool = False) -> None:
        self._resources, self._folder, self._keep = resources, folder, keep
        self._process: Popen[bytes] | None = None
        self.endpoint = ""

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True)
        config, log = self._folder / "metadata.json", self._folder / "metadata.log"
        config.touch(mode=0o600, exist_ok=False)
        config.write_text(json.dumps(dict(self._resources)))
        readable, writable = os.pipe()
        with open(readable) as ready:
            arguments: list[str | Path] = ["--config", config, "--port", "0", "--ready-fd", str(writable)]
            self._process = spawn(
                [sys.executable, "-m", __name__, *arguments],
                folder=REPOSITORY,
                environment={},
                log=log,
                inherit=[writable],
                keep=self._keep,
            )
            os.close(writable)
            port = ready.read().strip()
        config.unlink()
        if not port:
            self.stop()
            raise RuntimeError(f"the metadata service did not start; see {log}")
        self.endpoint = f"http://127.0.0.1:{port}/"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._keep:
            self.stop()

    @property
    def pids(self) -> list[int]:
        """The processes that run."""
        return [self._process.pid] if self._process else []

    def stop(self) -> None:
        """End the process, if it runs."""
        if self._process:
            end(self._process)


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser(prog="python -m deploy.demo.metadata", description="IMDSv2 on loopback.")
    parser.add_argument("--config", type=Path, required=True, help="JSON: paths below /latest/ → texts")
    parser.add_argument("--port", type=int, default=0, help="0 takes any free port")
    parser.add_argument("--ready-fd", type=int, default=1, help="where to write the port once it listens")
    arguments = parser.parse_args()
    with MetadataServer(json.loads(arguments.config.read_bytes()), arguments.port) as server:
        with open(arguments.ready_fd, "w", closefd=arguments.ready_fd != 1) as ready:
            ready.write(f"{server.server_port}\n")
        server.serve_forever()


if __name__ == "__main__":
    main()
