"""A chapter of the demo: calls that are decided one by one, signed or carried, on an instance that holds no session."""

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from deploy.demo.machine import Machine
from deploy.demo.story import demand

if TYPE_CHECKING:
    from deploy.demo.__main__ import Demo

SDK = [sys.executable, str(Path(__file__).with_name("sdk.py"))]
WAYS = {"signed": "sign", "carried": "proxy"}


def tell(demo: "Demo") -> None:
    """The chapter. Raises StepFailed when something is not as told."""
    story, seeded = demo.story, demo.seeded
    reports, payroll = seeded.prefixes
    with story.telling("an instance that gets no session: calls are signed one by one, or carried") as notes:
        notes.append(demo.site.cli("profile", "apply", str(_profile(demo))).strip())
        machine = demo.machine_of("caller", demo.run_folder())
        machine.boot("#cloud-config\n" + demo.site.cli("ticket", "create", "--profile", "caller", "--user-data"))
        machine.start_agent()
        machine.wait_ready()
        notes.append(machine.instance.instance_id)
    with story.telling("unmodified boto3 lists the prefix; the gateway signs, the agent sends") as notes:
        notes.append(", ".join(_listed(machine, "signed", seeded.bucket, reports, 0).split()))
    with story.telling("... and is refused the other one by the gateway: AWS is not even asked") as notes:
        notes.append(_listed(machine, "signed", seeded.bucket, payroll, 3).strip())
        demand(notes[-1] == "AccessDenied", f"it got {notes[-1]}")
    with story.telling("the same with a grant whose calls the gateway carries") as notes:
        notes.append(", ".join(_listed(machine, "carried", seeded.bucket, reports, 0).split()))
        notes.append(_listed(machine, "carried", seeded.bucket, payroll, 3).strip())
        demand(notes[-1] == "AccessDenied", f"it got {notes[-1]}")
    with story.telling("what a thief finds on that instance is a dummy key: AWS does not know it") as notes:
        found = dict(line.split("=", 1) for line in _env(machine).splitlines() if "=" in line)
        key = found["export AWS_ACCESS_KEY_ID"]
        stolen = {name.removeprefix("export "): value.strip("'") for name, value in found.items()}
        stolen["AWS_ENDPOINT_URL"] = demo.cloud.endpoint
        said = demo.run_bare([*SDK, seeded.bucket, reports], 3, stolen).strip()
        notes.append(f"{key}: {said}")
        demand(said == "InvalidAccessKeyId", f"AWS said {said}")
    with story.telling("trusted-gateway policy suggest: the least that would have covered what it did") as notes:
        suggested = demo.site.cli("policy", "suggest", "--profile", "caller", "--grant", "signed")
        demand("s3:ListBucket" in suggested, "the listing is not in it")
        notes.append(" ".join(suggested.split())[:110])
    with story.telling(f"revoke instance {machine.instance.instance_id}: its next call is refused") as notes:
        demo.site.cli("revoke", "instance", machine.instance.instance_id)
        cut = begun = time.monotonic()
        while _try(machine, seeded.bucket, reports) == 0:
            demand(begun - cut < 5, "a call that began after 5 s is still answered")
            begun = time.monotonic()
        notes.append(f"one that began after {begun - cut:.1f} s")


def _listed(machine: Machine, grant: str, bucket: str, prefix: str, status: int) -> str:
    done = machine.agent("exec", "--grant", grant, "--", *SDK, bucket, prefix, AWS_REGION="us-east-1")
    demand(done.returncode == status, f"status {done.returncode}: {(done.stderr or done.stdout).strip()[-300:]}")
    return done.stdout


def _try(machine: Machine, bucket: str, prefix: str) -> int:
    return machine.agent("exec", "--grant", "signed", "--", *SDK, bucket, prefix, AWS_REGION="us-east-1").returncode


def _env(machine: Machine) -> str:
    done = machine.agent("env", "--grant", "signed")
    demand(done.returncode == 0, f"status {done.returncode}: {done.stderr.strip()[-300:]}")
    return done.stdout


def _profile(demo: "Demo") -> Path:
    """Two grants of the same policy, delivered in two ways."""
    seeded = demo.seeded
    lines = ['name = "caller"']
    for grant, way in WAYS.items():
        lines += [
            "\n[[grants]]",
            f'name = "{grant}"',
            f'role = "{seeded.role_arn}"',
            f'region = "{seeded.region}"',
            f'deliver = "{way}"',
            f"policy = '''{json.dumps(json.loads(demo.policy(0)))}'''",
        ]
    path = demo.folder / "caller.toml"
    path.write_text("\n".join(lines) + "\n")
    return path
