"""The only module that names concrete adapters: settings in, a running gateway out."""

import hashlib
import logging
import ssl
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from threading import Event as Flag
from threading import Thread
from typing import Any

from certs.names import ServerNames
from gateway.adapters import certificate_files, clock, logs, process, tls
from gateway.adapters.action_catalog import Catalog
from gateway.adapters.aws_cloudtrail import AwsTrail
from gateway.adapters.aws_endpoints import Endpoints
from gateway.adapters.aws_iam import Iam
from gateway.adapters.aws_machines import AwsMachines
from gateway.adapters.aws_models import Models
from gateway.adapters.oidc import Oidc
from gateway.adapters.secret_detector import SecretDetector
from gateway.adapters.sql.migrate import migrate
from gateway.adapters.sql.moved import SqliteMoved
from gateway.adapters.sql.store import SqlStore
from gateway.adapters.throttle import Attempts, Pace, Throttle
from gateway.ceremonies import aws_of, store_of, unseal
from gateway.core.audit import Event, Kind, Name
from gateway.core.audit_search import hidden
from gateway.core.errors import Refusal
from gateway.flows.admit import Admit
from gateway.flows.approve import Approve
from gateway.flows.bearer import Bearer
from gateway.flows.calls import Calls, Understand
from gateway.flows.carry import Carry
from gateway.flows.checkpoint import Checkpoints
from gateway.flows.create_session import CreateSession
from gateway.flows.dummy_keys import DummyKeys
from gateway.flows.enroll import Enroll, EnrollmentRules
from gateway.flows.fence import Fence
from gateway.flows.housekeeping import Housekeeping
from gateway.flows.identify import Identify
from gateway.flows.issue import Issue, pem
from gateway.flows.journal import Journal
from gateway.flows.keys import CutKey, KeyLayer, Keys
from gateway.flows.launch import Launch
from gateway.flows.once import Once
from gateway.flows.operate import Operate
from gateway.flows.operators import Operators, Roles
from gateway.flows.profiles import Profiles
from gateway.flows.publish import Publish
from gateway.flows.read_audit import ReadAudit
from gateway.flows.reconcile import Reconcile
from gateway.flows.reconcile_known import Knowledge
from gateway.flows.reconcile_schedule import ReconcileSchedule
from gateway.flows.renew import Renew
from gateway.flows.repeats import Repeats
from gateway.flows.revocation_layers import AgentsLayer, CrlLayer, Telling
from gateway.flows.revoke import Revoke
from gateway.flows.rotate import Rotate
from gateway.flows.server_identity import ServerIdentities, ServerIdentity
from gateway.flows.servers import Servers
from gateway.flows.sign import Sign
from gateway.flows.sign_in import Session, SignIn
from gateway.flows.signer import Signer
from gateway.flows.trust_anchor import TrustAnchors
from gateway.flows.vault import SealedSessions, UpstreamKeys
from gateway.flows.vend import Vend
from gateway.observation import Observation, Observed
from gateway.settings import Settings
from gateway.web.admin import approvals as approval_routes
from gateway.web.admin import audit as audit_routes
from gateway.web.admin import instances as instance_routes
from gateway.web.admin import keys as key_routes
from gateway.web.admin import observing as observing_routes
from gateway.web.admin import operators as operator_routes
from gateway.web.admin import profiles as profile_routes
from gateway.web.admin import reconciliations as reconcile_routes
from gateway.web.admin import revocations as revocation_routes
from gateway.web.admin import servers as server_routes
from gateway.web.admin import sign_in as sign_in_routes
from gateway.web.admin.app import admin_app
from gateway.web.admin.described import with_description
from gateway.web.admin.desk import Desk
from gateway.web.admin.pages import Cursors
from gateway.web.calls_api import add_calls
from gateway.web.carry import CarryRoute
from gateway.web.checkpoint_api import add_checkpoint
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
TICK = 10.0  # seconds between two rounds of housekeeping


@dataclass(slots=True)
class _Parts:
    """What one process runs. Built after the fork; nothing in it crosses one."""

    store: SqlStore
    journal: Journal
    observed: Observed
    watch: Watch
    housekeeping: Housekeeping
    identities: ServerIdentities
    listeners: tuple[Listener, ...]
    moved: SqliteMoved


def serve(settings: Settings, passphrase: Secret) -> None:
    """Run the gateway under gunicorn until it is told to stop."""
    logs.begin(settings.log.format, settings.log.level)
    gateway = Gateway(settings, passphrase)
    passphrase.wipe()
    run(gateway, gateway.binds, settings.workers, logs.configuration(settings.log.format, settings.log.level))


