"""The condition keys of DynamoDB that a request tells of items: which keys, which attributes, how they are selected.

AWS: "Using IAM policy conditions for fine-grained access control" (dynamodb:LeadingKeys, Attributes, Select,
ReturnValues). Which of an item's attributes is the partition key, the table knows and the request does not: where
several could be it, all of them are given, so that `ForAllValues` never holds for less than AWS would look at.
"""

import re
from base64 import b64encode
from collections.abc import Iterable, Mapping
from typing import Any

Keys = dict[str, str | tuple[str, ...]]
_WORD = re.compile(r"[#:]?[A-Za-z_][A-Za-z0-9_]*")
_WORDS_OF_EXPRESSIONS = frozenset({
    "ADD", "AND", "ATTRIBUTE_EXISTS", "ATTRIBUTE_NOT_EXISTS", "ATTRIBUTE_TYPE", "BEGINS_WITH", "BETWEEN", "CONTAINS",
    "DELETE", "IF_NOT_EXISTS", "IN", "LIST_APPEND", "NOT", "OR", "REMOVE", "SET", "SIZE",
})  # fmt: skip
_EXPRESSIONS = ("ConditionExpression", "FilterExpression", "KeyConditionExpression", "ProjectionExpression",
                "UpdateExpression")  # fmt: skip


def fine_context(operation: str, given: Any) -> Keys:
    """The keys of one operation on items; `given` are its members, or what a batch has for one table."""
    members = given if isinstance(given, dict) else {}
    out: Keys = {}
    leading = _leading(operation, given)
    if leading:
        out["dynamodb:leadingkeys"] = leading
    attributes = _attributes(members, given)
    if attributes:
        out["dynamodb:attributes"] = attributes
    for key, member in (("dynamodb:select", "Select"), ("dynamodb:returnvalues", "ReturnValues"),
                        ("dynamodb:returnconsumedcapacity", "ReturnConsumedCapacity")):  # fmt: skip
        if isinstance(value := members.get(member), str):
            out[key] = value
    return out


def _leading(operation: str, given: Any) -> tuple[str, ...]:
    members = given if isinstance(given, dict) else {}
    if operation == "Query":
        found = _values(members.get("ExpressionAttributeValues"))
        conditions = members.get("KeyConditions")
        for each in conditions.values() if isinstance(conditions, dict) else ():
            listed = each.get("AttributeValueList") if isinstance(each, dict) else None
            found += [text for value in listed or () for text in _scalar(value)]
        return _unique(found)
    items: list[Any] = [members.get("Key"), members.get("Item"), *(members.get("Keys") or ())]
    for request in given if isinstance(given, list) else ():  # BatchWriteItem
        for inner in request.values() if isinstance(request, dict) else ():
            items += [inner.get("Item"), inner.get("Key")] if isinstance(inner, dict) else []
    return _unique([text for item in items for text in _values(item)])


def _attributes(members: Mapping[str, Any], given: Any) -> tuple[str, ...]:
    """The names of all attributes that a request reads, writes or asks about, but for nested ones."""
    names = members.get("ExpressionAttributeNames")
    aliases = names if isinstance(names, dict) else {}
    found: list[str] = [each for each in members.get("AttributesToGet") or () if isinstance(each, str)]
    for expression in _EXPRESSIONS:
        text = members.get(expression)
        for word in _WORD.findall(text) if isinstance(text, str) else ():
            if word[0] != ":" and word.upper() not in _WORDS_OF_EXPRESSIONS:
                found.append(str(aliases.get(word, word)))
    for member in ("Key", "Item", "Expected", "KeyConditions", "QueryFilter", "ScanFilter", "AttributeUpdates"):
        found += members[member] if isinstance(members.get(member), dict) else ()
    items = [*(members.get("Keys") or ())]
    for request in given if isinstance(given, list) else ():
        requests = request.values() if isinstance(request, dict) else ()
        items += [inner.get("Item") or inner.get("Key") for inner in requests if isinstance(inner, dict)]
    found += [name for item in items if isinstance(item, dict) for name in item]
    return _unique(found)


def _values(item: Any) -> list[str]:
    return [text for value in item.values() for text in _scalar(value)] if isinstance(item, dict) else []


def _scalar(value: Any) -> list[str]:
    """The value of an attribute that could be a key: a text, a number, or bytes (in base64, as JSON has them)."""
    found = [value.get(kind) for kind in ("S", "N", "B")] if isinstance(value, dict) else []
    return [
        b64encode(each).decode() if isinstance(each, bytes) else each for each in found if isinstance(each, str | bytes)
    ]


def _unique(found: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(found))
