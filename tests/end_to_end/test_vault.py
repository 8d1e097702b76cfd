"""Vault's API for those who moved: hvac as it is, tokens that are worth nothing alone, errors in Vault's words."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy.demo.cloud import client, prefix_policy
from deploy.demo.visitor import Answer, Visitor
from gateway.flows.bearer import MOST
from gateway.wire.secret import Secret
from tests.conftest import Known
from tests.end_to_end.hvac_client import Hvac, Raised, hvac
from tests.end_to_end.rough import Rough, rough_fixture  # noqa: F401  # a fixture
from tests.end_to_end.test_vending import denied
from tests.end_to_end.world import GRANT, OTHER_GRANT, OTHER_PROFILE, PROFILE, World

LOGIN, LOOKUP, REVOKE = "/v1/auth/cert/login", "/v1/auth/token/lookup-self", "/v1/auth/token/revoke-self"
STS, CREDS = f"/v1/aws/sts/{GRANT}", f"/v1/aws/creds/{GRANT}"
SECRETS = ("secret_key", "security_token", "client_token")


def log_in(visitor: Visitor, known: Known, **more: Any) -> str:
    """A token."""
    answer = visitor.call("POST", LOGIN, {}, **more)
    assert answer.status == 200, answer.body
    token: str = answer.body["auth"]["client_token"]
    known.add(token)
    return token


def ask(visitor: Visitor, token: str | None, method: str = "GET", path: str = STS, body: Any = None) -> Answer:
    """A request with this token."""
    return visitor.call(method, path, body, headers={"X-Vault-Token": token} if token else {})


_READERS: list[tuple[Rough, Visitor]] = []


def reader(rough: Rough) -> Visitor:
    """One enrolled instance for the tests that leave it as it is."""
    if not _READERS or _READERS[-1][0] is not rough:
        _READERS.append((rough, rough.enrolled()[1]))
    return _READERS[-1][1]


def reader_token(rough: Rough) -> str:
    """A token of its own."""
    answer = reader(rough).call("POST", LOGIN, {})
    assert answer.status == 200
    return str(answer.body["auth"]["client_token"])


def refused(world: World, answer: Answer, status: int, code: str) -> dict[str, Any]:
    """A refusal in Vault's shape, without a secret, and with one record: that one."""
    assert answer.status == status, answer
    assert answer.headers["content-type"] == "application/json"
    assert answer.body.keys() == {"errors", "request_id"}
    (said,) = answer.body["errors"]
    assert said.startswith(f"{code}: "), said
    assert not any(word in said for word in SECRETS)
    record, *more = world.audit(answer.body["request_id"])
    assert (record["kind"], record["allowed"], more) == ("decision", False, [])
    assert record["facts"]["code"] == code
    return record


# hvac, as it is


@pytest.fixture
def program(rough: Rough, tmp_path: Path) -> Iterator[tuple[Visitor, Hvac]]:
    """An enrolled instance, and hvac with its certificate."""
    _, visitor = rough.enrolled()
    with hvac(rough.world, tmp_path, visitor) as running:
        yield visitor, running


