"""How answers look: tables that fit the terminal, times absolute and relative, or JSON for scripts."""

import json
import unicodedata
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import click

from gateway.wire.messages import parse_instant

JSON = click.option("--json", "raw", is_flag=True, help="Print JSON.")


def as_json(value: Any) -> None:
    """Print JSON, ASCII only."""
    click.echo(json.dumps(value, indent=2))


def line(text: str) -> None:
    """Print one line, made harmless for the terminal."""
    click.echo(harmless(text))


def harmless(text: str) -> str:
    """One line that a terminal shows and does not obey: control characters, direction marks, line separators and all
    that is invisible, escaped.
    """
    return "".join(char if _visible(char) else ascii(char)[1:-1] for char in text)


def _visible(char: str) -> bool:
    return unicodedata.category(char)[0] not in "CZ" or char == " "


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], empty: str) -> None:
    """Print a table, or the sentence `empty` when there are no rows."""
    if not rows:
        click.echo(empty)
        return
    # Slow to import, and only tables need it.
    from rich.console import Console
    from rich.table import Table

    out = Table(*columns, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        out.add_row(*(harmless(cell) for cell in row))
    console = Console(highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console = Console(highlight=False, markup=False, emoji=False, width=240)
    console.print(out)


def moment(written: str | None, now: datetime | None = None) -> str:
    """`2026-11-22T02:31:10Z (in 58 min)`."""
    if not written:
        return "-"
    seconds = (parse_instant(written) - (now or datetime.now(UTC))).total_seconds()
    size = abs(seconds)
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if size >= 2 * length:
            amount = f"{size / length:.0f} {unit}"
            break
    else:
        amount = f"{size:.0f} s"
    return f"{written} ({'in ' + amount if seconds > 0 else amount + ' ago'})"
