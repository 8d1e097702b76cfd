"""The certificate that the listeners show: 90 days, replaced after two thirds of that, without a restart."""

from dataclasses import dataclass
from datetime import timedelta

from cryptography import x509

from certs import keys
from certs.names import ServerNames, alternative_names
from certs.profiles import SERVER
from gateway.core.audit import Event, Kind, Name
from gateway.core.errors import Refusal
from gateway.core.model import Signer
from gateway.flows.issue import Issue, pem
from gateway.ports import Clock, RandomBytes, Store, Transaction, Vault
from gateway.wire.secret import Secret

LIFE = timedelta(days=90)


@dataclass(frozen=True, slots=True)
class ServerIdentity:
    """Chain (PEM, leaf first) and private key (PEM) for the TLS contexts."""

    chain: str
    key: Secret


class ServerIdentities:
    """Gives the current one, and makes the next when it is time or when the names changed."""

    def __init__(
        self, store: Store, vault: Vault, issue: Issue, clock: Clock, random: RandomBytes, names: ServerNames, node: str
    ) -> None:
        self._store = store
        self._vault = vault
        self._issue = issue
        self._clock = clock
        self._random = random
        self._names = names
        # Each node has its own: nodes may have different names.
        self._signer = f"server.{node}"
        self._context = f"signer/{self._signer}/key"

    def current(self) -> ServerIdentity:
        """The identity to show now. Raises Refusal when the store does not answer."""
        with self._store.read() as tx:
            signer = tx.signers.get(name=self._signer)
        if signer is None or self._due(signer):
            signer = self._replace(signer)
        with self._vault.open(self._context, signer.sealed_key) as key:
            private = Secret(keys.dump_private_pem(keys.load_private(key)))
        issuer = self._issue.certificate_of("services")
        return ServerIdentity(pem(signer.certificate) + pem(issuer), private)

    def _due(self, signer: Signer) -> bool:
        certificate = x509.load_der_x509_certificate(signer.certificate)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        ends = certificate.not_valid_after_utc
        return ends - self._clock() < LIFE / 3 or names != alternative_names(self._names)

    def _replace(self, before: Signer | None) -> Signer:
        key = keys.generate()
        made = self._issue.certificate("services", SERVER, self._names, key.public_key(), self._clock(), LIFE)
        after = Signer(self._signer, made.der, self._vault.seal(self._context, Secret(keys.dump_private(key))))

        def unit(tx: Transaction) -> Signer:
            kept = tx.signers.swap(before, after) if before else tx.signers.add(after)
            if not kept:  # another worker was first: show what it made
                found = tx.signers.get(name=self._signer)
                if found is None:
                    raise Refusal("conflict")
                return found
            tx.certificates.add(made)
            facts = {"serial": made.serial, "names": made.subject}
            tx.audit.append(
                Event(Kind.FACT, Name.GATEWAY_SERVER_CERTIFY, True, "ok", self._random(16).hex(), facts=facts)
            )
            return after

        return self._store.write(unit)
