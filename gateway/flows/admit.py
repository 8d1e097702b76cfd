"""Whether an operator may do what is asked: who it is, what its roles permit, and under which conditions."""

from dataclasses import dataclass
from functools import partial

from gateway.core import operator_document, rights
from gateway.core.audit import Name
from gateway.core.errors import Refusal
from gateway.core.model import Instance
from gateway.core.operator_model import Operator
from gateway.core.rights import Rights
from gateway.flows.identify import Identify
from gateway.flows.journal import Call
from gateway.ports import Clock, Store, Transaction


@dataclass(frozen=True, slots=True)
class Admitted:
    """An operator who may do what the call asks for. `rights` say on what."""

    operator: Operator
    rights: Rights


class Admit:
    """Raises Refusal: as `Identify.operator` does, and 403 `operator_forbidden` for what is not permitted."""

    def __init__(self, store: Store, identify: Identify, clock: Clock) -> None:
        self._store = store
        self._identify = identify
        self._clock = clock

    def operator(self, call: Call, der: bytes | None, permission: Name) -> Admitted:
        """The operator whose certificate this is, if it may do this, from here, at this time.

        It is asked once more in the transaction that decides the call: nothing is done behind a revocation's back, nor
        by rights that were others meanwhile.
        """
        with self._store.read() as tx:
            admitted = self._admitted(tx, call, der, permission)
        call.sees = partial(_sees, admitted.rights, permission)

        def demand_standing(tx: Transaction) -> None:
            if self._admitted(tx, call, der, permission) != admitted:
                raise Refusal("operator_forbidden", "Your rights changed meanwhile: ask again", reason="rights_changed")

        call.demand_standing = demand_standing
        return admitted

    def _admitted(self, tx: Transaction, call: Call, der: bytes | None, permission: Name) -> Admitted:
        # The answer to a renewal may be lost: the certificate before it still opens this one door.
        renews = permission is Name.OPERATOR_CERTIFICATE_RENEW
        operator = self._identify.operator_in(tx, call, der, superseded_too=renews)
        try:
            found = operator_document.operator(operator.document)
        except Refusal:  # it was written when the rules were others
            raise Refusal("operator_forbidden", reason="operator_outdated") from None
        roles = rights.known(tx.roles.find())
        return Admitted(operator, rights.admit(found, roles, permission, call.source, self._clock()))


def _sees(given: Rights, permission: Name, instance: Instance) -> bool:
    """By where it is, and by the tags that it had when it was admitted."""
    return given.covers(permission, instance.account, instance.region, instance.claims.get("tags") or {})
