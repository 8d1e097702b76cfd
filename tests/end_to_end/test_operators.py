"""Operators, roles, conditions and approvals: by the command line and over real TLS, against a running gateway."""

import base64
import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from certs import csr, keys
from deploy.demo.site import Site
from deploy.demo.visitor import Answer, Visitor
from tests.conftest import Known
from tests.end_to_end.bad_input import ROUTES
from tests.end_to_end.people import person
from tests.end_to_end.world import PROFILE, World

FLEET = {"permissions": ["operator:instance:*"]}


@dataclass
class Colleague:
    """Somebody with a machine of their own: an operator's directory that nobody else sees."""

    site: Site
    directory: Path

    def run(self, *arguments: str, given: str = "") -> "subprocess.CompletedProcess[str]":
        program = [self.site.command[0], "--operator-dir", str(self.directory)]
        return subprocess.run(
            [*program, *arguments], cwd=self.directory.parent, env=self.site.environment(), input=given,
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    def cli(self, *arguments: str, given: str = "") -> str:
        done = self.run(*arguments, given=given)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def fails(self, *arguments: str) -> str:
        """The code of a command that fails."""
        done = self.run(*arguments)
        assert done.returncode == 1, done
        return done.stderr.splitlines()[-2].rpartition("(")[2].rstrip(")")


@pytest.fixture
def colleague(world: World, tmp_path: Path) -> Callable[..., Colleague]:
    def made(name: str, *options: str) -> Colleague:
        found = Colleague(world.site, tmp_path / name / "operator")
        found.directory.parent.mkdir()
        request = tmp_path / f"{name}.csr"
        request.write_text(found.cli("operator", "request", name))
        bundle = world.site.cli("operator", "add", name, "--csr", str(request), *options)
        found.cli("operator", "accept", "-", given=bundle)
        return found

    return made


# How somebody comes in


def test_a_colleague_comes_in_with_a_key_that_never_left_their_machine(
    world: World, colleague: Callable[..., Colleague], known: Known
) -> None:
    bob = colleague("bob-in", "--role", "monitor")
    key = (bob.directory / "operator.key").read_text()
    known.add(key.splitlines()[1])
    assert {path.name for path in bob.directory.iterdir()} == {"operator.key", "operator.crt", "ca.pem", "gateway"}
    assert {path.stat().st_mode & 0o777 for path in bob.directory.iterdir()} == {0o600}
    assert "instances" in bob.cli("status")
    assert bob.fails("ticket", "create", "--profile", PROFILE) == "operator_forbidden"
    with world.database() as database:
        assert not any(key.splitlines()[1] in line for line in database.iterdump())
    shown = json.loads(world.site.cli("operator", "show", "bob-in", "--json"))
    assert (shown["roles"], shown["state"], shown["version"]) == (["monitor"], "active", 1)
    assert shown["certified_until"]
    assert "bob-in" in world.site.cli("operator", "list")


def test_a_request_that_openssl_made_will_do(world: World, tmp_path: Path) -> None:
    carol = Colleague(world.site, tmp_path / "operator")
    carol.directory.mkdir(mode=0o700)
    key, request = carol.directory / "operator.key", tmp_path / "carol.csr"
    openssl = shutil.which("openssl")
    assert openssl
    subprocess.run([openssl, "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", str(key)], check=True)
    subprocess.run([openssl, "req", "-new", "-key", str(key), "-subj", "/", "-out", str(request)], check=True)
    out = tmp_path / "carol.json"
    world.site.cli("operator", "add", "carol-in", "--role", "auditor", "--csr", str(request), "--out", str(out))
    said = carol.cli("operator", "accept", str(out), "--ca-sha256", world.fingerprint)
    assert world.fingerprint in said
    assert "records" in carol.cli("audit", "tail", "--json") or carol.cli("audit", "tail")


def test_an_answer_for_another_key_or_from_another_ca_is_not_installed(world: World, tmp_path: Path) -> None:
    dave = Colleague(world.site, tmp_path / "operator")
    assert dave.fails("operator", "accept", str(tmp_path / "none.json")) == "operator_missing"
    dave.cli("operator", "request", "dave-in")
    other = tmp_path / "other.csr"
    other.write_text(csr.make(keys.generate()))
    out = tmp_path / "dave.json"
    world.site.cli("operator", "add", "dave-in", "--role", "monitor", "--csr", str(other), "--out", str(out))
    assert dave.fails("operator", "accept", str(out)) == "certificate_mismatch"
    assert dave.fails("operator", "accept", str(out), "--ca-sha256", "00" * 32) == "gateway_untrusted"
    bundle = json.loads(out.read_text())
    for change in ({"root": bundle["issuer"]}, {"certificate": bundle["root"]}, {"odd": 1}, {"root": "x"}):
        out.write_text(json.dumps(bundle | change))
        assert dave.fails("operator", "accept", str(out)) == "bundle_invalid"
    assert sorted(path.name for path in dave.directory.iterdir()) == ["operator.key"]


def test_a_new_certificate_for_who_lost_the_old_one(world: World, colleague: Callable[..., Colleague]) -> None:
    erin = colleague("erin-in", "--role", "monitor")
    old = Colleague(world.site, erin.directory.parent / "old")
    shutil.copytree(erin.directory, old.directory)
    request = erin.directory.parent / "again.csr"
    request.write_text(erin.cli("operator", "request", "erin-in"))
    erin.cli("operator", "accept", "-", given=world.site.cli("operator", "reissue", "erin-in", "--csr", str(request)))
    assert erin.cli("status")
    assert old.fails("status") == "certificate_superseded"


# Roles and conditions


def test_an_own_role_is_applied_given_changed_and_taken(
    world: World, colleague: Callable[..., Colleague], tmp_path: Path
) -> None:
    file = tmp_path / "watch.toml"
    file.write_text('name = "watch"\npermissions = ["operator:gateway:status"]\n')
    assert world.site.cli("role", "apply", str(file)) == "role watch is at version 1\n"
    frank = colleague("frank-in", "--role", "watch")
    assert frank.cli("status")
    assert frank.fails("instance", "list") == "operator_forbidden"
    file.write_text('name = "watch"\npermissions = ["operator:instance:list"]\n')
    world.site.cli("role", "apply", str(file), "--expect-version", "1")
    assert frank.cli("instance", "list")
    assert frank.fails("status") == "operator_forbidden"
    assert "precondition_failed" in world.site.cli("role", "apply", str(file), "--expect-version", "1", status=1)
    assert "conflict" in world.site.cli("role", "remove", "watch", "--yes", status=1)
    world.site.cli("operator", "change", "frank-in", "--no-role")
    assert frank.fails("instance", "list") == "operator_forbidden"
    assert "gone" in world.site.cli("role", "remove", "watch", "--yes")
    file.write_text('name = "watch"\npermissions = ["operator:key:read", "operator:x"]\nhours = ["never"]\n')
    told = world.site.cli("role", "apply", str(file), status=1)
    assert "role_invalid" in told


def test_conditions_count_from_the_next_request_on(world: World, colleague: Callable[..., Colleague]) -> None:
    grace = colleague("grace-in", "--role", "monitor", "--source", "127.0.0.0/8")
    assert grace.cli("status")
    for options, reason in (
        (["--source", "192.0.2.0/24"], "source_address"),
        (["--any-source", "--hours", "sat 03:00-03:01 Pacific/Kiritimati"], "outside_hours"),
    ):
        world.site.cli("operator", "change", "grace-in", *options)
        assert grace.fails("status") == "operator_forbidden"
        record = world.audit(subject="spiffe://trusted-gateway.internal/operator/grace-in")[-1]
        assert (record["allowed"], record["reason"], record["source"]) == (False, reason, "127.0.0.1")
    world.site.cli("operator", "change", "grace-in", "--any-hours")
    assert grace.cli("status")


def test_the_last_administrator_stays_one_and_the_host_is_the_way_back_in(
    own_world: Callable[..., AbstractContextManager[World]],
) -> None:
    with own_world() as world:
        cli = world.site.cli
        for less in (["--no-role"], ["--role", "monitor"], ["--source", "192.0.2.0/24"]):
            assert "(conflict)" in cli("operator", "change", "alice", *less, status=1)
        assert json.loads(cli("operator", "show", "alice", "--json"))["version"] == 1
        zoe = Colleague(world.site, world.site.folder / "zoe")
        command = [*world.site.command[:3], "--operator-dir", str(zoe.directory), "operator", "certify", "zoe"]
        world.site.cli(*command[1:], unseal=True, status=1)
        world.site.cli(*command[1:], "--as-administrator", unseal=True)
        zoe.cli("operator", "change", "alice", "--role", "monitor")
        assert "(operator_forbidden)" in cli("operator", "list", status=1)


@pytest.mark.threat("G10")
def test_G10_who_may_not_revoke_operators_revokes_no_certificate_of_one(world: World) -> None:
    """The built-in role `operator` has `operator:certificate:revoke`, for machines."""
    hank, ivan = person(world, "hank-in", "operator"), person(world, "ivan-in", "monitor")
    (row,) = world.rows("certificate", subject="spiffe://trusted-gateway.internal/operator/ivan-in")
    path = f"/v1/revocations/certificates/{row['serial']}"
    assert hank.call("POST", path).code == "operator_forbidden"
    assert ivan.call("GET", "/v1/status").status == 200
    assert world.operator().call("POST", path).status == 200
    assert ivan.call("GET", "/v1/status").code == "certificate_revoked"


# Who may do what to which machine


def _visible(visitor: Visitor) -> list[str]:
    return [row["instance_id"] for row in visitor.call("GET", "/v1/instances").body["instances"]]


@pytest.mark.threat("G10")
@pytest.mark.parametrize(
    "elsewhere",
    [{"accounts": ["999999999999"]}, {"regions": ["eu-north-1"]}, {"tags": {"team": "*"}}],
    ids=["account", "region", "tags"],
)
def test_G10_a_machine_elsewhere_is_as_if_it_were_not_there(world: World, elsewhere: dict[str, Any]) -> None:
    launched, instance = world.enrolled()
    facts, admin = launched.facts, world.operator()
    name = f"g10-{next(iter(elsewhere))}"
    assert admin.call("PUT", f"/v1/roles/{name}", FLEET | elsewhere).status == 200
    visitor = person(world, name, name)
    paths = [launched.id, f"aws/{facts.account}/{facts.region}/{launched.id}"]
    assert _visible(visitor) == []
    for path in paths:
        for method, rest in (("GET", ""), ("GET", "/certificates"), ("POST", "/allow-reenroll")):
            assert visitor.call(method, f"/v1/instances/{path}{rest}").code == "instance_unknown", (method, rest)
        assert visitor.call("POST", f"/v1/revocations/instances/{path}").code == "instance_unknown"
    assert instance.call("GET", "/v1/grants").status == 200
    assert visitor.call("GET", "/v1/leases").code == "operator_forbidden"
    here = {"accounts": [facts.account], "regions": [facts.region]}  # the control: the same role, bound to here
    assert admin.call("PUT", f"/v1/roles/{name}", FLEET | here).status == 200
    assert launched.id in _visible(visitor)
    for path in paths:
        assert visitor.call("GET", f"/v1/instances/{path}").status == 200
    assert visitor.call("POST", f"/v1/revocations/instances/{launched.id}").status in (200, 201)
    assert instance.call("GET", "/v1/grants").code == "instance_revoked"


@pytest.mark.threat("G01")
def test_G01_no_certificate_opens_the_other_listener(world: World) -> None:
    _, instance = world.enrolled()
    shut = {"no handshake", "certificate_unknown", "not_found"}
    on_admin, on_instance = world.visitor(world.site.admin), world.visitor()
    on_admin.present(instance.certificate or "", instance.key)
    operator = world.operator()
    on_instance.present(operator.certificate or "", operator.key)
    both = {route.rule for route in ROUTES if route.listener == "instance"}
    both &= {route.rule for route in ROUTES if route.listener == "admin"}
    for visitor, listener in ((on_admin, "admin"), (on_instance, "instance"), (instance, "admin")):
        for route in ROUTES:
            known = route.listener == listener and (listener == "admin" or route.caller)
            known = known and not (visitor is instance and route.rule in both)
            if known and not route.rule.startswith(("/v1/auth", "/v1/aws", "/v1/watch", "/v1/login")):
                found = _code(visitor, route.method, route.rule)
                assert found in shut or (visitor is instance and found == "method_not_allowed"), (route, found)


def _code(visitor: Visitor, method: str, rule: str) -> str:
    path = re.sub(r"<[^>]+>", "x", rule)
    try:
        answer = visitor.call(method, path, {} if method in ("POST", "PUT") else None)
    except OSError:
        return "no handshake"
    return answer.code or str(answer.status)


@pytest.mark.threat("G09")
@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"roles": [" administrator"]}, "malformed_request"),
        ({"roles": ["ADMINISTRATOR"]}, "malformed_request"),
        ({"roles": ["administrators"]}, "operator_invalid"),
        ({"roles": "administrator"}, "malformed_request"),
        ({"is_admin": True}, "malformed_request"),
        ({"role": "administrator"}, "malformed_request"),
        ({"state": "active"}, "malformed_request"),
        ({"identity": {"issuer": "https://x", "subject": "y"}}, "malformed_request"),
        ({"version": 9}, "malformed_request"),
    ],
)
def test_G09_nothing_but_what_a_change_may_have_is_taken(world: World, change: dict[str, Any], code: str) -> None:
    admin = world.operator()
    name = "g09-bob"
    if admin.call("GET", f"/v1/operators/{name}").status == 404:
        person(world, name, "monitor")
    before = admin.call("GET", f"/v1/operators/{name}").body
    assert admin.call("PUT", f"/v1/operators/{name}", {"roles": ["monitor"], **change}).code == code
    order = {"name": "g09-eve", "csr": csr.make(keys.generate()), "roles": ["monitor"], **change}
    assert admin.call("POST", "/v1/operators", order).code == code
    assert admin.call("GET", f"/v1/operators/{name}").body == before
    assert admin.call("GET", "/v1/operators/g09-eve").code == "operator_unknown"


