"""One request of every kind, by who may and by who may not."""

import json
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from urllib.error import HTTPError

import pytest

from certs import csr
from deploy.demo.visitor import Answer, Visitor, evidence_of
from gateway.wire.messages import CredentialsRequest, EnrollRequest, RenewRequest
from tests.end_to_end.crowd import order_ticket
from tests.end_to_end.rough import Rough
from tests.end_to_end.world import GRANT, OTHER_GRANT, PROFILE, World

NOT_THERE = "i-00000000000000000"
VEND = CredentialsRequest(GRANT)


class Tour:
    """Every route, with who may ask and who may not."""

    def __init__(self, rough: Rough) -> None:
        self.rough, self.world = rough, rough.world
        self.launched, self.instance = rough.enrolled()
        self.stranger = self.world.visitor()
        self.operator = self.world.operator()
        self.nobody = self.world.visitor(self.world.site.admin)
        self.document = {
            "name": "toured",
            "grants": [
                {
                    "name": "all",
                    "role": self.world.seeded.role_arn,
                    "region": self.world.seeded.region,
                    "policy": '{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"*","Resource":"*"}]}',
                }
            ],
        }

    def stops(self) -> Iterator[tuple[str, Callable[[], Answer], int, str | None]]:
        """What is asked, the asking, its status, and the decision that it leaves: "allowed", "refused" or None."""
        newcomer = self.world.launch()
        applicant, evidence = self.world.visitor(), evidence_of(newcomer.document)
        enroll = partial(EnrollRequest, csr.make(applicant.key), evidence)
        ticket = order_ticket(self.operator)["ticket"]
        other_key = RenewRequest(csr.make(applicant.key))
        for what, caller, method, path, body, status, decision in (
            ("livez", self.stranger, "GET", "/livez", None, 204, None),
            ("root", self.stranger, "GET", "/v1/ca", None, 200, None),
            ("description", self.stranger, "GET", "/v1/openapi.json", None, 200, None),
            ("Vault's health", self.stranger, "GET", "/v1/sys/health", None, 200, None),
            ("Vault's seal", self.stranger, "GET", "/v1/sys/seal-status", None, 200, None),
            ("Vault's state", self.stranger, "GET", "/v1/sys/init", None, 200, None),
            ("Vault's login", self.instance, "POST", "/v1/auth/cert/login", {}, 200, "allowed"),
            ("nonce", self.stranger, "POST", "/v1/nonces", None, 200, None),
            ("nonce with a body", self.stranger, "POST", "/v1/nonces", {"a": 1}, 400, "refused"),
            ("no such route", self.stranger, "GET", "/v1/nothing", None, 404, "refused"),
            ("no such route, enrolled", self.instance, "GET", "/v1/nothing", None, 404, "refused"),
            ("wrong method", self.stranger, "DELETE", "/v1/grants", None, 405, "refused"),
            ("no such ticket", applicant, "POST", "/v1/enroll", enroll("nothing"), 401, "refused"),
            ("enrol", applicant, "POST", "/v1/enroll", enroll(ticket), 201, "allowed"),
            ("enrol again", applicant, "POST", "/v1/enroll", enroll(ticket), 201, "allowed"),
            ("no JSON", applicant, "POST", "/v1/enroll", b"{", 400, "refused"),
            ("grants", self.instance, "GET", "/v1/grants", None, 200, "allowed"),
            ("grants, no certificate", self.stranger, "GET", "/v1/grants", None, 401, "refused"),
            ("watch, no certificate", self.stranger, "GET", "/v1/watch", None, 401, "refused"),
            ("vend", self.instance, "POST", "/v1/credentials", VEND, 200, "allowed"),
            ("vend another's", self.instance, "POST", "/v1/credentials", {"grant": OTHER_GRANT}, 403, "refused"),
            ("vend nonsense", self.instance, "POST", "/v1/credentials", {"grant": 1}, 400, "refused"),
            ("renew", self.instance, "POST", "/v1/renew", RenewRequest(csr.make(self.instance.key)), 200, "allowed"),
            ("grants, superseded", self.instance, "GET", "/v1/grants", None, 401, "refused"),
            ("renew for another key", self.instance, "POST", "/v1/renew", other_key, 400, "refused"),
            ("status", self.operator, "GET", "/v1/status", None, 200, "allowed"),
            ("status, nobody", self.nobody, "GET", "/v1/status", None, 401, "refused"),
            ("profiles", self.operator, "GET", "/v1/profiles", None, 200, "allowed"),
            ("profiles, nobody", self.nobody, "GET", "/v1/profiles", None, 401, "refused"),
            ("profile", self.operator, "GET", f"/v1/profiles/{PROFILE}", None, 200, "allowed"),
            ("no such profile", self.operator, "GET", "/v1/profiles/none", None, 404, "refused"),
            ("versions", self.operator, "GET", f"/v1/profiles/{PROFILE}/versions", None, 200, "allowed"),
            ("versions, nobody", self.nobody, "GET", f"/v1/profiles/{PROFILE}/versions", None, 401, "refused"),
            ("apply, dry", self.operator, "PUT", "/v1/profiles/toured?dry_run=true", self.document, 200, "allowed"),
            ("apply", self.operator, "PUT", "/v1/profiles/toured", self.document, 200, "allowed"),
            ("apply nonsense", self.operator, "PUT", "/v1/profiles/toured", {"name": "toured"}, 400, "refused"),
            ("roll back", self.operator, "POST", "/v1/profiles/toured/rollback", {"version": 1}, 200, "allowed"),
            ("roll back, none", self.operator, "POST", "/v1/profiles/toured/rollback", {"version": 9}, 404, "refused"),
            ("roll back, nobody", self.nobody, "POST", "/v1/profiles/toured/rollback", {"version": 1}, 401, "refused"),
            ("apply, nobody", self.nobody, "PUT", "/v1/profiles/toured", self.document, 401, "refused"),
            ("ticket", self.operator, "POST", "/v1/tickets", {"profile": PROFILE}, 201, "allowed"),
            ("ticket for no profile", self.operator, "POST", "/v1/tickets", {"profile": "none"}, 404, "refused"),
            ("ticket, nobody", self.nobody, "POST", "/v1/tickets", {"profile": PROFILE}, 401, "refused"),
            ("instances", self.operator, "GET", "/v1/instances?limit=1", None, 200, "allowed"),
            ("instances, odd page", self.operator, "GET", "/v1/instances?limit=x", None, 400, "refused"),
            ("instance", self.operator, "GET", f"/v1/instances/{newcomer.id}", None, 200, "allowed"),
            ("no such instance", self.operator, "GET", f"/v1/instances/{NOT_THERE}", None, 404, "refused"),
            ("reenroll", self.operator, "POST", f"/v1/instances/{newcomer.id}/allow-reenroll", None, 200, "allowed"),
            ("reenroll none", self.operator, "POST", f"/v1/instances/{NOT_THERE}/allow-reenroll", None, 404, "refused"),
            ("revoke", self.operator, "POST", f"/v1/revocations/instances/{self.launched.id}", None, 200, "allowed"),
            ("revoke none", self.operator, "POST", f"/v1/revocations/instances/{NOT_THERE}", None, 404, "refused"),
            ("revoke, nobody", self.nobody, "POST", f"/v1/revocations/instances/{newcomer.id}", None, 401, "refused"),
            ("vend, revoked", self.instance, "POST", "/v1/credentials", VEND, 403, "refused"),
            ("watch, revoked", self.instance, "GET", "/v1/watch", None, 403, "refused"),
            ("audit", self.operator, "GET", "/v1/audit?limit=1", None, 200, "allowed"),
            ("audit, nobody", self.nobody, "GET", "/v1/audit", None, 401, "refused"),
            ("admin, no such route", self.operator, "GET", "/v1/nothing", None, 404, "refused"),
            ("admin, wrong method", self.operator, "DELETE", "/v1/status", None, 405, "refused"),
        ):  # fmt: skip
            yield what, partial(caller.call, method, path, body), status, decision
        for what, address, path, status, decision in (
            ("public root", self.world.site.public, "/ca.pem", 200, None),
            ("CRL", self.world.site.public, "/crl/instances.crl", 200, None),
            ("public, no such route", self.world.site.public, "/v1/status", 404, "refused"),
            ("health", self.world.site.local, "/healthz", 200, None),
            ("readiness", self.world.site.local, "/readyz", 200, None),
            ("metrics", self.world.site.local, "/metrics", 200, None),
            ("local, no such route", self.world.site.local, "/v1/status", 404, "refused"),
        ):
            yield what, partial(plain_get, f"http://{address}{path}"), status, decision


