"""Unmediated use, over REST and the command line: a real session, and what AWS would have recorded of it."""

import gzip
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from deploy.demo.cloud import Cloud, Seeded
from deploy.demo.ec2_document import DocumentAuthority
from gateway.wire.messages import instant
from tests.conftest import Known
from tests.end_to_end.people import person
from tests.end_to_end.world import GRANT, Launched, World
from tests.end_to_end.world import world as make_world

HERE, AWAY = "203.0.113.7", "198.51.100.66"
FOUND = 3


@pytest.fixture(scope="module")
def world(
    tmp_path_factory: pytest.TempPathFactory, cloud: Cloud, seeded: Seeded, authority: DocumentAuthority, known: Known
) -> Iterator[World]:
    """A gateway that knows its own address."""
    folder = tmp_path_factory.mktemp("reconcile")
    tables = f'[reconcile]\naddresses = ["{HERE}/32"]\n'
    with make_world(folder / "gateway", cloud, seeded, authority, tables=tables) as made:
        known.add(made.site.passphrase)
        known.watch(made.site.log)
        yield made


@pytest.fixture(scope="module")
def vended(world: World) -> tuple[Launched, str]:
    """An instance, and the access key id of a session that it was given."""
    launched, visitor = world.enrolled()
    answer = visitor.call("POST", "/v1/credentials", {"grant": GRANT})
    assert answer.status == 200, answer.body
    return launched, answer.body["access_key_id"]


def record(world: World, number: str, key: str, source: str, ago: timedelta = timedelta(minutes=10)) -> dict[str, Any]:
    """As AWS writes one, with members that nobody needs."""
    account, role = world.seeded.account, world.seeded.role_arn
    who = {"type": "IAMUser", "arn": f"arn:aws:iam::{account}:user/upstream", "accountId": account, "accessKeyId": key}
    if key.startswith("ASIA"):
        session = {"sessionIssuer": {"type": "Role", "arn": role}, "attributes": {"mfaAuthenticated": "false"}}
        who |= {"type": "AssumedRole", "arn": f"arn:aws:sts::{account}:assumed-role/reader/{number}"}
        who |= {"sessionContext": session}  # type: ignore[dict-item]
    return {
        "eventVersion": "1.11", "userIdentity": who, "eventTime": instant(datetime.now(UTC) - ago), "eventID": number,
        "eventSource": "s3.amazonaws.com", "eventName": "GetObject", "awsRegion": world.seeded.region,
        "sourceIPAddress": source, "userAgent": "[aws-cli]", "recipientAccountId": account,
        "requestParameters": {"bucketName": "a-private-name"}, "responseElements": None, "eventType": "AwsApiCall",
    }  # fmt: skip


def written(path: Path, *records: dict[str, Any]) -> Path:
    path.write_bytes(gzip.compress(json.dumps({"Records": records}).encode()))
    return path


def home(world: World, launched: Launched) -> str:
    """The address that the instance has."""
    address: str = json.loads(world.site.cli("server", "show", launched.id, "--json"))["private_ip"]
    return address


def test_what_went_by_the_gateway_is_well_and_what_did_not_is_found(
    world: World, vended: tuple[Launched, str], tmp_path: Path
) -> None:
    launched, key = vended
    upstream = world.seeded.access_key_id
    good = [record(world, "e1", key, home(world, launched)), record(world, "e2", upstream, HERE)]
    file = written(tmp_path / "1.json.gz", *good)
    said = world.site.run("audit", "reconcile", str(file), "--no-inventory")
    assert (said.returncode, said.stderr) == (0, ""), said.stderr
    assert "ours       2" in said.stdout
    assert json.loads(world.site.cli("audit", "findings", "--json")) == []

    bad = [record(world, "e3", key, AWAY), record(world, "e4", upstream, AWAY), record(world, "e5", "ASIAX", AWAY)]
    written(tmp_path / "2.json.gz", *good, *bad)
    (tmp_path / "1_CloudTrail-Digest_x.json.gz").write_bytes(b"no log file")
    said = world.site.run("audit", "reconcile", str(tmp_path), "--no-inventory", "--json")
    assert said.returncode == FOUND, said.stderr
    report = json.loads(said.stdout)
    found = {each["kind"]: each for each in report["findings"]}
    assert found.keys() == {"session_elsewhere", "key_elsewhere", "session_unknown"}
    assert found["session_elsewhere"]["about"]["instance"].endswith(launched.id)
    assert found["key_elsewhere"]["sources"] == [AWAY]
    assert len(report["new"]) == 3

    again = world.site.run("audit", "reconcile", str(tmp_path), "--no-inventory")
    assert again.returncode == FOUND
    assert "found      3, 0 of them new" in again.stdout
    assert "trusted-gateway key compromised" in again.stdout
    listed = world.site.run("audit", "findings", "--kind", "key_elsewhere", "--json")
    assert listed.returncode == FOUND
    (one,) = json.loads(listed.stdout)
    assert (one["count"], one["more"], one["events"]) == (1, False, ["e4"])

    facts = world.audit(name="gateway:use:find")
    assert sorted(each["reason"] for each in facts) == sorted(found)
    runs = world.audit(name="operator:audit:reconcile")
    assert {each["kind"] for each in runs} == {"decision"}
    # What was asked of AWS never left the operator's machine.
    assert not any("a-private-name" in json.dumps(each) for each in runs + facts)


