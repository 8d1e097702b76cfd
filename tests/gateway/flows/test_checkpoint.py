"""Checkpoints: made once by many workers, signed so that the root alone proves them, each continuing the one before."""

import base64
import json
import sqlite3
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from cryptography import x509

from certs import keys, statement
from certs.errors import CertificateError
from certs.names import AuditName, InstanceName, OperatorName
from certs.names import Name as CertifiedName
from certs.profiles import AUDIT, INSTANCE, OPERATOR, Profile
from gateway.adapters import clock
from gateway.core.audit import GENESIS, Event, Kind, Name, digest
from gateway.core.checkpoint import starts, starts_of
from gateway.core.errors import Refusal
from gateway.core.verification import verify, witness_of, witness_of_heads
from gateway.flows import checkpoint as flow
from gateway.flows.checkpoint import Checkpoints
from gateway.flows.issue import pem
from gateway.wire import checkpoint as wire
from gateway.wire.merkle import Tree
from tests.gateway.flows.conftest import Gateway

EVERY = timedelta(minutes=5)


def checkpoints(gateway: Gateway) -> Checkpoints:
    return Checkpoints(gateway.store, gateway.vault, gateway.issue, gateway.time, clock.random_bytes, "td", EVERY)


def happen(gateway: Gateway, count: int) -> None:
    for n in range(count):
        event = Event(Kind.DECISION, Name.INSTANCE_GRANT_LIST, True, "ok", f"r{n}")
        gateway.store.write(lambda tx, event=event: tx.audit.append(event))  # type: ignore[misc]


def log(gateway: Gateway) -> list[tuple[str, str]]:
    with gateway.store.read() as tx:
        return [(line, hash_) for _, _, line, hash_ in tx.audit.lines({}, 100_000)]


def tamper(gateway: Gateway, *statements: str) -> None:
    with sqlite3.connect(gateway.url.removeprefix("sqlite:///")) as database:
        for each in statements:
            database.execute(each)
    database.close()


def root(gateway: Gateway) -> x509.Certificate:
    return x509.load_der_x509_certificate(gateway.issue.certificate_of("root"))


def demand_signed(gateway: Gateway, answer: wire.CheckpointAnswer, at: datetime | None = None) -> None:
    leaf, issuer = (x509.load_pem_x509_certificate(each.encode()) for each in (answer.certificate, answer.issuer))
    signature = base64.b64decode(answer.signature)
    statement.verify(wire.signed(answer.statement), signature, leaf, issuer, root(gateway), at or gateway.time())


def test_a_checkpoint_is_made_when_it_is_due_and_not_before(gateway: Gateway) -> None:
    flow_ = checkpoints(gateway)
    with pytest.raises(Refusal) as refused:
        flow_.show(None)
    assert refused.value.code == "checkpoint_unknown"
    flow_.tick()
    assert wire.read(flow_.show(None).statement).number == 1
    gateway.time.passes(EVERY)
    happen(gateway, 1)
    flow_.tick()
    assert wire.read(flow_.show(None).statement).number == 2
    gateway.time.passes(EVERY)
    flow_.tick()
    assert wire.read(flow_.show(None).statement).number == 2, "its own record is no news"
    happen(gateway, 3)
    gateway.time.passes(-EVERY / 2)
    flow_.tick()
    assert wire.read(flow_.show(None).statement).number == 2, "too early"
    facts = [r for r in gateway.records() if r["name"] == "gateway:audit:checkpoint"]
    assert [r["facts"]["number"] for r in facts] == [1, 2]


def test_many_records_do_not_wait_for_the_time(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.core.checkpoint.MOST", 5)
    flow_ = checkpoints(gateway)
    flow_.tick()
    happen(gateway, 6)
    flow_.tick()
    assert wire.read(flow_.show(None).statement).number == 2


def test_of_many_workers_one_makes_it(gateway: Gateway) -> None:
    flow_ = checkpoints(gateway)
    flow_.make()
    happen(gateway, 5)
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: flow_.make(), range(8)))
    rows = [row for row in made if row]
    with gateway.store.read() as tx:
        kept = tx.checkpoints.find()
    assert [row.id for row in kept] == [f"{n:012d}" for n in range(1, len(rows) + 2)], "none twice, none missing"
    assert verify(log(gateway), [witness_of(wire.read(row.document["statement"])) for row in kept])


def test_it_is_signed_so_that_the_root_proves_it(gateway: Gateway) -> None:
    flow_ = checkpoints(gateway)
    flow_.make()
    answer = flow_.show(None)
    demand_signed(gateway, answer)
    for wrong in (
        replace(answer, statement=answer.statement.replace('"number":1', '"number":2')),
        replace(answer, signature=base64.b64encode(b"0" * 70).decode()),
        replace(answer, certificate=answer.issuer),
        replace(answer, issuer=answer.certificate),
    ):
        with pytest.raises(CertificateError):
            demand_signed(gateway, wrong)
    for at in (gateway.time() - timedelta(days=1), gateway.time() + timedelta(days=401)):
        with pytest.raises(CertificateError, match="was not good then"):
            demand_signed(gateway, answer, at)


