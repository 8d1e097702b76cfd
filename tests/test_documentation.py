"""The documents say what the program does: what can be compared is compared, and the README's session is executed."""

import ast
import json
import re
import subprocess
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from agent import settings as agent_settings
from agent.launch import Status
from deploy.demo import REPOSITORY
from deploy.demo.cloud import REGION, Cloud
from deploy.demo.ec2_document import DocumentAuthority
from deploy.demo.machine import Machine
from deploy.demo.site import Site
from gateway import settings
from gateway.cli import profile_yaml
from gateway.core import profile, profile_document
from gateway.core.audit import Event, Kind, Name, append
from gateway.core.metrics import METRICS, PREFIX
from gateway.wire import messages
from gateway.wire.messages import UserData, user_data_line
from gateway.wire.problems import PROBLEMS
from gateway.wire.sigv4_authorization import REASONS
from tests.conftest import Known
from tests.documents import CODE, DOCS, blocks, constants, differences, named, shown_by, table, words, written
from tests.end_to_end.bad_input import ROUTES

PLACES = (".", "agent", "certs", "deploy", "docs", "gateway")
PAGES = sorted(page for place in PLACES for page in (REPOSITORY / place).glob("*.md"))

# The comparisons: a page's text in, faults out


def generated(page: str) -> Callable[[str], list[str]]:
    # Word by word: other versions of Python break the lines of a help elsewhere.
    return lambda text: (
        [] if text.split() == written(page, text).split() else [f"{page}: python -m tests.documents writes it anew"]
    )


def the_settings(text: str) -> list[str]:
    rows = {CODE.findall(row[0])[0]: row for row in table(text, "setting")}
    real = {".".join(path): name for name, path in settings.variables().items()}
    faults = differences("setting", list(rows), set(real))
    faults += [f"{key}: variable" for key in rows.keys() & real.keys() if rows[key][1] != f"`{real[key]}`"]
    document: dict[str, Any] = {"names": ["a.example"]}
    for key, row in rows.items():
        *outer, last = key.split(".")
        if row[2] not in ("required", "none"):
            place = document.setdefault(outer[0], {}) if outer else document
            place[last] = int(row[2].strip("`")) if row[2].strip("`").isdecimal() else row[2].strip("`")
    if not faults and settings.read(document, {}) != settings.read({"names": ["a.example"]}, {}):
        faults.append("a default differs")
    variables = set(re.findall(r"TRUSTED_GATEWAY_[A-Z_]*[A-Z]", text)) - set(real.values())
    return faults + differences("variable", sorted(variables), set(settings.NOT_SETTINGS))


def the_agent(text: str) -> list[str]:
    rows = {CODE.findall(row[0])[0]: row for row in table(text, "setting")}
    faults = differences("setting", list(rows), set(agent_settings.KEYS))
    faults += [f"{key}: variable" for key in rows if rows[key][1] != f"`{agent_settings.PREFIX}{key.upper()}`"]
    defaults = {key: row[2].strip("`") for key, row in rows.items()}
    if not faults and agent_settings.parse(defaults) != agent_settings.parse({}):
        faults.append("a default differs")
    return faults + differences("status field", named(text, "field"), {f.name for f in fields(Status)})


def the_profile(text: str) -> list[str]:
    real = {f.name for f in fields(profile_document.ProfileDocument)} - {"attestation"}
    for prefix, document in (
        ("attestation", profile_document.AttestationDocument),
        ("launch", profile_document.LaunchDocument),
        ("grants", profile_document.GrantDocument),
        ("grants.conditions", profile_document.ConditionsDocument),
        ("grants.conditions.hours", profile_document.HoursDocument),
        ("grants.deliver", profile_document.DeliverDocument),
        ("grants.limits", profile_document.LimitsDocument),
    ):
        real |= {f"{prefix}.{f.name}" for f in fields(document)}
    return differences("field", named(text, "field"), real)


def the_routes(text: str) -> list[str]:
    documented, listener = [], ""
    for line in text.splitlines():
        if match := re.fullmatch(r"## ([A-Z][a-z]+) listener", line):
            listener = match[1].lower()
        elif match := re.fullmatch(r"### `([A-Z]+(?:, [A-Z]+)*) (\S+)`", line):
            documented += [f"{listener} {method} {match[2]}" for method in match[1].split(", ")]
    real = {f"{each.listener} {each.method} {each.rule.replace('<path:named>', '<id>')}" for each in ROUTES}
    faults = differences("route", documented, real)
    said = {part for word in words(text) for part in word.split(".")}
    return faults + [f"{each}: is not documented" for each in sorted((_wire_fields() | set(PROBLEMS)) - said)]


def _wire_fields() -> set[str]:
    classes = (getattr(messages, name) for name in messages.__all__)
    spoken = [each for each in classes if isinstance(each, type) and each is not UserData]
    return {f.name for each in spoken for f in fields(each)}


