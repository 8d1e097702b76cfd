"""The audit log from outside: `tail`, `export` and `verify`. Verification runs here, on the operator's machine."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from gateway.cli import files, show
from gateway.cli.client import Client
from gateway.cli.failure import Failure
from gateway.cli.remote import client_of
from gateway.cli.show import JSON
from gateway.core.audit import verify as verify_rows


@click.group()
def audit() -> None:
    """The audit log, which cannot be changed unnoticed."""


@audit.command()
@click.option("-n", "count", type=click.IntRange(min=1), default=20, show_default=True, help="How many records.")
@click.option("--json", "raw", is_flag=True, help="Print the records as they are stored, one a line.")
@click.pass_context
def tail(context: click.Context, count: int, raw: bool) -> None:
    """Show the latest records."""
    rows = sorted(records(client_of(context), last=count), key=lambda row: json.loads(row[0])["at"])[-count:]
    if raw:
        for line, _ in rows:
            click.echo(line)
        return
    bodies = [json.loads(line) for line, _ in rows]
    show.table(
        ("AT", "KIND", "EVENT", "", "REASON", "BY", "ON"),
        [
            (
                body["at"][:23] + "Z",
                body["kind"],
                body["name"],
                "allowed" if body["allowed"] else "refused",
                body["reason"],
                (body["subject"] or body["source"] or "-").rpartition("/")[2],
                (body["object"] or "-").rpartition("/")[2],
            )
            for body in bodies
        ],
        "the log is empty",
    )


@audit.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.pass_context
def export(context: click.Context, file: Path) -> None:
    """Write the whole log to FILE, one record and its hash a line."""
    lines = (f"{digest} {line}" for line, digest in records(client_of(context)))
    if str(file) == "-":
        for line in lines:
            show.line(line)
    else:
        files.write(file, (line + "\n" for line in lines))


@audit.command()
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option("--witness", type=click.Path(path_type=Path), help="What --save-witness kept: finds a log that was cut.")
@click.option("--save-witness", type=click.Path(path_type=Path), help="Keep where each chain ends now.")
@JSON
@click.pass_context
def verify(
    context: click.Context, file: Path | None, witness: Path | None, save_witness: Path | None, raw: bool
) -> None:
    """Walk the log (or an exported FILE) and find any record that was changed, removed, inserted or moved."""
    rows = _from_file(file) if file else records(client_of(context))
    verdict = verify_rows(rows, _witness(witness) if witness else None)
    faults = verdict.faults if verdict.records else ("the log is empty",)
    if raw:
        show.as_json({**asdict(verdict), "faults": faults, "verified": bool(verdict)})
    if not verdict:
        for fault in () if raw else faults[:10]:
            show.line(fault)
        raise Failure(f"the log does not verify: {len(faults)} fault(s)", "audit_broken", "Keep this copy as evidence.")
    if save_witness:
        files.write(save_witness, json.dumps(verdict.heads))
    if raw:
        return
    for chain, (seq, digest) in sorted(verdict.heads.items()):
        show.line(f"{chain}: {seq} records, head {digest}")
    note = f"; {verdict.open_intents} mint(s) without an outcome" if verdict.open_intents else ""
    show.line(f"verified {verdict.records} records in {len(verdict.heads)} chain(s){note}")


def records(client: Client, last: int | None = None) -> Iterator[tuple[str, str]]:
    """Every record up to this moment (or the `last` ones of each chain), as (line, hash), each chain in order."""
    heads = client.call("GET", "/v1/status")["audit"]
    after: dict[str, int] = {}
    if last is not None:
        after = {chain: max(0, head["records"] - last) for chain, head in heads.items()}
    while True:
        query = ",".join(f"{chain}:{seq}" for chain, seq in after.items())
        page: list[dict[str, Any]] = client.call("GET", f"/v1/audit?after={query}")["records"]
        for row in page:
            after[row["chain"]] = row["seq"]
            if row["seq"] <= heads.get(row["chain"], {"records": 0})["records"]:
                yield row["line"], row["hash"]
        # Reading is recorded, too: without an end in advance the log would grow ahead of its reader.
        if not page or all(after.get(chain, 0) >= head["records"] for chain, head in heads.items()):
            return


def _from_file(path: Path) -> Iterator[tuple[str, str]]:
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            for row in file:
                digest, _, line = row.rstrip("\n").partition(" ")
                yield line, digest
    except OSError as error:
        raise Failure(f"{path}: {error.strerror}", "file_missing", "Name an exported log.") from None


def _witness(path: Path) -> dict[str, tuple[int, str]]:
    try:
        return {str(chain): (int(seq), str(digest)) for chain, (seq, digest) in json.loads(path.read_text()).items()}
    except (OSError, ValueError, TypeError, AttributeError):
        raise Failure(f"{path} is no witness", "witness_invalid", "Name a file that --save-witness made.") from None
