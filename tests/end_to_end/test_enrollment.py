"""Who gets in: an instance that AWS knows, with evidence of its own, and nobody with a copy of another's (A12, A13)."""

import json
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from deploy.demo.cloud import REGION
from deploy.demo.ec2_document import DocumentAuthority, SignedDocument
from deploy.demo.machine import document_of
from tests.end_to_end.counted import Counted, counted_fixture  # noqa: F401  # a fixture
from tests.end_to_end.crowd import wait_until
from tests.end_to_end.world import PROFILE, Launched, World

Changed = Callable[[World, Launched], SignedDocument]


def changed(authority: DocumentAuthority, launched: Launched, **fields: Any) -> SignedDocument:
    """The document of an instance with other fields, signed all the same: what only AWS itself could make."""
    return authority.sign(json.dumps(json.loads(launched.document.document) | fields).encode())


def test_an_instance_gets_the_certificate_of_its_own_name(counted: Counted) -> None:
    world, calls = counted.world, counted.door.calls
    launched, visitor = world.launch(), world.visitor()
    answer = visitor.enroll(launched.document, counted.ticket())
    assert answer.status == 201
    name = f"spiffe://trusted-gateway.internal/aws/{launched.facts.account}/{REGION}/{launched.id}"
    assert answer.body["instance"] == name
    assert counted.door.calls - calls == 1
    (certificate,) = world.rows("certificate", subject=name)
    assert (certificate["state"], certificate["kind"]) == ("active", "instance")
    records = world.audit(object=name)
    assert [(record["kind"], record["allowed"]) for record in records] == [
        ("decision", True),
        ("intent", True),
        ("outcome", True),
    ]
    assert len({record["request_id"] for record in records}) == 1
    assert records[-1]["facts"]["serial"] == certificate["serial"]
    assert visitor.call("GET", "/v1/grants").status == 200


@pytest.mark.threat("A12")
def test_A12_a_copied_document_is_refused_while_its_instance_is_enrolled(counted: Counted) -> None:
    world = counted.world
    victim, enrolled = world.enrolled()
    thief, ticket = world.visitor(), counted.ticket()
    record = counted.refuses(
        lambda: thief.enroll(victim.document, ticket),
        409,
        "instance_enrolled",
        "evidence_of_enrolled_instance_from_another_key",
    )
    assert record["object"].endswith(victim.id)
    assert enrolled.call("GET", "/v1/grants").status == 200
    # The thief's ticket is good for what it was made for: a machine of its own.
    assert thief.enroll(world.launch().document, ticket).status == 201


@pytest.mark.threat("A12")
def test_A12_a_revoked_instance_comes_back_by_a_later_ticket_in_its_name_and_by_no_other(counted: Counted) -> None:
    world = counted.world
    victim, enrolled = world.enrolled()
    before = counted.ticket(instance_id=victim.id)
    world.site.cli("revoke", "instance", victim.id)
    anybodys, after = counted.ticket(), counted.ticket(instance_id=victim.id)

    for visitor in (world.visitor(), enrolled):  # another key, and its own
        for ticket, status, code, reason in (
            (anybodys, 403, "instance_revoked", "instance_revoked_ticket_not_by_name"),
            (before, 401, "ticket_invalid", "ticket_revoked"),
        ):
            counted.refuses(partial(visitor.enroll, victim.document, ticket), status, code, reason)
    counted.refuses(lambda: enrolled.call("GET", "/v1/grants"), 403, "instance_revoked")

    back = world.visitor()
    assert back.enroll(victim.document, after).status == 201
    assert back.call("GET", "/v1/grants").status == 200
    counted.refuses(lambda: enrolled.call("GET", "/v1/grants"), 403, "instance_revoked")


def terminated(world: World, launched: Launched) -> SignedDocument:
    world.cloud.root("ec2").terminate_instances(InstanceIds=[launched.id])
    return launched.document


