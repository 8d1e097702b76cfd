"""The flows on a real store and a local AWS that enforces, each time in an account of its own."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from certs import csr, keys
from deploy.demo import revoker
from deploy.demo.cloud import USER, Cloud, Seeded, client, prefix_policy, root_client, seed
from gateway.adapters import clock
from gateway.adapters.aws import Aws
from gateway.adapters.aws_iam import Iam
from gateway.adapters.seal_passphrase import MasterKey
from gateway.adapters.sql.migrate import migrate
from gateway.adapters.sql.store import SqlStore
from gateway.core.audit import Name
from gateway.core.identity import Identity
from gateway.core.lease import Order
from gateway.core.model import Certificate, Instance, InstanceState, KeyPurpose, Profile, SealRecord
from gateway.flows.fence import Fence
from gateway.flows.initialize import Initialize
from gateway.flows.journal import Call, Journal
from gateway.flows.keys import CutKey, KeyLayer, Keys
from gateway.flows.revocation_layers import AgentsLayer
from gateway.flows.revoke import Revoke
from gateway.flows.rotate import Rotate
from gateway.flows.vault import SealedSessions, UpstreamKeys
from gateway.flows.vend import Vend, Vended
from gateway.wire.secret import Secret
from tests.conftest import Known

ACCOUNTS = count(222200000001)


class Later:
    """`ports.Clock`: the time, and then some."""

    def __init__(self) -> None:
        self.more = timedelta(0)

    def __call__(self) -> datetime:
        return clock.now() + self.more


def allowing(*statements: dict[str, Any]) -> str:
    """A policy document."""
    return json.dumps({"Version": "2012-10-17", "Statement": statements})


@dataclass
class AtAws:
    """The parts; `iam` is the account's root, by ministack's back door: it makes things, and looks at them."""

    cloud: Cloud
    seeded: Seeded
    iam: Any
    time: Later
    store: SqlStore
    journal: Journal
    vault: MasterKey
    aws: Aws
    keys: UpstreamKeys
    fence: Fence
    rotate: Rotate
    revoke: Revoke
    see_to: Keys
    vend: Vend
    known: Known

    @property
    def account(self) -> str:
        return self.seeded.account

    def call(self, name: Name = Name.OPERATOR_KEY_ROTATE) -> Call:
        return Call(name, clock.request_id(), "127.0.0.1", "spiffe://td/operator/alice")

    def enrolled(self, instance_id: str) -> Identity:
        """A machine on record, without a certificate that would be of use elsewhere."""
        now, spiffe = clock.now(), f"spiffe://td/aws/{self.account}/us-east-1/{instance_id}"
        row = Instance(spiffe, self.account, "us-east-1", instance_id, "web", InstanceState.ENROLLED, "a" * 64, now, {})
        made = Certificate(clock.random_bytes(8).hex(), "instances", "instance", spiffe, clock.random_bytes(32).hex(),
                           b"", "a" * 64, now, now + timedelta(hours=1))  # fmt: skip

        def unit(tx: Any) -> bool:
            before = tx.instances.get(id=spiffe)
            return bool(
                (tx.instances.swap(before, row) if before else tx.instances.add(row)) and tx.certificates.add(made)
            )

        assert self.store.write(unit)
        return Identity(row, made)

    def give(self, identity: Identity, grant: str = "reports") -> Vended:
        call = self.call(Name.INSTANCE_CREDENTIALS_VEND)
        return self.vend.give(call, identity, Order(grant))

    def is_honoured(self, vended: Vended) -> bool:
        """Whether AWS itself does what this session asks for."""
        session = vended.session
        self.known.add(session.secret_access_key)
        secrets = Secret(session.secret_access_key), Secret(session.session_token)
        s3 = client(self.cloud.endpoint, "s3", session.access_key_id, *secrets)
        try:
            s3.list_objects_v2(Bucket=self.seeded.bucket, Prefix=self.seeded.prefixes[0])
        except ClientError as error:
            if error.response["Error"]["Code"] == "AccessDenied":
                return False
            raise
        return True

    def import_revoker(self) -> str:
        """A revoker with exactly the policy that the documents give."""
        access_key_id, secret = revoker.make(self.iam, self.account)
        self.known.add(secret)
        self.take_in("revoker", access_key_id, secret, KeyPurpose.REVOKE)
        return access_key_id

    def take_in(self, name: str, access_key_id: str, secret: Secret, purpose: KeyPurpose) -> None:
        self.keys.take_in(self.call(Name.OPERATOR_KEY_IMPORT), name, access_key_id, secret, "alice", purpose)

    def access_keys(self, user: str = USER) -> dict[str, str]:
        """Of a user, each with its state at AWS."""
        found = self.iam.list_access_keys(UserName=user)["AccessKeyMetadata"]
        return {each["AccessKeyId"]: each["Status"] for each in found}

    def records(self, **equal: Any) -> list[dict[str, Any]]:
        with self.store.read() as tx:
            found = [json.loads(line) for _, _, line, _ in tx.audit.lines({}, 1000)]
        return [each for each in found if all(each[key] == value for key, value in equal.items())]

    def policy(self) -> dict[str, Any] | None:
        """What of ours stands at AWS."""
        arn = f"arn:aws:iam::{self.account}:policy/trusted-gateway-fence-td"
        try:
            version = self.iam.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"]
        except ClientError:
            return None
        found: dict[str, Any] = self.iam.get_policy_version(PolicyArn=arn, VersionId=version)["PolicyVersion"][
            "Document"
        ]
        return found

    def attached(self) -> list[str]:
        """To which of the vended roles and users it is attached."""
        roles = self.iam.list_attached_role_policies(RoleName="reader")["AttachedPolicies"]
        users = self.iam.list_attached_user_policies(UserName=USER)["AttachedPolicies"]
        return ["role/reader"] * len(roles) + [f"user/{USER}"] * len(users)


@pytest.fixture
def at_aws(tmp_path: Path, cloud: Cloud, known: Known) -> Iterator[AtAws]:
    account = str(next(ACCOUNTS))
    seeded = seed(cloud.endpoint, account, f"data-{account}")
    known.add(seeded.secret)
    made = build(f"sqlite:///{tmp_path / 'store' / 'gateway.db'}", cloud, seeded, known)
    seal = SealRecord("master", "passphrase", {}, b"")
    Initialize(made.journal, made.vault, made.time, clock.random_bytes).run(
        made.call(Name.OPERATOR_GATEWAY_INITIALIZE), seal, "td", "alice", csr.make(keys.generate())
    )
    reads = {"Effect": "Allow", "Action": "s3:ListBucket", "Resource": f"arn:aws:s3:::{seeded.bucket}"}
    made.iam.put_user_policy(UserName=USER, PolicyName="reads", PolicyDocument=allowing(reads))
    made.iam.put_user_policy(
        UserName=USER, PolicyName="federates", PolicyDocument=allowing(reads | {"Action": "sts:*", "Resource": "*"})
    )
    made.take_in("main", seeded.access_key_id, seeded.secret, KeyPurpose.VEND)
    grants = [{"name": "reports", "role": seeded.role_arn, "region": "us-east-1",
               "policy": prefix_policy(seeded.bucket, seeded.prefixes[0])},
              {"name": "federated", "federation": True, "region": "us-east-1",
               "policy": prefix_policy(seeded.bucket, seeded.prefixes[0])}]  # fmt: skip
    document = {"name": "web", "grants": grants}
    assert made.store.write(lambda tx: tx.profiles.add(Profile("web", 1, document, made.time(), "alice")))
    yield made
    made.store.close()


def build(url: str, cloud: Cloud, seeded: Seeded, known: Known, master: bytes | None = None) -> AtAws:
    """The flows of one process."""
    migrate(url)
    time, random = Later(), clock.random_bytes
    store = SqlStore(url, "test", time)
    vault = MasterKey(Secret(master or random(32)), random)
    journal = Journal(store)
    aws = Aws(cloud.endpoint)
    iam = Iam(aws)
    upstream = UpstreamKeys(journal, vault, aws, time)
    cut = CutKey(time, random)
    rotate = Rotate(store, time, random, upstream, aws, iam, cut)
    fence = Fence(store, time, random, upstream, iam, iam, "td", iam.partition)
    layers = (KeyLayer(store, upstream, iam, rotate, cut), fence, AgentsLayer(store, time))
    revoke = Revoke(store, journal, layers, time, random, 0)
    return AtAws(
        cloud, seeded, root_client(cloud.endpoint, "iam", seeded.account), time, store, journal, vault, aws, upstream,
        fence, rotate, revoke, Keys(store, journal, time, rotate, cut, revoke),
        Vend(store, journal, upstream, SealedSessions(vault), aws, time, random), known,
    )  # fmt: skip
