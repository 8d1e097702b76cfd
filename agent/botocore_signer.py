"""A plug-in for boto3 and botocore: requests go to AWS by themselves, with signatures that the agent asks for.

    from agent.botocore_signer import install
    install(session)              # a boto3.Session or a botocore one, before its clients are made

The session needs no credentials. This module is of the standard library; botocore is the program's own.
"""

import base64
import json
import socket
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from gateway.wire.calls import LONGEST_BODY, Call, Header, Signature
from gateway.wire.messages import encode
from gateway.wire.sigv4 import NEVER_SIGNED, S3_SERVICES
from gateway.wire.strict import Malformed, decode, loads

SOCKET = "/run/trusted-gateway-agent/agent.sock"
DEADLINE = 30.0
"""Seconds for each step of a question; the agent itself asks the gateway."""

VERSION = "trusted-gateway"
"""What botocore calls a signature version: ours, and with `-query` for presigned URLs."""
_TAKEN = frozenset({"v4", "s3v4", "s3", "v4-unsigned-body", "v4-query", "s3v4-query", "s3-query"})
_NOT_TAKEN = ("v4a", "s3v4a", "v2", "v3", "v4-s3express")
_CONTEXT = "trusted_gateway"
_OF_A_SIGNATURE = ("Authorization", "Date", "X-Amz-Date", "X-Amz-Security-Token", "X-Amz-Content-SHA256")
_OF_A_FORM = "application/x-www-form-urlencoded; charset=utf-8"

Asking = Callable[[Call, bytes | None], Signature]


