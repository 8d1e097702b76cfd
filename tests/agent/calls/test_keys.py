"""Dummy keys: who has one, what the gateway is told of it, and when it is gone."""

import importlib.util
import json
import re
import resource
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from agent import ask, settings
from agent.calls import door
from agent.calls.dummy import Dummies
from agent.credentials import Unavailable
from agent.errors import Fault, Problem
from agent.settings import Address
from gateway.wire.calls import ACCESS_KEY_ID, LONGEST_BODY, SECRET, DummyKey
from gateway.wire.strict import decode
from tests.agent.calls.conftest import Site, with_calls
from tests.agent.conftest import WORLD, Machine, Shifted, until, world
from tests.agent.fake_aws import FakeAws
from tests.agent.fake_gateway import SECRET_CANARY, Refusal
from tests.conftest import Known

WAYS = {"a": ("sign",), "b": ("proxy", "token")}


@pytest.fixture
def dummies() -> Dummies:
    dummies = Dummies(WORLD)
    dummies.offer(WAYS)
    return dummies


# By themselves


def test_a_key_has_the_form_that_the_wire_asks_for(dummies: Dummies) -> None:
    told: list[DummyKey] = []
    assert dummies.register("client", told.append) == ["a", "b"]
    for key in told:
        assert re.fullmatch(ACCESS_KEY_ID, key.access_key_id)
        assert re.fullmatch(SECRET, key.secret_access_key)
    assert len({key.secret_access_key for key in told} | {key.access_key_id for key in told}) == 4
    lent = dummies.lend("a")
    assert (lent.access_key_id, lent.secret_access_key) == (told[0].access_key_id, told[0].secret_access_key)
    assert 3590 < (lent.expires - WORLD.now()).total_seconds() <= 3600
    assert repr(dummies.of("a")).startswith("<agent.calls.dummy.Dummy object")


def test_nothing_is_lent_that_the_gateway_does_not_know(dummies: Dummies) -> None:
    with pytest.raises(Unavailable) as none:
        dummies.lend("a")
    assert (none.value.code, none.value.refused) == ("not_yet", False)
    with pytest.raises(Unavailable, match="no such grant"):
        dummies.lend("c")


def test_a_key_is_told_once_to_each_client(dummies: Dummies) -> None:
    told: list[DummyKey] = []
    for client in ("first", "first", "second"):
        dummies.register(client, told.append)
    assert [key.grant for key in told] == ["a", "b", "a", "b"]
    assert told[0] == told[2]


def test_a_refusal_that_lasts_is_told_to_programs_and_tried_again_with_the_next_grants(dummies: Dummies) -> None:
    def refuse(key: DummyKey) -> None:
        if key.grant == "a":
            raise Problem("grant_refused", 403)

    dummies.register("client", refuse)
    with pytest.raises(Unavailable) as refused:
        dummies.lend("a")
    assert (refused.value.code, refused.value.refused) == ("grant_refused", True)
    assert dummies.lend("b")
    assert [(each.name, each.remaining_seconds > 0, each.problem) for each in dummies.supplied()] == [
        ("a", False, "grant_refused"),
        ("b", True, None),
    ]
    told: list[DummyKey] = []
    dummies.register("client", told.append)
    assert told == []
    dummies.offer(WAYS)
    dummies.register("client", told.append)
    assert [key.grant for key in told] == ["a"]
    assert dummies.lend("a")


def test_what_may_pass_is_for_the_caller_to_try_again(dummies: Dummies) -> None:
    def away(_: DummyKey) -> None:
        raise Fault("gateway_unreachable", "no")

    with pytest.raises(Fault, match="gateway_unreachable"):
        dummies.register("client", away)
    assert [key for key in ("a", "b") if dummies.has(key)] == ["a", "b"]
    with pytest.raises(Unavailable, match="not_yet"):
        dummies.lend("a")


@pytest.mark.parametrize(("code", "status"), [("store_unavailable", 503), ("conflict", 409)])
def test_one_key_that_has_to_wait_does_not_keep_the_others(dummies: Dummies, code: str, status: int) -> None:
    def busy(key: DummyKey) -> None:
        if key.grant == "a":
            raise Problem(code, status)

    with pytest.raises(Problem, match=code):
        dummies.register("client", busy)
    assert dummies.lend("b")
    assert dummies.register("client", lambda _: None) == ["a"]


