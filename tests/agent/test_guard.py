"""The guard: what AWS clients send passes, everything else is refused."""

from email.message import Message

import pytest

from agent.serve import guard
from agent.serve.guard import Refused
from agent.settings import Address
from gateway.wire.secret import Secret

HOSTS = guard.hosts(Address("127.0.0.1", 9911))


def head(*pairs: tuple[str, str]) -> Message:
    message = Message()
    for name, value in pairs:
        message[name] = value
    return message


GOOD = ("Host", "127.0.0.1:9911")


@pytest.mark.parametrize(
    "headers",
    [
        head(GOOD),
        head(("host", "localhost:9911")),
        head(("Host", "LOCALHOST:9911")),
        head(GOOD, ("Content-Length", "0")),
        head(GOOD, ("Accept", "application/json"), ("User-Agent", "Botocore/1.44"), ("Accept-Encoding", "identity")),
    ],
)
def test_what_clients_send_passes(headers: Message) -> None:
    guard.check_head("GET", headers, HOSTS)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (head(), 403),
        (head(("Host", "127.0.0.1")), 403),
        (head(("Host", "127.0.0.1:80")), 403),
        (head(("Host", "evil.example:9911")), 403),
        (head(("Host", "127.0.0.1:9911.evil.example")), 403),
        (head(("Host", "127.0.0.1:9911 ")), 403),
        (head(("Host", "[::1]:9911")), 403),
        (head(("Host", "0177.0.0.1:9911")), 403),
        (head(GOOD, GOOD), 403),
        (head(GOOD, ("Host", "evil.example")), 403),
        (head(GOOD, ("Origin", "null")), 403),
        (head(GOOD, ("origin", "http://127.0.0.1:9911")), 403),
        (head(GOOD, ("Sec-Fetch-Mode", "cors")), 403),
        (head(GOOD, ("sec-fetch-site", "none")), 403),
        (head(GOOD, ("X-Forwarded-For", "10.0.0.1")), 403),
        (head(GOOD, ("x-forwarded-for", "")), 403),
        (head(GOOD, ("Forwarded", "for=10.0.0.1")), 403),
        (head(GOOD, ("Via", "1.1 proxy")), 403),
        (head(GOOD, ("Content-Length", "5")), 400),
        (head(GOOD, ("Content-Length", "0"), ("Content-Length", "5")), 400),
        (head(GOOD, ("Content-Length", "+0")), 400),
        (head(GOOD, ("Transfer-Encoding", "chunked")), 400),
        (head(GOOD, ("Transfer-Encoding", "")), 400),
    ],
)
def test_what_they_do_not_send_is_refused(headers: Message, status: int) -> None:
    with pytest.raises(Refused) as told:
        guard.check_head("GET", headers, HOSTS)
    assert told.value.status == status


@pytest.mark.parametrize("method", ["POST", "PUT", "HEAD", "OPTIONS", "DELETE", "get", "TRACE", "CONNECT", ""])
def test_only_get(method: str) -> None:
    with pytest.raises(Refused) as told:
        guard.check_head(method, head(GOOD), HOSTS)
    assert told.value.status == 405


def test_an_ipv6_listener_has_its_own_hosts() -> None:
    assert guard.hosts(Address("::1", 9911)) == {"[::1]:9911", "localhost:9911"}


def test_the_path_of_a_grant() -> None:
    assert guard.grant_of("/v1/credentials/app-1") == "app-1"


@pytest.mark.parametrize(
    "target",
    [
        "/", "/v1/credentials", "/v1/credentials/", "/v1/credentials/app/", "//v1/credentials/app",
        "/v1//credentials/app", "/v1/credentials/app?", "/v1/credentials/app?x=1", "/v1/credentials/app#",
        "/v1/credentials/../credentials/app", "/v1/credentials/%61pp", "/v1/credentials/app%00", "/v1/credentials/APP",
        "/v1/credentials/-app", "/v1/credentials/a_b", "/V1/credentials/app", "/v1/credentials/app\n", "*",
        "http://127.0.0.1:9911/v1/credentials/app", "/v1/credentials/" + "a" * 64,
    ],
)  # fmt: skip
def test_no_other_path_is_one(target: str) -> None:
    assert guard.grant_of(target) is None


TOKEN = "t" * 43


def test_the_token_passes() -> None:
    guard.check_token(head(("Authorization", TOKEN)), [Secret("other"), Secret(TOKEN)])


@pytest.mark.parametrize(
    "headers",
    [
        head(),
        head(("Authorization", "")),
        head(("Authorization", TOKEN[:-1])),
        head(("Authorization", TOKEN + "x")),
        head(("Authorization", "Bearer " + TOKEN)),
        head(("Authorization", TOKEN), ("Authorization", TOKEN)),
        head(("Authorization", "\u00ff" * 43)),
        head(("X-Authorization", TOKEN)),
    ],
)
def test_anything_else_does_not(headers: Message) -> None:
    with pytest.raises(Refused) as told:
        guard.check_token(headers, [Secret(TOKEN)])
    assert told.value.status == 401
    assert TOKEN[:-1] not in str(told.value)


@pytest.mark.parametrize("shown", ["", TOKEN, "\0" * 43])
def test_without_a_token_to_compare_with_nothing_passes(shown: str) -> None:
    with pytest.raises(Refused):
        guard.check_token(head(("Authorization", shown)), [])