@pytest.mark.threat("G18")
def test_G18_the_second_of_two_editors_is_told(world: World) -> None:
    admin, name = world.operator(), "g18-bob"
    person(world, name, "monitor")
    tag = admin.call("GET", f"/v1/operators/{name}").headers["etag"]
    first, second = ({"roles": [role]} for role in ("auditor", "operator"))
    headers = {"If-Match": tag}
    assert admin.call("PUT", f"/v1/operators/{name}", first, headers=headers).status == 200
    assert admin.call("PUT", f"/v1/operators/{name}", second, headers=headers).code == "precondition_failed"
    assert admin.call("GET", f"/v1/operators/{name}").body["roles"] == ["auditor"]


@pytest.mark.threat("G15")
def test_G15_nobody_is_shown_an_upstream_key(world: World) -> None:
    """Every route that shows something, as an administrator; and every list of the command line."""
    launched, _ = world.enrolled()
    admin = world.operator()
    names = {"<path:named>": launched.id, "<name>": "main"}
    with world.seeded.secret as secret:
        hidden = [secret, base64.b64encode(secret), secret.hex().encode()]
    (row,) = world.rows("upstream_key", name="main")
    hidden.append(base64.b64encode(row["sealed_secret"]))
    looked = 0
    for route in ROUTES:
        if route.listener == "admin" and route.method == "GET":
            path = route.rule
            for variable, value in names.items():
                path = path.replace(variable, value)
            answer = admin.call("GET", re.sub(r"<[^>]+>", "x", path))
            looked += answer.status == 200
            text = json.dumps(answer.body).encode()
            assert not any(each in text for each in hidden), path
    assert looked > 4
    assert not any(each.decode() in line for each in hidden for line in _everything_listed(world.site))


