"""The local AWS enforces, is checked for it at every start, and ends with whoever started it."""

import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from deploy.demo import REPOSITORY, cloud
from deploy.demo.cloud import Cloud, CloudDoesNotEnforce, CloudMissing, Seeded, client, prefix_policy, self_check
from deploy.demo.ec2_document import identity_document
from gateway.wire.secret import Secret


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with Cloud(tmp_path_factory.mktemp("cloud")) as running:
        yield running


@pytest.fixture(scope="module")
def seeded(running: Cloud) -> Seeded:
    return running.seed()


def now() -> datetime:
    return datetime.now(UTC)


def code(call: Any, **arguments: Any) -> str:
    with pytest.raises(ClientError) as refused:
        call(**arguments)
    return str(refused.value.response["Error"]["Code"])


def as_user(running: Cloud, seeded: Seeded, service: str) -> Any:
    return client(running.endpoint, service, seeded.access_key_id, seeded.secret)


def vended(running: Cloud, seeded: Seeded, **arguments: Any) -> Any:
    sts = as_user(running, seeded, "sts")
    session = sts.assume_role(
        RoleArn=seeded.role_arn,
        RoleSessionName="i-0123456789abcdef0",
        SourceIdentity="i-0123456789abcdef0",
        Tags=[{"Key": "gateway:instance", "Value": "i-0123456789abcdef0"}],
        DurationSeconds=900,
        **arguments,
    )["Credentials"]
    life = session["Expiration"] - now()
    assert timedelta(seconds=890) < life <= timedelta(seconds=900)
    secret, token = Secret(session["SecretAccessKey"]), Secret(session["SessionToken"])
    return client(running.endpoint, "s3", session["AccessKeyId"], secret, token)


def test_the_double_secret_key_has_the_least_rights(running: Cloud, seeded: Seeded) -> None:
    assert as_user(running, seeded, "sts").get_caller_identity()["Arn"].endswith(":user/trusted-gateway")
    as_user(running, seeded, "ec2").describe_instances()
    s3, ec2, iam = (as_user(running, seeded, service) for service in ("s3", "ec2", "iam"))
    assert code(s3.list_objects_v2, Bucket=seeded.bucket) == "AccessDenied"
    assert code(s3.get_object, Bucket=seeded.bucket, Key="reports/2026-11.csv") == "AccessDenied"
    assert code(ec2.create_key_pair, KeyName="a-way-in") == "UnauthorizedOperation"
    assert code(ec2.describe_volumes) == "UnauthorizedOperation"
    assert code(iam.list_users) == "AccessDenied"


def test_a_role_session_reaches_the_whole_bucket(running: Cloud, seeded: Seeded) -> None:
    s3 = vended(running, seeded)
    counts = [s3.list_objects_v2(Bucket=seeded.bucket, Prefix=prefix)["KeyCount"] for prefix in seeded.prefixes]
    assert counts == [2, 1]
    assert code(s3.put_object, Bucket=seeded.bucket, Key="reports/new", Body=b"") == "AccessDenied"


def test_a_session_policy_cuts_it_down_to_one_prefix(running: Cloud, seeded: Seeded) -> None:
    s3 = vended(running, seeded, Policy=prefix_policy(seeded.bucket, "reports/"))
    assert s3.list_objects_v2(Bucket=seeded.bucket, Prefix="reports/")["KeyCount"] == 2
    assert s3.get_object(Bucket=seeded.bucket, Key="reports/2026-11.csv")["Body"].read()
    assert code(s3.list_objects_v2, Bucket=seeded.bucket, Prefix="payroll/") == "AccessDenied"
    assert code(s3.list_objects_v2, Bucket=seeded.bucket) == "AccessDenied"
    assert code(s3.get_object, Bucket=seeded.bucket, Key="payroll/2026-11.csv") == "AccessDenied"


def test_wrong_credentials_have_the_codes_of_aws(running: Cloud, seeded: Seeded) -> None:
    wrong, unknown = Secret("0" * 40), "AKIAUNKNOWNUNKNOWN00"
    for key_id, secret, expected in (
        (seeded.access_key_id, wrong, ["SignatureDoesNotMatch", "SignatureDoesNotMatch", "AuthFailure"]),
        (unknown, seeded.secret, ["InvalidClientTokenId", "InvalidAccessKeyId", "AuthFailure"]),
    ):
        sts, s3, ec2 = (client(running.endpoint, service, key_id, secret) for service in ("sts", "s3", "ec2"))
        assert [code(sts.get_caller_identity), code(s3.list_buckets), code(ec2.describe_instances)] == expected


def test_an_instance_is_known_to_describe_instances(running: Cloud, seeded: Seeded) -> None:
    before = now().replace(microsecond=0)
    instance = running.run_instance(private_ip="127.0.0.1")
    assert (instance.account, instance.region, instance.private_ip) == (seeded.account, seeded.region, "127.0.0.1")
    assert before <= instance.launch_time <= now()
    assert instance.instance_id.encode() in identity_document(**asdict(instance))
    ec2 = as_user(running, seeded, "ec2")
    described = ec2.describe_instances(InstanceIds=[instance.instance_id])["Reservations"][0]["Instances"][0]
    assert described["State"]["Name"] == "running"
    running.root("ec2").terminate_instances(InstanceIds=[instance.instance_id])
    described = ec2.describe_instances(InstanceIds=[instance.instance_id])["Reservations"][0]["Instances"][0]
    assert described["State"]["Name"] == "terminated"
    absent = ["i-0123456789abcdef0"]
    assert code(ec2.describe_instances, InstanceIds=absent) == "InvalidInstanceID.NotFound"


