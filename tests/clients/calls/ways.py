"""How a client's calls get to AWS: directly with a user's key, signed for by the gateway, or carried by it."""

import json
import shlex
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from deploy.demo.cloud import REGION
from deploy.demo.machine import Machine
from tests.clients.calls.account import POLICY, Callers
from tests.clients.calls.tap import Tap

if TYPE_CHECKING:
    from tests.end_to_end.world import World

GRANT = "calls"
MARKS = {"direct": "d", "sign": "s", "proxy": "p"}
"""What the names of buckets end with, way by way: of one length, so that answers have one length."""


@dataclass(frozen=True, slots=True, repr=False)
class Way:
    """`near` is before what the client speaks to, `far` before AWS; directly they are one.

    `keys` are the variables that hold the key it signs with.
    """

    name: str
    near: Tap
    far: Tap
    keys: Mapping[str, str]
    before: list[str] = field(default_factory=list)

    @property
    def mark(self) -> str:
        """The last letter of its names."""
        return MARKS[self.name]


def direct(callers: Callers, tap: Tap) -> Way:
    """With the key of a user, to the local AWS."""
    with callers.secret as secret:
        keys = {"AWS_ACCESS_KEY_ID": callers.access_key_id, "AWS_SECRET_ACCESS_KEY": secret.decode()}
    return Way("direct", tap, tap, keys)


class Caller(Machine):
    """A machine whose agent takes calls on the port of a tap, at another address of loopback.

    The tap passes `Host: localhost:PORT` on as the client sent and signed it, and the agent knows it for its own.
    """

    def __init__(self, *arguments: object, port: int, **more: object) -> None:
        super().__init__(*arguments, **more)  # type: ignore[arg-type]  # as Machine has them
        self.calls = f"127.0.0.2:{port}"

    def environment(self) -> dict[str, str]:
        return super().environment() | {"TRUSTED_GATEWAY_AGENT_CALLS": self.calls}

    def lent(self) -> dict[str, str]:
        """What `trusted-gateway-agent env` sets."""
        done = self.agent("env", "--grant", GRANT)
        assert done.returncode == 0, done.stderr
        words = [word for line in done.stdout.splitlines() for word in shlex.split(line) if "=" in word]
        return dict(word.rstrip(";").split("=", 1) for word in words)


@contextmanager
def through(
    world: "World", callers: Callers, far: Tap | None, folder: Path, deliver: str
) -> Iterator[tuple[Way, Caller]]:
    """An enrolled instance whose grant has its calls signed (`sign`) or carried (`proxy`)."""
    path = folder.with_suffix(".toml")
    path.write_text(
        f'name = "{folder.name}"\n[[grants]]\nname = "{GRANT}"\nrole = "{callers.role_arn}"\nregion = "{REGION}"\n'
        f'deliver = "{deliver}"\npresign = "15m"\nunsigned_payload = true\n'
        f"policy = '''{json.dumps(POLICY)}'''\n"
    )
    world.site.cli("profile", "apply", str(path))
    with ExitStack() as stack:
        near = stack.enter_context(Tap())
        run = Path(stack.enter_context(TemporaryDirectory(dir="/dev/shm"))) / "run"
        machine = Caller(folder, world.cloud, world.authority, run=run, port=near.port)
        stack.enter_context(machine)
        machine.boot(world.user_data(world.ticket(folder.name)))
        machine.start_agent()
        machine.wait_ready(60)
        near.lead(f"http://{machine.calls}")
        lent = machine.lent()
        keys = {name: lent[name] for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")}
        assert keys["AWS_ACCESS_KEY_ID"].startswith("TGDK"), "the instance was given a key of AWS"
        yield Way(deliver, near, far or near, keys), machine
