"""A gateway with trust anchors, and how its POST /sessions is called: by AWS's own client, and byte by byte."""

import json
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from cryptography import x509

from deploy.demo.cloud import ACCOUNT, REGION, Cloud, Seeded
from deploy.demo.ec2_document import DocumentAuthority
from deploy.demo.site import Site
from deploy.demo.visitor import Answer, Visitor
from tests.conftest import Known
from tests.end_to_end.clients_env import clients_python
from tests.end_to_end.door import ListeningDoor
from tests.end_to_end.world import OTHER_PROFILE, PROFILE, World
from tests.end_to_end.world import world as make_world
from tests.foreign import Asking, ForeignCa, Holder, parameters, rsa_key

CLIENT = Path(__file__).with_name("anywhere_client.py")


@dataclass(frozen=True)
class Anywhere:
    """A gateway with the trust anchors `corp` (profile web, with a CRL) and `plant` (both profiles)."""

    world: World
    door: ListeningDoor
    corp: ForeignCa
    plant: ForeignCa
    crl: Path

    def asking(self, holder: Holder, anchor: str = "corp", profile: str = PROFILE, **changed: Any) -> Asking:
        asked = parameters(anchor, profile, self.world.seeded.role_arn, region=REGION, account=ACCOUNT)
        return Asking(holder, asked, host=self.world.site.instance, **changed)

    def send(self, asking: Asking, **headers: str) -> Answer:
        """One request, without a client certificate, as such clients make it; `headers` replace what was signed."""
        query = f"?{asking.target}" if asking.query else ""
        return self.post(f"/sessions{query}", asking.raw, {**asking.sign(), **headers})

    def post(self, target: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """These headers and no others."""
        connection = self.world.visitor().connect()
        connection.request("POST", target, body, dict(headers))
        response = connection.getresponse()
        found = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, found, json.loads(response.read()))

    def client(self, folder: Path, holder: Holder, anchor: str, profile: str = PROFILE, **more: Any) -> dict[str, Any]:
        """The real client, and what it was told."""
        folder.mkdir(exist_ok=True)
        for name, text in (("key", holder.key_pem), ("cert", holder.pem), ("chain", holder.chain_pem)):
            (folder / name).write_bytes(text)
        arns = parameters(anchor, profile, self.world.seeded.role_arn, region=REGION, account=ACCOUNT)
        session = {
            "profile_arn": arns["profileArn"],
            "role_arn": arns["roleArn"],
            "trust_anchor_arn": arns["trustAnchorArn"],
            "certificate": str(folder / "cert"),
            "private_key": str(folder / "key"),
            "region": REGION,
            "endpoint": self.world.site.instance,
            "verify": str(self.world.site.operator / "ca.pem"),
            **({"certificate_chain": str(folder / "chain")} if holder.chain else {}),
            **more,
        }
        told = {
            "session": session,
            "s3": self.world.cloud.endpoint,
            "bucket": self.world.seeded.bucket,
            "prefixes": self.world.seeded.prefixes,
        }
        done = subprocess.run(
            [str(clients_python()), str(CLIENT)],
            input=json.dumps(told),
            env={"PATH": "/usr/bin:/bin", "HOME": str(folder), "AWS_EC2_METADATA_DISABLED": "true"},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        said: dict[str, Any] = json.loads(done.stdout)
        return said

    def records(self) -> list[dict[str, Any]]:
        return self.world.audit(name="instance:session:create")


@pytest.fixture(scope="module", name="anywhere")
def anywhere_fixture(
    tmp_path_factory: pytest.TempPathFactory, cloud: Cloud, seeded: Seeded, authority: DocumentAuthority, known: Known
) -> Iterator[Anywhere]:
    folder = tmp_path_factory.mktemp("anywhere")
    corp, plant = ForeignCa("Corp root", rsa_key()), ForeignCa("Plant root")
    crl = folder / "corp.crl"
    crl.write_bytes(corp.crl())
    for name, ca in (("corp", corp), ("plant", plant)):
        (folder / f"{name}.pem").write_bytes(ca.pem)
    written = f"""
[trust_anchors.corp]
certificates = "{folder}/corp.pem"
crl = "{crl}"
profiles = ["{PROFILE}"]
[trust_anchors.plant]
certificates = "{folder}/plant.pem"
profiles = ["{PROFILE}", "{OTHER_PROFILE}"]
"""
    init = Site.init

    def with_anchors(site: Site, operator: str = "alice") -> str:
        with site.settings.open("a") as file:
            file.write(written)
        return init(site, operator)

    with (
        patch.object(Site, "init", with_anchors),
        ListeningDoor(cloud.endpoint) as door,
        make_world(folder / "gateway", cloud, seeded, authority, endpoint=door.endpoint) as world,
    ):
        known.add(world.site.passphrase)
        known.watch(world.site.log)
        yield Anywhere(world, door, corp, plant, crl)


def holder_of(visitor: Visitor) -> Holder:
    """An enrolled instance's own certificate and key."""
    assert visitor.certificate is not None
    leaf, *chain = x509.load_pem_x509_certificates(visitor.certificate.encode())
    return Holder(leaf, visitor.key, tuple(chain))
