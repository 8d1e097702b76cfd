"""`audit verify`: the log is walked on this machine, and held against whatever witnesses there are."""

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import Any

import click
from cryptography import x509

from certs import statement
from certs.errors import CertificateError
from gateway.adapters.archive_files import ArchiveFiles
from gateway.cli import audit_pages, files, show
from gateway.cli.client import ROOT
from gateway.cli.failure import Failure
from gateway.cli.remote import client_of
from gateway.cli.show import JSON
from gateway.core.checkpoint import starts_of
from gateway.core.verification import Start, Witness, witness_of, witness_of_heads
from gateway.core.verification import verify as verify_rows
from gateway.wire import checkpoint as wire
from gateway.wire.strict import Malformed, decode

PATH = click.Path(path_type=Path)


@click.command()
@click.argument("file", required=False, type=PATH)
@click.option("--witness", "witnesses", type=PATH, multiple=True, help="What --save-witness or an agent kept.")
@click.option("--save-witness", type=PATH, help="Keep where each chain ends now, and the latest checkpoint.")
@click.option("--archive", type=PATH, help="A directory that 'audit archive' wrote: its records come first.")
@click.option("--ca", type=PATH, help="The CA's certificate, when it is not the one of your directory.")
@JSON
@click.pass_context
def verify(
    context: click.Context,
    file: Path | None,
    witnesses: Sequence[Path],
    save_witness: Path | None,
    archive: Path | None,
    ca: Path | None,
    raw: bool,
) -> None:
    """Walk the log (or an exported FILE) and find any record that was changed, removed, inserted or moved."""
    root = _root(ca or context.obj["operator_directory"].path / ROOT)
    seen = [witness for path in witnesses for witness in _witnesses(path, root)]
    begin: dict[str, Start] = {}
    older: Iterator[tuple[str, str]] = iter(())
    place = ArchiveFiles(archive or Path())
    manifests = place.manifests() if archive else []
    checkpoint: wire.CheckpointAnswer | None = None
    if file:
        newer = _from_file(file)
    else:
        client = client_of(context)
        state = audit_pages.state(client)
        after: dict[str, int] = {}
        archived = 0
        if state["begin"] is not None:
            said = _signed(_answer(state["begin"]["checkpoint"]), root, None)
            after, archived = {name: each.size for name, each in said.chains.items()}, said.number
            if archive:
                seen.append(witness_of(said))
            else:
                begin = _begin(said, state["begin"]["edges"])
        if state["checkpoint"] is not None:
            checkpoint = _answer(state["checkpoint"])
            seen.append(witness_of(_signed(checkpoint, root, None)))
        # One that is ahead of the gateway's word was left by a run that was broken off.
        manifests = [each for each in manifests if each["number"] <= archived]
        heads = {head["chain"]: (head["seq"], head["hash"]) for head in state["heads"]}
        seen.append(Witness("the gateway", witness_of_heads(heads).chains))
        newer = audit_pages.records(client, audit_pages.heads_of(state), after)
    if archive:
        older = (row for each in manifests for file in each["files"] for row in place.rows(file["name"]))
        seen += [witness_of(_signed(_answer(each["checkpoint"]), root, archive)) for each in manifests]
    verdict = verify_rows(show.counted(chain(older, newer), "records walked"), seen, begin)
    if not verdict and not file and audit_pages.state(client)["begin"] != state["begin"]:
        text = "records were moved into an archive while the log was walked"
        raise Failure(text, "audit_moved", "Run it again; with --archive, when it goes into that directory.")
    faults = verdict.faults if verdict.records else ("the log is empty",)
    if raw:
        show.as_json({**asdict(verdict), "faults": faults, "verified": bool(verdict)})
    if not verdict:
        for fault in () if raw else faults[:10]:
            show.line(fault)
        raise Failure(f"the log does not verify: {len(faults)} fault(s)", "audit_broken", "Keep this copy as evidence.")
    if save_witness:
        kept_now = [asdict(checkpoint)] if checkpoint else []
        files.write(save_witness, json.dumps({"heads": verdict.heads, "checkpoints": kept_now}))
    if raw:
        return
    for name, (seq, digest) in sorted(verdict.heads.items()):
        show.line(f"{name}: {seq} records, head {digest}")
    note = f"; {verdict.open_intents} mint(s) without an outcome" if verdict.open_intents else ""
    show.line(f"verified {verdict.records} records in {len(verdict.heads)} chain(s){note}")


def _from_file(path: Path) -> Iterator[tuple[str, str]]:
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            for row in file:
                digest, _, line = row.rstrip("\n").partition(" ")
                yield line, digest
    except OSError as error:
        raise Failure(f"{path}: {error.strerror}", "file_missing", "Name an exported log.") from None


def _witnesses(path: Path, root: x509.Certificate | None) -> list[Witness]:
    """What a file says that --save-witness wrote, or `trusted-gateway-agent witness`. Raises Failure."""
    try:
        document = json.loads(path.read_text())
        checkpoints = document.get("checkpoints", [])
        heads = document.get("heads", {}) if "checkpoints" in document else document
        found = [witness_of(_signed(decode(wire.CheckpointAnswer, each), root, path)) for each in checkpoints]
        known = {str(name): (int(seq), str(digest)) for name, (seq, digest) in heads.items()}
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        raise _no_witness(path) from None
    if not known and not found:
        raise _no_witness(path)
    return [*found, *([witness_of_heads(known)] if known else [])]


def _signed(answer: wire.CheckpointAnswer, root: x509.Certificate | None, path: Path | None) -> wire.Statement:
    """The statement of a checkpoint that our CA's audit key has signed. Raises Failure."""
    if root is None:
        raise Failure("no CA is known here", "operator_missing", "Name its certificate with --ca FILE.")
    try:
        leaf, issuer = (x509.load_pem_x509_certificate(each.encode()) for each in (answer.certificate, answer.issuer))
        said = wire.read(answer.statement)
        signature = base64.b64decode(answer.signature, validate=True)
        at = datetime.fromisoformat(said.at)
        statement.verify(wire.signed(answer.statement), signature, leaf, issuer, root, at)
        return said
    except (CertificateError, Malformed, ValueError, TypeError):
        whose = f"{path}" if path else "the gateway's checkpoint"
        raise Failure(
            f"{whose} is not signed by the CA", "witness_invalid", "It is forged, or of another gateway: --ca FILE."
        ) from None


def _answer(found: object) -> wire.CheckpointAnswer:
    try:
        return decode(wire.CheckpointAnswer, found)
    except Malformed:
        raise Failure("its checkpoint is none", "gateway_strange", "Is this gateway of this version?") from None


def _begin(said: wire.Statement, edges: Sequence[Mapping[str, Any]]) -> dict[str, Start]:
    try:
        return starts_of(said, {each["chain"]: each["hashes"] for each in edges})
    except (ValueError, KeyError, TypeError):
        raise Failure(
            "the log does not begin where the archive ended", "audit_broken", "Keep this copy as evidence."
        ) from None


def _root(path: Path) -> x509.Certificate | None:
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        raise Failure(
            f"{path} is no certificate", "file_missing", "Name the CA's certificate with --ca FILE."
        ) from None


def _no_witness(path: Path) -> Failure:
    return Failure(f"{path} is no witness", "witness_invalid", "Name a file that --save-witness or an agent made.")
