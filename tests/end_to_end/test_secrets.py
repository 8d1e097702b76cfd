"""Where secrets are, and where they are not: the store, the logs, the processes; and a store that somebody wrote to."""

import base64
import json
import os
import re
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from certs import csr
from certs.keys import dump_private
from deploy.demo.cloud import REGION
from deploy.demo.site import Site
from deploy.demo.visitor import Answer, Visitor
from gateway.adapters import clock
from gateway.adapters.sql.store import SqlStore
from gateway.ceremonies import unseal
from gateway.flows.issue import Issue
from gateway.wire.messages import RenewRequest
from gateway.wire.secret import Secret
from tests.end_to_end.crowd import order_ticket
from tests.end_to_end.host import processes
from tests.end_to_end.receipts import layer
from tests.end_to_end.rough import Rough, rough_fixture  # noqa: F401  # a fixture
from tests.end_to_end.tour import VEND, plain_get
from tests.end_to_end.world import PROFILE, World

SIGNERS = ("root", "instances", "services", "server.node-1")


def needles(world: World) -> Iterator[tuple[str, bytes]]:
    """The secrets of a gateway, as only who has its passphrase can name them."""
    with world.seeded.secret as secret:
        yield "the double-secret key", secret
    with world.site.passphrase as passphrase:
        yield "the passphrase", passphrase
    store = SqlStore(f"sqlite:///{world.site.database}", "test", clock.now)
    try:
        master = unseal(store, world.site.passphrase)
        issue = Issue(store, master, clock.random_bytes, None)
        for name in SIGNERS:
            key = issue.issuer(name).key
            yield f"the key of {name}, PKCS#8", dump_private(key)
            yield f"the key of {name}, bare", key.private_numbers().private_value.to_bytes(32)
    finally:
        store.close()
    with master._key as plain:
        yield "the master key", plain
    with master.derive("nonce") as plain:
        yield "the key of the nonces", plain


def forms(secret: bytes) -> list[bytes]:
    """As it is, in hexadecimal, and inside base64 wherever it may begin."""
    shifted = [base64.b64encode(b"\0" * shift + secret)[4 * bool(shift) : -4] for shift in range(3)]
    return [secret, secret.hex().encode(), secret.hex().upper().encode(), *shifted]


def places(world: World) -> Iterator[tuple[str, bytes]]:
    """Everything that the gateway has written, and what the system shows of its processes."""
    for path in world.site.folder.rglob("*"):
        if path.is_file() and path.name != "operator.key":  # the operator's own, which is not the gateway's
            yield str(path), path.read_bytes()
    for pid in processes(world.site):
        for name in ("environ", "cmdline"):
            yield f"{name} of {pid}", Path(f"/proc/{pid}/{name}").read_bytes()
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            if descriptor.is_file():  # also those that have no name any more
                yield f"{descriptor} ({os.readlink(descriptor)})", descriptor.read_bytes()
    for record in world.audit():
        yield f"{record['chain']} #{record['seq']}", json.dumps(record).encode()
    for command in (("status",), ("instance", "list"), ("audit", "tail", "-n", "1000")):
        yield " ".join(command), world.site.cli(*command, "--json").encode()


def found(world: World, secrets: dict[str, bytes]) -> set[tuple[str, str]]:
    """(secret, place) wherever one of them lies."""
    everything = list(places(world))
    assert len(everything) > 50
    return {
        (what, place)
        for what, secret in secrets.items()
        for form in forms(secret)
        for place, content in everything
        if form in content
    }


@pytest.mark.threat("D16", "I05")
def test_D16_I05_no_secret_lies_anywhere_in_the_clear(rough: Rough, tmp_path: Path) -> None:
    """After whatever was done to this gateway so far, and a little more."""
    world = rough.world
    ticket, unused = (order_ticket(rough.operator)["ticket"] for _ in range(2))
    launched, visitor = world.launch(), world.visitor()
    assert visitor.enroll(launched.document, ticket).status == 201
    assert visitor.renew().status == 200
    given = visitor.call("POST", "/v1/credentials", VEND).body
    canary = "canary-of-a-caller-6f0f"
    for refused in (
        visitor.call("POST", "/v1/enroll", {"ticket": canary, "proof": canary}),
        visitor.call("POST", "/v1/credentials", {"grant": canary}),
        rough.operator.call("PUT", f"/v1/profiles/{PROFILE}", {"name": PROFILE, "secret": canary}),
    ):
        assert refused.status in (400, 403)
    assert rough.operator.call("POST", f"/v1/revocations/instances/{launched.id}").status == 200
    secrets = dict(needles(world))
    assert len(secrets) == 2 + 2 * len(SIGNERS) + 2
    secrets |= {
        "a ticket": ticket.encode(),
        "an unused ticket": unused.encode(),
        "a secret access key": given["secret_access_key"].encode(),
        "a session token": given["session_token"].encode(),
    }
    assert found(world, secrets) == set()
    public = {"an access key id": given["access_key_id"].encode(), "a lease": given["lease"].encode()}
    assert {what for what, _ in found(world, public)} == public.keys(), "the control: what is public is found"
    hashed = world.rows("ticket", redeemed_by=world.rows("instance", instance_id=launched.id)[0]["id"])
    assert len(hashed) == 1, "tickets are there, by their hash"


