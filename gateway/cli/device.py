"""A token of an OpenID provider for a person at a terminal: the device authorization grant, RFC 8628."""

import http.client
import json
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any, NoReturn
from urllib.parse import urlencode, urlsplit

import click

from gateway.cli import show
from gateway.cli.failure import Failure

GRANT = "urn:ietf:params:oauth:grant-type:device_code"
LARGEST = 1024 * 1024
SECONDS = 30
USUAL, SLOWER, LONGEST = 5, 5, 1800  # seconds between two questions, more of them when asked for, and for all


class _Nowhere(urllib.request.HTTPRedirectHandler):
    """What is asked for is at the provider, or nowhere."""

    def redirect_request(self, *_: Any) -> None:
        return None


def token(issuer: str, client_id: str, scopes: str) -> str:
    """Send the person to the provider, and wait until they agree there; an ID token if there is one. Raises Failure."""
    metadata = _asked(f"{issuer.rstrip('/')}/.well-known/openid-configuration")
    if metadata.get("issuer") != issuer:
        _strange("it speaks for another issuer")
    started = _asked(_text(metadata, "device_authorization_endpoint"), {"client_id": client_id, "scope": scopes})
    _show(started)
    form = {"grant_type": GRANT, "device_code": _text(started, "device_code"), "client_id": client_id}
    interval, left = _seconds(started, "interval", USUAL), _seconds(started, "expires_in", LONGEST)
    while left > 0:
        time.sleep(interval)
        left -= interval
        answer = _asked(_text(metadata, "token_endpoint"), form, refusals=True)
        match answer.get("error"):
            case None:
                return _text(answer, "id_token" if "id_token" in answer else "access_token")
            case "authorization_pending":
                pass
            case "slow_down":
                interval += SLOWER
            case "access_denied":
                raise Failure("the provider says that it was refused there", "login_denied", "Try again, and agree.")
            case "expired_token":
                break
            case error:
                _strange(f"it answered {str(error)[:100]!r}")
    raise Failure("nobody agreed at the provider in time", "login_timeout", "Try again.")


def _show(started: Mapping[str, Any]) -> None:
    """Where to go and what to type. It goes to standard error: standard output is what the command answers."""
    where = _text(started, "verification_uri")
    click.echo(show.harmless(f"Open {where} and type {_text(started, 'user_code')}"), err=True)
    complete = started.get("verification_uri_complete")
    if isinstance(complete, str):
        click.echo(show.harmless(f"or open {complete}"), err=True)


def _asked(url: str, form: Mapping[str, str] | None = None, *, refusals: bool = False) -> dict[str, Any]:
    """The JSON object at this URL; with `refusals` also the one that an error has (RFC 6749, section 5.2)."""
    if urlsplit(url).scheme != "https":
        _strange("it names an address that is not https")
    data = urlencode(form).encode() if form else None
    request = urllib.request.Request(url, data, {"Accept": "application/json"})  # noqa: S310  # https, as was looked at
    try:
        with urllib.request.build_opener(_Nowhere).open(request, timeout=SECONDS) as response:
            raw = response.read(LARGEST)
    except urllib.error.HTTPError as error:
        with error:
            if not refusals or error.code not in (400, 401):
                _strange(f"it answered {error.code}")
            raw = error.read(LARGEST)
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        text = f"the provider {urlsplit(url).netloc} does not answer: {reason or type(error).__name__}"
        raise Failure(
            text, "provider_unreachable", "Check the network; SSL_CERT_FILE names a CA of your own."
        ) from None
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        _strange("it answered no JSON object")
    return found


def _text(answer: Mapping[str, Any], name: str) -> str:
    found = answer.get(name)
    if not isinstance(found, str) or not found:
        _strange(f"its answer has no {name}")
    return found


def _seconds(answer: Mapping[str, Any], name: str, usual: int) -> int:
    found = answer.get(name)
    return min(max(1, found), LONGEST) if type(found) is int else usual


def _strange(what: str) -> NoReturn:
    hint = "Does it know the device grant (RFC 8628)? A token from elsewhere: --token-file."
    raise Failure(f"the OpenID provider cannot be used: {what}", "provider_strange", hint)
