"""The EC2 metadata service, version 2: user-data, and the signed identity document (AWS: "Use IMDSv2").

Never version 1: whoever can make this process fetch a URL could then speak in its name.
"""

import base64
import http.client
import re

from agent.errors import Fault
from agent.settings import Address
from gateway.wire.messages import EC2_IDENTITY_DOCUMENT, Evidence, UserData, read_user_data
from gateway.wire.strict import Malformed

TIMEOUT = 2.0
"""Seconds for each step; the service is on this very machine."""

_DOCUMENTS = "/latest/dynamic/instance-identity/"
_LONGEST_USER_DATA = 16384  # EC2's own limit, before base64
_LONGEST_DOCUMENT = 6144  # wire.messages.Evidence takes 8,192 characters of base64


class Metadata:
    """A client of the metadata service. It follows no redirect, uses no proxy, and reads no more than it must."""

    def __init__(self, address: Address, timeout: float = TIMEOUT) -> None:
        self._address = address
        self._timeout = timeout

    def user_data(self) -> UserData | None:
        """What this machine was told at launch, None when that is nothing for us. Raises Fault."""
        raw = self._get("/latest/user-data", self._token(), _LONGEST_USER_DATA)
        try:
            return read_user_data(raw) if raw is not None else None
        except Malformed as error:
            hint = "Launch with the line that 'trusted-gateway ticket create' prints."
            raise Fault("user_data_malformed", f"user-data: {error}", hint) from None

    def evidence(self) -> Evidence:
        """The identity document, byte for byte, and its rsa2048 signature. Raises Fault."""
        token = self._token()
        document = self._get(_DOCUMENTS + "document", token, _LONGEST_DOCUMENT)
        signature = self._get(_DOCUMENTS + "rsa2048", token, _LONGEST_DOCUMENT)
        if document is None or signature is None:
            raise _unavailable("it has no signed identity document")
        return Evidence(
            kind=EC2_IDENTITY_DOCUMENT,
            document=base64.b64encode(document).decode(),
            pkcs7=b"".join(signature.split()).decode("ascii", "replace"),  # base64 in lines
        )

    def get(self, path: str) -> bytes | None:
        """What lies at a path of the latest version, None when nothing does. Raises Fault."""
        return self._get(f"/latest/{path}", self._token(), _LONGEST_USER_DATA)

    def _token(self) -> str:
        status, raw = self._exchange("PUT", "/latest/api/token", {"X-aws-ec2-metadata-token-ttl-seconds": "60"}, 256)
        if status != 200 or not re.fullmatch(rb"[!-~]+", raw):
            raise _unavailable(f"it gave no session token (status {status})")
        return raw.decode("ascii")

    def _get(self, path: str, token: str, longest: int) -> bytes | None:
        status, raw = self._exchange("GET", path, {"X-aws-ec2-metadata-token": token}, longest)
        if status == 404:
            return None
        if status != 200:
            raise _unavailable(f"{path}: status {status}")
        return raw

    def _exchange(self, method: str, path: str, headers: dict[str, str], longest: int) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(self._address.host, self._address.port, timeout=self._timeout)
        try:
            connection.request(method, path, headers=headers)
            answer = connection.getresponse()
            raw = answer.read(longest + 1)
        except (OSError, http.client.HTTPException) as error:
            raise _unavailable(f"{path}: {type(error).__name__}") from None
        finally:
            connection.close()
        if len(raw) > longest:
            raise _unavailable(f"{path}: more than {longest} bytes")
        return answer.status, raw


def _unavailable(why: str) -> Fault:
    hint = "Check that the instance's metadata service is on, and that 'metadata' in the settings names it."
    return Fault("metadata_unavailable", f"The metadata service did not answer as it should: {why}", hint)
