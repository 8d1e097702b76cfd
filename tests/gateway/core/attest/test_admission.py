"""Claims against what AWS says: each cause has a reason of its own."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gateway.core.attest.admission import Rules, admit
from gateway.core.attest.ec2 import Claims
from gateway.core.attest.facts import InstanceFacts
from gateway.core.errors import Refusal

LAUNCH = datetime(2026, 11, 22, 10, 0, 0, tzinfo=UTC)
NOW = LAUNCH + timedelta(minutes=2)
CLAIMS = Claims(
    account="111122223333",
    region="eu-central-1",
    instance_id="i-0123456789abcdef0",
    image_id="ami-0abcdef1234567890",
    private_ip="10.0.1.2",
    pending_time=LAUNCH,
    instance_type="t3.micro",
    architecture="x86_64",
    availability_zone="eu-central-1a",
    unknown=(),
    sha256="0" * 64,
)
FACTS = InstanceFacts(
    account=CLAIMS.account,
    region=CLAIMS.region,
    instance_id=CLAIMS.instance_id,
    state="running",
    image_id=CLAIMS.image_id,
    private_ip=CLAIMS.private_ip,
    public_ip="198.51.100.7",
    launch_time=LAUNCH,
    root_attached=LAUNCH + timedelta(seconds=2),
    interface_attached=LAUNCH,
)
STRICT = Rules(images=(CLAIMS.image_id,), regions=(CLAIMS.region,), source_address=True, root_volume=True)
ANY = Rules(source_address=False)


def reason(
    *,
    claims: Claims = CLAIMS,
    facts: InstanceFacts = FACTS,
    rules: Rules = STRICT,
    now: datetime = NOW,
    source: str | None = "10.0.1.2",
) -> str | None:
    try:
        admit(claims, facts, rules, now, source)
    except Refusal as refused:
        return refused.reason if refused.code == "evidence_refused" else f"code {refused.code}"
    return None


def test_a_matching_instance_is_admitted_by_the_strictest_rules() -> None:
    assert reason() is None


MINUTE = timedelta(minutes=1)
CASES: dict[str, dict[str, Any]] = {
    "account_differs": {"claims": replace(CLAIMS, account="999988887777")},
    "region_differs": {"claims": replace(CLAIMS, region="us-east-1")},
    "region_not_allowed": {"rules": Rules(regions=("us-east-1",))},
    "instance_differs": {"claims": replace(CLAIMS, instance_id="i-0fedcba9876543210")},
    "instance_not_running": {"facts": replace(FACTS, state="terminated", private_ip=None, public_ip=None)},
    "image_differs": {"claims": replace(CLAIMS, image_id="ami-0fedcba9876543210")},
    "image_not_allowed": {"rules": Rules(images=("ami-0fedcba9876543210",))},
    "private_ip_differs": {"facts": replace(FACTS, private_ip="10.0.1.3")},
    "document_of_other_launch": {"claims": replace(CLAIMS, pending_time=LAUNCH - 6 * MINUTE)},
    "launch_in_future": {"now": LAUNCH - 6 * MINUTE},
    "launch_too_old": {"now": LAUNCH + 61 * MINUTE},
    "source_address_differs": {"source": "10.0.1.3"},
    "root_volume_swapped": {"facts": replace(FACTS, root_attached=LAUNCH + 2 * MINUTE)},
}


@pytest.mark.threat("A13")
@pytest.mark.parametrize("expected", CASES)
def test_A13_each_cause_has_a_reason_of_its_own(expected: str) -> None:
    assert reason(**CASES[expected]) == expected


@pytest.mark.parametrize("state", ["pending", "shutting-down", "terminated", "stopping", "stopped", "Running", ""])
def test_only_running_is_running(state: str) -> None:
    assert reason(facts=replace(FACTS, state=state)) == "instance_not_running"


@pytest.mark.threat("A13")
def test_A13_document_from_before_a_stop_and_start() -> None:
    """The replay: the instance was stopped and started, so AWS reports a newer launch than the document's."""
    started_again = LAUNCH + timedelta(days=3)
    facts = replace(FACTS, launch_time=started_again)
    assert reason(facts=facts, rules=ANY, now=started_again + MINUTE) == "document_of_other_launch"
    fresh = replace(CLAIMS, pending_time=started_again)
    assert reason(claims=fresh, facts=facts, rules=ANY, now=started_again + MINUTE) is None


def test_limits_are_inclusive() -> None:
    assert reason(claims=replace(CLAIMS, pending_time=LAUNCH - 5 * MINUTE)) is None
    assert reason(claims=replace(CLAIMS, pending_time=LAUNCH + 5 * MINUTE)) is None
    assert reason(claims=replace(CLAIMS, pending_time=LAUNCH + 5 * MINUTE + timedelta(seconds=1))) == (
        "document_of_other_launch"
    )
    assert reason(now=LAUNCH - 5 * MINUTE) is None
    assert reason(now=LAUNCH + 60 * MINUTE) is None


def test_an_instance_that_comes_back_may_be_of_any_age_but_not_of_another_launch() -> None:
    years = LAUNCH + timedelta(days=1000)
    returning = Rules(max_age=None, source_address=False)
    assert reason(rules=returning, now=years) is None
    old = replace(CLAIMS, pending_time=LAUNCH - timedelta(days=1))
    assert reason(rules=returning, now=years, claims=old) == "document_of_other_launch"
    assert reason(rules=returning, now=LAUNCH - 6 * MINUTE) == "launch_in_future"


@pytest.mark.parametrize("source", ["10.0.1.2", "198.51.100.7", "::ffff:10.0.1.2"])
def test_own_addresses(source: str) -> None:
    assert reason(source=source) is None


@pytest.mark.parametrize("source", [None, "", "10.0.1.3", "10.0.1.2:1", "None", "::1", "010.0.1.2"])
def test_foreign_addresses(source: str | None) -> None:
    assert reason(source=source) == "source_address_differs"
    assert reason(source=source, rules=ANY) is None


def test_an_instance_without_a_public_address_is_not_one_of_no_address() -> None:
    assert reason(facts=replace(FACTS, public_ip=None), source=None) == "source_address_differs"


@pytest.mark.parametrize("missing", ["root", "interface"])
def test_the_root_volume_rule_refuses_what_it_cannot_know(missing: str) -> None:
    facts = replace(FACTS, root_attached=None) if missing == "root" else replace(FACTS, interface_attached=None)
    assert reason(facts=facts) == "root_volume_swapped"
    assert reason(facts=facts, rules=ANY) is None
