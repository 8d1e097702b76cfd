"""Tokens of a real provider over real HTTPS: what it did not sign, for us, for now, is refused; it is asked seldom."""

import base64
import hmac
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from joserfc import jws
from joserfc.jwk import OctKey, RSAKey

from gateway.adapters import oidc
from gateway.adapters.oidc import KEPT, PAUSE, Key, Oidc
from gateway.adapters.throttle import Attempts
from gateway.core.errors import Refusal, SettingsError
from gateway.core.sign_in import Provider
from tests.gateway.web_server.pki import make
from tests.openid import AUDIENCE, OpenId, new_key, openid

PROVIDER = Provider(
    issuer="", audience=AUDIENCE, client_id=AUDIENCE, scopes="openid", ca=None, name_claim="preferred_username",
    name_suffix="", roles_claim="groups", roles={}, life=timedelta(hours=1), max_age=timedelta(hours=1),
)  # fmt: skip


@dataclass
class Time:
    """`ports.Clock`: the true time, and what a test adds to it."""

    added: timedelta = timedelta(0)

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.added


@pytest.fixture
def provider(tmp_path: Path) -> Iterator[OpenId]:
    with openid(tmp_path / "openid") as running:
        yield running


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def tokens(provider: OpenId, time: Time) -> Oidc:
    return Oidc(replace(PROVIDER, issuer=provider.issuer, ca=str(provider.ca)), time)


def refused(tokens: Oidc, token: str) -> str:
    with pytest.raises(Refusal) as caught:
        tokens.verify(token)
    assert (caught.value.code, caught.value.detail) == ("sign_in_refused", None)
    return str(caught.value.context.get("claim") or caught.value.reason)


def unavailable(tokens: Oidc, token: str) -> str:
    with pytest.raises(Refusal) as caught:
        tokens.verify(token)
    assert (caught.value.code, caught.value.retry_after) == ("provider_unavailable", 10)
    return caught.value.reason


@pytest.mark.parametrize("algorithm", ["ES256", "RS256", "EdDSA"])
def test_a_token_of_the_provider_is_good(provider: OpenId, tokens: Oidc, algorithm: str) -> None:
    provider.keys = [new_key(algorithm)]
    claims = provider.claims()
    assert tokens.verify(provider.token(**claims)) == claims
    assert tokens.verify(provider.token({"typ": "at+jwt"}, aud=["other", AUDIENCE], azp=AUDIENCE))["azp"] == AUDIENCE


# What the provider did not sign


def unsigned(provider: OpenId, algorithm: str) -> str:
    parts = ({"alg": algorithm, "kid": "one"}, provider.claims())
    return ".".join(base64.urlsafe_b64encode(json.dumps(p).encode()).decode().rstrip("=") for p in parts) + "."


@pytest.mark.threat("G06")
@pytest.mark.parametrize(
    "algorithm", ["none", "None", "NONE", "nOnE", "", "HS256", "PS256", "ES384", "RS512", "ES256K"]
)
def test_another_algorithm_is_none(provider: OpenId, tokens: Oidc, algorithm: str) -> None:
    assert refused(tokens, unsigned(provider, algorithm)) == "token_algorithm"
    assert provider.asked == []  # and costs nobody a question


def test_the_public_key_is_no_shared_secret(provider: OpenId, tokens: Oidc) -> None:
    key = new_key("RS256")
    assert isinstance(key, RSAKey)
    provider.keys = [key]
    signed = unsigned(provider, "HS256").rstrip(".")
    jwk = json.dumps(key.as_dict(private=False)).encode()
    for public in (key.as_pem(private=False), key.as_der(private=False), jwk):
        mac = base64.urlsafe_b64encode(hmac.digest(public, signed.encode(), "sha256")).decode().rstrip("=")
        assert refused(tokens, f"{signed}.{mac}") == "token_algorithm"


def test_a_shared_secret_in_the_key_set_signs_nothing(provider: OpenId, tokens: Oidc) -> None:
    secret = OctKey.generate_key(256, {"kid": "shared", "use": "sig"})
    provider.keys.append(secret)
    assert refused(tokens, provider.token({"alg": "HS256"}, key=secret)) == "token_algorithm"