def test_hvac_logs_in_gets_credentials_and_logs_out(rough: Rough, program: tuple[Visitor, Hvac], known: Known) -> None:
    world, (_, vault) = rough.world, program
    assert vault("is_authenticated") is False
    auth = vault.login(name=PROFILE)["auth"]
    known.add(auth["client_token"])
    assert 3500 < auth["lease_duration"] <= 3600
    assert vault("is_authenticated") is True
    about = vault("auth.token.lookup_self")["data"]
    assert about["policies"] == [PROFILE]
    assert 3500 < about["ttl"] <= 3600
    for endpoint in ("sts", "creds"):
        given = vault("secrets.aws.generate_credentials", name=GRANT, endpoint=endpoint, ttl="15m",
                      role_arn=world.seeded.role_arn)  # fmt: skip
        assert given["lease_id"].startswith(f"aws/sts/{GRANT}/")
        assert given["renewable"] is False
        assert 450 <= given["lease_duration"] <= 900
        keys = given["data"]
        assert keys["ttl"] == given["lease_duration"]
        assert keys["security_token"] == keys["session_token"]
        assert ":assumed-role/" in keys["arn"]
        storage = client(
            world.cloud.endpoint, "s3", keys["access_key"], Secret(keys["secret_key"]), Secret(keys["session_token"])
        )
        reports, payroll = world.seeded.prefixes
        assert storage.list_objects_v2(Bucket=world.seeded.bucket, Prefix=reports)["KeyCount"] > 0
        assert denied(storage.list_objects_v2, Bucket=world.seeded.bucket, Prefix=payroll)
        (lease,) = world.rows("lease", id=given["lease_id"].rpartition("/")[2])
        assert lease["access_key_id"] == keys["access_key"]
    assert vault("logout", revoke_token=True) is None
    assert vault("is_authenticated") is False
    assert world.rows("bearer_token", serial=auth["metadata"]["serial_number"]) == []


def test_hvac_says_what_is_refused(rough: Rough, program: tuple[Visitor, Hvac]) -> None:
    _, vault = program
    without = vault("secrets.aws.generate_credentials", name=GRANT)
    assert without == Raised("Forbidden", without.text)
    assert "No token was sent" in without.text
    assert vault.login(name=OTHER_PROFILE).name == "Forbidden"
    vault.login()
    lease = vault("secrets.aws.generate_credentials", name=GRANT)["lease_id"]
    told = {
        "auth.token.renew_self": ({}, "InvalidRequest", "not renewable"),
        "sys.renew_lease": ({"lease_id": lease}, "InvalidRequest", "not renewable"),
        "sys.revoke_lease": ({"lease_id": lease}, "InvalidRequest", "AWS takes no session back"),
        "sys.read_lease": ({"lease_id": lease}, "InvalidPath", "Emulated are"),
        "secrets.aws.list_roles": ({}, "InvalidPath", "Emulated are"),
        "secrets.kv.v2.read_secret": ({"path": "x"}, "InvalidPath", "Emulated are"),
        "sys.seal": ({}, "InvalidPath", "Emulated are"),
        "secrets.aws.generate_credentials": ({"name": OTHER_GRANT}, "Forbidden", "grant_refused"),
    }
    for method, (arguments, name, words) in told.items():
        found = vault(method, **arguments)
        assert isinstance(found, Raised), (method, found)
        assert (found.name, words in found.text) == (name, True), found
    assert vault("is_authenticated") is True, "and none of this was the end"


def test_hvac_asks_how_it_is_without_a_certificate_and_leaves_no_record(rough: Rough, tmp_path: Path) -> None:
    before = len(rough.world.audit())
    with hvac(rough.world, tmp_path, rough.world.visitor()) as vault:
        assert vault("sys.read_health_status")["status"] == 200
        health = vault("sys.read_health_status", method="GET")
        assert health.pop("server_time_utc") > 0
        assert health == {"initialized": True, "sealed": False, "standby": False}
        assert vault("sys.is_initialized") is True
        assert vault("sys.is_sealed") is False
        assert len(rough.world.audit()) == before
        assert vault("auth.token.lookup_self").name == "Forbidden"  # the control: this has one
    assert len(rough.world.audit()) == before + 1


@pytest.mark.parametrize("more", [{"namespace": "team"}], ids=str)
def test_hvac_with_a_namespace_is_told(rough: Rough, tmp_path: Path, more: dict[str, Any]) -> None:
    _, visitor = rough.enrolled()
    with hvac(rough.world, tmp_path, visitor, **more) as vault:
        found = vault.login()
    assert found.name == "InvalidRequest"
    assert "namespaces" in found.text


# The token alone is nothing


