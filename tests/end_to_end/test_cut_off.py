"""From a revocation to its effect: on every path, in every worker, for what is in flight; and when the gateway dies."""

import http.client
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from random import SystemRandom
from typing import Any

import pytest

from deploy.demo.visitor import Visitor
from gateway.wire.messages import CredentialsRequest
from tests.end_to_end.crowd import OwnWorld
from tests.end_to_end.cut_off import OF_GRANTS, PATHS, PROFILE, Machine, apply, delays, table
from tests.end_to_end.host import kill_all
from tests.end_to_end.receipts import layer
from tests.end_to_end.rough import Rough, rough_fixture  # noqa: F401  # a fixture
from tests.end_to_end.test_kill import kill
from tests.end_to_end.world import GRANT, Launched, World

ROUNDS = int(os.environ.get("ROUNDS", "20"))
KILLS = int(os.environ.get("REVOCATION_KILLS", "8"))
CHANCE = SystemRandom()


def revoke(rough: Rough, what: str) -> Any:
    answer = rough.operator.call("POST", f"/v1/revocations/{what}")
    assert answer.status == 200, answer.body
    return answer.body


@pytest.mark.threat("H01", "B05", "E08")
@pytest.mark.timeout(120 + 6 * ROUNDS)
def test_H01_every_path_is_closed_when_the_receipt_is_there(rough: Rough, capsys: pytest.CaptureFixture[str]) -> None:
    apply(rough)
    rounds = []
    for _ in range(ROUNDS):
        machine = Machine(rough)
        paths = machine.go(*PATHS)
        time.sleep(0.1)  # the watch waits, and everybody has asked some times
        sent = time.monotonic()
        revoke(rough, f"instances/{machine.launched.id}")
        rounds.append(delays(paths, sent, time.monotonic()))
        rough.world.hang_up()
    with capsys.disabled():
        print("\n" + table(rounds))


@pytest.mark.threat("H01")
@pytest.mark.parametrize("kind", ["grant", "profile", "certificate"])
def test_H01_so_is_what_else_can_be_revoked(rough: Rough, kind: str) -> None:
    apply(rough)
    machine, other = Machine(rough), rough.enrolled()[1]
    paths = machine.go(*OF_GRANTS)
    serial = rough.world.rows("certificate", subject=f"{_id(rough.world, machine.launched)}")[-1]["serial"]
    sent = time.monotonic()
    if kind == "grant":
        for name in ("given", "signed", "carried"):
            receipt = revoke(rough, f"grants/{PROFILE}/{name}")
            assert len(receipt["cut"]["sessions"]) == 1
    else:
        revoke(rough, {"profile": f"profiles/{PROFILE}", "certificate": f"certificates/{serial}"}[kind])
    delays(paths, sent, time.monotonic())
    code = {"grant": "grant_refused"}.get(kind, "instance_revoked")
    assert {path.heard[-1].code for path in paths} == {code}
    assert other.call("POST", "/v1/credentials", CredentialsRequest(GRANT)).status == 200, "another is not meant"
    apply(rough)
    again = machine.first.call("POST", "/v1/credentials", CredentialsRequest("given"))
    assert again.status == (200 if kind == "grant" else 403), "a grant is back when its profile is applied anew"


@pytest.mark.threat("H01")
def test_a_machine_comes_back_from_a_revoked_certificate_by_another_key(rough: Rough) -> None:
    launched, visitor = rough.enrolled()
    serial = rough.world.rows("certificate", subject=_id(rough.world, launched))[0]["serial"]
    revoke(rough, f"certificates/{serial}")
    assert visitor.call("GET", "/v1/grants").code == "instance_revoked"
    assert visitor.renew().code == "instance_revoked"
    fresh = rough.world.visitor()
    assert fresh.come_back(launched.document, visitor.key).code == "instance_revoked"
    assert fresh.enroll(launched.document, rough.world.ticket()).code == "instance_revoked", "not by any ticket"
    named = rough.world.ticket(instance=launched.id)
    thief = rough.world.visitor()
    thief.key = visitor.key
    assert thief.enroll(launched.document, named).code == "instance_revoked", "never by that key"
    assert fresh.enroll(launched.document, named).status == 201
    assert fresh.call("GET", "/v1/grants").status == 200