def test_clients_take_nothing_from_their_surroundings(
    running: Cloud, seeded: Seeded, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "config").write_text("[default]\nregion = nowhere\nendpoint_url = http://127.0.0.1:9\n")
    for name, value in (
        ("AWS_PROFILE", "absent"),
        ("AWS_CONFIG_FILE", str(tmp_path / "config")),
        ("AWS_ENDPOINT_URL", "http://127.0.0.1:9"),
        ("AWS_ACCESS_KEY_ID", "AKIAUNKNOWNUNKNOWN00"),
        ("AWS_REGION", "nowhere"),
        ("HTTP_PROXY", "http://127.0.0.1:9"),
        ("http_proxy", "http://127.0.0.1:9"),
    ):
        monkeypatch.setenv(name, value)
    assert as_user(running, seeded, "sts").get_caller_identity()["Account"] == seeded.account


def test_what_was_seeded_does_not_print_its_secret(seeded: Seeded) -> None:
    with seeded.secret as secret:
        assert len(secret) == 40
        assert secret.decode() not in repr(seeded)


def test_a_cloud_that_enforces_nothing_does_not_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same ministack with its authorization off: works in all else, and is refused for each thing it accepts."""
    monkeypatch.setitem(cloud.SETTINGS, "AUTH", "false")
    refused = Cloud(tmp_path)
    with pytest.raises(CloudDoesNotEnforce, match="this cloud does not enforce: ") as error:
        refused.__enter__()
    assert error.value.faults == [
        "an unknown access key was accepted",
        "a wrong secret (sts) was accepted",
        "a wrong secret (ec2) was accepted",
        "a wrong secret (s3) was accepted",
        "a user without the right was accepted",
        "a list that no session policy allows was accepted",
        "a read that no session policy allows was accepted",
        "a session without its token was accepted",
        "a read under an explicit denial was accepted",
    ]
    assert not _listens(refused.endpoint)


STRANGE = "it does not answer as AWS does"


@pytest.mark.parametrize(
    ("status", "body", "faults"),
    [
        (200, b"<OK/>", [f"{STRANGE} (KeyError)"]),
        (200, b"", [f"{STRANGE} (ResponseParserError)"]),
        (500, b"", ["an unknown access key was answered with status 500", f"{STRANGE} (ClientError)"]),
    ],
)
def test_a_server_that_answers_anything_is_no_cloud(status: int, body: bytes, faults: list[str]) -> None:
    class Always(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Always) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            with pytest.raises(CloudDoesNotEnforce) as error:
                self_check(f"http://127.0.0.1:{server.server_port}")
        finally:
            server.shutdown()
            thread.join()
    assert error.value.faults == faults


def test_a_cloud_that_refuses_everything_is_no_cloud(running: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cloud, "CHECK_ACCOUNT", "AKIAUNKNOWNUNKNOWN00")
    with pytest.raises(CloudDoesNotEnforce, match=STRANGE):
        self_check(running.endpoint)


def test_a_missing_installation_says_what_makes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cloud, "PYTHON", tmp_path / "absent")
    with pytest.raises(CloudMissing, match="`make` makes it"):
        Cloud(tmp_path).__enter__()


def test_a_cloud_that_dies_at_its_start_is_told_with_its_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cloud, "PYTHON", Path("/bin/false"))
    with pytest.raises(CloudMissing, match=r"did not start .* see .*cloud\.log"):
        Cloud(tmp_path).__enter__()


def test_it_listens_on_loopback_only_and_stops(tmp_path: Path) -> None:
    with Cloud(tmp_path) as running:
        assert _listens(running.endpoint)
        own = socket.gethostbyname(socket.gethostname())
        if not own.startswith("127."):
            assert not _listens(running.endpoint.replace("127.0.0.1", own))
    assert not _listens(running.endpoint)
    assert [path.name for path in tmp_path.iterdir()] == ["cloud.log"]


STARTERS = {
    "cloud": "from deploy.demo.cloud import Cloud; child = Cloud(Path(sys.argv[1]))",
    "metadata": "from deploy.demo.metadata import Metadata; child = Metadata({}, Path(sys.argv[1]))",
}


@pytest.mark.parametrize("starter", STARTERS)
def test_it_dies_with_a_parent_that_is_killed(tmp_path: Path, starter: str) -> None:
    script = f"import signal, sys; from pathlib import Path; {STARTERS[starter]}; child.__enter__()"
    script += "; print(child._process.pid, child.endpoint, flush=True); signal.pause()"
    command = [sys.executable, "-c", script, str(tmp_path)]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        pid, endpoint = parent.stdout.readline().split()
        child = os.pidfd_open(int(pid))
        assert _listens(endpoint)
        parent.send_signal(signal.SIGKILL)
    ended, _, _ = select.select([child], [], [], 10)
    os.close(child)
    assert ended
    assert not _listens(endpoint)


def _listens(endpoint: str) -> bool:
    host, port = endpoint.removeprefix("http://").rstrip("/").split(":")
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except ConnectionRefusedError:
        return False
    return True
