"""The revocation list of the instances' issuer (RFC 5280 section 5): made when due, served from the store."""

from datetime import timedelta

from cryptography.hazmat.primitives.serialization import Encoding

from certs.crl import Revoked, make
from certs.reasons import Reason
from gateway.core.audit import Event, Kind, Name
from gateway.core.errors import Refusal
from gateway.core.model import CertificateState, Crl
from gateway.flows.issue import Issue
from gateway.ports import Clock, RandomBytes, Store, Transaction

ISSUER = "instances"
EVERY = timedelta(hours=1)
NEXT_UPDATE = timedelta(hours=24)


class Publish:
    """Makes and gives the CRL. Raises Refusal."""

    def __init__(self, store: Store, issue: Issue, clock: Clock, random: RandomBytes) -> None:
        self._store = store
        self._issue = issue
        self._clock = clock
        self._random = random

    def crl(self, *, only_if_due: bool = False) -> int:
        """Make and store the next CRL; return its number, which strictly rises.

        With `only_if_due` the latest one stays when another worker made it meanwhile.
        """
        issuer = self._issue.issuer(ISSUER)
        now = self._clock()
        this_update = now.replace(microsecond=0)  # X.509 times have whole seconds; the row keeps the exact moment

        def unit(tx: Transaction) -> int:
            before = tx.crls.get(issuer=ISSUER)
            if before and only_if_due and not self._is_due(tx):
                return before.number
            number = before.number + 1 if before else 1
            revoked = [
                Revoked(int(row.serial, 16), min(row.revoked_at, now), Reason(row.reason or "unspecified"))
                for row in tx.certificates.find(issuer=ISSUER, state=CertificateState.REVOKED)
                # RFC 5280 section 3.3: an entry stays until one CRL after the certificate's end.
                if row.revoked_at is not None and row.not_after + NEXT_UPDATE >= now
            ]
            made = make(issuer, revoked, number, this_update, this_update + NEXT_UPDATE).public_bytes(Encoding.DER)
            crl = Crl(ISSUER, number, now, now + NEXT_UPDATE, made)
            if not (tx.crls.swap(before, crl) if before else tx.crls.add(crl)):
                raise Refusal("conflict")
            facts = {"issuer": ISSUER, "number": number, "revoked": len(revoked)}
            tx.audit.append(Event(Kind.FACT, Name.GATEWAY_CRL_PUBLISH, True, "ok", self._random(16).hex(), facts=facts))
            return number

        return self._store.write(unit)

    def current(self) -> Crl:
        """The latest CRL."""
        with self._store.read() as tx:
            crl = tx.crls.get(issuer=ISSUER)
        if crl is None:
            raise Refusal("not_found")
        return crl

    def due(self) -> bool:
        """Is the latest CRL an hour old, or older than a revocation?"""
        with self._store.read() as tx:
            return self._is_due(tx)

    def _is_due(self, tx: Transaction) -> bool:
        crl = tx.crls.get(issuer=ISSUER)
        if crl is None or self._clock() - crl.this_update >= EVERY:
            return True
        return bool(tx.instances.revoked_since(crl.this_update))