def test_a_grant_that_goes_takes_its_key_along(dummies: Dummies) -> None:
    dummies.register("client", lambda _: None)
    gone, kept = dummies.of("a"), dummies.of("b")
    dummies.offer({"b": ("sign",)})
    assert (dummies.find(gone.access_key_id), dummies.has("a")) == (None, False)
    with pytest.raises(ValueError, match="wiped"), gone.secret:
        """It cannot be opened."""
    with pytest.raises(ValueError, match="wiped"), gone.token:
        """Nor this."""
    found = dummies.find(kept.access_key_id)
    assert found is not None
    assert (found.access_key_id, found.ways) == (kept.access_key_id, ("sign",))


def test_who_is_no_user_any_more_has_no_key_any_more(dummies: Dummies) -> None:
    users: dict[str, tuple[str, ...]] = {"a": ("alice", "bob"), "b": ("alice",)}
    dummies.offer(WAYS, users)
    dummies.register("client", lambda _: None)
    before = {grant: dummies.of(grant).access_key_id for grant in WAYS}
    dummies.offer(WAYS, {"a": ("alice",), "b": ("alice", "carol")})
    with pytest.raises(Unavailable, match="not_yet"):
        dummies.lend("a")
    told: list[DummyKey] = []
    dummies.register("client", told.append)
    assert [key.grant for key in told] == ["a"]
    assert dummies.find(before["a"]) is None
    assert dummies.lend("a").access_key_id != before["a"]
    assert dummies.lend("b").access_key_id == before["b"], "one more user is no reason"


# In an agent


@pytest.fixture
def calling(machine: Machine, aws: FakeAws) -> Machine:
    return with_calls(machine, aws)


def test_a_grant_without_token_is_never_vended(calling: Machine) -> None:
    calling.agent()
    vended = [json.loads(seen.body)["grant"] for seen in calling.gateway.seen if seen.path == "/v1/credentials"]
    assert sorted(vended) == ["mixed", "plain"]
    keys = [decode(DummyKey, json.loads(s.body)) for s in calling.gateway.seen if s.path == "/v1/dummy-keys"]
    assert sorted(key.grant for key in keys) == ["carried", "mixed", "signed"]


def test_every_door_lends_the_dummy_and_never_what_was_vended(calling: Machine, known: Known) -> None:
    for grant in ("carried", "mixed", "signed"):
        calling.gateway.doors[grant] = ["container", "imds", "process", "file"]
    calling.agent(imds_grant="mixed")
    container = calling.get("/v1/credentials/mixed").json
    document, code, _ = ask.ask(calling.socket, "credentials mixed")
    assert not code
    process = json.loads(document)
    assert container["AccessKeyId"].startswith("TGDK")
    assert container["AccessKeyId"] == process["AccessKeyId"]
    assert container["SecretAccessKey"] == process["SecretAccessKey"]
    assert (len(container["Token"]), SECRET_CANARY in json.dumps([container, process])) == (43, False)
    assert (datetime.fromisoformat(container["Expiration"]) - WORLD.now()).total_seconds() > 3500
    assert calling.get("/v1/credentials/plain").json["AccessKeyId"].startswith("ASIA")


def test_the_keys_are_on_no_disk(calling: Machine) -> None:
    calling.agent()
    lent = calling.get("/v1/credentials/signed").json
    assert lent["SecretAccessKey"].encode() not in calling.files()
    assert lent["Token"].encode() not in calling.files()


def test_the_gateway_is_told_again_after_each_renewal(calling: Machine) -> None:
    clock = Shifted()
    daemon = calling.agent(world=world(clock))
    before = calling.get("/v1/credentials/signed").json
    assert calling.gateway.count("/v1/dummy-keys") == 3
    clock.by = clock.by.__class__(hours=15)
    daemon.lifecycle._nudge()
    calling.gateway.wait_for("/v1/renew")
    calling.gateway.wait_for("/v1/dummy-keys", times=6)
    assert calling.get("/v1/credentials/signed").json["AccessKeyId"] == before["AccessKeyId"]