def test_a_server_or_operator_certificate_signs_no_checkpoint(gateway: Gateway) -> None:
    flow_ = checkpoints(gateway)
    flow_.make()
    answer = flow_.show(None)
    gateway.identities("127.0.0.1").current()
    with gateway.store.read() as tx:
        server = tx.certificates.find(kind="server")[0]
    forged = replace(answer, certificate=pem(server.der))
    with pytest.raises(CertificateError, match="the audit certificate"):
        demand_signed(gateway, forged)


def test_the_key_is_replaced_before_its_certificate_ends(gateway: Gateway) -> None:
    flow_ = checkpoints(gateway)
    flow_.make()
    first = flow_.show(None)
    made_at = gateway.time()
    gateway.time.passes(timedelta(days=300))
    happen(gateway, 2)
    flow_.make()
    second = flow_.show(None)
    assert second.certificate != first.certificate
    demand_signed(gateway, second)
    demand_signed(gateway, first, made_at)


@pytest.mark.threat("I04")
def test_I04_each_continues_the_one_before_and_proves_it(gateway: Gateway) -> None:
    flow_ = checkpoints(gateway)
    answers: list[wire.CheckpointAnswer] = []
    for count in (1, 2, 7, 30, 1):
        happen(gateway, count)
        flow_.make()
        answers.append(flow_.show(None))
    last = wire.read(answers[-1].statement)
    for each in answers:
        old = wire.read(each.statement)
        shown = flow_.show(old.number)
        assert wire.break_between(old, wire.read(shown.statement), shown.proofs) is None
        if old.number != last.number:
            assert wire.break_between(old, last, ()) is not None, "without a proof it proves nothing"
            assert wire.break_between(last, old, shown.proofs) is not None
    with pytest.raises(Refusal):
        flow_.show(999)


def test_who_was_away_for_long_is_led_there_in_steps(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow, "STEP", 25)
    flow_ = checkpoints(gateway)
    for _ in range(6):
        happen(gateway, 9)
        flow_.make()
    known, numbers = wire.read(flow_.show(None).statement).number, []
    at = wire.read(_row(gateway, 1))
    while at.number < known:
        shown = flow_.show(at.number)
        after = wire.read(shown.statement)
        assert wire.break_between(at, after, shown.proofs) is None
        numbers.append(after.number)
        at = after
    assert len(numbers) > 1


def _row(gateway: Gateway, number: int) -> str:
    with gateway.store.read() as tx:
        row = tx.checkpoints.get(id=f"{number:012d}")
    assert row is not None
    starts(row)
    text: str = row.document["statement"]
    return text


BROKEN: Sequence[tuple[str, str, str]] = (
    ("a changed byte", "UPDATE audit_record SET line = replace(line, '\"r4\"', '\"rX\"')", "was changed"),
    ("a removed one", "DELETE FROM audit_record WHERE seq = 6", "follows #5"),
    ("two swapped", "UPDATE audit_record SET seq = CASE seq WHEN 6 THEN -7 WHEN 7 THEN -6 END WHERE seq IN (6, 7)", ""),
    ("the last six gone", "DELETE FROM audit_record WHERE seq > (SELECT max(seq) - 6 FROM audit_record)", "are gone"),
    ("all gone but one", "DELETE FROM audit_record WHERE seq > 1", "are gone"),
)  # fmt: skip


@pytest.mark.threat("I04")
@pytest.mark.parametrize(("what", "sql", "said"), BROKEN)
def test_I04_any_one_witness_finds_what_was_done(gateway: Gateway, what: str, sql: str, said: str) -> None:
    happen(gateway, 8)
    row = checkpoints(gateway).make()
    assert row is not None
    witness = witness_of(wire.read(row.document["statement"]))
    happen(gateway, 2)
    assert verify(log(gateway), [witness])
    tamper(gateway, sql, "UPDATE audit_record SET seq = -seq WHERE seq < 0")
    verdict = verify(log(gateway), [witness])
    assert not verdict, what
    assert said in verdict.faults[0] or said in verdict.faults[-1]


@pytest.mark.threat("I04")
def test_I04_a_log_that_was_written_anew_is_found_and_narrowed_down(gateway: Gateway) -> None:
    """By someone who owns the store: every hash fits again, and the head with them."""
    flow_ = checkpoints(gateway)
    happen(gateway, 3)
    early = flow_.make()
    happen(gateway, 6)
    late = flow_.make()
    assert early is not None
    assert late is not None
    whole = log(gateway)
    assert verify(whole)
    forged = rewritten(whole, at=len(whole) - 4)
    assert verify(forged), "a chain rewritten to its end verifies by itself"
    first, second = (witness_of(wire.read(row.document["statement"])) for row in (early, late))
    assert verify(forged, [first]), "this witness saw less than what was changed"
    (fault,) = verify(forged, [first, second]).faults
    assert fault.startswith(f"test #{early.size + 1} to #{late.size}: written anew")
    assert verify(forged, [witness_of_heads(verify(whole).heads)]).faults


