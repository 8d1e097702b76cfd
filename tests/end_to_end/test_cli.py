"""The command line against a real gateway and an AWS that enforces: how keys come in, who is let in, what is told."""

import json
import os
import shutil
import socket
import sqlite3
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from certs import authority as ca
from certs import keys
from certs.names import OperatorName
from certs.profiles import OPERATOR
from deploy.demo.cloud import REGION, Cloud, Seeded
from deploy.demo.ec2_document import DocumentAuthority
from deploy.demo.site import Site
from gateway.flows.issue import pem
from gateway.wire.secret import Secret
from tests.conftest import Known
from tests.end_to_end.world import GRANT, World
from tests.gateway.cli.conftest import Said
from tests.gateway.cli.terminal import Terminal

DOMAIN = "trusted-gateway.internal"


def _said(done: "subprocess.CompletedProcess[str]") -> Said:
    return Said(done.returncode, done.stdout, done.stderr)


# How keys come in: the command opens the store itself.


@pytest.fixture(scope="module")
def site(
    tmp_path_factory: pytest.TempPathFactory, cloud: Cloud, seeded: Seeded, authority: DocumentAuthority, known: Known
) -> Iterator[Site]:
    """A gateway that was made and is not running."""
    folder, regional = tmp_path_factory.mktemp("keys") / "gateway", {REGION: authority.certificate_pem()}
    with Site(folder, cloud.endpoint, regional, region=REGION, workers=1) as made:
        known.add(made.passphrase)
        made.init()
        yield made


def _import(seeded: Seeded, name: str) -> list[str]:
    return ["key", "import", name, "--access-key-id", seeded.access_key_id]


def _is_sealed(site: Site, seeded: Seeded, name: str) -> None:
    """The key is there, and its secret is nowhere in the store's files."""
    with seeded.secret as secret:
        assert not any(secret in path.read_bytes() for path in site.database.parent.iterdir())
    with sqlite3.connect(f"file:{site.database}?mode=ro", uri=True) as database:
        found = database.execute("SELECT access_key_id FROM upstream_key WHERE name = ?", (name,)).fetchall()
    database.close()
    assert found == [(seeded.access_key_id,)]


@pytest.mark.threat("G15", "G17")
def test_a_key_comes_in_by_standard_input(site: Site, seeded: Seeded) -> None:
    text = site.cli(*_import(seeded, "piped"), given=seeded.secret, unseal=True)
    assert (
        text == f"sealed {seeded.access_key_id} of account {seeded.account} as 'piped'; nobody can read it out again\n"
    )
    told = json.loads(site.cli(*_import(seeded, "dashed"), "--from", "-", "--json", given=seeded.secret, unseal=True))
    assert told == {"name": "dashed", "access_key_id": seeded.access_key_id, "account": seeded.account}
    _is_sealed(site, seeded, "piped")
    _is_sealed(site, seeded, "dashed")
    again = site.run(*_import(seeded, "dashed"), given=seeded.secret, unseal=True)
    assert "is here already" in _said(again).fails("conflict")


@pytest.mark.threat("G15", "G17")
def test_a_key_comes_in_by_a_file(site: Site, seeded: Seeded, tmp_path: Path) -> None:
    with seeded.secret as secret:
        (tmp_path / "secret").write_bytes(secret + b"\n")
    site.cli(*_import(seeded, "filed"), "--from", str(tmp_path / "secret"), unseal=True)
    _is_sealed(site, seeded, "filed")


@pytest.mark.threat("G15", "G17")
def test_a_key_comes_in_by_a_prompt(site: Site, seeded: Seeded) -> None:
    with Terminal([*site.command, *_import(seeded, "typed")], site.environment()) as person:
        person.reads("Secret access key: ")
        with seeded.secret as secret:
            person.types(secret.decode())
        person.reads("Passphrase of the seal: ")
        with site.passphrase as phrase:
            person.types(phrase.decode())
        assert person.ends() == 0
        assert "nobody can read it out again" in person.seen
        with seeded.secret as secret, site.passphrase as phrase:
            assert secret.decode() not in person.seen
            assert phrase.decode() not in person.seen
    _is_sealed(site, seeded, "typed")


