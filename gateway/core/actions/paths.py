"""Which operation of a REST protocol a method and a path are, and with which labels.

Segment by segment over the raw path, as Smithy's HTTP binding says ("HTTP binding traits", uri conflicts): a literal is
narrower than a label, a label than a greedy one. Then queries and headers that an operation cannot do without decide.
"""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

from gateway.core.actions.service import GREEDY, LABEL, LITERAL, Operation, ServiceModel


@dataclass(frozen=True, slots=True)
class Match:
    """An operation of a service, and the raw texts of the labels of its path."""

    model: ServiceModel
    operation: Operation
    labels: Mapping[str, str]


def by_path(model: ServiceModel, method: str, segments: Sequence[str]) -> list[Match]:
    """Every operation that this method and path could be; query and headers may still rule it out."""
    out = []
    first = segments[0] if segments else ""
    for length in (len(segments), -1):
        for start in (first, "") if first else ("",):
            for path, operations in model.paths.get((method, length, start), ()):
                if (labels := _labels(path, segments)) is not None:
                    out += [Match(model, operation, labels) for operation in operations]
    return out


def fitting(
    matches: Sequence[Match], query: frozenset[tuple[str, str]], keys: Set[str], headers: Mapping[str, str]
) -> list[Match]:
    """Those that have what they need, and of these the narrowest: several only when nothing tells them apart.

    `query` holds the pairs, `keys` the keys of them.
    """
    best: list[Match] = []
    for match in matches:
        operation = match.operation
        if (
            operation.static <= query
            and operation.required_query <= keys
            and operation.required_headers <= headers.keys()
        ):
            if not best or operation.narrowness > best[0].operation.narrowness:
                best = [match]
            elif operation.narrowness == best[0].operation.narrowness:
                best.append(match)
    return best


def _labels(pattern: Sequence[tuple[int, str]], segments: Sequence[str]) -> dict[str, str] | None:
    labels: dict[str, str] = {}
    last = len(segments)
    for place, (kind, text) in enumerate(pattern):
        if kind == GREEDY:
            behind = len(pattern) - place - 1
            rest = "/".join(segments[place : last - behind])
            if last - behind <= place or not rest:
                return None
            tail = _labels(pattern[place + 1 :], segments[last - behind :])
            return None if tail is None else {**labels, text: rest, **tail}
        if place >= last:
            return None
        if kind == LITERAL:
            if segments[place] != text:
                return None
        elif kind == LABEL:
            if not segments[place]:
                return None
            labels[text] = segments[place]
    return labels if len(pattern) == last else None
