"""`audit export`: the whole log in a file, in our own format or in others'."""

from collections.abc import Iterator
from pathlib import Path

import click

from gateway.cli import files, show
from gateway.cli.audit_pages import asked
from gateway.cli.client import Client
from gateway.cli.remote import client_of


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--format",
    "form",
    type=click.Choice(["raw", "ocsf", "ecs"]),
    default="raw",
    show_default=True,
    help="raw: a record's hash and the record, which 'audit verify' reads. ocsf, ecs: JSON for a SIEM.",
)
@click.pass_context
def export(context: click.Context, file: Path, form: str) -> None:
    """Write the whole log to FILE (- for standard output), one record a line."""
    lines = exported(client_of(context), form)
    if str(file) == "-":
        for line in lines:
            show.line(line)
    else:
        files.write(file, (line + "\n" for line in show.counted(lines, "records written")))


def exported(client: Client, form: str) -> Iterator[str]:
    """Every record up to this moment, each chain in order."""
    after: dict[str, int] = {}
    heads: dict[str, int] | None = None
    while heads is None or any(after.get(chain, 0) < seq for chain, seq in heads.items()):
        query = ",".join(f"{chain}:{seq}" for chain, seq in after.items())
        page = asked(client, f"/v1/audit/export?format={form}&after={query}")
        if heads is None:  # reading is recorded, too: without an end in advance the log would grow ahead of its reader
            heads = {head["chain"]: head["seq"] for head in page["heads"]}
        for record in page["records"]:
            after[record["chain"]] = record["seq"]
            if record["seq"] <= heads.get(record["chain"], 0):
                yield record["text"]
        if not page["records"]:
            return
