"""`make demo`: the main job, start to finish, on a local AWS that enforces. `--keep` leaves it running."""

import argparse
import base64
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from certs.keys import load_private
from deploy.demo import REPOSITORY, calls, operators
from deploy.demo.cloud import REGION, Cloud, CloudDoesNotEnforce, CloudMissing, Seeded, prefix_policy
from deploy.demo.ec2_document import DocumentAuthority
from deploy.demo.machine import Machine, document_of
from deploy.demo.site import BIN, CommandFailed, Site
from deploy.demo.story import StepFailed, Story, demand
from deploy.demo.visitor import Answer, Visitor
from gateway.wire.messages import CredentialsRequest

FOLDER = REPOSITORY / ".demo"
GRANT, OTHER_GRANT = "reports", "payroll"


class Demo:
    """The story, a method a chapter. Each one raises StepFailed when something is not as told."""

    def __init__(self, story: Story, stack: ExitStack, *, keep: bool) -> None:
        self.story, self.stack, self.keep = story, stack, keep
        self.authority = DocumentAuthority(REGION)
        self.machines: list[Machine] = []
        self.folder = FOLDER

    def tell(self) -> None:
        """All chapters."""
        self.the_cloud()
        self.the_gateway()
        self.the_instance()
        self.the_job()
        self.the_other_doors()
        calls.tell(self)
        self.the_secret()
        self.the_intruders()
        self.the_revocation()
        self.the_log()

    def the_cloud(self) -> None:
        with self.story.telling("start a local AWS that enforces (ministack, AUTH=true)") as notes:
            self.cloud = Cloud(FOLDER / "cloud", keep=self.keep)
            self.stack.callback(self.cloud.stop)
            self.cloud.__enter__()
            notes.append("checked: it refuses wrong secrets, unknown keys, and what a session policy does not allow")
        with self.story.telling(
            "seed it: an IAM user (the double-secret key), a role, a bucket with two prefixes"
        ) as notes:
            self.seeded: Seeded = self.cloud.seed()
            notes.append(f"key {self.seeded.access_key_id}, {self.seeded.role_arn}")
            notes.append(f"s3://{self.seeded.bucket}/ with {' and '.join(self.seeded.prefixes)}")

    def the_gateway(self) -> None:
        certificates = {REGION: self.authority.certificate_pem()}
        site = self.site = Site(FOLDER / "gateway", self.cloud.endpoint, certificates, region=REGION, keep=self.keep)
        self.stack.callback(site.stop)
        with self.story.telling("trusted-gateway init: the CA, the sealed vault, the first operator") as notes:
            fingerprint = site.init()
            notes.append(f"CA fingerprint {fingerprint}")
        with self.story.telling(
            "trusted-gateway key import: the double-secret key goes in, by standard input"
        ) as notes:
            notes.append(site.import_key(self.seeded.access_key_id, self.seeded.secret).strip())
            with self.seeded.secret as secret:
                demand(secret not in site.database.read_bytes(), "the key lies in the store in the clear")
        operators.a_revoker(self)
        with self.story.telling(
            "start the gateway: gunicorn, mutual TLS 1.3, SQLite, unsealed by file descriptor"
        ) as notes:
            site.start()
            notes.append(f"instances come to {site.instance}, operators to {site.admin}")
        with self.story.telling("trusted-gateway profile apply: what a machine of this kind may have") as notes:
            for name, grant, prefix in (("web", GRANT, 0), ("batch", OTHER_GRANT, 1)):
                notes.append(site.cli("profile", "apply", str(self.profile(name, grant, prefix))).strip())
        operators.a_colleague(self, fingerprint)
        with self.story.telling("trusted-gateway ticket create: single use, for 15 minutes") as notes:
            made = json.loads(site.cli("ticket", "create", "--profile", "web", "--json"))
            self.ticket, self.user_data = made["ticket"], "#cloud-config\n" + made["user_data"]
            notes.append(f"{made['id']}; it goes into user-data, with the gateway's address and the CA's fingerprint")

    def the_instance(self) -> None:
        with self.story.telling("launch an instance: RunInstances, a metadata service, user-data and no key") as notes:
            machine = self.machine = self.machine_of("instance", self.run_folder())
            machine.boot(self.user_data)
            notes.append(f"{machine.instance.instance_id}; user-data: the address, the fingerprint, the ticket")
        with self.story.telling(
            "the agent boots: reads user-data, makes a key, proves itself, gets its certificate"
        ) as notes:
            machine.start_agent()
            machine.wait_ready()
            status = machine.status() or {}
            notes.append(f"{status.get('instance')}, until {status.get('certificate_not_after')}")

    def the_job(self) -> None:
        reports, payroll = self.seeded.prefixes
        boto3 = [sys.executable, str(Path(__file__).with_name("sdk.py")), self.seeded.bucket]
        with self.story.telling("unmodified boto3 lists the prefix that the grant allows") as notes:
            notes.append(", ".join(self.on_instance([*boto3, reports], 0).split()))
        with self.story.telling("... and is refused the other one by AWS itself") as notes:
            notes.append(self.on_instance([*boto3, payroll], 3).strip())
            demand(notes[-1] == "AccessDenied", f"AWS said {notes[-1]}")
        aws = [str(BIN / "aws"), "s3api", "list-objects-v2", "--bucket", self.seeded.bucket, "--prefix"]
        with self.story.telling("unmodified AWS CLI lists the prefix that the grant allows") as notes:
            notes.append(
                ", ".join(item["Key"] for item in json.loads(self.on_instance([*aws, reports], 0))["Contents"])
            )
        with self.story.telling("... and is refused the other one by AWS itself") as notes:
            notes.append(self.on_instance([*aws, payroll], 255).strip())
            demand("AccessDenied" in notes[-1], "the CLI was not refused by AWS")

    def the_other_doors(self) -> None:
        reports, payroll = self.seeded.prefixes
        boto3 = [sys.executable, str(Path(__file__).with_name("sdk.py")), self.seeded.bucket]
        with self.story.telling("boto3 by the look-alike of the metadata service (IMDSv2)") as notes:
            notes.append(", ".join(self.by_agent("exec", "--via", "imds", "--", *boto3, reports).split()))
        with self.story.telling("trusted-gateway-agent configure: the AWS CLI by credential_process") as notes:
            self.by_agent("configure", "--profile", "reports", "--region", REGION)
            aws = [str(BIN / "aws"), "--profile", "reports", "s3", "ls", f"s3://{self.seeded.bucket}/{reports}"]
            notes.append(", ".join(line.split()[-1] for line in self.on_instance(aws, 0, bare=True).splitlines()))
        with self.story.telling("a program of another user of that machine gets nothing") as notes:
            if os.geteuid() == 0:
                notes.append(self.machine.ask_socket(GRANT, uid=65534).strip())
                demand(notes[-1].startswith("error "), "it got something")
            else:
                notes.append("left out: only root can play another user")
        with self.story.telling("it may ask for less than its grant, never for more") as notes:
            insider = self.insider()
            bucket = f"arn:aws:s3:::{self.seeded.bucket}/"
            less = CredentialsRequest(GRANT, policy=_policy("s3:GetObject", f"{bucket}{reports}2026-11.csv"))
            answer = insider.call("POST", "/v1/credentials", less)
            demand(answer.status == 200, f"less was refused: {answer.body}")
            notes.append(f"one object only: 200, lease {answer.body['lease']}")
            more = CredentialsRequest(GRANT, policy=_policy("s3:*", f"{bucket}{payroll}*"))
            self.refused(notes, insider.call("POST", "/v1/credentials", more), "policy_refused")

    def the_secret(self) -> None:
        with self.story.telling("look for the double-secret key on the instance: it is nowhere") as notes:
            places = dict(self.everything_on_the_instance())
            ticket = self.ticket.encode()
            demand(any(ticket in content for content in places.values()), "the search does not even find the ticket")
            for needle in self.needles():
                for place, content in places.items():
                    demand(needle not in content, f"the double-secret key is in {place}")
            notes.append(f"searched {len(places)} places: user-data, the agent's environment and arguments, its files,")
            notes.append(f"its memory-backed folder {self.machine.run} (the same search does find the ticket)")

    def the_intruders(self) -> None:
        root = (self.site.operator / "ca.pem").read_text()
        with self.story.telling("a second use of the ticket is refused") as notes:
            thief = Visitor(self.site.instance, root)
            self.refused(notes, thief.enroll(self.machine.document, self.ticket), "ticket_used")
        with self.story.telling("a document of an instance that AWS does not know is refused") as notes:
            unknown = replace(self.machine.instance, instance_id="i-0fedcba9876543210")
            ghost = Visitor(self.site.instance, root)
            answer = ghost.enroll(document_of(unknown, self.authority), self.new_ticket("web"))
            self.refused(notes, answer, "evidence_refused")
        with self.story.telling("another instance's certificate cannot get this instance's grant") as notes:
            other = self.machine_of("other-instance")
            neighbour = Visitor(self.site.instance, root)
            enrolled = neighbour.enroll(other.document, self.new_ticket("batch"))
            demand(enrolled.status == 201, f"the other instance could not enrol: {enrolled.body}")
            own = neighbour.call("POST", "/v1/credentials", CredentialsRequest(OTHER_GRANT))
            demand(own.status == 200, "the other instance does not get its own grant")
            answer = neighbour.call("POST", "/v1/credentials", CredentialsRequest(GRANT))
            self.refused(notes, answer, "grant_refused")

    def the_revocation(self) -> None:
        operators.a_witness(self)
        stolen = operators.Stolen(self, GRANT)
        demand(stolen.used() == "ok", "AWS does not honour the instance's session")
        with self.story.telling("open a connection with the instance's own certificate, and keep it open") as notes:
            insider = self.insider()
            demand(insider.call("GET", "/v1/grants").status == 200, "the instance's certificate is not accepted")
            notes.append("GET /v1/grants: 200")
        with self.story.telling(f"trusted-gateway revoke instance {self.machine.instance.instance_id}") as notes:
            notes += self.site.cli("revoke", "instance", self.machine.instance.instance_id).splitlines()
            revoked_at = time.monotonic()
        with self.story.telling("a session that was stolen before is refused by AWS itself") as notes:
            notes.append(stolen.used())
            demand(notes[-1] == "AccessDenied", f"AWS said {notes[-1]}")
        with self.story.telling("the next request on that open connection is refused") as notes:
            connection = insider.connect()
            self.refused(notes, insider.call("GET", "/v1/grants"), "instance_revoked")
            demand(connection is not None, "the connection was not kept")
        with self.story.telling("the agent's loopback stops serving within 5 s") as notes:
            while self.loopback_serves():
                demand(time.monotonic() - revoked_at < 5, "the agent still serves after 5 s")
                time.sleep(0.05)
            notes.append(f"after {time.monotonic() - revoked_at:.1f} s")
            notes.append(f"agent status: {(self.machine.status() or {'state': 'ended'})['state']}")

    def the_log(self) -> None:
        with self.story.telling("trusted-gateway audit verify: walks the log of all of this") as notes:
            notes.append(self.site.cli("audit", "verify").splitlines()[-1])
            notes.append("against what the agent witnessed: " + operators.verified_by_the_witness(self))
        with self.story.telling("one byte changed in a copy of it is found") as notes:
            copy = FOLDER / "audit-copy.log"
            self.site.cli("audit", "export", str(copy))
            notes.append("the copy as it is: " + self.site.cli("audit", "verify", str(copy)).splitlines()[-1])
            raw = bytearray(copy.read_bytes())
            raw[raw.index(b'"source":"127.0.0.1"') + len(b'"source":"')] ^= 1
            copy.write_bytes(raw)
            said = self.site.run("audit", "verify", str(copy))
            demand(said.returncode != 0, "the changed copy verifies")
            notes.append("the changed copy:   " + said.stdout.splitlines()[0])

    def a_fresh_instance(self) -> None:
        """With --keep: something alive to play with."""
        with self.story.telling("launch another instance, to play with") as notes:
            self.machine = self.machine_of("playground", self.run_folder())
            self.machine.boot(self.site.cli("ticket", "create", "--profile", "web", "--user-data"))
            self.machine.start_agent()
            self.machine.wait_ready()
            notes.append(self.machine.instance.instance_id)

    # What the chapters use.

    def machine_of(self, name: str, run: Path | None = None) -> Machine:
        machine = Machine(FOLDER / name, self.cloud, self.authority, run=run, keep=self.keep)
        self.machines.append(machine)
        self.stack.callback(machine.stop)
        return machine

    def run_folder(self) -> Path:
        """A memory-backed folder, as /run is on a host."""
        memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108  # memory-backed, on purpose
        run = Path(tempfile.mkdtemp(prefix="trusted-gateway-demo-", dir=memory))
        self.stack.callback(shutil.rmtree, run, True)
        return run

    def new_ticket(self, profile: str) -> str:
        return self.site.cli("ticket", "create", "--profile", profile, "--only-secret").strip()

    def profile(self, name: str, grant: str, prefix: int) -> Path:
        """A profile with one grant, as an operator writes it."""
        path = FOLDER / f"{name}.toml"
        path.write_text(
            f'name = "{name}"\n\n[[grants]]\nname = "{grant}"\nrole = "{self.seeded.role_arn}"\n'
            f'region = "{self.seeded.region}"\nduration = "1h"\npolicy = \'\'\'\n'
            f"{json.dumps(json.loads(self.policy(prefix)), indent=2)}\n'''\n"
        )
        return path

    def policy(self, prefix: int) -> str:
        """What lets list and read one of the prefixes."""
        return prefix_policy(self.seeded.bucket, self.seeded.prefixes[prefix])

    def insider(self) -> Visitor:
        """Who has stolen the instance's own key and certificate."""
        agent = json.loads((self.machine.state / "state.json").read_text())
        insider = Visitor(self.site.instance, (self.site.operator / "ca.pem").read_text())
        insider.present(agent["certificate"] + "\n" + agent["issuer"], load_private(base64.b64decode(agent["key"])))
        return insider

    def by_agent(self, *arguments: str) -> str:
        """Run a command of the agent's on the instance, where programs know the local AWS's address."""
        done = self.machine.agent(*arguments, AWS_ENDPOINT_URL=self.cloud.endpoint)
        demand(done.returncode == 0, f"status {done.returncode}: {done.stderr.strip()[-300:]}")
        return done.stdout

    def on_instance(self, command: list[str], status: int, *, bare: bool = False) -> str:
        """Run an unmodified client on the instance, told only where credentials are (and where the local AWS is).

        With `bare` it is not even told that: its configuration file says it.
        """
        told = {
            "PATH": "/usr/bin:/bin",
            "HOME": str(self.machine.folder),
            "AWS_ENDPOINT_URL": self.cloud.endpoint,
            **({} if bare else self.machine.sdk_environment(GRANT)),
        }
        return self.run_bare(command, status, told)

    def run_bare(self, command: list[str], status: int, told: dict[str, str]) -> str:
        """Run a command that is told this, and nothing else."""
        done = subprocess.run(command, env=told, capture_output=True, text=True, timeout=60, check=False)
        demand(done.returncode == status, f"status {done.returncode}: {done.stderr.strip()[-300:]}")
        return done.stdout or done.stderr

    def refused(self, notes: list[str], answer: Answer, code: str) -> None:
        demand(answer.code == code, f"the gateway answered {answer.status} {answer.code}, not {code}")
        notes.append(f"{answer.status} {code}: {answer.body['title']}")

    def loopback_serves(self) -> bool:
        try:
            return self.machine.ask_loopback(GRANT)[0] == 200
        except (OSError, KeyError):
            return False

    def needles(self) -> list[bytes]:
        """The double-secret key as it is, and as it would be inside base64 or hexadecimal."""
        with self.seeded.secret as secret:
            shifted = [base64.b64encode(b"\0" * shift + secret)[4 * bool(shift) : -4] for shift in range(3)]
            return [secret, secret.hex().encode(), *shifted]

    def everything_on_the_instance(self) -> Iterator[tuple[str, bytes]]:
        yield "user-data", self.user_data.encode()
        process = Path("/proc") / str(self.machine.agent_pid)
        for name in ("environ", "cmdline"):
            yield f"the agent's {name}", (process / name).read_bytes()
        for folder in (self.machine.folder, self.machine.run):
            for path in folder.rglob("*"):
                if path.is_file():
                    yield str(path), path.read_bytes()