def test_machines_of_nobody_are_found_when_they_are_old_enough(
    world: World, vended: tuple[Launched, str], tmp_path: Path
) -> None:
    launched, key = vended
    world.launch()
    file = written(tmp_path / "1.json.gz", record(world, "e6", key, home(world, launched)))
    said = world.site.run("audit", "reconcile", str(file), "--json")
    report = json.loads(said.stdout)
    assert report["machines"] >= 2
    assert report["unverifiable"]["may_still_enrol"] >= 1  # it was launched a moment ago
    assert report["unseen"] == []


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b'{"Records": []}', "trail_empty"),
        (b'{"Records": [{"eventVersion": "1.0"}]}', "trail_empty"),
        (b'{"Records": [{}', "trail_malformed"),
        (b"nonsense", "trail_malformed"),
        (b"", "trail_malformed"),
    ],
)
def test_nothing_to_look_at_is_a_failure(world: World, tmp_path: Path, content: bytes, code: str) -> None:
    file = tmp_path / "one.json"
    file.write_bytes(content)
    said = world.site.run("audit", "reconcile", str(file), "--no-inventory")
    assert said.returncode == 1
    assert f"({code})" in said.stderr
    assert world.site.run("audit", "reconcile", str(tmp_path / "none")).returncode == 1
    assert world.site.run("audit", "reconcile").returncode == 2


def test_events_from_before_are_left_out_when_asked(world: World, vended: tuple[Launched, str], tmp_path: Path) -> None:
    old = record(world, "e7", vended[1], "198.51.100.99", timedelta(hours=3))
    file = written(tmp_path / "old.json", old)
    said = world.site.run("audit", "reconcile", str(file), "--since", "1h", "--no-inventory")
    assert (said.returncode, "trail_empty" in said.stderr) == (1, True)


def test_a_trail_that_aws_does_not_give_is_a_failure_and_recorded(world: World) -> None:
    bucket = "s3://no-such-bucket"
    said = world.site.run("audit", "reconcile", "--s3", bucket, "--upstream", "main")
    assert said.returncode == 1
    assert "upstream_refused" in said.stderr
    asked = [each for each in world.audit(name="operator:audit:reconcile") if each["object"] == f"trail/{bucket}"]
    assert [each["kind"] for each in asked] == ["decision", "intent", "outcome"]
    assert asked[-1]["allowed"] is False


def test_rest_says_the_same_to_those_who_may(world: World, vended: tuple[Launched, str]) -> None:
    events = [record(world, "e8", vended[1], "198.51.100.70")]
    admin, auditor = world.operator(), person(world, "the-auditor", "auditor")
    assert auditor.call("POST", "/v1/reconciliations", {"events": events}).code == "operator_forbidden"
    answer = admin.call("POST", "/v1/reconciliations", {"events": events})
    assert (answer.status, answer.body["verdict"]) == (200, "found")
    (found,) = answer.body["findings"]
    assert found["about"]["source"] == "198.51.100.70"
    assert admin.call("POST", "/v1/reconciliations", {"events": []}).body["verdict"] == "nothing_read"
    page = auditor.call("GET", "/v1/findings?limit=1")
    assert len(page.body["findings"]) == 1
    assert page.body["next"] is not None
    assert auditor.call("GET", "/v1/findings?kind=instance_unknown").body["findings"] == []
