"""Texts of a policy: letters, wildcards, and variables (`${aws:username}`, `${aws:PrincipalTag/team, 'none'}`). Pure.

AWS: "IAM policy elements: Variables and tags". `${*}`, `${?}` and `${$}` are those letters themselves. A variable whose
key has several values has none: "you cannot use a multivalued context key as a policy variable".
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from gateway.core.policy.patterns import VARIABLE, tokens

Context = Mapping[str, str | tuple[str, ...]]
"""The condition keys of a request, in lower case; several values are a tuple, and an empty one is an absent key."""

_FORM = re.compile(r"\$\{\s*([A-Za-z0-9-]+:[^,]+?)\s*(?:,\s*'([^']*)'\s*)?\}")
_LETTERS = {"${*}": "*", "${?}": "?", "${$}": "$"}


class Wildcard(Enum):
    """What stands for other letters."""

    STAR = "*"
    ONE = "?"


@dataclass(frozen=True, slots=True)
class Variable:
    """A condition key (in lower case) whose value stands here; `default`, where the key is absent."""

    key: str
    default: str | None

    def value(self, context: Context) -> str | None:
        """None: there is none that could be put in."""
        found = context.get(self.key)
        if found is None or found == ():
            return self.default
        return found if isinstance(found, str) else None


Piece = str | Wildcard | Variable
Pieces = tuple[Piece, ...]


def pieces(written: str, *, wildcards: bool) -> Pieces:
    """The text in pieces, no two of which are texts side by side; without `wildcards` a star is a letter.

    Raises ValueError: a `${` that is neither a variable of IAM nor an escaped letter.
    """
    if "${" in VARIABLE.sub(" ", written):
        raise ValueError("has a ${ without its }")
    found: list[Piece] = []
    for token in tokens(written):
        if wildcards and token in ("*", "?"):
            found.append(Wildcard(token))
        elif len(token) > 1 and token not in _LETTERS:
            found.append(_variable(token))
        else:
            found.append(_LETTERS.get(token, token))
    return merged(found)


def merged(found: list[Piece]) -> Pieces:
    """The same pieces, texts that stand side by side made one."""
    out: list[Piece] = []
    for piece in found:
        if isinstance(piece, str) and out and isinstance(before := out[-1], str):
            out[-1] = before + piece
        elif piece != "":
            out.append(piece)
    return tuple(out)


def _variable(token: str) -> Variable:
    match = _FORM.fullmatch(token)
    if match is None:
        raise ValueError("has a ${…} that is no variable of IAM")
    return Variable(match[1].lower(), match[2])
