"""The desk of the admin listener, on a real store: what every route does beside its own answer."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from gateway.adapters import clock
from gateway.adapters.throttle import Pace
from gateway.core.approval import ApprovalRules
from gateway.core.audit import Kind, Name
from gateway.core.errors import Refusal
from gateway.flows.admit import Admit
from gateway.flows.approve import Approve
from gateway.flows.identify import Identify
from gateway.flows.once import Once
from gateway.web.admin.app import admin_app
from gateway.web.admin.conditions import expected, tagged
from gateway.web.admin.described import described, with_description
from gateway.web.admin.desk import AdminRoute, Answered, Asked, Desk, DryRun
from gateway.web.admin.pages import Cursors, Page, page
from gateway.web.server.service import Peer
from gateway.wire.strict import text
from tests.end_to_end.bad_input import ROUTES
from tests.gateway.flows.conftest import Gateway
from tests.gateway.flows.conftest import gateway as gateway_fixture  # noqa: F401  # a fixture

ROWS = [f"row-{number:03d}" for number in range(7)]
Call = Callable[..., TestResponse]
NOBODY_ELSE = ApprovalRules()
PATHS = ("name/<name>", "id/<id>", "serial/<serial>", "named/<path:named>", "grant/<profile>/<grant>", "odd/<odd>")


@dataclass(frozen=True, slots=True)
class Colour(Page):
    """A list with a filter."""

    colour: str | None = text(default=None)


@dataclass(frozen=True, slots=True)
class Wanted:
    """A body."""

    name: str = text(pattern="[a-z]+")


class Shop:
    """Routes to try the desk with."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.made: list[str] = []
        self.version = 3

    def list(self, asked: Asked) -> Mapping[str, Any]:
        self.gateway.journal.allow(asked.call, **asked.query.filters)
        after, limit = asked.query.after or "", int(asked.query.limit)
        return page("rows", [row for row in ROWS if row > after][:limit], limit, str, str)

    def make(self, asked: Asked) -> Answered:
        if asked.body.name == "no":
            raise Refusal("profile_unknown")
        self.gateway.journal.write(asked.call, lambda tx: tx.audit.append(asked.call.event(Kind.DECISION)))
        self.made.append(asked.body.name)
        return Answered({"made": len(self.made)}, headers={"X-Made": "yes"})

    def change(self, asked: Asked) -> Answered:
        expected().demand(self.version)
        self.gateway.journal.allow(asked.call)
        self.version += 1
        return tagged({}, self.version)

    def turn(self, asked: Asked) -> Mapping[str, Any]:
        self.gateway.journal.allow(asked.call)
        return {"turned": self.version}

    @property
    def routes(self) -> tuple[AdminRoute, ...]:
        return (
            AdminRoute("GET", "/v1/rows", "Rows", Name.OPERATOR_INSTANCE_LIST, self.list, query=Colour),
            AdminRoute("GET", "/v1/others", "Rows", Name.OPERATOR_INSTANCE_LIST, self.list, query=Colour),
            AdminRoute("POST", "/v1/rows", "A row", Name.OPERATOR_TICKET_CREATE, self.make, asks=Wanted, status=201),
            AdminRoute("PUT", "/v1/rows/<name>", "A row", Name.OPERATOR_PROFILE_APPLY, self.change, tagged=True),
            AdminRoute("POST", "/v1/cut", "Off", Name.OPERATOR_INSTANCE_REVOKE, self.change),
            AdminRoute("POST", "/v1/turn/<name>", "Turn", Name.OPERATOR_KEY_ROTATE, self.turn, query=DryRun),
            AdminRoute("GET", "/v1/turn/<name>/<id>", "Far?", Name.OPERATOR_KEY_ROTATE, self.turn, follows=True),
            AdminRoute("GET", "/v1/all", "All of it", Name.OPERATOR_AUDIT_EXPORT, self.turn),
            *(AdminRoute("POST", f"/v1/{each}", "Cut", Name.OPERATOR_KEY_DISABLE, self.turn) for each in PATHS),
        )


@pytest.fixture
def shop(gateway_fixture: Gateway) -> Shop:  # noqa: F811  # that fixture
    return Shop(gateway_fixture)


def client(shop: Shop, per_minute: int = 1000, rules: ApprovalRules = NOBODY_ELSE) -> FlaskClient:
    gateway = shop.gateway
    store, journal, time = gateway.store, gateway.journal, gateway.time
    desk = Desk(
        journal,
        Admit(store, Identify(store, time), time),
        Approve(store, journal, time, clock.random_bytes, rules),
        Once(store, journal, gateway.vault, time),
        Pace(per_minute, clock.now),
        Cursors(gateway.vault.derive("cursor")),
    )
    return admin_app(journal, desk, with_description(journal, shop.routes)).test_client()


