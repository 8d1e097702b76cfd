"""What became of the requests of the corpus, counted."""

from collections import Counter
from collections.abc import Iterable

from gateway.adapters.aws_endpoints import Endpoints
from gateway.adapters.aws_models import Models
from tests.corpus.capture import Captured, Lost
from tests.corpus.holding import WRONG, host_fault, signature_fault, verdict


class Tally:
    """Holds each request against routes, hosts and signatures. `faults` names each that did not hold."""

    def __init__(self, models: Models, endpoints: Endpoints | None) -> None:
        self._models = models
        self._endpoints = endpoints
        self.captured = 0
        self.routed: Counter[tuple[str, bool]] = Counter()
        self.notes: Counter[tuple[str, str]] = Counter()
        self.lost: Counter[str] = Counter()
        self.faults: list[str] = []

    def add(self, found: Iterable[Captured | Lost]) -> None:
        """Hold these, too."""
        for each in found:
            if isinstance(each, Lost):
                self.lost[f"{each.service}: {each.reason}"] += 1
                continue
            self.captured += 1
            for hidden in (False, True):
                kind, note = verdict(each, self._models.of, hidden=hidden)
                self.routed[kind, hidden] += 1
                if kind == WRONG:
                    self.faults.append(note)
                elif note and not hidden:
                    self.notes[kind, note] += 1
            if fault := signature_fault(each):
                self.faults.append(fault)
            if self._endpoints is not None and (fault := host_fault(each, self._models.of, self._endpoints)):
                self.faults.append(fault)

    def lines(self) -> list[str]:
        """The tally, to be read."""
        out = [f"{self.captured + self.lost.total()} operations tried, {self.captured} signed requests captured"]
        out += [f"  {count:6} not signed by SigV4: {reason}" for reason, count in self.lost.most_common()]
        for hidden in (False, True):
            out.append("routed, " + ("to a custom endpoint" if hidden else "with AWS's own host") + ":")
            kinds = {kind: count for (kind, where), count in self.routed.items() if where is hidden}
            out += [f"  {count:6} {kind}" for kind, count in sorted(kinds.items(), key=lambda row: -row[1])]
        out += [f"  {count:6} {kind}: {note}" for (kind, note), count in self.notes.most_common()]
        out.append(f"{len(self.faults)} faults in routes, hosts and signatures")
        return out