@pytest.mark.threat("D01", "B01")
def test_D01_a_stolen_token_is_worth_nothing_elsewhere(rough: Rough, known: Known) -> None:
    world = rough.world
    _, owner = rough.enrolled()
    _, thief = rough.enrolled()
    token = log_in(owner, known)
    minted = len(rough.door.asked_for("AssumeRole"))
    for path in (STS, CREDS, LOOKUP):
        record = refused(world, ask(thief, token, path=path), 403, "token_refused")
        assert record["reason"] == "token_of_another_certificate"
        assert refused(world, ask(world.visitor(), token, path=path), 403, "certificate_required")
    refused(world, ask(thief, token, "POST", REVOKE), 403, "token_refused")
    assert len(rough.door.asked_for("AssumeRole")) == minted
    assert ask(owner, token).status == 200, "nor did the attempts hurt its owner"


@pytest.mark.threat("D01")
def test_D01_of_a_token_only_its_hash_is_kept(rough: Rough, known: Known) -> None:
    """`known` looks for it in all logs; here is the store."""
    world = rough.world
    _, visitor = rough.enrolled()
    token = log_in(visitor, known)
    assert ask(visitor, token, path=LOOKUP).body["data"]["id"] == token
    assert ask(visitor, token).status == 200
    tables = json.dumps([world.everything_but_the_log(), world.audit()], default=repr)
    assert token not in tables
    assert token.removeprefix("s.") not in tables


def test_nobody_chooses_a_token(rough: Rough, known: Known) -> None:
    """Fixation: what is presented at the login is neither taken over nor good for anything."""
    _, visitor = rough.enrolled()
    chosen = "s." + "A" * 43
    assert log_in(visitor, known, headers={"X-Vault-Token": chosen}) != chosen
    assert refused(rough.world, ask(visitor, chosen), 403, "token_refused")["reason"] == "token_unknown"


@pytest.mark.parametrize(
    "odd", ["s.", "x", "s." + "A" * 42, "s." + "A" * 44, "hvs." + "A" * 41, "S." + "A" * 43, "s." + "A" * 42 + "="]
)
def test_what_has_not_the_form_of_a_token_is_none(rough: Rough, odd: str) -> None:
    visitor = reader(rough)
    assert refused(rough.world, ask(visitor, odd), 403, "token_refused")["reason"] == "token_unknown"


def test_a_token_may_come_as_a_bearer_and_not_as_two(rough: Rough, known: Known) -> None:
    visitor = reader(rough)
    token, other = log_in(visitor, known), log_in(visitor, known)
    bearer = {"Authorization": f"Bearer {token}"}
    assert visitor.call("GET", STS, headers=bearer).status == 200
    assert visitor.call("GET", STS, headers={**bearer, "X-Vault-Token": token}).status == 200
    both = visitor.call("GET", STS, headers={**bearer, "X-Vault-Token": other})
    refused(rough.world, both, 400, "malformed_request")
    basic = visitor.call("GET", STS, headers={"Authorization": f"Basic {token}"})
    assert refused(rough.world, basic, 403, "token_refused")["reason"] == "token_missing"


def test_a_token_that_was_revoked_is_not_replayed(rough: Rough, known: Known) -> None:
    _, visitor = rough.enrolled()
    token, other = log_in(visitor, known), log_in(visitor, known)
    assert ask(visitor, token, "PUT", REVOKE).status == 204
    for method, path in (("GET", STS), ("GET", LOOKUP), ("POST", REVOKE)):
        assert (
            refused(rough.world, ask(visitor, token, method, path), 403, "token_refused")["reason"] == "token_unknown"
        )
    assert ask(visitor, other).status == 200, "the other one stays"


@pytest.mark.threat("B12")
def test_a_token_ends_with_its_certificate(rough: Rough, known: Known) -> None:
    world = rough.world
    _, visitor = rough.enrolled()
    before = world.visitor()
    before.present(visitor.certificate or "", visitor.key)
    token = log_in(before, known)
    assert visitor.renew().status == 200
    refused(world, ask(before, token), 403, "certificate_superseded")
    record = refused(world, ask(visitor, token), 403, "token_refused")
    assert record["reason"] == "token_of_another_certificate"
    assert ask(visitor, log_in(visitor, known)).status == 200


