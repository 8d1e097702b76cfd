"""Manual pages of every command, from what `--help` says: `python -m gateway.cli.man DIRECTORY`."""

import re
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import click

from gateway.cli.main import cli

NAME = "trusted-gateway"


def pages() -> dict[str, str]:
    """File name → page, in roff (man(7))."""
    root = click.Context(cli, info_name=NAME, **cli.context_settings)
    return {f"{'-'.join(c.command_path.split())}.1": _page(c) for c in _commands(root)}


def main() -> None:
    """Write them into a directory."""
    if len(sys.argv) != 2:
        sys.exit("usage: python -m gateway.cli.man DIRECTORY")
    directory = Path(sys.argv[1])
    directory.mkdir(parents=True, exist_ok=True)
    for name, page in pages().items():
        (directory / name).write_text(page)


def _commands(context: click.Context) -> Iterator[click.Context]:
    yield context
    if isinstance(context.command, click.Group):
        for name, command in _inner(context):
            yield from _commands(click.Context(command, info_name=name, parent=context))


def _inner(context: click.Context) -> list[tuple[str, click.Command]]:
    assert isinstance(context.command, click.Group)
    names = context.command.list_commands(context)
    return [(name, each) for name in names if (each := context.command.get_command(context, name))]


def _page(context: click.Context) -> str:
    command, path = context.command, context.command_path
    title = "-".join(path.split())
    first, *rest = _paragraphs(command.help or "")
    lines = [
        f'.TH "{title.upper()}" "1" "" "{NAME} {version(NAME)}" "TrustedGateway"',
        ".SH NAME",
        f"{_text(title)} \\- {_text(command.get_short_help_str(200))}",
        ".SH SYNOPSIS",
        f".B {_text(path)}",
        _text(" ".join(command.collect_usage_pieces(context))),
        ".SH DESCRIPTION",
        _text(first),
    ]
    for each in rest:
        lines += [".PP", _text(each)]
    lines += [".SH OPTIONS"]
    options = [each for each in command.get_params(context) if isinstance(each, click.Option)]
    for written, says in (record for each in options if (record := each.get_help_record(context))):
        lines += [".TP", f"\\fB{_text(written)}\\fR", _text(says) or "\\&"]
    if isinstance(command, click.Group):
        lines += [".SH COMMANDS"]
        for name, inner in _inner(context):
            lines += [".TP", f"\\fB{_text(name)}\\fR", _text(inner.get_short_help_str(200))]
    status = (
        "0 when it was done; 1 when it failed; 2 when the command line is wrong; 130 when it was broken off; "
        "3 when audit reconcile or audit findings found something."
    )
    lines += [".SH EXIT STATUS", _text(status)]
    seen = [context.parent] if context.parent else []
    seen += (
        [click.Context(each, info_name=name, parent=context) for name, each in _inner(context)]
        if (isinstance(command, click.Group))
        else []
    )
    lines += [".SH SEE ALSO", ",\n".join(f"\\fB{_text('-'.join(c.command_path.split()))}\\fR(1)" for c in seen)]
    return "\n".join(lines) + "\n"


def _paragraphs(text: str) -> list[str]:
    return [" ".join(each.split()) for each in re.split(r"\n\s*\n", text.strip())]


def _text(written: str) -> str:
    """Nothing in it is a request or an escape of roff's."""
    special = {"\\": "\\e", "-": "\\-", "'": "\\(aq", "`": "\\(ga", "^": "\\(ha", "~": "\\(ti", "…": "\\&..."}
    out = "".join(special.get(c, c) for c in " ".join(written.split()))
    return f"\\&{out}" if out.startswith(".") else out


if __name__ == "__main__":
    main()
