"""What a decision costs: policies of twenty statements, all of one service so that the index helps with none of them.

One process, the best of many short rounds: what else this machine does makes a round slower, and never faster.
"""

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from gateway.core.policy.engine import Question, compile_policy, decide
from gateway.core.policy.variables import Context

STATEMENTS, ROUNDS, DECISIONS = 20, 200, 100
ARN = "arn:aws:s3:::reports"
CONTEXT: Context = {
    "aws:username": "alice",
    "aws:principaltag/team": "red",
    "aws:sourceip": "192.0.2.7",
    "aws:currenttime": "2026-11-23T12:00:00Z",
    "aws:securetransport": "true",
    "aws:tagkeys": ("team", "cost"),
    "s3:prefix": "home/alice/",
}
CONDITIONS: Sequence[dict[str, Any]] = (
    {},
    {"StringEquals": {"aws:PrincipalTag/team": ["red", "blue"]}},
    {"IpAddress": {"aws:SourceIp": ["192.0.2.0/24", "2001:db8::/32"]}},
    {"StringLike": {"s3:prefix": "home/${aws:username}/*"}, "Bool": {"aws:SecureTransport": "true"}},
    {"DateLessThan": {"aws:CurrentTime": "2027-01-01T00:00:00Z"}, "Null": {"s3:x-amz-acl": "true"}},
)


def statements(*, services: int = 1, variables: bool = False) -> list[dict[str, Any]]:
    """Twenty of them: patterns in actions and resources, conditions of every kind, one in five a Deny."""
    found = []
    for i in range(STATEMENTS):
        service = "s3" if services == 1 or i % services == 0 else f"service{i % services}"
        folder = "home/${aws:username}" if variables else f"folder{i}"
        found.append(
            {
                "Effect": "Deny" if i % 5 == 4 else "Allow",
                "Action": [f"{service}:Get*", f"{service}:PutObject"] if i % 5 != 4 else f"{service}:*",
                "Resource": [f"{ARN}{i}/{folder}/*", f"{ARN}-?/*/{i}"] if i else [f"{ARN}/*", ARN],
                "Condition": CONDITIONS[i % len(CONDITIONS)],
            }
        )
    return found


def everywhere() -> list[dict[str, Any]]:
    """The same on every resource, so that every condition is looked at."""
    return [each | {"Resource": "*"} for each in statements()]


def main() -> None:
    rows = (
        ("twenty, of one service", statements(), "s3:GetObject", f"{ARN}/a/b.csv"),
        ("twenty, of four services", statements(services=4), "s3:GetObject", f"{ARN}/a/b.csv"),
        ("with a variable in each", statements(variables=True), "s3:GetObject", f"{ARN}19/home/alice/b.csv"),
        ("every condition looked at", everywhere(), "s3:GetObject", f"{ARN}/a/b.csv"),
        ("nothing matches", statements(), "s3:GetObject", "arn:aws:s3:::elsewhere/b.csv"),
        ("an unknown resource", statements(), "s3:GetObject", None),
    )
    print(f"{'':28}{'us each':>9}   decision")
    for name, written, action, resource in rows:
        policy = compile_policy({"Version": "2012-10-17", "Statement": written}, "grant bench")
        question = Question(action, resource, CONTEXT)
        asking = partial(decide, [policy], question)
        print(f"{name:28}{_microseconds(asking, DECISIONS):9.1f}   {asking().kind}")
    compiling = partial(compile_policy, {"Version": "2012-10-17", "Statement": statements()}, "grant bench")
    print(f"{'compiling the first':28}{_microseconds(compiling, 1):9.0f}")


def _microseconds(do: Callable[[], object], times: int) -> float:
    best = float("inf")
    for _ in range(ROUNDS):
        began = time.perf_counter()
        for _ in range(times):
            do()
        best = min(best, time.perf_counter() - began)
    return best / times * 1e6


if __name__ == "__main__":
    main()
