"""The audit log, page by page, from a gateway: every record as it lies there, each chain in order."""

import json
import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from gateway.cli.client import Answer, Client
from gateway.cli.failure import Failure

AGAIN = 2.0  # seconds, when the gateway says that we ask too often: a long log has many pages


def asked(client: Client, path: str) -> Answer:
    """GET, however long it takes to be let."""
    while True:
        try:
            return client.call("GET", path)
        except Failure as failure:
            if failure.code != "too_many_requests":
                raise
        time.sleep(AGAIN)


def body(line: str) -> dict[str, Any]:
    """What a record says. Of what is no record any more, as much as can be shown."""
    found: dict[str, Any] = {"at": "", "kind": "-", "name": "-", "reason": "audit_broken", "allowed": False}
    found |= {"facts": {}, "subject": "", "source": "", "object": ""}
    try:
        read = json.loads(line)
        datetime.fromisoformat(read["at"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return found
    return found | {key: read[key] for key, value in found.items() if isinstance(read.get(key), type(value))}


def state(client: Client) -> Answer:
    """Where each chain ends, the latest checkpoint, and where the records begin."""
    return asked(client, "/v1/audit/checkpoint")


def heads_of(found: Answer) -> dict[str, int]:
    """Chain → number of its last record."""
    return {head["chain"]: head["seq"] for head in found["heads"]}


def everything(client: Client) -> Iterator[tuple[str, str]]:
    """Every record that the store has at this moment, behind what was archived."""
    found = state(client)
    begin = json.loads(found["begin"]["checkpoint"]["statement"])["chains"] if found["begin"] is not None else {}
    yield from records(client, heads_of(found), {chain: state["size"] for chain, state in begin.items()})


def records(client: Client, heads: Mapping[str, int], after: Mapping[str, int]) -> Iterator[tuple[str, str]]:
    """Every record behind the positions `after` and up to `heads`, as (line, hash), each chain in order."""
    at = dict(after)
    while any(at.get(chain, 0) < seq for chain, seq in heads.items()):
        before = dict(at)
        for row in page(client, at):
            at[row["chain"]] = row["seq"]
            # Reading is recorded, too: without an end in advance the log would grow ahead of its reader.
            if row["seq"] <= heads.get(row["chain"], 0):
                yield row["line"], row["hash"]
        if at == before:
            return


def page(client: Client, after: Mapping[str, int]) -> list[dict[str, Any]]:
    """The next records behind these positions."""
    query = ",".join(f"{chain}:{seq}" for chain, seq in after.items())
    found: list[dict[str, Any]] = asked(client, f"/v1/audit?after={query}")["records"]
    return found
