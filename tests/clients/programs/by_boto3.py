"""boto3, told nothing but what its environment says. A prefix a line in, `{"keys": …}` or `{"error": …}` a line out."""

import json
import sys
from collections.abc import Callable
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError


def answer(storage: Callable[[], Any], *faults: type[Exception]) -> None:
    """Read prefixes until there are no more; `storage` gives the S3 client for each. `faults` are errors of its own."""
    for line in sys.stdin:
        try:
            found = storage().list_objects_v2(Bucket=sys.argv[1], Prefix=line.strip())
            said: Any = {"keys": [each["Key"] for each in found.get("Contents", [])]}
        except (BotoCoreError, ClientError, *faults) as error:
            said = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(said), flush=True)


class Storage:
    """One client for all calls, made with the first: that is when credentials are looked for."""

    def __init__(self, session: Any) -> None:
        self._session, self._s3 = session, None

    def __call__(self) -> Any:
        self._s3 = self._s3 or self._session.client("s3")
        return self._s3


if __name__ == "__main__":
    answer(Storage(boto3))
