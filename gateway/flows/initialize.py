"""The first minute of a gateway: its CA and its first operator, in one transaction. It can happen only once."""

from dataclasses import dataclass, replace
from datetime import timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from certs import authority, csr, keys
from certs.names import OperatorName
from certs.profiles import OPERATOR
from gateway.core.audit import Kind
from gateway.core.errors import Refusal
from gateway.core.model import SealRecord, Signer
from gateway.core.operator_model import Operator, OperatorState
from gateway.core.rights import ADMINISTRATOR
from gateway.flows.issue import BACKDATE, Issue, sign
from gateway.flows.journal import Call, Journal
from gateway.flows.operators import put_in_force
from gateway.ports import Clock, RandomBytes, Store, Transaction, Vault
from gateway.wire.secret import Secret

ROOT_LIFE = timedelta(days=3650)
ISSUER_LIFE = timedelta(days=1825)
OPERATOR_LIFE = timedelta(hours=12)


@dataclass(frozen=True, slots=True)
class Initialized:
    """What `init` hands out, all of it public: the root certificate and the operator's certificate, DER."""

    root: bytes
    issuer: bytes
    operator: bytes


class Initialize:
    """Makes root, issuers and the first operator. Raises Refusal `conflict` when that was done before."""

    def __init__(self, journal: Journal, vault: Vault, clock: Clock, random: RandomBytes) -> None:
        self._journal = journal
        self._vault = vault
        self._clock = clock
        self._random = random

    def run(self, call: Call, seal: SealRecord, trust_domain: str, operator: str, operator_csr: str) -> Initialized:
        """`operator_csr` was made where the operator's key is, and stays."""
        now = self._clock().replace(microsecond=0)
        begin = now - BACKDATE
        request = csr.read(operator_csr)
        root_key = keys.generate()
        root = authority.make_root(root_key, "TrustedGateway root", self._serial(), begin, now + ROOT_LIFE)
        signers = [self._sealed("root", root, root_key)]
        issuers = {}
        for issuer_name in ("instances", "services"):
            key = keys.generate()
            title = f"TrustedGateway {issuer_name}"
            certificate = authority.make_issuer(
                authority.Issuer(root, root_key), key.public_key(), title, self._serial(), begin, now + ISSUER_LIFE
            )
            issuers[issuer_name] = authority.Issuer(certificate, key)
            signers.append(self._sealed(issuer_name, certificate, key))
        name = OperatorName(trust_domain, operator)
        made = sign(
            issuers["services"],
            "services",
            signers[0].certificate,
            OPERATOR,
            name,
            request.public_key,
            self._serial(),
            now,
            OPERATOR_LIFE,
        )

        def unit(tx: Transaction) -> None:
            added = tx.seals.add(seal) and all(tx.signers.add(signer) for signer in signers)
            added = added and tx.operators.add(
                Operator(operator, {"roles": [ADMINISTRATOR]}, 1, OperatorState.ACTIVE, now, "")
            )
            if not (added and tx.certificates.add(made)):
                raise Refusal("conflict", "This store has a gateway in it already")
            tx.audit.append(call.event(Kind.DECISION, operator=operator, serial=made.serial))

        self._journal.write(call, unit)
        return Initialized(signers[0].certificate, signers[2].certificate, made.der)

    def _sealed(self, name: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Signer:
        sealed = self._vault.seal(f"signer/{name}/key", Secret(keys.dump_private(key)))
        return Signer(name, certificate.public_bytes(Encoding.DER), sealed)

    def _serial(self) -> int:
        return authority.serial_from(self._random(20))


class CertifyOperator:
    """A new certificate for an operator whose old one ran out, made on the gateway's host by who can unseal it.

    Who can do that owns the gateway: it is the way in when every administrator is locked out.
    """

    def __init__(self, store: Store, journal: Journal, issue: Issue, clock: Clock) -> None:
        self._store = store
        self._journal = journal
        self._issue = issue
        self._clock = clock

    def run(
        self, call: Call, trust_domain: str, operator: str, operator_csr: str, *, administrator: bool = False
    ) -> Initialized:
        """Certify the key of the CSR; certificates that the operator had before are out of force. Raises Refusal.

        `administrator`: the operator becomes one, without conditions, and is made if there is none of this name.
        """
        now = self._clock()
        request = csr.read(operator_csr)
        name = OperatorName(trust_domain, operator)
        made = self._issue.certificate("services", OPERATOR, name, request.public_key, now, OPERATOR_LIFE)

        def unit(tx: Transaction) -> None:
            found = tx.operators.get(name=operator)
            if found is not None and found.state is not OperatorState.ACTIVE:
                raise Refusal("operator_forbidden", f"{operator!r} is revoked, for good", reason="operator_revoked")
            if administrator:
                self._raise(tx, operator, found)
            elif found is None:
                raise Refusal("operator_unknown", f"No operator is named {operator!r}")
            put_in_force(tx, made)
            event = call.event(Kind.DECISION, operator=operator, serial=made.serial, administrator=administrator)
            tx.audit.append(event)

        self._journal.write(call, unit)
        return Initialized(self._issue.certificate_of("root"), self._issue.certificate_of("services"), made.der)

    def _raise(self, tx: Transaction, name: str, found: Operator | None) -> None:
        document = {"roles": [ADMINISTRATOR]}
        if found is None:
            done = tx.operators.add(Operator(name, document, 1, OperatorState.ACTIVE, self._clock(), ""))
        else:
            done = tx.operators.swap(found, replace(found, document=document, version=found.version + 1))
        if not done:
            raise Refusal("conflict")