@pytest.mark.threat("J11", "K03")
def test_the_processes_cannot_be_dumped(rough: Rough) -> None:
    for pid in processes(rough.world.site):
        assert re.search(r"Max core file size +0 +0 ", Path(f"/proc/{pid}/limits").read_text())
    told = json.loads(plain_get(f"http://{rough.world.site.local}/healthz").body)
    assert told["process"]["no_core_dumps"] == told["process"]["not_dumpable"] == "done"
    assert "memory_locked" in told["process"]


# A store that somebody wrote to


@contextmanager
def copied(rough: Rough, folder: Path) -> Iterator[Site]:
    """A gateway of its own with a copy of the store, and the same passphrase. It is not started."""
    regional = {REGION: rough.world.authority.certificate_pem()}
    with Site(folder, rough.door.endpoint, regional, region=REGION, workers=1) as site:
        site.passphrase = rough.world.site.passphrase
        site.database.parent.mkdir(mode=0o700)
        site.database.touch(0o600)
        with sqlite3.connect(rough.world.site.database) as source, sqlite3.connect(site.database) as target:
            source.backup(target)
        source.close()
        target.close()
        for name in ("operator.key", "operator.crt", "ca.pem"):
            site.operator.mkdir(exist_ok=True)
            (site.operator / name).write_bytes((rough.world.site.operator / name).read_bytes())
        (site.operator / "gateway").write_text(site.admin + "\n")
        yield site


def write(site: Site, statement: str, *values: Any) -> None:
    """What whoever can write the store's file can do."""
    connection = sqlite3.connect(site.database, isolation_level=None, timeout=10)
    assert connection.execute(statement, values).rowcount > 0
    connection.close()


def at(site: Site, rough: Rough, visitor: Visitor) -> Visitor:
    """The same caller at this gateway, which has the same CA."""
    other = Visitor(site.instance, rough.world.root)
    other.present(visitor.certificate or "", visitor.key)
    return other


@pytest.mark.threat("K03")
def test_K03_what_is_not_as_it_was_sealed_does_not_start(rough: Rough, tmp_path: Path) -> None:
    with copied(rough, tmp_path / "copy") as site:
        right = site.passphrase

        def refuses(code: str, **options: Any) -> None:
            done = site.run("serve", **options)
            assert done.returncode == 1
            first, *rest = done.stderr.splitlines()
            assert first.startswith("error: ")
            assert first.endswith(f"({code})")
            assert all(line.startswith("hint: ") for line in rest)
            with site.passphrase as passphrase:
                assert passphrase.decode() not in done.stderr + done.stdout

        site.passphrase = Secret("another passphrase")
        refuses("seal_closed", unseal=True)
        site.passphrase = right
        refuses("passphrase_missing")
        seal = dict(rough.world.rows("seal_record")[0])
        cheap = json.dumps({**json.loads(seal["parameters"]), "n": 16})
        for column, altered in (("parameters", cheap), ("wrapped", bytes(len(seal["wrapped"])))):
            write(site, f"UPDATE seal_record SET {column} = ?", altered)
            refuses("seal_closed", unseal=True)
            write(site, f"UPDATE seal_record SET {column} = ?", seal[column])
        write(site, "DELETE FROM seal_record")
        refuses("store_unavailable", unseal=True)


@pytest.mark.threat("K01", "G17")
def test_K01_sealed_values_that_were_moved_are_never_used(rough: Rough, tmp_path: Path) -> None:
    world = rough.world
    launched, visitor = rough.enrolled()
    newcomer, ticket = world.launch(), order_ticket(rough.operator)["ticket"]
    with copied(rough, tmp_path / "copy") as site:
        import_watched(site, world.seeded.access_key_id, world.seeded.secret)
        keys = {row["name"]: row["sealed_secret"] for row in rows(site, "upstream_key")}
        assert keys.keys() == {"main", "backup"}
        write(site, "UPDATE upstream_key SET sealed_secret = ? WHERE name = 'main'", keys["backup"])
        site.start()
        caller, stranger = at(site, rough, visitor), Visitor(site.instance, world.root)
        operator = Visitor(site.admin, world.root)
        operator.present(rough.operator.certificate or "", rough.operator.key)
        calls, leases = len(rough.door.asked), rows(site, "lease")

        def refuses(ask: Callable[[], Answer]) -> None:
            answer = ask()
            assert (answer.status, answer.code) == (500, "internal_error"), answer
            *_, last = [
                record for record in records(site) if f"urn:uuid:{record['request_id']}" == answer.body["instance"]
            ]
            assert (last["allowed"], last["reason"]) == (False, "sealed_value_altered")

        assert caller.call("GET", "/v1/grants").status == 200, "what needs no secret works"
        refuses(partial(caller.call, "POST", "/v1/credentials", VEND))
        refuses(lambda: stranger.enroll(newcomer.document, ticket))
        assert rows(site, "lease") == leases
        assert len(rough.door.asked) == calls, "AWS never sees a request with it"

        signers = {row["name"]: row["sealed_key"] for row in rows(site, "signer")}
        certificates = rows(site, "certificate")
        write(site, "UPDATE signer SET sealed_key = ? WHERE name = 'instances'", signers["services"])
        refuses(partial(caller.call, "POST", "/v1/renew", RenewRequest(csr.make(visitor.key))))
        assert rows(site, "certificate") == certificates, "nothing was signed"
        receipt = operator.call("POST", f"/v1/revocations/instances/{launched.id}")
        assert (receipt.status, layer(receipt.body, "crl")["state"]) == (200, "trying"), "revocation does not need it"
        assert caller.call("GET", "/v1/grants").code == "instance_revoked"
        write(site, "UPDATE signer SET sealed_key = ? WHERE name = 'instances'", signers["instances"])
        again = operator.call("POST", f"/v1/revocations/instances/{launched.id}").body
        assert layer(again, "crl")["facts"]["published"] is True
        for each in (caller, stranger, operator):
            each.close()
        assert "upstream_key/main/" in site.log.read_text(), "the log tells which value it is"
    again = world.visitor()
    again.present(visitor.certificate or "", visitor.key)
    assert again.call("POST", "/v1/credentials", VEND).status == 200, "the control: it was the swap"