@pytest.mark.threat("B05")
def test_B05_revocation_ends_tokens_at_once_on_open_connections(rough: Rough, known: Known) -> None:
    world = rough.world
    launched, visitor = rough.enrolled()
    lines = [world.visitor() for _ in range(3)]
    for line in lines:
        line.present(visitor.certificate or "", visitor.key)
    token = log_in(lines[0], known)
    for line in lines:
        assert ask(line, token).status == 200
    world.site.cli("revoke", "instance", launched.id)
    refused(world, ask(lines[0], token), 403, "instance_revoked")
    refused(world, ask(lines[1], token, path=LOOKUP), 403, "instance_revoked")
    refused(world, lines[2].call("POST", LOGIN, {}), 403, "instance_revoked")


def test_of_too_many_tokens_the_oldest_goes(rough: Rough, known: Known) -> None:
    _, visitor = rough.enrolled()
    tokens = [log_in(visitor, known) for _ in range(MOST + 1)]
    assert refused(rough.world, ask(visitor, tokens[0], path=LOOKUP), 403, "token_refused")
    assert all(ask(visitor, token, path=LOOKUP).status == 200 for token in (tokens[1], tokens[-1]))


# What may be asked for


@pytest.mark.threat("D01")
def test_D01_only_the_grants_of_the_profile_and_only_what_they_give(rough: Rough, known: Known) -> None:
    world, visitor = rough.world, reader(rough)
    token = log_in(visitor, known)
    minted = len(rough.door.asked_for("AssumeRole"))
    foreign = world.seeded.role_arn.replace("role/", "role/other-")
    for path, body, reason in (
        (f"/v1/aws/sts/{OTHER_GRANT}", {}, "grant_refused"),
        ("/v1/aws/sts/absent", {}, "grant_refused"),
        ("/v1/aws/sts/" + "x" * 999, {}, "grant_refused"),
        ("/v1/aws/sts/Reports", {}, "grant_refused"),
        (STS, {"role_arn": foreign}, "role_differs"),
        (STS, {"role_arn": ""}, "role_differs"),
        (STS, {"role_session_name": "somebody"}, "session_name_differs"),
    ):
        assert refused(world, ask(visitor, token, "PUT", path, body), 403, "grant_refused")["reason"] == reason
    assert len(rough.door.asked_for("AssumeRole")) == minted
    assert ask(visitor, token, "PUT", STS, {"role_arn": world.seeded.role_arn}).status == 200


def test_a_token_that_came_twice_is_none(rough: Rough) -> None:
    """Two fields of one name are read as one text, which is no token."""
    visitor, token = reader(rough), reader_token(rough)
    connection = visitor.connect()
    connection.putrequest("GET", STS)
    for _ in range(2):
        connection.putheader("X-Vault-Token", token)
    connection.endheaders()
    response = connection.getresponse()
    assert (response.status, "token_refused" in response.read().decode()) == (403, True)


def test_the_name_of_a_session_may_be_repeated(rough: Rough, known: Known) -> None:
    launched, visitor = rough.enrolled()
    token = log_in(visitor, known)
    assert ask(visitor, token, "POST", STS, {"role_session_name": launched.id}).status == 200
    assert ask(visitor, token, path=f"{CREDS}?role_session_name={launched.id}&ttl=900").status == 200


def test_a_grant_that_is_not_delivered_so_is_refused(rough: Rough, known: Known, tmp_path: Path) -> None:
    """The same grant, by another way, is given."""
    world = rough.world
    path = tmp_path / "quiet.toml"
    policy = prefix_policy(world.seeded.bucket, world.seeded.prefixes[0])
    path.write_text(
        f'name = "quiet"\n[[grants]]\nname = "{GRANT}"\nrole = "{world.seeded.role_arn}"\n'
        f"region = \"{world.seeded.region}\"\ndoors = [\"container\"]\npolicy = '''{policy}'''\n"
    )
    world.site.cli("profile", "apply", str(path))
    _, visitor = rough.enrolled("quiet")
    assert refused(world, ask(visitor, log_in(visitor, known)), 403, "grant_refused")["reason"] == "door"
    assert visitor.call("POST", "/v1/credentials", {"grant": GRANT}).status == 200