def stopped(world: World, launched: Launched) -> SignedDocument:
    world.cloud.root("ec2").stop_instances(InstanceIds=[launched.id])
    return launched.document


def field(**fields: str) -> Changed:
    return lambda world, launched: changed(world.authority, launched, **fields)


A13: dict[str, tuple[Changed, str, int]] = {
    "of another account": (field(accountId="999988887777"), "account_foreign", 0),
    "of a region that is not configured": (field(region="us-west-2"), "region_not_configured", 0),
    "signed by another region": (
        lambda world, launched: DocumentAuthority("us-west-2").sign(launched.document.document),
        "signer_not_pinned",
        0,
    ),
    "of another image": (field(imageId="ami-00000000000000000"), "image_differs", 1),
    "of another address": (field(privateIp="10.9.8.7"), "private_ip_differs", 1),
    "of an earlier launch": (field(pendingTime="2026-01-01T00:00:00Z"), "document_of_other_launch", 1),
    "of a terminated instance": (terminated, "instance_not_running", 1),
    "of a stopped instance": (stopped, "instance_not_running", 1),
    "of an instance that AWS does not know": (field(instanceId="i-00000000000000000"), "instance_unknown_to_aws", 1),
}


@pytest.mark.threat("A13")
@pytest.mark.parametrize(("make", "reason", "aws"), A13.values(), ids=A13)
def test_A13_a_document(counted: Counted, make: Changed, reason: str, aws: int) -> None:
    """The ticket stays good, and lets in whoever has evidence of its own."""
    world, visitor = counted.world, counted.world.visitor()
    ticket, document = counted.ticket(), make(world, world.launch())
    counted.refuses(lambda: visitor.enroll(document, ticket), 403, "evidence_refused", reason, aws=aws)
    assert visitor.enroll(world.launch().document, ticket).status == 201


@pytest.mark.threat("A13")
def test_A13_the_audit_log_tells_one_cause_from_another() -> None:
    reasons = [reason for _, reason, _ in A13.values()]
    assert len(set(reasons)) == len(reasons) - 1  # stopped and terminated are one: not running


RULES = {
    "another image": ('images = ["ami-00000000000000000"]', "image_not_allowed"),
    "another region": ('regions = ["eu-west-3"]', "region_not_allowed"),
    "its own address": ("source_address = true", "source_address_differs"),
    "its youth": ('max_age = "1s"', "launch_too_old"),
}


@pytest.mark.threat("A13")
@pytest.mark.parametrize(("attestation", "reason"), RULES.values(), ids=RULES)
def test_A13_a_profile_asks_for(counted: Counted, attestation: str, reason: str) -> None:
    world, visitor = counted.world, counted.world.visitor()
    launched, ticket = world.launch(), counted.ticket(profile=apply(world, attestation))
    wait_until(launched.facts.launch_time + timedelta(seconds=2))
    counted.refuses(lambda: visitor.enroll(launched.document, ticket), 403, "evidence_refused", reason, aws=1)
    assert visitor.enroll(launched.document, counted.ticket()).status == 201


def test_what_a_profile_asks_for_can_be_met(counted: Counted) -> None:
    world = counted.world
    facts = world.cloud.run_instance(private_ip="127.0.0.1")
    asked = f'images = ["{facts.image_id}"]\nregions = ["{facts.region}"]\nsource_address = true\nmax_age = "1h"'
    visitor, document = world.visitor(), document_of(facts, world.authority)
    assert visitor.enroll(document, counted.ticket(profile=apply(world, asked))).status == 201


def apply(world: World, attestation: str) -> str:
    """A profile like `web` that asks for more. Its name."""
    name, like = "stricter", (world.site.folder / f"{PROFILE}.toml").read_text()
    path = world.site.folder / f"{name}.toml"
    path.write_text(like.replace(f'name = "{PROFILE}"', f'name = "{name}"', 1) + f"[attestation]\n{attestation}\n")
    world.site.cli("profile", "apply", str(path))
    return name
