"""docs/clients.md, from what the last long run showed (results.json). `python -m tests.clients.page` writes it anew."""

import json
from collections.abc import Mapping
from typing import Any

from deploy.demo import REPOSITORY
from tests.clients.calls import page as of_calls
from tests.clients.table import CELLS, CLIENTS, HERE, Client, of

RESULTS = HERE / "results.json"
PAGE = REPOSITORY / "docs" / "clients.md"
NOT_RUN = "did not run"

_HEAD = """# Clients

Real clients, unmodified, by each way that they know. The gateway stood before a local AWS that enforces signatures,
policies and expiry; the grant allowed to list and read one prefix of a bucket. `make clients` ran this on {run} in
{minutes} minutes, and wrote this page; a shorter form of it, without the wait for an expiry, is part of `make test`.

| column | |
|---|---|
| **allowed** | it lists what the grant allows |
| **refused** | AWS refuses another prefix, and the client says so |
| **asks** | how often {calls} calls of one process asked the agent: with sessions of an hour; with those of 15 minutes, once they were renewed |
| **renews** | across the end of a session of 15 minutes: it goes on, with another access key. "in a new process": a command that is run again, or a way that gives fixed keys |
| **revoked** | after `revoke instance`: no credentials any more, and how long a new process takes to say so |

"""  # noqa: E501  # a row of a table cannot be broken

_WAYS = """
The ways are those of [The agent](agent.md). "exec" without more is `trusted-gateway-agent exec --`, which sets the
variables of the container endpoint; "process" is `credential_process`, as `configure` writes it; "file" is the
credential file, of which a program knows nothing new until it is started again. Two doors are the gateway's own, and
count as asked what the gateway was asked: "sessions" is [IAM Roles Anywhere](roles-anywhere.md), "vault" is
[Vault](vault.md).

Python's SDK takes credentials with less than 15 minutes left for nearly over, and asks for others with each call. The
agent answers that from memory; by "sessions" it is the gateway that is asked. So let sessions last an hour if you can.

By "imds" hardly any client shows why it was refused; the agent's log and `trusted-gateway-agent status` do.

A program that has credentials keeps them when its instance is revoked, and asks anew only towards their end. What AWS
still honours until then, `revoke` says ([Operations](operations.md)).
"""


def render(results: dict[str, Any]) -> str:
    """The page."""
    cells = results["cells"]
    calls = max((cell["calls"]["calls"] for cell in cells.values() if "calls" in cell), default=0)
    text = _HEAD.format(run=results["run"], minutes=results["minutes"], calls=calls)
    text += "| client | way | allowed | refused | asks | renews | revoked |\n|---|---|---|---|---|---|---|\n"
    text += "".join(_row(cell, cells.get(cell, {"not_run": NOT_RUN})) for cell in CELLS) + _WAYS
    for client in CLIENTS:
        text += _client(client, results)
    return text + of_calls.render(results)


def _row(name: str, cell: dict[str, Any]) -> str:
    client, way = of(name)
    if "not_run" in cell:
        return f"| {client.name} | {way} | {cell['not_run']} | | | | |\n"
    columns = [_yes(cell["first"]["ok"]), _yes(cell["refusal"]["refused"]), _asks(cell), _renews(cell), _revoked(cell)]
    return f"| {client.name} | {way} | {' | '.join(columns)} |\n"


def _yes(held: bool) -> str:
    return "yes" if held else "**no**"


def _asks(cell: dict[str, Any]) -> str:
    if cell["calls"]["calls"] == 1:
        return "each process once" if cell["calls"]["answers"] == 1 else "reads the file"
    brief = f"; {cell['brief']['answers']}" if "brief" in cell else ""
    return f"{cell['calls']['answers']}{brief}" if cell["calls"]["ok"] else "**no**"


def _renews(cell: dict[str, Any]) -> str:
    refresh = cell.get("refresh")
    if refresh is None:
        return NOT_RUN
    if not (refresh["ok"] and refresh["other_key"]):
        return "**no**"
    return "yes" if refresh["same_process"] else "in a new process"


def _revoked(cell: dict[str, Any]) -> str:
    revoked = cell["revoked"]
    return f"refused, {revoked['seconds']:.1f} s" if revoked["refused"] else "**no**"


def _client(client: Client, results: dict[str, Any]) -> str:
    version = results["versions"].get(client.name, "not installed")
    text = f"\n## {client.name}\n{client.family}; `{version}`; {client.install}."
    text += f" {client.remark}\n" if client.remark else "\n"
    if client.lacks:
        text += "\n" + "".join(f"- not by {', '.join(ways)}: {why}.\n" for why, ways in _inverted(client.lacks).items())
    text += "\n| what it says | by | |\n|---|---|---|\n"
    for kind, title in (("refusal", "AWS refuses"), ("revoked", "the instance is revoked")):
        cells = {way: results["cells"].get(f"{client.name} | {way}", {}) for way in client.ways}
        said = _inverted({way: cell[kind]["shown"] for way, cell in cells.items() if kind in cell})
        text += "".join(f"| {title} | {', '.join(ways)} | {_cell(shown)} |\n" for shown, ways in said.items())
    return text


def _inverted(texts: Mapping[str, str]) -> dict[str, list[str]]:
    """For each text the ways that have it."""
    return {text: [way for way, each in texts.items() if each == text] for text in texts.values()}


def _cell(shown: str) -> str:
    return "`" + shown.replace("|", "¦").replace("`", "'") + "`"


if __name__ == "__main__":
    PAGE.write_text(render(json.loads(RESULTS.read_text())))
