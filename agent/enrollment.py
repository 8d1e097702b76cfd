"""How a key gets its certificate: by a ticket, by proof of the key that was enrolled before, by the certificate in use.

Each way takes what is known and returns an `Identity`, or raises Problem or Fault. The only module that needs
`cryptography`, and only while it works: an agent that starts with a good certificate never loads it.
"""

import base64
import hashlib
from dataclasses import replace
from datetime import datetime

from agent.client import PORT, Client, fetch_root
from agent.errors import Fault, Problem
from agent.identity import Identity
from agent.settings import Address
from gateway.wire.messages import (
    CertificateAnswer,
    EnrollRequest,
    Evidence,
    KeyProof,
    NonceAnswer,
    RenewRequest,
    UserData,
    instant,
    parse_instant,
    reenroll_statement,
)

REVOKED = "instance_revoked"
_SPENT = frozenset({"ticket_used", "ticket_invalid"})


def new_key() -> str:
    """A new P-256 key, base64 of PKCS#8 DER. A secret."""
    from certs import keys

    return base64.b64encode(keys.dump_private(keys.generate())).decode()


def enroll(told: UserData, ticket: str, key: str, evidence: Evidence, now: datetime) -> Identity:
    """First contact, then the ticket. The same ticket and the same key again bring the same certificate.

    A ticket that is over may have enrolled this very key, in a life that ended before the certificate was kept: then
    the proof of the key does instead.
    """
    address = address_of(told.gateway)
    root = fetch_root(address, told.ca_sha256)
    client = Client(address, root)
    try:
        request = EnrollRequest(csr=_request(key), evidence=evidence, ticket=ticket)
        answer = client.ask(CertificateAnswer, "POST", "/v1/enroll", request)
    except Problem as refused:
        if refused.code not in _SPENT:
            raise
        try:
            answer = _prove(client, key, evidence)
        except Problem as problem:
            raise problem if problem.code == REVOKED else refused from None
    finally:
        client.close()
    encoded = base64.b64encode(root).decode()
    return Identity(told.gateway, encoded, key, **_said(answer, now), ticket_sha256=sha256(ticket))


def come_back(identity: Identity, evidence: Evidence, now: datetime) -> Identity:
    """Without a ticket, when the certificate ran out: the key that is enrolled signs the gateway's nonce."""
    client = Client(address_of(identity.gateway), identity.root_der)
    try:
        return replace(identity, **_said(_prove(client, identity.key, evidence), now))
    finally:
        client.close()


def renew(client: Client, identity: Identity, now: datetime) -> Identity:
    """The next certificate for the same key, asked for with the one that `client` presents."""
    answer = client.ask(CertificateAnswer, "POST", "/v1/renew", RenewRequest(csr=_request(identity.key)))
    return replace(identity, **_said(answer, now))


def address_of(gateway: str) -> Address:
    """The address in user-data, with the usual port if it has none. Raises Fault `user_data_malformed`."""
    try:
        return Address.parse(gateway, PORT)
    except ValueError as error:
        raise Fault("user_data_malformed", f"user-data: gateway {error}") from None


def sha256(ticket: str) -> str:
    """By this a ticket is remembered: lower-case hex."""
    return hashlib.sha256(ticket.encode()).hexdigest()


def _prove(client: Client, key: str, evidence: Evidence) -> CertificateAnswer:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    from certs import keys

    nonce = client.ask(NonceAnswer, "POST", "/v1/nonces").nonce
    request = _request(key)
    statement = reenroll_statement(nonce, request, evidence.document)
    signature = keys.load_private(base64.b64decode(key)).sign(statement, ec.ECDSA(hashes.SHA256()))
    proof = KeyProof(nonce=nonce, signature=base64.b64encode(signature).decode())
    message = EnrollRequest(csr=request, evidence=evidence, proof=proof)
    return client.ask(CertificateAnswer, "POST", "/v1/enroll", message)


def _request(key: str) -> str:
    from certs import csr, keys

    return csr.make(keys.load_private(base64.b64decode(key)))


def _said(answer: CertificateAnswer, now: datetime) -> dict[str, str]:
    """What the answer says, as fields of an Identity."""
    try:
        over = parse_instant(answer.not_after) <= now
    except ValueError:
        raise Fault("answer_malformed", "The certificate has no moment at which it ends") from None
    if over:
        hint = "Set this machine's clock right."
        raise Fault("clock_skew", "The certificate that came is over already by this machine's clock", hint)
    return {
        "certificate": answer.certificate,
        "issuer": answer.issuer,
        "instance": answer.instance,
        "profile": answer.profile,
        "issued": instant(now),
        "not_after": answer.not_after,
    }
