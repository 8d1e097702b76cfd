"""Whether a text fits one of several patterns of a policy. Pure.

What cannot be known must never allow. So every pattern has a *reading*: `wide` where a match makes fewer requests
allowed (a Resource in a Deny, a NotResource in an Allow), else narrow. Where AWS's pages leave open what matches, or a
variable has no value, a wide pattern matches and a narrow one does not.

The time that a match takes grows with the lengths of pattern and text, and no faster: of a `*` that is not the last,
the first place that fits is as good as any other, so an atomic group keeps it.
"""

import re
from collections.abc import Iterable
from functools import lru_cache

from gateway.core.policy.variables import Context, Piece, Pieces, Variable, Wildcard, merged, pieces

PARTS = 6
"""Of an ARN; the last one holds whatever colons follow."""


class Patterns:
    """Several patterns, of which one has to match.

    `wildcards`: `*` and `?` stand for letters. `fold`: case does not count; the text to match has to be in lower case.
    `by_parts`: a wildcard stays within its part of an ARN, a lone `*` excepted. Raises ValueError.
    """

    __slots__ = ("_all", "_globs", "_heads", "_open", "_texts", "_wide")

    def __init__(
        self,
        written: Iterable[str],
        *,
        wide: bool,
        wildcards: bool = True,
        fold: bool = False,
        by_parts: bool = False,
    ) -> None:
        found = [pieces(each.lower() if fold else each, wildcards=wildcards) for each in written]
        filled = [each for each in found if _has(Variable, each)]
        globs = [each for each in found if _has(Wildcard, each) and each not in filled]
        self._wide = wide
        self._all = (Wildcard.STAR,) in found
        self._texts = frozenset(_head(each) for each in found if each not in filled and each not in globs)
        self._heads = tuple(_head(each) for each in (*globs, *filled))
        self._globs = re.compile("|".join(_expression(each, by_parts) for each in globs), re.DOTALL) if globs else None
        self._open = tuple(_Open(each, wide, fold, by_parts) for each in filled)

    def match(self, text: str | None, context: Context) -> bool:
        """Whether one of them matches; None is a text that cannot be known."""
        if self._all:
            return True
        if text is None:
            return self._wide
        if text in self._texts:
            return True
        if not text.startswith(self._heads):
            return False
        if self._globs is not None and self._globs.fullmatch(text):
            return True
        for each in self._open:  # noqa: SIM110  # any() costs more than what it asks
            if each.match(text, context):
                return True
        return False


class _Open:
    """A pattern with variables."""

    __slots__ = ("_by_parts", "_fold", "_pattern", "_variables", "_wide")

    def __init__(self, pattern: Pieces, wide: bool, fold: bool, by_parts: bool) -> None:
        self._pattern, self._wide, self._fold, self._by_parts = pattern, wide, fold, by_parts
        self._variables = [piece for piece in pattern if isinstance(piece, Variable)]

    def match(self, text: str, context: Context) -> bool:
        values = tuple([each.value(context) for each in self._variables])
        if None in values and not self._wide:
            return False
        return _filled(self, values).fullmatch(text) is not None

    def fill(self, values: tuple[str | None, ...]) -> re.Pattern[str]:
        """The pattern with these values; one that is missing could be any text."""
        left = iter([Wildcard.STAR if each is None else each.lower() if self._fold else each for each in values])
        filled = merged([next(left) if isinstance(piece, Variable) else piece for piece in self._pattern])
        by_parts = self._by_parts and None not in values
        return re.compile(_expression(filled, by_parts), re.DOTALL)


@lru_cache(maxsize=1024)
def _filled(pattern: _Open, values: tuple[str | None, ...]) -> re.Pattern[str]:
    return pattern.fill(values)


def _has(kind: type[Piece], pattern: Pieces) -> bool:
    return any(isinstance(piece, kind) for piece in pattern)


def _head(pattern: Pieces) -> str:
    """The letters that it begins with: of a text without wildcards and variables, all of them."""
    return pattern[0] if pattern and isinstance(pattern[0], str) else ""


def _expression(pattern: Pieces, by_parts: bool) -> str:
    """A regular expression for a pattern without variables."""
    if not by_parts or pattern == (Wildcard.STAR,):
        return _part(pattern, ".")
    parts = _parts(pattern)
    return ":".join(_part(part, "." if i + 1 == PARTS else "[^:]") for i, part in enumerate(parts))


def _part(pattern: Iterable[Piece], letter: str) -> str:
    runs = [""]
    for piece in pattern:
        if piece is Wildcard.STAR:
            runs.append("")
        else:
            runs[-1] += letter if piece is Wildcard.ONE else re.escape(str(piece))
    if len(runs) == 1:
        return runs[0]
    return runs[0] + "".join(f"(?>{letter}*?{run})" for run in runs[1:-1]) + f"{letter}*{runs[-1]}"


def _parts(pattern: Pieces) -> list[list[Piece]]:
    """The parts of an ARN, at most six of them."""
    parts: list[list[Piece]] = [[]]
    for piece in pattern:
        if not isinstance(piece, str):
            parts[-1].append(piece)
            continue
        first, *others = piece.split(":", PARTS - len(parts))
        parts[-1].append(first)
        parts += [[each] for each in others]
    return parts
