"""A flood of refusals: bounded records, no real event lost, and nothing that was counted forgotten."""

import hashlib
import json
from contextlib import suppress
from datetime import timedelta

import pytest

from gateway.adapters import clock
from gateway.core.audit import Name
from gateway.core.audit_search import Filter, hidden
from gateway.core.errors import Refusal
from gateway.flows.journal import Journal
from gateway.flows.repeats import OVERALL, SOURCES, Repeats
from gateway.wire.problems import PROBLEMS
from tests.gateway.flows.conftest import Gateway

MOST = 5


def journal(gateway: Gateway) -> Journal:
    return Journal(gateway.store, None, Repeats(MOST, gateway.time, clock.random_bytes))


def refuse(
    journal: Journal, source: str = "192.0.2.1", code: str = "ticket_invalid", subject: str | None = None
) -> None:
    with suppress(Refusal), journal.call(Name.INSTANCE_CERTIFICATE_ENROLL, clock.request_id(), source) as call:
        call.subject = subject
        raise Refusal(code)


@pytest.mark.threat("I08")
def test_I08_a_flood_is_one_record_a_minute_with_a_count(gateway: Gateway) -> None:
    ours, before = journal(gateway), len(gateway.records())
    for _ in range(1000):
        refuse(ours)
    refuse(ours, code="proof_refused")
    refuse(ours, source="192.0.2.2")
    refuse(ours, subject="spiffe://td/operator/alice")
    with ours.call(Name.INSTANCE_GRANT_LIST, clock.request_id(), "192.0.2.1") as call:
        ours.allow(call)
    new = gateway.records()[before:]
    assert len(new) == MOST + 4, "what differs, who is known and what is allowed keeps its own record"
    ours.settle()
    assert len(gateway.records()) == before + MOST + 4, "the minute is not over"
    gateway.time.passes(timedelta(minutes=1))
    ours.settle()
    (record,) = gateway.records()[before + MOST + 4 :]
    assert (record["kind"], record["name"], record["source"]) == ("fact", "instance:certificate:enroll", "192.0.2.1")
    assert record["facts"]["count"] == 1000 - MOST
    assert record["reason"] == "ticket_invalid"
    ours.settle()
    assert len(gateway.records()) == before + MOST + 5, "once"


@pytest.mark.threat("I08")
def test_I08_a_flood_from_everywhere_is_bounded_too(gateway: Gateway) -> None:
    ours, before = journal(gateway), len(gateway.records())
    for n in range(2000):
        refuse(ours, source=f"198.51.{n // 256}.{n % 256}")
    gateway.time.passes(timedelta(minutes=1))
    ours.settle()
    new = gateway.records()[before:]
    assert len(new) <= MOST * OVERALL + SOURCES + 1
    assert sum(r["facts"].get("count", 1) for r in new) == 2000


def test_what_could_not_be_recorded_is_kept_for_the_next_time(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = journal(gateway)
    for _ in range(MOST + 7):
        refuse(ours)

    def gone(unit: object) -> None:
        raise Refusal("store_unavailable")

    with monkeypatch.context() as patch:
        patch.setattr(gateway.store, "write", gone)
        with pytest.raises(Refusal):
            ours.settle(all_of_them=True)
    ours.settle(all_of_them=True)
    assert gateway.records()[-1]["facts"]["count"] == 7


@pytest.mark.threat("I05")
@pytest.mark.parametrize("kind", ["ticket", "nonce", "token"])
def test_I05_a_secret_that_was_presented_is_hidden_and_can_be_searched_for(gateway: Gateway, kind: str) -> None:
    secret, key = b"canary-4f1c2b", gateway.vault.derive("audit")
    ours = Journal(gateway.store, lambda kind, sha256: hidden(key, kind, sha256))
    with suppress(Refusal), ours.call(Name.INSTANCE_CERTIFICATE_ENROLL, "r", "::1") as call:
        call.present(kind, secret)
        raise Refusal("ticket_invalid")
    record = gateway.records()[-1]
    assert secret.decode() not in json.dumps(record)
    sha256 = hashlib.sha256(secret).hexdigest()
    assert sha256 not in json.dumps(record), "who has the log cannot try guesses on it"
    assert Filter(presented=hidden(key, kind, sha256)).matches(record)
    assert not Filter(presented=hidden(key, "other", sha256)).matches(record)
    assert not Filter(presented=hidden(gateway.vault.derive("nonce"), kind, sha256)).matches(record)


def test_every_problem_can_be_counted() -> None:
    assert all(Refusal(code).reason for code in PROBLEMS)


@pytest.mark.threat("I05")
@pytest.mark.parametrize(
    ("named", "recorded"),
    [
        ("role/" + "wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEY", "role"),
        ("operator/a b", "operator"),
        ("upstream_key/" + "x" * 129, "upstream_key"),
        ("revocation/caf\u00e9", "revocation"),
        ("profile/web", "profile/web"),
        ("grant/web/reports", "grant/web/reports"),
        ("spiffe://td/aws/111122223333/us-east-1/i-0", "spiffe://td/aws/111122223333/us-east-1/i-0"),
    ],
)
def test_I05_what_can_be_no_name_is_not_on_record_as_one(gateway: Gateway, named: str, recorded: str) -> None:
    with suppress(Refusal), gateway.journal.call(Name.OPERATOR_ROLE_LIST, "r", "::1") as call:
        call.object = named
        raise Refusal("not_found")
    assert gateway.records()[-1]["object"] == recorded