ODD_TTL: tuple[Any, ...] = (
    0, -1, 899, 43201, 10**400, 900.0, 900.5, True, [], [900], {}, "", " ", "0", "-900", "+900", "899", "899s", "14m",
    "13h", "900.5s", "1.5h", "900 s", " 900", "900\n", "9_00", "９００", "900S", "15M", "15", "15min", "1h30", "30m1h",
    "1h1h", "s", "h", "PT15M", "1d", "0x384", "9e2", "900ms", "99999999999s", "900s;", "null", "None",
)  # fmt: skip


@pytest.mark.threat("D06")
@pytest.mark.parametrize("ttl", ODD_TTL, ids=lambda ttl: ascii(ttl)[:20])
def test_D06_odd_durations_are_refused(rough: Rough, ttl: Any) -> None:
    visitor, token = reader(rough), reader_token(rough)
    minted = len(rough.door.asked_for("AssumeRole"))
    refused(rough.world, ask(visitor, token, "POST", STS, {"ttl": ttl}), 400, "malformed_request")
    assert len(rough.door.asked_for("AssumeRole")) == minted


@pytest.mark.threat("D06")
@pytest.mark.parametrize(
    ("ttl", "lasts"),
    [(None, 3600), ("900", 900), (900, 900), ("900s", 900), ("15m", 900), ("0h30m", 1800), ("1h", 3600), ("12h", 3600)],
)
def test_D06_what_is_asked_for_is_given_up_to_the_grants_own(rough: Rough, ttl: Any, lasts: int) -> None:
    """The control. What remains is never more than that, nor less than half of it, since sessions are given again."""
    answer = ask(reader(rough), reader_token(rough), "POST", STS, {"ttl": ttl})
    assert answer.status == 200, answer.body
    assert lasts / 2 <= answer.body["lease_duration"] <= lasts


def test_a_head_mints_nothing(rough: Rough) -> None:
    _, visitor = rough.enrolled()
    token = visitor.call("POST", LOGIN, {}).body["auth"]["client_token"]
    minted = len(rough.door.asked_for("AssumeRole"))
    assert ask(visitor, token, "HEAD").status == 405
    assert len(rough.door.asked_for("AssumeRole")) == minted
    assert ask(visitor, token).status == 200
    assert len(rough.door.asked_for("AssumeRole")) == minted + 1


# In Vault's words