def the_problems(text: str) -> list[str]:
    faults = generated("problems.md")(text)
    ours, agents = text.split("## What `trusted-gateway` says")[1].split("## What `trusted-gateway-agent` says")
    real = constants("gateway/cli", "Failure", 1) | constants("gateway/cli", "_fail", 1)
    faults += differences("code of trusted-gateway", named(ours, "code"), real - set(PROBLEMS))
    real = constants("agent", "Fault", 0) | constants("agent", "Unavailable", 0) | {"unexpected_answer"}
    return faults + differences("code of the agent", named(agents, "code"), real - set(PROBLEMS))


def the_audit(text: str) -> list[str]:
    faults = differences("event", named(text, "name"), {name.value for name in Name})
    faults += differences("kind", named(text, "kind"), {kind.value for kind in Kind})
    event = Event(Kind.FACT, Name.GATEWAY_WORKER_START, True, "ok", "an id")
    record = append(None, "a chain", event, datetime(2026, 11, 23, tzinfo=UTC))
    faults += differences("field", named(text, "field"), set(json.loads(record.line)))
    reasons = set(words(text.partition("## Reasons")[2]))
    return faults + [f"reason {each}: is not documented" for each in sorted(_reasons() - reasons - set(PROBLEMS))]


def _reasons() -> set[str]:
    admission = ast.parse((REPOSITORY / "gateway" / "core" / "attest" / "admission.py").read_text())
    pairs = [node.elts for node in ast.walk(admission) if isinstance(node, ast.Tuple) and len(node.elts) == 2]
    found = {str(first.value) for first, _ in pairs if isinstance(first, ast.Constant)}
    found |= {f"csr_{each}" for each in constants("certs", "CsrRefused", 0)}
    found |= constants("gateway/core/actions", "ambiguous", 0) | constants("gateway/core/actions", "malformed", 0)
    found |= set(REASONS)
    return found | constants("gateway", "Refusal", "reason") | constants("gateway/core/attest", "_refused", 0)


def the_metrics(text: str) -> list[str]:
    rows = {CODE.findall(row[0])[0]: row for row in table(text, "metric")}
    faults = differences("metric", list(rows), {f"{PREFIX}{name}" for name in METRICS})
    for name, metric in METRICS.items():
        row = rows.get(f"{PREFIX}{name}")
        if row and (row[1] != metric.kind or CODE.findall(row[2]) != list(metric.labels)):
            faults.append(f"metric {name}: its kind or its labels are others")
    return faults


def the_threats(text: str) -> list[str]:
    faults = differences("threat", [row[0] for row in table(text, "id")], set(shown_by()))
    return faults or generated("threats.md")(text)


CHECKS: Mapping[str, Callable[[str], list[str]]] = {
    "cli.md": generated("cli.md"),
    "settings.md": the_settings,
    "agent.md": the_agent,
    "profiles.md": the_profile,
    "api.md": the_routes,
    "problems.md": the_problems,
    "audit.md": the_audit,
    "operations.md": the_metrics,
    "threats.md": the_threats,
}


@pytest.mark.parametrize("page", CHECKS)
def test_what_is_documented_is_what_is_there(page: str) -> None:
    assert CHECKS[page]((DOCS / page).read_text()) == []


@pytest.mark.parametrize(
    ("page", "line"),
    [
        ("cli.md", "## trusted-gateway serve"),
        ("cli.md", "  --passphrase-fd"),
        ("settings.md", "| `workers`"),
        ("agent.md", "| `listen`"),
        ("agent.md", "| `healthy`"),
        ("profiles.md", "| `grants.policy`"),
        ("api.md", "### `GET /v1/watch`"),
        ("api.md", "### `GET /readyz`"),
        ("api.md", "| `evidence.pkcs7`"),
        ("problems.md", "| `ticket_used`"),
        ("problems.md", "| `seal_closed`"),
        ("problems.md", "| `pin_mismatch`"),
        ("audit.md", "| `instance:nonce:ask`"),
        ("audit.md", "| `intent`"),
        ("audit.md", "| `source`"),
        ("audit.md", "| `document_of_other_launch`"),
        ("operations.md", "| `trusted_gateway_request_seconds`"),
        ("threats.md", "| A14 |"),
    ],
)
def test_a_page_that_lacks_a_line_is_noticed(page: str, line: str) -> None:
    """The control."""
    lines = (DOCS / page).read_text().splitlines()
    (found, *_) = [i for i, each in enumerate(lines) if each.startswith(line)]
    assert CHECKS[page]("\n".join(lines[:found] + lines[found + 1 :])) != []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(REPOSITORY).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        path, _, anchor = target.partition("#")
        if not path.startswith("https://"):
            found = (page.parent / path).resolve() if path else page
            assert found.exists(), target
            assert not anchor or anchor in _anchors(found), target


