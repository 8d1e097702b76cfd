"""An instance that asks for its certificate until it is answered, whatever becomes of the gateway; and who robs it."""

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from http.client import HTTPException
from typing import Any

from certs.keys import public_sha256
from deploy.demo.ec2_document import SignedDocument
from deploy.demo.visitor import Answer, Visitor
from tests.end_to_end.crowd import enrollment
from tests.end_to_end.world import Launched, World

PATIENCE = 60.0  # seconds


@dataclass(slots=True)
class Applicant:
    """One instance, one ticket (as the admin API gave it), one key. `certificates` are all that it was given (PEM).

    `lost` counts the answers that never came; `cut` those of them whose ticket was used up already: the gateway was
    killed between the two.
    """

    world: World
    launched: Launched
    ticket: dict[str, Any]
    key_sha256: str = ""
    certificates: list[str] = field(default_factory=list)
    lost: int = 0
    cut: int = 0

    def persist(self) -> None:
        """Ask with the same key until there is an answer, and once more if one was lost."""
        with closing(Visitor(self.world.site.instance, self.world.root)) as visitor:
            self.key_sha256 = public_sha256(visitor.key.public_key())
            body = enrollment(visitor, self.launched.document, self.ticket["ticket"])
            answers = [insist(visitor, body, self._on_loss)]
            if self.lost:
                answers.append(insist(visitor, body, self._on_loss))
        assert {(answer.status, answer.code) for answer in answers} <= {(201, None), (409, "ticket_used")}
        self.certificates += [answer.body["certificate"] for answer in answers if answer.status == 201]
        self.rob(self.launched.document, 409, "ticket_used")

    def rob(self, document: SignedDocument, status: int, code: str) -> None:
        """Somebody with another key tries the ticket, and must be refused."""
        with closing(Visitor(self.world.site.instance, self.world.root)) as thief:
            answer = insist(thief, enrollment(thief, document, self.ticket["ticket"]))
        assert (answer.status, answer.code) == (status, code), answer.body

    def _on_loss(self) -> None:
        self.lost += 1
        (row,) = self.world.rows("ticket", id=self.ticket["id"])
        if row["state"] == "redeemed":
            self.cut += 1
            self.rob(self.launched.document, 409, "ticket_used")


def insist(visitor: Visitor, body: bytes, on_loss: Callable[[], None] = lambda: None) -> Answer:
    """Post an enrolment until it is answered by a gateway that is well."""
    deadline = time.monotonic() + PATIENCE
    while True:
        assert time.monotonic() < deadline, "no answer"
        try:
            answer = visitor.call("POST", "/v1/enroll", body)
        except ConnectionRefusedError:
            pass  # nobody is there at the moment
        except (OSError, HTTPException):
            on_loss()
        else:
            if answer.status != 503:
                return answer
        time.sleep(0.02)
