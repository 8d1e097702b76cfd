"""Machines of EC2 as operators see them: what AWS says of one, what we know of it, and what may be ordered. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

STATES = ("pending", "running", "shutting-down", "terminated", "stopping", "stopped")
LONGEST_USER_DATA = 16 * 1024
"""Bytes, before base64 (AWS: "Run commands when you launch an EC2 instance")."""
LONGEST_OUTPUT = 64 * 1024
"""Letters of a console's output that are shown: the last ones."""
MOST = 20
"""Machines that one order may ask for."""
MARK = "#trusted-gateway"
"""How our line in user-data begins; there may be one of them only."""

# ECMA-48: control sequences (5.4), then strings such as a window's title (5.6), then any other escape.
_ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[P\]X^_].*?(?:\x07|\x1b\\|$)|\x1b[ -/]*[0-~]?", re.DOTALL)


class Verb(StrEnum):
    """What can be done to a machine that is there."""

    START = "start"
    STOP = "stop"
    REBOOT = "reboot"
    TERMINATE = "terminate"


class Enrolment(StrEnum):
    ENROLLED = "enrolled"
    REVOKED = "revoked"
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class Machine:
    """What AWS says about an instance at this moment (AWS: API_Instance). `launched_at` is its last start."""

    account: str
    region: str
    instance_id: str
    state: str
    launched_at: datetime
    image: str
    type: str
    private_ip: str | None = None
    public_ip: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """`aws/<account>/<region>/<instance id>`: the path of its SPIFFE ID."""
        return f"aws/{self.account}/{self.region}/{self.instance_id}"

    @property
    def name(self) -> str:
        """Its tag `Name`, which is what people call it."""
        return self.tags.get("Name", "")


@dataclass(frozen=True, slots=True)
class Server:
    """A machine, and what we know of it: whether it enrolled, as what, and who launched it through us."""

    machine: Machine
    enrolment: Enrolment
    profile: str | None
    launched_by: str | None

    def uptime(self, now: datetime) -> timedelta | None:
        """How long it runs since its last start; None for one that does not run."""
        return max(now - self.machine.launched_at, timedelta()) if self.machine.state == "running" else None


@dataclass(frozen=True, slots=True)
class LaunchPlan:
    """How machines of a profile are launched, valid by construction. `user_data` is what comes beside our line."""

    image: str
    region: str
    type: str
    subnet: str | None = None
    security_groups: tuple[str, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    user_data: str = ""


@dataclass(frozen=True, slots=True, repr=False)
class MachineOrder:
    """One machine, as AWS is asked for it (AWS: API_RunInstances). It holds a ticket: it has no printing repr.

    The same `client_token` never makes a second machine. No instance profile: it has no AWS rights but those of grants.
    """

    plan: LaunchPlan
    tags: Mapping[str, str]
    user_data: str
    client_token: str


@dataclass(frozen=True, slots=True)
class Done:
    """What came of a change: the machine's state afterwards, and the number that AWS gave the request."""

    state: str
    request_id: str


@dataclass(frozen=True, slots=True)
class Output:
    """What a machine wrote to its console, and when AWS took it down; both may be missing."""

    text: str
    at: datetime | None


@dataclass(frozen=True, slots=True)
class Suspicion:
    """Something that looks like a secret: where, and of which kind. Never what."""

    line: int
    kind: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.kind}"


def user_data(extra: str, line: str) -> str:
    """What a machine boots with: what the operator wrote, and our line behind it."""
    return f"{(extra or '#cloud-config').rstrip()}\n{line}\n"


def user_data_faults(extra: str) -> tuple[str, ...]:
    """What is wrong with the operator's part, beside secrets in it."""
    faults = []
    if any(each.startswith(MARK) for each in extra.splitlines()):
        faults.append(f"a line that begins with {MARK} is the gateway's to write")
    if "\0" in extra:
        faults.append("must be text")
    if len(extra.encode()) > LONGEST_USER_DATA - 1024:
        faults.append("is longer than 15 KiB")
    return tuple(faults)


def tag_faults(tags: Mapping[str, str]) -> tuple[str, ...]:
    """What is wrong with tags (AWS: "Tag restrictions"): at most 50, of these letters, none beginning with `aws:`."""
    faults = ["at most 50"] if len(tags) > 50 else []
    for key, value in tags.items():
        if not re.fullmatch(r"[\w .:/=+@-]{1,128}", key) or key.lower().startswith("aws:"):
            faults.append(f"{ascii(key)[1:-1][:40]}: is no key that AWS takes")
        if not re.fullmatch(r"[\w .:/=+@-]{0,256}", value):
            faults.append(f"{ascii(key)[1:-1][:40]}: is no value that AWS takes")
    return tuple(faults)


def readable(output: str) -> str:
    """The end of a console's output: lines of printable text, which a terminal shows and does not obey."""
    plain = _ESCAPES.sub("", output.replace("\r\n", "\n").replace("\r", "\n"))
    shown = "".join(letter for letter in plain if letter in "\n\t" or letter.isprintable())
    return shown[-LONGEST_OUTPUT:]
