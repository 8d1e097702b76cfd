"""Commands about roles, and about requests that wait for a second person."""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import click

from gateway.cli import completion, show
from gateway.cli.asking import YES, confirm
from gateway.cli.client import Answer
from gateway.cli.failure import Failure
from gateway.cli.own_key import text
from gateway.cli.remote import EXPECTED, client_of, listed, only
from gateway.cli.show import JSON, WATCH
from gateway.core import operator_document
from gateway.core.errors import Refusal
from gateway.wire.messages import NAME

HINT = "Mend the file, and try again. docs/operators.md says what may be in a role."


@click.group()
def role() -> None:
    """Roles: what operators may do, on what, from where and when."""


@role.command("list")
@WATCH
@JSON
@click.pass_context
def list_roles(context: click.Context, watch: bool, raw: bool) -> None:
    """List every role, the built-in ones first."""
    client = client_of(context)
    show.listing(
        lambda: client.call("GET", "/v1/roles")["roles"],
        ("ROLE", "VERSION", "CHANGED", "PERMISSIONS"),
        lambda r: (
            r["name"], str(r["version"] or "built in"), show.moment(r["changed_at"]),
            ", ".join(r["document"]["permissions"]),
        ),
        "there is no role", raw=raw, watch=watch,
    )  # fmt: skip


@role.command("show")
@click.argument("name", metavar="NAME", shell_complete=completion.ROLES)
@JSON
@click.pass_context
def show_role(context: click.Context, name: str, raw: bool) -> None:
    """Show one role."""
    row = client_of(context).call("GET", _path(name))
    if raw:
        return show.as_json(row)
    by = "built in" if row["built_in"] else f"version {row['version']}, {show.moment(row['changed_at'])}"
    show.line(f"role {row['name']}, {by}")
    for key, value in row["document"].items():
        for each in value.items() if isinstance(value, dict) else value:
            show.line(f"  {key:<17} {' = '.join(each) if isinstance(each, tuple) else each}")


@role.command("apply")
@click.argument("file", type=click.Path(path_type=Path))
@EXPECTED
@JSON
@click.pass_context
def apply_role(context: click.Context, file: Path, expected: int | None, raw: bool) -> None:
    """Apply the role in FILE (.toml, .json): its name, and what it gives. It counts from the next request on."""
    name, document = _read(file)
    condition = {} if expected is None else {"If-Match": f'"{expected}"'} if expected else {"If-None-Match": "*"}
    answer = client_of(context).call("PUT", _path(name), document, condition)
    if raw:
        return show.as_json(answer)
    show.line(f"role {answer['name']} is at version {answer['version']}")


@role.command("remove")
@click.argument("name", metavar="NAME", shell_complete=completion.ROLES)
@YES
@JSON
@click.pass_context
def remove_role(context: click.Context, name: str, yes: bool, raw: bool) -> None:
    """Forget a role that no operator has."""
    path, client = _path(name), client_of(context)
    confirm(yes, f"The role {name} will be forgotten, and what it was is only in the audit log.")
    answer = client.call("DELETE", path)
    if raw:
        return show.as_json(answer)
    show.line(f"role {name} is gone; it was at version {answer['version']}")


@click.group()
def approval() -> None:
    """Approvals: requests that wait for a second person."""


@approval.command("list")
@click.option("--state", type=click.Choice(["open", "given", "refused", "spent"]), help="Only those.")
@WATCH
@JSON
@click.pass_context
def list_approvals(context: click.Context, state: str | None, watch: bool, raw: bool) -> None:
    """List what you asked for, and what you may agree to."""
    client = client_of(context)
    show.listing(
        lambda: only(listed(client, "/v1/approvals", "approvals"), state=state),
        ("APPROVAL", "STATE", "WHAT", "ASKED BY", "AGREE", "ENDS"),
        lambda r: (
            r["id"], r["state"], _what(r), r["asked_by"], f"{r['given']} of {r['needed']}",
            show.moment(r["expires_at"]),
        ),
        "nothing waits for you", raw=raw, watch=watch,
    )  # fmt: skip


@approval.command("give")
@click.argument("id_", metavar="ID", shell_complete=completion.APPROVALS)
@YES
@JSON
@click.pass_context
def give(context: click.Context, id_: str, yes: bool, raw: bool) -> None:
    """Agree with somebody's request, after looking at it."""
    path, client = _approval(id_), client_of(context)
    if not yes:
        rows = listed(client, "/v1/approvals", "approvals")
        row = next((each for each in rows if each["id"] == id_), None)
        if row is None:
            raise Failure("no such approval waits for you", "approval_unknown", "List them with 'approval list'.")
        lines = json.dumps(row["request"]["body"], indent=2).splitlines() if row["request"]["body"] else []
        confirm(yes, f"{row['asked_by']} wants to: {_what(row)}", *lines)
    _tell(client.call("POST", f"{path}/give"), raw)


@approval.command("refuse")
@click.argument("id_", metavar="ID", shell_complete=completion.APPROVALS)
@JSON
@click.pass_context
def refuse(context: click.Context, id_: str, raw: bool) -> None:
    """Say no, for good; or take back what you asked for."""
    path = _approval(id_)
    _tell(client_of(context).call("POST", f"{path}/refuse"), raw)


def _tell(row: Answer, raw: bool) -> None:
    if raw:
        return show.as_json(row)
    show.line(f"{row['id']} is {row['state']}: {row['given']} of {row['needed']} agree")
    if row["state"] == "given":
        show.line(f"{row['asked_by']} can now repeat the command with --approval {row['id']}")


def _what(row: Answer) -> str:
    asked = row["request"]
    return f"{asked['method']} {asked['path']}{'?' + asked['query'] if asked['query'] else ''}"


def _read(file: Path) -> tuple[str, dict[str, Any]]:
    """The role's name and document. Raises Failure, with every fault."""
    readers = {".toml": tomllib.loads, ".json": json.loads}
    if file.suffix not in readers:
        raise Failure(f"{file}: is neither .toml nor .json", "role_invalid", "Call it after what it holds.")
    try:
        document = readers[file.suffix](text(file, 64 * 1024))
    except (ValueError, RecursionError):
        raise Failure(f"{file}: is no {file.suffix[1:].upper()}", "role_invalid", HINT) from None
    if not isinstance(document, dict) or not isinstance(document.get("name"), str):
        raise Failure(f"{file}: begins with its name", "role_invalid", HINT)
    name = document.pop("name")
    try:
        operator_document.role(name, document)
    except Refusal as refusal:
        faults = tuple(f"{file}: {fault}" for fault in refusal.faults)
        raise Failure(f"{file} has {len(faults)} fault(s)", "role_invalid", HINT, faults) from None
    return name, document


def _path(name: str) -> str:
    if not re.fullmatch(NAME, name):
        raise Failure(f"{name!r} cannot be the name of a role", "name_invalid", "Use small letters, digits and dashes.")
    return f"/v1/roles/{name}"


def _approval(id_: str) -> str:
    if not re.fullmatch(r"ap-[0-9a-f]{16}", id_):
        raise Failure(f"{id_!r} is no approval", "approval_unknown", "List them with 'trusted-gateway approval list'.")
    return f"/v1/approvals/{id_}"
