"""One enforcing local AWS, one gateway beside it, and what a test does with them. Real processes, real TLS."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from certs.authority import Issuer
from certs.keys import load_private_pem
from deploy.demo.cloud import REGION, Cloud, RunningInstance, Seeded, prefix_policy
from deploy.demo.ec2_document import DocumentAuthority, SignedDocument
from deploy.demo.machine import document_of
from deploy.demo.site import Site
from deploy.demo.visitor import Visitor
from gateway.adapters import clock
from gateway.adapters.sql.store import SqlStore
from gateway.ceremonies import unseal
from gateway.core.model import Certificate
from gateway.flows.issue import Issue
from gateway.wire.messages import UserData, user_data_line

PROFILE, GRANT = "web", "reports"
OTHER_PROFILE, OTHER_GRANT = "batch", "payroll"
# Tests fail on purpose, all from one address; what limits that has a gateway of its own.
NO_COUNTING = {"audit.refusals_per_minute": 1_000_000}
NO_LIMITS = {"failures_per_minute": 1_000_000, "failures_per_minute_overall": 1_000_000}


@dataclass(frozen=True, slots=True)
class Launched:
    """An instance that AWS knows, and its signed identity document."""

    facts: RunningInstance
    document: SignedDocument

    @property
    def id(self) -> str:
        """The EC2 instance id."""
        return self.facts.instance_id


class World:
    """A running gateway with two profiles: `web` (grant `reports`) and `batch` (grant `payroll`)."""

    def __init__(
        self, site: Site, cloud: Cloud, seeded: Seeded, authority: DocumentAuthority, fingerprint: str
    ) -> None:
        self.site, self.cloud, self.seeded, self.authority = site, cloud, seeded, authority
        self.fingerprint = fingerprint
        self.root = (site.operator / "ca.pem").read_text()
        self._visitors: list[Visitor] = []

    def launch(self) -> Launched:
        """RunInstances."""
        facts = self.cloud.run_instance()
        return Launched(facts, document_of(facts, self.authority))

    def ticket(self, profile: str = PROFILE, *, instance: str | None = None, life: str = "15m") -> str:
        """`trusted-gateway ticket create`; the secret."""
        extra = ["--instance", instance] if instance else []
        return self.site.cli("ticket", "create", "--profile", profile, "--life", life, "--only-secret", *extra).strip()

    def user_data(self, ticket: str | None) -> str:
        """What an instance boots with."""
        return "#cloud-config\n" + user_data_line(UserData(self.site.instance, self.fingerprint, ticket))

    def visitor(self, address: str | None = None) -> Visitor:
        """A caller without a certificate."""
        visitor = Visitor(address or self.site.instance, self.root)
        self._visitors.append(visitor)
        return visitor

    def hang_up(self) -> None:
        """Close every connection that callers left open."""
        while self._visitors:
            self._visitors.pop().close()

    def enrolled(self, profile: str = PROFILE) -> tuple[Launched, Visitor]:
        """A new instance, and a caller that holds its certificate."""
        launched, visitor = self.launch(), self.visitor()
        answer = visitor.enroll(launched.document, self.ticket(profile))
        assert answer.status == 201, answer.body
        return launched, visitor

    def operator(self) -> Visitor:
        """The first operator, on the admin listener."""
        visitor = self.visitor(self.site.admin)
        key = load_private_pem((self.site.operator / "operator.key").read_bytes())
        visitor.present((self.site.operator / "operator.crt").read_text(), key)
        return visitor

    def audit(self, request_id: str | None = None, **equal: Any) -> list[dict[str, Any]]:
        """The audit records, straight from the store's file, oldest first; those of a request, or with these fields."""
        with self.database() as database:
            lines = database.execute("SELECT line FROM audit_record").fetchall()
        bodies = sorted((json.loads(line) for (line,) in lines), key=lambda body: str(body["at"]))
        if request_id is not None:
            equal["request_id"] = request_id.removeprefix("urn:uuid:")
        return [body for body in bodies if all(body.get(key) == value for key, value in equal.items())]

    def rows(self, table: str, **equal: Any) -> list[dict[str, Any]]:
        """Rows of the store's file."""
        where = " AND ".join(f"{key} = ?" for key in equal) or "1"
        with self.database() as database:
            database.row_factory = sqlite3.Row
            found = database.execute(f"SELECT * FROM {table} WHERE {where}", tuple(equal.values())).fetchall()
        return [dict(row) for row in found]

    def everything_but_the_log(self) -> dict[str, list[tuple[Any, ...]]]:
        """All rows of all tables except the audit log and what housekeeping notes by itself: to see that a refusal
        changed nothing.
        """
        with self.database() as database:
            tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            return {
                table: sorted(database.execute(f"SELECT * FROM {table}").fetchall(), key=repr)
                for table in tables
                if not table.startswith("audit_") and table not in ("cursor", "checkpoint")
            }

    @contextmanager
    def database(self) -> Iterator[sqlite3.Connection]:
        """The store's file, read only."""
        connection = sqlite3.connect(f"file:{self.site.database}?mode=ro", uri=True, timeout=10)
        try:
            yield connection
        finally:
            connection.close()

    @contextmanager
    def ca(self, name: str = "instances") -> Iterator[tuple[Issuer, SqlStore]]:
        """The gateway's own issuer, opened with the passphrase: what only a thief of everything would have."""
        store = SqlStore(f"sqlite:///{self.site.database}", "test", clock.now)
        try:
            yield Issue(store, unseal(store, self.site.passphrase), clock.random_bytes, None).issuer(name), store
        finally:
            store.close()


def remember(store: SqlStore, row: Certificate) -> None:
    """Put a certificate on record, as if the gateway had issued it."""
    assert store.write(lambda tx: tx.certificates.add(row))


@contextmanager
def world(folder: Path, cloud: Cloud, seeded: Seeded, authority: DocumentAuthority, **options: Any) -> Iterator[World]:
    """A gateway of its own in `folder`, ready. `options` are Site's; `endpoint` replaces the cloud's."""
    options.setdefault("enrollment", NO_LIMITS)
    options["top"] = NO_COUNTING | options.get("top", {})
    options["top"] = {"operator_requests_per_minute": 1_000_000, **options.get("top", {})}
    endpoint = options.pop("endpoint", cloud.endpoint)
    with Site(folder, endpoint, {REGION: authority.certificate_pem()}, region=REGION, **options) as site:
        fingerprint = site.init()
        site.import_key(seeded.access_key_id, seeded.secret)
        site.start()
        for name, grant, prefix in zip((PROFILE, OTHER_PROFILE), (GRANT, OTHER_GRANT), seeded.prefixes, strict=True):
            site.cli("profile", "apply", str(_profile(folder, name, grant, prefix, seeded)))
        made = World(site, cloud, seeded, authority, fingerprint)
        try:
            yield made
        finally:
            made.hang_up()


def _profile(folder: Path, name: str, grant: str, prefix: str, seeded: Seeded) -> Path:
    path = folder / f"{name}.toml"
    path.write_text(
        f'name = "{name}"\n[[grants]]\nname = "{grant}"\nrole = "{seeded.role_arn}"\nregion = "{seeded.region}"\n'
        f"policy = '''{prefix_policy(seeded.bucket, prefix)}'''\n"
    )
    return path
