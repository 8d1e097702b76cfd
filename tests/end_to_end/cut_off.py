"""A machine that goes to the gateway by every path at once, and notes when each of them was closed."""

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import quantiles

from certs import csr
from deploy.demo.visitor import Answer, Visitor
from gateway.wire.messages import CredentialsRequest, RenewRequest
from tests.end_to_end.crowd import order_ticket
from tests.end_to_end.rough import Rough
from tests.end_to_end.test_calls import Caller, carry, new_key

PROFILE = "every-way"
GRANTS = {"given": "token", "signed": "sign", "carried": "proxy"}
EVERY = 0.02
"""Seconds between two requests of a path."""
PATHS = ("new connection", "keep-alive", "cached credentials", "sign", "proxy", "renew", "watch")
OF_GRANTS = ("cached credentials", "sign", "proxy")


@dataclass(frozen=True, slots=True)
class Heard:
    """One answer: its status and code, and between which moments (monotonic) it was asked for and came."""

    begun: float
    ended: float
    status: int
    code: str | None


@dataclass
class Path:
    """One path: asks again and again, on whatever connection, until it is told to stop."""

    name: str
    ask: Callable[[], Answer]
    heard: list[Heard] = field(default_factory=list)
    served: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.is_set():
            begun = time.monotonic()
            answer = self.ask()
            self.heard.append(Heard(begun, time.monotonic(), answer.status, answer.code))
            self.served.set()
            if self.name == "watch":
                return
            self._stop.wait(EVERY)

    def asks_after(self, moment: float) -> None:
        """Wait until something that was asked for after a moment has been answered; a watch has its one answer."""
        deadline = time.monotonic() + 30
        while not any(each.begun > moment or self.name == "watch" for each in self.heard):
            assert time.monotonic() < deadline, self.name
            time.sleep(0.005)

    def end(self) -> list[Heard]:
        """Let it finish what it asks, and return all that it heard."""
        self._stop.set()
        self._thread.join(40)
        assert not self._thread.is_alive(), f"{self.name} hangs"
        return self.heard


class Machine:
    """An enrolled instance on all paths, each on a connection of its own."""

    def __init__(self, rough: Rough) -> None:
        self.rough, self.world = rough, rough.world
        self.launched = self.world.launch()
        self.first = self.world.visitor()
        answer = self.first.enroll(self.launched.document, order_ticket(rough.operator, profile=PROFILE)["ticket"])
        assert answer.status == 201, answer.body
        old = self._twin(self.first)
        assert self.first.renew().status == 200
        self._caller = Caller(self.first, self.world.seeded.bucket, new_key())
        self._carrier = Caller(self.first, self.world.seeded.bucket, new_key())
        assert self._caller.register("signed").status == 201
        assert self._carrier.register("carried").status == 201
        # Who renewed asks once more by the certificate before, as after a lost answer, and gets the same again.
        self._ways: dict[str, Callable[[], Answer]] = {
            "new connection": self._anew,
            "keep-alive": self._on(self.first, "GET", "/v1/grants"),
            "cached credentials": self._on(self.first, "POST", "/v1/credentials", CredentialsRequest("given")),
            "sign": self._signing,
            "proxy": self._carrying,
            "renew": self._on(old, "POST", "/v1/renew", RenewRequest(csr.make(old.key))),
            "watch": self._on(self.first, "GET", "/v1/watch?after="),
        }

    def go(self, *names: str) -> list[Path]:
        """Begin on these paths; each has been served (the watch: waits) when this returns."""
        paths = [Path(name, self._ways[name]) for name in names]
        for path in paths:
            assert path.name == "watch" or path.served.wait(20), path.name
            assert path.name == "watch" or path.heard[0].status == 200, path.heard[0]
        return paths

    def _twin(self, visitor: Visitor) -> Visitor:
        made = self.world.visitor()
        made.present(visitor.certificate or "", visitor.key)
        return made

    def _on(self, visitor: Visitor, method: str, path: str, body: object = None) -> Callable[[], Answer]:
        own = self._twin(visitor)
        return lambda: own.call(method, path, body)

    def _anew(self) -> Answer:
        visitor = Visitor(self.world.site.instance, self.world.root)
        visitor.present(self.first.certificate or "", self.first.key)
        try:
            return visitor.call("GET", "/v1/grants")
        finally:
            visitor.close()

    def _signing(self) -> Answer:
        if not hasattr(self, "_signer"):
            self._signer = Caller(self._twin(self.first), self._caller.bucket, self._caller.access_key_id)
        return self._signer.ask(self._signer.call())

    def _carrying(self) -> Answer:
        if not hasattr(self, "_sender"):
            self._sender = self._twin(self.first)
        answer, _ = carry(self._sender, self._carrier.call(grant="carried"))
        return answer


def apply(rough: Rough) -> None:
    """The profile whose grants go in every way."""
    seeded = rough.world.seeded
    bucket = f"arn:aws:s3:::{seeded.bucket}"
    statement = {"Effect": "Allow", "Action": "s3:GetObject", "Resource": f"{bucket}/reports/*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    grants = [
        f'[[grants]]\nname = "{name}"\nrole = "{seeded.role_arn}"\nregion = "{seeded.region}"\n'
        f"deliver = \"{way}\"\npolicy = '''{policy}'''\n"
        for name, way in GRANTS.items()
    ]
    path = rough.world.site.folder / f"{PROFILE}.toml"
    path.write_text(f'name = "{PROFILE}"\n' + "\n".join(grants))
    rough.world.site.cli("profile", "apply", str(path))


def delays(paths: list[Path], sent: float, returned: float) -> dict[str, float]:
    """For each path how long after the revocation was `sent` it was first refused, in seconds. Nothing that was asked
    for after its receipt had `returned` was served, and once refused is refused for ever.
    """
    found = {}
    for path in paths:
        path.asks_after(returned)
    for path in paths:
        heard = path.end()
        late = [each for each in heard if each.begun > returned]
        assert {each.status for each in late} <= {403}, f"{path.name}: {late}"
        assert late or path.name == "watch"
        # 409: what was in flight when the profile changed has lost, and asks again.
        statuses = [each.status for each in heard if each.status != 409]
        assert set(statuses) <= {200, 403}, f"{path.name}: {heard}"
        assert statuses == sorted(statuses), f"{path.name}: {heard}"
        found[path.name] = next(each.ended for each in heard if each.status == 403) - sent
    return found


def table(rounds: list[dict[str, float]]) -> str:
    """p50, p99 and the longest of each path, in milliseconds."""
    lines = [f"{'path':<20}{'p50':>8}{'p99':>8}{'max':>8}   ms, {len(rounds)} revocations"]
    for name in rounds[0]:
        values = [each[name] * 1000 for each in rounds]
        cuts = quantiles(values, n=100) if len(values) > 1 else values * 99
        lines.append(f"{name:<20}{cuts[49]:>8.1f}{min(cuts[98], max(values)):>8.1f}{max(values):>8.1f}")
    return "\n".join(lines)
