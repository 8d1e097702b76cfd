"""The only module that names concrete adapters: settings in, a running gateway out."""

import hashlib
import logging
import os
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from threading import Event as Flag
from threading import Thread
from typing import Any

from certs.names import ServerNames
from gateway.adapters import certificate_files, clock, process, seal_passphrase, tls
from gateway.adapters.action_catalog import Catalog
from gateway.adapters.aws import Aws
from gateway.adapters.aws_endpoints import Endpoints
from gateway.adapters.aws_models import Models
from gateway.adapters.seal_passphrase import MasterKey
from gateway.adapters.sql.migrate import migrate
from gateway.adapters.sql.moved import SqliteMoved
from gateway.adapters.sql.store import SqlStore
from gateway.adapters.throttle import Throttle
from gateway.core.audit import Event, Kind, Name
from gateway.core.errors import Refusal
from gateway.flows.bearer import Bearer
from gateway.flows.calls import Calls, Understand
from gateway.flows.carry import Carry
from gateway.flows.create_session import CreateSession
from gateway.flows.dummy_keys import DummyKeys
from gateway.flows.enroll import Enroll, EnrollmentRules
from gateway.flows.housekeeping import Housekeeping
from gateway.flows.identify import Identify
from gateway.flows.initialize import CertifyOperator, Initialize, Initialized
from gateway.flows.issue import Issue, pem
from gateway.flows.journal import Journal
from gateway.flows.operate import Operate
from gateway.flows.profiles import Profiles
from gateway.flows.publish import Publish
from gateway.flows.renew import Renew
from gateway.flows.revoke import Revoke
from gateway.flows.server_identity import ServerIdentities, ServerIdentity
from gateway.flows.sign import Sign
from gateway.flows.signer import Signer
from gateway.flows.trust_anchor import TrustAnchors
from gateway.flows.vault import SealedSessions, UpstreamKeys
from gateway.flows.vend import Vend
from gateway.settings import Settings
from gateway.web.admin_api import admin_app
from gateway.web.calls_api import add_calls
from gateway.web.carry import CarryRoute
from gateway.web.instance_api import instance_app
from gateway.web.public import local_app, public_app
from gateway.web.server.run import run
from gateway.web.server.service import Limits, Listener
from gateway.web.sessions_api import add_sessions
from gateway.web.upstream.connect import verifying_context
from gateway.web.upstream.pool import Patience, Pool
from gateway.web.vault_api import add_vault
from gateway.web.watch import Watch
from gateway.wire.calls import LONGEST_BODY
from gateway.wire.messages import UserData, user_data_line
from gateway.wire.secret import Secret

log = logging.getLogger("trusted_gateway")
TICK = 30.0


def initialize(settings: Settings, passphrase: Secret, operator: str, operator_csr: str) -> Initialized:
    """Make the store, the seal, the CA and the first operator. Raises Refusal `conflict` when they are there."""
    migrate(settings.store)
    store = _store(settings, "cli")
    try:
        record, vault = seal_passphrase.create(passphrase, clock.random_bytes)
        journal = Journal(store)
        flow = Initialize(journal, vault, clock.now, clock.random_bytes)
        with journal.call(Name.OPERATOR_GATEWAY_INITIALIZE, clock.request_id(), None) as call:
            return flow.run(call, record, settings.trust_domain, operator, operator_csr)
    finally:
        store.close()


def certify_operator(settings: Settings, passphrase: Secret, operator: str, operator_csr: str) -> Initialized:
    """A new certificate for an operator's key."""
    store = _store(settings, "cli")
    try:
        issue = Issue(store, unseal(store, passphrase), clock.random_bytes, settings.crl_url)
        journal = Journal(store)
        with journal.call(Name.OPERATOR_CERTIFICATE_ISSUE, clock.request_id(), None) as call:
            call.object = f"operator/{operator}"
            flow = CertifyOperator(store, journal, issue, clock.now)
            return flow.run(call, settings.trust_domain, operator, operator_csr)
    finally:
        store.close()


def import_key(settings: Settings, passphrase: Secret, name: str, access_key_id: str, secret: Secret, by: str) -> str:
    """Seal an upstream key into the vault; return the account that AWS says it is of."""
    store = _store(settings, "cli")
    try:
        vault = unseal(store, passphrase)
        journal = Journal(store)
        keys = UpstreamKeys(journal, vault, _aws(settings), clock.now)
        with journal.call(Name.OPERATOR_KEY_IMPORT, clock.request_id(), None) as call:
            call.object = f"upstream_key/{name}"
            return keys.take_in(call, name, access_key_id, secret, by).account
    finally:
        store.close()


