"""What a program with the PyPI package iam-rolesanywhere-session does; run in the clients' venv, by no other name.

What to do is one JSON object on standard input. It prints another: the access key id and the objects that it listed, or
how the client refused.
"""

import json
import sys
from importlib import import_module
from typing import Any


def main() -> None:
    told: dict[str, Any] = json.load(sys.stdin)
    package = import_module("iam_rolesanywhere_session")  # not of the project's own environment: found where this runs
    said: dict[str, Any] = {"keys": []}
    try:
        anywhere = package.IAMRolesAnywhereSession(**told["session"])
        session = anywhere.get_session()
        said["keys"].append(session.get_credentials().get_frozen_credentials().access_key)
        storage = session.client("s3", endpoint_url=told["s3"], region_name="us-east-1", verify=None)
        for prefix in told["prefixes"]:
            try:
                found = storage.list_objects_v2(Bucket=told["bucket"], Prefix=prefix).get("Contents", [])
                said[prefix] = [each["Key"] for each in found]
            except storage.exceptions.ClientError as error:
                said[prefix] = error.response["Error"]["Code"]
    except package.CredentialsRetrievalError as error:
        said["refused"] = [error.status_code, error.message]
    print(json.dumps(said))


if __name__ == "__main__":
    main()
