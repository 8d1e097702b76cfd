"""What is done on the gateway's own host by who can open its store: first things, keys, certificates, archives."""

import os
from collections.abc import Collection
from pathlib import Path

from gateway.adapters import clock, seal_passphrase
from gateway.adapters.archive_files import ArchiveFiles
from gateway.adapters.aws import Aws
from gateway.adapters.seal_passphrase import MasterKey
from gateway.adapters.sql.migrate import migrate
from gateway.adapters.sql.store import SqlStore
from gateway.core.audit import Name
from gateway.core.errors import Refusal
from gateway.core.model import KeyPurpose
from gateway.flows.archive import Archive, Archived
from gateway.flows.initialize import CertifyOperator, Initialize, Initialized
from gateway.flows.issue import Issue
from gateway.flows.journal import Journal
from gateway.flows.vault import UpstreamKeys
from gateway.settings import Settings
from gateway.wire.secret import Secret


def initialize(settings: Settings, passphrase: Secret, operator: str, operator_csr: str) -> Initialized:
    """Make the store, the seal, the CA and the first operator. Raises Refusal `conflict` when they are there."""
    migrate(settings.store)
    store = store_of(settings, "cli")
    try:
        record, vault = seal_passphrase.create(passphrase, clock.random_bytes)
        journal = Journal(store)
        flow = Initialize(journal, vault, clock.now, clock.random_bytes)
        with journal.call(Name.OPERATOR_GATEWAY_INITIALIZE, clock.request_id(), None) as call:
            return flow.run(call, record, settings.trust_domain, operator, operator_csr)
    finally:
        store.close()


def certify_operator(
    settings: Settings, passphrase: Secret, operator: str, operator_csr: str, *, administrator: bool = False
) -> Initialized:
    """A new certificate for an operator's key; `administrator`: for one who is one from now on."""
    store = store_of(settings, "cli")
    try:
        issue = Issue(store, unseal(store, passphrase), clock.random_bytes, settings.crl_url)
        journal = Journal(store)
        with journal.call(Name.OPERATOR_CERTIFICATE_ISSUE, clock.request_id(), None) as call:
            call.object = f"operator/{operator}"
            flow = CertifyOperator(store, journal, issue, clock.now)
            return flow.run(call, settings.trust_domain, operator, operator_csr, administrator=administrator)
    finally:
        store.close()


def import_key(
    settings: Settings, passphrase: Secret, name: str, access_key_id: str, secret: Secret, by: str, purpose: str
) -> str:
    """Seal an upstream key into the vault; return the account that AWS says it is of."""
    store = store_of(settings, "cli")
    try:
        vault = unseal(store, passphrase)
        journal = Journal(store)
        keys = UpstreamKeys(journal, vault, aws_of(settings), clock.now)
        with journal.call(Name.OPERATOR_KEY_IMPORT, clock.request_id(), None) as call:
            call.object = f"upstream_key/{name}"
            return keys.take_in(call, name, access_key_id, secret, by, KeyPurpose(purpose)).account
    finally:
        store.close()


def archive(settings: Settings, to: Path, without_sinks: Collection[str] = ()) -> Archived | None:
    """Move what the audit log has from before `audit.keep` into files; None when there is nothing of the kind."""
    store = store_of(settings, "cli")
    sinks = [rules.name for rules in settings.sinks]
    try:
        return Archive(store, clock.random_bytes, sinks, without_sinks).run(
            ArchiveFiles(to), clock.now() - settings.audit_keep
        )
    finally:
        store.close()


def unseal(store: SqlStore, passphrase: Secret) -> MasterKey:
    """The master key of this store. Raises Unsealable, and Refusal when nothing was initialised."""
    with store.read() as tx:
        record = tx.seals.get(name="master")
    if record is None:
        raise Refusal("store_unavailable", "This store has no gateway in it: run 'trusted-gateway init'")
    return seal_passphrase.unseal(record, passphrase, clock.random_bytes)


def aws_of(settings: Settings) -> Aws:
    """AWS as the settings say. botocore would let variables and files of the environment redirect it: they go."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    os.environ["AWS_CONFIG_FILE"] = os.environ["AWS_SHARED_CREDENTIALS_FILE"] = os.devnull
    return Aws(settings.aws_endpoint, home_region=settings.aws_region)


def store_of(settings: Settings, process_name: str) -> SqlStore:
    return SqlStore(settings.store, f"{settings.node}.{process_name}", clock.now)
