"""A local AWS that enforces: ministack in a process and an environment of its own, checked before it is believed.

Test clouds that enforce nothing make every test against them worthless, so each start proves on this very cloud that
wrong secrets, unknown keys, missing rights, session policies and explicit denials are refused, and that what is allowed
works. Seeding uses ministack's own back door (a 12-digit access key is the unverified root of that account); nothing
else may.
"""

import functools
import json
import os
import socket
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from subprocess import Popen
from types import TracebackType
from typing import Any, Self

import boto3
import botocore.loaders
import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from deploy.demo import REPOSITORY, end, spawn
from gateway.wire.secret import Secret

PYTHON = REPOSITORY / ".cloud-venv" / "bin" / "python"
REGION = "us-east-1"  # where an SDK looks that is told no region
ACCOUNT = "111122223333"
CHECK_ACCOUNT = "999988887777"
USER = "trusted-gateway"
IMAGE = "ami-0abcdef1234567890"
START_SECONDS = 60
# What `trusted-gateway server` does.
MACHINES = [
    f"ec2:{each}"
    for each in ("RunInstances", "CreateTags", "StartInstances", "StopInstances", "RebootInstances",
                 "TerminateInstances", "GetConsoleOutput")
]  # fmt: skip
ACCEPTED, REFUSED = "accepted", "refused"

# AUTH is what makes it enforce. It would listen for MQTT and SFTP, on all addresses, unless told not to.
SETTINGS = {"AUTH": "true", "IOT_MTLS_ENABLED": "0", "SFTP_ENABLED": "0", "LOG_LEVEL": "WARNING"}


class CloudMissing(RuntimeError):
    """The local AWS is not installed, or does not start."""


class CloudDoesNotEnforce(RuntimeError):
    """This cloud accepts what AWS refuses. `faults` names each thing."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("this cloud does not enforce: " + "; ".join(faults))
        self.faults = faults


@dataclass(frozen=True, slots=True)
class Seeded:
    """What an administrator would have made in the account.

    `access_key_id` and `secret` are the double-secret key: an IAM user that may assume `role_arn`, tag the session and
    set its source identity, and describe, launch, start, stop and end instances. The role may list and read all of
    `bucket`, which holds an object or two below each of `prefixes`.
    """

    account: str
    region: str
    access_key_id: str
    secret: Secret
    role_arn: str
    bucket: str
    prefixes: tuple[str, str] = ("reports/", "payroll/")


@dataclass(frozen=True, slots=True)
class RunningInstance:
    """An instance as DescribeInstances shows it: also the arguments of `ec2_document.identity_document`."""

    account: str
    region: str
    instance_id: str
    image_id: str
    private_ip: str
    launch_time: datetime


@functools.cache
def _loader() -> Any:
    return botocore.loaders.create_loader()


def client(
    endpoint: str, service: str, access_key_id: str, secret: Secret, token: Secret | None = None, region: str = REGION
) -> Any:
    """A boto3 client that knows what it is told here and nothing else: no files, profiles, proxies or retries."""
    none, nowhere = (None, None, None, None), (None, None, os.devnull, None)
    core = botocore.session.Session({"profile": none, "config_file": nowhere, "credentials_file": nowhere})
    core.register_component("data_loader", _loader())  # shared, since the service models take long to read
    with secret as secret_access_key, token or Secret(b"") as session_token:
        session = boto3.session.Session(
            aws_access_key_id=access_key_id,
            aws_secret_access_key=secret_access_key.decode(),
            aws_session_token=session_token.decode() or None,
            region_name=region,
            botocore_session=core,
        )
    config = Config(
        retries={"total_max_attempts": 1},
        proxies={},
        connect_timeout=5,
        read_timeout=30,
        s3={"addressing_style": "path"},
    )
    return session.client(service, endpoint_url=endpoint, config=config)


def root_client(endpoint: str, service: str, account: str) -> Any:
    """The root of an account, by ministack's back door: for seeding only, never for what a test asserts."""
    return client(endpoint, service, account, Secret("any"))


def prefix_policy(bucket: str, prefix: str) -> str:
    """A session policy that allows to list and read what lies below `prefix`, and nothing else."""
    list_ = _statement("s3:ListBucket", f"arn:aws:s3:::{bucket}", Condition={"StringLike": {"s3:prefix": f"{prefix}*"}})
    return _policy(list_, _statement("s3:GetObject", f"arn:aws:s3:::{bucket}/{prefix}*"))


