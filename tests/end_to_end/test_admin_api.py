"""The admin API as a whole, over real sockets: once is once, pages are pages, and no member or filter does more."""

import http.client
import json
import os
import re
import sqlite3
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from deploy.demo.visitor import Answer, Visitor
from tests.end_to_end.people import Crew, crew_fixture, gathered  # noqa: F401  # a fixture
from tests.end_to_end.world import PROFILE, World
from tests.matrix import WHO

ORDER = {"profile": PROFILE}
EVIL = (
    "' OR '1'='1", "'; DROP TABLE instance;--", '" OR ""="', "1 UNION SELECT * FROM signer--", "%", "_", "*", "\\",
    "enrolled' AND 1=1--", "enrolled'/**/OR/**/1=1", "1;SELECT pg_sleep(5)", "a' || 'b", "$ne", '{"$gt":""}', "[]",
    "null", "\x00", "\u202e", "i-0'));--", "CAST(1 AS TEXT)", ":name", "?", "@p", "web\n", " web", "WEB",
)  # fmt: skip


def ticket(visitor: Visitor, key: str | None = None, **order: Any) -> Answer:
    """Order a ticket, maybe under a key."""
    return visitor.call("POST", "/v1/tickets", ORDER | order, headers={"Idempotency-Key": key} if key else {})


def everyones(crew: Crew) -> dict[str, Any]:
    """All that is stored, without the kept answers themselves."""
    return {table: rows for table, rows in crew.world.everything_but_the_log().items() if table != "kept_answer"}


# Once


def test_in_every_worker_and_on_every_connection_the_answer_is_the_same(crew: Crew) -> None:
    operator = crew["operator"]
    first = ticket(operator, "every-worker")
    assert first.status == 201
    for _ in range(12):  # a connection is of one worker
        operator.close()
        again = ticket(operator, "every-worker")
        assert (again.status, again.body) == (201, first.body)
        assert again.headers["idempotent-replayed"] == "true"
    assert len(crew.world.rows("ticket", id=first.body["id"])) == 1
    records = crew.world.audit(name="operator:ticket:create", object=f"ticket/{first.body['id']}")
    assert [record["reason"] for record in records] == ["ok"] + ["answered_again"] * 12
    assert ticket(crew["administrator"], "every-worker").body["id"] != first.body["id"], "another operator's key"