@pytest.mark.parametrize("algorithm", ["ES256", "RS256", "EdDSA"])
def test_another_key_of_the_same_id_signs_nothing(provider: OpenId, tokens: Oidc, algorithm: str) -> None:
    provider.keys = [new_key(algorithm)]
    assert refused(tokens, provider.token(key=new_key(algorithm))) == "token_signature"
    other = next(each for each in ("ES256", "RS256", "EdDSA") if each != algorithm)
    assert refused(tokens, provider.token(key=new_key(other))) == "token_key_unknown"


def test_a_key_that_the_token_brings_along_is_not_looked_at(provider: OpenId, tokens: Oidc) -> None:
    key = new_key()
    for header in (
        {"jwk": key.as_dict(private=False)},
        {"jku": f"{provider.issuer}/evil"},
        {"x5u": "https://evil.test"},
    ):
        assert refused(tokens, provider.token(header, key=key)) == "token_signature"
    assert refused(tokens, provider.token({"jku": "https://evil.test"}, key=new_key(kid="two"))) == "token_key_unknown"
    assert set(provider.asked) == {"/.well-known/openid-configuration", "/keys"}


def test_a_changed_token_is_not_signed(provider: OpenId, tokens: Oidc) -> None:
    head, payload, signature = provider.token().split(".")
    forged = base64.urlsafe_b64encode(json.dumps(provider.claims(preferred_username="root")).encode()).decode()
    assert refused(tokens, f"{head}.{forged.rstrip('=')}.{signature}") == "token_signature"
    assert tokens.verify(f"{head}.{payload}.{signature}")


@pytest.mark.parametrize(
    "token",
    ["", ".", "..", "a.b.c", "e30.e30.e30", "W10.e30.e30", "x" * 16000, "a" * 15000 + ".b.c", "é.é.é", "a.b.c.d.e"],
)
def test_what_is_no_token(tokens: Oidc, provider: OpenId, token: str) -> None:
    assert refused(tokens, token) in ("token_malformed", "token_algorithm")
    assert provider.asked == []


def test_a_huge_token_is_refused(tokens: Oidc, provider: OpenId) -> None:
    assert refused(tokens, provider.token(padding="x" * 1_000_000)) == "token_malformed"


@pytest.mark.parametrize(
    "header", [{"typ": "logout+jwt"}, {"typ": "dpop+jwt"}, {"typ": 7}, {"crit": ["exp"], "exp": 1}]
)
def test_another_kind_of_token_is_none(tokens: Oidc, provider: OpenId, header: dict[str, Any]) -> None:
    if header.get("typ") == 7 or "crit" in header:
        segment = (
            base64.urlsafe_b64encode(json.dumps({"alg": "ES256", "kid": "one", **header}).encode()).decode().rstrip("=")
        )
        assert refused(tokens, f"{segment}.e30.e30") in ("token_malformed", "token_kind")
    else:
        assert refused(tokens, provider.token(header)) == "token_kind"


# What it signed for somebody else, or for another time


@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        ({"iss": "https://evil.test"}, "iss"),
        ({"iss": None}, "iss"),
        ({"iss": ["x"]}, "iss"),
        ({"aud": "other"}, "aud"),
        ({"aud": AUDIENCE.upper()}, "aud"),
        ({"aud": [AUDIENCE + "x", "other"]}, "aud"),
        ({"aud": []}, "aud"),
        ({"aud": {AUDIENCE: 1}}, "aud"),
        ({"aud": None}, "aud"),
        ({"aud": ["other", AUDIENCE]}, "azp"),  # several audiences: whom it was given to has to be said
        ({"azp": "other"}, "azp"),
        ({"sub": None}, "sub"),
        ({"exp": None}, "exp"),
        ({"exp": "never"}, "exp"),
        ({"exp": True}, "exp"),
        ({"iat": None}, "iat"),
        ({"iat": "now"}, "iat"),
    ],
)
def test_claims_for_others(provider: OpenId, tokens: Oidc, changed: dict[str, Any], fault: str) -> None:
    assert refused(tokens, provider.token(**changed)) == fault


@pytest.mark.parametrize(
    ("claim", "seconds", "fault"), [("exp", -31, "token_expired"), ("iat", 60, "iat"), ("nbf", 60, "nbf")]
)
def test_a_token_of_another_time(provider: OpenId, tokens: Oidc, claim: str, seconds: int, fault: str) -> None:
    now = provider.claims()["iat"]
    assert refused(tokens, provider.token(**{claim: now + seconds})) == fault


