"""Machines: an instance that the local AWS knows, its metadata service, and its agent, each a process of its own."""

import http.client
import json
import os
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from deploy.demo import end, spawn
from deploy.demo.cloud import Cloud, RunningInstance
from deploy.demo.ec2_document import DocumentAuthority, SignedDocument, identity_document
from deploy.demo.metadata import Metadata, resources
from deploy.demo.site import BIN, CommandFailed


def document_of(instance: RunningInstance, authority: DocumentAuthority) -> SignedDocument:
    """The signed identity document of an instance."""
    return authority.sign(
        identity_document(
            account=instance.account,
            region=instance.region,
            instance_id=instance.instance_id,
            image_id=instance.image_id,
            private_ip=instance.private_ip,
            launch_time=instance.launch_time,
        )
    )


class Machine:
    """One instance, or `instance`. All that is on it is in `folder` and in `run`, the agent's run directory."""

    def __init__(
        self,
        folder: Path,
        cloud: Cloud,
        authority: DocumentAuthority,
        *,
        run: Path | None = None,
        keep: bool = False,
        instance: RunningInstance | None = None,
    ) -> None:
        self.folder, self._keep = folder, keep
        self.run = run or folder / "run"
        self.instance = instance or cloud.run_instance()
        self.document = document_of(self.instance, authority)
        self._metadata: Metadata | None = None
        self._agent: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    @property
    def state(self) -> Path:
        """The agent's state directory."""
        return self.folder / "state"

    @property
    def log(self) -> Path:
        """What the agent says."""
        return self.folder / "agent.log"

    @property
    def agent_command(self) -> list[str]:
        """How the agent's command line is called on this machine."""
        return [str(BIN / "trusted-gateway-agent")]

    @property
    def agent_pid(self) -> int:
        """The agent's process id."""
        if self._agent is None:
            raise CommandFailed("no agent was started")
        return self._agent.pid

    @property
    def pids(self) -> list[int]:
        """The processes that run."""
        agent = [self._agent.pid] if self._agent else []
        return agent + (self._metadata.pids if self._metadata else [])

    def boot(self, user_data: str) -> None:
        """Start the metadata service, with this user-data."""
        values = resources(
            instance_id=self.instance.instance_id,
            region=self.instance.region,
            private_ip=self.instance.private_ip,
            image_id=self.instance.image_id,
            signed=self.document,
            user_data=user_data,
        )
        self._metadata = Metadata(values, self.folder / "metadata", keep=self._keep)
        self._metadata.__enter__()

    def start_agent(self) -> None:
        """`trusted-gateway-agent run`."""
        self._agent = spawn(
            [*self.agent_command, "run"],
            folder=self.folder,
            environment=self.environment(),
            log=self.log,
            keep=self._keep,
        )

    def environment(self) -> dict[str, str]:
        """What processes on this machine have: a path, and where the agent's things are."""
        metadata = self._metadata.endpoint if self._metadata else ""
        return {
            "PATH": f"{BIN}:/usr/bin:/bin",
            "HOME": str(self.folder),
            "LANG": "C.UTF-8",
            "TRUSTED_GATEWAY_AGENT_STATE_DIR": str(self.state),
            "TRUSTED_GATEWAY_AGENT_RUN_DIR": str(self.run),
            "TRUSTED_GATEWAY_AGENT_METADATA": metadata,
            "TRUSTED_GATEWAY_AGENT_LISTEN": "127.0.0.1:0",
            "TRUSTED_GATEWAY_AGENT_IMDS": "127.0.0.1:0",
            "TRUSTED_GATEWAY_AGENT_CALLS": "127.0.0.1:0",
        }

    def agent(self, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        """Run a command of the agent's, whatever its status."""
        return subprocess.run(
            [*self.agent_command, *arguments],
            env=self.environment() | environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def ask_socket(self, grant: str, uid: int) -> str:
        """Ask the agent's socket as another user, for which we are root: the first line of the answer.

        In a child of this process, since that user may not even read the programs of this folder.
        """
        ours, theirs = os.pipe()
        if (child := os.fork()) == 0:
            try:
                os.setgroups([])
                os.setgid(uid)
                os.setuid(uid)
                with socket.socket(socket.AF_UNIX) as connection:
                    connection.connect(str(self.run / "agent.sock"))
                    connection.sendall(f"credentials {grant}\n".encode())
                    os.write(theirs, connection.makefile("rb").readline())
            except OSError as error:
                os.write(theirs, f"error {error.strerror}".encode())
            finally:
                os._exit(0)
        os.close(theirs)
        os.waitpid(child, 0)
        with open(ours, "rb") as answer:
            return answer.read().decode()

    def status(self) -> dict[str, Any] | None:
        """What `trusted-gateway-agent status --json` says; None when it says nothing."""
        said = self.agent("status", "--json").stdout
        try:
            found: dict[str, Any] = json.loads(said)
            return found
        except ValueError:
            return None

    def wait_ready(self, seconds: float = 60) -> None:
        """Until the agent has written where it serves. Raises CommandFailed with what it said."""
        deadline = time.monotonic() + seconds
        while not (self.run / "agent.json").exists() or self.agent("status").returncode != 0:
            if time.monotonic() > deadline or (self._agent and self._agent.poll() is not None):
                said = self.log.read_text(errors="replace").splitlines()[-3:] if self.log.exists() else []
                raise CommandFailed("the agent is not ready\n" + "\n".join(said))
            time.sleep(0.1)

    def sdk_environment(self, grant: str) -> dict[str, str]:
        """What an SDK is told: the credentials' address and the file with its authorization token. Nothing else."""
        running = json.loads((self.run / "agent.json").read_text())
        return {
            "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"http://{running['listen']}/v1/credentials/{grant}",
            "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": running["tokens"][grant],
        }

    def ask_loopback(self, grant: str) -> tuple[int, Mapping[str, Any]]:
        """Ask the agent as an SDK does: status and JSON."""
        told = self.sdk_environment(grant)
        address, path = told["AWS_CONTAINER_CREDENTIALS_FULL_URI"].removeprefix("http://").split("/", 1)
        token = Path(told["AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"]).read_text()
        connection = http.client.HTTPConnection(address, timeout=5)
        try:
            connection.request("GET", "/" + path, headers={"Authorization": token})
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        finally:
            connection.close()

    def stop(self) -> None:
        """End agent and metadata service."""
        if self._agent:
            end(self._agent)
            self._agent = None
        if self._metadata:
            self._metadata.stop()

    def kill_agent(self) -> None:
        """SIGKILL."""
        if self._agent:
            os.kill(self._agent.pid, 9)
            self._agent.wait()
            self._agent = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._keep:
            self.stop()
