"""The nouns of a service's model: its operations, and the shapes of what they take, as values that a router reads fast.

A model is made of a plain value (`compilation.compiled`), which goes through JSON unharmed.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, TypeAlias

QUERY, EC2, JSON, REST_JSON, REST_XML, CBOR = "query", "ec2", "json", "rest-json", "rest-xml", "smithy-rpc-v2-cbor"
PROTOCOLS: Final = (QUERY, EC2, JSON, REST_JSON, REST_XML, CBOR)

PLAIN: Final = "plain"
"""The dialect of names that JSON, CBOR and XML share; forms have QUERY and EC2."""

LITERAL, LABEL, GREEDY = 2, 1, 0
"""The kinds of a segment of a path, the narrower one the greater."""


Path: TypeAlias = tuple[tuple[int, str], ...]


@dataclass(slots=True, eq=False, repr=False)
class Member:
    """A member of a structure. `location` is botocore's word (uri, querystring, header, headers), empty for the body.

    `wire` is its name in JSON, CBOR, XML and forms, `ec2_wire` in the forms of EC2.
    """

    name: str
    shape: "Shape"
    location: str
    wire: str
    ec2_wire: str
    required: bool
    attribute: bool
    host_label: bool


@dataclass(slots=True, eq=False, repr=False)
class Shape:
    """What a value is. `kind` is structure, list, map, document, stream, or botocore's word for a scalar.

    A list has an `item`, a map an `item` and the names of key and value; `flattened` ones have no element around them.
    `names` finds the members of a structure by dialect (PLAIN, QUERY, EC2) and wire name; `folded` are these, lowered.
    """

    kind: str
    members: tuple[Member, ...] = ()
    item: "Shape | None" = None
    item_wire: str = "member"
    key_wire: str = "key"
    value_wire: str = "value"
    flattened: bool = False
    names: dict[str, dict[str, Member]] = field(default_factory=dict)
    folded: frozenset[str] = frozenset()


@dataclass(frozen=True, eq=False, repr=False)
class Operation:
    """One operation. `segments` are of its path: (kind, literal text or label's name); `slash` tells of one at its end.

    `static` is its fixed query.
    """

    service: str
    name: str
    method: str
    segments: Path
    static: frozenset[tuple[str, str]]
    shape: Shape | None
    payload: str | None
    host_prefix: str
    deprecated: bool
    slash: bool

    @cached_property
    def located(self) -> Mapping[str, Mapping[str, Member]]:
        """The members by location and wire name (headers in lower case)."""
        out: dict[str, dict[str, Member]] = {"uri": {}, "querystring": {}, "header": {}, "headers": {}, "": {}}
        for member in self.shape.members if self.shape else ():
            low = member.location in ("header", "headers")
            out[member.location][member.wire.lower() if low else member.wire] = member
        return out

    @cached_property
    def query(self) -> Mapping[str, Member]:
        """The members in the query, by key. (Of a map, each key of the query is a key of the map.)"""
        return {key: member for key, member in self.located["querystring"].items() if member.shape.kind != "map"}

    @cached_property
    def query_map(self) -> Member | None:
        """The member that takes every other key of the query."""
        return next((each for each in self.located["querystring"].values() if each.shape.kind == "map"), None)

    @cached_property
    def body(self) -> tuple[Member, ...]:
        """The members that a body holds, for the protocols that know locations."""
        return tuple(member for member in self.located[""].values() if member.shape.kind != "stream")

    @cached_property
    def required_query(self) -> frozenset[str]:
        """The keys without which the query is another operation's."""
        return frozenset(key for key, member in self.query.items() if member.required)

    @cached_property
    def required_headers(self) -> frozenset[str]:
        """The headers without which the request is another operation's."""
        return frozenset(key for key, member in self.located["header"].items() if member.required)

    @cached_property
    def narrowness(self) -> tuple[Any, ...]:
        """The greater, the narrower is what it takes: segment by segment, then the query, then the headers."""
        kinds = tuple(kind for kind, _ in self.segments)
        return kinds, len(self.static), len(self.required_query), len(self.required_headers)

    @cached_property
    def host_labels(self) -> tuple[str, ...]:
        """The members that are put into the host's prefix."""
        return tuple(re.findall(r"\{([A-Za-z0-9]+)\}", self.host_prefix))


@dataclass(frozen=True, eq=False, repr=False)
class ServiceModel:
    """What the router knows of one service. `name` is botocore's, `version` the API's date."""

    name: str
    signing_name: str
    endpoint_prefix: str
    protocols: tuple[str, ...]
    version: str
    target_prefix: str
    operations: Mapping[str, Operation]

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> "ServiceModel":
        """The inverse of `compilation.compiled`. Raises LookupError, TypeError or ValueError for anything else."""
        shapes = _shapes(plain["shapes"], [PLAIN, *({QUERY, EC2} & set(plain["protocols"]))])
        operations = {}
        for name, method, segments, static, shape, payload, prefix, deprecated, slash in plain["operations"]:
            operations[name] = Operation(
                plain["name"],
                name,
                method,
                tuple((kind, text) for kind, text in segments),
                frozenset((key, value) for key, value in static),
                None if shape is None else shapes[shape],
                payload,
                prefix,
                deprecated,
                slash,
            )
        return cls(
            plain["name"],
            plain["signing_name"],
            plain["endpoint_prefix"],
            tuple(plain["protocols"]),
            plain["version"],
            plain["target_prefix"],
            operations,
        )

    @cached_property
    def paths(self) -> Mapping[tuple[str, int, str], Sequence[tuple[Path, Sequence[Operation]]]]:
        """The operations of a REST protocol, by path. The key: method, number of segments (-1 for one with a greedy
        label), and the first segment where that is a literal, else nothing.
        """
        out: dict[tuple[str, int, str], dict[Path, list[Operation]]] = {}
        for operation in self.operations.values():
            path = operation.segments
            length = -1 if any(kind == GREEDY for kind, _ in path) else len(path)
            key = operation.method, length, path[0][1] if path and path[0][0] == LITERAL else ""
            out.setdefault(key, {}).setdefault(path, []).append(operation)
        return {key: tuple(each.items()) for key, each in out.items()}


def _shapes(rows: Sequence[Any], dialects: Sequence[str]) -> list[Shape]:
    """The shapes, joined; a row is `kind`, or [kind, …] as `compilation` writes it."""
    shapes = [Shape(row if isinstance(row, str) else row[0]) for row in rows]
    for shape, row in zip(shapes, rows, strict=True):
        if shape.kind == "structure":
            shape.members = tuple(
                Member(name, shapes[index], location, wire, ec2_wire, required, attribute, host_label)
                for name, index, location, wire, ec2_wire, required, attribute, host_label in row[1]
            )
        elif shape.kind == "list":
            shape.item, shape.item_wire, shape.flattened = shapes[row[1]], row[2], row[3]
        elif shape.kind == "map":
            shape.item, shape.key_wire, shape.value_wire, shape.flattened = shapes[row[1]], row[2], row[3], row[4]
    for shape in shapes:
        if shape.kind == "structure":
            shape.names = {each: {_wire(member, each): member for member in shape.members} for each in dialects}
            shape.folded = frozenset(wire.lower() for names in shape.names.values() for wire in names)
    return shapes


def _wire(member: Member, dialect: str) -> str:
    if dialect == EC2:
        return member.ec2_wire
    shape = member.shape
    # In a form, each item of a flattened list stands where the list would: by the item's name, if it has one.
    if dialect == QUERY and shape.kind == "list" and shape.flattened and shape.item_wire:
        return shape.item_wire
    return member.wire
