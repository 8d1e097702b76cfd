"""A life between enrolment and revocation: renewal, refusals, an absent gateway, a wrong clock, changing grants."""

import base64
import json
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from agent.client import Client
from agent.identity import FILE
from certs import csr, keys
from tests.agent.conftest import Machine, Shifted, full_disk, until, world
from tests.agent.fake_gateway import Refusal

APP = "/v1/credentials/app"


# ── renewal


def test_renewed_at_half_life_with_the_same_key(machine: Machine) -> None:
    clock = Shifted()
    daemon = machine.agent(world=world(clock))
    before = machine.kept()
    clock.by = timedelta(hours=11.9)
    daemon.lifecycle._nudge()
    time.sleep(0.2)
    assert machine.gateway.count("/v1/renew") == 0
    clock.by = timedelta(hours=13.5)
    daemon.lifecycle._nudge()
    machine.gateway.wait_for("/v1/renew")
    until(lambda: machine.kept()["certificate"] != before["certificate"])
    assert machine.kept()["key"] == before["key"]
    until(lambda: daemon.lifecycle.problem is None)
    daemon.lifecycle.credentials._supplies["app"].refresh()
    first, *_, last = (seen for seen in machine.gateway.seen if seen.path == "/v1/credentials")
    assert first.serial != last.serial == machine.gateway.current


def test_a_failed_renewal_is_tried_again_and_nothing_stops(machine: Machine) -> None:
    clock = Shifted()
    daemon = machine.agent(world=world(clock))
    machine.gateway.credentials_life = timedelta(hours=40)
    machine.gateway.refusals["/v1/renew"] = deque([Refusal("store_unavailable")] * 2)
    clock.by = timedelta(hours=13.5)
    daemon.lifecycle._nudge()
    machine.gateway.wait_for("/v1/renew", times=3)
    until(lambda: daemon.lifecycle.problem is None)
    assert "POST /v1/nonces" not in machine.gateway.paths()


def test_superseded_means_ask_for_the_successor_with_the_same_key(machine: Machine) -> None:
    """The agent was killed between the gateway's answer and the rename."""
    before = machine.enrolled_before()
    old = json.dumps(before | {"issued": "2026-01-01T00:00:00Z"})
    (machine.state_dir / FILE).write_text(old)
    first = machine.agent()  # past half life by `issued`, so it renews
    until(lambda: machine.kept()["certificate"] != before["certificate"])
    first.close()
    successor = machine.kept()["certificate"]
    (machine.state_dir / FILE).write_text(old.replace("2026-01-01T00", datetime.now(UTC).strftime("%Y-%m-%dT%H")))
    machine.gateway.seen.clear()
    machine.agent(world=world(Shifted(seconds=6)))
    until(lambda: machine.kept()["certificate"] == successor)
    assert machine.gateway.count("/v1/enroll") == 0


