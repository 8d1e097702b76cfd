"""The container credential provider on loopback. Whoever shows a token of the grant may have it: the token decides,
since it can be handed on (systemd's `LoadCredential=`), and its file is for one user alone.

AWS SDKs and Tools Reference: "Container credential provider".
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from agent.credentials import LONGEST_WAIT, Unavailable
from agent.serve import access, documents, guard
from agent.serve.desk import Desk
from agent.serve.http import Answer, Request, error
from gateway.wire.secret import Secret

WAY = "container"


@dataclass(frozen=True, slots=True)
class Container:
    """`tokens` gives those of a grant; `hosts` are this server's."""

    desk: Desk
    tokens: Callable[[str], Iterable[Secret]]
    hosts: frozenset[str]

    def answer(self, request: Request) -> Answer:
        """The answer to one request. Never raises for what a client sent."""
        try:
            guard.check_head(request.method, request.headers, self.hosts)
            grant = guard.grant_of(request.target)
            if grant is None:
                raise guard.Refused(404, "NotFound", "Nothing is here")
            self.desk.check_state()  # before the token: neither a revoked agent nor one that has just started has any
            if offer := self.desk.offers.get(grant):
                access.check_door(offer, WAY)
            guard.check_token(request.headers, self.tokens(grant))
            return Answer(200, documents.container(self.desk.lend_to_bearer(grant, WAY, LONGEST_WAIT)))
        except guard.Refused as refused:
            return error(refused.status, refused.code, str(refused))
        except Unavailable as none:
            if none.refused:
                return error(403, "AccessDenied", str(none))
            return error(503, "ServiceUnavailable", str(none), retry_after=none.retry_after)
