"""Who may speak to the loopback servers. Pure: a request's head in, a refusal out.

Any web page, any proxy and any program that fetches URLs for strangers can reach a loopback port. What they cannot do:
hide what they are (`Origin`, `Sec-Fetch-*`, `X-Forwarded-For`), name this very host and port, and read a token file.
(For IMDSv2, AWS: "Use IMDSv2".)
"""

import hmac
import re
from collections.abc import Iterable
from email.message import Message

from agent.settings import Address
from gateway.wire.secret import Secret

_OF_BROWSERS_AND_PROXIES = ("origin", "x-forwarded-for", "forwarded", "via")
_CREDENTIALS = re.compile(r"/v1/credentials/([a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)")
_NOBODY = Secret(bytes(43))  # compared with also when there is no token, so that this takes time


class Refused(Exception):
    """The request is refused: an HTTP status, a code for programs, a message for people."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


def hosts(address: Address) -> frozenset[str]:
    """The values of `Host` that a client of `http://<address>` sends."""
    return frozenset({str(address), f"localhost:{address.port}"})


def check_head(
    method: str, headers: Message, allowed_hosts: frozenset[str], methods: tuple[str, ...] = ("GET",)
) -> None:
    """Refuse what no AWS client sends: other methods and hosts, marks of browsers, a body. Raises Refused."""
    if method not in methods:
        raise Refused(405, "MethodNotAllowed", f"Only {', '.join(methods)} is served here")
    named = headers.get_all("Host", [])
    if len(named) != 1 or named[0].lower() not in allowed_hosts:
        raise Refused(403, "HostNotAllowed", "The Host header names another server")
    for name in headers:
        if is_of_browser_or_proxy(name.lower()):
            raise Refused(403, "NotForBrowsersOrProxies", "A browser or a proxy sent this request")
    if headers.get_all("Transfer-Encoding") or headers.get_all("Content-Length", ["0"]) != ["0"]:
        raise Refused(400, "BodyNotAllowed", "A request has no body here")


def is_of_browser_or_proxy(name: str) -> bool:
    """Whether a header of this name (lower case) is one that no AWS client sends, but browsers and proxies do."""
    return name in _OF_BROWSERS_AND_PROXIES or name.startswith("sec-fetch-")


def grant_of(target: str) -> str | None:
    """The grant that a request target names, None when it names something else. Nothing is decoded or normalised."""
    match = _CREDENTIALS.fullmatch(target)
    return match[1] if match else None


def check_token(headers: Message, expected: Iterable[Secret]) -> None:
    """Refuse whoever shows none of the tokens, once and exactly (constant time). Raises Refused."""
    shown = "\n".join(headers.get_all("Authorization", [])).encode("utf-8", "surrogateescape")
    known = False
    for each in (_NOBODY, *expected):
        with each as token:
            known |= hmac.compare_digest(shown, token) and each is not _NOBODY
    if not known:
        raise Refused(401, "InvalidToken", "The Authorization header does not hold the token for this grant")
