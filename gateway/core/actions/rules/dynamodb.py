"""DynamoDB: tables and their indexes, batches over many tables, transactions, statements in PartiQL.

AWS: "Service Authorization Reference: Amazon DynamoDB"; "Using IAM with DynamoDB transactions" (each item takes the
action of its single operation); "IAM policies for PartiQL"; a query of an index is on the index ("Using IAM policy
conditions", "Grant permissions on indexes").
"""

import re
from collections.abc import Iterator
from typing import Any

from gateway.core.actions.ask import Ask
from gateway.core.actions.call import Need
from gateway.core.actions.rules.dynamodb_keys import fine_context
from gateway.core.actions.rules.partiql import statement
from gateway.core.errors import Refusal

_TABLE = re.compile(r"[A-Za-z0-9_.-]{1,255}")
_TABLE_ARN = re.compile(r"arn:([a-z-]+):dynamodb:[a-z0-9-]+:[0-9]{12}:table/[A-Za-z0-9_.-]{1,255}")
_ON_ITEMS = frozenset({"DeleteItem", "GetItem", "PutItem", "Query", "Scan", "UpdateItem"})
_READS = {"Get": "GetItem"}
_WRITES = {"ConditionCheck": "ConditionCheckItem", "Delete": "DeleteItem", "Put": "PutItem", "Update": "UpdateItem"}


def needs(ask: Ask) -> tuple[Need, ...] | None:
    """The needs of a call on items, on many of them, or by a statement."""
    if ask.operation in _ON_ITEMS:
        resource = _table(ask, ask.member("TableName"))
        if (index := ask.routed.members.get("IndexName")) is not None:
            fits = resource and isinstance(index, str) and _TABLE.fullmatch(index)
            resource = f"{resource}/index/{index}" if fits else None
        return (Need(f"dynamodb:{ask.operation}", resource, fine_context(ask.operation, ask.routed.members)),)
    if ask.operation in ("BatchGetItem", "BatchWriteItem"):
        return tuple(_batch(ask))
    if ask.operation in ("TransactGetItems", "TransactWriteItems"):
        return tuple(_transaction(ask, _READS if ask.operation == "TransactGetItems" else _WRITES))
    if ask.operation == "ExecuteStatement":
        return (_statement(ask, ask.member("Statement"), None),)
    if ask.operation in ("BatchExecuteStatement", "ExecuteTransaction"):
        batch = ask.operation == "BatchExecuteStatement"
        given = ask.each("Statements" if batch else "TransactStatements")
        return tuple(
            _statement(ask, each.get("Statement") if isinstance(each, dict) else None, None if batch else ask.operation)
            for each in given
        )
    return None


def _batch(ask: Ask) -> Iterator[Need]:
    """BatchGetItem and BatchWriteItem have actions of their own, on each of the tables."""
    tables = ask.member("RequestItems")
    if not isinstance(tables, dict) or not tables:
        raise Refusal("call_malformed", "RequestItems names no table", reason="no_tables")
    for name, wanted in tables.items():
        yield Need(f"dynamodb:{ask.operation}", _table(ask, name), fine_context(ask.operation, wanted))


def _transaction(ask: Ask, actions: dict[str, str]) -> Iterator[Need]:
    for item in ask.each("TransactItems"):
        if not isinstance(item, dict) or len(item) != 1 or not item.keys() <= actions.keys():
            raise Refusal("call_malformed", "An item of a transaction is one operation", reason="transact_item")
        ((kind, inner),) = item.items()
        values = inner if isinstance(inner, dict) else {}
        context = {**fine_context(actions[kind], values), "dynamodb:enclosingoperation": ask.operation}
        yield Need(f"dynamodb:{actions[kind]}", _table(ask, values.get("TableName")), context)


def _statement(ask: Ask, text: Any, enclosing: str | None) -> Need:
    """One statement; what it is on is unknown unless its form is the plainest."""
    action, table, index = statement(text if isinstance(text, str) else "")
    resource = _table(ask, table)
    if index is not None:
        resource = f"{resource}/index/{index}" if resource and _TABLE.fullmatch(index) else None
    context = {"dynamodb:enclosingoperation": enclosing} if enclosing else {}
    return Need(f"dynamodb:{action}" if action else None, resource, context)


def _table(ask: Ask, value: object) -> str | None:
    """A table's ARN, of its name or as it is given."""
    if not isinstance(value, str):
        return None
    if found := _TABLE_ARN.fullmatch(value):
        return value if found[1] == ask.partition else None
    return ask.arn("dynamodb", f"table/{value}") if _TABLE.fullmatch(value) else None