def _policy(*statements: dict[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": statements})


def _statement(action: str | list[str], resource: str, effect: str = "Allow", **more: Any) -> dict[str, Any]:
    return {"Effect": effect, "Action": action, "Resource": resource, **more}


def seed(endpoint: str, account: str, bucket: str) -> Seeded:
    """Make the user, the role and the bucket that `Seeded` describes."""
    iam, s3 = root_client(endpoint, "iam", account), root_client(endpoint, "s3", account)
    user = iam.create_user(UserName=USER)["User"]["Arn"]
    key = iam.create_access_key(UserName=USER)["AccessKey"]
    assume = ["sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity"]
    trust = _policy({"Effect": "Allow", "Principal": {"AWS": user}, "Action": assume})
    role = iam.create_role(RoleName="reader", AssumeRolePolicyDocument=trust)["Role"]["Arn"]
    reads = _policy(
        _statement("s3:ListBucket", f"arn:aws:s3:::{bucket}"), _statement("s3:GetObject", f"arn:aws:s3:::{bucket}/*")
    )
    iam.put_role_policy(RoleName="reader", PolicyName="reads", PolicyDocument=reads)
    least = _policy(_statement(assume, role), _statement("ec2:DescribeInstances", "*"), _statement(MACHINES, "*"))
    iam.put_user_policy(UserName=USER, PolicyName="least", PolicyDocument=least)
    s3.create_bucket(Bucket=bucket)
    for key_name in ("reports/2026-10.csv", "reports/2026-11.csv", "payroll/2026-11.csv"):
        s3.put_object(Bucket=bucket, Key=key_name, Body=b"month,total\n")
    return Seeded(account, REGION, key["AccessKeyId"], Secret(key["SecretAccessKey"]), role, bucket)


def self_check(endpoint: str) -> None:
    """Prove that the cloud at `endpoint` refuses what AWS refuses, and allows what AWS allows.

    It works in an account of its own, once a cloud. Raises CloudDoesNotEnforce.
    """
    faults: list[str] = []

    def must(be: str, what: str, call: Callable[..., Any], **arguments: Any) -> None:
        try:
            call(**arguments)
            was = ACCEPTED
        except ClientError as error:
            status = error.response["ResponseMetadata"]["HTTPStatusCode"]
            was = REFUSED if status in (401, 403) else f"answered with status {status}"
        if was != be:
            faults.append(f"{what} was {was}")

    try:
        _check(endpoint, must)
    except (BotoCoreError, ClientError, ResponseParserError, KeyError) as error:
        faults.append(f"it does not answer as AWS does ({type(error).__name__})")
    if faults:
        raise CloudDoesNotEnforce(faults)


def _check(endpoint: str, must: Callable[..., None]) -> None:
    unknown = client(endpoint, "sts", "AKIAUNKNOWNUNKNOWN00", Secret("unknown"))
    must(REFUSED, "an unknown access key", unknown.get_caller_identity)
    seeded = seed(endpoint, CHECK_ACCOUNT, "self-check")
    granted, other = ({"Bucket": seeded.bucket, "Prefix": prefix} for prefix in seeded.prefixes)

    sts = client(endpoint, "sts", seeded.access_key_id, seeded.secret)
    must(ACCEPTED, "the right secret", sts.get_caller_identity)
    for service, call, arguments in (
        ("sts", "get_caller_identity", {}),
        ("ec2", "describe_instances", {}),
        ("s3", "list_objects_v2", granted),
    ):
        liar = client(endpoint, service, seeded.access_key_id, Secret("0" * 40))
        must(REFUSED, f"a wrong secret ({service})", getattr(liar, call), **arguments)
    user = client(endpoint, "s3", seeded.access_key_id, seeded.secret)
    must(REFUSED, "a user without the right", user.list_objects_v2, **granted)

    def assume(policy: str) -> tuple[str, Secret, Secret]:
        session = sts.assume_role(RoleArn=seeded.role_arn, RoleSessionName="self-check", Policy=policy)["Credentials"]
        return session["AccessKeyId"], Secret(session["SecretAccessKey"]), Secret(session["SessionToken"])

    payroll = {"Bucket": seeded.bucket, "Key": f"{seeded.prefixes[1]}2026-11.csv"}
    key_id, secret, token = assume(prefix_policy(seeded.bucket, seeded.prefixes[0]))
    limited = client(endpoint, "s3", key_id, secret, token)
    must(ACCEPTED, "a list that a session policy allows", limited.list_objects_v2, **granted)
    must(REFUSED, "a list that no session policy allows", limited.list_objects_v2, **other)
    must(REFUSED, "a read that no session policy allows", limited.get_object, **payroll)
    tokenless = client(endpoint, "s3", key_id, secret)
    must(REFUSED, "a session without its token", tokenless.list_objects_v2, **granted)

    denial = _statement("s3:*", f"arn:aws:s3:::{seeded.bucket}/{seeded.prefixes[1]}*", "Deny")
    denied = client(endpoint, "s3", *assume(_policy(_statement("s3:*", "*"), denial)))
    must(ACCEPTED, "a list beside an explicit denial", denied.list_objects_v2, **granted)
    must(REFUSED, "a read under an explicit denial", denied.get_object, **payroll)


class Cloud:
    """A local AWS: `with Cloud(folder) as cloud: seeded = cloud.seed()`. It has passed `self_check`, or does not start.

    All that it leaves is in `folder`. It ends with the `with`, or with us, unless `keep`; then `stop()` ends it.
    """

    def __init__(self, folder: Path, *, keep: bool = False) -> None:
        self._folder, self._keep = folder, keep
        self._process: Popen[bytes] | None = None
        self.endpoint = ""

    def __enter__(self) -> Self:
        """Raises CloudMissing and CloudDoesNotEnforce."""
        if not PYTHON.exists():
            raise CloudMissing(f"{PYTHON} is missing: `make` makes it (`make demo`, `make test`)")
        self._folder.mkdir(parents=True, exist_ok=True)
        try:
            self._start()
            self_check(self.endpoint)
        except BaseException:
            self.stop()
            raise
        return self

    def _start(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            # The server gets a socket that listens already: no port to guess, and the first request waits in its
            # queue until it is answered.
            port = listener.getsockname()[1]
            environment = SETTINGS | {
                "GATEWAY_PORT": str(port),
                "MINISTACK_REGION": REGION,
                "HOME": str(self._folder),
                "TMPDIR": str(self._folder),
                "DOCKER_HOST": f"unix://{self._folder}/no-docker.sock",  # else it cleans up among the user's containers
            }
            # In one process (no workers), and closing open connections at once when it is told to stop.
            command: list[str | Path] = [PYTHON, "-m", "hypercorn", "--workers", "0", "--graceful-timeout", "0"]
            self._process = spawn(
                [*command, "--bind", f"fd://{listener.fileno()}", "ministack.app:app"],
                folder=self._folder,
                environment=environment,
                log=self._folder / "cloud.log",
                inherit=[listener.fileno()],
                keep=self._keep,
            )
        self.endpoint = f"http://127.0.0.1:{port}"
        try:
            direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            direct.open(f"{self.endpoint}/_ministack/health", timeout=START_SECONDS).close()
        except OSError as error:
            raise CloudMissing(f"the local AWS did not start ({error}); see {self._folder / 'cloud.log'}") from None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._keep:
            self.stop()

    @property
    def pids(self) -> list[int]:
        """The processes that run."""
        return [self._process.pid] if self._process else []

    def stop(self) -> None:
        """End the process, if it runs."""
        if self._process:
            end(self._process)

    def root(self, service: str) -> Any:
        """A client for seeding, as the root of the account."""
        return root_client(self.endpoint, service, ACCOUNT)

    def seed(self) -> Seeded:
        """Make the double-secret key's user, the role, and the bucket. Once a cloud."""
        return seed(self.endpoint, ACCOUNT, "demo-data")

    def run_instance(self, image_id: str = IMAGE, private_ip: str | None = None) -> RunningInstance:
        """RunInstances, and what DescribeInstances then shows. With a `private_ip` of loopback, its address is real."""
        ec2 = self.root("ec2")
        address = {"PrivateIpAddress": private_ip} if private_ip else {}
        run = ec2.run_instances(ImageId=image_id, InstanceType="t3.micro", MinCount=1, MaxCount=1, **address)
        return self.instance(run["Instances"][0]["InstanceId"])

    def instance(self, instance_id: str) -> RunningInstance:
        """What DescribeInstances shows of an instance."""
        (reservation,) = self.root("ec2").describe_instances(InstanceIds=[instance_id])["Reservations"]
        (instance,) = reservation["Instances"]
        return RunningInstance(
            account=reservation["OwnerId"],
            region=REGION,
            instance_id=instance["InstanceId"],
            image_id=instance["ImageId"],
            private_ip=instance["PrivateIpAddress"],
            launch_time=instance["LaunchTime"],
        )