def plain_get(url: str) -> Answer:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(url, timeout=30) as answer:
            return Answer(answer.status, dict(answer.headers), answer.read())
    except HTTPError as error:
        with error:
            return Answer(error.code, dict(error.headers), json.loads(error.read()))


@dataclass(frozen=True, slots=True)
class Watching:
    """A watch that nothing will end but its time: 25 seconds, while other tests go on."""

    visitor: Visitor
    subject: str
    answer: "Future[Answer]"


_WATCHING = pytest.StashKey[Watching]()


@pytest.fixture(name="watching")
def watching_fixture(world: World, request: pytest.FixtureRequest) -> Watching:
    """Begun with the first test that asks for it."""
    stash = request.session.stash
    if _WATCHING not in stash:
        launched, enrolled = world.enrolled()
        visitor = Visitor(world.site.instance, world.root)
        visitor.present(enrolled.certificate or "", enrolled.key)
        subject = world.rows("instance", instance_id=launched.id)[0]["id"]
        pool = ThreadPoolExecutor(1)
        stash[_WATCHING] = Watching(visitor, subject, pool.submit(visitor.call, "GET", "/v1/watch"))
        request.session.addfinalizer(visitor.close)
        request.session.addfinalizer(lambda: pool.shutdown(wait=False))
    return stash[_WATCHING]
