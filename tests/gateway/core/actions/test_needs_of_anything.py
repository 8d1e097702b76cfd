"""Whatever a caller puts into a request that a model can read: needs, or a refusal, and never an accident."""

import json
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.adapters.aws_models import Models
from gateway.core.actions.call import AwsRequest, Routed
from gateway.core.actions.needs import RULES, needs
from gateway.core.actions.service import Operation, Shape
from gateway.core.actions.shaped import from_native
from gateway.core.errors import Refusal
from tests.gateway.core.actions.asking import ACCOUNT, CATALOG, REGION

SIGNING_NAMES = {"apigatewayv2": "apigateway"}
TEXTS = (
    "", "a", "*", "x/y", "a:b", "${x}", "0", "%", "\0", "\ud800", "default", "alias/x", "a" * 3000, "i-12345678",
    "arn:aws:iam::111122223333:role/x", "arn:aws:s3:::b/k", "https://sqs.eu-west-1.amazonaws.com/111122223333/q",
    "http://[::1", "https://[x]/1", "SELECT * FROM t", "a=b&c", "b/k?versionId=v",
)  # fmt: skip
SCALARS = (True, False, 0, 1, 1.5, "x", 10**30, None)


@pytest.fixture(scope="module")
def operations() -> list[Operation]:
    models = Models(None)
    return [
        operation
        for service in (*sorted(RULES), "glue", "sagemaker", "rds")
        for model in models.of(SIGNING_NAMES.get(service, service))
        for operation in model.operations.values()
        if operation.shape is not None
    ]


def value(shape: Shape, random: Random, depth: int = 0) -> Any:
    """Something that the model has such members for, with nulls and emptiness in it."""
    if depth > 5 or random.random() < 0.1:
        return None
    if shape.kind == "structure":
        chance = 0.5 if depth else 0.9
        return {each.wire: value(each.shape, random, depth + 1) for each in shape.members if random.random() < chance}
    if shape.item is not None:
        items = [value(shape.item, random, depth + 1) for _ in range(random.randint(0, 2))]
        return items if shape.kind == "list" else {random.choice(TEXTS): each for each in items}
    return random.choice(TEXTS if shape.kind == "string" else SCALARS)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(random=st.randoms(use_true_random=False))
def test_needs_of_anything(operations: list[Operation], random: Random) -> None:
    operation = random.choice(operations)
    assert operation.shape is not None
    headers = tuple((name, random.choice(TEXTS)) for name in operation.located["header"] if random.random() < 0.5)
    request = AwsRequest(operation.method, "/", headers, operation.service, REGION, "UNSIGNED-PAYLOAD")
    try:
        members = from_native(operation.shape, value(operation.shape, random) or {})
        routed = Routed(operation.service, operation.name, "json", members)
        found = needs(routed, request, ACCOUNT, CATALOG.of(operation.service))
    except Refusal:
        return
    assert found
    for need in found:
        assert need.action is None or ":" in need.action
        assert need.resource is None or need.resource == "*" or need.resource.startswith("arn:")
        for text in need.context.values():
            assert isinstance(text, str) or all(isinstance(each, str) for each in text)
        json.dumps([need.action, need.resource, dict(need.context)])
