"""Values as bodies have them, turned into values by the names of the model: from JSON and CBOR, XML, and forms.

Members that the model does not know are left out: a newer SDK may send them. One that differs from a known one in case
alone is refused, for some readers take it for that. Scalars stay as the wire has them: text in XML and forms; numbers,
booleans and bytes in JSON and CBOR.
"""

from typing import Any, Final

from gateway.core.actions.form import Tree, indexed
from gateway.core.actions.service import EC2, PLAIN, Member, Shape
from gateway.core.actions.target import ambiguous, malformed
from gateway.core.actions.xml import Element

DEEPEST: Final = 128


def known(shape: Shape, key: str, dialect: str) -> Member | None:
    """The member of this wire name, None when the model has none. Raises Refusal for a name in another case."""
    member = shape.names[dialect].get(key)
    if member is None and key.lower() in shape.folded:
        raise ambiguous("member_case", "a member differs from one that AWS knows in case only")
    return member


def from_native(shape: Shape, value: Any, depth: int = 0) -> Any:
    """A value parsed from JSON or CBOR. Raises Refusal for a wrong type."""
    kind = shape.kind
    if kind == "string":
        if isinstance(value, str):
            return value
    elif kind == "structure":
        if isinstance(value, dict) and depth < DEEPEST:
            out = {}
            names = shape.names[PLAIN]
            for key, inner in value.items():
                member = names.get(key) or known(shape, key, PLAIN)
                if member is not None and inner is not None:
                    out[member.name] = from_native(member.shape, inner, depth + 1)
            return out
    elif kind in ("map", "list"):
        item = shape.item
        if item is not None and depth < DEEPEST:
            if kind == "map" and isinstance(value, dict):
                return {key: None if v is None else from_native(item, v, depth + 1) for key, v in value.items()}
            if kind == "list" and isinstance(value, list):
                return [None if v is None else from_native(item, v, depth + 1) for v in value]
    elif kind == "document" or not isinstance(value, (dict, list)):
        return value
    raise _wrong()


def from_xml(shape: Shape, element: Element) -> Any:
    """A value parsed from XML. Raises Refusal for a wrong form."""
    if shape.kind == "structure":
        return _structure_from_xml(shape, element)
    if shape.kind == "list" and shape.item is not None:
        if any(child.name != shape.item_wire for child in element.children) or element.text.strip():
            raise _wrong()
        return [from_xml(shape.item, child) for child in element.children]
    if shape.kind == "map":
        return _map_from_xml(shape, [child for child in element.children if child.name == "entry"])
    if element.children:
        raise _wrong()
    return element.text


def _structure_from_xml(shape: Shape, element: Element) -> dict[str, Any]:
    if element.text.strip():
        raise _wrong()
    out: dict[str, Any] = {}
    flat: dict[str, list[Element]] = {}
    for child in element.children:
        if (member := known(shape, child.name, PLAIN)) is None:
            continue
        if member.shape.flattened:
            flat.setdefault(member.name, []).append(child)
        elif member.name in out:
            raise ambiguous("duplicate_member", "a member stands twice in the body")
        else:
            out[member.name] = from_xml(member.shape, child)
    for member in shape.members:
        if member.name in flat and member.shape.kind == "map":
            out[member.name] = _map_from_xml(member.shape, flat[member.name])
        elif member.name in flat and member.shape.item is not None:
            out[member.name] = [from_xml(member.shape.item, child) for child in flat[member.name]]
        elif member.attribute and member.wire in element.attributes:
            out[member.name] = element.attributes[member.wire]
    return out


def _map_from_xml(shape: Shape, entries: list[Element]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for entry in entries:
        parts = {child.name: child for child in entry.children}
        if parts.keys() != {shape.key_wire, shape.value_wire} or len(entry.children) != 2 or shape.item is None:
            raise _wrong()
        if (key := parts[shape.key_wire].text) in out:
            raise ambiguous("duplicate_member", "a key stands twice in the body")
        out[key] = from_xml(shape.item, parts[shape.value_wire])
    return out


def from_form(shape: Shape, node: Tree | str, dialect: str) -> Any:
    """A value of a form's tree, by QUERY's rules or EC2's. Raises Refusal for a wrong form."""
    if shape.kind == "structure":
        return _structure_from_form(shape, node, dialect)
    if shape.kind == "list" and shape.item is not None:
        if not (shape.flattened or dialect == EC2 or isinstance(node, str)):
            if node.keys() != {shape.item_wire}:
                raise ambiguous("list_form", "a list is not written as AWS writes it")
            node = node[shape.item_wire]
        return [from_form(shape.item, item, dialect) for item in indexed(node)]
    if shape.kind == "map" and shape.item is not None:
        if not (shape.flattened or isinstance(node, str)):
            if node.keys() != {"entry"}:
                raise ambiguous("list_form", "a map is not written as AWS writes it")
            node = node["entry"]
        out: dict[str, Any] = {}
        for entry in indexed(node):
            if isinstance(entry, str) or not isinstance(key := entry.get(shape.key_wire), str) or key in out:
                raise _wrong()
            out[key] = from_form(shape.item, entry.get(shape.value_wire, ""), dialect)
        return out
    if not isinstance(node, str):
        raise _wrong()
    return node


def _structure_from_form(shape: Shape, node: Tree | str, dialect: str) -> dict[str, Any]:
    if isinstance(node, str):
        if node:
            raise _wrong()
        return {}
    out: dict[str, Any] = {}
    for key, inner in node.items():
        if (member := known(shape, key, dialect)) is not None:
            out[member.name] = from_form(member.shape, inner, dialect)
    return out


def _wrong() -> Exception:
    return malformed("wrong_type", "a member of the body is not of the type that AWS takes, or nested too deeply")
