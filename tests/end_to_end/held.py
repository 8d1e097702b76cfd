"""A running listener, held to its own OpenAPI document by schemathesis."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from certs import keys
from deploy.demo.visitor import Visitor

# How many examples schemathesis makes of each operation: few in every run, many where somebody waits for it.
EXAMPLES = os.environ.get("OPENAPI_EXAMPLES", "15")
SEED = "20301"
CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,"
    "response_schema_conformance,negative_data_rejection"
)
# Rejected is also what is too large, and what comes under the key of another request: schemathesis' own list lacks
# them. 502 tells what AWS said; that it is documented is another check.
SETTINGS = """[checks.negative_data_rejection]
expected-statuses = ["400", "401", "403", "404", "405", "412", "413", "415", "422", "431"]

[checks.not_a_server_error]
expected-statuses = ["2xx", "3xx", "4xx", "502"]
"""


def held_to_it(
    address: str, root: str, visitor: Visitor, folder: Path, document: dict[str, Any], *more: str
) -> "subprocess.CompletedProcess[str]":
    """Run schemathesis against a listener, with the visitor's certificate if it has one."""
    (folder / "openapi.json").write_text(json.dumps(document))
    ca, certificate, key = (folder / name for name in ("ca.pem", "certificate.pem", "key.pem"))
    ca.write_text(root)
    settings = folder / "schemathesis.toml"
    settings.write_text(SETTINGS)
    command = [
        str(Path(sys.executable).with_name("schemathesis")), "--config-file", str(settings),
        "run", "openapi.json", "--url", f"https://{address}", "--tls-verify", str(ca), "--request-timeout", "30",
        "--checks", CHECKS, "--max-examples", EXAMPLES, "--seed", SEED, "--generation-database", "none",
        "--suppress-health-check", "all", *more,
    ]  # fmt: skip
    if visitor.certificate:
        certificate.write_text(visitor.certificate)
        key.touch(mode=0o600)
        key.write_bytes(keys.dump_private_pem(visitor.key))
        command += ["--request-cert", str(certificate), "--request-cert-key", str(key)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=3600, check=False)
