"""A front before the local AWS: it refuses what AWS refuses and that one does not, and passes the rest on as it came.

The request's target, headers and body stay byte for byte what they were, so that its signature holds; only the headers
of one hop, `Connection` and `Expect`, are its own. Two rules of ours come to AWS's: every AssumeRole says for whom it
is, by source identity and tags; no session policy holds a variable that the cloud behind would not expand.
"""

import hashlib
import re
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from urllib.parse import parse_qsl, unquote

from botocore.exceptions import ClientError

from deploy.demo.cloud import root_client
from tests.end_to_end.http_door import Door

TAGS = ("gateway:instance", "gateway:lease")
ESCAPES = ("*", "?", "$")
SHORTEST_MAXIMUM = 3600  # seconds: no role's MaxSessionDuration is less


class Refused(Exception):
    """An answer of AWS's that the cloud behind would not have given: status, code and message."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.status, self.code, self.message = status, code, message


DENIED = Refused(403, "AccessDenied", "with an explicit deny in an identity-based policy")


@dataclass(frozen=True)
class Request:
    """A request as it came. Header names are in lower case; `body` is without the chunks of HTTP."""

    method: str
    target: str
    headers: Mapping[str, str]
    raw_head: bytes
    raw_body: bytes
    body: bytes

    @cached_property
    def fields(self) -> Mapping[str, str]:
        """The form of the query protocol; empty for other requests."""
        form = self.headers.get("content-type", "").startswith("application/x-www-form-urlencoded")
        return dict(parse_qsl(self.body.decode(), keep_blank_values=True)) if form else {}

    @cached_property
    def credential(self) -> list[str]:
        """Access key id, date, region, service and end of a SigV4 scope; empty when there is none."""
        said = re.search(r"Credential=([^,&\s]+)", self.headers.get("authorization", "") + " " + self.target)
        return unquote(said[1]).split("/") if said else []

    @property
    def tags(self) -> Mapping[str, str]:
        """The session tags that are asked for."""
        keys = {name: value for name, value in self.fields.items() if re.fullmatch(r"Tags\.member\.\d+\.Key", name)}
        return {key: self.fields.get(name.removesuffix("Key") + "Value", "") for name, key in keys.items()}


class VerifyingFront(Door):
    """`with VerifyingFront(endpoint) as front`: use `front.endpoint` in the cloud's place.

    `asked` holds the requests in order, `refusals` what the checks refused, and `identities` the source identity of
    each access key that was given out here.
    """

    def __init__(self, endpoint: str) -> None:
        super().__init__(endpoint)
        self._cloud = endpoint
        self.asked: list[Request] = []
        self.refusals: list[Refused] = []
        self.identities: dict[str, str] = {}
        self._denied: set[str] = set()

    def asked_for(self, action: str) -> list[Request]:
        """The requests of the query protocol with this action."""
        return [request for request in self.asked if request.fields.get("Action") == action]

    def keys_used(self, service: str = "s3") -> list[str]:
        """The access keys that requests to a service were signed with, in the order of their first use."""
        return list(dict.fromkeys(r.credential[0] for r in self.asked if r.credential[3:4] == [service]))

    @contextmanager
    def denying(self, source_identity: str) -> Iterator[None]:
        """Until the block ends, as if every policy had a Deny with `StringEquals: {"aws:SourceIdentity": …}`."""
        self._denied.add(source_identity)
        try:
            yield
        finally:
            self._denied.discard(source_identity)

    def serve(self, connection: socket.socket) -> None:
        """Read one request, and do with it what is to be done."""
        connection.settimeout(30)
        raw = _read(connection)
        if raw:
            self.calls += 1
            self._behave(connection, raw)

    def forward(self, connection: socket.socket, request: bytes) -> None:
        """Check, and pass on."""
        asked = parse(request)
        self.asked.append(asked)
        if self.identities.get("".join(asked.credential[:1])) in self._denied:
            connection.sendall(_answer(asked, DENIED))
            return
        try:
            self._check(asked)
        except Refused as refused:
            self.refusals.append(refused)
            connection.sendall(_answer(asked, refused))
            return
        answer = b""
        with socket.create_connection(self._target, timeout=30) as behind:
            behind.sendall(asked.raw_head + asked.raw_body)
            while piece := behind.recv(65536):
                answer += piece
        if asked.fields.get("Action") == "AssumeRole" and (given := re.search(rb"<AccessKeyId>(\w+)<", answer)):
            self.identities[given[1].decode()] = asked.fields["SourceIdentity"]  # before anyone has the key
        connection.sendall(answer)

    def _check(self, asked: Request) -> None:
        check_payload(asked)
        action = asked.fields.get("Action")
        if action == "AssumeRole":
            check_who(asked)
            self._check_duration(asked)
        if action in ("AssumeRole", "GetFederationToken"):
            check_policy(asked)

    def _check_duration(self, asked: Request) -> None:
        """STS: API_AssumeRole, DurationSeconds: no more than the role's MaxSessionDuration."""
        seconds, role = int(asked.fields.get("DurationSeconds", "3600")), asked.fields.get("RoleArn", "")
        if seconds <= SHORTEST_MAXIMUM or not (arn := re.fullmatch(r"arn:[^:]+:iam::(\d{12}):role/(?:.*/)?(.+)", role)):
            return
        try:
            found = root_client(self._cloud, "iam", arn[1]).get_role(RoleName=arn[2])["Role"]
        except ClientError:
            return  # no such role: the cloud says so itself
        if seconds > found.get("MaxSessionDuration", SHORTEST_MAXIMUM):
            raise Refused(
                400,
                "ValidationError",
                "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.",
            )


