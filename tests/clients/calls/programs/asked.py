"""What the programs have in common: a name a line in, `{"said": …}` or `{"error": …}` a line out."""

import base64
import http.client
import json
import sys
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from tests.clients.calls.jobs import sha256

Jobs = Mapping[str, Callable[[], Any]]


@dataclass(frozen=True, slots=True)
class Site:
    """Where a program works: the endpoint, a bucket that it may use, one that it may not, and a mark for its names."""

    endpoint: str
    bucket: str
    forbidden: str
    mark: str
    role: str

    @property
    def address(self) -> str:
        """The endpoint without its scheme."""
        return self.endpoint.removeprefix("http://")

    def name(self, kind: str) -> str:
        """A name for a queue, a table, …; of the same length in each way."""
        return f"{self.bucket}-{kind}"


def site() -> Site:
    """As the first argument says."""
    return Site(**json.loads(sys.argv[1]))


def serve(jobs: Jobs, code: Callable[[Exception], str | None]) -> None:
    """Do jobs until there are no more. `code` is what a job's error is called, None for one that is not AWS's."""
    for line in sys.stdin:
        try:
            said: dict[str, Any] = {"said": jobs[line.strip()]()}
        except Exception as error:
            said = {"error": code(error) or type(error).__name__, "text": str(error)}
        print(json.dumps(said), flush=True)


def over_http(method: str, url: str, body: bytes | None = None) -> list[Any]:
    """Use a presigned URL as `curl -T` does, with no header unsigned: the ETag, and the hash of the answer."""
    address = urlsplit(url)
    connection = http.client.HTTPConnection(address.netloc, timeout=30)
    connection.request(method, f"{address.path}?{address.query}", body)
    answer = connection.getresponse()
    said = answer.read()
    connection.close()
    if answer.status >= 300:
        raise ValueError(f"status {answer.status}: {said[:300]!r}")
    return [answer.headers["ETag"], sha256(said)]


def crc32(body: bytes) -> str:
    """As S3 writes it."""
    return base64.b64encode(zlib.crc32(body).to_bytes(4, "big")).decode()


def refused(call: Callable[[], Any], code: Callable[[Exception], str | None]) -> str:
    """The code by which this call is refused; raises ValueError when it is not."""
    try:
        call()
    except Exception as error:
        if found := code(error):
            return found
        raise
    raise ValueError("it was not refused")