def _policy(action: str, resource: str) -> str:
    statement = {"Effect": "Allow", "Action": action, "Resource": resource}
    return json.dumps({"Version": "2012-10-17", "Statement": statement})


def main() -> int:
    """Run the story; 0 when all of it is as told."""
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave it all running")
    keep = parser.parse_args().keep
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(mode=0o700)
    story = Story()
    with ExitStack() as stack:
        demo = Demo(story, stack, keep=keep)
        try:
            demo.tell()
            if keep:
                demo.a_fresh_instance()
        except StepFailed as error:
            return story.failed(error)
        except KeyboardInterrupt:
            return story.failed(StepFailed("stopped", "Nothing is left running.")) + 129
        except (CommandFailed, CloudMissing, CloudDoesNotEnforce, OSError, subprocess.SubprocessError) as error:
            return story.failed(StepFailed(str(error), f"The logs are in {FOLDER}."))
        if keep:
            stack.pop_all()
            _how_to_play(demo)
    story.say("All of it is as told.")
    return 0


def _how_to_play(demo: Demo) -> None:
    """Leave three small scripts in the demo's folder, and say what they are for."""
    machine, seeded = demo.machine, demo.seeded
    pids = [*demo.cloud.pids, demo.site.pid, *(pid for each in demo.machines for pid in each.pids)]
    _script("operator", f'exec {shlex.join(demo.site.command)} "$@"')
    environment = shlex.join(f"{name}={value}" for name, value in machine.environment().items())
    _script("on-instance", f'exec env -i {environment} AWS_ENDPOINT_URL={demo.cloud.endpoint} "$@"')
    runs = shlex.join(str(each.run) for each in demo.machines)
    _script("stop", f"kill {' '.join(map(str, pids))}\nrm -rf {runs}")
    listing = f"aws s3 ls s3://{seeded.bucket}/{seeded.prefixes[0]}"
    for line in (
        "",
        "It is all still running. Play with it:",
        "  .demo/operator instance list",
        "  .demo/operator audit tail",
        "  .demo/on-instance trusted-gateway-agent status",
        f"  .demo/on-instance trusted-gateway-agent exec -- {listing}",
        f"  .demo/operator revoke instance {machine.instance.instance_id}",
        "and end it:",
        "  .demo/stop",
        "",
    ):
        demo.story.say(line)


def _script(name: str, command: str) -> None:
    path = FOLDER / name
    path.write_text(f"#!/bin/sh\n{command}\n")
    path.chmod(0o700)


if __name__ == "__main__":
    sys.exit(main())
