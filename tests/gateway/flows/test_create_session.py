"""CreateSession without a wire: who is put on record, when, and what is given to whom."""

from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from cryptography import x509

from certs.keys import public_sha256
from certs.names import InstanceName
from certs.profiles import INSTANCE
from gateway.adapters.sql.store import SqlStore
from gateway.core.audit import Name
from gateway.core.errors import Refusal
from gateway.core.model import Instance, InstanceState, Profile
from gateway.core.revocation import Target
from gateway.core.rolesanywhere import Anchor, Received
from gateway.flows.create_session import Created, CreateSession
from gateway.flows.identify import Identify
from gateway.flows.trust_anchor import TrustAnchors
from gateway.flows.vault import UpstreamKeys
from tests.foreign import Asking, ForeignCa, Holder, common_name, ec_key, parameters
from tests.gateway.flows.conftest import ACCOUNT, PROFILE, REGION, START, Gateway, Time

ROLE = f"arn:aws:iam::{ACCOUNT}:role/reader"
CORP, PLANT = ForeignCa("Corp", at=START), ForeignCa("Plant", at=START)
URI = "spiffe://td/anchor/corp/host-1"


class Door:
    """CreateSession of this gateway, with two anchors."""

    def __init__(self, gateway: Gateway, **changed: Any) -> None:
        self.gateway = gateway
        anchors = {
            "corp": replace(Anchor("corp", (CORP.certificate,), ("web", "gone"), REGION), **changed),
            "both": Anchor("both", (CORP.certificate, PLANT.certificate), ("web",), "eu-central-1"),
        }
        keys = UpstreamKeys(gateway.journal, gateway.vault, gateway.aws, gateway.time)
        self.flow = CreateSession(
            gateway.store,
            Identify(gateway.store, gateway.time),
            TrustAnchors(gateway.store, gateway.journal, gateway.time, "td", anchors),
            keys,
            gateway.vend(),
            gateway.time,
        )

    def ask(
        self,
        holder: Holder,
        anchor: str = "corp",
        profile: str = "web",
        region: str = REGION,
        account: str = ACCOUNT,
        signing: str | None = None,
        **more: Any,
    ) -> Created:
        asked = {**parameters(anchor, profile, ROLE, region=region, account=account), **more}
        asking = Asking(holder, asked, at=self.gateway.time(), region=signing or region)
        with self.gateway.journal.call(Name.INSTANCE_SESSION_CREATE, f"{id(asking):x}", "192.0.2.1") as call:
            return self.flow.create(call, Received("", asking.sign(), asking.raw))

    def refused(self, *arguments: Any, **more: Any) -> str:
        with pytest.raises(Refusal) as refusal:
            self.ask(*arguments, **more)
        return refusal.value.reason

    def own(self, instance_id: str = "i-0123456789abcdef0") -> Holder:
        """An enrolled instance's certificate, and its key."""
        gateway, key = self.gateway, ec_key()
        name = InstanceName("td", ACCOUNT, REGION, instance_id)
        made = gateway.issue.certificate(
            "instances", INSTANCE, name, key.public_key(), gateway.time(), timedelta(hours=24)
        )
        enrolled, sha256 = InstanceState.ENROLLED, made.key_sha256
        row = Instance(name.uri, ACCOUNT, REGION, instance_id, "web", enrolled, sha256, gateway.time(), {})
        assert gateway.store.write(lambda tx: tx.instances.add(row) and tx.certificates.add(made))
        return Holder(x509.load_der_x509_certificate(made.der), key)

    def rows(self) -> tuple[list[str], list[str]]:
        """The ids of anchors' machines, and the serials of their certificates."""
        with self.gateway.store.read() as tx:
            machines = [row.id for row in tx.instances.find()]
            serials = [row.serial for row in tx.certificates.find(kind="instance")]
        return machines, serials


@pytest.fixture
def door(gateway: Gateway) -> Door:
    return Door(gateway)


def test_a_machine_is_on_record_from_its_first_session_and_its_next_certificate_joins_it(door: Door) -> None:
    first, second = CORP.leaf("host-1"), CORP.leaf("host-1")
    given = door.ask(first).vended
    door.gateway.time.passes(timedelta(minutes=1))
    assert door.ask(second).vended.lease == given.lease, "the same machine: the same session"
    machines, serials = door.rows()
    assert machines == [URI]
    assert sorted(each.rpartition(":")[0] for each in serials) == sorted(
        f"anchor:corp:{each.certificate.serial_number:x}" for each in (first, second)
    )
    with door.gateway.store.read() as tx:
        row = tx.instances.get(id=URI)
    assert row is not None
    assert (row.account, row.region, row.instance_id, row.enrolled_at) == (ACCOUNT, REGION, "host-1", START)
    assert row.claims == {
        "checks": ["trust_anchor"],
        "anchor": "corp",
        "subject": "CN=host-1",
        "issuer": "CN=Corp",
        "serial": f"{first.certificate.serial_number:x}",
    }
    assert len(door.gateway.aws.asked) == 1