def test_a_key_that_aws_refuses_is_not_kept(site: Site, seeded: Seeded) -> None:
    command = _import(seeded, "wrong")
    _said(site.run(*command, given=Secret("0" * 40), unseal=True)).fails("upstream_refused")
    _said(site.run(*command, given=Secret("two\nlines"), unseal=True)).fails("secret_malformed")
    _said(site.run(*command, unseal=True)).fails("secret_malformed")
    _said(site.run(*command, "--from", str(site.folder / "absent"), unseal=True)).fails("secret_unreadable")
    _said(site.run(*command, given=seeded.secret)).fails("passphrase_missing")
    site.cli(*command, given=seeded.secret, unseal=True)  # the name is still free


@pytest.mark.threat("G17", "D16")
def test_no_secret_is_in_any_command_line_or_environment(
    tmp_path: Path, site: Site, seeded: Seeded, known: Known
) -> None:
    """Looked for while the command waits for an AWS that does not answer, when it has read both secrets."""
    settings = site.settings.read_text()
    with socket.create_server(("127.0.0.1", 0)) as aws:
        mute = f"http://127.0.0.1:{aws.getsockname()[1]}"
        slow = tmp_path / "slow.toml"
        slow.write_text(
            "\n".join(f'endpoint = "{mute}"' if "endpoint" in line else line for line in settings.splitlines())
        )
        phrase_in, phrase_out = os.pipe()
        with site.passphrase as phrase:
            os.write(phrase_out, phrase)
        os.close(phrase_out)
        command = [
            site.command[0],
            "--settings",
            str(slow),
            *_import(seeded, "late"),
            "--passphrase-fd",
            str(phrase_in),
        ]
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, env=site.environment(), pass_fds=[phrase_in]
        )
        os.close(phrase_in)
        assert process.stdin is not None
        with process, seeded.secret as secret:
            process.stdin.write(secret)
            process.stdin.close()
            aws.settimeout(30)
            asked, _ = aws.accept()
            with asked:
                seen = b"".join(_of_every_process("cmdline"))
                assert seeded.access_key_id.encode() in seen  # what is in a command line is found
                mine = Path(f"/proc/{process.pid}/environ").read_bytes()
                assert mine
                assert not known.leaked((seen + mine).decode(errors="replace"))
            process.kill()


def _of_every_process(name: str) -> Iterator[bytes]:
    for path in Path("/proc").glob(f"[0-9]*/{name}"):
        try:
            yield path.read_bytes()
        except OSError:  # it ended, or is not ours to read
            continue


# Who is let in


def _remote(site: Site, directory: Path, *arguments: str) -> Said:
    """A command with another operator's directory."""
    command = [site.command[0], "--operator-dir", str(directory), *arguments]
    done = subprocess.run(command, env=site.environment(), capture_output=True, text=True, check=False, timeout=60)
    return _said(done)


@pytest.fixture
def copy(world: World, tmp_path: Path) -> Path:
    """A copy of the operator's directory."""
    return Path(shutil.copytree(world.site.operator, tmp_path / "copy"))


def _present(directory: Path, certificate: str, key: bytes) -> None:
    (directory / "operator.crt").write_text(certificate)
    (directory / "operator.key").write_bytes(key)


def test_an_operators_certificate_that_ran_out(world: World, copy: Path) -> None:
    _remote(world.site, copy, "status").succeeds()
    key, now = keys.generate(), datetime.now(UTC)
    with world.ca("services") as (issuer, _):
        serial = ca.serial_from(os.urandom(20))
        name = OperatorName(DOMAIN, "alice")
        begin, end = now - timedelta(hours=2), now - timedelta(hours=1)
        made = ca.issue(issuer, OPERATOR, name, key.public_key(), serial, begin, end)
    _present(copy, pem(made.public_bytes(Encoding.DER)), keys.dump_private_pem(key))
    text = _remote(world.site, copy, "status").fails("operator_certificate_expired")
    assert "operator certify" in text


