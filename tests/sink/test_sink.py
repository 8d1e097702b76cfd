"""The sink: what it takes in each form of payload, and that it takes nothing that is not right."""

import http.client
import json
import os
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from tests.clients.calls.jobs import MODES, SMALL, sha256
from tests.clients.calls.programs.asked import Site
from tests.clients.calls.sizes import BUCKET, Generated, download
from tests.clients.table import OURS, PYTHON
from tests.sink.payloads import PIECE, Payload, generated
from tests.sink.server import Sink
from tests.sink.signatures import Key

KEY_ID, SECRET = "AKIASINKSINKSINKSINK", "made up for this"


@pytest.fixture
def sink() -> Iterator[Sink]:
    with Sink() as made:
        made.keys[KEY_ID] = Key(SECRET)
        yield made


def storage(sink: Sink, secret: str = SECRET, token: str | None = None) -> Any:
    config = Config(signature_version="s3v4", retries={"total_max_attempts": 1})
    return boto3.client("s3", endpoint_url=sink.endpoint, aws_access_key_id=KEY_ID, aws_secret_access_key=secret,
                        aws_session_token=token, region_name="us-east-1", config=config)  # fmt: skip


def test_what_is_put_is_hashed_and_counted(sink: Sink) -> None:
    answer = storage(sink).put_object(Bucket="b", Key="a b+c/é", Body=SMALL)
    (found,) = sink.received
    assert (found.length, found.sha256, found.mode, found.access_key_id) == (len(SMALL), sha256(SMALL), "hash", KEY_ID)
    assert answer["ETag"] == '"1a74cdb696cd85c127953f901dc52371"'  # md5sum
    assert not found.generated


def test_what_is_sent_in_parts_can_be_read_when_the_sink_can_compute_it(sink: Sink) -> None:
    s3, length = storage(sink), 64 * PIECE
    s3.upload_fileobj(Generated(length), BUCKET, "long")
    download(s3, "long", length)
    part = s3.get_object(Bucket=BUCKET, Key="long", Range="bytes=1048570-1048585")
    assert part["Body"].read() == b"".join(generated(1048570, 16))
    assert s3.head_object(Bucket=BUCKET, Key="long")["ContentLength"] == length
    assert sink.refused == []


def test_other_bytes_cannot_be_read(sink: Sink) -> None:
    """The control: one byte is another, in the middle."""
    body = bytearray(b"".join(generated(0, 3 * PIECE)))
    body[PIECE + 7] ^= 1
    s3 = storage(sink)
    s3.put_object(Bucket="b", Key="k", Body=bytes(body))
    with pytest.raises(ClientError, match="NoSuchKey"):
        s3.get_object(Bucket="b", Key="k")


@pytest.mark.parametrize(("secret", "token"), [("another", None), (SECRET, "a token")])
def test_another_signature_is_refused(sink: Sink, secret: str, token: str | None) -> None:
    with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
        storage(sink, secret, token).put_object(Bucket="b", Key="k", Body=SMALL)
    assert (len(sink.refused), sink.received, sink.objects) == (1, [], {})


def by_socket(sink: Sink, modes: tuple[str, ...], secret: str = SECRET) -> list[dict[str, Any]]:
    site = json.dumps(asdict(Site(sink.endpoint, "b", "f", "d", "r")))
    done = subprocess.run(
        [PYTHON, "-m", "tests.clients.calls.programs.by_socket", site],
        input="".join(f"{mode}\n" for mode in modes), capture_output=True, text=True, timeout=60, check=True,
        env={**OURS, "PATH": os.environ["PATH"], "AWS_ACCESS_KEY_ID": KEY_ID, "AWS_SECRET_ACCESS_KEY": secret},
    )  # fmt: skip
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_each_form_of_payload_is_checked(sink: Sink) -> None:
    by_socket(sink, MODES)
    puts = [each for each in sink.received if each.method == "PUT"]
    assert [each.mode for each in puts] == list(MODES)
    assert {(each.length, each.sha256) for each in puts} == {(1048583, puts[0].sha256)}
    assert [each.mode for each in puts if each.checksum] == [mode for mode in MODES if mode.endswith("-TRAILER")]
    assert sink.refused == []


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode.startswith("STREAMING-") or mode == "hash"])
def test_a_changed_byte_is_found(sink: Sink, monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    """The control of each form: the same, and the sink reads another byte than was sent."""
    add = Payload.add

    def other(self: Payload, piece: memoryview, *, checksum: bool) -> None:
        add(self, memoryview(bytes([piece[0] ^ 1]) + piece[1:]), checksum=checksum)

    if "AWS4" in mode:  # chunks are hashed for themselves
        monkeypatch.setattr("tests.sink.payloads.NOTHING", "0" * 64)
    else:
        monkeypatch.setattr(Payload, "add", other)
    by_socket(sink, (mode,))
    assert len(sink.refused) == 1
    assert [each for each in sink.received if each.method == "PUT"] == []


def test_who_leaves_in_the_middle_has_put_nothing(sink: Sink) -> None:
    url = storage(sink).generate_presigned_url("put_object", Params={"Bucket": "b", "Key": "k"}, ExpiresIn=60)
    address = urlsplit(url)
    connection = http.client.HTTPConnection(address.netloc, timeout=10)
    connection.putrequest("PUT", f"{address.path}?{address.query}")
    connection.putheader("Content-Length", "100")
    connection.endheaders(b"half of it")
    assert connection.sock is not None
    connection.sock.shutdown(socket.SHUT_WR)
    assert connection.getresponse().status == 400
    connection.close()
    assert (sink.received, sink.objects) == ([], {})