def test_the_disk_is_full_when_the_new_certificate_comes(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Shifted()
    daemon = machine.agent(world=world(clock))
    before = machine.kept()

    full_disk(monkeypatch)
    clock.by = timedelta(hours=13.5)
    daemon.lifecycle._nudge()
    until(lambda: daemon.lifecycle.problem == "write_failed")
    assert daemon.lifecycle.identity is not None
    assert daemon.lifecycle.identity.certificate != before["certificate"], "the new one is used all the same"
    assert machine.kept() == before
    monkeypatch.undo()
    until(lambda: machine.kept()["certificate"] != before["certificate"])


# ── the certificate ran out, or is refused


def test_ran_out_while_off_comes_back_by_proof_without_the_ticket(machine: Machine) -> None:
    before = machine.enrolled_before()
    machine.keep(not_after="2026-01-02T00:00:00Z", issued="2026-01-01T00:00:00Z")
    machine.agent()
    assert machine.gateway.paths()[:2] == ["POST /v1/nonces", "POST /v1/enroll"]
    sent = json.loads(machine.gateway.seen[1].body)
    assert "ticket" not in sent
    assert set(sent["proof"]) == {"nonce", "signature"}
    assert machine.gateway.seen[1].serial is None, "the certificate that ran out is not shown"
    assert machine.kept()["key"] == before["key"]


def test_control_a_proof_that_is_refused_brings_nothing_but_a_new_ticket_does(machine: Machine) -> None:
    before = machine.enrolled_before()
    machine.keep(not_after="2026-01-02T00:00:00Z", issued="2026-01-01T00:00:00Z")
    machine.gateway.key_sha256 = "another key"
    daemon = machine.agent(ready=False)
    until(lambda: daemon.lifecycle.problem == "proof_refused")
    assert daemon.lifecycle.state == "starting"
    daemon.close()
    assert all(b"ticket-one" not in seen.body for seen in machine.gateway.seen), "it is spent, and not sent again"
    machine.gateway.tickets["ticket-two"] = None
    machine.launch_with("ticket-two")
    machine.agent()
    assert machine.kept()["key"] == before["key"]


def test_j10_a_slow_clock_shows_an_old_certificate_and_tls_says_so(machine: Machine) -> None:
    before = machine.enrolled_before()
    machine.gateway.certificate_life = timedelta(minutes=-5)
    over = json.loads(machine.gateway._issue(csr.make(keys.load_private(base64.b64decode(before["key"])))))
    machine.keep(certificate=over["certificate"], not_after=over["not_after"], issued="2026-01-01T00:00:00Z")
    machine.gateway.certificate_life = timedelta(hours=24)
    machine.agent(world=world(Shifted(minutes=-10)))
    assert machine.gateway.paths()[:2] == ["POST /v1/nonces", "POST /v1/enroll"]


@pytest.mark.parametrize("code", ["certificate_unknown", "certificate_expired", "certificate_revoked"])
def test_a_certificate_that_is_refused_for_good_is_replaced_by_proof(machine: Machine, code: str) -> None:
    machine.enrolled_before()
    machine.keep(issued="2026-01-01T00:00:00Z", not_after="2027-12-01T00:00:00Z")
    machine.gateway.refusals["/v1/grants"] = deque([Refusal(code)])
    machine.gateway.sticky["/v1/renew"] = Refusal(code)
    machine.agent()
    assert "POST /v1/nonces" in machine.gateway.paths()


def test_a_revoked_certificate_ends_the_serving_at_once(machine: Machine) -> None:
    daemon = machine.agent()
    machine.gateway.sticky["/v1/watch"] = Refusal("certificate_revoked")
    machine.gateway.sticky["/v1/enroll"] = Refusal("proof_refused")
    machine.gateway.news.set()
    until(lambda: daemon.lifecycle.state == "starting")
    assert machine.get(APP).status == 503
    assert machine.status()["healthy"] is False


def test_a_gateway_that_refuses_what_it_gives_is_not_pressed(machine: Machine) -> None:
    machine.enrolled_before()
    machine.keep(issued="2026-01-01T00:00:00Z", not_after="2027-12-01T00:00:00Z")
    for path in ("/v1/grants", "/v1/watch", "/v1/renew"):
        machine.gateway.sticky[path] = Refusal("certificate_unknown")
    machine.agent(ready=False)
    machine.gateway.wait_for("/v1/nonces")
    time.sleep(1.3)
    assert machine.gateway.count("/v1/nonces") == 1


# ── J04, J10: the gateway is away, the clock is wrong


def test_j04_the_gateway_is_away_and_what_was_vended_is_served(machine: Machine) -> None:
    clock = Shifted()
    daemon = machine.agent(world=world(clock))
    machine.gateway.stop()
    clock.by = timedelta(minutes=45)
    daemon.lifecycle.credentials._supplies["app"].refresh()
    assert machine.get(APP).status == 200
    clock.by = timedelta(minutes=61)
    assert machine.get(APP).status == 503
    assert machine.status()["healthy"] is False
    machine.gateway.start()


@pytest.mark.threat("J04")
def test_j04_two_hours_without_the_gateway_and_back(machine: Machine) -> None:
    """Credentials of an hour end on time, and so does the certificate; it comes back by its key, and not in a rush."""
    clock = Shifted()
    machine.gateway.certificate_life = timedelta(hours=1)
    daemon = machine.agent(world=replace(world(clock), random=lambda: 0.5))
    key = machine.kept()["key"]
    supply = daemon.lifecycle.credentials._supplies["app"]
    machine.gateway.stop()
    for minutes in (20, 40, 59):
        clock.by = timedelta(minutes=minutes)
        supply.refresh()
        assert machine.get(APP).status == 200, minutes
    for minutes in (61, 120):
        clock.by = timedelta(minutes=minutes)
        supply.refresh()
        assert machine.get(APP).status == 503, minutes
    assert machine.status()["healthy"] is False
    seen = len(machine.gateway.seen)
    machine.gateway.certificate_life = timedelta(hours=24)
    machine.gateway.credentials_life = timedelta(hours=4)
    machine.gateway.start()
    daemon.lifecycle._nudge()
    until(lambda: machine.get(APP).status == 200, within=60)
    back = machine.gateway.paths(since=seen)
    assert back.count("POST /v1/enroll") == 1
    assert len(back) < 12, "it does not press"
    assert machine.kept()["key"] == key
    wait = min(supply._due, daemon.lifecycle._renew_at) - clock()
    assert wait > timedelta(hours=1), "what comes next is far away, and jittered"


@pytest.mark.threat("D17")
def test_d17_an_answer_that_is_cut_in_the_middle_leaves_the_old_credentials(machine: Machine) -> None:
    daemon = machine.agent()
    before = machine.get(APP).raw
    supply = daemon.lifecycle.credentials._supplies["app"]
    for cut in (1, 40):
        machine.gateway.cut["/v1/credentials"] = cut
        supply.refresh()
        assert machine.get(APP).raw == before
        assert supply.supplied().problem is not None
    assert machine.gateway.vended == 3, "the gateway did vend, and cannot know that nothing came"
    machine.gateway.cut.clear()
    supply.refresh()
    assert machine.get(APP).json["AccessKeyId"] == "ASIA0000000000000004"


def test_j04_restarted_while_the_gateway_is_away(machine: Machine) -> None:
    machine.enrolled_before()
    machine.gateway.stop()
    daemon = machine.agent(ready=False)
    until(lambda: daemon.lifecycle.problem == "gateway_unreachable")
    assert machine.get(APP).status == 503
    machine.gateway.start()
    until(lambda: daemon.lifecycle.state == "enrolled")
    assert machine.get(APP).status == 200
    assert machine.gateway.count("/v1/enroll") == 0


@pytest.mark.parametrize("minutes", [-10, 10])
def test_j10_ten_minutes_are_tolerated(machine: Machine, minutes: int) -> None:
    daemon = machine.agent(world=world(Shifted(minutes=minutes)))
    assert daemon.lifecycle.state == "enrolled"
    assert machine.get(APP).status == 200


def test_j10_two_hours_are_told_and_do_not_make_a_tight_loop(machine: Machine) -> None:
    machine.agent(world=world(Shifted(hours=2)), ready=False)
    machine.gateway.wait_for("/v1/credentials", times=2)
    time.sleep(0.5)
    assert machine.gateway.count("/v1/credentials") <= 3
    assert machine.status()["grants"][0]["problem"] == "clock_skew"


@pytest.mark.parametrize("answers", ["at once", "with a refusal", "not at all"])
def test_the_watch_never_spins(machine: Machine, answers: str) -> None:
    if answers == "at once":
        machine.gateway.watch_seconds = 0.0
    elif answers == "with a refusal":
        machine.gateway.sticky["/v1/watch"] = Refusal("draining")
    daemon = machine.agent()
    asked: list[float] = []
    ask = daemon.lifecycle._ask

    def counted(do: Callable[[Client], Any]) -> Any:
        asked.append(time.monotonic())
        return ask(do)

    daemon.lifecycle._ask = counted  # type: ignore[assignment, method-assign]  # a stand-in for this test
    if answers == "not at all":
        machine.gateway.stop()
    time.sleep(1)
    assert len(asked) <= 3
    if answers == "not at all":
        machine.gateway.start()


# ── grants


def test_grants_come_and_go(machine: Machine) -> None:
    clock = Shifted()
    daemon = machine.agent(world=world(clock))
    machine.gateway.credentials_life = timedelta(hours=2)
    token = (machine.run_dir / "app.token").read_text()
    machine.gateway.grants = ["app", "new"]
    clock.by += timedelta(minutes=6)
    daemon.lifecycle._nudge()
    until(lambda: "new" in machine.running()["tokens"])
    assert machine.get("/v1/credentials/new").status == 200
    assert machine.get(APP, token=token).status == 200, "what stays keeps its token"
    machine.gateway.grants = ["new"]
    clock.by += timedelta(minutes=6)
    daemon.lifecycle._nudge()
    until(lambda: "app" not in machine.running()["tokens"])
    assert not (machine.run_dir / "app.token").exists()
    assert machine.get(APP, token=token).status == 401


def test_ready_waits_for_credentials_and_not_for_what_is_refused_for_good(machine: Machine) -> None:
    machine.gateway.refusals["/v1/credentials"] = deque([Refusal("upstream_unavailable")])
    daemon = machine.agent()
    assert machine.gateway.vended == 1
    daemon.close()
    machine.gateway.sticky["/v1/credentials"] = Refusal("upstream_refused")
    machine.agent()
    assert machine.get(APP).status == 403
    assert machine.status()["healthy"] is False