def unseal(store: SqlStore, passphrase: Secret) -> MasterKey:
    """The master key of this store. Raises Unsealable, and Refusal when nothing was initialised."""
    with store.read() as tx:
        record = tx.seals.get(name="master")
    if record is None:
        raise Refusal("store_unavailable", "This store has no gateway in it: run 'trusted-gateway init'")
    return seal_passphrase.unseal(record, passphrase, clock.random_bytes)


@dataclass(slots=True)
class _Parts:
    """What one process runs. Built after the fork; nothing in it crosses one."""

    store: SqlStore
    watch: Watch
    housekeeping: Housekeeping
    identities: ServerIdentities
    listeners: tuple[Listener, ...]
    moved: SqliteMoved
    calls: Callable[[], Mapping[str, Any]]


def serve(settings: Settings, passphrase: Secret) -> None:
    """Run the gateway under gunicorn until it is told to stop."""
    gateway = Gateway(settings, passphrase)
    passphrase.wipe()
    run(gateway, gateway.binds, settings.workers)


class Gateway:
    """The `Service` that the worker class serves. Made in the master: unsealed once, TLS contexts shared by workers."""

    limits = Limits()

    def __init__(self, settings: Settings, passphrase: Secret) -> None:
        self._settings = settings
        self._regional = certificate_files.regional(settings.identity_certificates)
        self._hardening = process.harden()
        migrate(settings.store)
        store = _store(settings, "master")
        try:
            self._master = unseal(store, passphrase)
            identities = self._server_identities(store)
            identity = identities.current()
            issue = self._issue(store)
            self._root = pem(issue.certificate_of("root"))
            self._contexts = {
                "instance": tls.server_context(pem(issue.certificate_of("instances"))),
                "admin": tls.server_context(pem(issue.certificate_of("services"))),
            }
            own = [issue.certificate_of(name) for name in ("root", "instances", "services")]
            self._anchors = certificate_files.anchors(settings.trust_anchors, own)
        finally:
            store.close()
        self._aws = _aws(settings)
        self._understand = Understand(Models(settings.aws_cache), Catalog(), Endpoints(), settings.aws_endpoint)
        self._aws.preload()
        self._to_show: ServerIdentity | None = identity
        self.tick()
        self._parts: _Parts | None = None
        self._stopping = Flag()

    @property
    def listeners(self) -> Sequence[Listener]:
        """Instance, admin, public, local: the order of `binds`."""
        if self._parts is None:
            raise RuntimeError("not started")
        return self._parts.listeners

    @property
    def binds(self) -> list[str]:
        """The addresses to listen on, in the order of `listeners`."""
        listen = self._settings.listen
        return [listen.instance, listen.admin, listen.public, listen.local]

    def start(self, slot: int) -> None:
        """In the worker: open the store, take over the slot's audit chain, begin to watch and to keep house."""
        self._hardening["memory_locked"] = process.lock_memory()  # a lock does not survive the fork
        self._parts = parts = self._build(f"worker-{slot}")
        parts.store.write(
            lambda tx: tx.audit.append(Event(Kind.FACT, Name.GATEWAY_WORKER_START, True, "ok", clock.request_id()))
        )
        parts.watch.start(parts.moved)
        Thread(target=self._keep_house, args=(parts,), name="housekeeping", daemon=True).start()

    def tick(self) -> None:
        """On the event loop, where handshakes are made: OpenSSL allows no other thread to change a context in use."""
        identity, self._to_show = self._to_show, None
        if identity is not None:
            for context in self._contexts.values():
                tls.show(context, identity.chain, identity.key)
            self._shown = identity.chain

    def stop(self) -> None:
        """In the worker, when the last answer has left."""
        self._stopping.set()
        if self._parts is not None:
            self._parts.watch.stop()
            self._parts.store.close()

    def _build(self, process_name: str) -> _Parts:
        settings = self._settings
        store = _store(settings, process_name)
        now, random = clock.now, clock.random_bytes
        aws = self._aws
        journal = Journal(store)
        issue = self._issue(store)
        keys = UpstreamKeys(journal, self._master, aws, now)
        identify = Identify(store, now)
        rules = EnrollmentRules(
            settings.trust_domain, self._regional, not settings.development, settings.certificate_life
        )
        enroll = Enroll(store, journal, issue, keys, aws, now, self._master.derive("nonce"), rules)
        renew = Renew(store, journal, issue, now, settings.certificate_life)
        vend = Vend(store, journal, keys, SealedSessions(self._master), aws, now, random)
        dummy_keys = DummyKeys(store, journal, self._master, now)
        calls = Calls(vend, dummy_keys, self._understand, now)
        signer = Signer(vend)
        sign, carry = Sign(journal, calls, signer, now), Carry(store, journal, calls, signer, now)
        counted: dict[str, Any] = {"sign": sign, "carry": carry, "dummy_keys": dummy_keys}
        publish = Publish(store, issue, now, random)
        revoke = Revoke(store, journal, publish, now)
        operate = Operate(store, journal, now, random)
        profiles = Profiles(store, journal, now, source_address=not settings.development)
        throttle = Throttle(settings.failures_per_minute, settings.failures_per_minute_overall)
        watch = Watch(journal, identify, revoke)
        instance = instance_app(journal, identify, enroll, renew, vend, throttle, random, self._root)
        anchors = TrustAnchors(store, journal, now, settings.trust_domain, self._anchors)
        add_sessions(instance, journal, CreateSession(store, identify, anchors, keys, vend, now), throttle)
        add_calls(instance, journal, identify, dummy_keys, sign)
        add_vault(instance, journal, identify, Bearer(store, journal, now, random), vend, now)
        admin = admin_app(journal, identify, operate, profiles, revoke, self._user_data)
        public, local = public_app(journal, publish, self._root), local_app(journal, self._health)
        hosts = frozenset(name.lower() for name in settings.server_names)
        listeners = (
            Listener(
                "instance",
                instance.wsgi_app,
                self._contexts["instance"],
                inline={("GET", "/v1/watch"): watch.answer},
                bodies={"/v1/signatures": 2 * LONGEST_BODY},  # in base64, in JSON
                streams={"/v1/calls": CarryRoute(journal, identify, carry, self._upstream()).answer},
                hosts=hosts,
            ),
            Listener("admin", admin.wsgi_app, self._contexts["admin"], hosts=hosts),
            Listener("public", public.wsgi_app, hosts=hosts),
            Listener("local", local.wsgi_app, hosts=frozenset({"127.0.0.1", "localhost", "::1"})),
        )
        return _Parts(
            store,
            watch,
            Housekeeping(publish, store, now),
            self._server_identities(store),
            listeners,
            SqliteMoved(settings.store),
            lambda: {name: asdict(each.counters) for name, each in counted.items()},
        )

    def _upstream(self) -> Pool:
        """The connections to AWS of this worker. Only the endpoint of a development may be anywhere."""
        endpoint = self._settings.aws_endpoint
        private = self._settings.aws_private_networks
        return Pool(verifying_context(), Patience(), [endpoint.rstrip("/")] if endpoint else [], private)

    def _issue(self, store: SqlStore) -> Issue:
        return Issue(store, self._master, clock.random_bytes, self._settings.crl_url)

    def _server_identities(self, store: SqlStore) -> ServerIdentities:
        names = ServerNames.parse(*self._settings.server_names)
        return ServerIdentities(
            store, self._master, self._issue(store), clock.now, clock.random_bytes, names, self._settings.node
        )

    def _user_data(self, ticket: str) -> str:
        root = hashlib.sha256(ssl.PEM_cert_to_DER_cert(self._root)).hexdigest()
        return user_data_line(UserData(self._settings.instance_address, root, ticket))

    def _health(self) -> Mapping[str, Any]:
        parts = self._parts
        try:
            if parts is None:
                raise Refusal("store_unavailable")
            with parts.store.read() as tx:
                ready = tx.seals.get(name="master") is not None
        except Refusal:
            ready = False
        counters = {each.name: asdict(each.counters) for each in parts.listeners} if parts else {}
        calls = parts.calls() if parts else {}
        return {"ready": ready, "process": self._hardening, "listeners": counters, "calls": calls}

    def _keep_house(self, parts: _Parts) -> None:
        while True:
            parts.housekeeping.tick()
            try:
                identity = parts.identities.current()
                if identity.chain != self._shown:
                    self._to_show = identity
            except Refusal as refusal:
                log.warning("server certificate: %s (%s)", refusal, refusal.reason)
            if self._stopping.wait(TICK):
                return


def _aws(settings: Settings) -> Aws:
    """AWS as the settings say. botocore would let variables and files of the environment redirect it: they go."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    os.environ["AWS_CONFIG_FILE"] = os.environ["AWS_SHARED_CREDENTIALS_FILE"] = os.devnull
    return Aws(settings.aws_endpoint, home_region=settings.aws_region)


def _store(settings: Settings, process_name: str) -> SqlStore:
    return SqlStore(settings.store, f"{settings.node}.{process_name}", clock.now)
