"""The sink: `with Sink() as sink`. PUT, multipart, HEAD and GET of objects whose bytes it can compute; nothing is kept.

It knows the keys that it was told, and those that the AWS behind it gives out to AssumeRole. Requests to other services
than S3 go there.
"""

import http.client
import re
import socket
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import parse_qs, unquote, urlsplit

from tests.listening import Listening
from tests.sink.payloads import PIECE, Payload, generated, receive
from tests.sink.signatures import Key, Signed, Unsigned, scope_service, verify
from tests.sink.wire import Broken, Connection, Source, body_of

_OF_A_HOP = ("connection", "transfer-encoding", "content-length", "expect", "keep-alive")


@dataclass(frozen=True, slots=True)
class Received:
    """A request that was right: who signed it, by which form, and what it brought."""

    method: str
    target: str
    access_key_id: str
    mode: str
    length: int
    sha256: str
    generated: bool
    checksum: str = ""


@dataclass(frozen=True, slots=True)
class Stored:
    """What is known of an object. Its bytes can be read when they are those of `payloads.generated`."""

    length: int
    etag: str
    generated: bool


@dataclass(frozen=True, slots=True)
class _Asked:
    method: str
    target: str
    headers: Mapping[str, str]

    @property
    def key(self) -> str:
        return unquote(urlsplit(self.target).path)

    @property
    def query(self) -> dict[str, str]:
        found = parse_qs(urlsplit(self.target).query, keep_blank_values=True)
        return {name: values[0] for name, values in found.items()}


class Sink(Listening):
    """`endpoint` is where it listens; `received` is what was right, `refused` says what was not."""

    def __init__(self, behind: str = "") -> None:
        super().__init__()
        self._behind = behind.removeprefix("http://")
        self.keys: dict[str, Key] = {}
        self.received: list[Received] = []
        self.refused: list[str] = []
        self.objects: dict[str, Stored] = {}
        self._uploads: dict[str, dict[int, Stored]] = {}
        self._lock = threading.Lock()
        self.endpoint = f"http://127.0.0.1:{self.port}"

    def put(self, key: str, length: int) -> None:
        """Have an object of this size, at `/bucket/key`."""
        self.objects[key] = Stored(length, f'"{length:032x}"', True)

    def converse(self, connection: socket.socket) -> None:
        """Answer its requests, one after the other."""
        with connection, suppress(OSError):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.settimeout(120)
            source = Connection(connection)
            while asked := _head(source):
                answer = _Answer(connection)
                if asked.headers.get("expect", "").lower() == "100-continue":
                    connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
                body = body_of(source, asked.headers)
                try:
                    self._answer(asked, body, answer)
                except (Unsigned, Broken) as error:
                    with self._lock:
                        self.refused.append(f"{asked.method} {asked.target}: {error}")
                    code = "SignatureDoesNotMatch" if isinstance(error, Unsigned) else "IncompleteBody"
                    answer.error(
                        403 if isinstance(error, Unsigned) else 400, code, str(error), head=asked.method == "HEAD"
                    )
                    return  # what is left of the body is not a request

    def _answer(self, asked: _Asked, body: Source, answer: "_Answer") -> None:
        if self._behind and scope_service(asked.headers, asked.target) != "s3":
            self._pass_on(asked, body, answer)
            return
        signed = verify(asked.method, asked.target, asked.headers, self.keys)
        payload = receive(body, asked.headers, signed)
        with self._lock:
            self.received.append(_received(asked, signed, payload))
        method = _METHODS.get(asked.method)
        if method is None:
            answer.error(501, "NotImplemented", "the sink knows only a little of S3")
        else:
            method(self, asked, payload, answer)

    def _put(self, asked: _Asked, payload: Payload, answer: "_Answer") -> None:
        stored = Stored(payload.length, payload.etag, payload.generated)
        with self._lock:
            if "uploadId" in asked.query:
                self._uploads[asked.query["uploadId"]][int(asked.query["partNumber"])] = stored
            else:
                self.objects[asked.key] = stored
        answer.empty(200, {"ETag": stored.etag})

    def _post(self, asked: _Asked, payload: Payload, answer: "_Answer") -> None:
        bucket, _, key = asked.key.lstrip("/").partition("/")
        named = f"<Bucket>{bucket}</Bucket><Key>{key}</Key>"
        with self._lock:
            if "uploads" in asked.query:
                upload = f"upload-{len(self._uploads)}"
                self._uploads[upload] = {}
                kind, inner = "InitiateMultipartUploadResult", f"<UploadId>{upload}</UploadId>"
            else:
                stored = _whole(self._uploads[asked.query["uploadId"]])
                self.objects[asked.key] = stored
                kind, inner = "CompleteMultipartUploadResult", f"<ETag>{stored.etag}</ETag>"
        answer.document(200, f"<{kind}>{named}{inner}</{kind}>")

    def _get(self, asked: _Asked, payload: Payload, answer: "_Answer") -> None:
        stored = self.objects.get(asked.key)
        if stored is None or not stored.generated:
            why = "there is no such key, or its bytes were not kept"
            answer.error(404, "NoSuchKey", why, head=asked.method == "HEAD")
            return
        start, length, status, headers = 0, stored.length, 200, {"ETag": stored.etag, "Accept-Ranges": "bytes"}
        if part := re.fullmatch(r"bytes=(\d+)-(\d*)", asked.headers.get("range", "")):
            start = int(part[1])
            end = min(int(part[2] or stored.length), stored.length - 1)
            length, status = end - start + 1, 206
            headers["Content-Range"] = f"bytes {start}-{end}/{stored.length}"
        answer.head(status, headers | {"Content-Length": str(length), "Content-Type": "application/octet-stream"})
        if asked.method == "GET":
            for piece in generated(start, length):
                answer.connection.sendall(piece)

    def _pass_on(self, asked: _Asked, body: Source, answer: "_Answer") -> None:
        """Ask the AWS behind; the keys that it gives out are known from then on, before anyone has them."""
        whole = bytearray()
        while piece := body.some(PIECE):
            whole += piece
        behind = http.client.HTTPConnection(self._behind, timeout=30)
        behind.putrequest(asked.method, asked.target, skip_host=True, skip_accept_encoding=True)
        for name, value in asked.headers.items():
            if name not in _OF_A_HOP:
                behind.putheader(name, value)
        behind.putheader("content-length", str(len(whole)))
        behind.endheaders(bytes(whole))
        said = behind.getresponse()
        text = said.read()
        behind.close()
        given = [
            re.search(rf"<{name}>([^<]+)<".encode(), text)
            for name in ("AccessKeyId", "SecretAccessKey", "SessionToken")
        ]
        if key := [match[1].decode() for match in given if match]:
            self.keys[key[0]] = Key(key[1], key[2])
        headers = {name: value for name, value in said.getheaders() if name.lower() not in _OF_A_HOP}
        answer.head(said.status, headers | {"Content-Length": str(len(text))})
        answer.connection.sendall(text)


