"""The surface of HTTP: who may reach which route, and what never gets as far as a parser."""

import http.client
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from deploy.demo.visitor import Visitor
from tests.end_to_end.bad_input import ROUTES, Route
from tests.end_to_end.rough import Rough, rough_fixture  # noqa: F401  # a fixture
from tests.gateway.web_server.client import connected, read_one

# Route → who gets past the door: "anyone" needs no certificate, "instance" one of that kind; nobody needs more.
# The admin listener has a table of its own, matrix.txt.
MATRIX: dict[str, dict[str, tuple[str, ...]]] = {
    "instance": {
        "anyone": (
            "GET /livez", "GET /v1/ca", "GET /v1/openapi.json", "POST /v1/nonces", "POST /v1/enroll", "POST /sessions",
            "GET /v1/sys/health", "GET /v1/sys/seal-status", "GET /v1/sys/init",
        ),
        "instance": (
            "GET /v1/grants", "POST /v1/credentials", "POST /v1/dummy-keys", "POST /v1/signatures", "POST /v1/calls",
            "GET /v1/watch", "GET /v1/checkpoint", "POST /v1/renew",
            "POST /v1/auth/cert/login", "PUT /v1/auth/cert/login",
            "GET /v1/auth/token/lookup-self", "POST /v1/auth/token/revoke-self", "PUT /v1/auth/token/revoke-self",
            "GET /v1/aws/creds/<role>", "POST /v1/aws/creds/<role>", "GET /v1/aws/sts/<role>",
            "POST /v1/aws/sts/<role>", "PUT /v1/aws/sts/<role>",
        ),
    },
}  # fmt: skip
TLS_ROUTES = [route for route in ROUTES if route.listener in MATRIX]


def _named(route: Route) -> str:
    return f"{route.method} {route.rule}"


def _who(route: Route) -> str | None:
    return next((who for who, routes in MATRIX[route.listener].items() if _named(route) in routes), None)


def _ask(visitor: Visitor, route: Route) -> str:
    """What comes of a request that is right in its form and wrong in what it names: the code, or "no handshake"."""
    path = route.rule.replace("<name>", "absent").replace("<path:named>", "i-absent").replace("<role>", "absent")
    body = b"{}" if route.method in ("POST", "PUT") else None
    try:
        answer = visitor.call(route.method, path, body)
    except (OSError, http.client.HTTPException):
        return "no handshake"
    errors = answer.body.get("errors") if isinstance(answer.body, dict) else None
    return answer.code or (str(errors[0]) if errors else f"status {answer.status}")


@pytest.mark.threat("C21")
def test_C21_each_route_is_in_the_matrix_and_each_row_is_a_route() -> None:
    listed = {(listener, each) for listener, rows in MATRIX.items() for routes in rows.values() for each in routes}
    assert listed == {(route.listener, _named(route)) for route in TLS_ROUTES}


@pytest.mark.threat("C21")
def test_C21_each_route_lets_in_whom_the_matrix_names_and_nobody_else(rough: Rough) -> None:
    world = rough.world
    _, instance = rough.enrolled()
    shut = {"no handshake", "certificate_required", "certificate_unknown"}
    for route in TLS_ROUTES:
        if route.rule == "/v1/watch":
            continue  # answers after 25 seconds; test_revocation.py has it
        address = getattr(world.site, route.listener)
        callers: dict[str, Visitor] = {name: world.visitor(address) for name in ("anyone", "instance", "operator")}
        callers["instance"].present(instance.certificate or "", instance.key)
        operator = world.operator()
        callers["operator"].present(operator.certificate or "", operator.key)
        for caller, visitor in callers.items():
            found = _ask(visitor, route)
            inside = not any(word in found for word in shut)
            expected = _who(route) in ("anyone", caller)
            if route.rule.startswith("/v1/a") and caller == "anyone":
                expected = False
            assert inside == expected or (found == "no handshake" and caller != _who(route)), (
                _named(route),
                caller,
                found,
            )
            visitor.close()


# C02: identity behind a pass-through proxy


@contextmanager
def _pass_through(target: str) -> Iterator[str]:
    """A TCP proxy, as the documents ask for: it passes bytes, and knows nothing of TLS."""
    host, _, port = target.rpartition(":")
    listening = socket.create_server(("127.0.0.1", 0))
    open_ones: list[socket.socket] = [listening]
    threads: list[threading.Thread] = []

    def begin(work: Callable[..., None], *arguments: socket.socket) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        threads.append(thread)
        thread.start()

    def pump(source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while piece := source.recv(65536):
                sink.sendall(piece)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_RDWR)

    def accept() -> None:
        with suppress(OSError):
            while True:
                near, _ = listening.accept()
                far = socket.create_connection((host, int(port)))
                open_ones.extend((near, far))
                begin(pump, near, far)
                begin(pump, far, near)

    begin(accept)
    try:
        yield f"127.0.0.1:{listening.getsockname()[1]}"
    finally:
        for sock in open_ones:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join(10)
        for sock in open_ones:
            sock.close()