def check_who(asked: Request) -> None:
    """Every session names its instance and its lease. Raises Refused."""
    if not asked.fields.get("SourceIdentity"):
        raise Refused(403, "AccessDenied", "The trust policy asks for a source identity")
    for tag in TAGS:
        if not asked.tags.get(tag):
            raise Refused(403, "AccessDenied", f"The trust policy asks for the tag {tag}")


def check_policy(asked: Request) -> None:
    """A session policy holds none of the gateway's templates, and no variable but the three escapes. Raises Refused."""
    for name in re.findall(r"\$\{([^}]*)\}?", asked.fields.get("Policy", "")):
        if re.match(r"(instance|profile|grant|lease)\.", name):
            raise Refused(400, "MalformedPolicyDocument", f"${{{name}}}: a template was not filled in")
        if name not in ESCAPES:
            raise Refused(400, "MalformedPolicyDocument", f"${{{name}}}: the local AWS expands no variables")


def check_payload(asked: Request) -> None:
    """The body is the one that was signed for. Raises Refused.

    Amazon S3: "Authenticating Requests: Using the Authorization Header". Of the other forms, aws-chunked bodies and
    their trailers, and of x-amz-checksum-… headers, the cloud behind is the judge.
    """
    said = asked.headers.get("x-amz-content-sha256", "UNSIGNED-PAYLOAD")
    if re.fullmatch("[0-9a-f]{64}", said) and said != hashlib.sha256(asked.body).hexdigest():
        raise Refused(400, "XAmzContentSHA256Mismatch", "The 'x-amz-content-sha256' header does not match the body.")


def parse(raw: bytes) -> Request:
    """Read a whole request; its head goes on with a `Connection` of our own."""
    head, _, body = raw.partition(b"\r\n\r\n")
    first, *lines = head.split(b"\r\n")
    kept = [line for line in lines if not re.match(rb"(?i)(connection|expect):", line)]
    pairs = (line.decode("latin-1").partition(":") for line in lines)
    headers = {name.lower(): value.strip() for name, _, value in pairs}
    method, target, _ = first.decode("latin-1").split(" ", 2)
    raw_head = b"\r\n".join([first, *kept, b"Connection: close", b"", b""])
    plain = _without_chunks(body) if _is_chunked(head) else body
    assert plain is not None
    return Request(method, target, headers, raw_head, body, plain)


def _read(connection: socket.socket) -> bytes:
    """One request, whole; empty when the client left before its end."""
    raw = b""
    while b"\r\n\r\n" not in raw:
        if not (piece := connection.recv(65536)):
            return b""
        raw += piece
    head, _, body = raw.partition(b"\r\n\r\n")
    if re.search(rb"(?i)\r\nexpect: *100-continue", head):
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
    length = re.search(rb"(?i)\r\ncontent-length: *([0-9]+)", head)
    while _without_chunks(body) is None if _is_chunked(head) else len(body) < int(length[1] if length else 0):
        if not (piece := connection.recv(65536)):
            return b""
        body += piece
    return head + b"\r\n\r\n" + body


def _is_chunked(head: bytes) -> bool:
    return re.search(rb"(?i)\r\ntransfer-encoding: *chunked", head) is not None


def _without_chunks(body: bytes) -> bytes | None:
    """RFC 9112 section 7.1; None while the last chunk is missing."""
    plain = b""
    while chunk := re.match(rb"([0-9a-fA-F]{1,8})(?:;[^\r\n]*)?\r\n", body):
        size, start = int(chunk[1], 16), chunk.end()
        if size == 0:
            return plain if body.endswith(b"\r\n\r\n") else None
        plain, body = plain + body[start : start + size], body[start + size + 2 :]
    return None


def _answer(asked: Request, refused: Refused) -> bytes:
    error = f"<Code>{refused.code}</Code><Message>{refused.message}</Message>"
    if asked.credential[3:4] == ["s3"]:
        document = f"<Error>{error}</Error>"
    else:
        document = f"<ErrorResponse><Error><Type>Sender</Type>{error}</Error></ErrorResponse>"
    body = b"" if asked.method == "HEAD" else document.encode()
    head = f"HTTP/1.1 {refused.status} Refused\r\nContent-Type: text/xml\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"Connection: close\r\n\r\n" + body
