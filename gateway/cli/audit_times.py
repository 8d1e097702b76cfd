"""How commands about the audit take a time: as it is written, or how long ago."""

import re
from datetime import UTC, datetime, timedelta

import click

from gateway.cli.failure import Failure

SINCE = click.option("--since", metavar="TIME", help="A time, 2026-11-23T12:00:00Z, or how long ago: 30m, 12h, 7d.")


def moment(written: str) -> str:
    """RFC 3339, from that or from how long ago. Raises Failure."""
    if match := re.fullmatch(r"([1-9][0-9]{0,5})([smhd])", written):
        unit = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}[match[2]]
        return (datetime.now(UTC) - timedelta(**{unit: int(match[1])})).strftime("%Y-%m-%dT%H:%M:%SZ")
    try:
        found = datetime.fromisoformat(written)
    except ValueError:
        raise Failure(f"{written!r} is no time", "time_invalid", "Write 2026-11-23T12:00:00Z, or 12h.") from None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
