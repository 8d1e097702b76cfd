"""The admin API from an operator's machine: mutual TLS 1.3 with what is in the operator's directory."""

import http.client
import json
import re
import ssl
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gateway.cli.failure import Failure

KEY, CERTIFICATE, ROOT, ADDRESS = "operator.key", "operator.crt", "ca.pem", "gateway"
LARGEST = 64 * 1024 * 1024
CERTIFY = (
    "'trusted-gateway login' if you sign in at a provider; else, on the gateway's host, "
    "'trusted-gateway operator certify NAME' gives you a new certificate."
)


@dataclass(frozen=True, slots=True)
class OperatorDirectory:
    """Where an operator's key and certificate are."""

    path: Path

    @classmethod
    def of(cls, path: Path) -> "OperatorDirectory":
        """As it is written, `~` and all. Raises Failure where nobody has a home."""
        try:
            return cls(path.expanduser())
        except RuntimeError:
            raise Failure("nobody knows your home directory", "home_missing", "Set HOME, or --operator-dir.") from None

    def context(self, *, anonymous: bool = False) -> ssl.SSLContext:
        """A client context; an `anonymous` one has no certificate of the operator's in it. Raises Failure."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        try:
            context.load_verify_locations(self.path / ROOT)
            if anonymous:
                return context
            context.load_cert_chain(self.path / CERTIFICATE, self.path / KEY)
        except (OSError, ssl.SSLError):
            raise Failure(
                f"no operator's key and certificate in {self.path}",
                "operator_missing",
                "Name the directory with --operator-dir, or run 'trusted-gateway init' on the gateway's host.",
            ) from None
        return context

    def state(self) -> int:
        """Another number whenever the certificate is another one."""
        try:
            return (self.path / CERTIFICATE).stat().st_mtime_ns
        except OSError:
            return 0

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

    def __init__(
        self,
        directory: OperatorDirectory,
        address: str | None = None,
        approval: str | None = None,
        *,
        context: ssl.SSLContext | None = None,
        timeout: float = 30,
    ) -> None:
        """`context` is for who has no certificate yet; `timeout` is in seconds."""
        self._directory = directory
        self._is_anonymous, self._timeout = context is not None, timeout
        self._approval = approval
        self._address = address or directory.address()
        if not re.fullmatch(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}", self._address):
            raise Failure("that is no address of a gateway", "address_invalid", "It is written HOST:PORT.")
        self._connect(context or directory.context())

    def call(self, method: str, path: str, body: Any = None, fields: Mapping[str, str] | None = None) -> Answer:
        """Send a request, with these header fields more, and return the answer's JSON object.

        A change has an idempotency key: when the connection breaks before the answer is here, it is sent once more.
        """
        payload = None if body is None else json.dumps(body)
        headers = {"Accept": "application/json", **(fields or {})}
        headers |= {"Content-Type": "application/json"} if payload else {}
        headers |= {"Approval": self._approval} if self._approval else {}
        headers |= {"Idempotency-Key": str(uuid.uuid4())} if method != "GET" else {}
        try:
            self._connection.request(method, path, payload, headers)
            try:
                response = self._connection.getresponse()
                raw = response.read(LARGEST)
            except (ConnectionError, http.client.IncompleteRead):
                self._connection.close()
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
        if response.status == 202 and "approval" in answer:
            raise _waits(answer)
        if answer.get("code") == "certificate_superseded" and self._directory.state() != self._state:
            self._connection.close()  # another command renewed it meanwhile
            self._connect(self._directory.context())
            return self.call(method, path, body, fields)
        if response.status not in (200, 201):
            raise _refused(response.status, answer)
        return answer

    def close(self) -> None:
        """Hang up."""
        self._connection.close()

    def _connect(self, context: ssl.SSLContext) -> None:
        self._state = self._directory.state()
        self._connection = http.client.HTTPSConnection(self._address, context=context, timeout=self._timeout)

    def _broken(self, error: Exception) -> Failure:
        """Why there is no answer. A gateway that does not accept our certificate only breaks off, or sends an alert."""
        if not self._is_anonymous and (ended := self._directory.expired()):
            text = f"your certificate ran out at {ended:%Y-%m-%dT%H:%M:%SZ}"
            return Failure(text, "operator_certificate_expired", CERTIFY)
        if isinstance(error, ssl.SSLError) and "ALERT" in (error.reason or ""):
            return Failure(f"{self._address} does not accept your certificate", "operator_certificate_refused", CERTIFY)
        text = f"{self._address} does not answer: {error or type(error).__name__}"
        return Failure(text, "gateway_unreachable", "Is the gateway running, and is this its admin listener?")


def _waits(answer: Answer) -> Failure:
    """Nothing was done yet: others have to agree."""
    id_ = answer["approval"]
    text = f"{answer['needed']} people have to agree, and {answer['given']} do, until {answer['expires_at']}"
    hint = f"Another operator: 'trusted-gateway approval give {id_}'. Then you, the same command with --approval {id_}"
    return Failure(text, "approval_needed", f"{hint}, in front: 'trusted-gateway --approval {id_} …'.")


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
