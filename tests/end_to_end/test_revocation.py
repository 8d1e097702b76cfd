"""Revocation: at once, everywhere, for good; and a receipt that says what AWS goes on honouring."""

import http.client
import json
import os
import sqlite3
import ssl
import subprocess
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import quantiles
from typing import Any

import pytest
from cryptography import x509

from certs import csr
from certs.keys import dump_private_pem
from deploy.demo.cloud import REGION, client
from deploy.demo.site import Site
from deploy.demo.visitor import Visitor
from gateway.core.model import Instance, InstanceState
from gateway.wire.messages import CredentialsRequest, RenewRequest
from gateway.wire.secret import Secret
from tests.end_to_end.crowd import order_ticket
from tests.end_to_end.cut_off import Heard
from tests.end_to_end.host import kill_all
from tests.end_to_end.receipts import layer, sessions
from tests.end_to_end.rough import Rough, rough_fixture  # noqa: F401  # a fixture
from tests.end_to_end.world import GRANT, World

ROUNDS = int(os.environ.get("ROUNDS", "20"))  # how many revocations to measure
CONNECTIONS, WATCHES = 20, 4
EVERY = 0.05


class Poller(threading.Thread):
    """Asks for its grants every 50 ms on one kept-alive connection; when that is closed, on another."""

    def __init__(self, visitor: Visitor, path: str = "/v1/grants") -> None:
        super().__init__(daemon=True)
        self.visitor, self.path = visitor, path
        self.heard: list[Heard] = []
        self.served, self.told_to_stop = threading.Event(), threading.Event()
        self.start()

    def run(self) -> None:
        while not self.told_to_stop.is_set():
            begun = time.monotonic()
            answer = self.visitor.call("GET", self.path)
            self.heard.append(Heard(begun, time.monotonic(), answer.status, answer.code))
            self.served.set()
            if self.path == "/v1/watch":
                return
            self.told_to_stop.wait(max(0.0, EVERY - (time.monotonic() - begun)))

    def stop(self) -> list[Heard]:
        """Let it finish what it asks, and return all that it heard."""
        self.told_to_stop.set()
        self.join(30)
        assert not self.is_alive()
        return self.heard


def twins(world: World, visitor: Visitor, count: int) -> list[Visitor]:
    """More callers with the same certificate, each on a connection of its own."""
    made = [world.visitor() for _ in range(count)]
    for twin in made:
        twin.present(visitor.certificate or "", visitor.key)
        twin.connect()
    return made


def revoke(rough: Rough, named: str) -> Any:
    """The receipt, by the admin API."""
    answer = rough.operator.call("POST", f"/v1/revocations/instances/{named}")
    assert answer.status == 200, answer
    return answer.body


