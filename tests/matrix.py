"""Who may reach which route of the admin listener: made of the routes as a gateway has them, and of the built-in roles.

`python -m tests.matrix` writes tests/end_to_end/matrix.txt, which is committed: a new route, or a change of a role, is
a line that somebody reads. test_matrix.py asks a running gateway for every cell.
"""

import sys
import tempfile
from pathlib import Path
from typing import Any

from werkzeug.test import Client

from certs import csr, keys
from deploy.demo import REPOSITORY
from deploy.demo.cloud import REGION
from deploy.demo.ec2_document import DocumentAuthority
from gateway import bootstrap, ceremonies
from gateway.adapters import clock
from gateway.core.audit import Name
from gateway.core.rights import BUILT_IN
from gateway.settings import read
from gateway.web.server.service import Peer
from gateway.wire.secret import Secret

FILE = Path(__file__).parent / "end_to_end" / "matrix.txt"
OTHERS = ("anyone", "instance", "revoked")  # nobody; an instance's certificate; an operator who was revoked
ROLES = ("administrator", "operator", "monitor", "auditor", "revoker")
WHO = OTHERS + ROLES
# What is beside the desk, and who gets in there. An instance's certificate ends in the handshake.
BESIDE = {
    "GET /v1/login": {"anyone", "revoked", *ROLES},
    "POST /v1/login": {"anyone", "revoked", *ROLES},
    "POST /v1/logout": {*ROLES},
}
Matrix = dict[str, tuple[str, frozenset[str]]]
"""Route → its permission, and who is let in."""


def described(folder: Path) -> dict[str, Any]:
    """The OpenAPI document of an admin listener as `serve` builds it. Raises ValueError when it lacks a route."""
    certificates = folder / "certificates"
    certificates.mkdir()
    (certificates / f"{REGION}.pem").write_bytes(DocumentAuthority(REGION).certificate_pem())
    document = {
        "names": ["127.0.0.1"],
        "environment": "development",
        "store": f"sqlite:///{folder}/store/gateway.db",
        "aws": {"identity_certificates": str(certificates), "cache": str(REPOSITORY / ".aws-models")},
    }
    settings, passphrase = read(document, {}), "only-for-the-matrix"
    made = ceremonies.initialize(settings, Secret(passphrase), "alice", csr.make(keys.generate()))
    gateway = bootstrap.Gateway(settings, Secret(passphrase))
    gateway.start(0)
    try:
        (app,) = (each.wsgi.__self__ for each in gateway.listeners if each.name == "admin")  # type: ignore[attr-defined]
        environment = {
            "trusted_gateway.peer": Peer("127.0.0.1", 1, made.operator),
            "trusted_gateway.request_id": clock.request_id(),
        }
        answer = Client(app).get("/v1/openapi.json", environ_overrides=environment)
        found: dict[str, Any] = answer.json or {}
        rules = {
            f"{method} {path_of(rule.rule)}"
            for rule in app.url_map.iter_rules()
            for method in rule.methods - {"HEAD", "OPTIONS"}
        }
    finally:
        gateway.stop()
    listed = {f"{method.upper()} {path}" for path, methods in found["paths"].items() for method in methods}
    if rules != listed:
        raise ValueError(f"described, or there, and not both: {sorted(rules ^ listed)}")
    return found


def path_of(rule: str) -> str:
    """A rule of Flask's as a path of OpenAPI's."""
    return rule.replace("<path:", "<").replace("<", "{").replace(">", "}")


def matrix(document: dict[str, Any]) -> Matrix:
    """What the document and the built-in roles say. Raises KeyError for a route that nothing says who may reach."""
    found: Matrix = {}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            route = f"{method.upper()} {path}"
            if permission := operation.get("x-permission"):
                let_in = frozenset(role for role in ROLES if BUILT_IN[role].permits(Name(permission)))
                found[route] = (permission, let_in)
            else:
                found[route] = ("-", frozenset(BESIDE[route]))
    return found


def written(found: Matrix) -> str:
    """As a table."""
    width, wide = max(map(len, found)), max(len(permission) for permission, _ in found.values())
    lines = [f"{'# route':<{width}}  {'permission':<{wide}}  " + "  ".join(WHO)]
    for route, (permission, let_in) in sorted(found.items(), key=lambda item: item[0].split(" ")[::-1]):
        cells = "  ".join(f"{'allow' if who in let_in else 'deny':<{len(who)}}" for who in WHO)
        lines.append(f"{route:<{width}}  {permission:<{wide}}  {cells}".rstrip())
    return "\n".join(lines) + "\n"


def committed() -> Matrix:
    """What the file says. Raises ValueError for a line that is none."""
    found: Matrix = {}
    for line in FILE.read_text().splitlines()[1:]:
        method, path, permission, *cells = line.split()
        allowed = zip(WHO, cells, strict=True)
        found[f"{method} {path}"] = (permission, frozenset(who for who, cell in allowed if cell == "allow"))
    return found


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        text = written(matrix(described(Path(scratch))))
    if "--print" in sys.argv:
        sys.stdout.write(text)
    else:
        FILE.write_text(text)