def test_a_revocation_ends_them_at_once(calling: Machine, aws: FakeAws) -> None:
    calling.agent()
    site = Site(calling, aws)
    headers = site.signed("GET", "/bucket/k")
    assert site.send("GET", "/bucket/k", headers).status == 404
    calling.gateway.revoke()
    until(lambda: calling.status()["state"] == "revoked")
    answer = site.send("GET", "/bucket/k", headers)
    assert (answer.status, b"revoked" in answer.body, b"AccessDenied" in answer.body) == (403, True, True)
    assert calling.get("/v1/credentials/signed", token="x").status == 403


def test_a_revocation_that_a_call_hears_of_first_is_heeded(calling: Machine, aws: FakeAws) -> None:
    calling.gateway.watch_seconds = 60
    for path in ("/v1/signatures", "/v1/calls"):
        calling.gateway.sticky[path] = Refusal("instance_revoked")
    calling.agent()
    site = Site(calling, aws)
    headers = site.signed("GET", "/bucket/k", grant="carried")
    answer = site.send("GET", "/bucket/k", headers)
    assert (answer.status, b"AccessDenied" in answer.body) == (403, True)
    until(lambda: calling.status()["state"] == "revoked")


def test_keys_that_the_gateway_cannot_take_yet_are_told_again(calling: Machine) -> None:
    calling.gateway.sticky["/v1/dummy-keys"] = Refusal("store_unavailable")
    calling.agent(ready=False)
    calling.gateway.wait_for("/v1/dummy-keys", times=2)
    assert calling.get("/v1/credentials/signed").status == 503
    del calling.gateway.sticky["/v1/dummy-keys"]
    until(lambda: calling.get("/v1/credentials/signed").status == 200)


def test_a_grant_that_is_refused_a_key_says_so_and_the_others_go_on(calling: Machine) -> None:
    calling.gateway.sticky["/v1/dummy-keys"] = Refusal("grant_refused")
    calling.agent()
    status = {grant["name"]: grant for grant in calling.status()["grants"]}
    assert (status["signed"]["problem"], status["plain"]["problem"]) == ("grant_refused", None)
    assert calling.get("/v1/credentials/signed").status == 403
    assert calling.get("/v1/credentials/plain").status == 200


# Where there is no endpoint


def test_the_setting() -> None:
    assert settings.parse({}).calls == Address("127.0.0.1", 9913)
    assert settings.parse({"calls": "off"}).calls is None
    for wrong in ("0.0.0.0:9913", "10.0.0.1:9913", "127.0.0.1:9911", "127.0.0.1:9912", "x"):
        with pytest.raises(Fault, match="calls"):
            settings.parse({"calls": wrong})


def test_without_such_a_grant_nothing_listens(machine: Machine) -> None:
    machine.written["calls"] = "127.0.0.1:0"
    daemon = machine.agent()
    assert (daemon.calls.address, machine.running()["calls"]) == (None, None)