def import_watched(site: Site, access_key_id: str, secret: Secret) -> None:
    """`key import` while its standard input is still open: nothing of the secret is in what the system shows of it."""
    readable, writable = os.pipe()
    with site.passphrase as passphrase:
        os.write(writable, passphrase + b"\n")
    os.close(writable)
    command = [
        *site.command,
        "key",
        "import",
        "backup",
        "--access-key-id",
        access_key_id,
        "--passphrase-fd",
        str(readable),
    ]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=site.environment(), pass_fds=[readable]
    ) as importing:
        os.close(readable)
        assert importing.stdin
        with secret as plain, site.passphrase as passphrase:
            importing.stdin.write(plain + b"\n")
            importing.stdin.flush()
            time.sleep(0.2)
            shown = b"".join(Path(f"/proc/{importing.pid}/{name}").read_bytes() for name in ("cmdline", "environ"))
            assert b"backup" in shown
            assert plain not in shown
            assert passphrase not in shown
        said, _ = importing.communicate(timeout=30)
    assert importing.returncode == 0
    assert b"nobody can read it out again" in said


def rows(site: Site, table: str) -> list[dict[str, Any]]:
    connection = sqlite3.connect(site.database, timeout=10)
    connection.row_factory = sqlite3.Row
    try:
        return [dict(row) for row in connection.execute(f"SELECT * FROM {table}")]
    finally:
        connection.close()


def records(site: Site) -> list[dict[str, Any]]:
    connection = sqlite3.connect(site.database, timeout=10)
    try:
        return [json.loads(line) for (line,) in connection.execute("SELECT line FROM audit_record ORDER BY rowid")]
    finally:
        connection.close()


# What init leaves on the host


@contextmanager
def bare(rough: Rough, folder: Path) -> Iterator[Site]:
    """A site with settings and nothing else, made under umask 000."""
    before = os.umask(0)
    try:
        with Site(
            folder, rough.door.endpoint, {REGION: rough.world.authority.certificate_pem()}, region=REGION
        ) as site:
            yield site
    finally:
        os.umask(before)


@pytest.mark.threat("G17", "J07")
def test_G17_files_are_the_operators_alone_whatever_the_umask(rough: Rough, tmp_path: Path) -> None:
    with bare(rough, tmp_path / "bare") as site:
        site.init()
        for folder in (site.operator, site.database.parent):
            assert folder.stat().st_mode & 0o777 == 0o700
            assert list(folder.iterdir())
            for path in folder.iterdir():
                assert path.stat().st_mode & 0o777 == 0o600, path
        assert "(operator_exists)" in site.run("init", "--operator", "bob", unseal=True).stderr


@pytest.mark.threat("G17")
def test_G17_a_link_that_waits_at_the_target_is_not_followed(rough: Rough, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    with bare(rough, tmp_path / "drafts") as site:
        site.operator.mkdir(mode=0o700)
        for name in (".operator.key.new", "operator.crt", "ca.pem"):
            (site.operator / name).symlink_to(victim)
        (site.operator / "operator.key").symlink_to(tmp_path / "nothing")
        done = site.run("init", "--operator", "alice", unseal=True)
        assert done.returncode == 0 or done.stderr.startswith("error: ")
        assert "Traceback" not in done.stderr
        assert victim.read_text() == "untouched"
        assert not (tmp_path / "nothing").exists()
        if done.returncode == 0:
            assert not any(path.is_symlink() for path in site.operator.iterdir())
    with bare(rough, tmp_path / "store") as site:
        site.database.parent.mkdir(mode=0o700)
        site.database.symlink_to(victim)
        done = site.run("init", "--operator", "alice", unseal=True)
        assert done.returncode == 1
        assert done.stderr.startswith("error: ")
        assert "Traceback" not in done.stderr
        assert victim.read_text() == "untouched"
        assert not (site.operator / "operator.key").exists()
