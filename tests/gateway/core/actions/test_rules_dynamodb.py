"""DynamoDB: tables, indexes, batches, transactions, PartiQL, and the keys of fine-grained access."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.actions.rules.partiql import statement
from gateway.core.errors import Refusal
from tests.gateway.core.actions.asking import arn, needed, pairs

TABLE = arn("dynamodb", "table/t")


def on(operation: str, members: dict[str, Any], **kwargs: Any) -> list[tuple[str | None, str | None]]:
    return pairs(needed("dynamodb", operation, members, **kwargs))


@pytest.mark.parametrize("operation", ["GetItem", "PutItem", "UpdateItem", "DeleteItem", "Query", "Scan"])
def test_an_operation_on_items_is_on_its_table(operation: str) -> None:
    action = f"dynamodb:{operation}"
    assert on(operation, {"TableName": "t"}) == [(action, TABLE)]
    foreign = "arn:aws:dynamodb:us-east-1:999999999999:table/t"
    assert on(operation, {"TableName": foreign}) == [(action, foreign)]
    for wrong in ("", "t/index/i", "t*", "t t", foreign + "/index/i", "arn:aws:s3:::t", foreign.replace("aws", "x")):
        assert on(operation, {"TableName": wrong}) == [(action, None)], wrong
    with pytest.raises(Refusal) as refused:
        on(operation, {}, unread=("TableName",))
    assert refused.value.code == "body_required"


def test_a_query_of_an_index_is_on_the_index() -> None:
    assert on("Query", {"TableName": "t", "IndexName": "i"}) == [("dynamodb:Query", TABLE + "/index/i")]
    assert on("Scan", {"TableName": "t", "IndexName": "i"}) == [("dynamodb:Scan", TABLE + "/index/i")]
    assert on("Query", {"TableName": "t", "IndexName": "i/../x"}) == [("dynamodb:Query", None)]
    assert on("Query", {"TableName": "", "IndexName": "i"}) == [("dynamodb:Query", None)]


@pytest.mark.threat("F04")
def test_a_batch_is_on_each_of_its_tables() -> None:
    for operation in ("BatchGetItem", "BatchWriteItem"):
        action = f"dynamodb:{operation}"
        wanted: dict[str, Any] = {"RequestItems": {"t": {}, "u": {}, "v/x": {}}}
        assert on(operation, wanted) == [(action, TABLE), (action, arn("dynamodb", "table/u")), (action, None)]
        empty: list[Any] = [{}, None, []]
        for nothing in empty:
            with pytest.raises(Refusal, match="no table"):
                on(operation, {"RequestItems": nothing})


@pytest.mark.threat("F04")
def test_an_item_of_a_transaction_takes_the_action_of_its_single_operation() -> None:
    items = [{kind: {"TableName": "t"}} for kind in ("Put", "Update", "Delete", "ConditionCheck")]
    found = needed("dynamodb", "TransactWriteItems", {"TransactItems": items})
    assert pairs(found) == [
        (f"dynamodb:{action}", TABLE) for action in ("PutItem", "UpdateItem", "DeleteItem", "ConditionCheckItem")
    ]
    assert {each.context["dynamodb:enclosingoperation"] for each in found} == {"TransactWriteItems"}
    assert on("TransactGetItems", {"TransactItems": [{"Get": {"TableName": "t"}}]}) == [("dynamodb:GetItem", TABLE)]
    odd: list[Any] = [{}, {"Put": {}, "Delete": {}}, {"Get": {}}, {"Other": {}}, "Put"]
    for wrong in odd:
        with pytest.raises(Refusal, match="one operation"):
            on("TransactWriteItems", {"TransactItems": [wrong]})


# PartiQL


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("SELECT * FROM t", ("PartiQLSelect", "t", None)),
        ('select a, b from "my.t" where a = 1', ("PartiQLSelect", "my.t", None)),
        ('SELECT * FROM "t"."i" WHERE a = \'x\' ORDER BY b', ("PartiQLSelect", "t", "i")),
        ("SELECT * FROM t.i", ("PartiQLSelect", "t", "i")),
        ("SELECT * FROM t WHERE a = 'it''s from u'", ("PartiQLSelect", "t", None)),
        ("INSERT INTO t VALUE {'a': 1}", ("PartiQLInsert", "t", None)),
        ('UPDATE "t" SET a = 1 WHERE k = 2', ("PartiQLUpdate", "t", None)),
        ("UPDATE t REMOVE a WHERE k = 2", ("PartiQLUpdate", "t", None)),
        ("  delete\nfrom t\nwhere k = 1 ", ("PartiQLDelete", "t", None)),
        # What is not plain
        ("SELECT \"x FROM t\" FROM u", ("PartiQLSelect", None, None)),
        ("SELECT ' FROM t' FROM u", ("PartiQLSelect", None, None)),
        ("SELECT * FROM t, u", ("PartiQLSelect", None, None)),
        ("SELECT * FROM t JOIN u", ("PartiQLSelect", None, None)),
        ("SELECT * FROM t WHERE a IN (SELECT b FROM u)", ("PartiQLSelect", None, None)),
        ("SELECT * FROM t -- FROM u", ("PartiQLSelect", None, None)),
        ("SELECT * FROM t /* x */ WHERE a = 1", ("PartiQLSelect", None, None)),
        ("SELECT * FROM t WHERE a = 'x", ("PartiQLSelect", None, None)),
        ("SELECT * FROM t;DELETE FROM u", ("PartiQLSelect", None, None)),
        ("DELETE FROM t", ("PartiQLDelete", None, None)),
        ("INSERT INTO t VALUE (SELECT * FROM u)", ("PartiQLInsert", None, None)),
        ("EXISTS(SELECT * FROM t)", (None, None, None)),
        ("DROP TABLE t", (None, None, None)),
        ("", (None, None, None)),
    ],
)  # fmt: skip
@pytest.mark.threat("F04")
def test_statements(text: str, expected: tuple[str | None, str | None, str | None]) -> None:
    assert statement(text) == expected


@given(st.text())
def test_a_text_in_a_statement_changes_nothing(text: str) -> None:
    quoted = text.replace("'", "''")
    found = statement(f"SELECT * FROM t WHERE a = '{quoted}'")
    assert found == ("PartiQLSelect", "t", None) or (found[1] is None and ("--" in text or "/*" in text))


@pytest.mark.threat("F04")
def test_each_statement_is_decided_on() -> None:
    assert on("ExecuteStatement", {"Statement": 'SELECT * FROM "t"."i"'}) == [
        ("dynamodb:PartiQLSelect", TABLE + "/index/i")
    ]
    assert on("ExecuteStatement", {"Statement": "TRUNCATE t"}) == [(None, None)]
    both = [{"Statement": "SELECT * FROM t"}, {"Statement": "DELETE FROM t WHERE a = 1"}, "x"]
    expected = [("dynamodb:PartiQLSelect", TABLE), ("dynamodb:PartiQLDelete", TABLE), (None, None)]
    assert on("BatchExecuteStatement", {"Statements": both}) == expected
    found = needed("dynamodb", "ExecuteTransaction", {"TransactStatements": both})
    assert pairs(found) == expected
    assert found[0].context["dynamodb:enclosingoperation"] == "ExecuteTransaction"


# Fine-grained access


def keys(operation: str, members: dict[str, Any]) -> tuple[Any, Any]:
    context = needed("dynamodb", operation, {"TableName": "t", **members})[0].context
    return context.get("dynamodb:leadingkeys"), context.get("dynamodb:attributes")


def test_leading_keys_are_never_fewer_than_aws_would_look_at() -> None:
    assert keys("GetItem", {"Key": {"id": {"S": "u1"}}}) == (("u1",), ("id",))
    # Which of the two is the partition key, only the table knows.
    assert keys("GetItem", {"Key": {"id": {"S": "u1"}, "at": {"N": "3"}}})[0] == ("u1", "3")
    assert keys("PutItem", {"Item": {"id": {"S": "u1"}, "x": {"S": "u2"}}})[0] == ("u1", "u2")
    query = {"KeyConditionExpression": "id = :i", "ExpressionAttributeValues": {":i": {"S": "u1"}}}
    assert keys("Query", query) == (("u1",), ("id",))
    assert keys("Scan", {}) == (None, None)
    batch = {"RequestItems": {"t": {"Keys": [{"id": {"S": "a"}}, {"id": {"S": "b"}}]}}}
    assert needed("dynamodb", "BatchGetItem", batch)[0].context["dynamodb:leadingkeys"] == ("a", "b")
    writes = {"RequestItems": {"t": [{"PutRequest": {"Item": {"id": {"S": "a"}}}},
                                     {"DeleteRequest": {"Key": {"id": {"S": "b"}}}}]}}  # fmt: skip
    context = needed("dynamodb", "BatchWriteItem", writes)[0].context
    assert context == {"dynamodb:leadingkeys": ("a", "b"), "dynamodb:attributes": ("id",)}


def test_attributes_of_expressions() -> None:
    update = {
        "Key": {"id": {"S": "a"}}, "UpdateExpression": "SET #n = if_not_exists(#n, :z), other.inner = :v REMOVE gone",
        "ExpressionAttributeNames": {"#n": "name"},
    }  # fmt: skip
    assert keys("UpdateItem", update)[1] == ("name", "other", "inner", "gone", "id")
    context = needed("dynamodb", "Query", {"TableName": "t", "Select": "COUNT"})[0].context
    assert context["dynamodb:select"] == "COUNT"


def test_what_the_index_knows_it_tells() -> None:
    assert on("DescribeTable", {"TableName": "t"}) == [("dynamodb:DescribeTable", TABLE)]
    assert on("DescribeTable", {"TableName": TABLE}) == [("dynamodb:DescribeTable", TABLE)]
    assert on("DescribeTable", {"TableName": "a:b"}) == [("dynamodb:DescribeTable", None)]
    assert on("ListTables", {}) == [("dynamodb:ListTables", "*")]


def test_a_key_of_bytes_is_a_key() -> None:
    for raw in ("AAEC", b"\x00\x01\x02"):
        values: dict[str, Any] = {":k": {"B": raw}, ":n": None, ":x": {"B": 5}, ":l": {"L": []}}
        (need,) = needed("dynamodb", "Query", {"TableName": "t", "ExpressionAttributeValues": values})
        assert need.context["dynamodb:leadingkeys"] == ("AAEC",)


def test_nulls_in_what_is_asked_are_nothing() -> None:
    members: dict[str, Any] = {"TableName": "t", "KeyConditions": {"a": None, "b": {"AttributeValueList": [None]}}}
    (need,) = needed("dynamodb", "Query", members)
    assert need.context == {"dynamodb:attributes": ("a", "b")}
    (need,) = needed("dynamodb", "BatchWriteItem", {"RequestItems": {"t": [None, {"PutRequest": None}]}})
    assert need.context == {}
