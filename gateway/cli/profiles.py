"""Commands about profiles: what would change is shown, and nothing is changed that was not shown."""

import difflib
import json
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import click

from gateway.cli import completion, show
from gateway.cli.client import Answer, Client
from gateway.cli.failure import Failure
from gateway.cli.remote import EXPECTED, client_of
from gateway.cli.show import JSON, WATCH
from gateway.wire.messages import NAME

SHORT = timedelta(minutes=30)  # an agent renews at half of it

FILE = click.argument("file", type=click.Path(path_type=Path))
PROFILE = click.argument("name", metavar="NAME", shell_complete=completion.PROFILES)


@click.group()
def profile() -> None:
    """Profiles: what a kind of instance may have."""


@profile.command()
@FILE
@JSON
def check(file: Path, raw: bool) -> None:
    """Check the profile in FILE (.toml, .yaml), without a gateway."""
    # Slow to import: it knows YAML, and what instances must prove.
    from gateway.cli import profile_file
    from gateway.core.profile import normal

    found = profile_file.read(file)
    if raw:
        return show.as_json({"name": found.name, "document": normal(found.document)})
    _advise(found.document)
    show.line(f"{file}: profile {found.name} is valid; grants: {_grants(found.document)}")


@profile.command()
@FILE
@click.option("--dry-run", is_flag=True, help="Check and show only; the gateway checks, too.")
@EXPECTED
@JSON
@click.pass_context
def apply(context: click.Context, file: Path, dry_run: bool, expected: int | None, raw: bool) -> None:
    """Apply the profile in FILE (.toml, .yaml), and show what that changes.

    If someone else applies another one at the same moment, nothing happens.
    """
    from gateway.cli import profile_file
    from gateway.core.profile import normal

    found = profile_file.read(file)
    client = client_of(context)
    before = _in_force(client, found.name, expected)
    document = normal(found.document)
    query = "?dry_run=true" if dry_run else ""
    try:
        answer = client.call("PUT", f"/v1/profiles/{found.name}{query}", document, _condition(before))
    except Failure as failure:
        if failure.faults:
            raise found.failure(failure.faults, failure.code, failure.hint) from None
        raise
    _advise(document)
    _tell(answer, before, str(file), raw)


@profile.command("list")
@WATCH
@JSON
@click.pass_context
def list_(context: click.Context, watch: bool, raw: bool) -> None:
    """List all profiles."""
    client = client_of(context)
    show.listing(
        lambda: client.call("GET", "/v1/profiles")["profiles"],
        ("PROFILE", "VERSION", "GRANTS", "APPLIED", "BY"),
        lambda r: (
            r["name"], str(r["version"]), _grants(r["document"]), show.moment(r["applied_at"]),
            show.who(r["applied_by"]),
        ),
        "no profile is applied", raw=raw, watch=watch,
    )  # fmt: skip


@profile.command("show")
@PROFILE
@click.option("--version", type=click.IntRange(1), help="As it was applied as this version.")
@JSON
@click.pass_context
def show_(context: click.Context, name: str, version: int | None, raw: bool) -> None:
    """Show the profile that is in force, its policies opened up."""
    answer = _version(client_of(context), name, version)
    if raw:
        return show.as_json(answer)
    show.line(
        f"version {answer['version']}, applied {show.moment(answer['applied_at'])} by {show.who(answer['applied_by'])}"
    )
    for line in _pretty(answer["document"]):
        show.line(line)


@profile.command()
@PROFILE
@JSON
@click.pass_context
def history(context: click.Context, name: str, raw: bool) -> None:
    """List every version of a profile, the latest first."""
    rows = client_of(context).call("GET", f"{_path(name)}/versions")["versions"]
    if raw:
        return show.as_json(rows)
    show.table(
        ("VERSION", "APPLIED", "BY"),
        [(str(r["version"]), show.moment(r["applied_at"]), show.who(r["applied_by"])) for r in rows],
        "it has no version",
    )


@profile.command()
@PROFILE
@click.argument("one", type=click.IntRange(1), metavar="VERSION")
@click.argument("other", type=click.IntRange(1), metavar="VERSION")
@JSON
@click.pass_context
def diff(context: click.Context, name: str, one: int, other: int, raw: bool) -> None:
    """Show what differs between two versions."""
    client = client_of(context)
    before, after = _version(client, name, one), _version(client, name, other)
    lines = _diff(before, after["document"], f"{name}, version {other}")
    if raw:
        return show.as_json({"name": name, "versions": [one, other], "diff": "\n".join(lines)})
    for line in lines or [f"versions {one} and {other} are the same"]:
        show.line(line)