def test_no_number_is_forever(provider: OpenId, tokens: Oidc) -> None:
    raw = json.dumps(provider.claims()).replace('"exp": ', '"exp": NaN, "was": ')
    signed = jws.serialize_compact({"alg": "ES256", "kid": "one"}, raw, provider.keys[0], ["ES256"])
    assert refused(tokens, signed) == "token_malformed"
    twice = json.dumps(provider.claims())[:-1] + ', "sub": "another"}'
    signed = jws.serialize_compact({"alg": "ES256", "kid": "one"}, twice, provider.keys[0], ["ES256"])
    assert refused(tokens, signed) == "token_malformed"


# The provider's keys


def test_the_provider_is_asked_once_for_many_tokens(provider: OpenId, tokens: Oidc) -> None:
    token = provider.token()
    assert tokens.verify(token)
    with ThreadPoolExecutor(8) as pool:
        assert len([claims for claims in pool.map(tokens.verify, [token] * 32) if claims]) == 32
    assert provider.asked == ["/.well-known/openid-configuration", "/keys"]


@pytest.mark.threat("G06")
@pytest.mark.parametrize("kept", ["none", "fresh", "old"])
def test_G06_while_one_waits_for_the_provider_nobody_else_does(
    provider: OpenId, tokens: Oidc, time: Time, monkeypatch: pytest.MonkeyPatch, kept: str
) -> None:
    if kept != "none":
        assert tokens.verify(provider.token())
        time.added += PAUSE if kept == "fresh" else KEPT
    asked, answer = Event(), Event()

    def hangs() -> list[Key]:
        asked.set()
        assert answer.wait(30)
        raise OSError

    monkeypatch.setattr(tokens, "_fetch_keys", hangs)
    known, unknown = provider.token(), provider.token(key=new_key(kid="unknown"))
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(unavailable, tokens, unknown)
        assert asked.wait(10)
        try:
            others = pool.submit(
                lambda: (
                    [refused(tokens, unknown), tokens.verify(known)["sub"]]
                    if kept == "fresh"
                    else [unavailable(tokens, unknown), unavailable(tokens, known)]
                )
            )
            wanted = ["token_key_unknown", "subject-of-anne"] if kept == "fresh" else ["provider_asked_lately"] * 2
            assert others.result(10) == wanted, "while the first still waits"
        finally:
            answer.set()
        assert first.result(10) == "provider_unreachable"


def test_a_new_key_is_found_and_an_old_one_forgotten(provider: OpenId, tokens: Oidc, time: Time) -> None:
    before = provider.token()
    assert tokens.verify(before)
    provider.keys = [new_key(kid="two")]
    time.added += PAUSE
    assert tokens.verify(provider.token())
    assert refused(tokens, before) == "token_key_unknown"


def test_a_key_that_was_taken_away_is_not_used_for_long(provider: OpenId, tokens: Oidc, time: Time) -> None:
    assert tokens.verify(provider.token())
    stolen, provider.keys = provider.keys[0], [new_key(kid="two")]
    time.added += KEPT
    assert refused(tokens, provider.token(key=stolen)) == "token_key_unknown"


def test_tokens_of_unknown_keys_do_not_make_us_ask_often(provider: OpenId, tokens: Oidc, time: Time) -> None:
    assert tokens.verify(provider.token())
    for number in range(50):
        assert refused(tokens, provider.token(key=new_key(kid=f"unknown-{number}"))) == "token_key_unknown"
    assert len(provider.asked) == 2
    time.added += PAUSE
    assert refused(tokens, provider.token(key=new_key(kid="unknown"))) == "token_key_unknown"
    assert len(provider.asked) == 4


def test_a_weak_key_and_one_for_encryption_sign_nothing(provider: OpenId, tokens: Oidc) -> None:
    with pytest.warns(match="2048"):
        weak = RSAKey.generate_key(1024, {"kid": "weak", "alg": "RS256"})
    token = provider.token(key=weak)
    provider.keys += [weak]
    good = provider.keys[0].as_dict(private=False) | {"use": "enc"}
    provider.key_set = lambda: {"keys": [good, weak.as_dict(private=False), 7, {}, {"kty": "odd"}]}  # type: ignore[method-assign]
    with pytest.warns(match="2048"):
        assert refused(tokens, token) == "token_key_unknown"
    assert refused(tokens, provider.token()) == "token_key_unknown"


