"""How other programs find a running agent and its credentials: the environment of `exec`, the lines of `env`."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from agent import ask
from agent.errors import Fault
from gateway.wire.strict import Malformed, decode, loads, text

SOCKET = "agent.sock"
VIAS = ("container", "imds", "keys")
"""How `exec` may tell a program where its credentials are."""

_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_CREDENTIAL_EXPIRATION")
ENDPOINT = "AWS_ENDPOINT_URL"
_OTHER_ENDPOINTS = (ENDPOINT, "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS")  # …_URL_S3 wins over …_URL
WINNERS = (
    *_KEYS,
    "AWS_PROFILE",
    "AWS_DEFAULT_PROFILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_ROLE_ARN",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AWS_EC2_METADATA_SERVICE_ENDPOINT",
    "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE",
)
"""Every variable that an SDK would heed before, or beside, those that point to the agent."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ByContainer:
    """The container credential provider: address and token file."""

    uri: str = text(longest=512)
    token_file: str = text(longest=4096)


@dataclass(frozen=True, slots=True)
class Where:
    """How this user reaches a grant: each door, None when it does not lead there, and then `why_not` says why. `calls`
    is where its calls have to be sent, None (and no `why_not`) when that is AWS.
    """

    grant: str
    container: ByContainer | None
    imds: str | None = text()
    process: str | None = text(longest=4096)
    why_not: dict[str, str] = field(default_factory=dict, metadata={"longest": 1024})
    calls: str | None = text(longest=512, default=None)


@dataclass(frozen=True, slots=True)
class Grant:
    """One grant in the status document: `doors` at which it may be had, `ways` by which its calls reach AWS. `answers`
    counts what was handed out, by door, and `calls` what was sent to the endpoint for calls, by way. `file_problem`
    says why there is no credential file.
    """

    name: str
    remaining_seconds: int
    problem: str | None
    doors: tuple[str, ...] = ()
    ways: tuple[str, ...] = ()
    users: tuple[str, ...] = ()
    answers: dict[str, int] = field(default_factory=dict)
    calls: dict[str, int] = field(default_factory=dict)
    file_problem: str | None = None


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


def find(run_dir: Path, grant: str | None) -> Where:
    """How this user reaches the grant, or the only one that there is for him. Raises Fault."""
    return _understood(Where, _ask(run_dir, f"where {grant}" if grant else "where"))


def credentials(run_dir: Path, grant: str | None) -> dict[str, str]:
    """The credentials as variables, for tools that know nothing else: they do not renew themselves. Raises Fault."""
    document = _loads(_ask(run_dir, f"credentials {grant}" if grant else "credentials"))
    fields = ("AccessKeyId", "SecretAccessKey", "SessionToken", "Expiration")
    return {name: str(document[field]) for name, field in zip(_KEYS, fields, strict=True)}


def are_dummy(keys: Mapping[str, str]) -> bool:
    """Whether these credentials are of use only at the endpoint for calls."""
    return keys["AWS_ACCESS_KEY_ID"].startswith("TGDK")


def variables(where: Where, via: str) -> dict[str, str]:
    """The variables that lead an SDK to the agent. Raises Fault."""
    if via == "container" and where.container:
        return {
            "AWS_CONTAINER_CREDENTIALS_FULL_URI": where.container.uri,
            "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": where.container.token_file,
        }
    if via == "imds" and where.imds:
        return {"AWS_EC2_METADATA_SERVICE_ENDPOINT": where.imds, "AWS_EC2_METADATA_V1_DISABLED": "true"}
    raise Fault("access_denied", where.why_not.get(via, f"{where.grant} cannot be had by {via}"), "Try another --via.")


def endpoint(where: Where) -> dict[str, str]:
    """The variables that lead the grant's calls to the agent, if that is where they have to go. Raises Fault.

    An operation's host prefix (`111122223333.s3-control…`) is of AWS's host, not of ours: the gateway puts it there.
    """
    if reason := where.why_not.get("calls"):
        raise Fault("calls_unavailable", reason, "See the setting 'calls', and the agent's log.")
    return {ENDPOINT: where.calls, "AWS_DISABLE_HOST_PREFIX_INJECTION": "true"} if where.calls else {}


def environment(inherited: Mapping[str, str], told: Mapping[str, str], *, keep_files: bool = False) -> dict[str, str]:
    """The environment in which any AWS SDK takes its credentials from `told`, and from nowhere else.

    Unless the files are kept, ~/.aws/credentials is out of sight: SDKs prefer its `[default]` to the agent. With an
    endpoint in `told`, no other one is heeded, and no HTTP proxy stands before it.
    """
    kept = {name: value for name, value in inherited.items() if name not in WINNERS}
    if "AWS_EC2_METADATA_SERVICE_ENDPOINT" in told:
        kept.pop("AWS_EC2_METADATA_DISABLED", None)
    if ENDPOINT in told:
        kept = {name: value for name, value in kept.items() if not name.startswith(_OTHER_ENDPOINTS)}
        host = urlsplit(told[ENDPOINT]).hostname or ""
        for name in ("NO_PROXY", "no_proxy"):
            kept[name] = ",".join(filter(None, [kept.get(name), host]))
    return kept | ({} if keep_files else {"AWS_SHARED_CREDENTIALS_FILE": "/dev/null"}) | dict(told)


def exports(told: Mapping[str, str]) -> str:
    """Lines for `eval` in any POSIX shell."""
    return "\n".join(f"export {name}={shlex.quote(value)}" for name, value in told.items())


def ask_status(run_dir: Path) -> tuple[bytes, Status]:
    """The status document, as it came and as it is understood. Raises Fault."""
    raw = _ask(run_dir, "status")
    return raw, _understood(Status, raw)


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
        answers = [f"{door} {count}" for door, count in grant.answers.items()]
        lines.append(("", f"by {', '.join(grant.doors) or 'no door'}; answers: {', '.join(answers) or 'none'}"))
        if grant.ways and grant.ways != ("token",):
            calls = [f"{way} {count}" for way, count in grant.calls.items()]
            lines.append(("", f"calls go by {', '.join(grant.ways)}: {', '.join(calls) or 'none yet'}"))
        if grant.users:
            lines.append(("", f"for root, the agent's own user, {', '.join(grant.users)}"))
        if grant.file_problem:
            lines.append(("", f"no credential file ({grant.file_problem})"))
    return "\n".join(f"{name:<12} {value}" for name, value in lines)


def _ask(run_dir: Path, line: str) -> bytes:
    document, code, message = ask.ask(str(run_dir / SOCKET), line)
    printable, hint = "".join(letter if letter.isprintable() else "?" for letter in message), ask.hint_for(code)
    if code == ask.NOBODY:
        raise Fault("agent_not_running", printable, hint)
    if code:  # in the agent's own words
        raise Fault(code, printable, hint)
    return document


def _loads(raw: bytes) -> Any:
    try:
        return loads(raw)
    except Malformed:
        raise _strange() from None


def _understood(kind: type[T], raw: bytes) -> T:
    try:
        return decode(kind, _loads(raw))
    except Malformed:
        raise _strange() from None


def _strange() -> Fault:
    return Fault("answer_malformed", "The agent's answer is not understood", "Is it of this version?")