@profile.command()
@PROFILE
@click.option("--to", type=click.IntRange(1), help="Which version; the one before, when left out.")
@EXPECTED
@JSON
@click.pass_context
def rollback(context: click.Context, name: str, to: int | None, expected: int | None, raw: bool) -> None:
    """Apply an earlier version anew, as the next one, and show what that changes."""
    client = client_of(context)
    path, before = _path(name), _in_force(client, name, expected)
    if before is None:
        raise Failure(f"no profile {name} is applied", "profile_unknown", "'trusted-gateway profile list' has all.")
    to = to or before["version"] - 1
    if not to:
        raise Failure("there is no version before the first", "profile_unknown", "'profile history' has all versions.")
    answer = client.call("POST", f"{path}/rollback", {"version": to}, _condition(before))
    _tell(answer, before, f"{name}, version {to}", raw)


def _path(name: str) -> str:
    if not re.fullmatch(NAME, name):
        raise Failure(f"{name!r} names no profile", "profile_unknown", "'trusted-gateway profile list' has all.")
    return f"/v1/profiles/{name}"


def _version(client: Client, name: str, version: int | None) -> Answer:
    return client.call("GET", _path(name) + (f"?version={version}" if version else ""))


def _in_force(client: Client, name: str, expected: int | None) -> Answer | None:
    """The profile as it is, None when there is none. Raises Failure when it is not the version that was expected."""
    try:
        found = _version(client, name, None)
    except Failure as failure:
        if failure.code != "profile_unknown":
            raise
        found = None
    version = found["version"] if found else 0
    if expected is not None and version != expected:
        now = f"version {version} of profile {name} is in force" if found else f"no profile {name} is applied"
        raise Failure(now, "precondition_failed", "Look at what changed meanwhile, then apply again.")
    return found


def _condition(before: Answer | None) -> dict[str, str]:
    """What was shown must still be so (RFC 9110, section 13.1)."""
    return {"If-Match": f'"{before["version"]}"'} if before else {"If-None-Match": "*"}


def _tell(answer: Answer, before: Answer | None, source: str, raw: bool) -> None:
    lines = _diff(before, answer["document"], source) if before and answer["changed"] else []
    if raw:
        return show.as_json({**answer, "diff": "\n".join(lines)})
    for line in lines:
        show.line(line)
    name, version, grants = answer["name"], answer["version"], _grants(answer["document"])
    if not answer["changed"]:
        show.line(f"profile {name} is unchanged at version {version}; grants: {grants}")
    elif answer["dry_run"]:
        show.line(f"profile {name} would be at version {version}; grants: {grants}; nothing was changed")
    else:
        show.line(f"profile {name} is at version {version}; grants: {grants}")


def _advise(document: dict[str, Any]) -> None:
    """What works, and costs something."""
    from gateway.core.profile_document import parse_duration

    for grant in document["grants"]:
        if parse_duration(written := grant.get("duration", "1h")) <= SHORT:
            why = "SDKs of Python ask the agent again at each call while no more than 15 minutes are left"
            click.echo(f"note: grant {grant['name']} lasts {written}: {why}", err=True)


def _grants(document: dict[str, Any]) -> str:
    return ", ".join(grant["name"] for grant in document["grants"])


def _diff(before: Answer, after: dict[str, Any], source: str) -> list[str]:
    """A unified diff, its lines without ends."""
    name = f"{before['name']}, version {before['version']}"
    return list(difflib.unified_diff(_pretty(before["document"]), _pretty(after), name, source, lineterm=""))


def _pretty(document: dict[str, Any]) -> list[str]:
    """The document in lines: keys of the profile sorted, policies opened up and in their own order."""

    def opened(value: Any, key: str = "") -> Any:
        if key == "policy" and isinstance(value, str):
            try:
                return json.loads(value)
            except ValueError:
                return value
        if isinstance(value, dict):
            return {name: opened(value[name], name) for name in sorted(value)}
        return [opened(item) for item in value] if isinstance(value, list) else value

    return json.dumps(opened(document), indent=2, ensure_ascii=False).splitlines()