@pytest.mark.threat("H01")
def test_a_waiting_agent_hears_of_its_lease_and_the_receipt_says_so(rough: Rough) -> None:
    _, visitor = rough.enrolled()
    given = visitor.call("POST", "/v1/credentials", CredentialsRequest(GRANT)).body
    heard: list[Any] = []
    waiting = threading.Thread(target=lambda: heard.append(visitor.call("GET", "/v1/watch?after=")), daemon=True)
    waiting.start()
    time.sleep(0.3)
    receipt = revoke(rough, f"leases/{given['lease']}")
    waiting.join(5)
    (answer,) = heard
    assert (answer.status, answer.body["drop"]) == (200, [given["lease"]])
    again = visitor.call("POST", "/v1/credentials", CredentialsRequest(GRANT)).body
    assert again["lease"] != given["lease"]
    rough.world.site.cli("revocation", "show", receipt["id"])
    with rough.world.database() as store:
        told = store.execute("SELECT name FROM cursor WHERE name LIKE 'told/%'").fetchall()
    assert told


def _id(world: World, launched: Launched) -> str:
    found: str = world.rows("instance", instance_id=launched.id)[0]["id"]
    return found


# The gateway is killed


@pytest.mark.threat("H07", "H10")
@pytest.mark.timeout(180 + 5 * KILLS)
def test_H07_a_kill_at_any_moment_leaves_what_was_acknowledged_revoked_and_the_plan_ends(own_world: OwnWorld) -> None:
    with own_world() as world:
        crowd = [world.enrolled() for _ in range(KILLS)]
        begun, acknowledged = [], []
        with ThreadPoolExecutor(1) as pool:
            for number, (launched, visitor) in enumerate(crowd):
                operator = world.operator()
                asked = pool.submit(_try, operator, launched)
                time.sleep(CHANCE.uniform(0, 0.06))
                kill(world, whole=number % 4 == 3)
                receipt = asked.result(30)
                operator.close()
                begun.append((launched, visitor))
                if receipt:
                    acknowledged.append((launched, visitor))
                    assert layer(receipt, "gateway")["state"] == "done"
        for launched, visitor in acknowledged:
            visitor.close()
            assert _answered(visitor).code == "instance_revoked", launched.id
        revoked = {row["id"] for row in world.rows("instance", state="revoked")}
        plans = {row["name"] for row in world.rows("revocation")}
        assert revoked == plans, "no revocation without its plan, no plan without its revocation"
        for launched, visitor in begun:
            visitor.close()
            assert (_answered(visitor).status == 403) is (_id(world, launched) in revoked)
        kill_all(world.site)
        world.site.start()  # whoever starts looks after what is not done
        deadline = time.monotonic() + 20
        while any('"crl","ms":null' in row["document"] for row in world.rows("revocation")):
            assert time.monotonic() < deadline, "a plan is not carried on with"
            time.sleep(0.1)
        listed = {row["serial"] for row in world.rows("certificate", state="revoked")}
        assert len(listed) >= len(revoked)
        world.site.cli("audit", "verify")
        print(f"{KILLS} kills: {len(acknowledged)} acknowledged, {len(revoked) - len(acknowledged)} more revoked")


def _try(operator: Visitor, launched: Launched) -> Any:
    with suppress(OSError, http.client.HTTPException):
        answer = operator.call("POST", f"/v1/revocations/instances/{launched.id}")
        return answer.body if answer.status == 200 else None
    return None


def _answered(visitor: Visitor) -> Any:
    """The answer, as soon as there is somebody to give one."""
    deadline = time.monotonic() + 20
    while True:
        try:
            return visitor.call("GET", "/v1/grants")
        except (OSError, http.client.HTTPException):
            assert time.monotonic() < deadline
            time.sleep(0.05)