@pytest.fixture
def call(shop: Shop) -> Call:
    return calling(shop, client(shop))


def calling(shop: Shop, at: FlaskClient) -> Call:
    """Asks as alice, the administrator."""
    with shop.gateway.store.read() as tx:
        (certificate,) = tx.certificates.find(kind="operator")

    def ask(method: str, path: str, body: Any = None, **headers: str) -> TestResponse:
        environment = {
            "trusted_gateway.peer": Peer("127.0.0.1", 1, certificate.der),
            "trusted_gateway.request_id": clock.request_id(),
        }
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return at.open(path, method=method, json=body, headers=named, environ_overrides=environment)

    return ask


def code(response: TestResponse) -> str:
    return f"{response.status_code} {(response.json or {}).get('code', '')}".strip()


def decisions(shop: Shop) -> list[tuple[str, bool, str]]:
    records = shop.gateway.records()
    return [(row["name"], row["allowed"], row["reason"]) for row in records if row["kind"] == "decision"][2:]


# Pages


def test_pages_follow_one_another_to_the_end(call: Call) -> None:
    seen: list[str] = []
    path = "/v1/rows?limit=3"
    while path:
        found = call("GET", path).json
        assert found is not None
        assert len(found["rows"]) <= 3
        seen += found["rows"]
        path = f"/v1/rows?limit=3&after={found['next']}" if found["next"] else ""
    assert seen == ROWS


@pytest.mark.threat("G14")
def test_G14_a_cursor_is_good_for_its_own_list_and_filters_only(call: Call) -> None:
    found = call("GET", "/v1/rows?limit=3&colour=red").json
    assert found is not None
    cursor = found["next"]
    assert "row-002" not in cursor
    assert call("GET", f"/v1/rows?limit=2&colour=red&after={cursor}").status_code == 200, "the control"
    for other in ("/v1/rows?after=", "/v1/rows?colour=blue&after=", "/v1/others?colour=red&after="):
        assert code(call("GET", other + cursor)) == "400 malformed_request", other


@pytest.mark.threat("G14", "G13")
def test_G14_a_tampered_cursor_is_refused(call: Call) -> None:
    found = call("GET", "/v1/rows?limit=3").json
    assert found is not None
    cursor = found["next"]
    changed = [cursor[:at] + ("A" if cursor[at] != "A" else "B") + cursor[at + 1 :] for at in range(len(cursor))]
    other = ["", "x", "row-002", cursor + "=", cursor + "A", cursor[:-1], cursor.swapcase(), "'%20or%201=1--", "%00"]
    for each in [*changed, *other, "A" * 1024, "A" * 1025, "é", cursor + "&after=" + cursor]:
        assert code(call("GET", f"/v1/rows?after={each}")) == "400 malformed_request", each


@pytest.mark.threat("G14")
@pytest.mark.parametrize("limit", ["-1", "0", "1000000000", "1000", "", "1.0", "0x1", "1e1", "%EF%BC%91", "01"])
def test_G14_a_limit_is_from_1_to_999(call: Call, limit: str) -> None:
    assert code(call("GET", f"/v1/rows?limit={limit}")) == "400 malformed_request"
    assert call("GET", "/v1/rows?limit=999").status_code == 200


# Idempotency


def test_the_same_key_gets_the_same_answer_headers_and_status(shop: Shop, call: Call) -> None:
    first = call("POST", "/v1/rows", {"name": "a"}, Idempotency_Key="k")
    again = call("POST", "/v1/rows", {"name": "a"}, Idempotency_Key="k")
    assert (first.status_code, first.json) == (again.status_code, again.json) == (201, {"made": 1})
    assert again.headers["X-Made"] == first.headers["X-Made"] == "yes"
    assert "Idempotent-Replayed" not in first.headers
    assert again.headers["Idempotent-Replayed"] == "true"
    assert call("POST", "/v1/rows", {"name": "a"}).json == {"made": 2}, "the control: without a key"
    assert decisions(shop) == [
        ("operator:ticket:create", True, "ok"),
        ("operator:ticket:create", True, "answered_again"),
        ("operator:ticket:create", True, "ok"),
    ]


