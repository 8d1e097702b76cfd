"""`key …`: the upstream keys, without their secrets."""

import time
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

import click

from gateway.cli import completion, show
from gateway.cli.asking import YES, confirm
from gateway.cli.failure import Failure
from gateway.cli.remote import client_of, listed, only
from gateway.cli.revoke import WAIT, cut_off
from gateway.cli.show import JSON, WATCH

EVERY = 1.0  # seconds between two looks
LONGEST_WAIT = 180.0  # housekeeping goes on with a rotation every ten seconds
_STEPS = {
    "create": "made a new key",
    "verify": "AWS knows it",
    "switch": "in force",
    "drain": "nothing uses the old one any more",
    "deactivate": "the old one is inactive",
    "delete": "the old one is deleted",
}
DRY_RUN = click.option("--dry-run", is_flag=True, help="Say what it would do, and change nothing.")


class _Keys(click.Group):
    """`import` opens the store and the seal: its module is imported when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return ["import", *super().list_commands(ctx)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name == "import":
            from gateway.cli.host import import_

            return import_
        return super().get_command(ctx, cmd_name)


@click.group(cls=_Keys)
def key() -> None:
    """Upstream keys: the double-secret ones that never leave the vault."""


@key.command("list")
@click.option("--purpose", type=click.Choice(["vend", "revoke"]), help="Only those.")
@WATCH
@JSON
@click.pass_context
def list_(context: click.Context, purpose: str | None, watch: bool, raw: bool) -> None:
    """List all keys; nobody can read their secrets."""
    client = client_of(context)
    show.listing(
        lambda: only(listed(client, "/v1/keys", "keys"), purpose=purpose),
        ("KEY", "ACCOUNT", "ACCESS KEY ID", "PURPOSE", "STATE", "SINCE", "ROTATION"),
        lambda r: (
            r["name"], r["account"], r["access_key_id"], r["purpose"], r["state"], show.moment(r["created_at"]),
            f"next: {r['rotation']['next']}" if r["rotation"] else "-",
        ),
        "no key was imported", raw=raw, watch=watch,
    )  # fmt: skip


@key.command()
@click.argument("name", shell_complete=completion.KEYS)
@click.option("--end-sessions", is_flag=True, help="End what was made with the old key, too; applications notice.")
@DRY_RUN
@YES
@JSON
@click.pass_context
def rotate(context: click.Context, name: str, end_sessions: bool, dry_run: bool, yes: bool, raw: bool) -> None:
    """Put a new key in the place of NAME, with AWS. Applications do not notice, and sessions go on."""
    client = client_of(context)
    if end_sessions and not dry_run:
        confirm(yes, f"Every session that was made with {name} ends, and with it all others of the same roles.")
    query = f"?dry_run={str(dry_run).lower()}&end_sessions={str(end_sessions).lower()}"
    found = client.call("POST", f"/v1/keys/{quote(name, safe='')}/rotate{query}")
    if dry_run:
        return (
            show.as_json(found)
            if raw
            else show.line(f"would replace {found['old']} of user {found['user']}: {', '.join(_STEPS)}")
        )
    told: list[str] = []
    ends = time.monotonic() + LONGEST_WAIT
    while True:
        if not raw:
            _tell(found, told)
        if found["next"] is None or time.monotonic() >= ends:
            break
        time.sleep(EVERY)
        found = client.call("GET", f"/v1/keys/{quote(name, safe='')}/rotations/{found['id']}")
    if raw:
        return show.as_json(found)
    if found["next"] is not None:
        raise Failure(
            f"{name} is not rotated yet: next is to {found['next']}", "rotation_runs",
            "The gateway goes on by itself; 'trusted-gateway key list' tells how far it is.",
        )  # fmt: skip
    show.line(f"{name} is rotated: {found['new']} has taken the place of {found['old']}")


@key.command()
@click.argument("name", shell_complete=completion.KEYS)
@WAIT
@DRY_RUN
@YES
@JSON
@click.pass_context
def disable(context: click.Context, name: str, wait: bool, dry_run: bool, yes: bool, raw: bool) -> None:
    """Cut off the key NAME: nothing is made with it, it is deactivated at AWS, and its sessions end."""
    _cut(context, f"{quote(name, safe='')}/disable", wait=wait, dry_run=dry_run, yes=yes, raw=raw)


@key.command()
@click.argument("name", shell_complete=completion.KEYS)
@WAIT
@DRY_RUN
@YES
@JSON
@click.pass_context
def compromised(context: click.Context, name: str, wait: bool, dry_run: bool, yes: bool, raw: bool) -> None:
    """The key NAME is in wrong hands: cut it off with all that was made with it, and put a new one in its place."""
    _cut(context, f"{quote(name, safe='')}/compromised", wait=wait, dry_run=dry_run, yes=yes, raw=raw)


def _cut(context: click.Context, path: str, **how: bool) -> None:
    def loses(plan: Any) -> Sequence[str]:
        return (
            f"This ends {len(plan['cut']['sessions'])} session(s), and all others of the same roles that are older.",
        )

    cut_off(context, f"/v1/keys/{path}", {}, loses, **how)


def _tell(found: Any, told: list[str]) -> None:
    """Each step once, when it is done."""
    for step, says in _STEPS.items():
        if step in found["done"] and step not in told:
            show.line(f"{step:<12}{says}")
            told.append(step)
