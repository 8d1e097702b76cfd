"""The admin API from an operator's machine: mutual TLS 1.3 with what is in the operator's directory."""

import http.client
import json
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gateway.cli.failure import Failure

KEY, CERTIFICATE, ROOT, ADDRESS = "operator.key", "operator.crt", "ca.pem", "gateway"
LARGEST = 64 * 1024 * 1024
CERTIFY = "On the gateway's host: 'trusted-gateway operator certify NAME' gives you a new certificate."


@dataclass(frozen=True, slots=True)
class OperatorDirectory:
    """Where an operator's key and certificate are."""

    path: Path

    def context(self) -> ssl.SSLContext:
        """A client context. Raises Failure."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        try:
            context.load_verify_locations(self.path / ROOT)
            context.load_cert_chain(self.path / CERTIFICATE, self.path / KEY)
        except (OSError, ssl.SSLError):
            raise Failure(
                f"no operator's key and certificate in {self.path}",
                "operator_missing",
                "Name the directory with --operator-dir, or run 'trusted-gateway init' on the gateway's host.",
            ) from None
        return context

    def address(self) -> str:
        """The admin listener, `host:port`. Raises Failure."""
        try:
            return (self.path / ADDRESS).read_text().strip()
        except (OSError, UnicodeDecodeError):
            raise Failure(
                f"no gateway is named in {self.path}", "operator_missing", "Name it with --gateway HOST:PORT."
            ) from None

    def expired(self) -> datetime | None:
        """When the certificate ran out, if it did. To be asked when something failed: reading it takes its time."""
        from cryptography import x509

        try:
            ends = x509.load_pem_x509_certificate((self.path / CERTIFICATE).read_bytes()).not_valid_after_utc
        except (OSError, ValueError):
            return None
        return ends if ends < datetime.now(UTC) else None  # the operator's own clock


class Answer(dict[str, Any]):
    """An object in a gateway's answer. What has to be in it and is not makes a Failure."""

    def __missing__(self, key: str) -> Any:
        raise _strange(f"its answer has no {key!r}")


class Client:
    """One connection to the admin API. Every failure is a Failure."""

    def __init__(self, directory: OperatorDirectory, address: str | None = None) -> None:
        self._directory = directory
        self._address = address or directory.address()
        if not re.fullmatch(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}", self._address):
            raise Failure("that is no address of a gateway", "address_invalid", "It is written HOST:PORT.")
        self._connection = http.client.HTTPSConnection(self._address, context=directory.context(), timeout=30)

    def call(self, method: str, path: str, body: Any = None, fields: Mapping[str, str] | None = None) -> Answer:
        """Send a request, with these header fields more, and return the answer's JSON object."""
        payload = None if body is None else json.dumps(body)
        headers = {"Accept": "application/json", **(fields or {})}
        headers |= {"Content-Type": "application/json"} if payload else {}
        try:
            self._connection.request(method, path, payload, headers)
            response = self._connection.getresponse()
            raw = response.read(LARGEST)
        except ssl.SSLCertVerificationError as error:
            raise Failure(
                f"{self._address} does not show a certificate of our CA: {error.verify_message}",
                "gateway_untrusted",
                "Check the address; someone may be in between.",
            ) from None
        except (OSError, http.client.HTTPException) as error:
            raise self._broken(error) from None
        try:
            answer = json.loads(raw, object_hook=Answer)
        except (ValueError, RecursionError):
            raise _strange(f"{self._address} answered no JSON") from None
        if not isinstance(answer, Answer):
            raise _strange(f"{self._address} answered no JSON object")
        if response.status not in (200, 201):
            raise _refused(response.status, answer)
        return answer

    def close(self) -> None:
        """Hang up."""
        self._connection.close()

    def _broken(self, error: Exception) -> Failure:
        """Why there is no answer. A gateway that does not accept our certificate only breaks off, or sends an alert."""
        if ended := self._directory.expired():
            text = f"your certificate ran out at {ended:%Y-%m-%dT%H:%M:%SZ}"
            return Failure(text, "operator_certificate_expired", CERTIFY)
        if isinstance(error, ssl.SSLError) and "ALERT" in (error.reason or ""):
            return Failure(f"{self._address} does not accept your certificate", "operator_certificate_refused", CERTIFY)
        text = f"{self._address} does not answer: {error or type(error).__name__}"
        return Failure(text, "gateway_unreachable", "Is the gateway running, and is this its admin listener?")


def _refused(status: int, problem: Answer) -> Failure:
    """An RFC 9457 document as a Failure."""
    faults = problem.get("faults")
    faults = tuple(map(str, faults)) if isinstance(faults, list) else ()
    # The detail is all the faults in one line.
    text = (not faults and problem.get("detail")) or problem.get("title") or f"HTTP {status}"
    code = str(problem.get("code", status))
    # An operator's certificate does not come from where an instance's comes from.
    hint = CERTIFY if code.startswith("certificate_") else str(problem.get("hint", ""))
    return Failure(str(text), code, hint, faults)


def _strange(text: str) -> Failure:
    return Failure(text, "gateway_strange", "Is this a gateway, and of this version?")