def test_who_is_refused_leaves_no_row(door: Door) -> None:
    with door.gateway.store.read() as tx:
        applied = tx.profiles.get(name="web")
    assert applied is not None
    closed: Any = deepcopy(PROFILE)
    closed["grants"][0]["conditions"] = {"source_addresses": ["10.0.0.0/8"]}
    changed = Profile("web", 2, closed, START, "alice")
    assert door.gateway.store.write(lambda tx: tx.profiles.swap(applied, changed))
    assert door.refused(CORP.leaf("host-1")) == "condition_source_address"
    assert door.refused(CORP.leaf("host-1"), "corp", "gone") == "profile_missing"
    assert door.refused(CORP.leaf("host-1"), "corp", "batch") == "profile_foreign"
    assert door.refused(PLANT.leaf("host-1")) == "chain_refused"
    assert door.rows() == ([], [])
    assert door.gateway.aws.asked == []
    decisions = [each for each in door.gateway.records() if each["name"] == "instance:session:create"]
    assert [(each["kind"], each["allowed"]) for each in decisions] == [("decision", False)] * 4


def test_two_cas_of_one_anchor_may_give_the_same_serial_number(door: Door) -> None:
    for ca, name in ((CORP, "host-1"), (PLANT, "host-2")):
        door.ask(ca.leaf(name, serial=4711), "both", "web", "eu-central-1")
    machines, serials = door.rows()
    assert len(machines) == len(serials) == 2


@pytest.mark.threat("D07")
def test_D07_names_that_differ_by_case_are_two_machines(door: Door) -> None:
    leases = {door.ask(CORP.leaf(name)).vended.lease.session_name for name in ("host-1", "Host-1", "x" * 64)}
    assert leases == {"host-1", "Host-1", "x" * 64}
    assert len(door.rows()[0]) == 3


@pytest.mark.threat("B22")
def test_names_that_could_be_read_in_two_ways_or_are_ours_to_give_are_nobodys(door: Door) -> None:
    def named(*uris: str) -> dict[type[x509.ExtensionType], x509.ExtensionType | None]:
        names = [x509.UniformResourceIdentifier(uri) for uri in uris]
        return {x509.SubjectAlternativeName: x509.SubjectAlternativeName(names)}

    for names in (("host-1", "host-2"), ("host-1", "host-1"), ("x",), ("..",), ("-host",), ("a/b",), ("host-1\n",)):
        assert door.refused(CORP.leaf(common_name(*names))) == "machine_name_refused", names
    for name in ("i-0123456789abcdef0", "I-01234567"):
        assert door.refused(CORP.leaf(name)) == "machine_name_ours"
    for uri in ("spiffe://td/operator/alice", "SPIFFE://TD/aws/1", "spiffe://td/"):
        assert door.refused(CORP.leaf("host-1", other=named("spiffe://other/x", uri))) == "machine_name_ours"
    assert door.rows() == ([], [])
    assert door.ask(CORP.leaf("host-1", other=named("spiffe://other/x")))
    assert door.ask(CORP.leaf("i-host"))


