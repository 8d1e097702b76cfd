"""CreateSession of IAM Roles Anywhere: by the signature of a certificate, without mutual TLS.

The certificate is one that we issued, or one of a trust anchor of the settings. What the request names only selects.
"""

from dataclasses import dataclass, replace

from gateway.core import session_order
from gateway.core.errors import Refusal
from gateway.core.identity import Identity
from gateway.core.lease import Order, plan
from gateway.core.model import Instance
from gateway.core.rolesanywhere import OURS, Received, Signed, verify
from gateway.core.session_order import DOOR, SessionOrder
from gateway.flows.identify import Identify
from gateway.flows.journal import Call
from gateway.flows.trust_anchor import TrustAnchors
from gateway.flows.vault import UpstreamKeys
from gateway.flows.vend import Vend, Vended
from gateway.ports import Clock, Store


@dataclass(frozen=True, slots=True, repr=False)
class Created:
    """What was asked for, for whom, and what came: the last holds secrets."""

    order: SessionOrder
    instance: Instance
    vended: Vended


class CreateSession:
    """POST /sessions. Raises Refusal."""

    def __init__(
        self,
        store: Store,
        identify: Identify,
        anchors: TrustAnchors,
        keys: UpstreamKeys,
        vend: Vend,
        clock: Clock,
    ) -> None:
        self._store = store
        self._identify = identify
        self._anchors = anchors
        self._keys = keys
        self._vend = vend
        self._clock = clock

    def create(self, call: Call, request: Received) -> Created:
        """The session that this request asks for, if its certificate may have it."""
        signed = verify(request, self._clock())
        order = session_order.read(request)
        identity = self._identity(call, signed, order)
        wanted = self._wanted(call, signed, order, identity)
        if order.anchor != OURS:
            identity = self._anchors.on_record(call, identity)
        return Created(order, identity.instance, self._vend.give(call, identity, wanted))

    def _identity(self, call: Call, signed: Signed, order: SessionOrder) -> Identity:
        if order.anchor == OURS:
            identity = self._identify.instance(call, signed.der)
            if order.profile != identity.instance.profile:
                raise Refusal("grant_refused", "The profile is not that of the instance", reason="profile_foreign")
            return identity
        identity = self._anchors.identify(call, signed, order.anchor, order.profile)
        rules = self._vend.rules(identity)
        with self._store.read() as tx:
            _, account = self._keys.openable(tx, rules.upstream)
        return replace(identity, instance=replace(identity.instance, account=account))

    def _wanted(self, call: Call, signed: Signed, order: SessionOrder, identity: Identity) -> Order:
        """What will be ordered, when all that the request says of it is right, and the grant's conditions hold."""
        instance = identity.instance
        if not signed.region == order.region == instance.region or order.account != instance.account:
            raise Refusal(
                "malformed_request",
                f"ARNs and signature must be of region {instance.region}, and of account {instance.account}",
                reason="arn_of_another_place",
            )
        rules = self._vend.rules(identity)
        grant = session_order.choose(rules, order)
        wanted = Order(grant.name, DOOR, order.seconds, clamp=True)
        planned = plan(instance, rules, grant, wanted, "", call.source, self._clock())
        known_before = "${lease.id}" not in grant.session_name
        if order.session_name and not (known_before and planned.request("0" * 32).session_name == order.session_name):
            raise Refusal(
                "malformed_request",
                "roleSessionName is not accepted: the grant names the session. Leave it out",
                reason="session_name_chosen",
            )
        return wanted
