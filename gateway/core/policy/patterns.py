"""Patterns of IAM: `*` is any text, `?` any one letter; everything else, `[` too, is itself. Pure.

AWS: "IAM JSON policy elements: Resource", and "Variables and tags": `${*}`, `${?}` and `${$}` are those letters
themselves, and any other `${…}` is a variable, whose value AWS puts in.
"""

import re
from collections.abc import Iterable
from itertools import product

VARIABLE = re.compile(r"\$\{[^{}]*\}")
_TOKEN = re.compile(r"\$\{[^{}]*\}|.", re.DOTALL)
LONGEST = 512  # letters
MOST = 64  # patterns
STEPS = 300_000  # some tenths of a second

Tokens = tuple[str, ...]


class TooComplex(ValueError):
    """What two patterns have in common is more than is sensible to write down, or to look for."""


class Search:
    """What patterns have in common, in a number of steps that is given once: whoever asks must not choose how long we
    are busy. Every method raises TooComplex.

    A variable is taken for a text that only itself and `*` match: an answer may be narrower than the truth, and is
    never wider.
    """

    def __init__(self, steps: int = STEPS) -> None:
        self._left = steps

    def spend(self, steps: int) -> None:
        """Count work."""
        self._left -= steps
        if self._left < 0:
            raise TooComplex("there is too much to compare")

    def covers(self, wide: str, narrow: str) -> bool:
        """Whether `wide` matches, by its form, whatever `narrow` matches."""
        return self._covers(tokens(wide), tokens(narrow))

    def meet(self, one: str, other: str) -> list[str]:
        """Patterns that together match what both match; none when nothing does."""
        return ["".join(each) for each in self._meet(tokens(one), tokens(other))]

    def meet_arns(self, one: str, other: str) -> list[str]:
        """`meet` for ARNs, part by part.

        How far a `*` reaches over the colons between the parts, AWS says for the end of a part only ("IAM JSON policy
        elements: Resource"). Taken part by part, the answer is no wider however that is read.
        """
        if "*" in (one, other):
            return [other if one == "*" else one]
        met = [self._meet(a, b) for a, b in zip(_parts(one), _parts(other), strict=True)]
        found = [":".join("".join(part) for part in parts) for parts in product(*met)] if all(met) else []
        if len(found) > MOST:
            raise TooComplex(f"more than {MOST} patterns")
        return found

    def without_covered(self, found: Iterable[str]) -> list[str]:
        """The patterns that no other of them covers, sorted."""
        return ["".join(each) for each in self._without_covered({tokens(each) for each in found})]

    def _meet(self, a: Tokens, b: Tokens) -> list[Tokens]:
        if max(len(a), len(b)) > LONGEST:
            raise TooComplex(f"a pattern of more than {LONGEST} letters")
        if self._covers(a, b):
            return [b]
        if self._covers(b, a):
            return [a]
        head = _same(a, b)
        tail = _same(a[head:][::-1], b[head:][::-1])
        inner = _Meet(self, a[head : len(a) - tail], b[head : len(b) - tail])
        try:
            found = self._without_covered(inner.at(0, 0))
        except RecursionError:
            raise TooComplex("patterns that are too long") from None
        return [(*a[:head], *each, *a[len(a) - tail :]) for each in found]

    def _covers(self, wide: Tokens, narrow: Tokens) -> bool:
        """Greedy, as globs are matched: on failure the last star takes one more token."""
        i = j = steps = 0
        star, taken = -1, 0
        while j < len(narrow):
            steps += 1
            if i < len(wide) and wide[i] == "*":
                star, taken = i, j
                i += 1
            elif i < len(wide) and narrow[j] != "*" and _matches(wide[i], narrow[j]):
                i, j = i + 1, j + 1
            elif star >= 0:
                taken += 1
                i, j = star + 1, taken
            else:
                break
        self.spend(1 + steps)
        return j == len(narrow) and set(wide[i:]) <= {"*"}

    def _without_covered(self, found: Iterable[Tokens]) -> list[Tokens]:
        kept: list[Tokens] = []
        for each in sorted(found, key=lambda t: (-t.count("*"), len(t), t)):
            if not any(self._covers(wide, each) for wide in kept):
                kept = [narrow for narrow in kept if not self._covers(each, narrow)] + [each]
        return sorted(kept)


class _Meet:
    """The search of one pair: what `one[i:]` and `other[j:]` both match, each pair of places looked at once."""

    def __init__(self, search: Search, one: Tokens, other: Tokens) -> None:
        self._search, self._one, self._other = search, one, other
        self._known: dict[tuple[int, int], frozenset[Tokens]] = {}

    def at(self, i: int, j: int) -> frozenset[Tokens]:
        if (i, j) not in self._known:
            found = frozenset(self._both(i, j))
            self._search.spend(1 + sum(map(len, found)))
            if len(found) > MOST:
                raise TooComplex(f"more than {MOST} patterns")
            self._known[i, j] = found
        return self._known[i, j]

    def _both(self, i: int, j: int) -> Iterable[Tokens]:
        if i == len(self._one) or j == len(self._other):
            rest = self._one[i:] or self._other[j:]
            return [()] if set(rest) <= {"*"} else []
        a, b = self._one[i], self._other[j]
        if a == b == "*":  # one of the two takes no more than the other
            return (_star(each) for each in self.at(i + 1, j) | self.at(i, j + 1))
        if a == "*":
            return [*self.at(i + 1, j), *((b, *each) for each in self.at(i, j + 1))]
        if b == "*":
            return [*self.at(i, j + 1), *((a, *each) for each in self.at(i + 1, j))]
        both = a if _matches(b, a) else b if _matches(a, b) else None
        return [] if both is None else ((both, *each) for each in self.at(i + 1, j + 1))


def tokens(pattern: str) -> Tokens:
    """The pattern's letters; an escaped letter and a variable are one token each."""
    return tuple(_TOKEN.findall(pattern))


def _parts(arn: str) -> list[Tokens]:
    """The six parts of an ARN; colons in a variable part nothing. Raises TooComplex for what is no ARN."""
    found: list[Tokens] = []
    start = 0
    written = tokens(arn)
    for place, each in enumerate(written):
        if each == ":" and len(found) < 5:
            found.append(written[start:place])
            start = place + 1
    if len(found) < 5:
        raise TooComplex("a resource that is no ARN")
    return [*found, written[start:]]


def _same(a: Tokens, b: Tokens) -> int:
    """How many tokens both begin with, before the first star."""
    count = 0
    while count < min(len(a), len(b)) and a[count] == b[count] != "*":
        count += 1
    return count


def _matches(wide: str, narrow: str) -> bool:
    """Whether the token `wide`, no star, matches the token `narrow`, no star."""
    return wide == narrow or (wide == "?" and (len(narrow) == 1 or narrow in ("${*}", "${?}", "${$}")))


def _star(each: Tokens) -> Tokens:
    return each if each[:1] == ("*",) else ("*", *each)
