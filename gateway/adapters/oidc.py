"""Tokens of an OpenID provider: its keys come over verified HTTPS and are kept for a while; Authlib checks signatures.

OpenID Connect Core 1.0 (section 3.1.3.7), Discovery 1.0; JSON Web Token Best Current Practices, RFC 8725.
"""

import http.client
import logging
import socket
import ssl
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from threading import Lock, Timer
from typing import Any, NoReturn
from urllib.parse import urljoin, urlsplit

from authlib.oidc.core.claims import IDToken
from authlib.oidc.discovery import get_well_known_url
from joserfc import jws
from joserfc.errors import ClaimError, ExpiredTokenError, JoseError, UnsupportedAlgorithmError
from joserfc.jwk import ECKey, JWKRegistry, OKPKey, RSAKey

from gateway.core.errors import Refusal, SettingsError
from gateway.core.sign_in import LEEWAY, Provider
from gateway.wire import strict

log = logging.getLogger("trusted_gateway.oidc")

Key = RSAKey | ECKey | OKPKey

KINDS: Mapping[str, type[Key]] = {"RS256": RSAKey, "ES256": ECKey, "EdDSA": OKPKey}
"""What a token may be signed with, and by which kind of key: a public key is never taken for a shared secret."""

TYPES = ("jwt", "at+jwt", "application/at+jwt")  # RFC 8725 section 3.11: another kind of token is no token for us
KEPT = timedelta(minutes=10)  # a key that the provider took away is good for so long at most
PAUSE = timedelta(seconds=10)  # between two questions: nobody's tokens make us ask more often
SECONDS = 5.0  # for one answer, from its first byte to its last
LARGEST = 256 * 1024
MOST_KEYS = 100


@dataclass(frozen=True, slots=True)
class _Known:
    """What the provider said, and when."""

    at: datetime
    keys: Sequence[Key]


class _Registry(jws.JWSRegistry):
    """Knows KINDS, and nothing else. joserfc's own warns of EdDSA, which RFC 9864 renames, and providers do not."""

    def get_alg(self, name: str) -> Any:
        if name not in KINDS:
            raise UnsupportedAlgorithmError(name)
        return self.algorithms[name]


_REGISTRY = _Registry()


