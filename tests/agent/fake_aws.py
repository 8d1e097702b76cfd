"""A small AWS for the agent's tests: objects in memory, signatures verified by botocore, every request kept.

It is strict where AWS is: hashes of bodies, lengths of aws-chunked ones, their checksums.
"""

import hashlib
import json
import re
import threading
import zlib
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tests.agent.fake_calls import AWS_KEY, AWS_SECRET, body_of

PIECE = bytes(range(256)) * 1024


@dataclass(frozen=True)
class Asked:
    """One request; `body` is without the chunks of HTTP and of aws-chunked, empty when it is longer than 1 MiB."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    length: int
    sha256: str
    refusal: str | None
    connection: int


class FakeAws:
    """`with FakeAws() as aws`: `aws.origin`. `keys` are the secrets by access key id; `interfere` may answer itself."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.asked: list[Asked] = []
        self.keys = {AWS_KEY: AWS_SECRET}
        self.interfere: Callable[[Any], bool] | None = None
        self.opened = 0

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        kind = type("Edge", (_Edge,), {"aws": self})

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

            def handle_error(self, request: Any, client_address: Any) -> None:
                return None

        self._server = Server(("127.0.0.1", 0), kind)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @contextmanager
    def interfering(self, do: Callable[[Any], bool]) -> Iterator[None]:
        """Until the block ends, `do` is asked first: True, and it has answered itself."""
        self.interfere = do
        try:
            yield
        finally:
            self.interfere = None


