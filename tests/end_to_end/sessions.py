"""The sessions of docs/sessions.md, run as they stand. `python -m tests.end_to_end.sessions` writes the page anew."""

import os
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from deploy.demo import revoker
from deploy.demo.cloud import IMAGE, REGION, Cloud
from deploy.demo.ec2_document import DocumentAuthority
from deploy.demo.machine import Machine
from deploy.demo.site import Site
from gateway.wire.secret import Secret
from tests.documents import DOCS, blocks
from tests.openid import AUDIENCE, openid

PAGE = DOCS / "sessions.md"
PROMPT = re.compile(r"([a-z]+[a-z0-9-]*[$#]) (.*)")
FINGERPRINT = "43e356aeaec447055d62e39ba35c4ade854a8147a2d6be786a2bee79d27b73b3"  # of the CA, on the page
# What is another one each time, and what stands for it in a comparison.
VARYING = (
    (r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+Z|[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9:]{8}", "TIME"),
    (r"\((in )?[0-9]+ (s|min|h|d)( ago)?\)", "(SPAN)"),
    (r"\b[0-9]+ (s|min|h|ms)\b", "SPAN"),
    (r"\bi-[0-9a-f]{8,17}\b", "INSTANCE"),
    (r"\b(A[KS]IA)[A-Z0-9]{12,}", r"\1KEY"),
    (r"\b(r|t|l|ap)-[0-9a-z-]*[0-9a-f]{6,}\b", r"\1-ID"),
    (r"\b[0-9a-f]{8}-[0-9a-f-]{27}\b", "UUID"),
    (r"\b[0-9a-f]{12,}…?", "HEX"),
    (r"\b[0-9]+(?= records)|(?<=number )[0-9]+|(?<=records) +[0-9]+", "COUNT"),
    (r"\b[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+\b", "ADDRESS"),
    (r"#[0-9]+: was", "#COUNT: was"),
    (r" +", " "),
)


def without_what_varies(text: str) -> str:
    """The page as it is each time."""
    for pattern, stands_for in VARYING:
        text = re.sub(pattern, stands_for, text)
    return text


@dataclass
class Stage:
    """Hosts, people, and what each real value is called on the page."""

    folder: Path
    site: Site
    machine: Machine
    endpoint: str
    stack: ExitStack
    called: dict[str, str] = field(default_factory=dict)  # real → page
    environments: dict[str, dict[str, str]] = field(default_factory=dict)

    def run(self, host: str, line: str) -> str:
        """Type a line there; what it printed, in the page's words."""
        folder = self._home(host)
        real = line
        for actual, page in self.called.items():
            real = real.replace(page, actual)
        if line.endswith(" &"):
            log = (self.folder / "gateway.log").open("wb")
            process = subprocess.Popen(
                ["bash", "-c", f"exec {real[:-2]}"],
                cwd=folder,
                env=self.environments[host],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )
            self.stack.callback(log.close)
            self.stack.callback(process.wait, 60)
            self.stack.callback(process.terminate)
            self.site.wait_ready()
            return ""
        done = subprocess.run(
            ["bash", "-c", real],
            cwd=folder,
            env=self.environments[host],
            text=True,
            timeout=120,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        said = done.stdout
        if " init " in line:
            (fingerprint,) = re.findall(r"CA fingerprint ([0-9a-f]{64})", said)
            self.called[fingerprint] = FINGERPRINT
        if "ticket create --profile web" in line:
            self._boot(said.splitlines()[-1])
        if "Traceback" in said:
            raise RuntimeError(f"{line}\n{said}")
        for actual, page in self.called.items():
            said = said.replace(actual, page)
        return said

    def _home(self, host: str) -> Path:
        return self.machine.folder if host.startswith("web") else self.folder

    def _boot(self, line: str) -> None:
        self.machine.boot(f"#!/bin/sh\n{line}\n")
        self.machine.start_agent()
        self.machine.wait_ready()
        aws = {"AWS_ENDPOINT_URL": self.endpoint, "AWS_REGION": REGION}
        self.environments["web-1#"] = self.machine.environment() | aws


@contextmanager
def stage(folder: Path, remember: Callable[[Secret], None] = lambda _: None) -> Iterator[Stage]:
    """A local AWS, a provider, a gateway that is not initialised, and a machine that is off."""
    authority = DocumentAuthority(REGION)
    with ExitStack() as stack:
        cloud = stack.enter_context(Cloud(folder / "cloud"))
        seeded = cloud.seed()
        provider = stack.enter_context(openid(folder / "openid"))
        provider.device.token = provider.token(preferred_username="carol", sub="carol", groups=["watchers"])
        top = {"oidc.issuer": provider.issuer, "oidc.client_id": AUDIENCE, "oidc.ca": str(provider.ca),
               "oidc.roles.watchers": "monitor"}  # fmt: skip
        home = folder / "home"
        certificates = {REGION: authority.certificate_pem()}
        site = Site(home, cloud.endpoint, certificates, region=REGION, top=top, workers=1)
        machine = stack.enter_context(Machine(folder / "web-1", cloud, authority))
        revokers, secret_of_revoker = revoker.make(cloud.root("iam"), seeded.account)
        secrets = {"passphrase": site.passphrase, "main.secret": seeded.secret, "revoker.secret": secret_of_revoker}
        for name, secret in secrets.items():
            remember(secret)
            (home / name).touch(mode=0o600)
            with secret as plain:
                (home / name).write_bytes(plain)
        (home / "web.toml").write_text(blocks(PAGE.read_text(), "toml")[0])
        (home / "fleet.toml").write_text(
            blocks(PAGE.read_text(), "toml")[0]
            .replace('"web"', '"fleet"', 1)
            .replace(
                "[[grants]]", f'[launch]\nimage = "{IMAGE}"\nregion = "{REGION}"\ntype = "t3.micro"\n\n[[grants]]', 1
            )
        )
        made = Stage(home, site, machine, cloud.endpoint, stack)
        made.called = {
            site.admin: "gateway.example.internal:8444",
            site.instance: "gateway.example.internal:8443",
            f"{home}/store": "/var/lib/trusted-gateway",
            machine.instance.instance_id: "i-18711e66f3a326768",
            seeded.access_key_id: "AKIAMAIN000000000000",
            revokers: "AKIAREVOKER000000000",
            provider.issuer: "https://login.example.com",
        }
        for who in ("gateway$", "alice$", "bob$", "carol$"):
            directory = "alice" if who == "gateway$" else who[:-1]
            made.environments[who] = {
                **site.environment(),
                "TRUSTED_GATEWAY_SETTINGS": str(site.settings),
                "TRUSTED_GATEWAY_OPERATOR_DIR": directory,
                "SSL_CERT_FILE": str(provider.ca),
            }
        yield made


def executed(text: str, made: Stage) -> str:
    """The page, with what its commands say now."""

    def block(match: re.Match[str]) -> str:
        out = []
        for line in match[1].splitlines():
            if prompt := PROMPT.fullmatch(line):
                out.append(line + "\n" + made.run(prompt[1], prompt[2]))
        return "```console\n" + "".join(each if each.endswith("\n") else each + "\n" for each in out) + "```\n"

    parts = re.split(r"(?m)^(?=## )", text)
    for number, part in enumerate(parts):
        if part.startswith("## 7."):
            made.run("alice$", "trusted-gateway profile apply fleet.toml")
        parts[number] = re.sub(r"(?ms)^```console\n(.*?)^```\n", block, part)
    return "".join(parts)


if __name__ == "__main__":
    os.umask(0o022)
    with tempfile.TemporaryDirectory() as place, stage(Path(place)) as ready:
        PAGE.write_text(executed(PAGE.read_text(), ready))