def test_a_certificate_that_is_no_operators(world: World, copy: Path) -> None:
    """An instance's is refused in the handshake; so is one of another gateway."""
    _, visitor = world.enrolled()
    assert visitor.certificate is not None
    before = world.everything_but_the_log()
    _present(copy, visitor.certificate, keys.dump_private_pem(visitor.key))
    said = _remote(world.site, copy, "ticket", "create", "--profile", "web")
    assert said.status == 1
    assert "operator_certificate_refused" in said.err or "gateway_unreachable" in said.err
    assert said.out == ""
    assert world.everything_but_the_log() == before


def test_certify_beside_a_running_gateway(site: Site, tmp_path: Path) -> None:
    old = Path(shutil.copytree(site.operator, tmp_path / "old"))
    site.start()
    site.cli("status")
    assert "is certified until" in site.cli("operator", "certify", "alice", unseal=True)
    site.cli("status")
    assert "operator certify" in _remote(site, old, "status").fails("certificate_superseded")
    site.stop()
    _said(site.run("status")).fails("gateway_unreachable")


def test_another_root_in_the_operators_directory(world: World, copy: Path) -> None:
    key, now = keys.generate(), datetime.now(UTC)
    root = ca.make_root(key, "another", ca.serial_from(os.urandom(20)), now, now + timedelta(days=1))
    (copy / "ca.pem").write_text(pem(root.public_bytes(Encoding.DER)))
    _remote(world.site, copy, "status").fails("gateway_untrusted")


# What is told


def test_every_command_in_words_and_in_json(world: World) -> None:
    launched, visitor = world.enrolled()
    assert visitor.call("POST", "/v1/credentials", {"grant": GRANT}).status == 200
    site = world.site
    assert [launched.id, "enrolled"] in [line.split()[:2] for line in site.cli("instance", "list").splitlines()]
    assert launched.id in {row["instance_id"] for row in json.loads(site.cli("instance", "list", "--json"))}
    assert "enrolled" in site.cli("status")
    assert json.loads(site.cli("status", "--json"))["instances"]["enrolled"] >= 1
    assert f"grant {GRANT}" in site.cli("instance", "show", launched.id)
    assert len(json.loads(site.cli("instance", "show", launched.id, "--json"))["leases"]) == 1
    assert "may enrol with a new key until" in site.cli("instance", "allow-reenroll", launched.id)
    assert json.loads(site.cli("ticket", "create", "--profile", "web", "--json"))["profile"] == "web"
    assert "instance:credentials:vend" in site.cli("audit", "tail", "-n", "50")
    receipt = json.loads(site.cli("revoke", "instance", launched.id, "--json"))
    assert len(receipt["aws"]["still_honours"]) == 1
    assert "AWS       STILL HONOURS 1 session(s)" in site.cli("revoke", "instance", launched.id)
    assert "revoked" in site.cli("instance", "show", launched.id)


def test_what_a_gateway_refuses_is_told_and_changes_nothing(world: World) -> None:
    before = world.everything_but_the_log()
    for arguments, code in (
        (["instance", "show", "i-0fedcba9876543210"], "instance_unknown"),
        (["revoke", "instance", "i-0fedcba9876543210"], "instance_unknown"),
        (["instance", "allow-reenroll", "i-0fedcba9876543210"], "instance_unknown"),
        (["ticket", "create", "--profile", "absent"], "profile_unknown"),
        (["ticket", "create", "--profile", "No Profile"], "malformed_request"),
        (["ticket", "create", "--profile", "web", "--instance", "i-\x1b[2J"], "malformed_request"),
        (["ticket", "create", "--profile", "web", "--life", "25h"], "malformed_request"),
    ):
        _said(world.site.run(*arguments)).fails(code)
    assert world.everything_but_the_log() == before


def test_every_fault_of_a_profile_is_named(world: World, tmp_path: Path) -> None:
    before = world.everything_but_the_log()
    (tmp_path / "web.toml").write_text(
        'name = "web"\nodd = 1\n[attestation]\nmax_age = "soon"\n[[grants]]\nname = "A"\nrole = "x"\npolicy = ""\n'
    )
    text = _said(world.site.run("profile", "apply", str(tmp_path / "web.toml"))).fails("profile_invalid")
    for fault in ("odd: ", "attestation.max_age: ", "grants[0].name: ", "grants[0].role: ", "grants[0].region: "):
        assert fault in text
    assert world.everything_but_the_log() == before
