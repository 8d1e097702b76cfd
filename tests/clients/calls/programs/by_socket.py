"""A socket, and each form in which S3 lets a payload be signed: what no SDK sends over plain HTTP, too.

Amazon S3: "Signature Calculations for the Authorization Header", of chunks "Transferring Payload in Multiple Chunks",
of trailers "… (Including Trailing Headers)". The seed signature is botocore's, the signatures of chunks are ours.
"""

import functools
import hashlib
import hmac
import http.client
import os
from collections.abc import Iterator, Mapping
from typing import Any

from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tests.clients.calls.jobs import MODES, long, sha256
from tests.clients.calls.programs.asked import crc32, serve, site

REGION = "us-east-1"
CHUNK = 64 * 1024
TRAILER = "x-amz-checksum-crc32"
NOTHING = sha256(b"")


class _Said(S3SigV4Auth):  # type: ignore[misc]  # botocore has no types
    """Signs the payload's word that the request has already."""

    def payload(self, request: Any) -> str:
        return str(request.headers["X-Amz-Content-SHA256"])

    def _modify_request_before_signing(self, request: Any) -> None:
        said = request.headers["X-Amz-Content-SHA256"]
        super()._modify_request_before_signing(request)
        request.headers.replace_header("X-Amz-Content-SHA256", said)


class Uploads:
    """PUTs of the same bytes, each signed in another form, and read back."""

    def __init__(self) -> None:
        self._site = site()
        self._credentials = Credentials(
            os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"], os.environ.get("AWS_SESSION_TOKEN")
        )

    def put(self, mode: str) -> Any:
        """Status, ETag and checksum of the answer, and the hash of what is read back."""
        body, path = long()[: 1024 * 1024 + 7], f"/{self._site.bucket}/by {mode}".replace(" ", "%20")
        if mode == "presigned":
            status, headers, _ = self._send("PUT", self._presigned("PUT", path), {}, [body], len(body))
        else:
            status, headers, _ = self._signed(path, mode, body)
        back_status, back_headers, back = self._send("GET", self._presigned("GET", path), {}, [], 0)
        assert (status, back_status) == (200, 200), (status, back_status)
        return [headers.get("etag"), sha256(back), back_headers.get("content-encoding"), back_headers["content-length"]]

    def _signed(self, path: str, mode: str, body: bytes) -> tuple[int, Mapping[str, str], bytes]:
        said = sha256(body) if mode == "hash" else mode
        headers = {"X-Amz-Content-SHA256": said}
        chunked, trailing = mode.startswith("STREAMING-"), mode.endswith("-TRAILER")
        if chunked:
            headers |= {"Content-Encoding": "aws-chunked", "X-Amz-Decoded-Content-Length": str(len(body))}
        if trailing:
            headers |= {"X-Amz-Trailer": TRAILER}
        request = AWSRequest("PUT", self._site.endpoint + path, headers=headers, data=b"")
        _Said(self._credentials, "s3", REGION).add_auth(request)
        sent = dict(request.headers.items())
        if not chunked:
            return self._send("PUT", path, sent, [body], len(body))
        key = Signatures(self._credentials.secret_key, sent) if "HMAC" in mode else None
        pieces = list(chunks(body, key, trailing))
        return self._send("PUT", path, sent, pieces, sum(map(len, pieces)))

    def _presigned(self, method: str, path: str) -> str:
        request = AWSRequest(method, self._site.endpoint + path)
        S3SigV4QueryAuth(self._credentials, "s3", REGION, expires=60).add_auth(request)
        return str(request.url).removeprefix(self._site.endpoint)

    def _send(
        self, method: str, target: str, headers: Mapping[str, str], pieces: list[bytes], length: int
    ) -> tuple[int, Mapping[str, str], bytes]:
        connection = http.client.HTTPConnection(self._site.address, timeout=30)
        connection.putrequest(method, target, skip_accept_encoding=True)
        for name, value in {**headers, "Content-Length": str(length)}.items():
            connection.putheader(name, value)
        connection.endheaders()
        for piece in pieces:
            connection.send(piece)
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        if answer.status >= 300:
            raise Refused(f"{answer.status} {body[:300]!r}")
        return answer.status, {name.lower(): value for name, value in answer.headers.items()}, body


class Refused(Exception):
    """An answer that is no success."""


class Signatures:
    """The chain of a body's signatures: each is of the one before it, and of a chunk."""

    def __init__(self, secret: str, headers: Mapping[str, str]) -> None:
        self._last = headers["Authorization"].rpartition("Signature=")[2]
        self._stamp = headers["X-Amz-Date"]
        self._scope = f"{self._stamp[:8]}/{REGION}/s3/aws4_request"
        key = f"AWS4{secret}".encode()
        for word in self._scope.split("/"):
            key = hmac.digest(key, word.encode(), "sha256")
        self._key = key

    def of(self, kind: str, *hashes: str) -> str:
        """The next one."""
        text = "\n".join([f"AWS4-HMAC-SHA256-{kind}", self._stamp, self._scope, self._last, *hashes])
        self._last = hmac.new(self._key, text.encode(), hashlib.sha256).hexdigest()
        return self._last


def chunks(body: bytes, key: Signatures | None, trailing: bool) -> Iterator[bytes]:
    """The body as aws-chunked, signed where there is a key, with its checksum as a trailer or without."""
    for at in range(0, len(body) + CHUNK, CHUNK):
        piece = body[at : at + CHUNK]
        signed = f";chunk-signature={key.of('PAYLOAD', NOTHING, sha256(piece))}" if key else ""
        yield f"{len(piece):x}{signed}\r\n".encode() + piece + (b"\r\n" if piece else b"")
        if not piece:
            break
    if trailing:
        line = f"{TRAILER}:{crc32(body)}"
        yield f"{line}\r\n".encode()
        if key:
            signed = key.of("TRAILER", sha256(f"{line}\n".encode()))
            yield f"x-amz-trailer-signature:{signed}\r\n".encode()
    yield b"\r\n"


if __name__ == "__main__":
    uploads = Uploads()
    serve({mode: functools.partial(uploads.put, mode) for mode in MODES}, lambda _: None)
