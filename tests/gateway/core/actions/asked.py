"""Requests to AWS as tests write them, and the models to route them by."""

from functools import cache

from gateway.adapters.aws_models import Models
from gateway.core.actions.call import AwsRequest, Routed
from gateway.core.actions.router import route
from gateway.core.actions.service import ServiceModel

FORM = ("content-type", "application/x-www-form-urlencoded; charset=utf-8")
JSON = ("content-type", "application/x-amz-json-1.0")
CBOR = (("smithy-protocol", "rpc-v2-cbor"), ("content-type", "application/cbor"))


@cache
def _models() -> Models:
    return Models(None)


def models(signing_name: str) -> tuple[ServiceModel, ...]:
    """The services of a signing name, compiled once for all tests."""
    return _models().of(signing_name)


def request(
    service: str,
    method: str = "GET",
    target: str = "/",
    *headers: tuple[str, str],
    body: bytes | None = b"",
    bucket: str | None = None,
) -> AwsRequest:
    """A request with the headers that every one has, and these."""
    fields = (("host", "127.0.0.1:9913"), ("x-amz-date", "20260101T000000Z"), *headers)
    return AwsRequest(method, target, fields, service, "us-east-1", "0" * 64, body, bucket)


def routed(
    service: str,
    method: str = "GET",
    target: str = "/",
    *headers: tuple[str, str],
    body: bytes | None = b"",
    bucket: str | None = None,
) -> Routed:
    """What such a request is."""
    return route(request(service, method, target, *headers, body=body, bucket=bucket), models(service))
