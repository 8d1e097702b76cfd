"""How answers look: tables that fit the terminal, times absolute and relative, or JSON for scripts."""

import json
import shutil
import sys
import textwrap
import time
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, TypeVar

import click

from gateway.cli.failure import Failure

JSON = click.option("--json", "raw", is_flag=True, help="Print JSON.")
WATCH = click.option("--watch", is_flag=True, help="Show it anew every two seconds, until Ctrl-C.")
PAUSE = 2.0  # seconds
T = TypeVar("T")
GAP = 2  # between two columns


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


def listing(
    rows: Callable[[], Sequence[Any]],
    columns: Sequence[str],
    cells: Callable[[Any], Sequence[str]],
    empty: str,
    *,
    raw: bool,
    watch: bool = False,
) -> None:
    """Print a list: a table, or the sentence `empty`; JSON with `raw`; with `watch` anew every two seconds."""

    def shown(width: int | None) -> str:
        found = rows()
        if raw:
            return json.dumps(found)  # one line a look: for scripts
        return "\n".join(laid_out(columns, [cells(each) for each in found], width)) if found else empty

    if watch:
        return _again(shown)
    if raw:
        return as_json(rows())
    click.echo(shown(_width()))


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], empty: str) -> None:
    """Print a table, or the sentence `empty` when there are no rows."""
    listing(lambda: rows, columns, lambda row: row, empty, raw=False)


def _again(shown: Callable[[int | None], str]) -> None:
    """Until Ctrl-C: in place on a terminal, one after the other elsewhere."""
    with suppress(KeyboardInterrupt):
        if not sys.stdout.isatty():
            while True:
                click.echo(shown(None))
                time.sleep(PAUSE)
        # Slow to import, and nothing else needs it.
        from rich.live import Live
        from rich.text import Text

        with Live(auto_refresh=False) as live:
            while True:
                live.update(Text.from_ansi(shown(_width())), refresh=True)
                time.sleep(PAUSE)


def _width() -> int | None:
    """Of the terminal; None where there is none, and lines may be as long as they like."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def laid_out(columns: Sequence[str], rows: Sequence[Sequence[str]], width: int | None) -> list[str]:
    """The lines of a table. Where it is too wide, its columns go on below, indented: nothing is cut off."""
    cells = [[harmless(cell) for cell in row] for row in rows]
    widths = [max(_columns(each) for each in column) for column in zip(columns, *cells, strict=True)]
    bands: list[list[int]] = [[]]
    for index, each in enumerate(widths):
        if width and bands[-1] and sum(widths[i] + GAP for i in bands[-1]) + each + GAP > width:
            bands.append([])
        bands[-1].append(index)
    lines = []
    for row in (columns, *cells):
        for number, band in enumerate(bands):
            text = "".join(row[i] + " " * (widths[i] + GAP - _columns(row[i])) for i in band).rstrip()
            text = " " * (GAP * (number > 0)) + text
            # One cell alone may still be too long: a list of permissions.
            parts = textwrap.wrap(text, width, subsequent_indent=" " * (2 * GAP)) if width and len(band) == 1 else []
            lines += [click.style(each, bold=True) if row is columns else each for each in parts or [text]]
    return lines


def progress(text: str = "") -> None:
    """On a terminal, one line of standard error: the next one takes its place, and none is left of it without text."""
    if sys.stderr.isatty():
        click.echo(f"\r\x1b[K{harmless(text)}", nl=False, err=True)


def counted(rows: Iterable[T], what: str) -> Iterator[T]:
    """The same rows, with progress every thousand."""
    for number, row in enumerate(rows, 1):
        if number % 1000 == 0:
            progress(f"{number} {what}")
        yield row
    progress()


def _columns(text: str) -> int:
    """How wide a text is on a terminal."""
    return sum(0 if unicodedata.combining(c) else 1 + (unicodedata.east_asian_width(c) in "WF") for c in text)


def moment(written: str | None, now: datetime | None = None) -> str:
    """`2026-11-22T02:31:10Z (in 58 min)`, of a time with fractions of a second or without. Raises Failure."""
    if not written:
        return "-"
    try:
        seconds = (datetime.fromisoformat(written) - (now or datetime.now(UTC))).total_seconds()
    except (ValueError, TypeError):
        raise Failure("its answer has a time that is none", "gateway_strange", "Is this a gateway?") from None
    amount = span(abs(seconds))
    return f"{written} ({'in ' + amount if seconds > 0 else amount + ' ago'})"


def who(identity: str) -> str:
    """The name at the end of a SPIFFE ID: `alice`."""
    return str(identity).rpartition("/")[2]


def span(seconds: float) -> str:
    """`58 min`."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