def _anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(REPOSITORY).as_posix())
def test_examples_are_valid(page: Path) -> None:
    text = page.read_text()
    for block in blocks(text, "json"):
        assert json.loads(block)
    for block in blocks(text, "toml"):
        document = tomllib.loads(block)
        if "grants" in document:
            assert profile.read(document, source_address=True).grants
        elif "names" in document:
            assert settings.read(document, {})
        else:
            assert agent_settings.parse(document)
    for block in blocks(text, "yaml"):
        if "\ngrants:" in block:
            document, _ = profile_yaml.read(block)
            assert profile.read(document, source_address=True).grants
    for line in re.findall(r"^#trusted-gateway .*$", text, re.MULTILINE):
        assert messages.read_user_data(line.encode())


# The session at the top of the README

# Runs what comes in on standard input: a file for the output, and a command line, as typed; answers with its status.
SHELL = """
trap 'kill $(jobs -p) 2>/dev/null; wait' EXIT
while IFS= read -r output && IFS= read -r line; do
    eval "$line" </dev/null >"$output" 2>&1
    echo "$?"
done
"""


class Shell:
    """A shell on one of the two hosts. What it runs in the background ends with it."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        command = ["/bin/bash", "--noprofile", "--norc", "-c", SHELL]
        self._folder, self._count = folder, 0
        self._process = subprocess.Popen(
            command, cwd=folder, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def type(self, line: str) -> tuple[int, str]:
        """Run a line; its status and what it printed."""
        self._count += 1
        output = self._folder / f"output-{self._count}"
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{output}\n{line}\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline()), output.read_text()

    def close(self) -> None:
        """Log out."""
        self._process.communicate(timeout=60)


def session(text: str) -> Iterator[tuple[str, str]]:
    """Host and command line, as they stand in the README's first block."""
    for line in blocks(text, "console")[0].splitlines():
        host, _, command = line.partition("$ ")
        yield host, command


def test_the_session_of_the_readme(tmp_path: Path, known: Known) -> None:
    readme = (REPOSITORY / "README.md").read_text()
    lines = list(session(readme))
    assert len(lines) == 10
    authority = DocumentAuthority(REGION)
    said: dict[str, str] = {}
    with ExitStack() as stack:
        cloud = stack.enter_context(Cloud(tmp_path / "cloud"))
        seeded = cloud.seed()
        machine = stack.enter_context(Machine(tmp_path / "machine", cloud, authority))
        site = Site(tmp_path / "gateway", cloud.endpoint, {REGION: authority.certificate_pem()}, region=REGION)
        for name, secret in (("passphrase", site.passphrase), ("secret", seeded.secret)):
            known.add(secret)
            (site.folder / name).touch(mode=0o600)
            with secret as plain:
                (site.folder / name).write_bytes(plain)
        (site.folder / "web.toml").write_text(blocks(readme, "toml")[0])
        shells = {"gateway": Shell(site.folder, {
            **site.environment(),
            "TRUSTED_GATEWAY_SETTINGS": str(site.settings),
            "TRUSTED_GATEWAY_OPERATOR_DIR": str(site.operator),
            "KEY_ID": seeded.access_key_id,
            "INSTANCE": machine.instance.instance_id,
        })}  # fmt: skip
        stack.callback(shells["gateway"].close)
        for host, line in lines:
            if host not in shells:
                machine.boot(_user_data(site, said))
                shells[host] = Shell(machine.folder, {
                    **machine.environment(), "AWS_ENDPOINT_URL": cloud.endpoint, "AWS_REGION": REGION,
                })  # fmt: skip
                stack.callback(shells[host].close)
            status, said[line] = shells[host].type(line)
            refused = "AccessDenied" in line
            assert (status != 0) is refused, f"{line}\n{said[line]}"
            assert not refused or "AccessDenied" in said[line]
            if line.endswith(" &"):
                site.wait_ready() if host == "gateway" else machine.wait_ready()
        listed, receipt, verdict = (said[lines[i][1]] for i in (6, 8, 9))
    printed = "".join(path.read_text() for path in tmp_path.glob("*/output-*"))
    assert "Listening at" in printed
    assert not known.leaked(printed)
    assert "2026-10.csv" in listed
    assert "STILL HONOURS 1 session(s)" in receipt
    assert re.search(r"verified [0-9]{2} records", verdict)


def _user_data(site: Site, said: Mapping[str, str]) -> str:
    """What a person pastes together: the address, the fingerprint that `init` printed, the ticket."""
    printed = "\n".join(said.values())
    fingerprint, ticket = re.findall(r"CA fingerprint (\S+)", printed)[0], re.findall(r"ticket  (\S+)", printed)[0]
    return "#cloud-config\n" + user_data_line(UserData(site.instance, fingerprint, ticket))
