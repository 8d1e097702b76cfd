"""hvac: logs in by the instance's certificate, and reads `aws/sts/GRANT` whenever a lease is over. As by_boto3."""

import os
import time
from pathlib import Path
from typing import Any

import boto3
import hvac  # type: ignore[import-untyped]  # in .clients-venv
from hvac.exceptions import VaultError  # type: ignore[import-untyped]  # in .clients-venv

from tests.clients.programs.by_boto3 import answer


class Storage:
    """S3 with keys of a lease, anew before each ends: what a program does that reads Vault."""

    def __init__(self, held: Path) -> None:
        mine = (str(held / "leaf.pem"), str(held / "key.pem"))
        self._vault = hvac.Client(f"https://{os.environ['GATEWAY']}", cert=mine, verify=str(held / "ca.pem"))
        self._ends = 0.0
        self._s3: Any = None

    def __call__(self) -> Any:
        if time.monotonic() > self._ends - 60:
            self._vault.auth.cert.login()
            lease = self._vault.secrets.aws.generate_credentials(os.environ["GRANT"], endpoint="sts")
            keys = lease["data"]
            self._s3 = boto3.client(
                "s3",
                aws_access_key_id=keys["access_key"],
                aws_secret_access_key=keys["secret_key"],
                aws_session_token=keys["security_token"],
            )
            self._ends = time.monotonic() + lease["lease_duration"]
        return self._s3


if __name__ == "__main__":
    answer(Storage(Path(os.environ["HELD"])), VaultError)