class Gateway:
    """The `Service` that the worker class serves. Made in the master: unsealed once, TLS contexts shared by workers."""

    limits = Limits()

    def __init__(self, settings: Settings, passphrase: Secret) -> None:
        self._settings = settings
        self._regional = certificate_files.regional(settings.identity_certificates)
        self._hardening = process.harden()
        self._observation = Observation(settings, self._hardening)
        migrate(settings.store)
        store = store_of(settings, "master")
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
        self._tokens = Oidc(settings.provider, clock.now) if settings.provider else None
        self._aws = aws_of(settings)
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
        self._parts = parts = self._build(slot)
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
            try:
                self._parts.journal.settle(all_of_them=True)
            except Refusal as refusal:
                log.warning("refusals that were only counted are lost: %s (%s)", refusal, refusal.reason)
            self._parts.observed.stop()
            self._parts.store.close()

    def _build(self, slot: int) -> _Parts:
        settings = self._settings
        observed = self._observation.worker(slot, self._master, self._aws)
        store = observed.store
        now, random = clock.now, clock.random_bytes
        aws = self._aws
        hide = partial(hidden, self._master.derive("audit"))
        journal = observed.journal(hide, Repeats(settings.refusals_per_minute, now, random))
        issue = self._issue(store)
        keys = UpstreamKeys(journal, self._master, aws, now)
        attempts = Attempts(settings.failures_per_minute, settings.failures_per_minute_overall)
        identify = Identify(store, now, attempts)
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
        iam, cut_key = Iam(aws), CutKey(now, random)
        rotate = Rotate(store, now, random, keys, aws, iam, cut_key)
        fence = Fence(store, now, random, keys, iam, iam, settings.trust_domain, iam.partition)
        layers = (CrlLayer(store, publish), KeyLayer(store, keys, iam, rotate, cut_key), fence, AgentsLayer(store, now))
        revoke = Revoke(store, journal, layers, now, random)
        operate = Operate(store, journal, now, random)
        detector, machines, regions = SecretDetector(), AwsMachines(aws), settings.server_regions
        profiles = Profiles(store, journal, detector, now, source_address=not settings.development)
        servers = Servers(store, journal, keys, machines, revoke, now, settings.trust_domain, regions)
        seed = self._master.derive("launch")
        launch = Launch(store, journal, keys, machines, detector, now, random, seed, self._user_data, regions)
        found = settings.reconcile
        knowledge = Knowledge(now, settings.trust_domain, found.addresses, found.keep)
        reconcile = Reconcile(
            store, journal, keys, AwsTrail(aws), machines, servers, now, random, knowledge, found.regions or regions
        )
        scheduled = ReconcileSchedule(store, now, random, reconcile, found.schedule, found.keep)
        throttle = Throttle(settings.failures_per_minute, settings.failures_per_minute_overall)
        watch = Watch(journal, identify, revoke, Telling(store, now))
        instance = instance_app(journal, identify, enroll, renew, vend, throttle, random, self._root)
        anchors = TrustAnchors(store, journal, now, settings.trust_domain, self._anchors)
        add_sessions(instance, journal, CreateSession(store, identify, anchors, keys, vend, now), throttle)
        add_calls(instance, journal, identify, dummy_keys, sign)
        add_vault(instance, journal, identify, Bearer(store, journal, now, random), vend, now)
        checkpoints = Checkpoints(
            store, self._master, issue, now, random, settings.trust_domain, settings.checkpoint_every
        )
        add_checkpoint(instance, journal, identify, checkpoints)
        approve = Approve(store, journal, now, random, settings.approvals)
        session = Session(store, journal, issue, now)
        read_audit = ReadAudit(store, journal, settings.trust_domain)
        admin_routes = (
            *sign_in_routes.routes(session, settings.admin_address),
            *instance_routes.routes(operate, self._user_data),
            *revocation_routes.routes(revoke),
            *profile_routes.routes(profiles),
            *server_routes.routes(servers, launch, now),
            *audit_routes.routes(journal, read_audit, checkpoints, hide),
            *reconcile_routes.routes(reconcile, now),
            *observing_routes.routes(journal, read_audit, observed.metrics),
            *operator_routes.routes(
                Operators(store, journal, issue, now, settings.trust_domain),
                Roles(store, journal, now),
                settings.admin_address,
            ),
            *approval_routes.routes(approve),
            *key_routes.routes(Keys(store, journal, now, rotate, cut_key, revoke)),
        )
        desk = Desk(
            journal,
            Admit(store, identify, now),
            approve,
            Once(store, journal, self._master, now),
            Pace(settings.operator_requests_per_minute, now),
            Cursors(self._master.derive("cursor")),
        )
        admin = admin_app(journal, desk, with_description(journal, admin_routes, sign_in_routes.ROUTES))
        sign_in, address = self._sign_in(store, journal, issue, attempts), settings.admin_address
        sign_in_routes.add_sign_in(admin, journal, identify, sign_in, session, self._root, address)
        public = public_app(journal, publish, self._root)
        local = local_app(journal, observed.health, observed.metrics)
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
        apps = {"instance": instance, "admin": admin, "public": public, "local": local}
        return _Parts(
            store,
            journal,
            observed,
            watch,
            Housekeeping(
                publish,
                store,
                now,
                revoke.resume,
                rotate.tend,
                fence.tend,
                journal.settle,
                checkpoints.tick,
                scheduled.tick,
            ),
            self._server_identities(store),
            observed.start(listeners, apps, lambda: {name: asdict(each.counters) for name, each in counted.items()}),
            SqliteMoved(settings.store),
        )

    def _sign_in(self, store: SqlStore, journal: Journal, issue: Issue, attempts: Attempts) -> SignIn | None:
        provider, domain = self._settings.provider, self._settings.trust_domain
        if provider is None or self._tokens is None:
            return None
        return SignIn(store, journal, issue, self._tokens, provider, attempts, clock.now, domain)

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