@pytest.mark.parametrize("how", ["redirect", "huge", "broken"])
def test_a_provider_that_does_not_answer_as_it_has_to(provider: OpenId, tokens: Oidc, time: Time, how: str) -> None:
    provider.how = how
    assert unavailable(tokens, provider.token()) == "provider_unreachable"
    assert unavailable(tokens, provider.token()) == "provider_asked_lately"
    assert "/elsewhere" not in provider.asked
    assert len(provider.asked) == 2
    provider.how = "well"
    time.added += PAUSE
    assert tokens.verify(provider.token())


@pytest.mark.parametrize("how", ["hang", "drip"])
def test_a_provider_that_takes_its_time_is_not_waited_for(
    provider: OpenId, tokens: Oidc, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr(oidc, "SECONDS", 0.5)
    provider.how = how
    assert unavailable(tokens, provider.token()) == "provider_unreachable"


def test_while_the_provider_is_away_its_keys_serve_for_a_while(provider: OpenId, tokens: Oidc, time: Time) -> None:
    assert tokens.verify(provider.token())
    provider.how = "broken"
    time.added += KEPT - timedelta(seconds=20)
    assert tokens.verify(provider.token(iat=int(time().timestamp()), exp=int(time().timestamp()) + 60))
    time.added += timedelta(seconds=20)
    token = provider.token(iat=int(time().timestamp()), exp=int(time().timestamp()) + 60)
    assert unavailable(tokens, token) == "provider_unreachable"


@pytest.mark.parametrize(
    "metadata",
    [
        {"issuer": "https://evil.test"},
        {"jwks_uri": "http://127.0.0.1:1/keys"},
        {"jwks_uri": "file:///etc/passwd"},
        {"jwks_uri": "https://user@127.0.0.1/keys"},
        {"jwks_uri": 7},
    ],
)
def test_metadata_that_lead_elsewhere(provider: OpenId, tokens: Oidc, metadata: dict[str, Any]) -> None:
    provider.metadata = metadata
    assert unavailable(tokens, provider.token()) == "provider_unreachable"
    assert provider.asked == ["/.well-known/openid-configuration"]


def test_a_provider_of_another_ca_is_none(provider: OpenId, time: Time, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    make(tmp_path / "other")
    for ca in (None, str(tmp_path / "other" / "ca.pem")):
        elsewhere = Oidc(replace(PROVIDER, issuer=provider.issuer, ca=ca), time)
        assert unavailable(elsewhere, provider.token()) == "provider_unreachable"
    assert provider.asked == []


def test_a_ca_that_is_not_there_is_a_fault_of_the_settings(tmp_path: Path, time: Time) -> None:
    with pytest.raises(SettingsError, match=r"oidc\.ca"):
        Oidc(replace(PROVIDER, ca=str(tmp_path / "absent.pem")), time)


# Attempts


def failures(attempts: Attempts, count: int, source: str, account: str | None = None) -> int:
    """How many of them were told to wait."""
    waits = 0
    for _ in range(count):
        before = waits
        with suppress(Refusal):
            waits += 1
            attempts.failed(source, account)
            waits = before
    return waits


@pytest.mark.threat("G06")
def test_G06_failures_count_by_address_by_account_and_in_all() -> None:
    assert failures(Attempts(30, 1000), 1000, "192.0.2.1") == 970
    attempts = Attempts(30, 1000)  # one account from a thousand addresses
    assert sum(failures(attempts, 1, f"198.51.{n // 250}.{n % 250}", "anne") for n in range(1000)) == 970
    attempts = Attempts(30, 100)  # a thousand accounts from a thousand addresses
    assert sum(failures(attempts, 1, f"198.51.{n // 250}.{n % 250}", f"a{n}") for n in range(1000)) == 900


@pytest.mark.threat("G06")
def test_G06_a_host_has_one_address_however_many_it_has() -> None:
    attempts = Attempts(30, 1000)
    assert sum(failures(attempts, 1, f"2001:db8:0:1::{n:x}") for n in range(1, 101)) == 70
    assert failures(attempts, 1, "2001:db8:0:2::1") == 0
    mapped = Attempts(1, 1000)
    assert failures(mapped, 1, "::ffff:192.0.2.1") == 0
    assert failures(mapped, 1, "::ffff:192.0.2.2") == 0