def crl_of(world: World) -> bytes:
    """What the public listener gives to anybody."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(f"http://{world.site.public}/crl/instances.crl", timeout=30) as answer:
        assert answer.headers["Content-Type"] == "application/pkix-crl"
        return bytes(answer.read())


def number_of(crl: bytes) -> int:
    return x509.load_der_x509_crl(crl).extensions.get_extension_for_class(x509.CRLNumber).value.crl_number


def all_asked_since(pollers: list[Poller], moment: float) -> bool:
    return all(any(each.begun > moment for each in list(poller.heard)) for poller in pollers)


def serial_of(visitor: Visitor) -> int:
    return x509.load_pem_x509_certificate((visitor.certificate or "").encode()).serial_number


# B05: at once


@pytest.mark.threat("B05", "H01")
def test_B05_every_request_begun_after_the_command_returned_is_refused(rough: Rough) -> None:
    world = rough.world
    launched, visitor = rough.enrolled()
    _, bystander = rough.enrolled()
    watches = [Poller(twin, "/v1/watch") for twin in twins(world, visitor, WATCHES)]
    pollers = [Poller(twin) for twin in twins(world, visitor, CONNECTIONS)]
    beside = Poller(bystander)
    for poller in (*pollers, beside):
        assert poller.served.wait(10)
    time.sleep(0.3)  # each has polled several times, and every watch waits
    world.site.cli("revoke", "instance", launched.id)
    returned = time.monotonic()
    _wait(partial(all_asked_since, pollers, returned), 30)  # for some more, which must all fail
    heard = [poller.stop() for poller in pollers]
    for answers in heard:
        assert answers[0].status == 200, "the control: it was served before"
        after = [each for each in answers if each.begun > returned]
        assert after
        assert {(each.status, each.code) for each in after} == {(403, "instance_revoked")}
        statuses = [each.status for each in answers]
        assert statuses == sorted(statuses), "once refused, refused for ever"
    for watch in watches:
        (told,) = watch.stop()
        assert (told.status, told.code) == (403, "instance_revoked")
        assert told.ended - returned < 1
    assert {each.status for each in beside.stop()} == {200}
    uri = world.rows("instance", instance_id=launched.id)[0]["id"]
    served = world.audit(name="instance:grant:list", subject=uri, allowed=True)
    refused = world.audit(name="instance:grant:list", subject=uri, allowed=False)
    assert len({record["chain"] for record in served}) == len({record["chain"] for record in refused}) == 2
    told_so = [each for answers in heard for each in answers if each.status == 403]
    assert len(refused) == len(told_so), "one record each"


@pytest.mark.threat("B05", "H01")
def test_B05_how_soon(rough: Rough, capsys: pytest.CaptureFixture[str]) -> None:
    """From the moment when the answer to the revocation came until each connection was refused."""
    delays: list[float] = []
    with ThreadPoolExecutor(4) as pool:
        enrolled = list(pool.map(lambda _: rough.world.launch(), range(ROUNDS)))
    for launched in enrolled:
        visitor = rough.world.visitor()
        assert visitor.enroll(launched.document, order_ticket(rough.operator)["ticket"]).status == 201
        pollers = [Poller(twin) for twin in twins(rough.world, visitor, 4)]
        assert all(poller.served.wait(10) for poller in pollers)
        revoke(rough, launched.id)
        returned = time.monotonic()
        _wait(partial(all_asked_since, pollers, returned), 30)
        for poller in pollers:
            heard = poller.stop()
            assert {each.status for each in heard if each.begun > returned} == {403}
            delays.append(next(each.ended for each in heard if each.status == 403) - returned)
    cuts = quantiles(delays, n=100)
    with capsys.disabled():
        print(
            f"\nrevoke → refused, {ROUNDS} revocations x 4 connections, each asking every {EVERY * 1000:.0f} ms: "
            f"median {cuts[49] * 1000:.0f} ms, p99 {cuts[98] * 1000:.0f} ms, longest {max(delays) * 1000:.0f} ms; "
            "0 answers to requests begun later"
        )
    assert cuts[98] < 1


@pytest.mark.threat("B05", "B12", "B21")
def test_nothing_that_the_instance_holds_opens_anything_afterwards(rough: Rough, tmp_path: Path) -> None:
    world = rough.world
    launched, visitor = rough.enrolled()
    old = twins(world, visitor, 1)[0]
    assert visitor.renew().status == 200
    named = order_ticket(rough.operator, instance_id=launched.id)["ticket"]
    general = order_ticket(rough.operator)["ticket"]
    bundle = tmp_path / "bundle.pem"
    bundle.write_bytes((visitor.certificate or "").encode() + dump_private_pem(visitor.key))
    context = world.site.context()
    context.load_cert_chain(bundle)
    session, status = _resume(context, world.site.instance, None)
    assert status == 200
    assert _resume(context, world.site.instance, session)[1] == 200, "the control: a resumed session is good"
    asked = len(rough.door.asked)
    revoke(rough, launched.id)
    assert _resume(context, world.site.instance, session)[1] == 403
    for holder in (old, visitor):  # the superseded certificate, and the one in force
        for method, path, body in (
            ("GET", "/v1/grants", None),
            ("POST", "/v1/credentials", CredentialsRequest(GRANT)),
            ("POST", "/v1/renew", RenewRequest(csr.make(visitor.key))),
            ("GET", "/v1/watch", None),
        ):
            answer = holder.call(method, path, body)
            assert (answer.status, answer.code, answer.headers["connection"]) == (403, "instance_revoked", "close")
            (record,) = world.audit(answer.body["instance"])
            assert record["reason"] == "instance_revoked"
    assert len(rough.door.asked) == asked, "AWS was asked for a revoked instance"
    stranger = world.visitor()
    assert stranger.come_back(launched.document, visitor.key).code == "instance_revoked"
    assert stranger.enroll(launched.document, named).code == "ticket_invalid"
    assert stranger.enroll(launched.document, general).code == "instance_revoked"
    again = order_ticket(rough.operator, instance_id=launched.id)["ticket"]
    assert stranger.enroll(launched.document, again).status == 201, "a new ticket by name is the way back"
    assert visitor.call("GET", "/v1/grants").code == "instance_revoked", "but not for the old certificate"


@pytest.mark.threat("H10")
def test_H10_who_renews_all_the_time_is_left_with_nothing(rough: Rough) -> None:
    world = rough.world
    launched, visitor = rough.enrolled()
    uri = world.rows("instance", instance_id=launched.id)[0]["id"]

    def renew_until_refused(twin: Visitor) -> str | None:
        while (answer := twin.renew()).status == 200:
            pass
        return answer.code

    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(renew_until_refused, twin) for twin in twins(world, visitor, 4)]
        _wait(lambda: len(world.rows("certificate", subject=uri)) > 8)
        receipt = revoke(rough, launched.id)
        codes = {each.result(20) for each in asked}
    assert codes <= {"instance_revoked", "certificate_superseded", "conflict"}
    assert "instance_revoked" in codes
    certificates = world.rows("certificate", subject=uri)
    assert {row["state"] for row in certificates} == {"revoked"}
    assert {row["serial"] for row in certificates} == set(receipt["cut"]["certificates"])
    crl = x509.load_der_x509_crl(crl_of(world))
    assert {row["serial"] for row in certificates} <= {f"{entry.serial_number:x}" for entry in crl}


def _resume(context: ssl.SSLContext, address: str, session: ssl.SSLSession | None) -> tuple[ssl.SSLSession | None, int]:
    connection = http.client.HTTPSConnection(address, context=context, timeout=10)
    plain = http.client.HTTPConnection(address, timeout=10)
    plain.connect()
    connection.sock = context.wrap_socket(plain.sock, server_hostname="127.0.0.1", session=session)
    try:
        connection.request("GET", "/v1/grants")
        answer = connection.getresponse()
        answer.read()
        assert connection.sock is None or connection.sock.session_reused is (session is not None)
        return (connection.sock.session if connection.sock else None), answer.status
    finally:
        connection.close()
        plain.close()


# The receipt


@pytest.mark.threat("D15")
def test_D15_the_receipt_tells_what_is_cut_off_and_what_aws_still_honours(rough: Rough) -> None:
    world = rough.world
    launched, visitor = rough.enrolled()
    first = f"{serial_of(visitor):x}"
    assert visitor.renew().status == 200
    ticket = order_ticket(rough.operator, instance_id=launched.id)
    order_ticket(rough.operator)  # not made for it: stays open
    given = visitor.call("POST", "/v1/credentials", CredentialsRequest(GRANT)).body
    brief = visitor.call("POST", "/v1/credentials", CredentialsRequest(GRANT, 900)).body

    said = world.site.cli("revoke", "instance", launched.id, "--json")
    receipt = json.loads(said)
    assert sorted(receipt["cut"]["certificates"]) == sorted([first, f"{serial_of(visitor):x}"])
    assert receipt["cut"]["tickets"] == [ticket["id"]]
    honoured = {each["lease"]: each for each in sessions(receipt)}
    assert honoured.keys() == {given["lease"], brief["lease"]}
    for answer in (given, brief):
        told = honoured[answer["lease"]]
        assert (told["access_key_id"], told["until"]) == (answer["access_key_id"], answer["expiration"])
        assert (told["grant"], told["session_name"]) == (GRANT, launched.id)
        assert answer["secret_access_key"] not in said
    assert receipt["until"] == given["expiration"], "the latest of them"
    assert layer(receipt, "crl")["facts"]["published"] is True
    states = [(each["layer"], each["state"]) for each in receipt["layers"]]
    assert states == [
        ("gateway", "done"), ("crl", "done"), ("aws", "waiting"), ("agents", "trying"), ("ocsp", "not_served"),
        ("ssh", "not_served"),
    ], "nobody watches; no revoker key is imported"  # fmt: skip
    assert all(each["ms"] > 0 for each in receipt["layers"][:2]), "measured"

    keys = given["access_key_id"], Secret(given["secret_access_key"]), Secret(given["session_token"])
    listed = client(world.cloud.endpoint, "s3", *keys).list_objects_v2(
        Bucket=world.seeded.bucket, Prefix=world.seeded.prefixes[0]
    )
    assert listed["KeyCount"] > 0, "AWS honours it, as the receipt says"

    before = world.everything_but_the_log()
    text = world.site.cli("revoke", "instance", launched.id)
    after = world.everything_but_the_log()
    changed = {table for table in before if before[table] != after[table]}
    assert changed <= {"revocation", "kept_answer"}, "the second time changes nothing"
    assert "STILL HONOURS 2 session(s), until" in text
    assert f"{given['access_key_id']} of grant {GRANT}" in text
    assert given["expiration"] in text
    assert "2 certificate(s), 1 open ticket(s), 2 session(s)" in text
    assert receipt["revoked_at"] in text, "and keeps the time of the first"
    decisions = world.audit(name="operator:instance:revoke", object=receipt["name"])
    assert [(record["kind"], record["allowed"]) for record in decisions] == [("decision", True)] * 2
    assert [record["reason"] for record in decisions] == ["ok", "revoked_already"]
    assert decisions[0]["facts"]["leases"] == sorted(
        honoured, key=lambda lease: decisions[0]["facts"]["leases"].index(lease)
    )
    assert decisions[0]["subject"].endswith("/operator/alice")


def test_the_receipt_of_an_instance_without_a_session_says_so(rough: Rough) -> None:
    launched, _ = rough.enrolled()
    assert "honours no session" in rough.world.site.cli("revoke", "instance", launched.id)


def test_only_one_instance_can_be_meant(rough: Rough) -> None:
    world = rough.world
    launched, visitor = rough.enrolled()
    for named, code in (("i-0ffffffffffffffff", "instance_unknown"), ("nonsense", "instance_unknown")):
        done = world.site.run("revoke", "instance", named)
        assert done.returncode == 1
        assert f"({code})" in done.stderr
    row = world.rows("instance", instance_id=launched.id)[0]
    elsewhere = row["id"].replace(REGION, "eu-west-3")
    with world.ca() as (_, store):
        with store.read() as tx:
            ours = tx.instances.get(id=row["id"])
        assert isinstance(ours, Instance)
        assert store.write(lambda tx: tx.instances.add(replace(ours, id=elsewhere, region="eu-west-3")))
    done = world.site.run("revoke", "instance", launched.id)
    assert done.returncode == 1
    assert "(instance_ambiguous)" in done.stderr
    assert elsewhere in done.stderr
    assert visitor.call("GET", "/v1/grants").status == 200
    world.site.cli("revoke", "instance", elsewhere)
    assert visitor.call("GET", "/v1/grants").status == 200, "its namesake was meant"
    states = {found["region"]: found["state"] for found in world.rows("instance", instance_id=launched.id)}
    assert states == {REGION: InstanceState.ENROLLED, "eu-west-3": InstanceState.REVOKED}
    world.site.cli("revoke", "instance", row["id"])
    assert visitor.call("GET", "/v1/grants").code == "instance_revoked"


# The CRL, as others see it


@pytest.mark.threat("B07", "B08")
def test_openssl_agrees_with_the_crl(rough: Rough, tmp_path: Path) -> None:
    world = rough.world
    launched, visitor = rough.enrolled()
    _, other = rough.enrolled()
    leaf, above = _split(visitor)
    files = {"root.pem": world.root, "issuer.pem": above, "revoked.pem": leaf, "other.pem": _split(other)[0]}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    before = number_of(crl_of(world))
    assert not _listed(world, visitor)
    receipt = revoke(rough, launched.id)
    (tmp_path / "list.crl").write_bytes(crl_of(world))
    assert layer(receipt, "crl")["facts"] == {"published": True, "number": number_of(crl_of(world))}
    assert number_of(crl_of(world)) > before
    assert _listed(world, visitor)

    shown = _openssl(tmp_path, "crl", "-inform", "DER", "-in", "list.crl", "-noout", "-text")
    assert f"{serial_of(visitor):X}" in shown.stdout
    assert "Privilege Withdrawn" in shown.stdout
    signed = _openssl(tmp_path, "crl", "-inform", "DER", "-in", "list.crl", "-noout", "-CAfile", "issuer.pem")
    assert "verify OK" in signed.stderr
    _openssl(tmp_path, "crl", "-inform", "DER", "-in", "list.crl", "-out", "list.pem")
    check = ("verify", "-x509_strict", "-crl_check", "-CAfile", "root.pem", "-untrusted", "issuer.pem")
    refused = _openssl(tmp_path, *check, "-CRLfile", "list.pem", "revoked.pem")
    assert refused.returncode != 0
    assert "certificate revoked" in refused.stderr
    accepted = _openssl(tmp_path, *check, "-CRLfile", "list.pem", "other.pem")
    assert (accepted.returncode, accepted.stdout.strip()) == (0, "other.pem: OK")


def _openssl(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(["openssl", *arguments], cwd=folder, capture_output=True, text=True, timeout=20, check=False)


def _split(visitor: Visitor) -> tuple[str, str]:
    leaf, mark, above = (visitor.certificate or "").partition("-----END CERTIFICATE-----\n")
    return leaf + mark, above


def _listed(world: World, visitor: Visitor) -> bool:
    crl = x509.load_der_x509_crl(crl_of(world))
    return crl.get_revoked_certificate_by_serial_number(serial_of(visitor)) is not None


@pytest.mark.threat("B09", "H07")
def test_a_crash_before_the_crl_leaves_it_revoked_and_the_next_start_publishes(
    rough: Rough,
) -> None:
    world = rough.world
    launched, visitor = rough.enrolled()
    before = number_of(crl_of(world))
    with _slow_crl(world.site), ThreadPoolExecutor(1) as pool:
        asked = pool.submit(rough.operator.call, "POST", f"/v1/revocations/instances/{launched.id}")
        _wait(lambda: world.rows("instance", instance_id=launched.id)[0]["state"] == "revoked")
        kill_all(world.site)
        with pytest.raises((OSError, http.client.HTTPException)):
            asked.result(10)
    assert number_of(world.rows("crl")[0]["der"]) == before, "it was not published before the crash"
    world.site.start()
    assert visitor.call("GET", "/v1/grants").code == "instance_revoked"
    _wait(lambda: number_of(crl_of(world)) > before)
    assert _listed(world, visitor)
    world.site.cli("audit", "verify")
    assert rough.enrolled()[1].call("GET", "/v1/grants").status == 200


class _slow_crl:
    """While it lasts, writing a CRL takes for ever: a trigger joins the audit log with itself, five times."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def __enter__(self) -> None:
        tables = ", ".join(f"audit_record a{i}" for i in range(5))
        self._run(f"CREATE TRIGGER slow BEFORE UPDATE ON crl BEGIN SELECT count(a1.line) FROM {tables}; END")

    def __exit__(self, *_: object) -> None:
        self._run("DROP TRIGGER slow")

    def _run(self, statement: str) -> None:
        connection = sqlite3.connect(self._site.database, timeout=10, isolation_level=None)
        connection.execute(statement)
        connection.close()


def _wait(until: Any, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < deadline
        time.sleep(0.02)
