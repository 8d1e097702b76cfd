"""An OpenID provider of our own: real HTTPS, discovery, keys that rotate, a device flow, and every way to misbehave."""

import json
import time
import urllib.parse
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any

from joserfc import jwt
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey
from joserfc.jws import JWSRegistry

from tests.gateway.web_server.pki import Pki, make

AUDIENCE = "trusted-gateway"
Key = RSAKey | ECKey | OKPKey | OctKey


class _AnyAlgorithm(JWSRegistry):
    """Signs by whatever it is told to."""

    def get_alg(self, name: str) -> Any:
        return self.algorithms[name]


def new_key(algorithm: str = "ES256", kid: str = "one") -> Key:
    """A key that signs by this algorithm."""
    parameters: Any = {"kid": kid, "use": "sig", "alg": algorithm}
    if algorithm == "RS256":
        return RSAKey.generate_key(2048, parameters)
    return (
        OKPKey.generate_key("Ed25519", parameters) if algorithm == "EdDSA" else ECKey.generate_key("P-256", parameters)
    )


@dataclass
class Device:
    """A device that waits for its user: `token` is what it gets once the user agreed."""

    token: str | None = None
    error: str = "authorization_pending"
    polls: int = 0


@dataclass
class OpenId:
    """`how` is the manner in which the keys are given: "well", "hang", "drip", "redirect", "huge", "broken"."""

    pki: Pki
    issuer: str = ""
    keys: list[Key] = field(default_factory=lambda: [new_key()])
    how: str = "well"
    asked: list[str] = field(default_factory=list)
    device: Device = field(default_factory=Device)
    metadata: dict[str, Any] = field(default_factory=dict)
    over: Event = field(default_factory=Event)

    @property
    def ca(self) -> Path:
        """The CA of its certificate, PEM."""
        return self.pki.folder / "ca.pem"

    def claims(self, **changed: Any) -> dict[str, Any]:
        """Those of a token for anne; None takes one away."""
        now = int(time.time())  # the provider's own clock
        claims = {
            "iss": self.issuer, "sub": "subject-of-anne", "aud": AUDIENCE, "iat": now, "exp": now + 600,
            "preferred_username": "anne", "groups": ["admins", "unmapped"], **changed,
        }  # fmt: skip
        return {name: value for name, value in claims.items() if value is not None}

    def token(self, header: Mapping[str, Any] | None = None, key: Key | None = None, **changed: Any) -> str:
        """A token with these claims, signed by `key`, or its first."""
        key = key or self.keys[0]
        named = {"alg": str(key.get("alg", "ES256")), "kid": str(key.get("kid")), **(header or {})}
        return jwt.encode(named, self.claims(**changed), key, registry=_AnyAlgorithm())

    def document(self) -> dict[str, Any]:
        """What discovery says."""
        here = self.issuer
        return {
            "issuer": here, "jwks_uri": f"{here}/keys", "token_endpoint": f"{here}/token",
            "device_authorization_endpoint": f"{here}/device", **self.metadata,
        }  # fmt: skip

    def key_set(self) -> dict[str, Any]:
        """The public keys."""
        return {"keys": [key.as_dict(private=False) for key in self.keys]}

    def polled(self, form: Mapping[str, str]) -> tuple[int, dict[str, Any]]:
        """The token endpoint. RFC 8628, section 3.4."""
        assert form["grant_type"] == "urn:ietf:params:oauth:grant-type:device_code"
        assert (form["device_code"], form["client_id"]) == ("the-device-code", AUDIENCE)
        self.device.polls += 1
        if self.device.token is None:
            return 400, {"error": self.device.error}
        return 200, {"token_type": "Bearer", "access_token": "opaque", "id_token": self.device.token}


class _Listener(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    openid: OpenId

    def do_GET(self) -> None:
        self.openid.asked.append(self.path)
        if self.path == "/.well-known/openid-configuration":
            self._answer(200, self.openid.document())
        elif self.path == "/keys":
            self._keys()
        else:
            self._answer(404, {})

    def do_POST(self) -> None:
        self.openid.asked.append(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        form = dict(urllib.parse.parse_qsl(body, strict_parsing=True))
        if self.path == "/device":
            where = f"{self.openid.issuer}/activate"
            self._answer(200, {
                "device_code": "the-device-code", "user_code": "WDJB-MJHT", "verification_uri": where,
                "expires_in": 60, "interval": 1,
            })  # fmt: skip
        else:
            self._answer(*self.openid.polled(form))

    def _keys(self) -> None:
        how = self.openid.how
        if how == "hang":
            self.openid.over.wait(60)
        elif how == "redirect":
            self._answer(302, {}, ("Location", f"{self.openid.issuer}/elsewhere"))
        elif how == "drip":
            self.send_response(200)
            self.send_header("Content-Length", "100000")
            self.end_headers()
            while not self.openid.over.wait(0.1):
                self.wfile.write(b" ")
                self.wfile.flush()
        elif how == "huge":
            self._answer(200, {"keys": [], "padding": "x" * 50 * 1024 * 1024})
        elif how == "broken":
            self._answer(200, {"keys": "none"})
        else:
            self._answer(200, self.openid.key_set())

    def _answer(self, status: int, document: Any, *headers: tuple[str, str]) -> None:
        raw = json.dumps(document).encode()
        self.send_response(status)
        for name, value in (("Content-Type", "application/json"), ("Content-Length", str(len(raw))), *headers):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, *_: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        pass  # whoever hangs up has their reason


@contextmanager
def openid(folder: Path) -> Iterator[OpenId]:
    """A running provider; its certificates are in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    made = OpenId(make(folder))
    server = _Server(("127.0.0.1", 0), type("Listener", (_Listener,), {"openid": made}))
    context = made.pki.server_context()
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    made.issuer = f"https://127.0.0.1:{server.server_address[1]}"
    thread = Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield made
    finally:
        made.over.set()
        server.shutdown()
        thread.join()
        server.server_close()
