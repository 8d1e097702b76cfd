"""GET /v1/checkpoint: every agent is a witness of the audit log. It keeps what it is shown (agent/witness.py)."""

from dataclasses import dataclass

from flask import Flask, Response

from gateway.core.audit import Name
from gateway.flows.checkpoint import Checkpoints
from gateway.flows.identify import Identify
from gateway.flows.journal import Journal
from gateway.web.exchange import asked, no_body, peer, query, reply
from gateway.wire.strict import text

NUMBER = r"[1-9][0-9]{0,11}"


@dataclass(frozen=True, slots=True)
class After:
    """The query. `after` is the number of the checkpoint that the caller has."""

    after: str | None = text(pattern=NUMBER, default=None)


def add_checkpoint(app: Flask, journal: Journal, identify: Identify, checkpoints: Checkpoints) -> None:
    """The route. It tells nothing about anyone, so only a refusal is recorded."""

    @app.get("/v1/checkpoint")
    def checkpoint() -> Response:
        with asked(journal, Name.INSTANCE_CHECKPOINT_READ) as call:
            identify.instance(call, peer().certificate)
            no_body()
            after = query(After).after
            return reply(checkpoints.show(int(after) if after else None))
