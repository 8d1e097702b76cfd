"""`exec` and `status`: how other programs find a running agent."""

import http.client
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from agent.errors import Fault
from agent.files import read_private
from agent.serve.rundir import Running
from agent.settings import Address
from gateway.wire.strict import Malformed, decode, loads, text

WINNERS = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_PROFILE",
    "AWS_DEFAULT_PROFILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_ROLE_ARN",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN",
)
"""Every variable that an SDK would heed before, or beside, the two that point to the agent."""


@dataclass(frozen=True, slots=True)
class Grant:
    """One grant in the status document."""

    name: str
    remaining_seconds: int
    problem: str | None


@dataclass(frozen=True, slots=True)
class Status:
    """The status document of a running agent."""

    state: str
    healthy: bool
    problem: str | None
    instance: str | None = text(longest=512)
    profile: str | None = text()
    certificate_not_after: str | None = text()
    grants: tuple[Grant, ...] = ()
    memory_locked: bool = False
    pid: int = 0


def environment(inherited: Mapping[str, str], running: Running, grant: str | None) -> dict[str, str]:
    """The environment in which any AWS SDK takes its credentials from the agent. Raises Fault.

    `grant` None means the only one that there is.
    """
    names = sorted(running.tokens)
    if grant is None and len(names) == 1:
        grant = names[0]
    if not names:
        raise Fault("not_ready", "The agent has no grants yet", "See 'trusted-gateway-agent status'.")
    if grant not in running.tokens:
        what = f"There is no grant {grant!a}" if grant else "There is more than one grant"
        raise Fault("grant_unknown", what, f"Name one with --grant: {', '.join(names)}.")
    kept = {name: value for name, value in inherited.items() if name not in WINNERS}
    return kept | {
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"http://{running.listen}/v1/credentials/{grant}",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": running.tokens[grant],
    }


def ask_status(running: Running) -> tuple[bytes, Status]:
    """The status document, as it came and as it is understood. Raises Fault."""
    address = Address.parse(running.listen)
    connection = http.client.HTTPConnection(address.host, address.port, timeout=5.0)
    try:
        token = read_private(Path(running.status_token)).decode("ascii")
        connection.request("GET", "/status", headers={"Authorization": token})
        answer = connection.getresponse()
        raw = answer.read(65536)
        if answer.status != 200:
            raise Fault("status_refused", f"Whoever listens on {address} does not know this agent's token")
        return raw, decode(Status, loads(raw))
    except (OSError, http.client.HTTPException, Malformed, ValueError):
        hint = "Start it with 'trusted-gateway-agent run'; its log says why it ended."
        raise Fault("agent_not_running", f"No agent answers on {address}", hint) from None
    finally:
        connection.close()


def describe(status: Status) -> str:
    """The status for people, a fact a line."""
    lines = [("state", status.state)]
    if status.problem:
        lines.append(("problem", status.problem))
    if status.instance:
        lines.append(("instance", status.instance))
    if status.certificate_not_after:
        lines.append(("certificate", f"until {status.certificate_not_after}"))
    for grant in status.grants:
        left = f"{grant.remaining_seconds // 60} min left" if grant.remaining_seconds else "no credentials"
        lines.append((f"grant {grant.name}", f"{left} ({grant.problem})" if grant.problem else left))
    return "\n".join(f"{name:<12} {value}" for name, value in lines)
