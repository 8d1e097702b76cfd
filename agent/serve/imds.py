"""A look-alike of the EC2 metadata service, version 2 only, for tools that know no other way (AWS: "Use IMDSv2").

There is no secret file here, so the uid of whoever connects decides, and session tokens are bound to it. A token is a
MAC over its end and its owner: nothing is kept, so nobody's can be pushed out by others asking for theirs.
"""

import base64
import hashlib
import hmac
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from agent.credentials import Unavailable
from agent.errors import Fault
from agent.serve import documents, guard
from agent.serve.desk import Desk
from agent.serve.guard import Refused
from agent.serve.http import Answer, Request, error
from agent.settings import may_be_passed_on
from gateway.wire.secret import Secret

WAY = "imds"
LONGEST_WAIT = 0.4
"""Seconds for the first credentials: the Go SDK gives up after 0.5."""
OF_AWS = frozenset({"169.254.169.254", "169.254.169.254:80"})
"""What a client names as `Host` when its packets are led here."""

_TOKEN, _TTL = "X-aws-ec2-metadata-token", "X-aws-ec2-metadata-token-ttl-seconds"  # names of headers
_LONGEST_TTL = 21600
_VERSION = re.compile(r"(?:latest|20[0-9]{2}-[0-9]{2}-[0-9]{2})/")
_ROLES = "meta-data/iam/security-credentials"
_PLAIN = "text/plain"


@dataclass(frozen=True, slots=True)
class Imds:
    """`key` is of this run. `hosts` are this server's. `grant` is the one that all shall have, if it is set. `instance`
    gives the name in the certificate. `uid_of` gives the user of a connection. `real` asks the real service for a path,
    where `passed_on` allows it: prefixes without a version.
    """

    desk: Desk
    key: Secret
    hosts: frozenset[str]
    grant: str | None
    now: Callable[[], datetime]
    instance: Callable[[], str]
    uid_of: Callable[[tuple[str, int], tuple[str, int]], int | None]
    real: Callable[[str], bytes | None]
    passed_on: tuple[str, ...] = ()

    def answer(self, request: Request) -> Answer:
        """The answer to one request. Never raises for what a client sent."""
        try:
            guard.check_head(request.method, request.headers, self.hosts, ("GET", "HEAD", "PUT"))
            uid = self._uid(request)
            path = "/" + request.target.lstrip("/")  # Java's address ends with a slash, and its paths begin with one
            if request.method == "PUT":
                return self._new_token(request, path, uid)
            if path == "/latest/api/token":
                raise Refused(405, "MethodNotAllowed", "A token is asked for with PUT")
            self._check_token(request, uid)
            return self._resource(path, uid)
        except Refused as refused:
            return error(refused.status, refused.code, str(refused))
        except Unavailable as none:
            return error(503, "ServiceUnavailable", str(none), retry_after=none.retry_after)

    def _uid(self, request: Request) -> int:
        try:
            uid = self.uid_of(request.peer, request.local)
        except OSError:
            uid = None
        if uid is None:
            raise Refused(403, "AccessDenied", "It cannot be told which user asks")
        return uid

    def _new_token(self, request: Request, path: str, uid: int) -> Answer:
        if path != "/latest/api/token":
            versioned = re.fullmatch(r"/20[0-9]{2}-[0-9]{2}-[0-9]{2}/api/token", path)
            raise Refused(403 if versioned else 405, "NotAllowed", "PUT is for /latest/api/token alone")
        asked = request.headers.get_all(_TTL, [])
        if len(asked) != 1 or not re.fullmatch(r"[0-9]{1,5}", asked[0]) or not 1 <= int(asked[0]) <= _LONGEST_TTL:
            raise Refused(400, "BadRequest", f"{_TTL} must be a number of seconds from 1 to {_LONGEST_TTL}")
        end = int(self.now().timestamp()) + int(asked[0])
        return Answer(200, self._token(end, uid), {_TTL: asked[0]}, _PLAIN)

    def _check_token(self, request: Request, uid: int) -> None:
        """Raises Refused with 401, by which clients know that they need a new one."""
        shown = "\n".join(request.headers.get_all(_TOKEN, [])).encode("utf-8", "surrogateescape")
        try:
            end = int.from_bytes(base64.urlsafe_b64decode(shown)[:8])
        except ValueError:
            end = 0
        left = end - self.now().timestamp()
        genuine = hmac.compare_digest(shown, self._token(end, uid))
        if not genuine or not 0 < left <= _LONGEST_TTL:
            raise Refused(401, "Unauthorized", f"{_TOKEN} is missing, too old, or not yours")

    def _token(self, end: int, uid: int) -> bytes:
        head = end.to_bytes(8)
        with self.key as key:
            return base64.urlsafe_b64encode(head + hmac.digest(key, head + uid.to_bytes(8), hashlib.sha256))

    def _resource(self, path: str, uid: int) -> Answer:
        version = _VERSION.match(path, 1)
        rest = path[version.end() :] if version else ""
        name = rest.removesuffix("/")
        if name == _ROLES:
            return Answer(200, self._chosen(None, uid).encode(), kind=_PLAIN)
        if name.startswith(f"{_ROLES}/"):
            return self._role(name.removeprefix(f"{_ROLES}/"), uid)
        if name == "meta-data/iam/info":
            self.desk.check_state()
            return Answer(200, documents.profile_info(self.instance(), self._chosen(None, uid), self.now()))
        return Answer(200, self._passed_on(rest), kind=_PLAIN)

    def _chosen(self, named: str | None, uid: int) -> str:
        """The grant, if this user may have it here; what he may not have is not there. Raises Refused with 404."""
        if not self.desk.offers:
            self.desk.check_state()
        try:
            return self.desk.find(named or self.grant, WAY, uid).name
        except Refused as refused:
            raise Refused(404, "NotFound", str(refused)) from None

    def _role(self, grant: str, uid: int) -> Answer:
        """A refusal that will last goes out as a role without credentials: the Go SDK would ask again and again on any
        other status; botocore and the JavaScript SDK give up on either.
        """
        name = self._chosen(grant, uid)
        try:
            return Answer(200, documents.role(self.desk.lend(name, WAY, uid, LONGEST_WAIT), self.now()))
        except Refused as refused:
            return Answer(200, documents.no_role(str(refused), self.now()))
        except Unavailable as none:
            if none.refused:
                return Answer(200, documents.no_role(str(none), self.now()))
            raise

    def _passed_on(self, path: str) -> bytes:
        """Raises Refused with 404 for all that is not passed on."""
        if not any(path.startswith(prefix) for prefix in self.passed_on) or not may_be_passed_on(path):
            raise Refused(404, "NotFound", "Nothing is here")
        try:
            found = self.real(path)
        except Fault as fault:
            raise Unavailable(fault.code, str(fault), retry_after=1.0) from None
        if found is None:
            raise Refused(404, "NotFound", "Nothing is here")
        return found
