"""Machines with a certificate of a trust anchor: a CA that is not ours, but named in the settings.

Such a machine is an instance like every other: it and its certificate are put on record when it is first given a
session, so that it is listed, audited and revoked in the same way. Nothing of ours is ever reached by another CA: its
machines have SPIFFE IDs of their own (`…/anchor/<anchor>/<common name>`), and names of EC2 instances are refused.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from cryptography import x509
from cryptography.x509.oid import NameOID

from certs import chain, keys
from certs.errors import ChainRefused
from gateway.core.attest.ec2 import INSTANCE_ID
from gateway.core.audit import Kind
from gateway.core.errors import Refusal
from gateway.core.identity import Identity, check_instance
from gateway.core.model import Certificate, CertificateState, Instance, InstanceState
from gateway.core.rolesanywhere import Anchor, Signed
from gateway.flows.journal import Call, Journal
from gateway.ports import Clock, Store, Transaction

# It becomes a part of a SPIFFE ID, of paths, of policies, of a session's name and of its source identity.
COMMON_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,63}")
_LONGEST = 512  # letters of a subject or an issuer that go on record


class TrustAnchors:
    """Who comes in by which anchor, and may have which profiles. Raises Refusal."""

    def __init__(
        self, store: Store, journal: Journal, clock: Clock, trust_domain: str, anchors: Mapping[str, Anchor]
    ) -> None:
        self._store = store
        self._journal = journal
        self._clock = clock
        self._trust_domain = trust_domain
        self._anchors = anchors

    def identify(self, call: Call, signed: Signed, anchor_name: str, profile: str) -> Identity:
        """The machine whose certificate this is: as it is on record, or as it will be, with this profile of its anchor.

        Where it is, is the settings' to say each time; its account is still open.
        """
        anchor = self._anchors.get(anchor_name)
        if anchor is None:
            raise _untrusted("anchor_unknown")
        now = self._clock()
        _demand_chain(anchor, signed, now)
        name = _machine(signed.leaf, self._trust_domain)
        call.subject = f"spiffe://{self._trust_domain}/anchor/{anchor.name}/{name}"
        certificate = _certificate(signed, anchor, call.subject)
        with self._store.read() as tx:
            known = tx.instances.get(id=call.subject)
        if profile not in anchor.profiles:
            raise Refusal("grant_refused", "The trust anchor has no such profile", reason="profile_foreign")
        instance = known or Instance(
            id=call.subject,
            account="",
            region=anchor.region,
            instance_id=name,
            profile=profile,
            state=InstanceState.ENROLLED,
            key_sha256=certificate.key_sha256,
            enrolled_at=now,
            claims={"checks": ["trust_anchor"], "anchor": anchor.name, **_says(signed.leaf)},
        )
        return check_instance(replace(instance, profile=profile, region=anchor.region), certificate)

    def on_record(self, call: Call, identity: Identity) -> Identity:
        """See to it that machine and certificate are in the store; what is there already stays as it is."""
        instance, certificate = identity.instance, identity.certificate
        with self._store.read() as tx:
            known = _look_up(tx, identity)
        if known is None:
            known = self._journal.write(call, lambda tx: _look_up(tx, identity) or _enter(tx, call, identity))
        # Whoever was here first has said when it came in, and by which key: the same machine gets the same sessions.
        return Identity(replace(instance, enrolled_at=known.enrolled_at, key_sha256=known.key_sha256), certificate)


def _look_up(tx: Transaction, identity: Identity) -> Instance | None:
    """The machine, if it and its certificate are on record. Raises Refusal when one of them is revoked."""
    known = tx.instances.get(id=identity.instance.id)
    seen = tx.certificates.get(serial=identity.certificate.serial)
    if seen is not None and seen.sha256 != identity.certificate.sha256:
        raise _untrusted("serial_used_twice")
    if known is not None:
        check_instance(known, identity.certificate)
    if seen is None:  # revoked with its key: another certificate of this key brings nobody back
        key = identity.certificate.key_sha256
        revoked = tx.certificates.find(subject=identity.instance.id, state=CertificateState.REVOKED)
        seen = next((each for each in revoked if each.key_sha256 == key), None)
    if seen is not None and seen.state is CertificateState.REVOKED:
        raise Refusal("certificate_revoked")
    return known if seen else None


def _enter(tx: Transaction, call: Call, identity: Identity) -> Instance:
    known, certificate = tx.instances.get(id=identity.instance.id), identity.certificate
    if (known is None and not tx.instances.add(identity.instance)) or not tx.certificates.add(certificate):
        raise Refusal("conflict")
    reason = "anchor_certificate_new" if known else "anchor_machine_new"
    tx.audit.append(
        call.event(Kind.FACT, reason=reason, serial=certificate.serial, certificate_sha256=certificate.sha256)
    )
    return known or identity.instance


def _untrusted(reason: str, why: str | None = None) -> Refusal:
    """One answer to whoever is not trusted, however much of it is right; `why` is for the record."""
    return Refusal("certificate_unknown", "The certificate is not trusted by this trust anchor", reason=reason, why=why)


def _demand_chain(anchor: Anchor, signed: Signed, now: datetime) -> None:
    crls = anchor.crls() if anchor.crls is not None else ()
    if anchor.crls is not None and not crls:
        raise _untrusted("crl_unreadable")
    why = ""
    for root in anchor.roots:
        try:
            return chain.verify(signed.leaf, signed.chain, root, now, crls, foreign=True)
        except ChainRefused as refused:
            why = str(refused)
    raise _untrusted("chain_refused", why=why)


def _machine(leaf: x509.Certificate, trust_domain: str) -> str:
    """The one common name. Raises Refusal for none, several, one of another form, and one that is ours to give."""
    try:
        names = [each.value for each in leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
        alternatives = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = alternatives.get_values_for_type(x509.UniformResourceIdentifier)
    except x509.ExtensionNotFound:
        uris = []
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        names, uris = [], []
    if len(names) != 1 or not isinstance(names[0], str) or not COMMON_NAME.fullmatch(names[0]):
        raise Refusal(
            "certificate_unknown",
            "The certificate must have exactly one common name, of 2 to 64 letters, digits and . _ -",
            reason="machine_name_refused",
        )
    ours = f"spiffe://{trust_domain}/"
    if re.fullmatch(INSTANCE_ID, names[0], re.IGNORECASE) or any(uri.lower().startswith(ours) for uri in uris):
        raise Refusal(
            "certificate_unknown", "The certificate has a name that only the gateway gives", reason="machine_name_ours"
        )
    return names[0]


def _certificate(signed: Signed, anchor: Anchor, subject: str) -> Certificate:
    """Its row. Another CA may give serial numbers that ours gave, and an anchor may be several: the key says whose."""
    leaf, sha256 = signed.leaf, hashlib.sha256(signed.der).hexdigest()
    return Certificate(
        serial=f"anchor:{anchor.name}:{leaf.serial_number:x}:{sha256[:16]}",
        issuer=f"anchor/{anchor.name}",
        kind="instance",
        subject=subject,
        sha256=sha256,
        der=signed.der,
        key_sha256=keys.public_sha256(leaf.public_key()),
        not_before=leaf.not_valid_before_utc,
        not_after=leaf.not_valid_after_utc,
    )


def _says(leaf: x509.Certificate) -> dict[str, str]:
    return {
        "subject": leaf.subject.rfc4514_string()[:_LONGEST],
        "issuer": leaf.issuer.rfc4514_string()[:_LONGEST],
        "serial": f"{leaf.serial_number:x}",
    }