def _everything_listed(site: Site) -> Iterator[str]:
    for command in ("key", "operator", "role", "profile", "instance", "ticket", "lease", "revocation", "approval"):
        yield site.cli(command, "list", "--json")
    yield site.cli("status", "--json")


# Two people


@pytest.fixture
def two(own_world: Callable[..., AbstractContextManager[World]]) -> Iterator[World]:
    """A gateway where profiles and instances need two."""
    tables = '[approvals]\npermissions = ["operator:profile:*", "operator:instance:revoke", "operator:ticket:create"]\n'
    with own_world() as world:
        person(world, "bob", "administrator")
        person(world, "carol", "monitor")
        world.site.stop()
        with world.site.settings.open("a") as file:
            file.write(tables)
        world.site.start()
        world.hang_up()
        yield world


def _approve(visitor: Visitor, id_: str, what: str = "give") -> Answer:
    return visitor.call("POST", f"/v1/approvals/{id_}/{what}")


@pytest.mark.threat("G11")
def test_G11_two_people_over_rest(two: World) -> None:
    alice = two.operator()
    bob, carol = (_again(two, name) for name in ("bob", "carol"))
    order = {"profile": PROFILE}
    first = alice.call("POST", "/v1/tickets", order, headers={"Idempotency-Key": "k-1"})
    assert (first.status, first.body["given"], first.body["needed"]) == (202, 1, 2)
    assert two.rows("ticket") == []
    id_ = first.body["approval"]
    (shown,) = bob.call("GET", "/v1/approvals").body["approvals"]
    assert (shown["id"], shown["request"]["body"], shown["asked_by"]) == (id_, order, "alice")
    nobody = two.visitor(two.site.admin)
    for what in ("give", "refuse"):
        assert _code(nobody, "POST", f"/v1/approvals/{id_}/{what}") in ("no handshake", "certificate_required")
    assert _approve(alice, id_).code == "operator_forbidden"
    assert _approve(carol, id_).code == "operator_forbidden"
    assert _approve(carol, id_, "refuse").code == "operator_forbidden"
    header = {"Approval": id_, "Idempotency-Key": "k-1"}
    assert alice.call("POST", "/v1/tickets", order, headers=header).status == 202
    assert _approve(bob, id_).body["given"] == 2
    other = {"profile": PROFILE, "life": 86400}
    assert alice.call("POST", "/v1/tickets", other, headers={"Approval": id_}).code == "approval_refused"
    assert bob.call("POST", "/v1/tickets", order, headers={"Approval": id_}).code == "approval_refused"
    done = alice.call("POST", "/v1/tickets", order, headers=header)
    assert done.status == 201, done.body
    assert alice.call("POST", "/v1/tickets", order, headers=header).body == done.body  # the kept answer
    assert alice.call("POST", "/v1/tickets", order, headers={"Approval": id_}).code == "approval_refused"
    assert len(two.rows("ticket")) == 1
    records = two.audit(name="operator:ticket:create", kind="decision")
    assert [record["reason"] for record in records if not record["allowed"]][:2] == ["approval_needed"] * 2


