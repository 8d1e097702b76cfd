"""The engine beside two that share no code with it: an evaluator of the tests, and, where it is installed, npm's
@cloud-copilot/iam-simulate in a process of its own (AGPL: it judges ours, and is no part of what is here).

    npm install --prefix /tmp/oracle @cloud-copilot/iam-simulate
    IAM_ORACLE=/tmp/oracle/node_modules CASES=20000 pytest tests/gateway/core/policy/test_differential.py
"""

import json
import os
import random
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from tests.gateway.core.policy.asking import asked
from tests.gateway.core.policy.draws import Draw, draw
from tests.policy_evaluator import Request, allows

CASES = int(os.environ.get("CASES", "3000"))
ORACLE = os.environ.get("IAM_ORACLE")


def cases(seed: int) -> list[Draw]:
    dice = random.Random(seed)  # noqa: S311  # the same ones each time
    return [draw(dice) for _ in range(CASES)]


def decided(each: Draw) -> str:
    found = asked(*each.policy["Statement"], action=each.action, resource=each.resource, context=each.context)
    return found.kind


def is_read_alike(each: Draw) -> bool:
    """The evaluator of the tests knows no BinaryEquals, and puts no defaults into what StringEquals compares."""
    conditions = json.dumps([one.get("Condition") for one in each.policy["Statement"]])
    return "Binary" not in conditions and "aws:PrincipalTag/absent" not in conditions


@pytest.mark.threat("D10")
def test_the_evaluator_of_the_tests_judges_alike() -> None:
    drawn = [each for each in cases(20261123) if is_read_alike(each)]
    ours = [decided(each) == "allowed" for each in drawn]
    assert len(drawn) > CASES * 0.6
    assert 0.1 < sum(ours) / len(drawn) < 0.6  # both verdicts are there
    theirs = [
        allows(each.policy, Request(each.action, each.resource, {
            key: list(value) if isinstance(value, tuple) else value for key, value in each.context.items()
        }))
        for each in drawn
    ]  # fmt: skip
    assert [each for each, one, other in zip(drawn, ours, theirs, strict=True) if one != other] == []


if ORACLE:  # not collected elsewhere: where it is missing nothing is skipped

    def test_an_independent_engine_judges_alike() -> None:
        drawn = cases(7)
        lines = "".join(json.dumps(each) + "\n" for each in drawn)
        oracle = ["node", str(Path(__file__).with_name("oracle.mjs")), str(ORACLE)]
        done = subprocess.run(oracle, input=lines, capture_output=True, text=True, check=True, timeout=100)
        ours, theirs = [decided(each) for each in drawn], done.stdout.splitlines()
        assert min(Counter(theirs)[kind] for kind in ("allowed", "denied", "not_allowed")) > CASES / 20
        different = [(*each, one, other) for each, one, other in zip(drawn, ours, theirs, strict=True) if one != other]
        assert different == []
