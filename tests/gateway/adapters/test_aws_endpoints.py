"""The hosts that a call may be sent to: those of botocore's rules, below a partition's own domains."""

import pytest

from gateway.adapters import aws_endpoints
from gateway.adapters.aws_endpoints import Endpoints
from gateway.core.errors import Refusal

ENDPOINTS = Endpoints()


@pytest.mark.parametrize(
    ("service", "region", "usual"),
    [
        ("s3", "us-east-1", "s3.us-east-1.amazonaws.com"),
        ("s3", "cn-north-1", "s3.cn-north-1.amazonaws.com.cn"),
        ("sqs", "eu-central-1", "sqs.eu-central-1.amazonaws.com"),
        ("dynamodb", "us-gov-west-1", "dynamodb.us-gov-west-1.amazonaws.com"),
        ("iam", "us-east-1", "iam.amazonaws.com"),
        ("cloudwatch", "eu-west-1", "monitoring.eu-west-1.amazonaws.com"),
        ("s3control", "eu-west-1", "s3-control.eu-west-1.amazonaws.com"),
        ("acm", "eu-west-1", "acm.eu-west-1.amazonaws.com"),
    ],
)
def test_the_usual_host_comes_first(service: str, region: str, usual: str) -> None:
    assert ENDPOINTS.hosts(service, region)[0] == usual


def test_the_others_of_the_region_follow() -> None:
    assert ENDPOINTS.hosts("s3", "us-east-1") == (
        "s3.us-east-1.amazonaws.com",
        "s3.amazonaws.com",
        "s3.dualstack.us-east-1.amazonaws.com",
        "s3-fips.us-east-1.amazonaws.com",
        "s3-fips.dualstack.us-east-1.amazonaws.com",
    )
    assert "sts.amazonaws.com" in ENDPOINTS.hosts("sts", "us-east-1")


def test_a_global_host_is_none_of_a_region_that_it_takes_no_signature_for() -> None:
    assert "sts.amazonaws.com" not in ENDPOINTS.hosts("sts", "eu-central-1")
    with pytest.raises(Refusal) as refused:
        ENDPOINTS.hosts("iam", "eu-central-1")
    assert (refused.value.code, refused.value.reason) == ("call_malformed", "no_endpoint")


def test_an_operation_with_a_host_of_its_own() -> None:
    both = ENDPOINTS.hosts("neptune-graph", "us-east-1")
    assert both[0] == "neptune-graph.us-east-1.amazonaws.com"
    assert ENDPOINTS.hosts("neptune-graph", "us-east-1", "ExecuteQuery") == ("us-east-1.neptune-graph.amazonaws.com",)
    assert "us-east-1.neptune-graph.amazonaws.com" in both
    assert ENDPOINTS.hosts("dynamodb", "us-east-1", "SearchVectors")[0] == "search-dynamodb.us-east-1.amazonaws.com"
    assert ENDPOINTS.hosts("dynamodb", "us-east-1", "Query")[0] == "dynamodb.us-east-1.amazonaws.com"
    assert ENDPOINTS.hosts("s3", "us-east-1", "GetObject") == ENDPOINTS.hosts("s3", "us-east-1")


@pytest.mark.threat("F01", "E02")
@pytest.mark.parametrize(
    ("service", "region", "reason"),
    [
        ("s3", "xx-north-1", "region_unknown"),
        ("s3", "us-east-99", "region_unknown"),  # of the form that the rules would take
        ("s3", "", "region_unknown"),
        ("s3", "us-east-1.evil.example/", "region_unknown"),
        ("s3", "us-east-1@evil.example", "region_unknown"),
        ("s3", "169.254.169.254", "region_unknown"),
        ("no-such-service", "us-east-1", "service_unknown"),
        ("../s3", "us-east-1", "service_unknown"),
        ("", "us-east-1", "service_unknown"),
    ],
)
def test_what_botocore_does_not_know_has_no_host(service: str, region: str, reason: str) -> None:
    with pytest.raises(Refusal) as refused:
        ENDPOINTS.hosts(service, region)
    assert (refused.value.code, refused.value.reason) == ("call_malformed", reason)


@pytest.mark.threat("F01")
@pytest.mark.parametrize(
    "url",
    [
        "http://s3.us-east-1.amazonaws.com",
        "https://169.254.169.254",
        "https://[::1]",
        "https://127.0.0.1.amazonaws.com",
        "https://s3.amazonaws.com:8443",
        "https://user@s3.amazonaws.com",
        "https://amazonaws.com",
        "https://s3.evil-amazonaws.com",
        "https://s3.amazonaws.com.evil.example",
        "https://s3..amazonaws.com",
        "https://-s3.amazonaws.com",
        "https://S3.amazonaws.com",
        "",
    ],
)
def test_no_rule_can_name_a_host_elsewhere(url: str) -> None:
    assert aws_endpoints._host(url, ("amazonaws.com", "api.aws")) is None
    assert aws_endpoints._host("https://s3.us-east-1.amazonaws.com", ("amazonaws.com", "api.aws"))


def test_answers_are_remembered_but_not_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aws_endpoints, "KEPT", 2)
    endpoints = Endpoints()
    first = endpoints.hosts("sqs", "us-east-1")
    assert endpoints.hosts("sqs", "us-east-1") is first
    endpoints.hosts("sqs", "us-east-2")
    endpoints.hosts("sqs", "eu-west-1")
    assert endpoints.hosts("sqs", "us-east-1") == first
    assert len(endpoints._hosts) <= 2