def test_sixteen_at_once_make_one(crew: Crew) -> None:
    """Whoever comes while it is under way is told to wait, and then gets what the others got."""
    found: list[Answer] = []
    start = threading.Barrier(16)

    def order() -> None:
        visitor = crew.world.visitor(crew.world.site.admin)
        visitor.present(crew["operator"].certificate or "", crew["operator"].key)
        visitor.connect()
        start.wait()
        found.append(ticket(visitor, "at-once", life=77))
        visitor.close()

    threads = [threading.Thread(target=order) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    made = {answer.body["id"] for answer in found if answer.status == 201}
    waiting = [answer for answer in found if answer.status != 201]
    assert len(found) == 16
    assert len(made) == 1
    assert all((a.status, a.code, a.headers["retry-after"]) == (409, "conflict", "1") for a in waiting)
    assert ticket(crew["operator"], "at-once", life=77).body["id"] in made
    assert ticket(crew["operator"], "at-once", life=78).code == "idempotency_mismatch"


def test_the_kept_answer_holds_no_ticket_that_anyone_could_read(crew: Crew) -> None:
    answer = ticket(crew["operator"], "sealed")
    (row,) = crew.world.rows("kept_answer", id="the-operator/sealed")
    assert answer.body["ticket"].encode() not in bytes(row["sealed_answer"])
    assert answer.body["ticket"] not in crew.world.site.log.read_text()


@pytest.mark.timeout(120)
def test_a_gateway_that_is_killed_does_nothing_twice(
    own_world: Callable[..., AbstractContextManager[World]],
) -> None:
    """kill -9 at some moment of a change; the same request afterwards, with the same key, as often as it takes."""
    with own_world() as world:
        for number in range(4):
            visitor, key = world.operator(), f"killed-{number}"
            thread = threading.Timer(0.002 * number, world.site.kill)
            thread.start()
            before = _or_none(visitor, key)
            thread.join()
            world.site.start()
            again = ticket(world.operator(), key)
            rows = [row for row in world.audit(name="operator:ticket:create", reason="ok") if row["allowed"]]
            made = len({row["object"] for row in rows}) - number
            assert again.status in (201, 409), again.body
            assert made <= 1
            assert made == 1 or again.body["detail"] == "This very request is under way"
            if before is not None:
                assert again.body == before.body
            if made == 0:  # reserved, and nothing done: another key for another request
                assert ticket(world.operator(), f"{key}-anew").status == 201


def _or_none(visitor: Visitor, key: str) -> Answer | None:
    try:
        return ticket(visitor, key)
    except (OSError, http.client.HTTPException):
        return None


# Lists


def listed(visitor: Visitor, path: str, name: str, limit: int = 2) -> list[Any]:
    """All rows of a list, in small pages."""
    rows: list[Any] = []
    after = ""
    while True:
        join = "&" if "?" in path else "?"
        answer = visitor.call("GET", f"{path}{join}limit={limit}{after}")
        assert answer.status == 200, answer.body
        assert len(answer.body[name]) <= limit
        rows += answer.body[name]
        if answer.body["next"] is None:
            return rows
        after = "&after=" + answer.body["next"]


def test_lists_are_filtered_by_equality(crew: Crew) -> None:
    world, operator = crew.world, crew["operator"]
    batch, visitor = world.enrolled("batch")
    assert visitor.call("POST", "/v1/credentials", {"grant": "payroll"}).status == 200
    revoked, _ = world.enrolled()
    world.site.cli("revoke", "instance", revoked.id)

    def ids(query: str) -> set[str]:
        return {row["instance_id"] for row in listed(operator, f"/v1/instances?{query}", "instances")}

    everyone = {row["instance_id"] for row in world.rows("instance")}
    assert ids("state=enrolled") | ids("state=revoked") == everyone
    assert revoked.id in ids("state=revoked")
    assert revoked.id not in ids("state=enrolled")
    assert ids("profile=batch") == {batch.id}
    assert ids("profile=batch&state=revoked") == ids("account=999999999999") == ids("region=mars-north-1") == set()

    leases = listed(operator, f"/v1/leases?instance={batch.id}&live=true", "leases")
    assert [row["grant"] for row in leases] == ["payroll"]
    assert leases == listed(operator, "/v1/leases?grant=payroll&profile=batch", "leases")
    assert listed(operator, f"/v1/leases?instance={batch.id}&grant=reports", "leases") == []

    tickets = listed(operator, "/v1/tickets?state=redeemed&profile=batch", "tickets")
    assert [row["redeemed_by"].rpartition("/")[2] for row in tickets] == [batch.id]
    certificates = listed(operator, f"/v1/instances/{batch.id}/certificates?state=active", "certificates", 1)
    assert [row["state"] for row in certificates] == ["active"]
    assert listed(operator, f"/v1/instances/{batch.id}/certificates?state=revoked", "certificates") == []


def test_the_lists_of_the_command_line(crew: Crew) -> None:
    world = crew.world
    _, visitor = world.enrolled()
    assert visitor.call("POST", "/v1/credentials", {"grant": "reports"}).status == 200
    (serial,) = {row["profile"] for row in json.loads(world.site.cli("lease", "list", "--profile", PROFILE, "--json"))}
    assert serial == PROFILE
    assert "no such lease" in world.site.cli("lease", "list", "--grant", "absent")
    shown = world.site.cli("ticket", "list", "--state", "redeemed")
    assert "redeemed" in shown
    assert "open" not in shown
    assert "no such instance" in world.site.cli("instance", "list", "--account", "999999999999")
    assert json.loads(world.site.cli("instance", "list", "--profile", PROFILE, "--json"))


def test_no_list_shows_a_secret(crew: Crew) -> None:
    made = ticket(crew["operator"]).body["ticket"]
    for path, name in (("/v1/tickets", "tickets"), ("/v1/leases", "leases"), ("/v1/instances", "instances")):
        rows = listed(crew["administrator"], path, name, 50)
        assert made not in json.dumps(rows)
        assert all(not re.search("sealed|secret|sha256", key) for row in rows for key in row)


@pytest.mark.threat("G13")
def test_G13_a_filter_a_cursor_and_a_path_are_values_and_nothing_else(crew: Crew) -> None:
    world, operator = crew.world, crew["administrator"]
    ticket(operator)
    before, logged = everyones(crew), world.site.log.stat().st_size
    lists = {
        "/v1/instances": ("instances", ("state", "profile", "account", "region")),
        "/v1/tickets": ("tickets", ("state", "profile", "instance_id")),
        "/v1/leases": ("leases", ("instance", "profile", "grant", "live")),
    }
    for path, (name, filters) in lists.items():
        for evil in EVIL:
            for each in filters:
                answer = operator.call("GET", f"{path}?{each}={quote(evil)}")
                assert answer.status in (200, 400, 404), (path, each, evil, answer.body)
                assert answer.status != 200 or answer.body[name] == [], (path, each, evil)
            for each in ("after", "limit", "sort", "order_by", evil):
                answer = operator.call("GET", f"{path}?{quote(each)}={quote(evil)}")
                assert (answer.status, answer.code) == (400, "malformed_request"), (path, each, evil)
    assert listed(operator, "/v1/tickets", "tickets"), "the control"
    assert everyones(crew) == before
    assert "Traceback" not in world.site.log.read_bytes()[logged:].decode()


@pytest.mark.threat("G14")
@pytest.mark.timeout(300)
def test_G14_a_page_is_a_page_however_many_rows_there_are(
    own_world: Callable[..., AbstractContextManager[World]],
) -> None:
    """A hundred thousand instances in every run; a million with `ROWS=1000000`."""
    count = int(os.environ.get("ROWS", "100000"))
    with own_world(workers=1) as world:
        world.enrolled()
        operator = world.operator()
        assert operator.call("GET", "/v1/instances").status == 200
        with sqlite3.connect(world.site.database, timeout=30) as database:
            columns = [row[1] for row in database.execute("PRAGMA table_info(instance)")]
            chosen = ", ".join({"id": "id || '/' || n", "instance_id": "'i-' || n"}.get(name, name) for name in columns)
            database.execute(
                f"WITH RECURSIVE many(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM many WHERE n < {count}) "
                f"INSERT INTO instance SELECT {chosen} FROM (SELECT * FROM instance LIMIT 1), many"
            )
        before = _resident(world.site.pid)
        for query in ("limit=999", "limit=999&state=enrolled", "limit=1&state=revoked"):
            answer = operator.call("GET", f"/v1/instances?{query}")
            assert answer.status == 200
        for _ in range(5):
            answer = operator.call("GET", f"/v1/instances?limit=999&after={_last(operator)}")
            assert len(answer.body["instances"]) == 999
        assert operator.call("GET", "/v1/status").body["instances"]["enrolled"] == count + 1
        assert _resident(world.site.pid) - before < 24 * 1024 * 1024


def _last(operator: Visitor) -> str:
    return str(operator.call("GET", "/v1/instances?limit=999").body["next"])


def _resident(pid: int) -> int:
    """Bytes of the gateway's processes that are in memory, those of the master's children too."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    pages = [int(Path(f"/proc/{each}/statm").read_text().split()[1]) for each in [str(pid), *children]]
    return sum(pages) * os.sysconf("SC_PAGE_SIZE")


# What is not asked for


@pytest.mark.threat("G09")
def test_G09_no_body_takes_a_member_that_it_does_not_name(crew: Crew) -> None:
    """Mass assignment, on every route that takes a body."""
    administrator = crew["administrator"]
    document = administrator.call("GET", "/v1/openapi.json").body
    before, tried = everyones(crew), 0
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if "requestBody" not in operation or "x-permission" not in operation:
                continue
            tried += 1
            schema = operation["requestBody"]["content"]["application/json"]["schema"]
            known = _schema_of(document, schema).get("properties", {})
            assert not {"is_admin", "tenant", "version", "state"} & known.keys() - {"version"}, path
            for extra in ({"is_admin": True}, {"tenant": "other"}, {"state": "active", "created_by": "alice"}):
                body = _example(document, schema) | extra
                answer = administrator.call(method.upper(), re.sub(r"\{\w+\}", "absent", path), body)
                assert answer.status == 400, (method, path, extra, answer.body)
                said = json.dumps(answer.body)
                assert "is not known here" in said or answer.code != "malformed_request", (method, path, said)
    assert tried >= 4
    assert everyones(crew) == before


def _schema_of(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = (
        document["components"]["schemas"][schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
    )
    return found


def _example(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """Values of the right type, at least, for what must be there."""
    found = _schema_of(document, schema)
    samples: dict[str, Any] = {"string": "x", "integer": 1, "boolean": True, "array": [], "object": {}}
    properties = found.get("properties", {})
    return {name: samples.get(properties[name].get("type"), "x") for name in found.get("required", ())}


# Headers


@pytest.mark.threat("C18")
def test_C18_every_answer_says_that_it_is_not_to_be_kept(crew: Crew) -> None:
    seen = set()
    for who in WHO:
        if who == "instance":  # has no handshake
            continue
        for method, path, body in (
            ("GET", "/v1/status", None), ("GET", "/v1/instances?limit=x", None), ("GET", "/v1/nowhere", None),
            ("PATCH", "/v1/status", None), ("POST", "/v1/tickets", ORDER), ("POST", "/v1/tickets", {"profile": "no"}),
            ("GET", "/v1/openapi.json", None), ("GET", f"/v1/profiles/{PROFILE}", None),
        ):  # fmt: skip
            answer = crew[who].call(method, path, body)
            seen.add(answer.status)
            assert answer.headers["cache-control"] == "no-store", (who, path)
            assert answer.headers["x-content-type-options"] == "nosniff", (who, path)
            assert answer.headers.keys().isdisjoint({"server", "set-cookie", "x-powered-by", "location"}), (who, path)
            assert ("etag" in answer.headers) == (path == f"/v1/profiles/{PROFILE}" and answer.status == 200)
    assert {200, 201, 400, 401, 403, 404, 405} <= seen


# Two who edit


@pytest.mark.threat("G18")
def test_G18_two_administrators_edit_one_profile(crew: Crew) -> None:
    path, administrator = f"/v1/profiles/{PROFILE}", crew["administrator"]
    seen = administrator.call("GET", path)
    tag, document = seen.headers["etag"], seen.body["document"]
    mine = {**document, "grants": [{**document["grants"][0], "duration": "30m"}, *document["grants"][1:]]}
    theirs = {**document, "grants": [{**document["grants"][0], "duration": "45m"}, *document["grants"][1:]]}
    first = administrator.call("PUT", path, mine, headers={"If-Match": tag})
    assert first.status == 200
    second = crew.world.operator().call("PUT", path, theirs, headers={"If-Match": tag})
    assert (second.status, second.code) == (412, "precondition_failed")
    assert administrator.call("GET", path).headers["etag"] == first.headers["etag"] != tag
    back = administrator.call("PUT", path, document, headers={"If-Match": first.headers["etag"]})
    assert back.status == 200


# Rates


@pytest.mark.timeout(120)
def test_an_operator_in_a_hurry_waits_and_the_pager_does_not(
    own_world: Callable[..., AbstractContextManager[World]],
) -> None:
    with own_world(workers=1, top={"operator_requests_per_minute": 20}) as world:
        crew = gathered(world)
        found = [crew["operator"].call("GET", "/v1/instances") for _ in range(30)]
        assert {answer.status for answer in found} == {200, 429}
        refused = found[-1]
        assert (refused.code, 1 <= int(refused.headers["retry-after"]) <= 60) == ("too_many_requests", True)
        assert crew["monitor"].call("GET", "/v1/instances").status == 200, "another's rate is another's"
        for _ in range(30):
            answer = crew["operator"].call("POST", "/v1/revocations/instances/i-0?dry_run=true")
            assert (answer.status, answer.code) == (404, "instance_unknown")