class SigningRefused(Exception):
    """There is no signature for this request. `code` is for programs: the agent's or the gateway's own."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{message} ({code})")
        self.code = code


def install(session: Any, grant: str | None = None, path: str = SOCKET) -> None:
    """From now on, clients that this session makes are signed for by the agent whose socket is at `path`.

    Without `grant`: by the only one that the user may have. Clients that were made before stay as they are.
    """
    from botocore import auth

    auth.AUTH_TYPE_MAPS.update({VERSION: _Auth, f"{VERSION}-query": _Auth})
    agent = Agent(path, grant or "-")

    def choose(signature_version: Any, context: dict[str, Any], **_: Any) -> str | None:
        if not isinstance(signature_version, str) or signature_version == "bearer":
            return None
        if signature_version in _TAKEN:
            context[_CONTEXT] = agent.ask
            return f"{VERSION}-query" if signature_version.endswith("-query") else VERSION
        if signature_version.startswith(_NOT_TAKEN) or signature_version.endswith("-presign-post"):
            raise SigningRefused("signature_unknown", f"The agent has no signatures of the kind {signature_version}")
        return None

    # botocore asks the most exact name first, and its own default for presigned URLs of S3 (SigV2) is at
    # "choose-signer.s3"; the operations that it does not sign at all are at their own names.
    botocore_session = getattr(session, "_session", session)
    for event in ("choose-signer", "choose-signer.s3.*"):
        botocore_session.register(event, choose)
    botocore_session.set_credentials("signed-by-the-agent", "no-secret")  # or botocore would look for some


@dataclass(frozen=True, slots=True)
class Agent:
    """The agent at a Unix socket, asked for one grant."""

    path: str
    grant: str

    def ask(self, call: Call, body: bytes | None) -> Signature:
        """The gateway's answer; `call.grant` is left to the socket's line. Raises SigningRefused."""
        plain = json.loads(encode(call))
        del plain["grant"]
        if body is not None:
            plain["body"] = base64.b64encode(body).decode("ascii")
        document = json.dumps(plain).encode()
        head, _, answer = self._exchange(f"sign {self.grant} {len(document)}\n".encode() + document).partition(b"\n")
        word, _, rest = head.decode("utf-8", "replace").partition(" ")
        code, _, message = rest.partition(" ")
        if word == "error" and message:
            raise SigningRefused(code, message)
        try:
            if word != "ok":
                raise Malformed("answer: neither ok nor error")
            return decode(Signature, loads(answer))
        except Malformed:
            raise SigningRefused("agent_not_running", f"What answers at {self.path} is no agent, or it ended") from None

    def _exchange(self, question: bytes) -> bytes:
        answer = bytearray()
        try:
            with socket.socket(socket.AF_UNIX) as asking:
                asking.settimeout(DEADLINE)
                asking.connect(self.path)
                asking.sendall(question)
                while part := asking.recv(65536):
                    answer += part
        except OSError as error:
            why = error.strerror or str(error)
            raise SigningRefused("agent_not_running", f"No agent answers at {self.path}: {why}") from None
        return bytes(answer)


class _Auth:
    """What botocore takes for an authorizer of requests (`botocore.auth.BaseSigner`)."""

    REQUIRES_REGION = True
    REQUIRES_TOKEN = False

    def __init__(self, credentials: Any, service_name: str, region_name: str, expires: int | None = None) -> None:
        del credentials
        self._service, self._region, self._expires = service_name, region_name, expires

    def add_auth(self, request: Any) -> None:
        """Give a `botocore.awsrequest.AWSRequest` its signature. Raises SigningRefused."""
        for name in _OF_A_SIGNATURE:  # of an earlier attempt
            del request.headers[name]
        if self._expires is not None:
            _move_form_into_query(request)
        scheme, _, rest = request.url.partition("://")
        authority, slash, target = rest.partition("/")
        host = _without_usual_port(scheme, authority.lower())
        call = Call(
            grant="",
            service=self._service,
            region=self._region,
            method=request.method.upper(),
            target=slash + target or "/",
            payload_sha256=self._payload(request),
            headers=(Header("host", host), *_signed(request.headers), *_length(request.body)),
            host=host,
            presign=self._expires,
        )
        signature = self._ask(request.context[_CONTEXT], call, request.body)
        if signature.way != "sign" or signature.target is None:
            why = f"The grant's calls go by '{signature.way}': point AWS_ENDPOINT_URL at the agent instead"
            raise SigningRefused("way_differs", why)
        if signature.origin != f"{scheme}://{host}":
            raise SigningRefused("host_differs", "The signature is for another host than the client's")
        if self._expires is None and signature.target != call.target:
            raise SigningRefused("target_differs", "The signature is for another target than the client's")
        request.url = f"{scheme}://{authority}{signature.target}"
        for header in signature.headers:
            if request.headers.get(header.name) != header.value:
                del request.headers[header.name]
                request.headers[header.name] = header.value

    def _ask(self, ask: Asking, call: Call, body: Any) -> Signature:
        """With the body at once where the gateway will look into it; else only when it says so."""
        if isinstance(body, BytesIO):
            body = body.getvalue()
        there = isinstance(body, bytes) and not call.payload_sha256.isupper() and len(body) <= LONGEST_BODY
        at_once = there and (call.service not in S3_SERVICES or call.method == "POST")
        try:
            return ask(call, body if at_once else None)
        except SigningRefused as refused:
            if refused.code != "body_required" or at_once or not there:
                raise
        return ask(call, body)

    def _payload(self, request: Any) -> str:
        """What botocore itself would say of the body."""
        from botocore import auth

        if self._service in S3_SERVICES:
            of_s3 = auth.S3SigV4QueryAuth if self._expires is not None else auth.S3SigV4Auth
            return str(of_s3(None, self._service, self._region).payload(request))
        return str(auth.SigV4Auth(None, self._service, self._region).payload(request))


def _length(body: Any) -> tuple[Header, ...]:
    """How long the body is, where that can be told: a grant with a limit of bytes asks for it."""
    from botocore.utils import determine_content_length

    length = determine_content_length(body)
    return (Header("content-length", str(length)),) if length else ()


def _signed(headers: Any) -> tuple[Header, ...]:
    """botocore's headers, less those that are not signed or that its HTTP client writes."""
    left_out = NEVER_SIGNED | {"host", "content-length"}
    fields = ((name.lower(), value.decode("latin-1") if isinstance(value, bytes) else str(value))
              for name, value in headers.items())  # fmt: skip
    return tuple(Header(name, " ".join(value.split())) for name, value in fields if name not in left_out)


def _move_form_into_query(request: Any) -> None:
    """A presigned URL has all in its query: also what an operation of the query protocol has in its body."""
    from botocore.compat import urlencode

    if isinstance(request.data, dict) and request.data:
        request.url += ("&" if "?" in request.url else "?") + urlencode(request.data).replace("+", "%20")
        request.data = ""
    if request.headers.get("Content-Type") == _OF_A_FORM:
        del request.headers["Content-Type"]


def _without_usual_port(scheme: str, authority: str) -> str:
    return authority.removesuffix(":443" if scheme == "https" else ":80")
