"""How a program on the instance is told where its credentials are, way by way, as docs/agent.md says."""

import base64
import json
import os
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from deploy.demo.cloud import REGION
from deploy.demo.machine import Machine
from tests.clients.table import Client, Place

GRANT = "reports"


@dataclass(frozen=True, slots=True)
class Told:
    """The environment that leads a program to the agent, and what stands before its command. `counted` names the way by
    which the agent counts its answers.
    """

    counted: str
    environment: Mapping[str, str] = field(default_factory=dict)
    before: list[str] = field(default_factory=list)


class OnInstance(Machine):
    """A machine whose agent takes free ports. `role` is the role of its grant."""

    role = ""

    def environment(self) -> dict[str, str]:
        return super().environment() | {"TRUSTED_GATEWAY_AGENT_IMDS": "127.0.0.1:0"}

    def held(self) -> Path:
        """The instance's key and certificate as files, as they were when this was first asked for."""
        folder = self.folder / "held"
        if not folder.exists():
            folder.mkdir(mode=0o700)
            kept = json.loads((self.state / "state.json").read_text())
            for name, kind, der in (("key.pem", "PRIVATE KEY", kept["key"]), ("ca.pem", "CERTIFICATE", kept["root"])):
                with open(os.open(folder / name, os.O_CREAT | os.O_WRONLY, 0o600), "w") as file:
                    file.write(f"-----BEGIN {kind}-----\n{base64.encodebytes(base64.b64decode(der)).decode()}")
                    file.write(f"-----END {kind}-----\n")
            (folder / "leaf.pem").write_text(kept["certificate"])
        return folder


def container(machine: Machine, client: Client) -> Told:
    """The two variables of the container credential provider."""
    told = machine.sdk_environment(GRANT)
    if client.token_in_variable:
        told["AWS_CONTAINER_AUTHORIZATION_TOKEN"] = Path(told.pop("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE")).read_text()
    return Told("container", told)


def imds(machine: Machine, client: Client) -> Told:
    """The metadata look-alike."""
    del client
    running = json.loads((machine.run / "agent.json").read_text())
    return Told("imds", {"AWS_EC2_METADATA_SERVICE_ENDPOINT": f"http://{running['imds']}/"})


def process(machine: Machine, client: Client) -> Told:
    """`credential_process`, as `configure` writes it."""
    del client
    done = machine.agent("configure", "--profile", "default", "--grant", GRANT)
    assert done.returncode == 0, done.stderr
    return Told("process", {"AWS_CONFIG_FILE": str(machine.folder / ".aws" / "config")})


def _exec(counted: str, *options: str) -> Callable[[Machine, Client], Told]:
    def told(machine: Machine, client: Client) -> Told:
        del client
        return Told(counted, _agent(machine), [*machine.agent_command, "exec", "--grant", GRANT, *options, "--"])

    return told


def env(machine: Machine, client: Client) -> Told:
    """`eval "$(trusted-gateway-agent env)"` in a shell."""
    del client
    line = f'eval "$({shlex.quote(machine.agent_command[0])} env --grant {GRANT})"; exec "$@"'
    return Told("process", _agent(machine), ["sh", "-c", line, "sh"])


def file(machine: Machine, client: Client) -> Told:
    """The credential file, the last resort."""
    del client
    path = str(machine.run / f"{GRANT}.credentials")
    return Told("file", {"AWS_SHARED_CREDENTIALS_FILE": path, "AWS_CREDENTIAL_FILE": path})


def sessions(machine: Machine, client: Client) -> Told:
    """The gateway's own `/sessions`, as IAM Roles Anywhere has it."""
    del client
    assert isinstance(machine, OnInstance)
    kept = _kept(machine)
    place = f"arn:aws:rolesanywhere:{REGION}:{machine.instance.account}"
    arns = {
        "TRUST_ANCHOR_ARN": f"{place}:trust-anchor/instances",
        "PROFILE_ARN": f"{place}:profile/{kept['profile']}/{GRANT}",
        "ROLE_ARN": machine.role,
    }
    return Told("sessions", {"HELD": str(machine.held()), "GATEWAY": kept["gateway"], **arns})


def vault(machine: Machine, client: Client) -> Told:
    """The gateway's own subset of Vault."""
    del client
    assert isinstance(machine, OnInstance)
    return Told("vault", {"HELD": str(machine.held()), "GATEWAY": _kept(machine)["gateway"], "GRANT": GRANT})


def _kept(machine: Machine) -> dict[str, str]:
    found: dict[str, str] = json.loads((machine.state / "state.json").read_text())
    return found


def _agent(machine: Machine) -> Mapping[str, str]:
    return {name: value for name, value in machine.environment().items() if name.startswith("TRUSTED_GATEWAY_AGENT_")}


WAYS: Mapping[str, Callable[[Machine, Client], Told]] = {
    "container": container,
    "imds": imds,
    "process": process,
    "exec": _exec("container"),
    "exec --via imds": _exec("imds", "--via", "imds"),
    "exec --via keys": _exec("process", "--via", "keys"),
    "env": env,
    "file": file,
    "sessions": sessions,
    "vault": vault,
}


# Keys that a process was started with: it does not get others, and a new process does.
STATIC = ("exec --via keys", "env", "file")


def surroundings(folder: Path, place: Place, client: Client, told: Told) -> dict[str, str]:
    """The whole environment of a program: no key, no file of anyone's, and what it is told."""
    return {
        "PATH": "/usr/bin:/bin",
        "HOME": str(folder),
        "LANG": "C.UTF-8",
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ENDPOINT_URL": place.endpoint,
        **({} if told.counted == "imds" else {"AWS_EC2_METADATA_DISABLED": "true"}),
        **client.environment,
        **told.environment,
    }