@pytest.mark.threat("C18", "C08", "I06")
@pytest.mark.parametrize(
    ("method", "path", "headers", "status", "code"),
    [
        ("LIST", "/v1/aws/roles", {}, 404, "not_found"),
        ("LIST", STS, {}, 405, "method_not_allowed"),
        ("LIST", "/v1/secret/metadata/", {}, 404, "not_found"),
        ("DELETE", STS, {}, 405, "method_not_allowed"),
        ("DELETE", LOGIN, {}, 405, "method_not_allowed"),
        ("GET", LOGIN, {}, 405, "method_not_allowed"),
        ("GET", "/v1/sys/mounts", {}, 404, "not_found"),
        ("GET", "/v1/sys/internal/ui/mounts/aws/creds/x", {}, 404, "not_found"),
        ("PUT", "/v1/sys/seal", {}, 404, "not_found"),
        ("GET", "/v1/aws/creds/", {}, 404, "not_found"),
        ("GET", "/v1/aws/creds/a/b", {}, 404, "not_found"),
        ("GET", "/v1/kv/data/x", {"X-Vault-Request": "true"}, 404, "not_found"),
        ("GET", "/v1/kv/data/x", {"X-Vault-Token": "x"}, 404, "not_found"),
        ("POST", "/v1/auth/token/create", {}, 404, "not_found"),
        ("POST", LOGIN, {"X-Vault-Namespace": "a/b"}, 400, "malformed_request"),
        ("GET", STS, {"X-Vault-Wrap-TTL": "60"}, 400, "malformed_request"),
        ("GET", "/v1/kv/data/x", {"X-Vault-Namespace": "a"}, 400, "malformed_request"),
        ("POST", LOGIN + "?name=web", {}, 400, "malformed_request"),
        ("POST", f"{STS}?ttl=900", {}, 403, "token_refused"),
        ("GET", f"{STS}?odd=1", {"with": "token"}, 400, "malformed_request"),
        ("GET", f"{STS}?ttl=900&ttl=1800", {"with": "token"}, 400, "malformed_request"),
        ("GET", f"{LOOKUP}?x=1", {"with": "token"}, 400, "malformed_request"),
        ("GET", f"{STS}?ttl=", {"with": "token"}, 400, "malformed_request"),
    ],
)
def test_what_is_not_emulated_is_said(
    rough: Rough, method: str, path: str, headers: dict[str, str], status: int, code: str
) -> None:
    visitor = reader(rough)
    if headers.pop("with", None):
        headers = {"X-Vault-Token": reader_token(rough)}
    answer = visitor.call(method, path, headers=headers)
    refused(rough.world, answer, status, code)
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers.keys().isdisjoint({"server", "etag", "set-cookie"})
    assert ("allow" in answer.headers) == (status == 405)
    assert ("Emulated are" in answer.body["errors"][0]) == (status in (404, 405))


@pytest.mark.parametrize(
    "raw", [b"[]", b"null", b'"x"', b"{", b'{"name": "web", "name": "web"}', b'{"odd": 1}', b'{"name": 1}', b"\xff"]
)
def test_odd_bodies_are_refused(rough: Rough, raw: bytes) -> None:
    refused(rough.world, reader(rough).call("PUT", LOGIN, raw), 400, "malformed_request")


@pytest.mark.parametrize("kind", ["application/json", "application/x-www-form-urlencoded", "text/plain"])
@pytest.mark.parametrize("raw", [b"", b"{}", b'{"name": ""}', b'{"name": null}', b'{"name": "web"}'])
def test_a_login_is_read_whatever_its_media_type(rough: Rough, raw: bytes, kind: str) -> None:
    """Vault's own clients and curl send JSON under several names."""
    answer = reader(rough).call("POST", LOGIN, raw, headers={"Content-Type": kind})
    assert answer.status == 200, answer.body


@pytest.mark.threat("C18")
def test_C18_what_is_given_is_not_cached_and_recorded_once(rough: Rough) -> None:
    visitor = reader(rough)
    token = reader_token(rough)
    for method, path, name in (
        ("POST", LOGIN, "instance:token:create"),
        ("GET", LOOKUP, "instance:token:read"),
        ("GET", STS, "instance:credentials:vend"),
        ("POST", REVOKE, "instance:token:revoke"),
    ):
        answer = ask(visitor, token, method, path)
        assert answer.status in (200, 204)
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"
        if answer.body:
            decisions = rough.world.audit(answer.body["request_id"], kind="decision")
            assert [(record["name"], record["allowed"]) for record in decisions] == [(name, True)]
    (record,) = rough.world.audit(name="instance:token:revoke", allowed=True)[-1:]
    assert record["object"].startswith("token/")


def test_the_native_api_keeps_its_own_words(rough: Rough) -> None:
    """Also to who sends Vault's headers to it; and without them an unknown path is no matter of Vault's."""
    visitor = reader(rough)
    answer = visitor.call("POST", "/v1/credentials", {"grant": "absent"}, headers={"X-Vault-Request": "true"})
    assert (answer.status, answer.code) == (403, "grant_refused")
    assert answer.headers["content-type"] == "application/problem+json"
    assert visitor.call("GET", "/v1/kv/data/x").code == "not_found"
