"""A sample of the corpus: every protocol, every odd case of the tables, and S3 whole. All of it: `make corpus`."""

from dataclasses import replace
from functools import cache

import pytest
from botocore.loaders import Loader

from gateway.adapters.aws_endpoints import Endpoints
from gateway.adapters.aws_models import Models
from tests.corpus import table
from tests.corpus.capture import Captured, of_service
from tests.corpus.holding import EXACT, WRONG, host_fault, signature_fault, verdict
from tests.corpus.tally import Tally

OPERATIONS = 4
# By protocol, the last ones for what is odd about them: paths, hosts, names that several services share.
SAMPLE = [
    "cloudwatch", "keyspaces",
    "sns", "sts", "iam", "rds", "docdb", "elb", "elbv2", "ec2",
    "sqs", "dynamodb", "dynamodbstreams", "kinesis", "kms", "secretsmanager", "timestream-query", "timestream-write",
    "lambda", "apigateway", "sesv2", "lex-models", "lexv2-models", "s3tables", "workspaces-web", "qconnect",
    "s3control", "cloudfront", "route53", "chime", "neptune-graph", "cloudsearchdomain", "importexport",
]  # fmt: skip


@cache
def _models() -> Models:
    return Models(None)


@cache
def _endpoints() -> Endpoints:
    return Endpoints()


@cache
def _some(service: str) -> frozenset[str]:
    """A few operations of a service, spread over the alphabet, and those that the tables name."""
    names = sorted(Loader().load_service_model(service, "service-2")["operations"])
    named = {key.partition(".")[2] for key in (*table.EXPLAINED, *table.HIDDEN) if key.startswith(f"{service}.")}
    return frozenset(names[:: -(-len(names) // OPERATIONS)]) | named


def _held(service: str, only: frozenset[str] | None) -> Tally:
    tally = Tally(_models(), _endpoints())
    tally.add(of_service(service, only=only))
    assert tally.captured
    return tally


@pytest.mark.parametrize("service", SAMPLE)
def test_a_request_of_botocore_is_routed_sent_and_signed_as_botocore_does(service: str) -> None:
    assert _held(service, _some(service)).faults == []


def test_every_operation_of_s3_in_both_styles() -> None:
    tally = _held("s3", None)
    assert tally.faults == []
    assert tally.captured >= 2 * 110
    assert tally.routed[EXACT, False] >= 2 * 105


def test_the_sample_has_every_protocol() -> None:
    listed = {
        protocol
        for service in (*SAMPLE, "s3")
        for protocol in Loader().load_service_model(service, "service-2")["metadata"].get("protocols", ())
    }
    assert listed == {"ec2", "json", "query", "rest-json", "rest-xml", "smithy-rpc-v2-cbor"}


def test_what_is_wrong_is_seen() -> None:
    """The negative control of the corpus itself."""
    found = next(each for each in of_service("sqs", only=frozenset({"SendMessage"})) if isinstance(each, Captured))
    assert verdict(found, _models().of)[0] == EXACT
    assert verdict(replace(found, operation="DeleteQueue"), _models().of)[0] == WRONG
    assert verdict(replace(found, body=b"{}"), _models().of)[0] == WRONG
    assert verdict(found, lambda _: ())[0] == WRONG
    assert not signature_fault(found)
    assert signature_fault(replace(found, canonical=found.canonical.replace("\n", "\n\n", 1)))
    assert signature_fault(replace(found, string_to_sign=""))
    assert signature_fault(replace(found, signature="0" * 64))
    assert not host_fault(found, _models().of, _endpoints())
    assert host_fault(replace(found, host="sqs.us-east-1.amazonaws.com.evil"), _models().of, _endpoints())
