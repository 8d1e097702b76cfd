"""`ports.Machines` in memory: a fleet that a test looks into. test_machines.py holds it against real adapters."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from gateway.core.errors import Refusal
from gateway.core.servers import Done, Machine, MachineOrder, Output, Verb
from gateway.ports import OpenableKey

AFTER = {Verb.START: "running", Verb.STOP: "stopped", Verb.REBOOT: "running", Verb.TERMINATE: "terminated"}


@dataclass
class FakeMachines:
    """`account`, and others by the id of the key that is theirs. `refuses` may raise before anything is done; `orders`
    are what machines were asked for with.
    """

    account: str
    others: Mapping[str, str] = field(default_factory=dict)
    machines: dict[str, Machine] = field(default_factory=dict)
    orders: list[MachineOrder] = field(default_factory=list)
    outputs: dict[str, str] = field(default_factory=dict)
    refuses: Callable[[str, str], None] = lambda what, region: None
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    _tokens: dict[str, str] = field(default_factory=dict)
    _requests: int = 0

    def all(self, key: OpenableKey, region: str) -> Sequence[Machine]:
        self.refuses("all", region)
        return [each for each in self.machines.values() if self._sees(key, region, each)]

    def one(self, key: OpenableKey, region: str, instance_id: str) -> Machine | None:
        self.refuses("one", region)
        found = self.machines.get(instance_id)
        return found if found and self._sees(key, region, found) else None

    def run(self, key: OpenableKey, order: MachineOrder) -> tuple[Machine, str]:
        self.refuses("run", order.plan.region)
        self.orders.append(order)
        if known := self._tokens.get(order.client_token):
            return self.machines[known], self._request_id()
        made = self.launched(order)
        self._tokens[order.client_token] = made.instance_id
        return made, self._request_id()

    def change(self, key: OpenableKey, region: str, instance_id: str, verb: Verb) -> Done:
        self.refuses(verb.value, region)
        found = self._there(key, region, instance_id)
        self.machines[instance_id] = replace(found, state=AFTER[verb])
        return Done(AFTER[verb], self._request_id())

    def output(self, key: OpenableKey, region: str, instance_id: str) -> Output:
        self.refuses("output", region)
        self._there(key, region, instance_id)
        return Output(self.outputs.get(instance_id, ""), self.now())

    def launched(self, order: MachineOrder) -> Machine:
        """A machine by this order."""
        plan, number = order.plan, len(self.machines) + 1
        return self.put(
            Machine(
                self.account, plan.region, f"i-{number:017x}", "running", self.now(), plan.image, plan.type,
                f"10.0.0.{number}", None, dict(order.tags),
            )
        )  # fmt: skip

    def put(self, machine: Machine) -> Machine:
        """A machine that is there."""
        self.machines[machine.instance_id] = machine
        return machine

    def _sees(self, key: OpenableKey, region: str, machine: Machine) -> bool:
        account = self.others.get(key.access_key_id, self.account)
        return (machine.account, machine.region) == (account, region)

    def _there(self, key: OpenableKey, region: str, instance_id: str) -> Machine:
        found = self.machines.get(instance_id)
        if found is None or not self._sees(key, region, found):
            code = "InvalidInstanceID.NotFound"
            raise Refusal("upstream_refused", f"AWS answered {code!r}", reason="aws_refused", aws_code=code,
                          aws_request_id=self._request_id())  # fmt: skip
        return found

    def _request_id(self) -> str:
        self._requests += 1
        return f"request-{self._requests}"