def test_one_person_cannot_make_the_second(two: World) -> None:
    alice = two.operator()
    order = {"name": "eve", "csr": csr.make(keys.generate()), "roles": ["administrator"]}
    for method, path, body in (
        ("POST", "/v1/operators", order),
        ("PUT", "/v1/operators/carol", {"roles": ["administrator"]}),
        ("POST", "/v1/operators/bob/certificates", {"csr": order["csr"]}),
        ("PUT", "/v1/roles/own", FLEET),
    ):
        assert alice.call(method, path, body).status == 202, path
    assert {row["name"] for row in two.rows("operator")} == {"alice", "bob", "carol"}
    waiting = two.rows("approval")
    assert alice.call("PUT", "/v1/roles/own", {"password": "hunter2"}).code == "role_invalid"
    assert two.rows("approval") == waiting, "what is no role is not kept for others to see"
    assert alice.call("GET", "/v1/status").status == 200


def test_two_people_by_the_command_line(two: World) -> None:
    cli, launched = two.site.cli, two.launch()
    told = cli("ticket", "create", "--profile", PROFILE, "--instance", launched.id, status=1)
    assert "(approval_needed)" in told
    id_ = told.partition("approval give ")[2][:19]
    bob = _directory(two, "bob")
    assert id_ in bob.cli("approval", "list")
    assert bob.fails("approval", "give", id_) == "confirmation_required"
    assert "--approval" in bob.cli("approval", "give", id_, "--yes")
    arguments = ["ticket", "create", "--profile", PROFILE, "--instance", launched.id]
    assert "ticket" in cli("--approval", id_, *arguments)
    assert "(approval_refused)" in cli("--approval", id_, *arguments, status=1)


def _directory(world: World, name: str) -> Colleague:
    """The operator's directory of somebody, certified on the host."""
    found = Colleague(world.site, world.site.folder / f"{name}-machine")
    command = [*world.site.command[1:3], "--operator-dir", str(found.directory), "operator", "certify", name]
    world.site.cli(*command, unseal=True)
    return found


def _again(world: World, name: str) -> Visitor:
    found = _directory(world, name).directory
    visitor = world.visitor(world.site.admin)
    key = keys.load_private_pem((found / "operator.key").read_bytes())
    visitor.present((found / "operator.crt").read_text(), key)
    return visitor
