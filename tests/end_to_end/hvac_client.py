"""HashiCorp Vault's Python client, hvac, in a process of its own, as a program has it that had its keys there."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from certs import keys
from deploy.demo.visitor import Visitor
from tests.end_to_end.clients_env import clients_python
from tests.end_to_end.world import World

# One line in: the name of a method and its keywords. One line out: what it returned or raised.
_SCRIPT = """
import json, sys
import hvac

address, ca, certificate, key, more = json.loads(sys.argv[1])
client = hvac.Client(url=address, verify=ca, cert=(certificate, key) if certificate else None, **more)
for line in sys.stdin:
    name, arguments = json.loads(line)
    try:
        found = client
        for part in name.split("."):
            found = getattr(found, part)
        found = found(**arguments) if callable(found) else found
        found = {"status": found.status_code, "text": found.text} if hasattr(found, "status_code") else found
        print(json.dumps(["returned", found]), flush=True)
    except Exception as error:
        print(json.dumps(["raised", type(error).__name__, str(error)]), flush=True)
"""


class Raised(NamedTuple):
    """An exception as the program sees it."""

    name: str
    text: str


class Hvac:
    """`hvac.Client` with its certificate, or with none; each call is of the same client."""

    def __init__(self, process: "subprocess.Popen[str]", certificate: Path, key: Path) -> None:
        self._process = process
        self._login = {"cert_pem": str(certificate), "key_pem": str(key)}

    def login(self, **more: Any) -> Any:
        """`client.auth.cert.login`."""
        return self("auth.cert.login", **self._login, **more)

    def __call__(self, method: str, /, **arguments: Any) -> Any:
        """What `client.<method>(**arguments)` returns, or Raised."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([method, arguments]) + "\n")
        self._process.stdin.flush()
        what, *found = json.loads(self._process.stdout.readline())
        return found[0] if what == "returned" else Raised(*found)


@contextmanager
def hvac(world: World, folder: Path, visitor: Visitor, **more: Any) -> Iterator[Hvac]:
    """A client with the visitor's certificate, if it has one; `more` goes to hvac.Client."""
    ca, certificate, key = (folder / name for name in ("ca.pem", "certificate.pem", "key.pem"))
    ca.write_text(world.root)
    certificate.write_text(visitor.certificate or "")
    key.touch(mode=0o600)
    key.write_bytes(keys.dump_private_pem(visitor.key))
    known = str(certificate) if visitor.certificate else None
    settings = json.dumps([f"https://{world.site.instance}", str(ca), known, str(key), more])
    command = [str(clients_python()), "-c", _SCRIPT, settings]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Hvac(process, certificate, key)
        finally:
            process.terminate()
