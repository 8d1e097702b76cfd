"""What the gateway knows of sessions, keys, roles and machines, looked up for a batch of CloudTrail's events."""

from collections.abc import Sequence
from datetime import timedelta

from gateway.core import profile, reconcile
from gateway.core.cloudtrail import TrailEvent
from gateway.core.conditions import Network
from gateway.core.errors import Refusal
from gateway.core.reconcile import Known, Ties
from gateway.ports import Clock, Transaction

_ADDRESSES = ("public_ip", "private_ip")


class Knowledge:
    """`addresses` are the gateway's own, as AWS sees them; leases are kept for `keep` after their end."""

    def __init__(self, clock: Clock, trust_domain: str, addresses: tuple[Network, ...], keep: timedelta) -> None:
        self._clock = clock
        self._trust_domain = trust_domain
        self._addresses = addresses
        self._keep = keep

    def known(self, tx: Transaction, events: Sequence[TrailEvent]) -> Known:
        """As far as these events ask for it."""
        now = self._clock()
        rows = tx.upstream_keys.find()
        former = {str(row.document["old"]): row.key for row in tx.rotations.find()}
        wanted = sorted(reconcile.access_key_ids(events))
        leases = {key: lease for key in wanted for lease in tx.leases.find(access_key_id=key)}
        instances = {lease.instance for lease in leases.values()}
        roles, ties = _granted(tx)
        return Known(
            now=now,
            kept_since=now - self._keep,
            ours=self._addresses,
            keys=former | {row.access_key_id: row.name for row in rows},
            accounts={row.account for row in rows},
            roles=roles | {role for lease in leases.values() if (role := reconcile.role_of(lease.role))},
            leases=leases,
            homes={each: _home(tx, each) for each in instances},
            ties=ties,
            machines={each for each in reconcile.machine_ids(events) if self.is_ours(tx, each)},
        )

    def is_ours(self, tx: Transaction, machine: str) -> bool:
        """Whether it was launched through us, or enrolled once."""
        if tx.launches.get(id=machine) is not None:
            return True
        return tx.instances.get(id=f"spiffe://{self._trust_domain}/{machine}") is not None


def _granted(tx: Transaction) -> tuple[set[tuple[str, str]], dict[tuple[str, str], Ties]]:
    """Every role that a profile has or ever had, and where sessions of the present grants are used."""
    roles: set[tuple[str, str]] = set()
    ties: dict[tuple[str, str], Ties] = {}
    documents = [row.document for row in tx.profile_versions.find()] + [row.document for row in tx.profiles.find()]
    for document in documents:
        for grant in document.get("grants", ()):
            if role := reconcile.role_of(str(grant.get("role") or "")):
                roles.add(role)
    for applied in tx.profiles.find():
        try:
            rules = profile.read(applied.document, source_address=True)
        except Refusal:  # it was applied when the rules were others
            continue
        for grant in rules.grants.values():
            ties[applied.name, grant.name] = Ties(grant.bind in _ADDRESSES, grant.conditions.source_addresses)
    return roles, ties


def _home(tx: Transaction, instance: str) -> list[str]:
    """The addresses that were attested of an instance."""
    row = tx.instances.get(id=instance)
    claims = row.claims if row else {}
    return [str(claims[name]) for name in _ADDRESSES if claims.get(name)]