def test_many_first_requests_at_once_are_one_machine_and_one_session(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    def tick(time: Time) -> datetime:
        time.passes(timedelta(milliseconds=1))
        return time.now

    monkeypatch.setattr(Time, "__call__", tick)  # no two of them begin at the same moment
    holders = [CORP.leaf("host-1"), CORP.leaf("host-1")]
    with ThreadPoolExecutor(8) as pool:
        given = list(pool.map(lambda i: door.ask(holders[i % 2]).vended.lease.id, range(16)))
    assert len(set(given)) == 1
    assert (len(door.rows()[0]), len(door.rows()[1])) == (1, 2)
    assert len(door.gateway.aws.asked) == 1


@pytest.mark.threat("B05")
def test_a_machine_revoked_meanwhile_gets_nothing(door: Door) -> None:
    def revoke() -> None:
        store: SqlStore = door.gateway.store
        with store.read() as tx:
            row = tx.instances.get(id=URI)
        assert row is not None
        revoked = replace(row, state=type(row.state).REVOKED, revoked_at=START, revoked_by="alice")
        assert store.write(lambda tx: tx.instances.swap(row, revoked))

    door.gateway.aws.meanwhile = revoke
    assert door.refused(CORP.leaf("host-1")) == "revoked_while_vending"
    door.gateway.aws.meanwhile = lambda: None
    for holder in (CORP.leaf("host-1"), CORP.leaf("host-1")):
        assert door.refused(holder) == "instance_revoked"


def test_a_revoked_certificate_is_refused_while_its_machine_is_not(door: Door) -> None:
    holder = CORP.leaf("host-1")
    door.ask(holder)
    with door.gateway.store.read() as tx:
        (row,) = tx.certificates.find(kind="instance")
    revoked = replace(row, state=type(row.state).REVOKED, revoked_at=START, reason="key_compromise")
    assert door.gateway.store.write(lambda tx: tx.certificates.swap(row, revoked))
    assert door.refused(holder) == "certificate_revoked"
    assert door.ask(CORP.leaf("host-1")).instance.id == URI


def test_a_key_that_was_revoked_comes_back_by_no_other_certificate_and_takes_all_sessions_along(door: Door) -> None:
    """The other CA may certify a key anew, and the gateway has not seen that certificate yet."""
    door.ask(CORP.leaf("host-1"))
    key = ec_key()
    later = door.ask(CORP.leaf("host-1", key), durationSeconds=900).vended.lease
    with door.gateway.store.read() as tx:
        row = tx.certificates.find(kind="instance", key_sha256=public_sha256(key.public_key()))[0]
    cut = door.gateway.revoke(row.serial, Target.CERTIFICATE)["cut"]
    assert later.id in [each["lease"] for each in cut["sessions"]], "though the machine came in by another key at first"
    assert door.refused(CORP.leaf("host-1", key)) == "certificate_revoked"
    assert door.ask(CORP.leaf("host-1")).instance.id == URI, "the machine comes back by another key"
    assert door.ask(CORP.leaf("host-2", key)).instance.id != URI, "what is revoked is of one machine"


def test_without_a_list_that_can_be_had_nobody_comes_in(gateway: Gateway) -> None:
    def none() -> Any:
        raise Refusal("certificate_revoked", reason="crl_unreadable")

    assert Door(gateway, crls=none).refused(CORP.leaf("host-1")) == "crl_unreadable"
    assert Door(gateway, crls=lambda: ()).refused(CORP.leaf("host-1")) == "crl_unreadable"


@pytest.mark.threat("B01", "D01")
def test_our_own_certificate_gets_its_own_instances_grants(door: Door) -> None:
    own = door.own()
    assert door.refused(own, "instances", "gone") == "profile_foreign"
    assert door.refused(own, "corp") == "chain_refused"
    assert door.refused(own, "nobodys") == "anchor_unknown"
    assert door.refused(CORP.leaf("host-1"), "instances") == "certificate_unknown"
    stranger = Holder(own.certificate, ec_key())
    assert door.refused(stranger, "instances") == "signature_invalid", "who has the certificate and not its key"
    assert door.gateway.aws.asked == []
    assert door.ask(own, "instances").vended.lease.session_name == "i-0123456789abcdef0"
    door.gateway.time.passes(timedelta(hours=25))
    assert door.refused(own, "instances") == "certificate_expired"


@pytest.mark.parametrize("anchor", ["instances", "corp"])
def test_arns_and_signature_are_of_where_the_machine_is(door: Door, anchor: str) -> None:
    holder = door.own() if anchor == "instances" else CORP.leaf("host-1")
    for more in (
        {"region": "eu-central-1"},
        {"signing": "eu-central-1"},
        {"region": "eu-central-1", "signing": REGION},
        {"account": "999999999999"},
    ):
        assert door.refused(holder, anchor, **more) == "arn_of_another_place", more
    assert door.ask(holder, anchor)


def test_only_the_grants_own_name_of_a_session_is_accepted(door: Door) -> None:
    holder = CORP.leaf("host-1")
    for name in ("admin", "host-10", "HOST-1", "0" * 32):
        assert door.refused(holder, roleSessionName=name) == "session_name_chosen"
        assert door.refused(holder, sessionName=name) == "session_name_chosen"
    assert door.ask(holder, roleSessionName="host-1")


def test_a_name_that_is_made_of_the_lease_cannot_be_known_before(door: Door) -> None:
    with door.gateway.store.read() as tx:
        applied = tx.profiles.get(name="web")
    assert applied is not None
    named: Any = deepcopy(PROFILE)
    named["grants"][0]["session_name"] = "${lease.id}"
    changed = Profile("web", 2, named, START, "alice")
    assert door.gateway.store.write(lambda tx: tx.profiles.swap(applied, changed))
    assert door.refused(CORP.leaf("host-1"), roleSessionName="0" * 32) == "session_name_chosen"
    assert len(door.ask(CORP.leaf("host-1")).vended.lease.session_name) == 32