class Oidc:
    """`ports.Tokens`, for several threads. Raises SettingsError when the CA's file cannot be read."""

    def __init__(self, provider: Provider, clock: Callable[[], datetime]) -> None:
        self._provider = provider
        self._clock = clock
        try:
            self._context = ssl.create_default_context(cafile=provider.ca)
        except (OSError, ssl.SSLError):
            raise SettingsError(f"oidc.ca: {provider.ca} is no file of PEM certificates") from None
        self._lock = Lock()
        self._known: _Known | None = None
        self._asked: datetime | None = None

    def verify(self, token: str) -> Mapping[str, Any]:
        now = self._clock()
        try:
            unverified = jws.extract_compact(token.encode(), registry=_REGISTRY)
            header = unverified.headers()
            algorithm, kind = header["alg"], header.get("typ", "JWT")
            if algorithm not in KINDS:
                raise _refused("token_algorithm")
            if not isinstance(kind, str) or kind.lower() not in TYPES:
                raise _refused("token_kind")
            candidates = self._candidates(algorithm, header.get("kid"), now)
            if not candidates:
                raise _refused("token_key_unknown")
            # The providers of this world give an id to one key only; whoever does not is given the benefit of trying.
            if not any(jws.validate_compact(unverified, key, registry=_REGISTRY) for key in candidates):
                raise _refused("token_signature")
            claims = strict.loads(unverified.payload)
            if not isinstance(claims, dict):
                raise _refused("token_malformed")
            self._validate(claims, header, now)
        except ExpiredTokenError:
            raise _refused("token_expired") from None
        except ClaimError as error:
            raise _refused("token_claims", claim=error.claim) from None
        except (JoseError, ValueError, TypeError, LookupError, AttributeError, RecursionError):
            raise _refused("token_malformed") from None
        return claims

    def _validate(self, claims: dict[str, Any], header: dict[str, Any], now: datetime) -> None:
        """Issuer, audience, authorized party and times."""
        provider = self._provider
        options: dict[str, Any] = {
            "iss": {"essential": True, "value": provider.issuer},
            "aud": {"essential": True, "value": provider.audience},
            **{name: {"essential": True} for name in ("sub", "exp", "iat")},
        }
        party = {"client_id": provider.client_id or provider.audience}
        IDToken(claims, header, options, party).validate(int(now.timestamp()), int(LEEWAY.total_seconds()))

    def _candidates(self, algorithm: str, kid: object, now: datetime) -> list[Key]:
        """The provider's keys that may have made such a signature; it is asked anew for an id that nobody knows."""
        known = self._known
        found = _chosen(known, algorithm, kid)
        if known is None or now - known.at >= KEPT or not found:
            found = _chosen(self._refreshed(now), algorithm, kid)
        return found

    def _refreshed(self, now: datetime) -> _Known:
        """What the provider says, asked for at most once in a while. Raises Refusal `provider_unavailable`.

        Who comes while somebody asks does not wait: before a provider that is away all threads would soon stand there.
        """
        if not self._lock.acquire(blocking=False):
            known = self._known
            if known is not None and now - known.at < KEPT:
                return known
            _unavailable("provider_asked_lately")
        try:
            known = self._known
            is_fresh = known is not None and now - known.at < KEPT
            if self._asked is not None and now - self._asked < PAUSE:
                if known is not None and is_fresh:
                    return known
                _unavailable("provider_asked_lately")
            self._asked = now
            try:
                self._known = fetched = _Known(now, self._fetch_keys())
            except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError, RecursionError) as error:
                log.warning("the OpenID provider's keys cannot be had: %s", type(error).__name__)
                _unavailable("provider_unreachable")
            return fetched
        finally:
            self._lock.release()

    def _fetch_keys(self) -> Sequence[Key]:
        url = get_well_known_url(self._provider.issuer, external=True)
        metadata = self._fetch(url)
        # Discovery 1.0, section 4.3: else one provider could speak for another.
        if metadata["issuer"] != self._provider.issuer:
            raise ValueError("another issuer")
        keys = self._fetch(urljoin(url, metadata["jwks_uri"]))["keys"]
        if not isinstance(keys, list):
            raise ValueError("no key set")
        return [key for each in keys[:MOST_KEYS] if (key := _usable(each)) is not None]

    def _fetch(self, url: str) -> Any:
        """The JSON at this URL, of which nothing leads elsewhere: a redirection is no answer."""
        parts = urlsplit(url)
        if parts.scheme != "https" or not parts.hostname or parts.username is not None:
            raise ValueError("not an https URL")
        connection = _Timed(parts.hostname, parts.port, context=self._context, timeout=SECONDS)
        try:
            path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            connection.request("GET", path, headers={"Accept": "application/json"})
            answer = connection.getresponse()
            if answer.status != http.client.OK:
                raise ValueError("another status than 200")
            raw = answer.read(LARGEST + 1)
            if len(raw) > LARGEST:
                raise ValueError("too large")
            return strict.loads(raw)
        finally:
            connection.close()


class _Timed(http.client.HTTPSConnection):
    """A connection that is over after SECONDS, however slowly the other side drips."""

    def connect(self) -> None:
        plain = socket.create_connection((self.host, self.port), self.timeout)
        # The handshake comes later: what is shut down in time has to be there before it.
        context: ssl.SSLContext = self._context  # type: ignore[attr-defined]
        self.sock = sock = context.wrap_socket(plain, server_hostname=self.host, do_handshake_on_connect=False)
        self._timer = Timer(SECONDS, lambda: _shut(sock))
        self._timer.daemon = True
        self._timer.start()
        sock.do_handshake()

    def close(self) -> None:
        if hasattr(self, "_timer"):
            self._timer.cancel()
        super().close()


def _shut(sock: socket.socket) -> None:
    with suppress(OSError):  # it was over
        socket.socket.shutdown(sock, socket.SHUT_RDWR)


def _usable(written: object) -> Key | None:
    """A public key of the set, if it signs tokens as we take them. RFC 7517 section 5: others are ignored."""
    if not isinstance(written, dict) or written.get("use", "sig") != "sig":
        return None
    try:
        key = JWKRegistry.import_key(written)
    except (JoseError, ValueError, TypeError, KeyError):
        return None
    if isinstance(key, RSAKey) and key.public_key.key_size < 2048:  # RFC 7518 section 3.3
        return None
    return key if isinstance(key, RSAKey | ECKey | OKPKey) else None


def _chosen(known: _Known | None, algorithm: str, kid: object) -> list[Key]:
    return [
        key
        for key in (known.keys if known else ())
        if isinstance(key, KINDS[algorithm]) and key.get("alg", algorithm) == algorithm and key.get("kid") == kid
    ]


def _refused(reason: str, **context: Any) -> Refusal:
    return Refusal("sign_in_refused", reason=reason, **context)


def _unavailable(reason: str) -> NoReturn:
    raise Refusal("provider_unavailable", reason=reason, retry_after=int(PAUSE.total_seconds()))
