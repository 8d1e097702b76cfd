"""Revocation: truth first, hints after. One transaction cuts the instance off; the CRL and the receipt follow."""

import logging
from dataclasses import replace
from datetime import timedelta
from typing import Any

from gateway.core.audit import Kind
from gateway.core.errors import Refusal
from gateway.core.model import Instance
from gateway.core.revocation import Plan, plan, receipt
from gateway.flows.journal import Call, Journal
from gateway.flows.publish import Publish
from gateway.ports import Clock, Store, Transaction

log = logging.getLogger("trusted_gateway.revoke")


def find_instance(tx: Transaction, named: str) -> Instance:
    """The instance of this id, or of the path of its SPIFFE ID: `aws/<account>/<region>/<instance id>`, or
    `anchor/<trust anchor>/<common name>`.

    Raises Refusal `instance_unknown` or `instance_ambiguous`.
    """
    place, _, instance_id = named.rpartition("/")
    rows = tx.instances.find(instance_id=instance_id)
    found = [row for row in rows if not place or row.id.removeprefix("spiffe://").partition("/")[2] == named]
    if not found:
        raise Refusal("instance_unknown")
    if len(found) > 1:
        raise Refusal("instance_ambiguous", "; ".join(row.id for row in found))
    return found[0]


class Revoke:
    """POST /v1/instances/<id>/revoke. Raises Refusal."""

    def __init__(self, store: Store, journal: Journal, publish: Publish, clock: Clock) -> None:
        self._store = store
        self._journal = journal
        self._publish = publish
        self._clock = clock

    def instance(self, call: Call, named: str) -> dict[str, Any]:
        """Cut an instance off for good. Doing it twice does nothing more, and answers with a receipt again."""
        now = self._clock()

        def unit(tx: Transaction) -> Plan:
            instance = find_instance(tx, named)
            done = plan(
                instance,
                tx.certificates.find(subject=instance.id),
                tx.tickets.find(instance_id=instance.instance_id),
                tx.leases.live(instance.id, now),
                by=call.subject or "",
                now=now,
            )
            call.object = instance.id
            swapped = tx.instances.swap(*done.instance)
            swapped &= all(tx.certificates.swap(*change) for change in done.certificates)
            swapped &= all(tx.tickets.swap(*change) for change in done.tickets)
            swapped &= all(tx.leases.swap(lease, replace(lease, sealed_session=None)) for lease in done.leases)
            if not swapped:
                raise Refusal("conflict")
            tx.audit.append(
                call.event(
                    Kind.DECISION,
                    certificates=[after.serial for _, after in done.certificates],
                    tickets=[after.id for _, after in done.tickets],
                    leases=[lease.id for lease in done.leases],
                )
            )
            return done

        done = self._journal.write(call, unit)
        try:
            number = self._publish.crl()
        except Exception as error:  # whatever it is: the instance is revoked, and its operator must hear that
            log.warning("the CRL is not published: %s", type(error).__name__)
            number = None  # housekeeping tries again
        return receipt(done, number, self._clock())

    def revoked_lately(self) -> frozenset[str]:
        """The ids of instances revoked within the last minutes: whom to wake, with room for clocks that differ."""
        with self._store.read() as tx:
            return frozenset(tx.instances.revoked_since(self._clock() - timedelta(minutes=5)))
