"""What a revocation means: from a name to the rows of the store. Reads only."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TypeVar

from gateway.core.errors import Refusal
from gateway.core.model import Certificate, CertificateState, Instance, InstanceState, TicketState
from gateway.core.operator_model import Operator
from gateway.core.revocation import Found, Target
from gateway.core.rights import demand_administrator
from gateway.flows.journal import all_of_them
from gateway.ports import Rows, Transaction

R = TypeVar("R")
_ISSUER_OF_OPERATORS = "services"
_MANY = 100  # instances


def find_instance(tx: Transaction, named: str, sees: Callable[[Instance], bool] = all_of_them) -> Instance:
    """The instance of this id, or of the path of its SPIFFE ID: `aws/<account>/<region>/<instance id>`, or
    `anchor/<trust anchor>/<common name>`.

    Raises Refusal `instance_unknown` or `instance_ambiguous`. What the caller does not see is not there.
    """
    place, _, instance_id = named.rpartition("/")
    rows = [row for row in tx.instances.find(instance_id=instance_id) if sees(row)]
    found = [row for row in rows if not place or row.id.removeprefix("spiffe://").partition("/")[2] == named]
    if not found:
        raise Refusal("instance_unknown")
    if len(found) > 1:
        raise Refusal("instance_ambiguous", "; ".join(row.id for row in found))
    return found[0]


def find(tx: Transaction, target: Target, named: str, now: datetime) -> Found:
    """The rows that this revocation is about. Raises Refusal: a code for what is not there, and `conflict` for what
    must not be.
    """
    return _FIND[target](tx, named, now)


def everything(tx: Transaction, now: datetime, *, operators_but: str | None = None) -> Found:
    """Every machine, ticket and lease; with `operators_but`, also all operators but the one of this name."""
    found = Found(
        "everything",
        instances=tuple(tx.instances.find(state=InstanceState.ENROLLED)),
        certificates=tuple(row for row in tx.certificates.find(kind="instance") if row.not_after >= now),
        tickets=tuple(tx.tickets.find(state=TicketState.OPEN)),
        leases=tuple(tx.leases.find_live(now)),
        tokens=tuple(tx.bearer_tokens.find()),
        keys=tuple(row for row in tx.dummy_keys.find() if row.expires_at > now),
    )
    if operators_but is None:
        return found
    meant = [each for each in tx.operators.find() if each.name != operators_but]
    with_them = _operators(tx, meant, "everything")
    return replace(
        found,
        name="everything, operators too",
        operators=with_them.operators,
        certificates=(*found.certificates, *with_them.certificates),
    )


def _instance(tx: Transaction, named: str, now: datetime) -> Found:
    row = find_instance(tx, named)
    return _all_of(tx, [row], row.id, now)


def _all_of(tx: Transaction, instances: Sequence[Instance], name: str, now: datetime) -> Found:
    """All that these instances have. Of many, it is looked for once in all that there is, and not once for each."""
    ids, short = {row.id for row in instances}, {row.instance_id for row in instances}

    def of(rows: Rows[R], field: str, values: Collection[str]) -> tuple[R, ...]:
        if len(values) > _MANY:
            return tuple(row for row in rows.find() if getattr(row, field) in values)
        return tuple(row for value in sorted(values) for row in rows.find(limit=None, after=None, **{field: value}))

    if len(ids) > _MANY:
        leases = [lease for lease in tx.leases.find_live(now, revoked_too=True) if lease.instance in ids]
    else:
        leases = [lease for each in sorted(ids) for lease in tx.leases.live(each, now)]
    return Found(
        name,
        instances=tuple(instances),
        certificates=of(tx.certificates, "subject", ids),
        tickets=of(tx.tickets, "instance_id", short),
        leases=tuple(leases),
        tokens=of(tx.bearer_tokens, "instance", ids),
        keys=of(tx.dummy_keys, "instance", ids),
    )


def _certificate(tx: Transaction, named: str, now: datetime) -> Found:
    """A certificate, and every other one of the same key: whoever has the one has them all. The machine may come in
    again, by another key. The operator may be certified anew.
    """
    row = tx.certificates.get(serial=named) or tx.certificates.get(serial=named.lower().replace(":", "").lstrip("0"))
    if row is None or row.kind not in ("instance", "operator"):
        raise Refusal("target_unknown", "No machine and no operator has a certificate of this serial number")
    same = tuple(each for each in tx.certificates.find(subject=row.subject) if each.key_sha256 == row.key_sha256)
    instance = tx.instances.get(id=row.subject)
    name = f"{row.serial} of {row.subject}"
    if instance is None:
        return Found(name, certificates=same)
    whole = replace(_all_of(tx, [instance], name, now), instances=(), tickets=(), certificates=same)
    if instance.key_sha256 == row.key_sha256 or "anchor" in instance.claims:
        return whole  # by which of its keys a machine of an anchor got a session, is not on record
    former = tuple(lease for lease in whole.leases if lease.issued_at < instance.enrolled_at)
    return replace(whole, leases=former, tokens=(), keys=())


def _lease(tx: Transaction, named: str, now: datetime) -> Found:
    """By its id, or by the access key id of its session, as CloudTrail has it."""
    row = tx.leases.get(id=named)
    found = [row] if row else list(tx.leases.find_live(now, access_key_id=named))
    if not found:
        raise Refusal("target_unknown", "No lease that is live has this id or access key id")
    if found[0].expires_at <= now:
        raise Refusal("target_unknown", "The lease is over: AWS does not honour its session any more")
    return Found(found[0].id, leases=tuple(found))


def _grant(tx: Transaction, named: str, now: datetime) -> Found:
    profile, _, grant = named.partition("/")
    row = tx.profiles.get(name=profile)
    if row is None:
        raise Refusal("profile_unknown")
    if not any(each["name"] == grant for each in row.document["grants"]):
        raise Refusal("target_unknown", "The profile has no such grant")
    leases = tuple(tx.leases.find_live(now, profile=profile, grant=grant))
    return Found(named, leases=leases, profiles=(row,), stops=grant)


def _profile(tx: Transaction, named: str, now: datetime) -> Found:
    """The profile, the machines that are in by it, the tickets for it, and every session that it gave. A machine of a
    trust anchor keeps standing: it has its profiles by its anchor, and could not come back by enrolling.
    """
    row = tx.profiles.get(name=named)
    if row is None:
        raise Refusal("profile_unknown")
    machines = [each for each in tx.instances.find(profile=named) if "anchor" not in each.claims]
    found = _all_of(tx, machines, named, now)
    tickets = {each.id: each for each in tx.tickets.find(state=TicketState.OPEN) if each.profile == named}
    leases = {each.id: each for each in tx.leases.find_live(now, profile=named)}
    return replace(
        found,
        tickets=tuple(({each.id: each for each in found.tickets} | tickets).values()),
        leases=tuple(({each.id: each for each in found.leases} | leases).values()),
        profiles=(row,),
    )


def _ticket(tx: Transaction, named: str, now: datetime) -> Found:
    row = tx.tickets.get(id=named)
    if row is None:
        raise Refusal("target_unknown", "No ticket has this id")
    if row.state is TicketState.REDEEMED:
        why = f"The ticket was used by {row.redeemed_by}: revoke that instance"
        raise Refusal("conflict", why, reason="ticket_used")
    return Found(row.id, tickets=(row,))


def _operator(tx: Transaction, named: str, now: datetime) -> Found:
    row = tx.operators.get(name=named)
    if row is None:
        raise Refusal("operator_unknown")
    return _operators(tx, [row], row.name)


def _operators(tx: Transaction, meant: Iterable[Operator], name: str) -> Found:
    meant = tuple(meant)
    names = {each.name for each in meant}
    demand_administrator(meant, [each for each in tx.operators.find() if each.name not in names])
    certificates = tx.certificates.find(issuer=_ISSUER_OF_OPERATORS, state=CertificateState.ACTIVE)
    theirs = tuple(each for each in certificates if each.kind == "operator" and _operator_of(each) in names)
    return Found(name, certificates=theirs, operators=meant)


def _operator_of(certificate: Certificate) -> str:
    return certificate.subject.rpartition("/")[2]


_FIND: Mapping[Target, Callable[[Transaction, str, datetime], Found]] = {
    Target.INSTANCE: _instance,
    Target.CERTIFICATE: _certificate,
    Target.LEASE: _lease,
    Target.GRANT: _grant,
    Target.PROFILE: _profile,
    Target.TICKET: _ticket,
    Target.OPERATOR: _operator,
}