def _claims(visitor: Visitor) -> list[dict[str, str]]:
    pem = (visitor.certificate or "").replace("\n", "%0A")
    names = (
        "X-SSL-Client-Cert",
        "X-Forwarded-Client-Cert",
        "X-Client-Cert",
        "X-Amzn-Mtls-Clientcert",
        "X-ARR-ClientCert",
    )
    return [
        *({name: pem} for name in names),
        {"Connection": "close, X-SSL-Client-Verify", "X-SSL-Client-Verify": "SUCCESS", "X-SSL-Client-Cert": pem},
        {"X-SSL-Client-Cert": f"{pem}\t ", "Ssl-Client-Verify": "SUCCESS", "X-SSL-Client-S-DN": "CN=i-0"},
        {"x-ssl-client-cert": pem, "X-SSL-Client-Cert": pem},
    ]


@pytest.mark.threat("C02")
@pytest.mark.parametrize("through", ["directly", "proxy"])
def test_C02_no_header_makes_an_identity(rough: Rough, through: str) -> None:
    _, visitor = rough.enrolled()
    address = rough.world.site.instance
    with _pass_through(address) as proxied:
        stranger = rough.world.visitor(proxied if through == "proxy" else address)
        for claims in _claims(visitor):
            answer = stranger.call("GET", "/v1/grants", headers=claims)
            assert (answer.status, answer.code) == (401, "certificate_required"), claims
            stranger.close()
        answer = stranger.call("GET", "/v1/ca", headers={"X_SSL_Client_S_DN": "CN=i-0"})
        assert (answer.status, answer.code) == (400, "malformed_request")
        stranger.close()
        known = rough.world.visitor(proxied if through == "proxy" else address)
        known.present(visitor.certificate or "", visitor.key)
        assert known.call("GET", "/v1/grants").status == 200
        known.close()


# C11, C13: large and complicated bodies of strangers


def _context(rough: Rough) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=rough.world.root)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context


def _address(rough: Rough) -> tuple[str, int]:
    host, _, port = rough.world.site.instance.rpartition(":")
    return host, int(port)


def _announced(path: str, media_type: str) -> bytes:
    """The head of a request with ten megabytes."""
    lines = [f"POST {path} HTTP/1.1", "Host: 127.0.0.1", f"Content-Type: {media_type}", "Content-Length: 10485760"]
    return "\r\n".join([*lines, "", ""]).encode()


@pytest.mark.threat("C11")
@pytest.mark.parametrize("path", ["/v1/enroll", "/v1/signatures", "/v1/dummy-keys", "/sessions"])
def test_C11_ten_megabytes_of_a_strangers_json_are_refused_by_their_announcement(rough: Rough, path: str) -> None:
    with connected(_address(rough), _context(rough)) as sock:
        sock.sendall(_announced(path, "application/json"))
        answer = read_one(sock)
    assert answer.status == 413
    assert answer.problem["code"] == "body_too_large"
    assert rough.world.visitor().call("GET", "/livez").status == 204


@pytest.mark.threat("C11")
def test_C11_as_many_keys_as_fit_are_read_in_time_and_refused(rough: Rough) -> None:
    keys = json.dumps({f"{i:x}": 0 for i in range(7000)}).encode()[: 64 * 1024]
    answer = rough.world.visitor().call("POST", "/v1/enroll", keys)
    assert (answer.status, answer.code) in ((400, "malformed_request"), (413, "body_too_large"))


@pytest.mark.threat("C13")
@pytest.mark.parametrize("path", ["/v1/enroll", "/v1/signatures", "/sessions"])
def test_C13_no_route_reads_multipart(rough: Rough, path: str) -> None:
    part = b"--x\r\nContent-Disposition: form-data; name=a\r\n\r\n\r\n"
    for body in (part * 1200 + b"--x--\r\n", b"--x\r\n\r" + b"A" * 60000):
        headers = {"Content-Type": "multipart/form-data; boundary=x"}
        answer: Any = rough.world.visitor().call("POST", path, body, headers=headers)
        assert answer.status in (400, 401, 403, 415), (path, answer.status)
    with connected(_address(rough), _context(rough)) as sock:
        sock.sendall(_announced(path, "multipart/form-data; boundary=x"))
        assert read_one(sock).status == 413
    assert rough.world.visitor().call("GET", "/livez").status == 204