def rewritten(rows: list[tuple[str, str]], at: int) -> list[tuple[str, str]]:
    out, prev = [], GENESIS
    for index, (line, _) in enumerate(rows):
        body = json.loads(line) | {"prev": prev}
        if index == at:
            body["reason"] = "nothing_happened"
        text = json.dumps(body, sort_keys=True, separators=(",", ":"))
        prev = digest(text)
        out.append((text, prev))
    return out


@pytest.mark.threat("I04")
def test_I04_a_broken_log_gets_no_further_checkpoint(gateway: Gateway) -> None:
    flow_ = checkpoints(gateway)
    flow_.make()
    happen(gateway, 5)
    tamper(gateway, "DELETE FROM audit_record WHERE seq = (SELECT max(seq) - 2 FROM audit_record)")
    assert flow_.make() is None
    assert flow_.make() is None
    (record,) = [r for r in gateway.records() if r["reason"] == "audit_broken"]
    assert record["allowed"] is False, "once, and not at every tick"
    assert wire.read(flow_.show(None).statement).number == 1


@pytest.mark.threat("I04")
def test_I04_that_the_log_is_broken_is_recorded_when_the_store_could_not_at_first(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    flow_ = checkpoints(gateway)
    flow_.make()
    happen(gateway, 5)
    tamper(gateway, "DELETE FROM audit_record WHERE seq = (SELECT max(seq) - 2 FROM audit_record)")

    def away(*_: object) -> None:
        raise Refusal("store_unavailable")

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(gateway.store, "write", away)
        with pytest.raises(Refusal):
            flow_.make()
    for _ in range(2):
        assert flow_.make() is None
    assert [r["reason"] for r in gateway.records()].count("audit_broken") == 1


def test_the_edge_of_another_tree_is_refused() -> None:
    state = wire.ChainState(2, "0" * 64, "1" * 64)
    said = wire.read(wire.write(1, "2030-01-01T00:00:00+00:00", {"c": state}))
    with pytest.raises(ValueError, match="not the edge"):
        starts_of(said, {"c": [Tree().root.hex()]})


@pytest.mark.threat("I04")
@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM cursor WHERE name = 'audit.checkpoint'",
        "UPDATE checkpoint SET document = replace(document, '\"edges\"', '\"edge\"')",
        "UPDATE checkpoint SET document = replace(document, 'size', 'siez')",
    ],
)
def test_I04_checkpoints_that_somebody_changed_are_not_gone_on_from(gateway: Gateway, sql: str) -> None:
    flow_ = checkpoints(gateway)
    happen(gateway, 3)
    assert flow_.make() is not None
    tamper(gateway, sql)
    happen(gateway, 3)
    assert flow_.make() is None
    assert gateway.records()[-1]["reason"] == "audit_broken"


def forged_by(
    gateway: Gateway, profile: Profile, name: CertifiedName, issuer: str = "services"
) -> wire.CheckpointAnswer:
    """A statement that everything is well, signed with a key that this CA has certified for something else."""
    key = keys.generate()
    made = gateway.issue.certificate(issuer, profile, name, key.public_key(), gateway.time(), timedelta(hours=1))
    shown = checkpoints(gateway).show(None)
    text = wire.write(99, gateway.time().isoformat(), wire.read(shown.statement).chains)
    signature = base64.b64encode(statement.sign(key, wire.signed(text))).decode()
    return replace(
        shown,
        statement=text,
        signature=signature,
        certificate=pem(made.der),
        issuer=pem(gateway.issue.certificate_of(issuer)),
    )


@pytest.mark.threat("I04")
def test_I04_a_checkpoint_is_signed_by_the_audit_key_and_by_no_other_of_the_ca(gateway: Gateway) -> None:
    checkpoints(gateway).make()
    good = forged_by(gateway, AUDIT, AuditName("td"))
    demand_signed(gateway, good)
    for bad in (
        forged_by(gateway, OPERATOR, OperatorName("td", "alice")),
        forged_by(
            gateway, INSTANCE, InstanceName("td", "111122223333", "us-east-1", "i-0123456789abcdef0"), "instances"
        ),
        replace(good, certificate=good.issuer),
        replace(good, issuer=pem(gateway.issue.certificate_of("instances"))),
        replace(good, signature=checkpoints(gateway).show(None).signature),
    ):
        with pytest.raises(CertificateError):
            demand_signed(gateway, bad)
