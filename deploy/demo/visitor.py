"""A caller of the gateway's wire protocol who is not the agent: for intruders in the demo, and for tests."""

import base64
import hashlib
import http.client
import json
import os
import ssl
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256

from certs import csr, keys
from deploy.demo.ec2_document import SignedDocument
from gateway.wire import messages
from gateway.wire.messages import EC2_IDENTITY_DOCUMENT, EnrollRequest, Evidence, KeyProof


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, headers by lower-case name, and JSON (or text) of an answer."""

    status: int
    headers: dict[str, str]
    body: Any

    @property
    def code(self) -> str | None:
        """The problem's code, if it is a problem."""
        return self.body.get("code") if isinstance(self.body, dict) else None


def evidence_of(document: SignedDocument) -> Evidence:
    """A signed document as evidence."""
    pkcs7 = document.rsa2048.replace("\n", "")
    return Evidence(EC2_IDENTITY_DOCUMENT, base64.b64encode(document.document).decode(), pkcs7)


class Visitor:
    """One kept-alive TLS connection to a listener, with a client certificate or without."""

    def __init__(self, address: str, root_pem: str, timeout: float = 40) -> None:
        self._address, self._root, self._timeout = address, root_pem, timeout
        self.key = keys.generate()
        self.certificate: str | None = None
        self._connection: http.client.HTTPSConnection | None = None

    def present(self, certificate_pem: str, key: ec.EllipticCurvePrivateKey) -> None:
        """Use this certificate from the next connection on."""
        self.certificate, self.key = certificate_pem, key
        self.close()

    def connect(self) -> http.client.HTTPSConnection:
        """The connection, made when there is none."""
        if self._connection is None:
            context = ssl.create_default_context(cadata=self._root)
            context.minimum_version = ssl.TLSVersion.TLSv1_3
            if self.certificate:
                self._load(context)
            self._connection = http.client.HTTPSConnection(self._address, context=context, timeout=self._timeout)
            self._connection.connect()
        return self._connection

    def call(self, method: str, path: str, body: Any = None, *, headers: dict[str, str] | None = None) -> Answer:
        """Send a request on the open connection; `body` is a wire message, bytes, or anything JSON has."""
        sent = {"Content-Type": "application/json", **(headers or {})} if body is not None else dict(headers or {})
        raw = body if isinstance(body, bytes) or body is None else _encoded(body)
        connection = self.connect()
        try:
            connection.request(method, path, raw, sent)
            response = connection.getresponse()
            text = response.read()
        except (OSError, http.client.HTTPException):
            self.close()
            raise
        if response.getheader("connection", "").lower() == "close":
            self.close()
        try:
            answer: Any = json.loads(text) if text else None
        except ValueError:
            answer = text
        return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, answer)

    def enroll(self, document: SignedDocument, ticket: str, **change: Any) -> Answer:
        """POST /v1/enroll with a CSR of this visitor's key; a certificate that comes is used from then on."""
        request = EnrollRequest(csr.make(self.key), evidence_of(document), ticket=ticket)
        return self._keep(self.call("POST", "/v1/enroll", request))

    def come_back(self, document: SignedDocument, key: ec.EllipticCurvePrivateKey | None = None) -> Answer:
        """POST /v1/enroll without a ticket, by a proof of the key."""
        key = key or self.key
        nonce = self.call("POST", "/v1/nonces").body["nonce"]
        evidence, request = evidence_of(document), csr.make(key)
        statement = messages.reenroll_statement(nonce, request, evidence.document)
        proof = KeyProof(nonce, base64.b64encode(key.sign(statement, ec.ECDSA(SHA256()))).decode())
        return self._keep(self.call("POST", "/v1/enroll", EnrollRequest(request, evidence, proof=proof)))

    def renew(self) -> Answer:
        """POST /v1/renew; the successor is used from then on."""
        return self._keep(self.call("POST", "/v1/renew", messages.RenewRequest(csr.make(self.key))))

    def close(self) -> None:
        """Close the connection."""
        if self._connection:
            self._connection.close()
            self._connection = None

    def _keep(self, answer: Answer) -> Answer:
        if answer.status in (200, 201):
            self.present(answer.body["certificate"] + answer.body["issuer"], self.key)
        return answer

    def _load(self, context: ssl.SSLContext) -> None:
        fd = os.memfd_create("visitor", os.MFD_CLOEXEC)
        try:
            os.write(fd, (self.certificate or "").encode() + keys.dump_private_pem(self.key))
            context.load_cert_chain(f"/proc/self/fd/{fd}")
        finally:
            os.close(fd)


def fetch_root(address: str, sha256: str) -> str:
    """The root certificate (PEM) of a gateway, fetched as an agent does at first contact. Raises ValueError."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    connection = http.client.HTTPSConnection(address, context=context, timeout=10)
    try:
        connection.request("GET", "/v1/ca")
        pem = connection.getresponse().read().decode()
    finally:
        connection.close()
    if hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest() != sha256:
        raise ValueError("another root than the one that was named")
    return pem


def _encoded(body: Any) -> bytes:
    return messages.encode(body) if hasattr(body, "__dataclass_fields__") else json.dumps(body).encode()