_METHODS: Mapping[str, Callable[[Sink, _Asked, Payload, "_Answer"], None]] = {
    "PUT": Sink._put,
    "POST": Sink._post,
    "GET": Sink._get,
    "HEAD": Sink._get,
}


class _Answer:
    """What is said on a connection."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection

    def head(self, status: int, headers: Mapping[str, str]) -> None:
        lines = [
            f"HTTP/1.1 {status} {http.client.responses[status]}",
            *(f"{name}: {headers[name]}" for name in headers),
        ]
        self.connection.sendall("\r\n".join([*lines, "x-amz-request-id: SINK", "", ""]).encode("latin-1"))

    def empty(self, status: int, headers: Mapping[str, str]) -> None:
        self.head(status, {**headers, "Content-Length": "0"})

    def document(self, status: int, inner: str, *, head: bool = False) -> None:
        body = f'<?xml version="1.0" encoding="UTF-8"?>\n{inner}'.encode()
        self.head(status, {"Content-Type": "application/xml", "Content-Length": str(len(body))})
        if not head:
            self.connection.sendall(body)

    def error(self, status: int, code: str, message: str, *, head: bool = False) -> None:
        self.document(status, f"<Error><Code>{code}</Code><Message>{message}</Message></Error>", head=head)


def _head(source: Connection) -> _Asked | None:
    """The head of the next request; None when there is none."""
    try:
        method, target, _ = source.line().decode("latin-1").split(" ")
    except Broken:
        return None
    headers: dict[str, str] = {}
    while line := source.line().decode("latin-1"):
        name, _, value = line.partition(":")
        name = name.lower()
        headers[name] = f"{headers[name]},{value.strip()}" if name in headers else value.strip()
    return _Asked(method, target, headers)


def _received(asked: _Asked, signed: Signed, payload: Payload) -> Received:
    presigned = "X-Amz-Signature" in asked.target
    mode = "presigned" if presigned else "hash" if len(signed.payload) == 64 else signed.payload
    return Received(asked.method, asked.target, signed.access_key_id, mode, payload.length, payload.sha256,
                    payload.generated, payload.checksum)  # fmt: skip


def _whole(parts: Mapping[int, Stored]) -> Stored:
    """The object that parts make. It can be read when each begins where the bytes of `generated` begin anew."""
    length, readable = 0, True
    for _, part in sorted(parts.items()):
        readable = readable and part.generated and length % PIECE == 0
        length += part.length
    return Stored(length, f'"{length:032x}-{len(parts)}"', readable)
