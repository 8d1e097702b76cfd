"""A minimal IMDSv2 on loopback: token, user-data, identity document and signature; nothing without the token."""

import contextlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

DOCUMENT = (
    b'{\n  "accountId" : "123456789012",\n  "instanceId" : "i-0123456789abcdef0",\n  "region" : "eu-central-1"\n}'
)
PKCS7 = b"MIAGCSqGSIb3DQEHAqCAMIACAQExDzANBglghkgBZQMEAgEFADCABgkqhkiG9w0B\nBwGggCSABIIB1XsKICA=\n"


class FakeMetadata:
    """`resources` maps path to content; `overrides` maps path to a status that is answered instead."""

    def __init__(self, user_data: bytes | None = None) -> None:
        self.resources: dict[str, bytes] = {
            "/latest/dynamic/instance-identity/document": DOCUMENT,
            "/latest/dynamic/instance-identity/rsa2048": PKCS7,
        }
        self.user_data = user_data
        self.overrides: dict[str, int] = {}
        self.headers: dict[str, str] = {}
        self.seen: list[tuple[str, str, str | None]] = []
        self.token = "imds-token"

    @property
    def user_data(self) -> bytes | None:
        return self.resources.get("/latest/user-data")

    @user_data.setter
    def user_data(self, value: bytes | None) -> None:
        self.resources.pop("/latest/user-data", None)
        if value is not None:
            self.resources["/latest/user-data"] = value

    def answer(self, method: str, path: str, headers: Any) -> tuple[int, bytes]:
        token = headers.get("X-aws-ec2-metadata-token")
        self.seen.append((method, path, token))
        if path in self.overrides:
            return self.overrides[path], b""
        if (method, path) == ("PUT", "/latest/api/token"):
            ttl = headers.get("X-aws-ec2-metadata-token-ttl-seconds", "")
            return (200, self.token.encode()) if ttl.isdigit() and 1 <= int(ttl) <= 21600 else (400, b"")
        if token != self.token:
            return 401, b""
        return (200, self.resources[path]) if path in self.resources else (404, b"")

    @contextlib.contextmanager
    def running(self) -> Iterator["FakeMetadata"]:
        """Up for the length of a `with`; `address` is where."""
        metadata = self

        class Edge(BaseHTTPRequestHandler):
            disable_nagle_algorithm = True

            def do_GET(self) -> None:
                status, raw = metadata.answer(self.command, self.path, self.headers)
                self.send_response(status)
                for name, value in metadata.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)

            do_PUT = do_GET

            def log_message(self, *_: Any) -> None:
                return None

        with ThreadingHTTPServer(("127.0.0.1", 0), Edge) as server:
            server.daemon_threads = True
            self.port: int = server.server_address[1]
            thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
            thread.start()
            try:
                yield self
            finally:
                server.shutdown()
                thread.join()
