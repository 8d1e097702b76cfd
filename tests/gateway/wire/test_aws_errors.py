"""Refusals, read by botocore's own parsers."""

import json
import xml.etree.ElementTree as ET

import pytest
from botocore.loaders import Loader
from botocore.model import ServiceModel
from botocore.parsers import create_parser
from hypothesis import given
from hypothesis import strategies as st

from gateway.wire import aws_errors
from gateway.wire.problems import PROBLEMS

PROTOCOLS = {
    "s3": "rest-xml", "rest-xml": "rest-xml", "query": "query", "ec2": "ec2", "json": "json",
    "rest-json": "rest-json", "smithy-rpc-v2-cbor": "smithy-rpc-v2-cbor",
}  # fmt: skip
SHAPE = ServiceModel(Loader().load_service_model("sqs", "service-2"), "sqs").operation_model("ListQueues").output_shape
DENIED = {
    "s3": "AccessDenied", "rest-xml": "AccessDenied", "query": "AccessDenied", "ec2": "UnauthorizedOperation",
    "json": "AccessDeniedException", "rest-json": "AccessDeniedException",
    "smithy-rpc-v2-cbor": "AccessDeniedException",
}  # fmt: skip


def parsed(form: str, error: aws_errors.AwsError) -> dict[str, str]:
    answer = {"status_code": error.status, "headers": dict(error.headers), "body": error.body, "context": {}}
    found = create_parser(PROTOCOLS[form]).parse(answer, SHAPE)
    return {key: found["Error"][key] for key in ("Code", "Message")}


@pytest.mark.parametrize("form", aws_errors.FORMS)
def test_every_form_is_read_as_it_is_meant(form: str) -> None:
    error = aws_errors.render(form, "call_denied", 'no <way> & "such" ü', "r-1")
    assert parsed(form, error) == {"Code": DENIED[form], "Message": 'no <way> & "such" ü'}
    assert (error.status, error.code) == (403, DENIED[form])
    assert dict(error.headers)["x-amzn-requestid"] == "r-1"


@given(st.sampled_from(aws_errors.FORMS), st.sampled_from(sorted(PROBLEMS)), st.text(max_size=300))
def test_no_message_breaks_its_form(form: str, problem: str, message: str) -> None:
    error = aws_errors.render(form, problem, message, "r")
    printable = "".join(letter for letter in message if letter.isprintable())
    read = parsed(form, error)
    assert read["Code"] == error.code
    assert (read["Message"] or "").strip() == printable.strip()
    if form not in ("json", "rest-json", "smithy-rpc-v2-cbor"):
        assert "Code>" in ET.tostring(ET.fromstring(error.body), "unicode")  # noqa: S314  # our own


@pytest.mark.parametrize("form", aws_errors.FORMS)
@pytest.mark.parametrize("problem", sorted(PROBLEMS))
def test_a_refusal_is_no_reason_to_try_again_and_what_may_pass_is(form: str, problem: str) -> None:
    status = aws_errors.render(form, problem, "m").status
    meant = PROBLEMS[problem].status
    assert (status >= 500 or status == 429) == ((meant >= 500 and problem != "not_implemented") or meant == 429)


def test_a_problem_of_a_later_gateway_may_pass() -> None:
    assert aws_errors.render("json", "never_heard_of", "m").status == 503


@pytest.mark.parametrize(
    ("service", "target", "headers", "form"),
    [
        ("s3", "/b/k?Action=x", [], "s3"),
        ("sqs", "/", [("x-amz-target", "AmazonSQS.ListQueues")], "json"),
        ("sqs", "/", [("content-type", "application/x-amz-json-1.0; charset=utf-8")], "json"),
        ("sts", "/", [("content-type", "application/x-www-form-urlencoded; charset=utf-8")], "query"),
        ("sts", "/?Version=1&Action=GetCallerIdentity", [], "query"),
        ("ec2", "/", [("content-type", "application/x-www-form-urlencoded")], "ec2"),
        ("monitoring", "/service/x/operation/y", [("smithy-protocol", "rpc-v2-cbor")], "smithy-rpc-v2-cbor"),
        ("lambda", "/2015-03-31/functions", [("content-type", "application/json")], "rest-json"),
        ("route53", "/2013-04-01/hostedzone", [], "rest-xml"),
    ],
)
def test_the_form_is_the_one_that_the_client_speaks(
    service: str, target: str, headers: list[tuple[str, str]], form: str
) -> None:
    assert aws_errors.form_of(service, target, headers) == form


def test_what_is_told_of_retrying() -> None:
    error = aws_errors.render("s3", "too_many_requests", "slow", "r", retry_after=1.2)
    assert (error.status, error.code, dict(error.headers)["retry-after"]) == (503, "SlowDown", "2")
    assert json.loads(aws_errors.render("json", "too_many_requests", "slow").body)["__type"] == "ThrottlingException"
