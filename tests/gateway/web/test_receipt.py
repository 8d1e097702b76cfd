"""The receipts that the gateway makes are those that its OpenAPI document describes."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import jsonschema_rs
import pytest

from gateway.core.operator_model import PlanState, Revocation
from gateway.core.receipt import DONE, TRYING, UNSERVED, advanced, opened, receipt
from gateway.core.revocation import Found, plan
from gateway.web.admin.receipt import Receipt
from gateway.web.openapi import Schemas, schema_of
from tests.gateway.core.rows import CERTIFICATE, INSTANCE, LEASE, NOW


def fits(said: dict[str, Any]) -> None:
    schemas = Schemas()
    schema = schema_of(Receipt, schemas)
    jsonschema_rs.Draft202012Validator({**schema, "components": {"schemas": schemas}}).validate(said)


def test_a_receipt_is_as_the_document_says() -> None:
    held = replace(LEASE, id="l2", held="calls")
    done = plan(Found("i", instances=(INSTANCE,), certificates=(CERTIFICATE,), leases=(LEASE, held)), "alice", NOW)
    facts = {"reason": "4711", "key": {"until": "2026-11-24T23:00:00Z"}}
    row = Revocation("r-1", "instance", "i", "alice", NOW, PlanState.RUNNING, opened(done, "instance", ["aws"], facts))
    fits(receipt(row, NOW, dry_run=True))
    row = advanced(row, "aws", TRYING, {"accounts": []}, NOW, "aws_refused")
    fits(receipt(row, NOW))
    row = advanced(advanced(row, "gateway", DONE, {}, NOW), "aws", UNSERVED, {"why": "nobody asks"}, NOW)
    fits(receipt(row, NOW + timedelta(hours=1)))


@pytest.mark.parametrize("change", [{"state": "over"}, {"more": 1}, {"at": "now"}])
def test_another_one_is_not(change: dict[str, Any]) -> None:
    row = Revocation(
        "r", "ticket", "t", "alice", NOW, PlanState.RUNNING, opened(plan(Found("t"), "", NOW), "ticket", [], {})
    )
    with pytest.raises(jsonschema_rs.ValidationError):
        fits({**receipt(row, NOW), **change})
