"""Whom a token's claims name: to the letter of the mapping, or nobody."""

import base64
import json
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.errors import Refusal
from gateway.core.operator_model import Operator, OperatorState
from gateway.core.sign_in import Person, Provider, account, admitted, person, signs_in, used

NOW = datetime(2030, 1, 1, 12, 0, 0, 250_000, tzinfo=UTC)
AT = int(NOW.timestamp())
PROVIDER = Provider(
    issuer="https://login.example", audience="gateway", client_id=None, scopes="openid", ca=None,
    name_claim="preferred_username", name_suffix="", roles_claim="groups",
    roles={"admins": "administrator", "pager": "revoker", "boss": "administrator"},
    life=timedelta(hours=1), max_age=timedelta(hours=1),
)  # fmt: skip
CLAIMS: dict[str, Any] = {
    "sub": "s-1",
    "iat": AT - 5,
    "exp": AT + 600,
    "preferred_username": "anne",
    "groups": ["admins"],
}


def refused(claims: dict[str, Any], provider: Provider = PROVIDER) -> str:
    with pytest.raises(Refusal) as caught:
        person(provider, claims, NOW)
    assert (caught.value.code, caught.value.detail, caught.value.context) == ("sign_in_refused", None, {})
    return caught.value.reason


def test_whom_the_claims_name() -> None:
    found = person(PROVIDER, CLAIMS | {"groups": ["boss", "admins", "unknown", "pager"]}, NOW)
    identity = {"issuer": "https://login.example", "subject": "s-1"}
    assert found == Person("anne", identity, ("administrator", "revoker"), timedelta(seconds=600))


@pytest.mark.parametrize(("exp", "life"), [(AT + 86400, 3600), (AT + 3600, 3600), (AT + 31, 31), (AT + 90.9, 90)])
def test_a_certificate_lives_no_longer_than_its_token_and_no_longer_than_an_hour(exp: float, life: int) -> None:
    assert person(PROVIDER, CLAIMS | {"exp": exp}, NOW).life == timedelta(seconds=life)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"exp": AT + 29}, "token_expired"),
        ({"exp": AT - 10}, "token_expired"),
        ({"iat": AT - 3601}, "token_too_old"),
        ({"iat": -(10**400)}, "token_too_old"),
        ({"sub": ""}, "token_sub"),
        ({"sub": "s" * 256}, "token_sub"),
        ({"sub": 7}, "token_sub"),
        ({"events": {"http://schemas.openid.net/event/backchannel-logout": {}}}, "token_kind"),
        ({"groups": "admins"}, "roles_malformed"),
        ({"groups": {"admins": True}}, "roles_malformed"),
        ({"groups": ["admins", 1]}, "roles_malformed"),
        ({"groups": None}, "roles_malformed"),
    ],
)
def test_claims_that_name_nobody(changed: dict[str, Any], reason: str) -> None:
    assert refused(CLAIMS | changed) == reason


# G06: names that look alike are not one name, and never another's
ODD_NAMES = [
    "Anne", "ANNE", " anne", "anne ", "anne\n", "anne\0", "ａnne", "anne\u200b", "аnne", "anné", "../anne", "anne/..",
    "a/nne", "anne@example.com", "-anne", "anne-", "", "a" * 64, "anne\u2028", "an ne", "anne%00", None, 7, ["anne"],
    {"anne": 1}, True,
]  # fmt: skip


@pytest.mark.threat("G06", "G09")
@pytest.mark.parametrize("name", ODD_NAMES)
def test_G06_a_name_is_taken_to_the_letter_or_not_at_all(name: object) -> None:
    assert refused(CLAIMS | {"preferred_username": name}) == "name_unusable"


def test_the_name_self_is_nobodys() -> None:
    """In a path it is whoever asks."""
    assert refused(CLAIMS | {"preferred_username": "self"}) == "name_unusable"
    assert person(PROVIDER, CLAIMS | {"preferred_username": "selfs"}, NOW).name == "selfs"


def test_a_name_that_is_missing_is_nobodys() -> None:
    assert refused({name: value for name, value in CLAIMS.items() if name != "preferred_username"}) == "name_unusable"


def test_a_suffix_is_taken_off_once_and_demanded() -> None:
    provider = replace(PROVIDER, name_claim="upn", name_suffix="@example.com")
    assert person(provider, CLAIMS | {"upn": "anne@example.com"}, NOW).name == "anne"
    for odd in ("anne", "anne@evil.com", "anne@example.com.evil", "anne@EXAMPLE.com", "anne@example.com@example.com"):
        assert refused(CLAIMS | {"upn": odd}, provider) == "name_unusable"