def test_another_request_under_the_key_is_422(shop: Shop, call: Call) -> None:
    call("POST", "/v1/rows", {"name": "a"}, Idempotency_Key="k")
    for method, path, body, more in (
        ("POST", "/v1/rows", {"name": "b"}, {}),
        ("PUT", "/v1/rows/a", None, {}),
        ("POST", "/v1/rows", {"name": "a"}, {"If-Match": '"1"'}),
    ):
        assert code(call(method, path, body, Idempotency_Key="k", **more)) == "422 idempotency_mismatch"
    assert shop.made == ["a"]


def test_a_refusal_leaves_the_key_free(shop: Shop, call: Call) -> None:
    assert code(call("POST", "/v1/rows", {"name": "no"}, Idempotency_Key="k")) == "404 profile_unknown"
    assert call("POST", "/v1/rows", {"name": "yes"}, Idempotency_Key="k").status_code == 201


@pytest.mark.parametrize("key", ["", "x" * 129, "a b", "a,b", "é", "\x7f"])
def test_a_key_that_is_none_is_refused(shop: Shop, call: Call, key: str) -> None:
    assert code(call("POST", "/v1/rows", {"name": "a"}, Idempotency_Key=key)) == "400 malformed_request"
    assert shop.made == []
    assert call("POST", "/v1/rows", {"name": "a"}, Idempotency_Key="x" * 128).status_code == 201


def test_who_lost_the_permission_is_not_answered_again(shop: Shop, call: Call) -> None:
    call("POST", "/v1/rows", {"name": "a"}, Idempotency_Key="k")
    with shop.gateway.store.read() as tx:
        alice = tx.operators.get(name="alice")
    assert alice is not None
    less = replace(alice, document={"roles": ["monitor"]})
    assert shop.gateway.store.write(lambda tx: tx.operators.swap(alice, less))
    assert code(call("POST", "/v1/rows", {"name": "a"}, Idempotency_Key="k")) == "403 operator_forbidden"


# Entity tags


@pytest.mark.threat("G18")
def test_G18_the_second_of_two_who_edit_is_refused(shop: Shop, call: Call) -> None:
    first = call("PUT", "/v1/rows/a", **{"If-Match": '"3"'})
    assert (first.status_code, first.headers["ETag"]) == (200, '"4"')
    assert code(call("PUT", "/v1/rows/a", **{"If-Match": '"3"'})) == "412 precondition_failed"
    assert shop.version == 4
    assert call("PUT", "/v1/rows/a", **{"If-Match": '"3", "4"'}).headers["ETag"] == '"5"'


# Rates


def test_who_asks_too_often_waits_and_cuts_off_all_the_same(shop: Shop) -> None:
    call = calling(shop, client(shop, per_minute=3))
    assert [call("GET", "/v1/rows").status_code for _ in range(4)] == [200, 200, 200, 429]
    refused = call("GET", "/v1/rows")
    assert code(refused) == "429 too_many_requests"
    assert 1 <= int(refused.headers["Retry-After"]) <= 60
    assert decisions(shop)[-1] == ("operator:instance:list", False, "too_many_requests")
    assert [call("POST", "/v1/cut").status_code for _ in range(5)] == [200] * 5


def test_what_the_pager_may_do_is_never_slowed_down() -> None:
    def urgent(name: Name) -> bool:
        return AdminRoute("POST", "/", "", name, lambda _: {}).urgent

    assert all(urgent(name) for name in Name if name.startswith("operator:") and name.endswith(":revoke"))
    assert urgent(Name.OPERATOR_KEY_DISABLE)
    assert not urgent(Name.OPERATOR_TICKET_CREATE)


# A second person


@pytest.fixture
def two(shop: Shop) -> Call:
    """Asks where two people are needed."""
    return calling(shop, client(shop, rules=ApprovalRules(2, ("operator:key:*", "operator:audit:*"))))


def waiting(shop: Shop) -> list[str]:
    """The paths of the requests that wait for somebody."""
    with shop.gateway.store.read() as tx:
        return [row.object for row in tx.approvals.find()]


@pytest.mark.threat("G11")
def test_G11_a_change_waits_and_a_try_and_a_look_at_how_far_it_is_do_not(shop: Shop, two: Call) -> None:
    id_ = "ap-0000000000000000"  # of the change; with a look it is nothing, and is not spent
    assert two("POST", "/v1/turn/main?dry_run=true").status_code == 200
    assert two("POST", "/v1/turn/main?dry_run=true", Approval=id_, Idempotency_Key="k").status_code == 200
    assert two("GET", "/v1/turn/main/1f").status_code == 200
    assert two("GET", "/v1/turn/main/1f", Approval=id_).status_code == 200
    assert waiting(shop) == []
    for path in ("/v1/turn/main", "/v1/turn/main?dry_run=false"):
        assert two("POST", path).status_code == 202, "the control"
    assert two("GET", "/v1/all").status_code == 202, "a GET may well give something away"
    assert code(two("POST", "/v1/turn/main", Approval=id_)) == "403 approval_refused"
    assert sorted(waiting(shop)) == ["/v1/all", "/v1/turn/main", "/v1/turn/main"]


