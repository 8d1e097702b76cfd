"""A form (application/x-www-form-urlencoded, WHATWG URL §5.1), read strictly, and its dotted keys as a tree.

AWS's query protocols write `Filter.1.Name=x`: Smithy, "AWS query protocol" and "AWS EC2 query protocol".
"""

import re
from typing import Any, Final, TypeAlias

from gateway.core.actions.target import ambiguous, decoded, malformed

DEEPEST: Final = 64
Tree: TypeAlias = dict[str, Any]

_NUMBER = re.compile(r"[1-9][0-9]{0,8}")
_FORM = re.compile(rb"[!-:<-~]*")  # visible ASCII, without `;`


def pairs(raw: bytes) -> dict[str, str]:
    """The pairs of a form, each key once, in their order. Raises Refusal."""
    if not _FORM.fullmatch(raw):
        raise malformed("form", "the body is not an URL-encoded form")
    out: dict[str, str] = {}
    for part in raw.decode("ascii").split("&") if raw else ():
        key, _, value = part.partition("=")
        if (key := _plain(key)) in out:
            raise ambiguous("duplicate_parameter", "a parameter stands twice in the body")
        if not key:
            raise ambiguous("empty_parameter", "the body has a parameter without a name")
        out[key] = _value(value)
    return out


def _plain(text: str) -> str:
    return decoded(text.replace("+", " ")) if "%" in text or "+" in text else text


def _value(text: str) -> str:
    return decoded(text.replace("+", " "), controls=True) if "%" in text or "+" in text else text


def tree(flat: dict[str, str]) -> Tree:
    """The keys cut at their dots. Raises Refusal where one is both a value and a branch."""
    root: Tree = {}
    for key, value in flat.items():
        node: Any = root
        *branches, leaf = key.split(".")
        if len(branches) > DEEPEST:
            raise malformed("nesting", "the body is nested too deeply")
        for branch in branches:
            node = node.setdefault(branch, {})
            if isinstance(node, str):
                raise ambiguous("parameter_and_branch", "a parameter is both a value and a structure")
        if leaf in node:
            raise ambiguous("parameter_and_branch", "a parameter is both a value and a structure")
        node[leaf] = value
    return root


def indexed(node: Tree | str) -> list[Tree | str]:
    """The items of a list, by their numbers. Raises Refusal for what is no number, or has a leading zero."""
    if isinstance(node, str):
        if node:
            raise malformed("list_form", "a list is written as a value")
        return []  # an empty list is written so
    for key in node:
        if not _NUMBER.fullmatch(key):
            raise ambiguous("list_form", "an item of a list has no number, or an odd one")
    return [node[key] for key in sorted(node, key=int)]