@pytest.mark.parametrize("verified", [None, False, "true", 1])
def test_an_address_that_the_provider_did_not_verify_is_no_name(verified: object) -> None:
    provider = replace(PROVIDER, name_claim="email", name_suffix="@example.com")
    claims = CLAIMS | {"email": "anne@example.com", "email_verified": verified}
    assert refused(claims, provider) == "email_unverified"
    assert person(provider, claims | {"email_verified": True}, NOW).name == "anne"


# Against what the store knows


ANNE = person(PROVIDER, CLAIMS, NOW)
KNOWN = Operator(
    "anne", {"roles": ["administrator"], "identity": dict(ANNE.identity)}, 3, OperatorState.ACTIVE, NOW, ""
)


def yes(_: str) -> bool:
    return True


def reason(person: Person, found: Operator | None) -> str:
    with pytest.raises(Refusal) as caught:
        admitted(person, found, yes, NOW)
    assert (caught.value.code, caught.value.detail) == ("sign_in_refused", None)
    return caught.value.reason


def test_the_first_sign_in_makes_the_operator() -> None:
    made = admitted(ANNE, None, yes, NOW)
    assert made.document == {"roles": ["administrator"], "identity": ANNE.identity}
    assert (made.version, made.state, signs_in(made)) == (1, OperatorState.ACTIVE, True)


def test_the_same_roles_change_nothing() -> None:
    assert admitted(ANNE, KNOWN, yes, NOW) is KNOWN


def test_roles_follow_the_provider_and_conditions_stay() -> None:
    before = replace(KNOWN, document={**KNOWN.document, "hours": ["mon-fri 08:00-18:00 UTC"]})
    after = admitted(replace(ANNE, roles=("revoker",)), before, yes, NOW)
    assert after == replace(before, document={**before.document, "roles": ["revoker"]}, version=4)
    assert admitted(replace(ANNE, roles=()), before, yes, NOW).document["roles"] == []


def test_a_role_that_is_not_there_is_not_given() -> None:
    assert admitted(replace(ANNE, roles=("gone", "revoker")), None, lambda r: r == "revoker", NOW).document[
        "roles"
    ] == ["revoker"]
    with pytest.raises(Refusal):
        admitted(ANNE, None, lambda _: False, NOW)


def test_who_has_no_role_is_not_made() -> None:
    assert reason(replace(ANNE, roles=()), None) == "roles_missing"


@pytest.mark.parametrize(
    "document",
    [
        {"roles": ["administrator"]},  # a certificate operator
        {"roles": ["administrator"], "identity": None},
        {"roles": ["administrator"], "identity": {"issuer": "https://login.example", "subject": "s-2"}},
        {"roles": ["administrator"], "identity": {"issuer": "https://other.example", "subject": "s-1"}},
    ],
)
def test_a_token_never_takes_a_name_over(document: dict[str, Any]) -> None:
    assert reason(ANNE, replace(KNOWN, document=document)) == "name_taken"


def test_a_revoked_operator_does_not_come_back() -> None:
    assert reason(ANNE, replace(KNOWN, state=OperatorState.REVOKED)) == "operator_revoked"


# What is remembered of a token, and whose account it counts for


def test_a_token_whose_signature_is_written_otherwise_is_the_same_token() -> None:
    assert used("aa.bb.cc") == used("aa.bb.cd") != used("aa.bc.cc")


def token_of(name: object) -> str:
    raw = base64.urlsafe_b64encode(json.dumps({"preferred_username": name}).encode()).decode().rstrip("=")
    return f"e30.{raw}.e30"


@pytest.mark.threat("G06")
def test_G06_names_that_look_alike_count_as_one_account() -> None:
    alike = ["admin", "Admin", "ADMIN", "admin ", " ad min", "ａｄｍｉｎ", "\u2003admin"]
    assert len({account(PROVIDER, token_of(name)) for name in alike}) == 1
    assert account(PROVIDER, token_of("admin2")) != account(PROVIDER, token_of("admin"))


@given(st.one_of(st.text(), st.builds(token_of, st.one_of(st.none(), st.integers(), st.text(), st.lists(st.text())))))
def test_any_token_counts_for_some_account(token: str) -> None:
    assert len(account(PROVIDER, token)) == 64


@given(st.dictionaries(st.sampled_from(["sub", "preferred_username", "groups", "email", "events"]), st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.lists(st.text()))))  # fmt: skip
def test_any_claims_name_somebody_of_the_right_form_or_nobody(changed: dict[str, Any]) -> None:
    with suppress(Refusal):  # and nothing else
        found = person(PROVIDER, CLAIMS | changed, NOW)
        assert found.name == changed.get("preferred_username", "anne")
        assert set(found.roles) <= {"administrator", "revoker"}