NAMED = (
    "name/main", "id/t-0123456789ab", "id/" + "0123456789abcdef" * 2, "id/r-20261123t053410-9c1d0a2f",
    "id/ASIA5FA869796A7B41AA", "serial/7f", "serial/00:AB:cd", "serial/" + "f" * 40,
    "serial/anchor:plant:1f:0123456789abcdef", "named/i-18711e66f3a326768", "named/build-1.internal",
    "named/aws/111122223333/eu-central-1/i-18711e66f3a326768", "named/anchor/plant/Machine_7.Hall",
    "grant/web/reports",
)  # fmt: skip
SECRET = "wJalrXUtnFEMIxK7MDENGxbPxRfiCYEXAMPLEKEY"
TICKET = "0123456789abcdef" * 3


@pytest.mark.threat("G11")
@pytest.mark.parametrize("path", NAMED)
def test_what_there_is_can_be_asked_for(shop: Shop, two: Call, path: str) -> None:
    assert two("POST", f"/v1/{path}").status_code == 202
    assert waiting(shop) == [f"/v1/{path}"]


@pytest.mark.threat("I05")
@pytest.mark.parametrize(
    "path",
    [
        *(f"{kind}/{SECRET}" for kind in ("name", "id", "serial", "named", "odd", "grant/web")),
        *(f"{kind}/{TICKET}" for kind in ("id", "serial", "named")),
        f"grant/{SECRET}/reports", f"named/aws/111122223333/eu-central-1/{SECRET}", "named/anchor/plant/" + SECRET * 2,
        "named/a/b", "id/AKIA", "name/Main", "name/main%0A",
    ],
)  # fmt: skip
def test_I05_what_can_be_no_name_is_not_kept_for_others_to_see(shop: Shop, call: Call, two: Call, path: str) -> None:
    refused = two("POST", f"/v1/{path}", Idempotency_Key="k")
    assert code(refused) == "400 malformed_request"
    record = shop.gateway.records()[-1]
    assert (record["allowed"], record["reason"]) == (False, "malformed_request")
    for each in (SECRET, TICKET):
        assert each not in refused.get_data(as_text=True) + str(record)
    assert waiting(shop) == []
    with shop.gateway.store.read() as tx:
        assert tx.answers.find() == []
    assert call("POST", f"/v1/{path}").status_code == 200, "the control: where nobody is asked, the route decides"


def test_every_variable_of_a_path_has_a_form() -> None:
    """Of a new one it would be that of a name."""
    rules = [route.rule for route in ROUTES if route.listener == "admin"]
    variables = {each for rule in rules for each in re.findall(r"<(?:\w+:)?(\w+)>", rule)}
    assert variables == {"id", "serial", "named", "name", "profile", "grant"}


# The document


def test_it_describes_itself_and_every_other_route(shop: Shop, call: Call) -> None:
    found = call("GET", "/v1/openapi.json").json
    assert found is not None
    operations = {(method.upper(), path) for path, methods in found["paths"].items() for method in methods}
    assert operations == {(each.method, described(each).path) for each in shop.routes} | {("GET", "/v1/openapi.json")}
    made = found["paths"]["/v1/rows"]["post"]
    assert made["x-permission"] == "operator:ticket:create"
    assert {each["name"] for each in made["parameters"]} == {"Idempotency-Key", "Approval"}
    assert {"201", "202", "409", "422", "429"} <= made["responses"].keys()
    listed = found["paths"]["/v1/rows"]["get"]
    assert {each["name"] for each in listed["parameters"]} == {"after", "limit", "colour"}
    assert "429" not in found["paths"]["/v1/cut"]["post"]["responses"]
    changed = found["paths"]["/v1/rows/{name}"]["put"]
    assert "ETag" in changed["responses"]["200"]["headers"]
    assert decisions(shop)[-1] == ("operator:api:read", True, "ok")


def test_time_does_not_pass_for_a_cursor(shop: Shop, call: Call) -> None:
    """The same list, the same cursor: whoever stopped yesterday goes on today."""
    found = call("GET", "/v1/rows?limit=3").json
    shop.gateway.time.passes(timedelta(hours=1))
    again = call("GET", "/v1/rows?limit=3").json
    assert found == again
