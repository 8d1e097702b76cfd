"""Calls as an agent makes them, for tests of the flows: a dummy key, and requests that it signs."""

import base64
import hashlib
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import Any, Protocol

from gateway.adapters.action_catalog import Catalog
from gateway.adapters.aws_endpoints import Endpoints
from gateway.adapters.aws_models import Models
from gateway.core.audit import Name
from gateway.core.identity import Identity
from gateway.core.model import Profile
from gateway.flows.calls import Calls, Understand
from gateway.flows.carry import Carry
from gateway.flows.dummy_keys import DummyKeys
from gateway.flows.journal import Call
from gateway.flows.sign import Sign
from gateway.flows.signer import Signer
from gateway.flows.vend import Vend
from gateway.wire import calls
from gateway.wire.sigv4 import Scope, sign
from tests.gateway.flows.conftest import ACCOUNT, REGION, Gateway

SECRET = "d" * 40
STATEMENTS: list[dict[str, Any]] = [
    {"Sid": "Read", "Effect": "Allow", "Action": ["s3:GetObject", "s3:PutObject"], "Resource": "arn:aws:s3:::data/*"},
    {"Effect": "Deny", "Action": "s3:*", "Resource": "arn:aws:s3:::data/secret/*"},
    {"Effect": "Allow", "Action": "dynamodb:GetItem", "Resource": f"arn:aws:dynamodb:*:{ACCOUNT}:table/orders"},
    {"Effect": "Allow", "Action": "sts:*", "Resource": "*"},
]
NOTHING = hashlib.sha256(b"").hexdigest()


@cache
def _aws() -> tuple[Models, Catalog, Endpoints]:
    return Models(None), Catalog(), Endpoints()


def apply(gateway: Gateway, *, statements: list[dict[str, Any]] | None = None, **grant: Any) -> None:
    """A profile whose one grant has these fields."""
    policy = {"Version": "2012-10-17", "Statement": STATEMENTS if statements is None else statements}
    usual = {"name": "data", "role": f"arn:aws:iam::{ACCOUNT}:role/data", "region": REGION, "policy": policy}
    document = {"name": "web", "grants": [{**usual, "deliver": "sign", **grant}]}
    with gateway.store.read() as tx:
        before = tx.profiles.get(name="web")
    assert before is not None
    after = Profile("web", before.version + 1, document, gateway.time(), "alice")
    assert gateway.store.write(lambda tx: tx.profiles.swap(before, after))


class Signing(Protocol):
    """Who signs calls with a dummy key."""

    @property
    def access_key_id(self) -> str: ...

    def now(self) -> datetime: ...


@dataclass
class Caller:
    """An enrolled instance that has registered a dummy key, and the flows that it calls."""

    gateway: Gateway
    identity: Identity
    access_key_id: str = "TGDK" + "A" * 16
    endpoint: str | None = None
    vend: Vend = field(init=False)

    def __post_init__(self) -> None:
        gateway = self.gateway
        self.vend = gateway.vend()
        self.keys = DummyKeys(gateway.store, gateway.journal, gateway.vault, gateway.time)
        understand = Understand(*_aws(), self.endpoint)
        calls_ = Calls(self.vend, self.keys, understand, gateway.time)
        signer = Signer(self.vend)
        self.sign = Sign(gateway.journal, calls_, signer, gateway.time)
        self.carry = Carry(gateway.store, gateway.journal, calls_, signer, gateway.time)

    def now(self) -> datetime:
        return self.gateway.time()

    def register(self, grant: str = "data", access_key_id: str | None = None) -> calls.DummyKeyAnswer:
        told = calls.DummyKey(grant, access_key_id or self.access_key_id, SECRET)
        with self.within(Name.INSTANCE_KEY_REGISTER) as call:
            return self.keys.register(call, self.identity, told)

    def ask(self, call: calls.Call) -> calls.Signature:
        """POST /v1/signatures."""
        with self.within(Name.INSTANCE_CALL_SIGN) as opened:
            return self.sign.sign(opened, self.identity, call)

    def within(self, name: Name) -> AbstractContextManager[Call]:
        """A request to the gateway."""
        call = self.gateway.call(name)
        return self.gateway.journal.call(call.name, call.request_id, call.source)

    def decisions(self, name: str = "instance:call:sign") -> list[dict[str, Any]]:
        return [each for each in self.gateway.records() if each["name"] == name and each["kind"] == "decision"]


def request(
    caller: Signing,
    method: str = "GET",
    target: str = "/data/a",
    *,
    service: str = "s3",
    region: str = REGION,
    headers: tuple[tuple[str, str], ...] = (),
    unsigned: tuple[tuple[str, str], ...] = (),
    body: bytes | None = None,
    payload: str | None = None,
    secret: str = SECRET,
    **change: Any,
) -> calls.Call:
    """A call that the caller's dummy key signed just now, and what is changed in it afterwards."""
    payload = payload or hashlib.sha256(body or b"").hexdigest()
    stamp = caller.now().strftime("%Y%m%dT%H%M%SZ")
    signed = sign(
        method, target, (("host", "127.0.0.1:9913"), *headers), payload, access_key_id=caller.access_key_id,
        secret=secret.encode(), token=None, scope=Scope(stamp[:8], region, service), stamp=stamp,
    )  # fmt: skip
    made: dict[str, Any] = {
        "grant": "data", "service": service, "region": region, "method": method, "target": target,
        "payload_sha256": payload, "headers": tuple(calls.Header(*each) for each in (*signed, *unsigned)),
    }  # fmt: skip
    if body is not None:
        made["body"] = base64.b64encode(body).decode()
    return calls.Call(**made | change)
