"""How calls reach AWS: the strictest way wins, and a session in the agent's hands is fenced off from the rest."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.delivery import Delivery
from gateway.core.policy.engine import Question, compile_policy, decide
from gateway.wire.messages import WAYS

MIXED = Delivery("token", {"sign": ("s3:Delete*", "sqs:?endMessage"), "proxy": ("s3:DeleteBucket",)})


@pytest.mark.parametrize(
    ("actions", "way"),
    [
        (["s3:GetObject"], "token"),
        (["s3:DeleteObject"], "sign"),
        (["S3:dELETEoBJECT"], "sign"),
        (["s3:DeleteBucket"], "proxy"),  # both name it
        (["s3:GetObject", "s3:DeleteObject"], "sign"),
        (["s3:DeleteObject", "s3:DeleteBucket"], "proxy"),
        (["sqs:SendMessage"], "sign"),
        (["sqs:ResendMessage"], "token"),
        (["xs3:DeleteObject"], "token"),
        ([None], "proxy"),
        (["s3:GetObject", None], "proxy"),
        ([], "proxy"),
    ],
)
def test_a_call_goes_the_strictest_way_that_its_actions_ask_for(actions: list[str | None], way: str) -> None:
    assert MIXED.way(actions) == way


def test_the_ways_there_are() -> None:
    assert Delivery().ways == ("token",)
    assert Delivery("proxy").ways == ("proxy",)
    assert MIXED.ways == ("token", "sign", "proxy")
    assert Delivery("sign", {"token": (), "proxy": ("iam:*",)}).ways == ("sign", "proxy")
    assert Delivery("sign").way([None]) == "sign"


def fenced(delivery: Delivery) -> Any:
    everything = {"Effect": "Allow", "Action": "*", "Resource": "*"}
    return compile_policy({"Version": "2012-10-17", "Statement": [everything, *delivery.fences()]}, "session")


ACTIONS = st.sampled_from(
    ["s3:GetObject", "s3:DeleteObject", "s3:DeleteBucket", "sqs:SendMessage", "iam:PassRole", "ec2:RunInstances"]
)
PATTERNS = st.lists(
    st.sampled_from(["s3:*", "s3:Delete*", "sqs:Send?essage", "iam:PassRole", "*", "ec2:R*"]), max_size=2
)


@given(st.sampled_from(WAYS), PATTERNS, PATTERNS, PATTERNS, ACTIONS)
def test_a_session_may_do_exactly_what_goes_by_token(
    default: str, token: list[str], sign: list[str], proxy: list[str], action: str
) -> None:
    delivery = Delivery(default, {"token": tuple(token), "sign": tuple(sign), "proxy": tuple(proxy)})
    if "token" not in delivery.ways:
        return
    may = bool(decide((fenced(delivery),), Question(action, "*", {})))
    assert may == (delivery.way([action]) == "token")
