"""Which requests are taken: laws, over requests of any form."""

from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.calls import admit
from agent.calls.admit import Head
from agent.calls.dummy import Dummies
from agent.errors import Fault
from agent.settings import Address
from gateway.wire import sigv4
from gateway.wire.sigv4 import Scope
from tests.agent.conftest import WORLD

HERE = Address("127.0.0.1", 9913)
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
STAMP = "20261123T120000Z"
NOTHING = sha256(b"").hexdigest()

DUMMIES = Dummies(WORLD)
DUMMIES.offer({"app": ("sign",)})
DUMMIES.register("client", lambda _: None)
DUMMY = DUMMIES.of("app")

letters = st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters='?#%<>\\^`{|}"'), max_size=20)
escapes = st.sampled_from(["%20", "%2F", "%C3%BC", "%25", "//", "/./", "/../", "+", ""])
paths = st.builds(lambda *parts: "/" + "".join(parts), letters, escapes, letters)
queries = st.sampled_from(["", "acl", "list-type=2&prefix=a%2Fb", "x=%20+&y=", "versionId=1", "a&b&a"])
values = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20).map(str.strip)


def lent() -> tuple[str, bytes, str]:
    with DUMMY.secret as secret, DUMMY.token as token:
        return DUMMY.access_key_id, secret, token.decode()


def signed(method: str, target: str, headers: dict[str, str], service: str = "s3", payload: str = NOTHING) -> Head:
    key, secret, token = lent()
    fields = sigv4.sign(
        method, target, [("host", str(HERE)), *headers.items()], payload,
        access_key_id=key, secret=secret, token=token, scope=Scope("20261123", "eu-central-1", service), stamp=STAMP,
    )  # fmt: skip
    return Head(method, target, fields, 0, False)


def presigned(target: str, expires: int = 60) -> Head:
    key, secret, token = lent()
    made = sigv4.presign(
        "GET", target, str(HERE), access_key_id=key, secret=secret, token=token,
        scope=Scope("20261123", "eu-central-1", "s3"), stamp=STAMP, expires=expires,
    )  # fmt: skip
    return Head("GET", made, (("host", str(HERE)),), 0, False)


def taken(head: Head, now: datetime = NOW) -> tuple[str, tuple[tuple[str, str], ...]]:
    claim = admit.claim(head, HERE, DUMMIES.find, now)
    admit.verify(claim, claim.payload or NOTHING)
    return admit.onward(claim)


@given(st.sampled_from(["GET", "PUT", "DELETE"]), paths, queries, st.dictionaries(st.just("x-amz-meta-a"), values))
def test_what_is_signed_is_taken_and_goes_on_to_the_letter(
    method: str, path: str, query: str, headers: dict[str, str]
) -> None:
    target = f"{path}?{query}" if query else path
    on, fields = taken(signed(method, target, headers))
    assert on == target
    named = dict(fields)
    assert named["host"] == str(HERE)
    assert {name: named[name] for name in headers} == headers
    assert not {"authorization", "x-amz-date", "x-amz-security-token"} & named.keys()


@given(paths, queries, st.integers(0, 400), st.integers(1, 255))
def test_control_nothing_else_is_taken(path: str, query: str, at: int, by: int) -> None:
    """One letter of the target or of a signed header is another one."""
    head = signed("GET", f"{path}?{query}" if query else path, {"x-amz-meta-a": "value"})
    parts = [head.target, *(value for _, value in head.headers)]
    which = at % len(parts)
    place = at % len(parts[which])
    letter = chr(33 + (ord(parts[which][place]) - 33 + by % 94) % 94)
    if letter == parts[which][place]:
        return
    parts[which] = parts[which][:place] + letter + parts[which][place + 1 :]
    names = [name for name, _ in head.headers]
    other = Head("GET", parts[0], tuple(zip(names, parts[1:], strict=True)), 0, False)
    if sigv4_equal(head, other):
        return
    with pytest.raises(Fault):
        taken(other)


def sigv4_equal(one: Head, other: Head) -> bool:
    """Whether two requests have one canonical form: AWS itself takes the one for the other."""

    def canonical(head: Head) -> Any:
        try:
            said = sigv4.parse_authorization(head.method, head.target, head.headers)
            return said, sigv4.canonical_request("GET", head.target, head.headers, said.signed_headers, NOTHING, "s3")
        except ValueError as error:
            return id(error)

    return bool(canonical(one) == canonical(other))


@given(paths, queries)
def test_a_presigned_url_goes_on_without_its_signature(path: str, query: str) -> None:
    target = f"{path}?{query}" if query else path
    assert taken(presigned(target)) == (target, (("host", str(HERE)),))


@pytest.mark.parametrize(("seconds", "good"), [(0, True), (60, True), (61, False), (-899, True), (-901, False)])
def test_a_presigned_url_lives_as_long_as_it_says(seconds: int, good: bool) -> None:
    now = datetime.fromtimestamp(NOW.timestamp() + seconds, UTC)
    head = presigned("/b/k")
    if good:
        assert taken(head, now)
    else:
        with pytest.raises(Fault):
            taken(head, now)


@pytest.mark.parametrize(
    ("host", "target"),
    [
        ("127.0.0.1:9913", "/k?x"),
        ("localhost:9913", "/k?x"),
        ("LOCALHOST:9913", "/k?x"),
        ("bucket.localhost:9913", "/bucket/k?x"),
        ("a.b-c.localhost:9913", "/a.b-c/k?x"),
        ("127.0.0.1", None),
        ("127.0.0.1:9914", None),
        ("bucket.localhost:9914", None),
        ("bucket.evil.example:9913", None),
        ("localhost:9913.evil.example", None),
        ("-.localhost:9913", None),
        ("", None),
    ],
)
def test_the_host_is_this_one_with_a_bucket_before_it_or_not(host: str, target: str | None) -> None:
    head = signed("GET", "/k?x", {})
    headers = tuple((name, host if name == "host" else value) for name, value in head.headers)
    key, secret, token = lent()
    again = sigv4.sign(
        "GET", "/k?x", [field for field in headers if field[0] != "authorization"], NOTHING,
        access_key_id=key, secret=secret, token=token, scope=Scope("20261123", "eu-central-1", "s3"), stamp=STAMP,
    )  # fmt: skip
    if target is None:
        with pytest.raises(Fault, match="names another server"):
            taken(Head("GET", "/k?x", again, 0, False))
    else:
        on, fields = taken(Head("GET", "/k?x", again, 0, False))
        assert (on, dict(fields)["host"].count("bucket")) == (target, 0)


def test_a_bucket_before_the_host_is_for_s3_alone() -> None:
    head = signed("GET", "/", {}, "sqs")
    fields = tuple((name, "bucket.localhost:9913" if name == "host" else value) for name, value in head.headers)
    with pytest.raises(Fault, match="Only a bucket"):
        taken(Head("GET", "/", fields, 0, False))


def test_headers_in_a_presigned_query_are_headers_and_never_twice() -> None:
    head = presigned("/b/k?x-amz-acl=private&versionId=1&X-Amz-Meta-A=b%20c")
    on, fields = taken(head)
    assert on == "/b/k?versionId=1"
    assert set(fields) == {("host", str(HERE)), ("x-amz-acl", "private"), ("x-amz-meta-a", "b c")}
    twice = Head("GET", head.target, (*head.headers, ("x-amz-acl", "public-read")), 0, False)
    with pytest.raises(Fault):
        taken(twice)