class _Edge(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    aws: FakeAws

    def setup(self) -> None:
        super().setup()
        self.aws.opened += 1
        self.number = self.aws.opened

    def handle_expect_100(self) -> bool:
        return True

    def do_GET(self) -> None:
        if self.aws.interfere and self.aws.interfere(self):
            return
        if self.headers.get("Expect"):
            self.send_response_only(100)
            self.end_headers()
            self.wfile.flush()
        headers = {name.lower(): value for name, value in self.headers.items()}
        target = self.requestline.split()[1]
        body, length, digest, raw_digest = self._read(headers)
        refusal = self._refusal(target, headers, length, raw_digest)
        seen = Asked(self.command, target, headers, body, length, digest, refusal, self.number)
        self.aws.asked.append(seen)
        if refusal:
            self._say(403, {}, f"<Error><Code>{refusal}</Code><Message>no</Message></Error>".encode())
        elif headers["authorization"].split("/")[3] == "s3":
            self._s3(seen)
        else:
            self._say(200, {"Content-Type": "application/x-amz-json-1.0"}, json.dumps({"QueueUrls": []}).encode())

    do_HEAD = do_PUT = do_POST = do_DELETE = do_GET

    def _s3(self, seen: Asked) -> None:
        path, objects = unquote(urlsplit(seen.target).path), self.aws.objects
        if seen.method == "PUT":
            objects[path] = seen.body
            self._say(200, {"ETag": f'"{seen.sha256[:32]}"', "x-amz-meta-length": str(seen.length)})
        elif seen.method == "DELETE":
            objects.pop(path, None)
            self._say(204, {})
        elif seen.method == "POST":
            self._say(200, {"Content-Type": "application/xml"}, b"<DeleteResult></DeleteResult>")
        elif big := re.fullmatch(r"/big/(\d+)", path):
            self._stream(int(big[1]))
        elif path not in objects:
            self._say(404, {"Content-Type": "application/xml"}, b"<Error><Code>NoSuchKey</Code></Error>")
        else:
            self._give(objects[path], seen.headers)

    def _give(self, content: bytes, headers: dict[str, str]) -> None:
        named = {
            "ETag": '"etag"',
            "Content-Type": "text/plain",
            "x-amz-meta-letters": "ümläut".encode().decode("latin-1"),
        }
        if asked := re.fullmatch(r"bytes=(\d+)-(\d+)", headers.get("range", "")):
            first, last = int(asked[1]), int(asked[2])
            named["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
            self._say(206, named, content[first : last + 1])
        elif headers.get("if-none-match") == '"etag"':
            self._say(304, named, None)
        else:
            self._say(200, named, content)

    def _stream(self, size: int) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(size))
        self.end_headers()
        while size:
            piece = PIECE[: min(size, len(PIECE))]
            self.wfile.write(piece)
            size -= len(piece)

    def _say(self, status: int, headers: dict[str, str], body: bytes | None = b"") -> None:
        self.send_response(status)
        for name, value in {"x-amz-request-id": "REQUEST1", **headers}.items():
            self.send_header(name, value)
        if body is not None and status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if body and self.command != "HEAD":
            self.wfile.write(body)
        self.wfile.flush()

    def _read(self, headers: dict[str, str]) -> tuple[bytes, int, str, str]:
        """The body, its length, its SHA-256, and that of the body with the chunks of aws-chunked."""
        raw_digest, digest, kept, length = hashlib.sha256(), hashlib.sha256(), b"", 0
        pieces: Iterator[bytes] = body_of(self.headers, self.rfile)
        if headers.get("x-amz-content-sha256", "").startswith("STREAMING-"):
            pieces = _decoded(b"".join(pieces), headers)
        for piece in pieces:
            raw_digest.update(piece)
            digest.update(piece)
            length += len(piece)
            kept = kept + piece if length <= 1 << 20 else b""
        return kept, length, digest.hexdigest(), raw_digest.hexdigest()

    def _refusal(self, target: str, headers: dict[str, str], length: int, digest: str) -> str | None:
        payload = headers.get("x-amz-content-sha256")
        if payload and len(payload) == 64 and payload != digest:
            return "XAmzContentSHA256Mismatch"
        if "x-amz-decoded-content-length" in headers and int(headers["x-amz-decoded-content-length"]) != length:
            return "IncompleteBody"
        said = re.fullmatch(
            r"AWS4-HMAC-SHA256 Credential=(\w+)/\d+/([^/]+)/([^/]+)/aws4_request, SignedHeaders=(\S+), Signature=(\S+)",
            headers.get("authorization", ""),
        )
        if said is None:
            return "AccessDenied"
        key, region, service, names, signature = said.groups()
        kind = S3SigV4Auth if service == "s3" else SigV4Auth
        auth = kind(Credentials(key, self.aws.keys.get(key, "?")), service, region)
        request = AWSRequest(
            self.command, f"http://{headers['host']}{target}", {n: headers[n] for n in names.split(";")}
        )
        request.context.update({"timestamp": headers["x-amz-date"], "payload_signing_enabled": True})
        auth.payload = lambda _: payload or digest  # what was signed for, which was compared with what came
        path, _, query = target.partition("?")
        canonical = "\n".join([
            self.command,
            path if service == "s3" else auth._normalize_url_path(path),
            _canonical_query(query),
            auth.canonical_headers(auth.headers_to_sign(request)) + "\n",
            names,
            payload or digest,
        ])  # fmt: skip
        right = auth.signature(auth.string_to_sign(request, canonical), request)
        return None if right == signature else "SignatureDoesNotMatch"

    def log_message(self, *_: Any) -> None:
        return None


def _canonical_query(query: str) -> str:
    pairs = parse_qsl(query.replace("+", "%2B"), keep_blank_values=True)
    return "&".join(sorted(f"{quote(name, safe='-_.~')}={quote(value, safe='-_.~')}" for name, value in pairs))


def _decoded(raw: bytes, headers: dict[str, str]) -> Iterator[bytes]:
    """Out of aws-chunked, with a trailer whose checksum is right."""
    assert "aws-chunked" in headers["content-encoding"]
    whole = b""
    while True:
        size, _, raw = raw.partition(b"\r\n")
        if size == b"0":
            break
        piece, raw = raw[: int(size, 16)], raw[int(size, 16) :]
        assert raw[:2] == b"\r\n"
        raw = raw[2:]
        whole += piece
        yield piece
    name, _, value = raw.removesuffix(b"\r\n\r\n").partition(b":")
    assert name.decode() == headers["x-amz-trailer"], name
    if name == b"x-amz-checksum-crc32":
        assert value == b64encode(zlib.crc32(whole).to_bytes(4, "big"))
