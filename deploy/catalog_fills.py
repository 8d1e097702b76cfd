"""Which input members of an operation name the resource that it is on: guesses by name, made once and then reviewed.

A guess is made only where the names agree; a member that might be something else names nothing, and the resource stays
unknown (which only a literal `*` allows).
"""

import re
from collections.abc import Iterator
from typing import Any

from deploy.catalog_names import ARN_ONLY, FILLS

Json = dict[str, Any]
Fills = dict[str, str]

_PLACEHOLDER = re.compile(r"\$\{(\w+)\}")
_SUFFIXES = ("identifiers", "identifier", "names", "name", "arns", "arn", "ids", "id")
_ROLE = re.compile(r"(role|rolearn|iamrole|roles|rolearns|roleidentifier)$")
_DEEPEST = 5  # members within members in which a role is looked for
# Members that hold the ARN of whatever the operation is on.
_ANY_ARN = frozenset({"arn", "resourcearn", "resourcearns", "resource", "resourceidentifier", "resourcearnlist"})
_ARN_IN_NAME = frozenset({"rds", "elasticache", "redshift"})  # their ResourceName is an ARN
_FRESH = r"(?:create|run|allocate|copy|import|register|request)"


class Input:
    """The input of an operation: its top-level members by name, those that hold a text or a list of texts."""

    def __init__(self, model: Json, operation: str) -> None:
        self.operation = operation
        self._shapes: Json = model["shapes"]
        shape = model["operations"][operation].get("input", {}).get("shape")
        self.shape: str | None = shape
        self._members: Json = self._shapes[shape].get("members", {}) if shape else {}
        self.payload = self._shapes[shape].get("payload") if shape else None

    def texts(self) -> Iterator[str]:
        """The names of the members that may name a resource."""
        for name, member in self._members.items():
            shape = self._shapes[member["shape"]]
            if shape["type"] == "list":
                shape = self._shapes[shape["member"]["shape"]]
            if shape["type"] == "string" and "enum" not in shape:
                yield name

    def strings(self) -> Iterator[str]:
        """Where in the input a text is: `member`, `member.inner`, `list[].inner`, `map{}`; no deeper than sensible."""
        if self.shape:
            yield from self._strings(self.shape, "", ())

    def _strings(self, name: str, path: str, above: tuple[str, ...]) -> Iterator[str]:
        shape = self._shapes[name]
        kind = shape["type"]
        if kind == "string" and "enum" not in shape:
            yield path
        if name in above or len(above) > _DEEPEST:
            return
        if kind == "structure":
            for key, member in shape.get("members", {}).items():
                yield from self._strings(member["shape"], f"{path}.{key}".lstrip("."), (*above, name))
        elif kind == "list":
            yield from self._strings(shape["member"]["shape"], path + "[]", (*above, name))
        elif kind == "map":
            yield from self._strings(shape["value"]["shape"], path + "{}", (*above, name))


def fill(prefix: str, kind: str, template: str, taken: Input) -> tuple[str | None, Fills | None]:
    """How the ARN of a resource type comes out of the input: a member that holds it, or members for its placeholders.

    Neither (None, None) when it does not. A filled one that needs nothing is {}. A member that is only alike begins
    with `~`; `*` stands for what EC2 is to make ("Specify all resources of the type with a wildcard").
    """
    names = [each for each in _PLACEHOLDER.findall(template) if each not in ("Partition", "Region", "Account")]
    members = sorted(taken.texts())
    if not names:
        return None, {}
    if kind in ARN_ONLY.get(prefix, {}):
        return next((each for each in ARN_ONLY[prefix][kind] if each in members), None), None
    if arn := _arn_member(prefix, kind, members):
        return arn, None
    fills: Fills = {}
    for name in names:
        own = kind if name == names[-1] else ""
        member = _by_hand(prefix, kind, name, members) or _member(name, own, members, taken)
        if member is None or member.lstrip("~") in {each.lstrip("~") for each in fills.values()} or "WithPath" in name:
            if prefix == "ec2" and own and re.fullmatch(rf"{_FRESH}{_plain(kind)}s?", taken.operation.lower()):
                fills[name] = "*"
                continue
            # What the names do not tell, an ARN in the member that has the name may.
            found = member or next(filter(None, (_member(each, kind, members, taken) for each in names)), None)
            return (found.lstrip("~") if found else None), None
        fills[name] = member
    return None, fills


def _by_hand(prefix: str, kind: str, name: str, members: list[str]) -> str | None:
    row = FILLS.get(prefix, {}).get(kind, {}).get(name, ())
    return next((each for each in row if each in members), None)


def _arn_member(prefix: str, kind: str, members: list[str]) -> str | None:
    """The member that holds an ARN of this type."""
    for member in members:
        plain = _plain(member)
        if plain.endswith(("arn", "arns")):
            stem = re.sub(r"arns?$", "", plain)
            if stem and (stem == _plain(kind) or (len(stem) >= 5 and _plain(kind).startswith(stem))):
                return member
    generic = _ANY_ARN | ({"resourcename"} if prefix in _ARN_IN_NAME else set())
    return next((member for member in members if _plain(member) in generic), None)


def _member(name: str, kind: str, members: list[str], taken: Input) -> str | None:
    """The member for a placeholder; `kind` is the resource type where the placeholder is the resource's own."""
    plain = {_plain(member): member for member in members}
    own = _plain(name)
    for exact in (own, own + "s", own + "list"):
        if exact in plain:
            return plain[exact]
    stem, suffix = _split(own)
    for other, member in plain.items():
        its_stem, its_suffix = _split(other)
        stems = {its_stem} if its_suffix else {its_stem, its_stem.removesuffix("s")}
        if stem in stems and stem and _agree(suffix, its_suffix):
            return "~" + member
        if _plain(kind) in stems and kind and suffix and _agree(suffix, its_suffix):
            return "~" + member
    verbless = re.sub(r"^[A-Z][a-z]+", "", taken.operation).lower()
    if kind and suffix and verbless == _plain(kind):
        for other in ("name", "id", "identifier"):
            if other in plain and _agree(suffix, other):
                return "~" + plain[other]
    return None


def _agree(suffix: str, its: str) -> bool:
    """Whether a placeholder and a member with these endings may be one thing: a name is no id."""
    suffix, its = suffix.removesuffix("s"), its.removesuffix("s")
    return suffix == its or its == "identifier" or (not its and suffix in ("name", "id")) or not suffix


def _split(plain: str) -> tuple[str, str]:
    suffix = next((each for each in _SUFFIXES if plain.endswith(each)), "")
    return plain.removesuffix(suffix), suffix


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def role_paths(taken: Input) -> set[str]:
    """Where in the input a role of IAM may be named, by the names of the members."""
    return {path for path in taken.strings() if _ROLE.search(_plain(path.rpartition(".")[2]))}
