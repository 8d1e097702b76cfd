"""Old records leave the store for an archive, and the log stays one: it goes on where a signed checkpoint ended.

Files first, which are read back and verified, then their manifest; only then the store is told that its records begin
behind that checkpoint, and only then they are deleted. A crash at any point loses nothing: before that, the next run
withdraws the manifest and writes its files anew; behind it, the next run deletes what was left. Two at once in one
place would write over each other's files: the second is refused. So is what a sink has not delivered yet.
"""

from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from itertools import chain

from gateway.core import checkpoint
from gateway.core.audit import Event, Kind, Name
from gateway.core.errors import Refusal
from gateway.core.operator_model import Checkpoint
from gateway.core.sinks import Position
from gateway.core.verification import verify, witness_of
from gateway.flows.checkpoint import ARCHIVED, move, pointed, shown
from gateway.flows.export import SINK
from gateway.ports import ArchivePlace, RandomBytes, Store, Transaction

PAGE = 5000
DELETED = 2000  # records in one transaction: everybody's writes wait for it
AHEAD = 500


@dataclass(frozen=True, slots=True)
class Archived:
    """What one run did: up to which checkpoint, and how many records."""

    number: int
    at: datetime
    records: int


class Archive:
    """Raises Refusal: `archive_unusable`, also for another gateway's archive; `archive_undelivered` for what one of
    `sinks` (or any that has ever delivered) still has to; `archive_broken` when what was written does not verify.
    """

    def __init__(
        self, store: Store, random: RandomBytes, sinks: Collection[str] = (), without: Collection[str] = ()
    ) -> None:
        self._store = store
        self._random = random
        self._sinks = sinks
        self._without = without

    def run(self, place: ArchivePlace, before: datetime) -> Archived | None:
        """Archive all records up to the newest checkpoint before that time; None when there is nothing to do."""
        with place.held():
            return self._run(place, before)

    def _run(self, place: ArchivePlace, before: datetime) -> Archived | None:
        self.finish()
        with self._store.read() as tx:
            base = pointed(tx, ARCHIVED)
            target = _newest(tx, base, before)
            if target is None:
                return None
            _demand_ours(tx, place)
            self._demand_delivered(tx, base, target)
            answer = shown(tx, target)
        place.withdraw(int(base.id) if base else 0)
        starts = checkpoint.starts(base) if base else {}
        said = checkpoint.statement(target)
        files = []
        for name, state in sorted(said.chains.items()):
            first = starts[name].tree.size + 1 if name in starts else 1
            if first <= state.size:
                file = f"{name}.{first:012d}-{state.size:012d}.jsonl.gz"
                place.write(file, self._rows(name, first - 1, state.size))
                files.append({"name": file, "chain": name, "first": first, "last": state.size})
        rows = chain.from_iterable(place.rows(file["name"]) for file in files)  # type: ignore[arg-type]
        verdict = verify(rows, [witness_of(said)], starts)
        records = target.size - (base.size if base else 0)
        if not verdict or verdict.records != records:
            fault = next(iter(verdict.faults), "records are missing")
            raise Refusal("archive_broken", f"Nothing was deleted: {fault}")
        number = int(target.id)
        place.conclude(
            number,
            {
                "number": number,
                "behind": int(base.id) if base else None,
                "checkpoint": asdict(answer),
                "files": files,
            },
        )
        facts = {"number": number, "records": records, "behind": int(base.id) if base else None}

        def unit(tx: Transaction) -> None:
            if not move(tx, ARCHIVED, base, target):
                raise Refusal("conflict")
            request_id = self._random(16).hex()
            tx.audit.append(Event(Kind.FACT, Name.GATEWAY_AUDIT_ARCHIVE, True, "ok", request_id, facts=facts))

        self._store.write(unit)
        self.finish()
        return Archived(number, target.at, records)

    def finish(self) -> None:
        """Delete what is in an archive already."""
        with self._store.read() as tx:
            base = pointed(tx, ARCHIVED)
        for name, state in checkpoint.statement(base).chains.items() if base else ():
            while self._store.write(lambda tx, name=name, size=state.size: tx.audit.forget(name, size, DELETED)):  # type: ignore[misc]
                pass

    def _demand_delivered(self, tx: Transaction, base: Checkpoint | None, target: Checkpoint) -> None:
        known = {each.name: Position.of(each.positions) for each in tx.cursors.find() if each.name.startswith(SINK)}
        known = {SINK + name: Position({}) for name in self._sinks} | known
        gone = {name: each.size for name, each in checkpoint.statement(base).chains.items()} if base else {}
        for sink, position in sorted(known.items()):
            name = sink.removeprefix(SINK)
            for chain_, state in checkpoint.statement(target).chains.items():
                delivered = max(position.delivered.get(chain_, 0), gone.get(chain_, 0))
                if delivered < state.size and name not in self._without:
                    left = f"{state.size - delivered} records of {chain_} that would be archived"
                    raise Refusal("archive_undelivered", f"Sink {name!r} has not delivered {left}")

    def _rows(self, name: str, after: int, last: int) -> Iterator[tuple[str, str]]:
        while after < last:
            with self._store.read() as tx:
                rows = tx.audit.rows(name, after, min(PAGE, last - after))
            if not rows:
                return  # the log is broken, and verifying what was written will tell
            for seq, line, hash_ in rows:
                after = seq
                yield line, hash_


def _demand_ours(tx: Transaction, place: ArchivePlace) -> None:
    """Every manifest is of a checkpoint of this log: what is there of another would be written over."""
    for each in place.manifests():
        try:
            row = tx.checkpoints.get(id=checkpoint.identifier(each["number"]))
            ours = row is not None and row.document["statement"] == each["checkpoint"]["statement"]
        except (KeyError, TypeError, ValueError):
            ours = False
        if not ours:
            raise Refusal("archive_unusable", "It holds the archive of another log, or of this one before a rollback")


def _newest(tx: Transaction, base: Checkpoint | None, before: datetime) -> Checkpoint | None:
    found, after = None, base.id if base else None
    while rows := tx.checkpoints.find(after=after, limit=AHEAD):
        older = [row for row in rows if row.at < before]
        found = older[-1] if older else found
        if len(older) < len(rows):
            break
        after = rows[-1].id
    return found
