"""What a request gives its operation: the top-level input members, by their names in the model.

Labels, query and headers are there always; what a body holds, only when the body was seen. Payloads that are blobs,
texts or event streams are nobody's members: they are neither read nor missed.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

from gateway.core.actions import cbor, xml
from gateway.core.actions.form import Tree
from gateway.core.actions.service import CBOR, PLAIN, REST_XML, Member, Operation
from gateway.core.actions.shaped import from_form, from_native, from_xml, known
from gateway.core.actions.target import Target, decoded, malformed
from gateway.core.errors import Refusal
from gateway.wire import strict

_STRUCTURED: Final = frozenset({"structure", "list", "map", "document"})
_ITEM = re.compile(r'[ \t]*("(?:[^"\\]|\\.)*"(?=[ \t]*(?:,|$))|[^,]*)[ \t]*(?:,|$)')
_HOST_LABEL = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?")


def of_rpc(operation: Operation, body: bytes | None, protocol: str) -> tuple[dict[str, Any], frozenset[str]]:
    """The members of a request by JSON or CBOR, and the names of those that were not seen. Raises Refusal."""
    if operation.shape is None:
        return {}, frozenset()
    if body is None:
        return {}, frozenset(member.name for member in operation.shape.members if member.shape.kind != "stream")
    return (from_native(operation.shape, _parsed(body, protocol)) if body else {}), frozenset()


def of_form(operation: Operation, parameters: Tree, dialect: str) -> dict[str, Any]:
    """The members of a request by a form. Raises Refusal."""
    if operation.shape is None:
        return {}
    members: dict[str, Any] = from_form(operation.shape, parameters, dialect)
    return members


def of_rest(
    operation: Operation, labels: Mapping[str, str], target: Target, headers: Mapping[str, str]
) -> dict[str, Any]:
    """The members in labels (raw), query and headers of a request by a REST protocol. Raises Refusal."""
    out: dict[str, Any] = {}
    located = operation.located
    for label, raw in labels.items():
        if member := located["uri"].get(label):
            out[member.name] = decoded(raw)
    for key, value in target.query:
        _from_query(operation, key, value, out)
    for name, member in located["header"].items():
        if (text := headers.get(name)) is not None:
            out[member.name] = _items(text) if member.shape.kind == "list" else text
    for prefix, member in located["headers"].items():
        if found := {name[len(prefix) :]: text for name, text in headers.items() if name.startswith(prefix)}:
            out[member.name] = found
    return out


def _from_query(operation: Operation, key: str, value: str, out: dict[str, Any]) -> None:
    if member := operation.query.get(key):
        if member.shape.kind == "list":
            out.setdefault(member.name, []).append(value)
        else:
            out[member.name] = value
    elif (rest := operation.query_map) and (key, value) not in operation.static:
        keys = out.setdefault(rest.name, {})
        if rest.shape.item is not None and rest.shape.item.kind == "list":
            keys.setdefault(key, []).append(value)
        else:
            keys[key] = value


def _items(text: str) -> list[str]:
    """The items of a header that is a list; quoted ones keep their commas (RFC 9110 §5.6.1)."""
    items = (found[1] for found in _ITEM.finditer(text))
    return [re.sub(r"\\(.)", r"\1", item[1:-1]) if item[:1] == '"' else item.rstrip() for item in items if item.strip()]


def in_rest_body(operation: Operation) -> tuple[Member, ...]:
    """The members that the body of a REST request holds, and that can be read: one payload, or those without place."""
    if operation.payload is None:
        return operation.body
    return tuple(
        member for member in operation.body if member.name == operation.payload and member.shape.kind in _STRUCTURED
    )


def of_rest_body(operation: Operation, body: bytes | None, protocol: str) -> tuple[dict[str, Any], frozenset[str]]:
    """The members in the body of a REST request, and the names of those that were not seen. Raises Refusal."""
    held = in_rest_body(operation)
    if not held or body is None:
        return {}, frozenset(member.name for member in held)
    if not body:
        return {}, frozenset()
    if operation.payload is not None:
        (member,) = held
        value = _parsed(body, protocol)
        read = from_xml(member.shape, value) if protocol == REST_XML else from_native(member.shape, value)
        return {member.name: read}, frozenset()
    if operation.shape is None:
        return {}, frozenset()
    value = _parsed(body, protocol)
    if protocol == REST_XML:
        members = from_xml(operation.shape, value)
    else:
        members = from_native(operation.shape, _placeless(operation, value))
    # A body cannot give what a label, the query or a header gives.
    return {member.name: members[member.name] for member in held if member.name in members}, frozenset()


def _placeless(operation: Operation, value: Any) -> Any:
    """An object less what has its place elsewhere: a server does not read it here, so its type is no matter."""
    if not isinstance(value, dict) or operation.shape is None:
        return value
    out = {}
    for key, inner in value.items():
        member = known(operation.shape, key, PLAIN)
        if member is not None and not member.location:
            out[key] = inner
    return out


def _parsed(body: bytes, protocol: str) -> Any:
    try:
        if protocol == CBOR:
            return cbor.loads(body)
        return xml.loads(body) if protocol == REST_XML else strict.loads(body)
    except strict.Malformed as error:
        raise Refusal("call_malformed", str(error), reason="body_form") from None


def host_prefix(operation: Operation, members: Mapping[str, Any], unread: frozenset[str]) -> str:
    """What goes before the service's host, with the members filled in. Raises Refusal.

    Each label is one that DNS knows (RFC 1123 §2.1): a prefix cannot make another host of it.
    """
    if not operation.host_prefix:
        return ""
    filled = operation.host_prefix
    for name in operation.host_labels:
        if name in unread:
            raise Refusal("body_required", "a part of the host is in the body", reason="host_label")
        value = members.get(name)
        if not isinstance(value, str) or not all(_HOST_LABEL.fullmatch(label) for label in value.split(".")):
            raise malformed("host_label", "a member that is part of the host is no DNS label")
        filled = filled.replace("{" + name + "}", value)
    return filled
