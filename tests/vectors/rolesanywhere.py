"""Freezes requests of AWS's clients in rolesanywhere.json: `.clients-venv/bin/python -m tests.vectors.rolesanywhere`.

Those of AWS's credential helper (`helper`) stay as they are, unless AWS_SIGNING_HELPER says where one is.
"""

import base64
import contextlib
import json
import os
import subprocess
import tempfile
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib import import_module
from pathlib import Path
from threading import Thread
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from tests.foreign import ForeignCa, Holder, ec_key, parameters, rsa_key

FILE = Path(__file__).with_suffix(".json")


def capture(holder: Holder, folder: Path, **more: Any) -> dict[str, Any]:
    """The request that the client would send."""
    # Not of the project's own environment: found where this runs.
    module: Any = import_module("iam_rolesanywhere_session.iam_rolesanywhere_session")
    sent: list[Any] = []

    class Wire:
        """Instead of the client's HTTP session."""

        def __init__(self, **_: Any) -> None:
            pass

        def send(self, request: Any) -> Any:
            sent.append(request)
            raise ConnectionError

    for name, text in (("key", holder.key_pem), ("cert", holder.pem), ("chain", holder.chain_pem)):
        (folder / name).write_bytes(text)
    arns = parameters("corp", "web", "arn:aws:iam::111122223333:role/reader")
    module.URLLib3Session = Wire
    session = module.IAMRolesAnywhereSession(
        profile_arn=arns["profileArn"],
        role_arn=arns["roleArn"],
        trust_anchor_arn=arns["trustAnchorArn"],
        certificate=str(folder / "cert"),
        private_key=str(folder / "key"),
        certificate_chain=str(folder / "chain") if holder.chain else None,
        region="us-east-1",
        endpoint="gateway.test:8443",
        **more,
    )
    with contextlib.suppress(ConnectionError):
        session.get_session().get_credentials().get_frozen_credentials()
    (request,) = sent
    body = request.body if isinstance(request.body, bytes) else str(request.body).encode()
    headers = {name: value.decode() if isinstance(value, bytes) else value for name, value in request.headers.items()}
    return {"query": "", "headers": headers, "body": base64.b64encode(body).decode()}


def capture_helper(helper: str, holder: Holder, folder: Path, **_: Any) -> dict[str, Any]:
    """The request that AWS's helper sends, to a server that listens in and says no."""
    seen: list[dict[str, Any]] = []

    class Listening(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = base64.b64encode(self.rfile.read(int(self.headers["Content-Length"]))).decode()
            seen.append({"query": self.path.partition("?")[2], "headers": dict(self.headers.items()), "body": body})
            self.send_response(403)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    for name, text in (("key", holder.key_pem), ("cert", holder.pem), ("chain", holder.chain_pem)):
        (folder / name).write_bytes(text)
    arns = parameters("corp", "web", "arn:aws:iam::111122223333:role/reader")
    server = HTTPServer(("127.0.0.1", 0), Listening)
    Thread(target=server.serve_forever, daemon=True).start()
    command = [helper, "credential-process", "--certificate", "cert", "--private-key", "key"]
    command += ["--trust-anchor-arn", arns["trustAnchorArn"], "--profile-arn", arns["profileArn"]]
    command += ["--role-arn", arns["roleArn"], "--endpoint", f"http://127.0.0.1:{server.server_port}"]
    command += ["--intermediates", "chain"] if holder.chain else []
    subprocess.run(command, cwd=folder, env={"HOME": str(folder)}, capture_output=True, timeout=60, check=False)
    server.shutdown()
    server.server_close()
    return seen[0]


def main() -> None:
    ca = ForeignCa()
    below = ca.intermediate(key=ec_key(ec.SECP384R1()))
    cases: dict[str, tuple[Holder, dict[str, Any]]] = {
        "RSA": (ca.leaf("host-1", rsa_key()), {}),
        "P-256": (ca.leaf("host-1"), {"session_duration": 900}),
        "P-384 below an intermediate": (below.leaf("host-1", ec_key(ec.SECP384R1())), {}),
        "a certificate signed with SHA-384": (ca.leaf("host-1", digest=hashes.SHA384()), {}),
        "a name and properties": (
            ca.leaf("host-1"),
            {"role_session_name": "host-1", "instance_properties": {"a": "b"}},
        ),
    }
    kept = json.loads(FILE.read_text())["helper"] if FILE.exists() else {}
    with tempfile.TemporaryDirectory() as folder:
        if helper := os.environ.get("AWS_SIGNING_HELPER"):
            kept = {name: capture_helper(helper, holder, Path(folder)) for name, (holder, _) in cases.items()}
        made = {name: capture(holder, Path(folder), **more) for name, (holder, more) in cases.items()}
    FILE.write_text(json.dumps({"python": made, "helper": kept}, indent=1) + "\n")


if __name__ == "__main__":
    main()
