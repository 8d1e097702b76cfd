"""A lease or a grant is revoked, and the machine stands: the agent drops what it holds, and asks anew when asked."""

import time

import pytest

from tests.agent.conftest import Machine, until

APP = "/v1/credentials/app"


def key_of(machine: Machine) -> str:
    answer = machine.get(APP)
    assert answer.status == 200, answer
    return str(answer.json["AccessKeyId"])


@pytest.mark.threat("H01")
def test_H01_a_revoked_lease_is_dropped_at_once_and_asked_for_again_only_when_somebody_asks(machine: Machine) -> None:
    daemon = machine.agent()
    first = key_of(machine)
    began = time.monotonic()
    machine.gateway.revoke_lease("lease-1")
    until(lambda: daemon.lifecycle.credentials._supplies["app"]._held is None)
    assert time.monotonic() - began < 5
    machine.gateway.wait_for("/v1/watch", 2)
    assert machine.gateway.vended == 1, "nobody has asked"
    second = key_of(machine)
    assert second != first
    assert machine.gateway.vended == 2
    queries = {seen.query for seen in machine.gateway.seen if seen.path == "/v1/watch"}
    assert queries == {"after=", "after=1"}


def test_another_lease_is_not_meant(machine: Machine) -> None:
    daemon = machine.agent()
    first = key_of(machine)
    machine.gateway.revoke_lease("lease-of-another")
    machine.gateway.wait_for("/v1/watch", 2)
    assert daemon.lifecycle.credentials._supplies["app"]._held is not None
    assert key_of(machine) == first


def test_a_revoked_grant_is_gone_with_its_lease(machine: Machine) -> None:
    daemon = machine.agent()
    assert key_of(machine)
    machine.gateway.grants.clear()
    machine.gateway.revoke_lease("lease-1")
    until(lambda: daemon.lifecycle.credentials._supplies == {})
    until(lambda: not (machine.run_dir / "app.token").exists())
    assert machine.gateway.vended == 1
    assert daemon.lifecycle.state == "enrolled", "the machine itself stands"


def test_credentials_that_were_revoked_while_they_came_are_not_kept(machine: Machine) -> None:
    daemon = machine.agent()
    supply = daemon.lifecycle.credentials._supplies["app"]
    supply.drop(["lease-2"])
    supply.refresh()
    assert supply._lease == "lease-1"
    assert machine.gateway.vended == 2
    assert supply.supplied().problem == "lease_revoked"


def test_an_answer_that_nobody_understands_drops_nothing(machine: Machine) -> None:
    daemon = machine.agent()
    first = key_of(machine)
    machine.gateway.cut["/v1/watch"] = 5
    machine.gateway.revoke_lease("lease-1")
    machine.gateway.wait_for("/v1/watch", 3)
    assert daemon.lifecycle.state == "enrolled"
    del machine.gateway.cut["/v1/watch"]
    until(lambda: daemon.lifecycle.credentials._supplies["app"]._held is None)
    assert key_of(machine) != first
