"""Revocation reaches the agent at once, by any route, and no restart undoes it (J08)."""

import time
from dataclasses import replace
from datetime import timedelta

import pytest

from agent.daemon import Daemon
from agent.identity import Identity, Memory, Revoked
from agent.standing import Standing
from tests.agent.conftest import Machine, Shifted, full_disk, until, world
from tests.agent.fake_gateway import Refusal
from tests.agent.pki import Pki
from tests.agent.test_identity import identity

APP = "/v1/credentials/app"


def revoked_within(daemon: Daemon, machine: Machine) -> float:
    began = time.monotonic()
    machine.gateway.revoke()
    until(lambda: daemon.lifecycle.state == "revoked")
    with daemon.lifecycle._standing.lock:  # held until the file is replaced, too
        return time.monotonic() - began


def test_j08_revocation_purges_at_once(machine: Machine) -> None:
    daemon = machine.agent()
    key = machine.kept()["key"]
    assert key.encode() in machine.files()
    assert machine.get(APP).status == 200
    assert revoked_within(daemon, machine) < 5
    answer = machine.get(APP)
    assert answer.status == 403
    assert answer.json["Code"] == "AccessDenied"
    assert key.encode() not in machine.files()
    assert b"BEGIN CERTIFICATE" not in machine.files()
    assert set(machine.kept()) == {"state", "at", "ticket_sha256"}
    assert machine.status()["state"] == "revoked"
    assert machine.status()["healthy"] is False
    assert daemon.lifecycle.credentials._supplies == {}


def test_j08_a_restart_does_not_revive_and_asks_nobody(machine: Machine) -> None:
    daemon = machine.agent()
    revoked_within(daemon, machine)
    daemon.close()
    machine.gateway.seen.clear()
    machine.gateway.revoked = False  # even of a gateway that forgot
    for _ in range(2):
        again = machine.agent()
        assert again.lifecycle.state == "revoked"
        assert machine.get(APP, token="x").status == 403
        again.close()
    assert machine.gateway.paths() == []


def test_j08_a_new_ticket_does_revive_with_a_new_key(machine: Machine) -> None:
    daemon = machine.agent()
    key = machine.kept()["key"]
    revoked_within(daemon, machine)
    daemon.close()
    machine.gateway.tickets["ticket-two"] = None
    machine.launch_with("ticket-two")
    again = machine.agent()
    assert again.lifecycle.state == "enrolled"
    assert machine.get(APP).status == 200
    assert machine.kept()["key"] != key


def test_j08_a_new_ticket_that_is_refused_is_remembered_too(machine: Machine) -> None:
    daemon = machine.agent()
    revoked_within(daemon, machine)
    daemon.close()
    before = machine.kept()["ticket_sha256"]
    machine.launch_with("ticket-two")
    machine.gateway.sticky["/v1/enroll"] = Refusal("instance_revoked")
    machine.agent().close()
    assert machine.kept()["state"] == "revoked"
    assert machine.kept()["ticket_sha256"] != before
    machine.gateway.seen.clear()
    machine.agent()
    assert machine.gateway.paths() == []


@pytest.mark.parametrize("route", ["/v1/credentials", "/v1/grants", "/v1/renew"])
def test_j08_any_route_may_bring_the_news(machine: Machine, route: str) -> None:
    clock = Shifted()
    machine.gateway.sticky["/v1/watch"] = Refusal("draining")
    daemon = machine.agent(world=world(clock))
    machine.gateway.sticky[route] = Refusal("instance_revoked")
    if route == "/v1/credentials":
        daemon.lifecycle.credentials._supplies["app"].refresh()
    else:
        clock.by = timedelta(hours=13.5 if route == "/v1/renew" else 0.2)
        daemon.lifecycle._nudge()
    until(lambda: daemon.lifecycle.state == "revoked")
    assert machine.get(APP).status == 403


def test_j08_revoked_while_off(machine: Machine) -> None:
    machine.enrolled_before()
    machine.gateway.revoke()
    daemon = machine.agent()
    assert daemon.lifecycle.state == "revoked"
    until(lambda: machine.kept()["state"] == "revoked")


def test_j08_revoked_while_off_and_the_certificate_ran_out(machine: Machine) -> None:
    machine.enrolled_before()
    machine.keep(not_after="2026-01-02T00:00:00Z", issued="2026-01-01T00:00:00Z")
    machine.gateway.revoke()
    assert machine.agent().lifecycle.state == "revoked"


def test_j08_the_watch_is_back_soon_after_the_gateway_is(machine: Machine) -> None:
    daemon = machine.agent()
    machine.gateway.stop()
    time.sleep(1)
    machine.gateway.news.clear()
    machine.gateway.start()
    assert revoked_within(daemon, machine) < 15


def test_j08_in_memory_mode(machine: Machine) -> None:
    daemon = machine.agent(key_storage="memory")
    assert revoked_within(daemon, machine) < 5
    assert machine.get(APP).status == 403
    assert not machine.state_dir.exists()


def test_j08_the_disk_is_full_when_the_revocation_comes(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    daemon = machine.agent()

    full_disk(monkeypatch)
    revoked_within(daemon, machine)
    assert machine.get(APP).status == 403
    assert machine.kept()["state"] == "enrolled"
    monkeypatch.undo()
    daemon.lifecycle._nudge()
    until(lambda: machine.kept()["state"] == "revoked")


def test_j08_a_renewal_on_its_way_does_not_undo_a_revocation(pki: Pki) -> None:
    held, renewed = identity(pki), identity(pki)
    standing = Standing(world(Shifted()), Memory())
    standing.held = held
    standing.adopt(renewed, held)
    assert standing.held is renewed
    standing.revoke(None)
    standing.adopt(replace(renewed, profile="later"), renewed)
    assert isinstance(standing.held, Revoked)
    assert standing.client is None


def test_word_of_a_certificate_no_longer_in_use_means_nothing(machine: Machine) -> None:
    from agent.errors import Problem

    daemon = machine.agent()
    client = daemon.lifecycle._standing.client
    assert client is not None
    held = daemon.lifecycle.identity
    assert isinstance(held, Identity)
    daemon.lifecycle._standing.present(held)
    daemon.lifecycle.report(Problem("instance_revoked", 403), client)
    assert daemon.lifecycle.state == "enrolled"
    now = daemon.lifecycle._standing.client
    assert now is not None
    daemon.lifecycle.report(Problem("instance_revoked", 403), now)
    assert daemon.lifecycle.state == "revoked"