def test_a_crowd_at_the_endpoint_has_descriptors_of_its_own(calling: Machine) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 512), hard))
    try:
        calling.agent()
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == hard
        assert door._room() == min(512, hard // 4)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("why", ["calls_off", "calls_unavailable", "listen_failed"])
def test_without_an_endpoint_such_grants_are_not_lent_and_the_others_are(
    calling: Machine, why: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, aws: FakeAws
) -> None:
    changes: dict[str, Any] = {"calls": "off"} if why == "calls_off" else {}
    if why == "calls_unavailable":
        monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    if why == "listen_failed":
        changes = {"calls": aws.origin.removeprefix("http://")}
    calling.agent(**changes)
    assert calling.get("/v1/credentials/plain").status == 200
    refused = calling.get("/v1/credentials/signed")
    assert (refused.status, why in refused.json["message"]) == (503, True)
    status = calling.status()
    assert not status["healthy"]
    assert {grant["problem"] for grant in status["grants"]} == {None, why}
    told = [record.getMessage() for record in caplog.records if "no endpoint for calls" in record.getMessage()]
    assert len(told) == (why != "calls_off")
    failed = calling.cli("env", "--grant", "signed", "--endpoint")
    assert (failed.returncode, "no endpoint for calls" in failed.stderr) == (1, True)


# How programs are led there


def test_exec_leads_programs_to_the_endpoint_and_past_every_other(shared: Site) -> None:
    machine = shared.machine
    environment = {
        "AWS_ENDPOINT_URL": "http://other", "AWS_ENDPOINT_URL_S3": "http://other", "NO_PROXY": "example.com",
        "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true",
    }  # fmt: skip
    for via, key in (("container", "AWS_CONTAINER_CREDENTIALS_FULL_URI"), ("keys", "AWS_ACCESS_KEY_ID")):
        words = ["--grant", "signed", "--via", via, "--", "env"]
        told = machine.cli("exec", *words, environment=environment).stdout.splitlines()
        found = dict(line.split("=", 1) for line in told if "=" in line)
        assert found["AWS_ENDPOINT_URL"] == shared.endpoint
        assert found["AWS_DISABLE_HOST_PREFIX_INJECTION"] == "true"
        assert key in found
        assert not {"AWS_ENDPOINT_URL_S3", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS"} & found.keys()
        assert found["NO_PROXY"] == "example.com,127.0.0.1"


def test_control_a_grant_that_goes_by_token_leaves_endpoints_alone(shared: Site) -> None:
    told = shared.machine.cli("exec", "--grant", "plain", "--", "env", environment={"AWS_ENDPOINT_URL_S3": "http://x"})
    found = dict(line.split("=", 1) for line in told.stdout.splitlines() if "=" in line)
    assert (found.get("AWS_ENDPOINT_URL_S3"), "AWS_ENDPOINT_URL" in found) == ("http://x", False)


@pytest.mark.parametrize("words", [["--endpoint"], []])
def test_env_prints_the_endpoint(shared: Site, words: list[str]) -> None:
    told = shared.machine.cli("env", "--grant", "signed", *words).stdout
    assert f"export AWS_ENDPOINT_URL={shared.endpoint}" in told
    assert "AWS_ENDPOINT_URL" not in shared.machine.cli("env", "--grant", "plain", *words).stdout


def test_configure_writes_the_endpoint_and_takes_it_away_again(shared: Site, tmp_path: Path) -> None:
    environment = {"AWS_CONFIG_FILE": str(tmp_path / "config")}
    assert shared.machine.cli("configure", "--grant", "signed", environment=environment).returncode == 0
    assert f"endpoint_url = {shared.endpoint}\n" in (tmp_path / "config").read_text()
    assert shared.machine.cli("configure", "--grant", "signed", "--remove", environment=environment).returncode == 0
    assert (tmp_path / "config").read_text() == ""


def test_status_shows_ways_and_counters(site: Site) -> None:
    site.client("s3").put_object(Bucket="bucket", Key="k", Body=b"x")
    told = site.machine.cli("status")
    assert told.returncode == 0
    assert re.search(r"calls go by sign: .*sign [1-9]", told.stdout)
    grants = {grant["name"]: grant for grant in site.machine.status()["grants"]}
    assert (grants["mixed"]["ways"], grants["plain"]["ways"]) == (["sign", "token"], ["token"])
    assert "container" in grants["plain"]["doors"]


def test_icebergs_signer_is_at_the_same_address(site: Site) -> None:
    token = Path(site.machine.running()["tokens"]["signed"]).read_text()
    uri = "https://bucket.s3.eu-central-1.amazonaws.com/k"
    document = json.dumps({"method": "GET", "region": "eu-central-1", "uri": uri, "headers": {}}).encode()
    headers = {"host": site.host, "authorization": f"Bearer {token}", "content-type": "application/json"}
    answer = site.send("POST", "/v1/aws/s3/sign", headers, document)
    assert answer.status == 200, answer.body
    assert "authorization" in json.loads(answer.body)["headers"]
    (call,) = site.calls.asked
    assert (call.grant, call.host) == ("signed", "bucket.s3.eu-central-1.amazonaws.com")
    assert site.send("POST", "/v1/aws/s3/sign", headers | {"authorization": "Bearer x"}, document).status == 401
    assert site.send("POST", "/v1/aws/s3/sign", headers | {"origin": "http://x"}, document).status == 403
    assert site.send("POST", "/v1/aws/s3/sign", headers, bytes(2 * LONGEST_BODY + 1)).status == 413
    stranger = headers | {"authorization": "Bearer x", "content-length": "1000", "expect": "100-continue"}
    assert site.send("POST", "/v1/aws/s3/sign", stranger).status == 401, "whoever is not known is not read"
