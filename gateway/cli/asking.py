"""Before something is lost: what it is, and whether that is meant."""

import sys

import click

from gateway.cli import show
from gateway.cli.failure import Failure

YES = click.option("--yes", is_flag=True, help="Do not ask: for scripts.")


class Declined(click.Abort):
    """A no to the question, or Ctrl-C at it: nothing was done."""


def confirm(yes: bool, *lost: str) -> None:
    """Say what will be lost, a line each, and ask. Raises Failure where nobody can be asked, Declined at a no."""
    if yes:
        return
    for line in lost:
        click.echo(show.harmless(line), err=True)
    if not sys.stdin.isatty():
        raise Failure("nobody is there to be asked", "confirmation_required", "Say --yes.")
    try:
        click.confirm("Go on?", abort=True, err=True)
    except click.Abort:
        raise Declined from None
