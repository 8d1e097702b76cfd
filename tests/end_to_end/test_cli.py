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
from tests.end_to_end.receipts import sessions
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
    facts = {"access_key_id": seeded.access_key_id, "account": seeded.account, "purpose": "vend"}
    assert told == {"name": "dashed"} | facts
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
    assert len(sessions(receipt)) == 1
    assert "AWS STILL HONOURS 1 session(s)" in site.cli("revoke", "instance", launched.id)
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
    path = tmp_path / "web.toml"
    path.write_text(
        'name = "web"\nodd = 1\n[attestation]\nmax_age = "soon"\n[[grants]]\nname = "A"\nrole = "x"\npolicy = ""\n'
    )
    lines = _said(world.site.run("profile", "apply", str(path))).names_faults("profile_invalid")
    places = ("2: odd", "4: attestation.max_age", "5: grants[0].region", "6: grants[0].name", "7: grants[0].role",
              "8: grants[0].policy")  # fmt: skip
    assert [line.rpartition(": ")[0] for line in lines] == [f"{path}:{place}" for place in places]
    assert world.everything_but_the_log() == before


# The life of a profile


@pytest.mark.threat("G18")
def test_a_profile_is_reviewed_applied_and_taken_back(world: World, tmp_path: Path) -> None:
    """In both forms; whoever changes it, and whoever was a moment too late."""
    site, role = world.site, world.seeded.role_arn
    policy = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*"}]}
    one, other = tmp_path / "reviewed.toml", tmp_path / "reviewed.yaml"
    head = f'name = "reviewed"\n[[grants]]\nname = "g"\nrole = "{role}"\nregion = "{REGION}"\n'
    one.write_text(head + f"policy = '''\n{json.dumps(policy, indent=1)}\n'''\n")
    grant = {"name": "g", "role": role, "region": REGION, "policy": policy}
    other.write_text(json.dumps({"name": "reviewed", "grants": [grant]}, indent=1))  # JSON is YAML

    tables = ("profile", "profile_version")
    nothing = [world.rows(table) for table in tables]
    assert "would be at version 1" in site.cli("profile", "apply", str(one), "--dry-run")
    assert [world.rows(table) for table in tables] == nothing
    assert "profile reviewed is at version 1; grants: g" in site.cli("profile", "apply", str(one))
    assert "is unchanged at version 1" in site.cli("profile", "apply", str(other))

    other.write_text(other.read_text().replace("s3:GetObject", "s3:*"))
    told = site.cli("profile", "apply", str(other), "--dry-run", "--expect-version", "1")
    assert '-            "Action": "s3:GetObject",' in told.splitlines()
    assert '+            "Action": "s3:*",' in told.splitlines()
    assert [row["version"] for row in json.loads(site.cli("profile", "history", "reviewed", "--json"))] == [1]
    answer = json.loads(site.cli("profile", "apply", str(other), "--json"))
    assert (answer["version"], answer["changed"], answer["previous"]) == (2, True, 1)
    late = _said(site.run("profile", "apply", str(one), "--expect-version", "1"))
    assert "version 2 of profile reviewed is in force" in late.fails("precondition_failed")

    assert "is at version 3" in site.cli("profile", "rollback", "reviewed", "--expect-version", "2")
    assert site.cli("profile", "diff", "reviewed", "1", "3") == "versions 1 and 3 are the same\n"
    assert json.loads(site.cli("profile", "show", "reviewed", "--version", "2", "--json"))["version"] == 2
    shown = site.cli("profile", "show", "reviewed").partition("\n")[2]
    assert json.loads(shown)["grants"][0]["policy"] == policy
    assert ["reviewed", "3", "g"] in [line.split()[:3] for line in site.cli("profile", "list").splitlines()]
    records = [each for each in world.audit(object="profile/reviewed", kind="decision") if each["allowed"]]
    changes = [each["facts"]["version"] for each in records if each["facts"].get("changed")]
    assert changes == [1, 1, 2, 2, 3]  # each was tried dry at first, but for the last
    assert {each["name"] for each in records} == {f"operator:profile:{verb}" for verb in ("apply", "read", "rollback")}


@pytest.mark.threat("G18")
def test_of_two_operators_who_saw_the_same_version_one_wins(world: World, tmp_path: Path) -> None:
    """The later request is refused by the gateway itself."""
    everything = {"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}}
    grant = {"name": "g", "role": world.seeded.role_arn, "region": REGION, "policy": everything}
    path, visitor = tmp_path / "contended.yaml", world.operator()
    path.write_text(json.dumps({"name": "contended", "grants": [grant]}))
    world.site.cli("profile", "apply", str(path))
    answers = [
        visitor.call(
            "PUT",
            "/v1/profiles/contended",
            {"name": "contended", "grants": [grant | {"duration": life}]},
            headers={"If-Match": '"1"'},
        )
        for life in ("30m", "45m")
    ]
    assert [answer.status for answer in answers] == [200, 412]
    assert answers[1].body["code"] == "precondition_failed"
    assert answers[0].headers["etag"] == '"2"'
    (now,) = world.rows("profile", name="contended")
    assert (now["version"], "30m" in now["document"]) == (2, True)


def test_a_profile_of_a_key_that_is_not_there(world: World, tmp_path: Path) -> None:
    path = tmp_path / "keyless.yaml"
    grant = {"name": "g", "role": world.seeded.role_arn, "region": REGION,
             "policy_arns": ["arn:aws:iam::aws:policy/ReadOnlyAccess"]}  # fmt: skip
    path.write_text(json.dumps({"name": "keyless", "upstream": "absent", "grants": [grant]}, indent=1))
    for option in ([], ["--dry-run"]):
        lines = _said(world.site.run("profile", "apply", str(path), *option)).names_faults("upstream_key_unknown")
        assert lines == [f"{path}:3: upstream: no upstream key is named 'absent'"]
    world.site.cli("profile", "check", str(path))  # which cannot know
